//! The way of an execution from its start, or from where it stands, to its end or its next wait.

use std::sync::Arc;
use std::time::Duration;

use parole_capabilities::call::{self, Creation, ExecutionConfig, Gathered, Parking, Rescope};
use parole_capabilities::sink::Quiet;
use parole_capabilities::{Execution, Meter, OpenedPolicy, Sink, Stop, StoreData, Validator};
use parole_durable::hub::{Acquired, Running, now};
use parole_durable::journal::{JournalLimits, OUTPUT};
use parole_durable::store::{ExecutionRecord, Lease, NewExecution, PromiseFilter, Refusal, Usage};
use parole_durable::{Commit, Digest, ExecutionId, Fence, Journal, PromiseId, PromiseState, Secret, Write, WriteError};
use parole_policy::{Limits, SecurityPolicy};

use crate::attempt::{self, Ended, Machine};
use crate::error::Error;
use crate::guest::{Guest, is_identity};
use crate::invoke;
use crate::limiter::Limiter;
use crate::prepared::Prepared;
use crate::promises::pending_of;
use crate::report::{Denied, Ending, Outcome, Pending, Report};
use crate::runtime::{ResumeOptions, RunOptions, Runtime, Wait};
use crate::setup::{DETERMINISM, Setup};

/// What this process has of an execution that it runs. While that is parked it is all that there is.
struct Drive {
    runtime: Runtime,
    id: ExecutionId,
    fence: Fence,
    /// That this process runs it: whatever becomes of the attempts, it is free once this is gone. Not of a replay.
    _running: Option<Running>,
    wait: Wait,
}

/// What an attempt needs: what the execution has pinned, found, checked and opened.
struct Opened {
    secret: Secret,
    component: Digest,
    /// How many calls the journal had then.
    calls: Option<u64>,
    prepared: Arc<Prepared>,
    scope: Arc<OpenedPolicy>,
    generation: u64,
    rescope: Arc<Rescope>,
    invoke: Option<String>,
}

/// What comes before the first attempt: all is ready, or it has come to an end already.
enum Begun {
    Ready(Drive, Opened, Option<Box<Creation>>, Usage),
    Ended(Report),
}

impl Begun {
    async fn run(self) -> Result<Report, Error> {
        match self {
            Begun::Ready(drive, opened, creation, used) => drive.run(opened, creation, used).await,
            Begun::Ended(report) => Ok(report),
        }
    }
}

/// Starts an execution.
pub(crate) fn start(
    runtime: Runtime,
    guest: Guest,
    policy: SecurityPolicy,
    options: RunOptions,
) -> impl Future<Output = Result<Report, Error>> + Send {
    // Boxed: what this needs is not kept while the guest waits.
    let begun = Box::pin(begin(runtime, guest, policy, options));
    async move { begun.await?.run().await }
}

async fn begin(runtime: Runtime, guest: Guest, policy: SecurityPolicy, options: RunOptions) -> Result<Begun, Error> {
    let id = options.id.unwrap_or_else(ExecutionId::generate);
    let running = runtime.hub().run(id).ok_or(WriteError::Refused(Refusal::Exists(id)))?;
    let scope = runtime.scope(policy, runtime.0.validators.clone())?;
    let prepared = match runtime.prepare(&guest, &scope.policy, id).await {
        Ok(prepared) => prepared.map_err(denied),
        Err(error @ Error::Limit { name, .. }) => Err(Ending::limit(name, error.to_string())),
        Err(error) => return Err(error),
    };
    let setup = Setup {
        determinism: DETERMINISM,
        guest: guest.name.clone(),
        path: guest.path.clone(),
        invoke: options.invoke.clone(),
        validators: runtime.0.validators.iter().map(pin_of).collect(),
        policy: &*scope.policy,
    }
    .to_bytes()?;
    let secret = Secret::generate().map_err(|error| Error::Internal(format!("no random bytes: {error}")))?;
    let creation = Creation {
        new: NewExecution {
            component: guest.digest,
            setup: Digest::of(&setup),
            secret: secret.clone(),
            owner: runtime.hub().owner()?,
            created_at: now(),
        },
        setup: setup.into(),
        component: guest.bytes,
    };
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(ending) => return Ok(Begun::Ended(refuse(&runtime, id, creation, ending).await?)),
    };
    let rescope = runtime.rescope(id, Arc::clone(&scope.policy));
    let opened = Opened {
        secret,
        component: guest.digest,
        calls: None,
        prepared,
        scope: Arc::new(scope),
        generation: 0,
        rescope,
        invoke: options.invoke,
    };
    let drive = Drive { runtime, id, fence: Fence(1), _running: Some(running), wait: options.wait };
    Ok(Begun::Ready(drive, opened, Some(Box::new(creation)), Usage::default()))
}

