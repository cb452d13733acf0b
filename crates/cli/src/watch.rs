//! Whether another process has changed the store: one cheap question, asked often.

use std::path::Path;

use parole_durable::hub::now;
use parole_durable::ids::UnixMs;
use parole_durable::state_dir::StateDir;
use parole_durable::{Reader, sqlite};

use crate::fail::{Failure, Result};

/// A reader that remembers which version of the store it has seen.
pub struct Changes {
    reader: Box<dyn Reader>,
    version: Option<u64>,
    looked: UnixMs,
}

impl Changes {
    /// Watches the store of a state directory, which exists.
    pub fn of(state: &Path) -> Result<Self> {
        let reader = StateDir::open(state).and_then(|dir| sqlite::open_reader(&dir));
        let reader = reader.map_err(|error| Failure::from(parole_runtime::Error::Store(error)))?;
        Ok(Self { reader, version: None, looked: 0 })
    }

    /// Whether anything was committed since the last call, or `deadline` has come since then.
    pub fn seen(&mut self, deadline: Option<UnixMs>) -> bool {
        let (before, now) = (self.looked, now());
        self.looked = now;
        // A store that cannot be asked is looked at: then that says what is wrong.
        let version = self.reader.version().ok();
        let changed = version.is_none() || version != self.version;
        self.version = version;
        changed || deadline.is_some_and(|deadline| (before..=now).contains(&deadline))
    }

    /// When the next promise times out, if any is pending.
    pub fn next_deadline(&self) -> Option<UnixMs> {
        self.reader.next_deadline().ok().flatten()
    }
}
