//! What a store must do: apply a batch of writes in one durable transaction, and read.
//!
//! Two implementations exist, and one differential suite drives both with the same
//! random operations: [`crate::memory`] is the model, [`crate::sqlite`] the one that lasts.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, ExecutionId, Fence, OwnerId, PromiseId, ScheduleId, Secret, UnixMs};
use crate::promise::{PromiseRecord, PromiseState, Value};
use crate::schedule::{Fire, NewSchedule, ScheduleRecord};
use crate::step::Step;

/// Arguments, notes and results of steps that are longer than this, in bytes, are kept as payloads,
/// once per digest: two steps that read the same file share its bytes.
pub const INLINE_LIMIT: usize = 4096;

/// A batch is one durable transaction; each write in it is taken or refused on its own.
pub trait Store: Send {
    /// Applies the writes in order and makes them durable together. A write that is refused
    /// changes nothing and does not disturb the others.
    ///
    /// # Errors
    /// The transaction as a whole failed: nothing of the batch has happened, or it is not
    /// known to have (after an I/O error at the commit); nothing of it may be acknowledged.
    fn write(&mut self, batch: &[Write]) -> Result<Vec<Result<Written, Refusal>>, StoreError>;

    /// A reader that sees every batch that [`Store::write`] has returned for.
    ///
    /// # Errors
    /// The store cannot be opened once more.
    fn reader(&self) -> Result<Box<dyn Reader>, StoreError>;

    /// Does in advance what the first write would otherwise have to do. Called where there is time; may do nothing.
    fn warm(&mut self) {}
}

/// The reading side. Reads never apply timeouts: the [`crate::Hub`] does, before it asks.
pub trait Reader: Send {
    /// One execution.
    ///
    /// # Errors
    /// See [`StoreError`]; the same holds for every method below.
    fn execution(&self, id: ExecutionId) -> Result<Option<ExecutionRecord>, StoreError>;

    /// Executions by id (that is by age), without the ended ones unless asked for.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn executions(&self, with_ended: bool) -> Result<Vec<ExecutionRecord>, StoreError>;

    /// At most `limit` steps of an execution with a number of at least `from`, in order.
    ///
    /// # Errors
    /// See [`StoreError`]; a row whose checksum is wrong is [`StoreError::Damaged`].
    fn steps(&self, id: ExecutionId, from: u64, limit: usize) -> Result<Vec<Step>, StoreError>;

    /// One promise.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn promise(&self, id: &PromiseId) -> Result<Option<PromiseRecord>, StoreError>;

    /// Promises by creation time, then id.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn promises(&self, filter: &PromiseFilter) -> Result<Vec<PromiseRecord>, StoreError>;

    /// A payload by its digest.
    ///
    /// # Errors
    /// See [`StoreError`]; bytes that do not have that digest are [`StoreError::Damaged`].
    fn payload(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError>;

    /// Promises settled, and executions ended, after `cursor`, with the new cursor.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn settled_since(&self, cursor: u64) -> Result<Changes, StoreError>;

    /// The current cursor: 0 in a fresh store, one more with each write that has settled or
    /// ended something. It never goes back.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn cursor(&self) -> Result<u64, StoreError>;

    /// The earliest `timeoutAt` of a pending promise; [`crate::ids::NEVER`] is none.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn next_deadline(&self) -> Result<Option<UnixMs>, StoreError>;

    /// A number that changes whenever another process (or another connection) has committed. Cheap: no rows are read.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn version(&self) -> Result<u64, StoreError>;

    /// The grants of an execution, in order: the first has generation 1.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn grants(&self, id: ExecutionId) -> Result<Vec<GrantRecord>, StoreError>;

    /// A number that changes with each grant to any execution.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn granted(&self) -> Result<u64, StoreError>;

    /// The schedules, by id (that is by age).
    ///
    /// # Errors
    /// See [`StoreError`].
    fn schedules(&self) -> Result<Vec<ScheduleRecord>, StoreError>;

    /// One schedule.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn schedule(&self, id: ScheduleId) -> Result<Option<ScheduleRecord>, StoreError>;

    /// Checks the whole store: structure, checksums, references. Each text names one fault.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn check(&self) -> Result<Vec<String>, StoreError>;
}

/// What has been settled after some cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The promises, sorted. One that was settled and is gone again (see [`Write::Collect`]) is not named.
    pub promises: Vec<PromiseId>,
    /// The executions that ended, sorted.
    pub executions: Vec<ExecutionId>,
    /// Where to go on.
    pub cursor: u64,
}

