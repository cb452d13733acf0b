//! The orderly end of a runtime, and how it is told what is under way.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use parole_capabilities::lack::THREADS;
use parole_capabilities::stopping::Stopping;

use crate::error::Error;
use crate::runtime::{Inner, Runtime};

/// How long executions may take to come to an end of what is under way where nobody says how long: when the last
/// handle of a runtime is dropped.
pub const STOP_WITHIN: Duration = Duration::from_secs(8);
/// A bound that is none: ten years.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// What is left after that is given this long to notice.
const LAST: Duration = Duration::from_millis(200);

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
    fn wait(&self, until: Instant) -> bool {
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

impl Runtime {
    /// Ends the runtime in order. Nothing new is taken on from here ([`Error::Stopped`]); guests that wait or compute
    /// are parked, and their executions given back, so that any process can resume them; a call that is under way and
    /// may not be repeated is waited for, at most so long, and its answer recorded. Then the threads of the runtime
    /// have ended. Says whether everything came to its end in time: a call that did not is in doubt at the resume.
    ///
    /// Works without an async runtime, like every entry point. Dropping the last clone of a runtime does the same
    /// within [`STOP_WITHIN`], but waits for nothing.
    ///
    /// # Errors
    /// [`Error::Lack`]: no thread can be started for it.
    pub async fn shutdown(&self, within: Duration) -> Result<bool, Error> {
        let now = Instant::now();
        let until = now.checked_add(within).unwrap_or_else(|| now + FOREVER);
        // At once, whatever becomes of the thread.
        self.0.stopping.begin(until);
        let inner = Arc::clone(&self.0);
        let (send, done) = tokio::sync::oneshot::channel();
        // A thread of its own: it waits for the others.
        let thread = std::thread::Builder::new().name("parole-stop".into());
        let thread = thread.spawn(move || {
            let _ = send.send(inner.close(until));
        });
        thread.map_err(|_| Error::Lack(THREADS))?;
        done.await.map_err(|_| Error::Internal("the runtime could not be ended".into()))
    }
}

impl Inner {
    fn close(&self, until: Instant) -> bool {
        let all = self.under_way.wait(until);
        let tokio = self.tokio.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tokio) = tokio {
            tokio.shutdown_timeout(LAST);
        }
        self.ticker.stop();
        self.hub.close_by(until.max(Instant::now() + LAST)) && all
    }
}