/// Records an execution that the policy refused before its start.
fn denied(denied: Vec<Denied>) -> Ending {
    let names: Vec<&str> = denied.iter().filter_map(|denied| denied.import.as_deref()).collect();
    let error = format!("the policy does not grant {}", names.join(", "));
    Ending { denied, ..Ending::error(Outcome::Denied, error) }
}

/// Records an execution that has ended before it began.
async fn refuse(runtime: &Runtime, id: ExecutionId, creation: Creation, ending: Ending) -> Result<Report, Error> {
    let text = serde_json::to_string(&ending).map_err(|error| Error::Internal(error.to_string()))?;
    let commit = Commit {
        execution: id,
        fence: Fence(1),
        payloads: vec![(creation.new.setup, creation.setup)],
        create: Some(Box::new(creation.new)),
        steps: Vec::new(),
        promises: Vec::new(),
        usage: Usage::default(),
        lease: Lease::End(text),
        admits: None,
        now: now(),
    };
    runtime.hub().write(Write::Commit(Box::new(commit))).await?;
    Ok(report(id, ending, Gathered::default()))
}

/// Goes on with an execution.
pub(crate) async fn resume(runtime: Runtime, id: ExecutionId, options: ResumeOptions) -> Result<Report, Error> {
    Box::pin(reopen(runtime, id, options)).await?.run().await
}

async fn reopen(runtime: Runtime, id: ExecutionId, options: ResumeOptions) -> Result<Begun, Error> {
    let Some(record) = runtime.hub().execution(id)? else { return Err(Error::NoExecution(id)) };
    if record.outcome.is_some() {
        show_rest(&runtime, &record).await?;
        return Ok(Begun::Ended(runtime.show_async(id).await?));
    }
    let opened = {
        // Of however many are resumed at once only so many are compiled. It is never closed.
        let _turn = runtime.0.opening.acquire().await;
        Opened::open(&runtime, &record, Purpose::Resume { pinned: options.pinned }).await?
    };
    let Acquired { fence, running } = match runtime.hub().acquire_async(id).await {
        Ok(acquired) => acquired,
        Err(WriteError::Refused(Refusal::Ended(_))) => return Ok(Begun::Ended(runtime.show_async(id).await?)),
        Err(WriteError::Refused(Refusal::Held(_))) => {
            return Err(Error::NotResumed(format!("{id} is run by another process at this moment")));
        }
        Err(error) => return Err(error.into()),
    };
    // As it stands under our fence: who held it before may have come further since we looked.
    let record = runtime.hub().execution(id)?.ok_or(Error::NoExecution(id))?;
    let opened = Opened { calls: record.calls, ..opened };
    let drive = Drive { runtime, id, fence, _running: Some(running), wait: options.wait };
    Ok(Begun::Ready(drive, opened, None, record.usage))
}