/// Which promises to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromiseFilter {
    /// Only pending ones.
    pub pending: bool,
    /// Only those of one execution.
    pub execution: Option<ExecutionId>,
    /// Only those of one capability.
    pub capability: Option<String>,
}

/// One change.
#[derive(Clone, Debug)]
pub enum Write {
    /// What the owner of an execution makes durable at a barrier.
    Commit(Box<Commit>),
    /// Takes an execution over. Its `updated_at` stays, so that taking and losing it does not keep it from being collected.
    Acquire {
        /// Which.
        execution: ExecutionId,
        /// Who takes it.
        owner: OwnerId,
        /// The former owner, which the caller has seen to be dead; the write is refused if another one holds it by now.
        void: Option<OwnerId>,
    },
    /// Settles a promise: compare-and-set on `pending`, after the timeout has been applied.
    /// One that is not pending is answered with the record as it stands, timers as well; a
    /// pending timer is refused.
    Settle {
        /// Which.
        id: PromiseId,
        /// `Resolved`, `Rejected` or `RejectedCanceled`.
        state: PromiseState,
        /// The answer.
        value: Value,
        /// The time of the request.
        now: UnixMs,
    },
    /// Cancels an execution: the fence goes up, its pending promises are canceled, the outcome is recorded.
    Cancel {
        /// Which.
        execution: ExecutionId,
        /// The outcome to record, as JSON text.
        outcome: String,
        /// The time of the request.
        now: UnixMs,
    },
    /// Notes that output of an execution has been shown, ended or not. A note for the view, not for
    /// the record: it survives the process, but a power cut may take it, and then output is shown again.
    Shown {
        /// Which.
        execution: ExecutionId,
        /// Output of calls below this number has been shown.
        upto: u64,
    },
    /// Applies the timeout of every pending promise whose time has come.
    Expire {
        /// The time to apply.
        now: UnixMs,
    },
    /// Gives an execution that has not ended another policy: what it may do from its next call on.
    Grant {
        /// Which.
        execution: ExecutionId,
        /// The new generation: one more than the present one.
        generation: u64,
        /// The policy of this generation.
        policy: (Digest, Arc<[u8]>),
        /// Who did it.
        by: String,
        /// What was changed, as JSON text; opaque here.
        change: String,
        /// The time of the request.
        now: UnixMs,
    },
    /// Makes a schedule.
    Schedule(Box<NewSchedule>),
    /// Makes an execution of a schedule. Refused when the schedule is not what it was, is paused, or is due no more.
    Fire(Box<Fire>),
    /// Pauses a schedule, lets it go on, or sets when it is due next.
    Reschedule {
        /// Which.
        id: ScheduleId,
        /// The revision upon which this was decided.
        revision: u64,
        /// Whether it is held back from now on.
        paused: bool,
        /// When it is due next.
        next_at: Option<UnixMs>,
        /// The time of the request.
        now: UnixMs,
    },
    /// Removes a schedule. The executions that it made stay.
    Unschedule {
        /// Which.
        id: ScheduleId,
    },
    /// Removes executions that ended before a time, with their steps, promises and grants, and payloads
    /// that nothing names any more. Names are: the component and the setup of an execution or a
    /// schedule, the policy of a grant, and long arguments, notes and results of a step; digests inside
    /// payloads are not looked at.
    Collect {
        /// Unix milliseconds; those that ended earlier go.
        before: UnixMs,
    },
}

