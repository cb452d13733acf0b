//! Whether another process has changed the store: one cheap question, asked often.

use std::path::PathBuf;

use parole_durable::hub::now;
use parole_durable::ids::UnixMs;
use parole_durable::state_dir::StateDir;
use parole_durable::{PromiseId, PromiseState, Reader, sqlite};

/// A reader that remembers which version of the store it has seen. It is opened at the first question: most runs
/// never ask.
pub struct Changes {
    state: PathBuf,
    reader: Option<Box<dyn Reader>>,
    version: Option<u64>,
    looked: UnixMs,
}

impl Changes {
    /// Watches the store of a state directory.
    pub fn of(state: PathBuf) -> Self {
        Self { state, reader: None, version: None, looked: 0 }
    }

    /// A store that cannot be asked is looked at, and that says what is wrong.
    fn reader(&mut self) -> Option<&dyn Reader> {
        if self.reader.is_none() {
            self.reader = StateDir::open(&self.state).and_then(|dir| sqlite::open_reader(&dir)).ok();
        }
        self.reader.as_deref()
    }

    /// Whether anything was committed since the last call, or `deadline` has come since then.
    pub fn seen(&mut self, deadline: Option<UnixMs>) -> bool {
        let (before, now) = (self.looked, now());
        self.looked = now;
        let version = self.reader().and_then(|reader| reader.version().ok());
        let changed = version.is_none() || version != self.version;
        self.version = version;
        changed || deadline.is_some_and(|deadline| (before..=now).contains(&deadline))
    }

    /// Whether a promise is still to be settled. Nothing is written for that, so nobody's lock is waited for.
    pub fn is_pending(&mut self, id: &PromiseId) -> bool {
        let record = self.reader().and_then(|reader| reader.promise(id).ok().flatten());
        record.is_none_or(|record| record.state == PromiseState::Pending && record.timeout_at > now())
    }

    /// When the next promise times out, if any is pending.
    pub fn next_deadline(&mut self) -> Option<UnixMs> {
        self.reader()?.next_deadline().ok().flatten()
    }
}
