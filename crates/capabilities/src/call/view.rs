//! What is shown of the output of one execution, and the note of how far that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parole_durable::{ExecutionId, Hub, Write};

use super::{ExecutionConfig, show};
use crate::sink::Sink;

/// Shows output that is durable. Shared with the tasks that do so while the guest waits; one after the other.
pub(super) struct View {
    execution: ExecutionId,
    hub: Hub,
    sink: Arc<dyn Sink>,
    /// A replay without effects notes nothing.
    notes: bool,
    shown: AtomicU64,
    /// Something could not be shown. What comes after it would be noted as shown with it, so that waits as well.
    broken: AtomicBool,
}

impl View {
    pub(super) fn new(config: &ExecutionConfig) -> Arc<Self> {
        Arc::new(Self {
            execution: config.journal.execution(),
            hub: config.hub.clone(),
            sink: Arc::clone(&config.sink),
            notes: config.journal.has_effects(),
            shown: AtomicU64::new(config.used.shown),
            broken: AtomicBool::new(false),
        })
    }

    /// Output of calls below this number has been shown.
    pub(super) fn shown(&self) -> u64 {
        self.shown.load(Ordering::SeqCst)
    }

    /// The execution has ended. What could not be shown here somebody else may show.
    pub(super) fn end(&self) {
        if self.broken.load(Ordering::SeqCst) {
            self.hub.unclaim(self.execution);
        }
    }

    /// Shows `output` steps, the last of them of a call below `upto`, and notes that once it has been done.
    pub(super) fn show(&self, output: &[Vec<u8>], upto: u64) {
        if output.is_empty() || self.broken.load(Ordering::SeqCst) {
            return;
        }
        if output.iter().any(|output| show(&*self.sink, self.execution, output).is_err()) {
            self.broken.store(true, Ordering::SeqCst);
            return;
        }
        self.shown.fetch_max(upto, Ordering::SeqCst);
        if self.notes {
            // Nobody waits for the note: without it the output is shown again.
            drop(self.hub.write(Write::Shown { execution: self.execution, upto: self.shown() }));
        }
    }
}