/// Everything that one execution makes durable in one go.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Which execution.
    pub execution: ExecutionId,
    /// The fence under which its owner holds it; [`Fence::FIRST`] when it is created.
    pub fence: Fence,
    /// With the first commit: the execution itself.
    pub create: Option<Box<NewExecution>>,
    /// Payloads that the rows refer to; stored once per digest.
    pub payloads: Vec<(Digest, Arc<[u8]>)>,
    /// Steps, new or further on: a step with the same number replaces the row.
    pub steps: Vec<Step>,
    /// New promises. One that exists already is left as it stands.
    pub promises: Vec<PromiseRecord>,
    /// What the execution has used so far.
    pub usage: Usage,
    /// What becomes of the lease.
    pub lease: Lease,
    /// The time of the commit.
    pub now: UnixMs,
}

/// What becomes of the lease with a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    /// The owner goes on.
    Keep,
    /// The execution is parked: nobody owns it.
    Release,
    /// It has ended, with this outcome as JSON text; what is still pending is canceled.
    End(String),
}

/// The fixed part of an execution.
#[derive(Clone, Debug)]
pub struct NewExecution {
    /// The digest of the component.
    pub component: Digest,
    /// The payload that pins everything else: guest name, path, policy, limits, what is invoked, determinism version.
    pub setup: Digest,
    /// See [`Secret`].
    pub secret: Secret,
    /// The process that runs it.
    pub owner: OwnerId,
    /// When it was started.
    pub created_at: UnixMs,
}

/// What an execution has used, saved at barriers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Guest time, in microseconds.
    pub cpu_us: u64,
    /// Time while running, in microseconds; waiting on a promise does not count.
    pub wall_us: u64,
    /// Bytes of output.
    pub output: u64,
    /// Bytes of steps.
    pub journal: u64,
    /// Output of calls below this number has been shown: a resume shows what lies above it
    /// (and so may repeat what was shown right before a crash, never lose it).
    pub shown: u64,
}

/// An execution as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionRecord {
    /// Its id.
    pub id: ExecutionId,
    /// The digest of the component.
    pub component: Digest,
    /// See [`NewExecution::setup`].
    pub setup: Digest,
    /// See [`Secret`].
    pub secret: Secret,
    /// The current fence.
    pub fence: Fence,
    /// Who holds it, if anybody (who may be dead).
    pub owner: Option<OwnerId>,
    /// What it has used.
    pub usage: Usage,
    /// When it was started.
    pub created_at: UnixMs,
    /// When its row last changed.
    pub updated_at: UnixMs,
    /// How it ended, as JSON text; `None` while it has not.
    pub outcome: Option<String>,
    /// Under which policy its next call is decided: 0 is the one of its set-up, others are in its grants.
    pub generation: u64,
    /// The schedule that made it (which may be gone).
    pub schedule: Option<ScheduleId>,
}

impl ExecutionRecord {
    /// The record of a new one.
    pub(crate) fn of(id: ExecutionId, new: &NewExecution, now: UnixMs) -> Self {
        Self {
            id,
            component: new.component,
            setup: new.setup,
            secret: new.secret.clone(),
            fence: Fence::FIRST,
            owner: Some(new.owner),
            usage: Usage::default(),
            created_at: new.created_at,
            updated_at: now,
            outcome: None,
            generation: 0,
            schedule: None,
        }
    }

    /// The record of one that a schedule makes.
    pub(crate) fn fired(schedule: &ScheduleRecord, fire: &Fire) -> Self {
        Self {
            id: fire.execution,
            component: schedule.component,
            setup: schedule.setup,
            secret: fire.secret.clone(),
            fence: Fence::FIRST,
            owner: None,
            usage: Usage::default(),
            created_at: fire.now,
            updated_at: fire.now,
            outcome: None,
            generation: 0,
            schedule: Some(schedule.id),
        }
    }
}

