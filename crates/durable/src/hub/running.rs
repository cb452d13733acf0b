//! Which executions this process runs. What it holds and does not run is free: whatever became of an attempt, its
//! guard is gone, and the next one may take the execution, here too.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use super::{Hub, WriteError, lock};
use crate::ids::{ExecutionId, Fence};
use crate::store::{Refusal, StoreError, Write, Written};

/// The executions that a process runs.
pub(super) type Set = Arc<Mutex<HashSet<ExecutionId>>>;

/// Says that this process runs an execution, or shows what is left of its output, for as long as this value lives.
#[derive(Debug)]
#[must_use = "the execution is free again when this is dropped"]
pub struct Running {
    set: Set,
    id: ExecutionId,
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.set).remove(&self.id);
    }
}

/// An execution that this process has taken.
#[derive(Debug)]
#[must_use = "the execution is free again when this is dropped"]
pub struct Acquired {
    /// Under which fence.
    pub fence: Fence,
    /// Kept while it is run.
    pub running: Running,
}

impl Hub {
    /// Begins to run an execution here; `None` if that is being done already.
    pub fn run(&self, id: ExecutionId) -> Option<Running> {
        let set = &self.0.shared.running;
        let new = lock(set).insert(id);
        new.then(|| Running { set: set.clone(), id })
    }

    /// Takes an execution for this process: one that a dead process holds, and one that this process holds and does
    /// not run. Blocks for one commit.
    ///
    /// # Errors
    /// [`Refusal::Held`] by a process that lives, or run by this one, [`Refusal::Ended`],
    /// [`Refusal::NoExecution`], or the store failed.
    pub fn acquire(&self, id: ExecutionId) -> Result<Acquired, WriteError> {
        super::future::block_on(self.acquire_async(id))
    }

    /// [`Hub::acquire`] for async callers: many at once share a commit.
    ///
    /// # Errors
    /// As for [`Hub::acquire`].
    pub async fn acquire_async(&self, id: ExecutionId) -> Result<Acquired, WriteError> {
        let running = self.run(id).ok_or(Refusal::Held(id))?;
        let owner = self.owner()?;
        let void = match self.execution(id)?.ok_or(Refusal::NoExecution(id))?.owner {
            Some(holder) if holder != owner && self.0.shared.backend.owners()?.is_alive(holder)? => {
                return Err(Refusal::Held(id).into());
            }
            holder => holder,
        };
        match self.write(Write::Acquire { execution: id, owner, void }).await? {
            Written::Acquired(fence) => Ok(Acquired { fence, running }),
            _ => Err(StoreError::Closed.into()),
        }
    }

    /// Takes over the showing of the last output of an execution that has ended. `None`: somebody who lives is about
    /// to show it, or has. What is still to be shown is read after this, and noted as shown before the guard goes.
    ///
    /// # Errors
    /// [`Refusal::NoExecution`], [`Refusal::NotEnded`], or the store failed.
    pub async fn claim(&self, id: ExecutionId) -> Result<Option<Running>, WriteError> {
        let Some(running) = self.run(id) else { return Ok(None) };
        let owner = self.owner()?;
        let void = match self.execution(id)?.ok_or(Refusal::NoExecution(id))?.showing {
            Some(holder) if holder != owner && self.0.shared.backend.owners()?.is_alive(holder)? => return Ok(None),
            holder => holder,
        };
        match self.write(Write::Claim { execution: id, owner: Some(owner), void }).await {
            Ok(_) => Ok(Some(running)),
            Err(WriteError::Refused(Refusal::Held(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Leaves the last output of an execution to whoever comes upon it: this process could not show it. Nobody waits for
    /// that; until it is durable others leave it to this process.
    pub fn unclaim(&self, id: ExecutionId) {
        if let Ok(owner) = self.owner() {
            drop(self.write(Write::Claim { execution: id, owner: None, void: Some(owner) }));
        }
    }
}