/// Shows the output that became durable with the end of an execution: a crash may have come between the two. Of many
/// that come upon it one does, and none while the process that ended it lives and does so itself.
async fn show_rest(runtime: &Runtime, record: &ExecutionRecord) -> Result<(), Error> {
    let mut left = false;
    runtime.each_step(record.id, record.usage.shown, |step| left |= step.function == OUTPUT)?;
    if !left {
        return Ok(());
    }
    let Some(_showing) = runtime.hub().claim(record.id).await? else { return Ok(()) };
    // What whoever had it before has shown is noted by now.
    let record = runtime.hub().execution(record.id)?.ok_or(Error::NoExecution(record.id))?;
    let mut upto = record.usage.shown;
    let mut all = true;
    runtime.each_step(record.id, upto, |step| {
        if all && step.function == OUTPUT {
            all = call::show(&*runtime.0.sink, record.id, &step.arguments).is_ok();
            upto = if all { step.number + step.calls } else { upto };
        }
    })?;
    if upto != record.usage.shown {
        runtime.hub().write(Write::Shown { execution: record.id, upto }).await?;
    }
    if !all {
        runtime.hub().unclaim(record.id);
    }
    Ok(())
}

impl Runtime {
    /// Runs a guest under a policy, until it ends, or waits for what it does not wait for by itself.
    ///
    /// A guest that is refused at link is an outcome, not an error. Dropping the future does not
    /// stop the execution: [`Runtime::cancel`] does.
    ///
    /// # Errors
    /// [`Error::NotAGuest`], [`Error::Usage`] for a policy or call that does not fit, [`Error::Store`].
    pub fn run(
        &self,
        guest: Guest,
        policy: SecurityPolicy,
        options: RunOptions,
    ) -> impl Future<Output = Result<Report, Error>> + Send {
        self.on_workers(Box::pin(start(self.inside(), guest, policy, options)))
    }

    /// Goes on with a suspended execution. One that has ended repeats its outcome.
    ///
    /// # Errors
    /// [`Error::NotResumed`] with the reason, [`Error::NoExecution`], [`Error::Store`].
    pub async fn resume(&self, id: ExecutionId, options: ResumeOptions) -> Result<Report, Error> {
        let this = self.inside();
        self.on_workers(Box::pin(resume(this, id, options))).await.map_err(Error::of_resume)
    }

    /// Runs an execution again from its journal, without effects and without changing anything, and
    /// says how far that went.
    ///
    /// # Errors
    /// [`Error::NotResumed`] for a mismatch, with the step; else as [`Runtime::resume`].
    pub async fn replay(&self, id: ExecutionId) -> Result<Replayed, Error> {
        let this = self.inside();
        self.on_workers(Box::pin(replay(this, id))).await.map_err(Error::of_resume)
    }
}

/// How a guest is run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// With effects, after what is recorded.
    Live,
    /// From its journal alone. `ended`: it had come to an end of its own.
    Replay { ended: bool },
}

/// What a replay without effects came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// How many host calls were answered from the journal.
    pub calls: u64,
    /// How it ended, where the journal reaches that far; it is what was recorded.
    pub outcome: Option<Outcome>,
    /// The output of the replay.
    pub output: String,
}

/// Runs an execution from its journal alone.
pub(crate) async fn replay(runtime: Runtime, id: ExecutionId) -> Result<Replayed, Error> {
    let Some(record) = runtime.hub().execution(id)? else { return Err(Error::NoExecution(id)) };
    let opened = Opened::open(&runtime, &record, Purpose::Replay).await?;
    let recorded = record.outcome.as_deref().map(serde_json::from_str::<Ending>).transpose();
    let recorded = recorded.map_err(|error| Error::NotResumed(format!("damaged: the outcome of {id}: {error}")))?;
    if let Some(ending) = &recorded
        && ending.denied.iter().any(|denied| denied.at == crate::report::At::Link)
    {
        return Err(Error::NotResumed(format!("{id} was refused before its start: there is nothing to replay")));
    }
    let drive = Drive { runtime, id, fence: record.fence, _running: None, wait: Wait::Detach };
    let ended = recorded
        .as_ref()
        .is_some_and(|ending| matches!(ending.outcome, Outcome::Completed | Outcome::Failed | Outcome::Trapped));
    let (ended, calls, gathered) = drive.attempt(&opened, None, Usage::default(), Mode::Replay { ended }).await?;
    let outcome = match ended {
        Ended::Over(ending) => Some(ending.outcome),
        Ended::Head(_) | Ended::Parked(_) => None,
        Ended::Broken(error) => return Err(error),
    };
    if let (Some(recorded), Some(outcome)) = (&recorded, outcome)
        && recorded.outcome != outcome
    {
        return Err(Error::NotResumed(format!(
            "the replay ends {}, the execution had ended {}",
            outcome.as_str(),
            recorded.outcome.as_str()
        )));
    }
    Ok(Replayed { calls, outcome, output: gathered.output })
}

