//! Executions that fell the process that runs them.
//!
//! A guest can find a fault of the engine by which the whole process ends. Nothing of it is lost, for the journal is
//! durable, but whoever resumes it ends in the same way. So each such end is counted, until the execution comes
//! further; one that was the only one running at the third is set aside.

use std::collections::HashSet;

use parole_durable::hub::{WriteError, now};
use parole_durable::ids::OwnerId;
use parole_durable::store::PromiseFilter;
use parole_durable::{ExecutionId, Hub, PromiseRecord, Write, Written};

use crate::error::Error;
use crate::report::{Ending, Outcome};

/// An execution that has felled a process as often as this, the last time alone, is set aside.
pub const FELLED_MAX: u64 = 3;

/// An execution that was running in a process that fell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Felled {
    /// Which.
    pub execution: ExecutionId,
    /// How many processes have fallen with it since it last came further.
    pub times: u64,
    /// Whether it has ended with this, as trapped.
    pub set_aside: bool,
}

/// Notes that a process fell: `owner` is the id under which it held executions, and `how` says what ended it, such as
/// `SIGSEGV`. Each execution that was running in it gets a mark; one that only waited there has done nothing.
///
/// # Errors
/// [`Error::Store`].
pub async fn note(hub: &Hub, owner: OwnerId, how: &str) -> Result<Vec<Felled>, Error> {
    let filter = PromiseFilter { pending: true, ..PromiseFilter::default() };
    let waiting: HashSet<_> =
        hub.promises_async(&filter).await?.whole.iter().filter_map(PromiseRecord::execution).collect();
    let held = hub.executions(false)?.whole.into_iter().filter(|record| record.owner == Some(owner));
    let running: Vec<ExecutionId> = held.map(|record| record.id).filter(|id| !waiting.contains(id)).collect();
    let alone = running.len() == 1;
    let mut all = Vec::new();
    for execution in running {
        let times = match hub.write(Write::Fell { execution, owner }).await {
            Ok(Written::Felled(times)) => times,
            // Somebody has taken it up or canceled it meanwhile.
            Ok(_) | Err(WriteError::Refused(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let set_aside = alone && times >= FELLED_MAX && set_aside(hub, execution, times, how).await?;
        all.push(Felled { execution, times, set_aside });
    }
    Ok(all)
}

async fn set_aside(hub: &Hub, execution: ExecutionId, times: u64, how: &str) -> Result<bool, Error> {
    let error = format!(
        "it is set aside: it has felled the process that ran it {times} times without coming further, the last time by \
         {how}, when nothing else was running there"
    );
    let outcome = serde_json::to_string(&Ending::error(Outcome::Trapped, error))
        .map_err(|error| Error::Internal(error.to_string()))?;
    match hub.write(Write::Cancel { execution, outcome, now: now() }).await {
        Ok(_) => Ok(true),
        Err(WriteError::Refused(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
