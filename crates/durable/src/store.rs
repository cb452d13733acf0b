//! What a store must do: apply a batch of writes in one durable transaction, and read.
//!
//! Two implementations exist, and one differential suite drives both with the same
//! random operations: [`crate::memory`] is the model, [`crate::sqlite`] the one that lasts.

use std::sync::Arc;

use crate::ids::{Digest, ExecutionId, Fence, OwnerId, PromiseId, ScheduleId, Secret, UnixMs};
use crate::promise::{PromiseRecord, PromiseState, Value};
use crate::schedule::{Fire, NewSchedule, ScheduleRecord};
use crate::step::Step;

mod claim;
mod error;
mod listing;
mod record;

pub use claim::{Claim, Release};
pub use error::{Refusal, StoreError};
pub use listing::{Damaged, Listing};
pub use record::{ExecutionRecord, GrantRecord, Usage};

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
    fn executions(&self, with_ended: bool) -> Result<Listing<ExecutionRecord>, StoreError>;

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

    /// Promises by creation time, then id. Of a damaged one the capability is not asked for.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn promises(&self, filter: &PromiseFilter) -> Result<Listing<PromiseRecord>, StoreError>;

    /// The claims of workers to promises that are pending, by promise, of those that can be read.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn claims(&self) -> Result<Vec<Claim>, StoreError>;

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
    fn schedules(&self) -> Result<Listing<ScheduleRecord>, StoreError>;

    /// One schedule.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn schedule(&self, id: ScheduleId) -> Result<Option<ScheduleRecord>, StoreError>;

    /// What is damaged of one execution: each text names one fault. Empty: nothing is, or there is no such execution.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn damage(&self, id: ExecutionId) -> Result<Vec<String>, StoreError>;

    /// The executions that ended before a time, by id, each with how many calls it has recorded.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn ended(&self, before: UnixMs) -> Result<Vec<(ExecutionId, u64)>, StoreError>;

    /// The payloads that nothing names, by digest, with their sizes in bytes. Names are: the component and the setup
    /// of an execution or a schedule, the policy of a grant, and long arguments, notes and results of a step; digests
    /// inside payloads are not looked at.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn unnamed(&self) -> Result<Vec<(Digest, u64)>, StoreError>;

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
    /// One that is not pending is answered with the record as it stands. A pending timer is resolved,
    /// as if its time had come, or canceled; there is nothing about it to reject.
    Settle {
        /// Which.
        id: PromiseId,
        /// `Resolved`, `Rejected` or `RejectedCanceled`.
        state: PromiseState,
        /// The answer.
        value: Value,
        /// Of a worker: who it is, and the fence of its claim. Refused where it has lost that.
        claim: Option<(OwnerId, u64)>,
        /// The time of the request.
        now: UnixMs,
    },
    /// A worker takes a promise that it is going to answer. One that a dead worker held, and that must not be done
    /// twice, is marked as in doubt, and nobody's from then on.
    Take {
        /// Which.
        id: PromiseId,
        /// Who takes it.
        owner: OwnerId,
        /// The former owner, which the caller has seen to be dead.
        void: Option<OwnerId>,
        /// The time of the request.
        now: UnixMs,
    },
    /// A worker gives back what it cannot answer, or not yet.
    Release {
        /// Which.
        id: PromiseId,
        /// Who it is, and the fence of its claim.
        claim: (OwnerId, u64),
        /// What becomes of it.
        how: Release,
        /// Nobody takes it before.
        not_before: UnixMs,
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
    /// Computes the times of pending promises anew that were made later than now: a clock was wrong then (see
    /// [`PromiseRecord::recompute`]).
    Recompute {
        /// The present time.
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
    /// Notes that an execution has felled the process that held it, by a signal that points at the engine. The
    /// lease is void with it, so that the same end is counted once. A commit that brings the execution further
    /// forgets what was counted.
    Fell {
        /// Which.
        execution: ExecutionId,
        /// The process, which is dead; the write is refused if another one holds the execution, or nobody.
        owner: OwnerId,
    },
    /// Takes over the showing of the last output of an execution that has ended: of many that come upon it one
    /// shows it. Or gives it up.
    Claim {
        /// Which.
        execution: ExecutionId,
        /// Who takes it; nobody, where the former one could not do it.
        owner: Option<OwnerId>,
        /// The former one, which gives it up, or which the caller has seen to be dead; the write is refused if another one has it by now.
        void: Option<OwnerId>,
    },
    /// Sets aside an execution of which something is damaged: it ends with an outcome, its pending promises are
    /// canceled, the rows that are damaged go, and what was wrong is kept with it.
    SetAside {
        /// Which. Refused when nothing of it is damaged, and when it has ended.
        execution: ExecutionId,
        /// The outcome to record, as JSON text.
        outcome: String,
        /// The time of the request.
        now: UnixMs,
    },
    /// Removes executions with their steps, promises and grants. Payloads that only they have named stay until they
    /// are swept. Few at a time: nobody else can write meanwhile.
    Collect {
        /// Which; one that has not ended, or not before that time, is left as it is.
        executions: Vec<ExecutionId>,
        /// Unix milliseconds.
        before: UnixMs,
    },
    /// Notes that payloads are about to be removed because nothing names them (see [`Reader::unnamed`]). A write that
    /// names one takes it out of the note. To be looked at once more after this is durable, then swept.
    Doom {
        /// Which.
        digests: Vec<Digest>,
        /// Whose note it is: of two who look at the same time neither may go by what the other has noted.
        mark: Mark,
    },
    /// Removes payloads that are noted as doomed still.
    Sweep {
        /// Whose note.
        mark: Mark,
        /// Which; nothing named them after the note was durable.
        digests: Vec<Digest>,
    },
}

/// Tells the notes of one search for payloads without a name from those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub uuid::Uuid);

impl Mark {
    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        Self(ExecutionId::generate().0)
    }
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
    /// The call that is taken on with it, if that depends on the grants.
    pub admits: Option<Admission>,
    /// The time of the commit.
    pub now: UnixMs,
}

/// A call that is taken on under a generation of grants. Where another one has begun meanwhile its step is withheld
/// from the commit, with the promise that it waits for; all else is taken: a revoke that was acknowledged before is never
/// passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The number of its step.
    pub step: u64,
    /// The generation under which it was decided.
    pub generation: u64,
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

/// What a write came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The commit is durable.
    Committed,
    /// The commit is durable but for the step of its admission: this is the present generation.
    Withheld(u64),
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
    /// How many promises have other times now.
    Recomputed(u64),
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
    /// How many processes the execution has felled since it last came further.
    Felled(u64),
    /// The last output is the claimant's to show.
    Claimed,
    /// The claim as it stands now: the worker's, or in doubt.
    Taken(Box<Claim>),
    /// The claim is nobody's.
    Released,
    /// The damaged execution has ended.
    SetAside,
    /// The payloads are noted.
    Doomed,
    /// How many payloads were removed.
    Swept(u64),
}
