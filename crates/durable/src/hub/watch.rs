//! Who waits for what, and the thread that looks at the clock and at other processes.
//!
//! A wake-up is a hint and the row is the truth, so everything here may err towards waking
//! too often: waiters are found by a 64-bit hash of what they wait for, which costs a
//! hundred thousand of them a few megabytes and no copies of ids.
//!
//! The thread sleeps without polling while nobody waits. While somebody does it asks every
//! [`POLL`] whether another process has committed; that is one number from shared memory,
//! whatever the number of waiters.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::future::{Slot, block_on};
use super::writer::{Committed, Receipt};
use super::{Backend, WriteError};
use crate::ids::{ExecutionId, NEVER, PromiseId, UnixMs};
use crate::store::{Lease, Reader, Refusal, StoreError, Write, Written};

/// How often the thread looks at the clock and at other processes while somebody waits.
pub const POLL: Duration = Duration::from_millis(20);
/// For how long it goes on after the last waiter has gone: one that comes soon finds it awake.
const LINGER: Duration = Duration::from_secs(1);
/// Pause after a failure of the store.
const RETRY: Duration = Duration::from_secs(1);
/// Beyond so many changes it is cheaper to wake everybody than to read who is meant.
const MANY: u64 = 10_000;

/// Resolves when what it waits for may have happened; see the makers
/// [`Hub::settled`](super::Hub::settled) and [`Hub::fenced`](super::Hub::fenced).
/// Dropping it unregisters it.
#[derive(Debug)]
#[must_use = "a waiter does nothing unless it is waited for"]
pub struct Waiter {
    watch: Arc<Watch>,
    key: Key,
    deadline: UnixMs,
    slot: Bell,
    done: bool,
}

impl Waiter {
    /// Blocks this thread until the waiter resolves. Works on every thread.
    pub fn wait(self) {
        block_on(self);
    }
}

impl Future for Waiter {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.done && self.slot.poll(context).is_pending() {
            return Poll::Pending;
        }
        self.done = true;
        Poll::Ready(())
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if !self.done {
            self.watch.lock().remove(self.key, self.deadline);
        }
    }
}

/// The hash of what somebody waits for, and a number of their own.
type Key = (u64, u64);
/// What wakes one waiter.
type Bell = Arc<Slot<()>>;

/// The register of waiters.
#[derive(Debug, Default)]
pub(super) struct Watch {
    hash: RandomState,
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<Key, (UnixMs, Bell)>,
    /// By deadline and that number, to the hash.
    deadlines: BTreeMap<(UnixMs, u64), u64>,
    last: u64,
    started: bool,
    stopped: bool,
    /// Whether the thread sleeps without polling.
    asleep: bool,
    /// Whether the thread shall look at the store now.
    nudged: bool,
}

impl State {
    fn remove(&mut self, key: Key, deadline: UnixMs) -> Option<Bell> {
        self.deadlines.remove(&(deadline, key.1));
        self.waiting.remove(&key).map(|(_, slot)| slot)
    }

    fn take(&mut self, hash: u64, woken: &mut Vec<Bell>) {
        let keys: Vec<_> = self.waiting.range((hash, 0)..=(hash, u64::MAX)).map(|(key, (at, _))| (*key, *at)).collect();
        woken.extend(keys.into_iter().filter_map(|(key, at)| self.remove(key, at)));
    }

    fn take_all(&mut self) -> Vec<Bell> {
        self.deadlines.clear();
        std::mem::take(&mut self.waiting).into_values().map(|(_, slot)| slot).collect()
    }

    fn take_due(&mut self, now: UnixMs) -> Vec<Bell> {
        let later = self.deadlines.split_off(&(now.saturating_add(1), 0));
        let due = std::mem::replace(&mut self.deadlines, later);
        due.into_iter().filter_map(|((_, n), hash)| self.waiting.remove(&(hash, n))).map(|(_, slot)| slot).collect()
    }
}

