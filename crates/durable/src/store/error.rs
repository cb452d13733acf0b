//! What can keep a write from being taken, and what can go wrong with a store.

use std::sync::Arc;

use crate::ids::{ExecutionId, Fence, PromiseId, ScheduleId};
use crate::promise::PromiseState;

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
    /// It has not ended.
    #[error("the execution {0} has not ended")]
    NotEnded(ExecutionId),
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
    /// It is settled, or is nothing that a worker answers.
    #[error("{0} is not pending")]
    Settled(PromiseId),
    /// It is another worker's, or nobody's yet.
    #[error("{0} is claimed by another worker, or not to be claimed yet")]
    Claimed(PromiseId),
    /// Its worker has died with it, and it must not be done twice.
    #[error("{0} may or may not have been done: nobody claims it")]
    InDoubt(PromiseId),
    /// A row that the write depends on is not what was written.
    #[error("damaged: {0}")]
    Damaged(Arc<str>),
    /// Nobody can settle a promise into that state.
    #[error("a promise cannot be settled as {0:?}")]
    State(PromiseState),
    /// A timer asks nothing that could be refused.
    #[error("{0} is a timer: it can be resolved, as if its time had come, or canceled")]
    Timer(PromiseId),
    /// There is nothing for which it could be set aside.
    #[error("nothing of the execution {0} is damaged")]
    Whole(ExecutionId),
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
