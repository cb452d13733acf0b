//! The queue and the one thread that commits it.
//!
//! The thread takes all that is queued and commits it as one transaction; what arrives
//! meanwhile makes the next one. So a lone write waits for nothing but its own commit, and
//! the busier it gets the more writes share a sync.
//!
//! # Why the queue has no bound of its own
//!
//! A caller of [`Hub::write`](super::Hub::write) must not be blocked, for it may be the only
//! thread of a runtime, and a write that waited for room inside its receipt would be lost
//! with the receipt, and with it the order of the queue. What bounds the queue are its
//! callers: an execution queues its next commit only after the last one is durable, and a
//! request to settle or cancel waits for its answer. So there are at most as many writes as
//! there are executions and requests in flight, which are bounded where they are let in;
//! [`Hub::queued`](super::Hub::queued) is there to be looked at.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::future::{Slot, block_on};
use super::{Backend, WriteError};
use crate::store::{Store, StoreError, Write, Written};

/// Writes in one transaction at most: enough that a sync costs each of them nothing, few
/// enough that nobody waits long for a transaction that others fill.
pub const BATCH_LIMIT: usize = 1024;

/// How long the thread looks for more before it sleeps. Whoever has got an answer often has
/// the next write a moment later (suspend, then resolve), and waking a thread that sleeps
/// costs a good part of a commit. It yields to others all the while.
const ATTENTION: Duration = Duration::from_micros(50);

/// How long the first write of a batch may wait at most for those that can be expected: as many
/// as the batch before had, whose writers have just been answered. Never longer than half of
/// what that batch took. A lone write waits for nobody.
const PATIENCE: Duration = Duration::from_micros(500);
/// How often it is looked at meanwhile; nobody rings for it, for that costs more than a look.
const LOOK: Duration = Duration::from_micros(100);

/// The answer to come of one write. It may be awaited on any executor, waited for on any
/// thread ([`Receipt::wait`]), or dropped: the write happens all the same.
#[derive(Debug)]
#[must_use = "nothing is known to be durable before the receipt has resolved"]
pub struct Receipt(Arc<Slot<Answer>>);

type Answer = Result<Written, WriteError>;

impl Receipt {
    /// Blocks this thread until the write is durable or refused. Works on every thread; on a
    /// worker of an async runtime it keeps that worker for as long as a commit takes.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn wait(self) -> Answer {
        block_on(self)
    }

    /// The answer, if it is there already.
    pub(super) fn try_take(&self) -> Option<Answer> {
        self.0.take()
    }
}

impl Future for Receipt {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        self.0.poll(context)
    }
}

/// The other end of a receipt. However it goes out of the world, the receipt resolves.
struct Ticket(Option<Arc<Slot<Answer>>>);

impl Ticket {
    fn resolve(mut self, answer: Answer) {
        if let Some(slot) = self.0.take() {
            slot.fill(answer);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.fill(Err(WriteError::Store(StoreError::Closed)));
        }
    }
}

/// The queue. Its thread is started by the first write.
pub(super) struct Queue {
    state: Mutex<State>,
    bell: Condvar,
}

struct State {
    writes: VecDeque<(Write, Ticket)>,
    /// Those who want to know when everything before them has been decided: how many batches still to go is theirs to see.
    flushes: Vec<Ticket>,
    closed: bool,
    /// Whether the thread sleeps; only then is there anybody to ring for.
    asleep: bool,
    /// The store that was opened with the hub, until the thread takes it.
    store: Option<Box<dyn Store>>,
    started: bool,
}

/// What the thread tells about each batch that has become durable.
pub(super) trait Committed: Send + Sync {
    /// After the receipts have resolved.
    fn committed(&self, batch: &[Write], answers: &[Result<Written, crate::store::Refusal>]);
}

