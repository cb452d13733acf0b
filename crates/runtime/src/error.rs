//! Why something could not be done: distinct from what a run came to.

use parole_durable::hub::WriteError;
use parole_durable::store::Refusal;
use parole_durable::{ExecutionId, PromiseId, StoreError};

/// The kinds are those that a program reacts to differently; `parole` maps them to exit codes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request itself cannot be right: a policy that names what is not there, a call that does not parse.
    #[error("{0}")]
    Usage(String),
    /// The file is not a guest.
    #[error("not a valid guest: {0}")]
    NotAGuest(String),
    /// There is no execution of that id.
    #[error("there is no execution {0}")]
    NoExecution(ExecutionId),
    /// There is no promise of that id.
    #[error("there is no promise {0}")]
    NoPromise(String),
    /// The execution cannot be resumed: held elsewhere, component changed, mismatch, damaged, validator missing.
    #[error("{0}")]
    NotResumed(String),
    /// The value does not fit the promise; it is still pending.
    #[error("{id} takes no such value: {expected}")]
    BadAnswer {
        /// The promise.
        id: PromiseId,
        /// What was expected.
        expected: String,
    },
    /// The store failed: what was asked has not happened, or is not known to have.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The runtime is ending ([`crate::Runtime::shutdown`]): it takes nothing on, and of this nothing was recorded.
    #[error("the runtime is stopped")]
    Stopped,
    /// The host is short of something: it can be done when there is room again, and an execution is as it was at
    /// its last barrier.
    #[error("the host is short of {0}")]
    Lack(&'static str),
    /// A named limit of the policy is reached before the guest has run.
    #[error("the {name} limit of {limit} is reached: {what}")]
    Limit {
        /// The policy key.
        name: &'static str,
        /// The limit with its unit.
        limit: String,
        /// By what.
        what: &'static str,
    },
    /// A fault of the host.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// An execution of which a row is damaged cannot be resumed; the store as a whole is fit.
    pub(crate) fn of_resume(self) -> Self {
        match self {
            Error::Store(error @ StoreError::Damaged(_)) => Error::NotResumed(error.to_string()),
            error => error,
        }
    }
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Store(error) => Error::Store(error),
            WriteError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoExecution(id) => Error::NoExecution(id),
            Refusal::NoPromise(id) => Error::NoPromise(id.as_str().into()),
            Refusal::Timer(_) => Error::Usage(refusal.to_string()),
            other => Error::NotResumed(other.to_string()),
        }
    }
}
