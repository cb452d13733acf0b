//! The entry points of [`Runtime`] for callers without an async context: callable from anywhere.

use std::time::Duration;

use parole_durable::ExecutionId;
use parole_policy::SecurityPolicy;

use crate::block_on::block_on;
use crate::drive::Replayed;
use crate::error::Error;
use crate::exported::Exported;
use crate::guest::Guest;
use crate::promises::Settled;
use crate::report::Report;
use crate::runtime::{Inspection, ResumeOptions, RunOptions, Runtime};

/// See [`Runtime::blocking`]. Each method blocks the calling thread until it is done, on a plain
/// thread, inside `spawn_blocking` and (though it then holds up a worker) inside an async function.
#[derive(Clone, Copy)]
pub struct Blocking<'r>(pub(crate) &'r Runtime);

impl Runtime {
    /// The same entry points for callers without an async context.
    #[must_use]
    pub fn blocking(&self) -> Blocking<'_> {
        Blocking(self)
    }
}

impl Blocking<'_> {
    /// See [`Runtime::run`].
    ///
    /// # Errors
    /// The same.
    pub fn run(&self, guest: Guest, policy: SecurityPolicy, options: RunOptions) -> Result<Report, Error> {
        block_on(self.0.run(guest, policy, options))
    }

    /// See [`Runtime::resume`].
    ///
    /// # Errors
    /// The same.
    pub fn resume(&self, id: ExecutionId, options: ResumeOptions) -> Result<Report, Error> {
        block_on(self.0.resume(id, options))
    }

    /// See [`Runtime::shutdown`].
    ///
    /// # Errors
    /// The same.
    pub fn shutdown(&self, within: Duration) -> Result<bool, Error> {
        block_on(self.0.shutdown(within))
    }

    /// See [`Runtime::replay`].
    ///
    /// # Errors
    /// The same.
    pub fn replay(&self, id: ExecutionId) -> Result<Replayed, Error> {
        block_on(self.0.replay(id))
    }

    /// See [`Runtime::cancel`].
    ///
    /// # Errors
    /// The same.
    pub fn cancel(&self, id: ExecutionId) -> Result<(), Error> {
        block_on(self.0.cancel(id))
    }

    /// See [`Runtime::regrant`].
    ///
    /// # Errors
    /// The same.
    pub fn regrant(
        &self,
        id: ExecutionId,
        change: impl Fn(&SecurityPolicy) -> Result<SecurityPolicy, Error>,
        what: &str,
        by: &str,
    ) -> Result<u64, Error> {
        block_on(self.0.regrant(id, change, what, by))
    }

    /// See [`Runtime::collect`].
    ///
    /// # Errors
    /// The same.
    pub fn collect(&self, before: u64) -> Result<u64, Error> {
        block_on(self.0.collect(before))
    }

    /// See [`Runtime::set_aside`].
    ///
    /// # Errors
    /// The same.
    pub fn set_aside(&self, id: ExecutionId, by: &str) -> Result<(), Error> {
        block_on(self.0.set_aside(id, by))
    }

    /// See [`Runtime::exported`].
    ///
    /// # Errors
    /// As there.
    pub fn exported(&self, guest: &Guest, name: &str) -> Result<Exported, Error> {
        block_on(self.0.exported(guest, name))
    }

    /// See [`Runtime::inspect`].
    ///
    /// # Errors
    /// The same.
    pub fn inspect(&self, guest: Guest, policy: SecurityPolicy) -> Result<Inspection, Error> {
        block_on(self.0.inspect(guest, policy))
    }

    /// See [`Promises::resolve`](crate::Promises::resolve).
    ///
    /// # Errors
    /// The same.
    pub fn resolve(&self, id: &str, value: &serde_json::Value, by: &str) -> Result<Settled, Error> {
        block_on(self.0.promises().resolve(id, value, by))
    }

    /// See [`Promises::reject`](crate::Promises::reject).
    ///
    /// # Errors
    /// The same.
    pub fn reject(&self, id: &str, reason: Option<&str>, by: &str) -> Result<Settled, Error> {
        block_on(self.0.promises().reject(id, reason, by))
    }

    /// See [`Promises::cancel`](crate::Promises::cancel).
    ///
    /// # Errors
    /// The same.
    pub fn cancel_promise(&self, id: &str, by: &str) -> Result<Settled, Error> {
        block_on(self.0.promises().cancel(id, by))
    }
}