fn wake(woken: Vec<Bell>) {
    woken.iter().for_each(|slot| slot.fill(()));
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hash(&self, what: &impl Hash) -> u64 {
        self.hash.hash_one(what)
    }

    /// Registers a waiter for a promise or an execution. `start` is called once, to start the
    /// thread that runs [`Watch::run`]; if it cannot be started the waiter resolves at once,
    /// and whoever waits finds out by asking the store.
    pub(super) fn register(
        self: &Arc<Self>,
        what: &impl Hash,
        deadline: UnixMs,
        start: impl FnOnce() -> Result<(), StoreError>,
    ) -> Waiter {
        let slot = Slot::new();
        let hash = self.hash(what);
        let mut state = self.lock();
        state.last += 1;
        let key = (hash, state.last);
        let waiter = Waiter { watch: self.clone(), key, deadline, slot: slot.clone(), done: false };
        if !state.started && !state.stopped {
            match start() {
                Ok(()) => state.started = true,
                Err(error) => tracing::error!(%error, "cannot watch for settlements"),
            }
        }
        if !state.started || state.stopped {
            drop(state);
            slot.fill(());
            return waiter;
        }
        state.waiting.insert(key, (deadline, slot));
        if deadline < NEVER {
            state.deadlines.insert((deadline, key.1), hash);
        }
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.bell.notify_one();
        }
        waiter
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Wakes everybody and ends the thread.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        let woken = state.take_all();
        drop(state);
        self.bell.notify_all();
        wake(woken);
    }

    fn wake_changed(&self, promises: &[PromiseId], executions: &[ExecutionId]) {
        let mut woken = Vec::new();
        let mut state = self.lock();
        for hash in promises.iter().map(|id| self.hash(id)).chain(executions.iter().map(|id| self.hash(id))) {
            state.take(hash, &mut woken);
        }
        drop(state);
        wake(woken);
    }

    /// Waits until there is something to do; false when it is over.
    fn pause(&self, idle_since: &mut Instant, now: &dyn Fn() -> UnixMs) -> bool {
        let mut state = self.lock();
        let round = Instant::now();
        loop {
            if state.stopped {
                return false;
            }
            if !state.waiting.is_empty() {
                *idle_since = Instant::now();
                let rest = POLL.saturating_sub(round.elapsed());
                // A deadline that is nearer is met on time; one that has passed is being dealt with.
                let next = state.deadlines.first_key_value().map(|((at, _), _)| at.saturating_sub(now()));
                let rest = next.filter(|ms| *ms > 0).map_or(rest, |ms| rest.min(Duration::from_millis(ms)));
                if rest.is_zero() || state.nudged {
                    state.nudged = false;
                    return true;
                }
                let (woken, timeout) = self.bell.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner);
                if timeout.timed_out() {
                    return !woken.stopped;
                }
                state = woken;
            } else if idle_since.elapsed() < LINGER {
                state = self.bell.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0;
            } else {
                state.asleep = true;
                state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
                *idle_since = Instant::now();
            }
        }
    }

    /// The life of the thread. `expire` queues [`Write::Expire`]; `now` is the wall clock, which
    /// is asked each time anew: if it is set back a deadline comes later, never earlier.
    pub(super) fn run(&self, backend: &dyn Backend, now: &dyn Fn() -> UnixMs, expire: &dyn Fn(UnixMs) -> Receipt) {
        let mut eyes = Eyes::default();
        let mut expiring: Option<Receipt> = None;
        let mut idle_since = Instant::now();
        let mut retry_at = Instant::now();
        // The first look comes at once: it fixes the cursor.
        loop {
            if Instant::now() >= retry_at {
                if let Err(error) = eyes.look(self, backend) {
                    tracing::warn!(%error, "cannot look for settlements");
                    eyes.reader = None;
                    retry_at = Instant::now() + RETRY;
                }
                // One at a time. `committed` wakes those that are due once it is durable.
                match expiring.as_ref().map(Receipt::try_take) {
                    Some(None) => {}
                    Some(Some(Err(WriteError::Store(error)))) => {
                        tracing::warn!(%error, "cannot apply timeouts");
                        retry_at = Instant::now() + RETRY;
                        expiring = None;
                    }
                    Some(Some(_)) | None => {
                        let now = now();
                        let due = self.lock().deadlines.first_key_value().is_some_and(|((at, _), _)| *at <= now);
                        expiring = due.then(|| expire(now));
                    }
                }
            }
            if !self.pause(&mut idle_since, now) {
                return;
            }
        }
    }
}

/// The thread's view of what other processes do.
#[derive(Default)]
struct Eyes {
    reader: Option<Box<dyn Reader>>,
    version: Option<u64>,
    cursor: Option<u64>,
}

impl Eyes {
    fn look(&mut self, watch: &Watch, backend: &dyn Backend) -> Result<(), StoreError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            empty => {
                self.version = None;
                empty.insert(backend.open_reader()?)
            }
        };
        // Before the rows, so that what is committed in between is read twice and not missed.
        let version = reader.version()?;
        if self.version == Some(version) {
            return Ok(());
        }
        let current = reader.cursor()?;
        match self.cursor {
            Some(cursor) if current.saturating_sub(cursor) <= MANY => {
                let changes = reader.settled_since(cursor)?;
                watch.wake_changed(&changes.promises, &changes.executions);
                self.cursor = Some(changes.cursor);
            }
            // The first look: those that registered before it may have missed something.
            _ => {
                self.cursor = Some(current);
                let woken = watch.lock().take_all();
                wake(woken);
            }
        }
        self.version = Some(version);
        Ok(())
    }
}

impl Committed for Watch {
    /// Wakes those that a batch of this process concerns without waiting for the next look.
    fn committed(&self, batch: &[Write], answers: &[Result<Written, Refusal>]) {
        let mut woken = Vec::new();
        let mut state = self.lock();
        if state.waiting.is_empty() {
            return;
        }
        for (write, answer) in batch.iter().zip(answers) {
            if answer.is_err() {
                continue;
            }
            match write {
                Write::Settle { id, .. } => state.take(self.hash(id), &mut woken),
                Write::Expire { now } => woken.extend(state.take_due(*now)),
                // Each looks for its own deadline.
                Write::Recompute { .. } => woken.extend(state.take_all()),
                Write::Cancel { execution, .. } | Write::SetAside { execution, .. } => {
                    state.take(self.hash(execution), &mut woken);
                    // Which promises it canceled is in the store.
                    state.nudged = true;
                }
                Write::Commit(commit) if matches!(commit.lease, Lease::End(_)) => {
                    state.take(self.hash(&commit.execution), &mut woken);
                }
                Write::Acquire { execution, .. } => state.take(self.hash(execution), &mut woken),
                // A grant is seen by the next call; nobody waits for it, nor for a schedule.
                Write::Commit(_)
                | Write::Shown { .. }
                | Write::Take { .. }
                | Write::Release { .. }
                | Write::Collect { .. }
                | Write::Doom { .. }
                | Write::Sweep { .. }
                | Write::Grant { .. }
                | Write::Schedule(_)
                | Write::Fire(_)
                | Write::Reschedule { .. }
                | Write::Unschedule { .. }
                | Write::Fell { .. }
                | Write::Claim { .. } => {}
            }
        }
        let nudged = state.nudged;
        drop(state);
        if nudged {
            self.bell.notify_one();
        }
        wake(woken);
    }
}