impl Queue {
    /// Without a store the thread opens one as its first act.
    pub(super) fn new(store: Option<Box<dyn Store>>) -> Self {
        let state =
            State { writes: VecDeque::new(), flushes: Vec::new(), closed: false, asleep: false, store, started: false };
        Self { state: Mutex::new(state), bell: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread before there is anything to write.
    pub(super) fn start(&self, start: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
        let mut state = self.lock();
        if !state.started && !state.closed {
            start()?;
            state.started = true;
        }
        Ok(())
    }

    /// Queues a write. `start` is called once, with the lock held, to start the thread that runs [`Queue::run`].
    pub(super) fn push(&self, write: Write, start: impl FnOnce() -> Result<(), StoreError>) -> Receipt {
        let slot = Slot::new();
        let ticket = Ticket(Some(slot.clone()));
        let mut state = self.lock();
        if state.closed {
            drop(state);
            drop(ticket);
            return Receipt(slot);
        }
        if !state.started {
            if let Err(error) = start() {
                drop(state);
                ticket.resolve(Err(error.into()));
                return Receipt(slot);
            }
            state.started = true;
        }
        state.writes.push_back((write, ticket));
        self.ring(state);
        Receipt(slot)
    }

    /// Resolves when everything that is queued now has been decided.
    pub(super) fn flush(&self) -> Receipt {
        let slot = Slot::new();
        let ticket = Ticket(Some(slot.clone()));
        let mut state = self.lock();
        if state.started && !state.closed {
            state.flushes.push(ticket);
            self.ring(state);
        } else {
            drop(state);
            ticket.resolve(Ok(Written::Committed));
        }
        Receipt(slot)
    }

    fn ring(&self, mut state: MutexGuard<'_, State>) {
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.bell.notify_one();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().writes.len()
    }

    /// Nothing more is taken; the thread ends when it has committed what is there.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        // If the thread never ran, the store is closed here.
        let store = if state.started { None } else { state.store.take() };
        drop(state);
        self.bell.notify_all();
        drop(store);
    }

    /// Waits for work, a little longer for as much as the batch before had; None when the queue
    /// is closed and empty.
    fn next(&self, before: Before) -> Option<(Vec<Write>, Vec<Ticket>, Vec<Ticket>)> {
        let since = Instant::now();
        let patience = PATIENCE.min(before.took / 2);
        let mut state = self.lock();
        loop {
            let few = (1..before.writes).contains(&state.writes.len());
            if few && state.flushes.is_empty() && !state.closed && since.elapsed() < patience {
                state = self.bell.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            if !state.writes.is_empty() || !state.flushes.is_empty() {
                let count = state.writes.len().min(BATCH_LIMIT);
                let (writes, tickets) = state.writes.drain(..count).unzip();
                let flushes = if state.writes.is_empty() { std::mem::take(&mut state.flushes) } else { Vec::new() };
                return Some((writes, tickets, flushes));
            }
            if state.closed {
                return None;
            }
            if since.elapsed() < ATTENTION {
                drop(state);
                std::thread::yield_now();
                state = self.lock();
                continue;
            }
            state.asleep = true;
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The life of the thread.
    pub(super) fn run(&self, backend: &dyn Backend, listener: &dyn Committed) {
        let mut store = self.lock().store.take();
        if store.is_none() {
            // Should this fail, the first write tries again and is told.
            let open = || -> Result<Box<dyn Store>, StoreError> {
                let mut store = backend.open_store()?;
                store.warm();
                Ok(store)
            };
            store = catch_unwind(AssertUnwindSafe(open)).ok().and_then(Result::ok);
        }
        let mut before = Before::default();
        while let Some((writes, tickets, flushes)) = self.next(before) {
            let start = Instant::now();
            // A panic in a store costs its batch (tickets that are dropped say so) and the store, not the thread.
            let work = || commit(&mut store, backend, &writes, tickets, listener);
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                tracing::error!("the store panicked; it is opened again");
                store = None;
            }
            before = Before { writes: writes.len(), took: start.elapsed() };
            for flush in flushes {
                flush.resolve(Ok(Written::Committed));
            }
        }
    }
}

/// What is known of the batch before.
#[derive(Clone, Copy, Default)]
struct Before {
    writes: usize,
    took: Duration,
}

fn commit(
    store: &mut Option<Box<dyn Store>>,
    backend: &dyn Backend,
    writes: &[Write],
    tickets: Vec<Ticket>,
    listener: &dyn Committed,
) {
    match attempt(store, backend, writes) {
        Ok(answers) => {
            // Copies of the answers are for the listener, which runs last: nobody waits for it.
            for (ticket, answer) in tickets.into_iter().zip(&answers) {
                ticket.resolve(answer.clone().map_err(WriteError::Refused));
            }
            listener.committed(writes, &answers);
        }
        // Damage somewhere in the file must not keep executions whose rows are whole from going on.
        Err(StoreError::Damaged(_)) if writes.len() > 1 => {
            for (write, ticket) in writes.iter().zip(tickets) {
                commit(store, backend, std::slice::from_ref(write), vec![ticket], listener);
            }
        }
        Err(error) => tickets.into_iter().for_each(|ticket| ticket.resolve(Err(error.clone().into()))),
    }
}

fn attempt(
    store: &mut Option<Box<dyn Store>>,
    backend: &dyn Backend,
    writes: &[Write],
) -> Result<Vec<Result<Written, crate::store::Refusal>>, StoreError> {
    let store = match store {
        Some(store) => store,
        None => store.insert(backend.open_store()?),
    };
    store.write(writes)
}
