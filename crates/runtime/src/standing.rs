//! What there is to do for a process that resumes whatever it can.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use parole_durable::ids::OwnerId;
use parole_durable::store::PromiseFilter;
use parole_durable::{ExecutionId, PromiseRecord};

use crate::error::Error;
use crate::runtime::Runtime;

/// How the executions stand that have not ended and wait for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Those that can go on.
    pub ready: Vec<ExecutionId>,
    /// Those that can go on, but were running in a process that fell (see [`crate::felled`]), and in how many: each is
    /// to be tried alone.
    pub suspects: Vec<(ExecutionId, u64)>,
    /// The processes, other than this one, that run some. When one of them ends what it ran is ready.
    pub holders: BTreeSet<OwnerId>,
    /// What is damaged, as far as these lists come upon it, each with its execution where that can be told: it is left
    /// as it is.
    pub damaged: BTreeSet<(Option<ExecutionId>, Arc<str>)>,
}

impl Runtime {
    /// How the executions stand that have not ended and wait for nothing.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn standing(&self) -> Result<Standing, Error> {
        let filter = PromiseFilter { pending: true, ..PromiseFilter::default() };
        let promises = self.hub().promises_async(&filter).await?;
        // What is seen to be damaged is not ready.
        let damaged = promises.damaged.iter().filter_map(|damaged| damaged.execution);
        let waiting: HashSet<_> = promises.whole.iter().filter_map(PromiseRecord::execution).chain(damaged).collect();
        let me = self.owner()?;
        let mut standing = Standing::default();
        let executions = self.hub().executions(false)?;
        let schedules = self.hub().schedule_listing()?;
        let damaged = promises.damaged.iter().chain(&executions.damaged).chain(&schedules.damaged);
        standing.damaged.extend(damaged.map(|damaged| (damaged.execution, damaged.what.clone())));
        for record in executions.whole {
            let held = self.hub().is_held(&record)?;
            match record.owner {
                // One that waits in the memory of another process is left there when that ends.
                Some(owner) if held && owner != me => drop(standing.holders.insert(owner)),
                _ if held || waiting.contains(&record.id) => {}
                _ if record.felled > 0 => standing.suspects.push((record.id, record.felled)),
                _ => standing.ready.push(record.id),
            }
        }
        Ok(standing)
    }

    /// The id under which this process holds executions. It holds none under another.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn owner(&self) -> Result<OwnerId, Error> {
        Ok(self.hub().owner()?)
    }

    /// Whether the process that holds executions under this id lives.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn is_alive(&self, owner: OwnerId) -> Result<bool, Error> {
        Ok(self.hub().is_alive(owner)?)
    }
}
