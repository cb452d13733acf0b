//! What a runtime has under way, and who holds it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use parole_capabilities::stopping::Stopping;

/// How long executions may take to come to an end of what is under way where nobody says how long: when the last
/// handle of a runtime is dropped.
pub const STOP_WITHIN: Duration = Duration::from_secs(8);

/// The work that a runtime has taken on and not done yet.
#[derive(Default)]
pub(crate) struct UnderWay {
    count: Mutex<usize>,
    none: Condvar,
}

impl UnderWay {
    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Entered(Arc::clone(self))
    }

    /// Whether all of it was done by then.
    pub(crate) fn wait(&self, until: Instant) -> bool {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            count = self.none.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// One piece of work, for as long as it is under way.
pub(crate) struct Entered(Arc<UnderWay>);

impl Drop for Entered {
    fn drop(&mut self) {
        let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count -= 1;
        if *count == 0 {
            self.0.none.notify_all();
        }
    }
}

/// What the clones of a runtime share that its own work has not: when the last of them goes, the work ends.
pub(crate) struct Handles(pub(crate) Arc<Stopping>);

impl Drop for Handles {
    fn drop(&mut self) {
        self.0.begin(Instant::now() + STOP_WITHIN);
    }
}