/// What a stored execution is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To go on, with the stored component though its path holds another one if it is `pinned`.
    Resume { pinned: bool },
    /// To go on after it was parked here: with the component that it had.
    Wake,
    /// To be answered from the journal alone: nothing outside of the store is looked at.
    Replay,
}

impl Opened {
    async fn open(runtime: &Runtime, record: &ExecutionRecord, purpose: Purpose) -> Result<Self, Error> {
        let setup = runtime.hub().payload(&record.setup)?;
        let setup = setup.ok_or_else(|| Error::NotResumed(format!("damaged: the set-up of {} is gone", record.id)))?;
        let setup = Setup::from_bytes(&setup, runtime.catalogue())?;
        // What a policy defines is linked for that policy.
        let alike =
            purpose == Purpose::Wake && setup.policy.capabilities.is_empty() && setup.policy.link_denied.is_empty();
        let known = alike.then(|| runtime.prepared(&record.component)).flatten();
        let guest = match known {
            Some(_) => None,
            None => Some(component_of(runtime, record, &setup, purpose != Purpose::Resume { pinned: false })?),
        };
        let now = runtime.policy_now(record, &setup.policy)?;
        let scope = match purpose {
            Purpose::Replay => OpenedPolicy::closed(now),
            Purpose::Resume { .. } | Purpose::Wake => runtime.pinned_scope(now, validators(runtime, &setup)?)?,
        };
        let prepared = match (known, guest) {
            (Some(prepared), _) => prepared,
            (None, Some(guest)) => runtime.prepare(&guest, &scope.policy, record.id).await?.map_err(|_| {
                Error::NotResumed("its pinned policy does not grant its imports in this program".into())
            })?,
            (None, None) => return Err(Error::Internal("there is no guest to prepare".into())),
        };
        Ok(Self {
            secret: record.secret.clone(),
            component: record.component,
            calls: record.calls,
            prepared,
            scope: Arc::new(scope),
            generation: record.generation,
            rescope: runtime.rescope(record.id, setup.policy),
            invoke: setup.invoke,
        })
    }
}

/// The pinned component: from where it was read if it is still the same, else the stored one.
fn component_of(runtime: &Runtime, record: &ExecutionRecord, setup: &Setup, pinned: bool) -> Result<Guest, Error> {
    if let (Some(path), false) = (&setup.path, pinned)
        && is_identity(path)
        && let Ok(guest) = Guest::from_file(path)
    {
        if guest.digest == record.component {
            return Ok(guest);
        }
        return Err(Error::NotResumed(format!(
            "{} now holds another component: the execution was started with {}, the file has {}. \
             Run the stored one with --pinned, or put the file back",
            path.display(),
            record.component,
            guest.digest
        )));
    }
    match runtime.hub().payload(&record.component)? {
        Some(bytes) => Guest::from_bytes(setup.guest.clone(), bytes),
        None => match &setup.path {
            Some(path) => {
                let guest = Guest::from_file(path)?;
                if guest.digest == record.component {
                    Ok(guest)
                } else {
                    Err(Error::NotResumed(format!("the component {} is not stored", record.component)))
                }
            }
            None => Err(Error::NotResumed(format!("the component {} is not stored", record.component))),
        },
    }
}

/// How a validator is named in a set-up.
pub(crate) fn pin_of(validator: &Validator) -> String {
    format!("{}:{}", validator.capability, validator.name)
}

