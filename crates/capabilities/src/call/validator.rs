//! Checks in Rust that stand behind the policy: closures per capability.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
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
    pub capability: Arc<str>,
    /// The arguments in their one form: a JSON object by parameter name. Of a body and of
    /// the contents of a file they hold size and digest. A send-only call has the same form, with `list<u8>` in
    /// base64.
    pub arguments: Arc<str>,
}

type Check = dyn Fn(&Call) -> Result<(), String> + Send + Sync;

/// A named check of the calls of one capability. Name and capability are pinned in each execution
/// that starts under it: a process that lacks it refuses to resume.
///
/// It has one thread, on which it judges one call after the other. A panic, and a thread that cannot
/// be had, are no to that call. A silence of more than [`VALIDATOR_TIME`] is no to that call and to
/// every later one, at once, for as long as the process runs: its thread may never come back.
#[derive(Clone)]
pub struct Validator {
    /// Its name.
    pub name: Arc<str>,
    /// The capability whose calls it judges.
    pub capability: Arc<str>,
    check: Arc<Check>,
    worker: Arc<Worker>,
}

/// The thread of a validator, from its first call on. It ends with the validator.
#[derive(Default)]
struct Worker {
    link: Mutex<Option<Link>>,
    failed: AtomicBool,
}

struct Link {
    calls: Sender<Call>,
    verdicts: Receiver<Result<(), String>>,
}

const FAILED: &str = "the validator failed";
const TOO_LONG: &str = "the validator took too long";

impl Validator {
    /// A validator. Its error text goes to the guest, so it must not hold what the guest may not know.
    pub fn new(
        name: impl Into<Arc<str>>,
        capability: impl Into<Arc<str>>,
        check: impl Fn(&Call) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), capability: capability.into(), check: Arc::new(check), worker: Arc::default() }
    }

    /// Judges a call on the validator's own thread, because a closure that never returns must not
    /// take a guest with it.
    pub(crate) fn judge(&self, call: &Call) -> Result<(), String> {
        let no = |why: &str| Err(why.to_owned());
        // One call at a time, so that its time is its own and not that of a queue.
        let mut link = self.worker.link.lock().unwrap_or_else(PoisonError::into_inner);
        if self.worker.failed.load(Ordering::SeqCst) {
            return no(TOO_LONG);
        }
        if link.is_none() {
            *link = self.start();
        }
        let Some(running) = &*link else { return no("the validator could not be started") };
        let verdict = match running.calls.send(call.clone()) {
            Ok(()) => running.verdicts.recv_timeout(VALIDATOR_TIME).ok(),
            Err(_) => None,
        };
        verdict.unwrap_or_else(|| {
            self.worker.failed.store(true, Ordering::SeqCst);
            *link = None;
            tracing::error!(validator = &*self.name, "a validator took too long: it denies from now on");
            no(TOO_LONG)
        })
    }

    fn start(&self) -> Option<Link> {
        let (calls, receiver) = channel::<Call>();
        let (sender, verdicts) = channel();
        let check = Arc::clone(&self.check);
        let work = move || {
            for call in receiver {
                let verdict = catch_unwind(AssertUnwindSafe(|| check(&call))).unwrap_or_else(|_| Err(FAILED.into()));
                if sender.send(verdict).is_err() {
                    return;
                }
            }
        };
        let started = std::thread::Builder::new().name("parole-validator".into()).spawn(work);
        started.ok().map(|_| Link { calls, verdicts })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Instant;

    use super::*;

    fn call(arguments: &str) -> Call {
        Call { execution: ExecutionId::generate(), capability: "print".into(), arguments: arguments.into() }
    }

    #[test]
    fn one_thread_judges_all_calls_and_ends_with_the_validator() {
        let threads = Arc::new(Mutex::new(std::collections::HashSet::new()));
        let (seen, gone) = (Arc::clone(&threads), Arc::downgrade(&threads));
        let validator = Validator::new("v", "print", move |call| {
            seen.lock().unwrap().insert(std::thread::current().id());
            if &*call.arguments == "bad" { Err("bad".into()) } else { Ok(()) }
        });
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        assert_eq!(validator.judge(&call("good")), Ok(()));
                        assert_eq!(validator.clone().judge(&call("bad")), Err("bad".into()));
                    }
                });
            }
        });
        assert_eq!(threads.lock().unwrap().len(), 1);
        drop((validator, threads));
        let until = Instant::now() + Duration::from_secs(20);
        while gone.upgrade().is_some() {
            assert!(Instant::now() < until, "its thread is still there");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_panic_is_no_to_one_call_only() {
        let validator =
            Validator::new("v", "print", |call| if &*call.arguments == "bad" { panic!("bug") } else { Ok(()) });
        assert_eq!(validator.judge(&call("bad")), Err(FAILED.into()));
        assert_eq!(validator.judge(&call("good")), Ok(()));
    }

    #[test]
    fn a_silence_is_no_for_ever_and_at_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let validator = Validator::new("v", "print", move |call| {
            count.fetch_add(1, Ordering::SeqCst);
            if &*call.arguments == "bad" {
                std::thread::sleep(VALIDATOR_TIME * 2);
            }
            Ok(())
        });
        assert_eq!(validator.judge(&call("good")), Ok(()));
        assert_eq!(validator.judge(&call("bad")), Err(TOO_LONG.into()));
        let since = Instant::now();
        for _ in 0..100 {
            assert_eq!(validator.clone().judge(&call("good")), Err(TOO_LONG.into()));
        }
        assert!(since.elapsed() < VALIDATOR_TIME);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
}
