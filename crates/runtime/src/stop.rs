//! The orderly end of a runtime, and how it is told what is under way.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use parole_capabilities::lack::THREADS;

use crate::error::Error;
use crate::runtime::{Inner, Runtime};
pub use crate::under_way::STOP_WITHIN;

/// A bound that is none: ten years.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// What is left after that is given this long to notice.
const LAST: Duration = Duration::from_millis(200);

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
