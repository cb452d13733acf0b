//! Under which policy the next call of an execution is decided.
//!
//! That is asked at each call, and a grant by any process must be seen by the first call after it was
//! acknowledged. So each answer asks the store whether anybody has committed since the last one; that is
//! one number from shared memory. If so one more number says whether any of it was a grant, for all
//! executions of this process together; only then the rows are read.

use std::sync::Mutex;

use super::{Backend, Hub, lock};
use crate::ids::ExecutionId;
use crate::store::{Reader, StoreError};

/// What an execution has seen of its grants: kept between two calls of [`Hub::generation`] of the same hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    execution: Option<ExecutionId>,
    epoch: u64,
    generation: u64,
}

/// The eyes of all executions of a process, and what they have seen.
#[derive(Default)]
pub(super) struct Grants(Mutex<Eyes>);

#[derive(Default)]
struct Eyes {
    /// Always the same one: versions of two cannot be compared.
    reader: Option<Box<dyn Reader>>,
    version: Option<u64>,
    granted: Option<u64>,
    /// One more whenever some execution may have another generation; never 0 once it has been looked at.
    epoch: u64,
}

impl Eyes {
    fn look(&mut self, backend: &dyn Backend, id: ExecutionId, seen: &mut Seen) -> Result<u64, StoreError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            empty => {
                (self.version, self.granted) = (None, None);
                empty.insert(backend.open_reader()?)
            }
        };
        // Before the rest, so that what is committed in between is read twice and not missed.
        let version = reader.version()?;
        if self.version != Some(version) {
            let granted = reader.granted()?;
            if self.granted != Some(granted) {
                self.granted = Some(granted);
                self.epoch += 1;
            }
            self.version = Some(version);
        }
        if seen.epoch != self.epoch || seen.execution != Some(id) {
            // An execution that has not committed yet has no row, and nobody can have granted it anything.
            let generation = reader.execution(id)?.map_or(0, |record| record.generation);
            *seen = Seen { execution: Some(id), epoch: self.epoch, generation };
        }
        Ok(seen.generation)
    }
}

impl Hub {
    /// The generation of an execution: under which policy its next call is decided. Sees every grant that was
    /// acknowledged before, in any process; it costs a few microseconds when there was none since `seen`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn generation(&self, id: ExecutionId, seen: &mut Seen) -> Result<u64, StoreError> {
        let shared = &self.0.shared;
        let mut eyes = lock(&shared.grants.0);
        let answer = eyes.look(shared.backend.as_ref(), id, seen);
        if answer.is_err() {
            eyes.reader = None;
        }
        answer
    }
}