fn validators(runtime: &Runtime, setup: &Setup) -> Result<Vec<Validator>, Error> {
    setup
        .validators
        .iter()
        .map(|name| {
            let found = runtime.0.validators.iter().find(|validator| pin_of(validator) == *name);
            found.cloned().ok_or_else(|| {
                Error::NotResumed(format!("it was started under the validator `{name}`, which this process lacks"))
            })
        })
        .collect()
}

impl Drive {
    /// Runs it until it ends or is left; however that comes about, the lease does not stay behind.
    async fn run(self, opened: Opened, creation: Option<Box<Creation>>, used: Usage) -> Result<Report, Error> {
        match self.go_on(opened, creation, used).await {
            Err(error) => Box::pin(self.broken(error)).await,
            report => report,
        }
    }

    async fn go_on(
        &self,
        opened: Opened,
        mut creation: Option<Box<Creation>>,
        mut used: Usage,
    ) -> Result<Report, Error> {
        let mut opened = Some(Box::new(opened));
        loop {
            // Boxed: it is gone while the execution is parked, with what it had opened.
            let needs = match opened.take() {
                Some(opened) => opened,
                None => match Box::pin(self.open_again()).await? {
                    Some((opened, so_far)) => {
                        used = so_far;
                        opened
                    }
                    None => return self.runtime.show_async(self.id).await,
                },
            };
            let (ended, _, gathered) = Box::pin(self.attempt(&needs, creation.take(), used, Mode::Live)).await?;
            drop(needs);
            match ended {
                Ended::Over(_) if gathered.is_cut => return self.runtime.show_async(self.id).await,
                Ended::Over(ending) => return Ok(report(self.id, ending, gathered)),
                Ended::Parked(Stop::Parked { released: false, promise, deadline, .. }) => {
                    drop(gathered);
                    tokio::select! {
                        settled = self.settled(&promise, deadline) => settled?,
                        () = self.runtime.0.stopping.begun() => return Err(Error::Stopped),
                    }
                }
                Ended::Parked(_) => return self.suspended(gathered).await,
                Ended::Broken(error) => return Err(error),
                Ended::Head(step) => return Err(Error::Internal(format!("step {step} has no effects"))),
            }
        }
    }

    /// What the next attempt needs after the execution was parked, and what was used by then; nothing if it was canceled or
    /// taken over meanwhile.
    async fn open_again(&self) -> Result<Option<(Box<Opened>, Usage)>, Error> {
        // As in `reopen`: it may have to be compiled once more.
        let _turn = tokio::select! {
            turn = self.runtime.0.opening.acquire() => turn,
            () = self.runtime.0.stopping.begun() => return Err(Error::Stopped),
        };
        let record = self.runtime.hub().execution(self.id)?.ok_or(Error::NoExecution(self.id))?;
        if record.fence != self.fence || record.outcome.is_some() {
            return Ok(None);
        }
        let opened = Opened::open(&self.runtime, &record, Purpose::Wake).await?;
        Ok(Some((Box::new(opened), record.usage)))
    }

    /// An attempt that could not go on. If the execution was canceled meanwhile that is its outcome;
    /// else the lease is given back, so that it can be resumed, here too.
    async fn broken(&self, error: Error) -> Result<Report, Error> {
        let Ok(Some(record)) = self.runtime.hub().execution(self.id) else { return Err(error) };
        if record.outcome.is_some() {
            return self.runtime.show_async(self.id).await;
        }
        let release = Commit {
            execution: self.id,
            fence: self.fence,
            create: None,
            payloads: Vec::new(),
            steps: Vec::new(),
            promises: Vec::new(),
            usage: record.usage,
            lease: Lease::Release,
            admits: None,
            now: now(),
        };
        // Where the fence has gone up there is nothing to give back. For this process it is free without that.
        if record.fence == self.fence && record.owner.is_some() {
            let _ = self.runtime.hub().write(Write::Commit(Box::new(release))).await;
        }
        match error {
            Error::Stopped => self.runtime.show_async(self.id).await,
            error => Err(error),
        }
    }

