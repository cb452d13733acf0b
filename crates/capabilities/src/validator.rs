//! Checks in Rust that stand behind the policy: closures per capability.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parole_durable::ExecutionId;

/// How long a validator may take before its silence counts as no.
pub const VALIDATOR_TIME: Duration = Duration::from_secs(1);

/// A call that a validator judges: the values are those that are acted on.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which execution asks.
    pub execution: ExecutionId,
    /// Which capability.
    pub capability: &'static str,
    /// The canonical arguments, as the journal records them: a JSON object by parameter name;
    /// for send-only calls the text itself.
    pub arguments: Arc<str>,
}

type Check = dyn Fn(&Call) -> Result<(), String> + Send + Sync;

/// A named check of the calls of one capability. Its name is pinned in each execution that
/// starts under it: a process that lacks it refuses to resume.
#[derive(Clone)]
pub struct Validator {
    /// Its name.
    pub name: Arc<str>,
    /// The capability whose calls it judges.
    pub capability: Arc<str>,
    check: Arc<Check>,
}

impl Validator {
    /// A validator. Its error text goes to the guest, so it must not hold what the guest may not know.
    pub fn new(
        name: impl Into<Arc<str>>,
        capability: impl Into<Arc<str>>,
        check: impl Fn(&Call) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), capability: capability.into(), check: Arc::new(check) }
    }

    /// Judges a call on a thread of its own, because a closure that never returns must not
    /// take a guest with it: a panic, a silence of more than [`VALIDATOR_TIME`], and a
    /// thread that cannot be had are all no.
    pub(crate) fn judge(&self, call: &Call) -> Result<(), String> {
        let (answer, answered) = mpsc::sync_channel(1);
        let (check, call) = (Arc::clone(&self.check), call.clone());
        let started = std::thread::Builder::new().name("parole-validator".into()).spawn(move || {
            let verdict = catch_unwind(AssertUnwindSafe(|| check(&call)));
            let _ = answer.send(verdict.unwrap_or_else(|_| Err("the validator failed".into())));
        });
        if started.is_err() {
            return Err("the validator could not be started".into());
        }
        answered.recv_timeout(VALIDATOR_TIME).unwrap_or_else(|_| Err("the validator took too long".into()))
    }
}