/// One change of the policy of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRecord {
    /// Whose.
    pub execution: ExecutionId,
    /// The generation that began with it.
    pub generation: u64,
    /// The policy from then on, a payload.
    pub policy: Digest,
    /// Who did it.
    pub by: String,
    /// What was changed, as JSON text.
    pub change: String,
    /// When.
    pub at: UnixMs,
}

/// What a write came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The commit is durable.
    Committed,
    /// The execution is yours.
    Acquired(Fence),
    /// The promise as it stands now, and whether it was this write that settled it.
    Settled {
        /// The record.
        record: Box<PromiseRecord>,
        /// Whether this write won.
        won: bool,
    },
    /// The execution has ended as canceled.
    Canceled,
    /// How many promises timed out.
    Expired(u64),
    /// How many executions were removed.
    Collected(u64),
    /// The execution has this generation now.
    Granted(u64),
    /// The schedule is made or changed, and has this revision now.
    Scheduled(u64),
    /// The execution of a schedule is made; the schedule has this revision now.
    Fired(u64),
    /// The schedule is gone.
    Unscheduled,
}

/// Why one write of a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no execution of that id.
    #[error("there is no execution {0}")]
    NoExecution(ExecutionId),
    /// There is no promise of that id.
    #[error("there is no promise {0}")]
    NoPromise(PromiseId),
    /// An execution of that id exists already.
    #[error("the execution {0} exists already")]
    Exists(ExecutionId),
    /// Somebody else holds the execution by now.
    #[error("the execution {execution} has changed hands (fence {found:?}, not {held:?})")]
    Fenced {
        /// Which.
        execution: ExecutionId,
        /// The fence of the writer.
        held: Fence,
        /// The fence of the row.
        found: Fence,
    },
    /// Another process holds it.
    #[error("the execution {0} is held by another process")]
    Held(ExecutionId),
    /// It has ended.
    #[error("the execution {0} has ended")]
    Ended(ExecutionId),
    /// Its policy has been changed by somebody else meanwhile.
    #[error("the policy of the execution {execution} has been changed meanwhile (generation {found})")]
    Stale {
        /// Which.
        execution: ExecutionId,
        /// The present generation.
        found: u64,
    },
    /// There is no schedule of that id.
    #[error("there is no schedule {0}")]
    NoSchedule(ScheduleId),
    /// A schedule of that id exists already.
    #[error("the schedule {0} exists already")]
    ScheduleExists(ScheduleId),
    /// The schedule has fired or was changed meanwhile, is paused, or is due no more.
    #[error("the schedule {0} has been changed meanwhile")]
    Changed(ScheduleId),
    /// A row that the write depends on is not what was written.
    #[error("damaged: {0}")]
    Damaged(Arc<str>),
    /// Nobody can settle a promise into that state.
    #[error("a promise cannot be settled as {0:?}")]
    State(PromiseState),
    /// A timer is settled by its time alone.
    #[error("{0} is a timer: nothing but its time settles it")]
    Timer(PromiseId),
}

/// What can go wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process held the database for longer than we wait.
    #[error("the store is busy: another process held it for {0} ms")]
    Busy(u64),
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// The operating system failed us.
    #[error("I/O error: {0}")]
    Io(Arc<str>),
    /// Something stored is not what was written.
    #[error("damaged: {0}")]
    Damaged(Arc<str>),
    /// The store was made by another version.
    #[error("the store has schema version {found}; this program knows {known}")]
    Version {
        /// What the file says.
        found: i64,
        /// What this program knows.
        known: i64,
    },
    /// The state directory is not fit for use.
    #[error("{0}")]
    Unfit(Arc<str>),
    /// The writer of this process has stopped.
    #[error("the store is closed")]
    Closed,
}