    /// Waits with nothing in memory but this.
    async fn settled(&self, promise: &PromiseId, mut deadline: u64) -> Result<(), Error> {
        loop {
            let waiter = self.runtime.hub().settled(promise, deadline);
            match self.runtime.hub().promise_async(promise).await? {
                // It was computed anew.
                Some(record) if record.state == PromiseState::Pending && record.timeout_at != deadline => {
                    deadline = record.timeout_at;
                }
                Some(record) if record.state == PromiseState::Pending => waiter.await,
                _ => return Ok(()),
            }
        }
    }

    async fn suspended(&self, gathered: Gathered) -> Result<Report, Error> {
        if gathered.is_cut {
            return self.runtime.show_async(self.id).await;
        }
        let filter = PromiseFilter { pending: true, execution: Some(self.id), capability: None };
        let pending = self.runtime.hub().promises_async(&filter).await?.whole.iter().map(pending_of).collect();
        Ok(Report { pending, ..report(self.id, Ending::of(Outcome::Suspended), gathered) })
    }

    async fn attempt(
        &self,
        opened: &Opened,
        creation: Option<Box<Creation>>,
        used: Usage,
        mode: Mode,
    ) -> Result<(Ended, u64, Gathered), Error> {
        let inner = &self.runtime.0;
        // However many are started at once, no more are live than the machine has room for.
        let _live = tokio::select! {
            live = inner.room.live() => live,
            () = inner.stopping.begun() => return Err(Error::Stopped),
        };
        let limits: Limits = opened.scope.policy.limits;
        let target = invoke::target(&opened.prepared.pre, opened.invoke.as_deref())?;
        let of_journal = JournalLimits { journal: limits.journal, output: limits.output, promises: limits.promises };
        let journal = match (creation.is_some(), mode) {
            (true, _) => Journal::new(self.id, opened.secret.clone(), of_journal),
            (false, Mode::Live) => Journal::resume(self.id, opened.secret.clone(), of_journal),
            (false, Mode::Replay { ended }) => {
                Journal::resume(self.id, opened.secret.clone(), of_journal).without_effects(ended)
            }
        }
        .expecting(opened.calls);
        let limiter = Limiter::new(&limits);
        let machine = Machine {
            pre: opened.prepared.pre.clone(),
            ticker: Arc::clone(&inner.ticker),
            limits,
            // A replay is measured by itself; see `look`.
            meter: Arc::new(Meter::new(if creation.is_some() { used } else { Usage::default() })),
            met: Arc::clone(&limiter.met),
            record: mode == Mode::Live,
        };
        let sink: Arc<dyn Sink> = if mode == Mode::Live { Arc::clone(&inner.sink) } else { Arc::new(Quiet) };
        let execution = Execution::new(ExecutionConfig {
            journal,
            hub: inner.hub.clone(),
            fence: self.fence,
            creation,
            component: opened.component,
            scope: Arc::clone(&opened.scope),
            generation: opened.generation,
            rescope: Arc::clone(&opened.rescope),
            outside: Arc::clone(&inner.outside),
            sink,
            meter: Arc::clone(&machine.meter),
            used,
            parking: Parking {
                detach: self.wait == Wait::Detach,
                park_for_persons: self.wait == Wait::Work,
                after: Duration::from_millis(limits.park_after_ms),
                room: Arc::clone(&inner.room),
                stopping: Arc::clone(&inner.stopping),
            },
        });
        let store = attempt::store(&machine, StoreData { execution: execution.clone(), limiter: Box::new(limiter) });
        let ended = attempt::attempt(&machine, &target, store).await;
        Ok((ended, execution.calls(), execution.take_gathered()))
    }
}

pub(crate) fn report(id: ExecutionId, ending: Ending, gathered: Gathered) -> Report {
    let calls = gathered.denied.iter().map(Denied::at_call);
    let mut denied: Vec<Denied> = calls.collect();
    denied.extend(ending.denied);
    Report {
        execution: id,
        outcome: ending.outcome,
        result: ending.result,
        output: gathered.output,
        pending: Vec::<Pending>::new(),
        denied,
        guest_code: None,
        error: ending.error,
        limit: ending.limit,
    }
}
