//! The orderly ends of a running guest: sentinels that a host function returns as an
//! error, and that the driver downcasts at one place.

use parole_durable::hub::WriteError;
use parole_durable::journal::Fault;
use parole_durable::store::Refusal;
use parole_durable::{PromiseId, StoreError, UnixMs};

use crate::error::{Error, Refused};

/// Why the host ended the guest's call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Stop {
    /// It waits: its memory can be given up, the journal brings it back.
    #[error("parked until {promise} is settled")]
    Parked {
        /// What it waits for.
        promise: PromiseId,
        /// When that times out.
        deadline: UnixMs,
        /// Whether time alone settles it.
        timer: bool,
        /// Whether the lease has been given back.
        released: bool,
    },
    /// The journal says no: a mismatch, a limit, a gap, or the end of a replay.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A named limit of the execution is reached.
    #[error("the {name} limit of {limit} is reached")]
    Limit {
        /// The policy key.
        name: &'static str,
        /// The limit with its unit.
        limit: String,
    },
    /// A call without an error channel was refused.
    #[error("{}: {}", .0.capability, .0.error)]
    Denied(Box<Refused>),
    /// A call did not work, and its function has no way to tell the guest.
    #[error("`{function}`: {error}; it has no `result` by which the guest could be told")]
    Untold {
        /// The function, as the journal names it.
        function: String,
        /// What came of the call.
        error: Error,
    },
    /// The execution belongs to somebody else by now, or has ended: it was canceled or taken over.
    #[error("the execution was canceled or taken over")]
    Fenced,
    /// The replay takes longer than what it repeats may have taken.
    #[error("the replay takes too long: this machine is much slower than the one before, or the guest is another")]
    SlowReplay,
    /// The store failed: nothing after the last barrier has been shown or done.
    #[error("the store failed: {0}")]
    Store(StoreError),
    /// The runtime is to end: the guest goes on from here when it is resumed.
    #[error("the runtime is to end")]
    Stopped,
    /// The host is short of something that a call needs, and nothing of the call has happened: it is made again
    /// when the execution is resumed.
    #[error("the host is short of {0}")]
    Lack(&'static str),
    /// The journal holds what this program cannot read.
    #[error("damaged: step {0} holds a result that cannot be read")]
    Unreadable(u64),
}

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(Refusal::Damaged(what)) => Stop::Store(StoreError::Damaged(what)),
            WriteError::Refused(_) => Stop::Fenced,
            WriteError::Store(error) => Stop::Store(error),
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Stop::Store(error)
    }
}
