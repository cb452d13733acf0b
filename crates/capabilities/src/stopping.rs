//! The orderly end of a runtime: nothing new begins, and what is under way is waited for within a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::watch;

/// Tells all executions of a runtime that it is to end.
#[derive(Debug)]
pub struct Stopping {
    begun: AtomicBool,
    /// Until when a call is waited for that may not be left.
    until: watch::Sender<Option<Instant>>,
}

impl Stopping {
    /// Nobody has said so yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { begun: AtomicBool::new(false), until: watch::Sender::new(None) })
    }

    /// Says so. The earliest bound counts.
    pub fn begin(&self, until: Instant) {
        self.begun.store(true, Ordering::SeqCst);
        self.until.send_modify(|bound| *bound = Some(bound.map_or(until, |bound| bound.min(until))));
    }

    /// Whether it has been said.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Resolves when it has been said.
    pub async fn begun(&self) {
        // It fails only when the sender is gone, which is here.
        let _ = self.until.subscribe().wait_for(Option::is_some).await;
    }

    /// Resolves when nothing is waited for any more.
    pub async fn over(&self) {
        let mut bound = self.until.subscribe();
        loop {
            let until = *bound.borrow_and_update();
            let end = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = end => return,
                _ = bound.changed() => {}
            }
        }
    }
}
