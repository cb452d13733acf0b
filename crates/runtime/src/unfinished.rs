//! What writes that were cut short have left in granted directories: taken away when nobody goes on with them.

use std::sync::Arc;

use parole_capabilities::ALL;
use parole_durable::ExecutionId;
use parole_durable::store::ExecutionRecord;
use parole_policy::SecurityPolicy;

use crate::error::Error;
use crate::report::{Ending, Outcome};
use crate::runtime::Runtime;
use crate::setup::Setup;

impl Runtime {
    /// What an execution that was ended by others has left. It is over whatever comes of this.
    pub(crate) fn sweep(&self, id: ExecutionId) {
        if let Ok(Some(record)) = self.hub().execution(id) {
            self.sweep_or_say(&record);
        }
    }

    /// What ended executions have left: those that completed have nothing, because their last write did too.
    pub(crate) fn sweep_all(&self) {
        for record in self.hub().executions(true).map(|found| found.whole).unwrap_or_default() {
            let ending = record.outcome.as_deref().map(serde_json::from_str::<Ending>);
            if let Some(ending) = ending
                && !ending.is_ok_and(|ending| ending.outcome == Outcome::Completed)
            {
                self.sweep_or_say(&record);
            }
        }
    }

    fn sweep_or_say(&self, record: &ExecutionRecord) {
        if let Err(error) = self.sweep_of(record) {
            tracing::warn!(execution = %record.id, %error, "what its writes left could not be looked for");
        }
    }

    fn sweep_of(&self, record: &ExecutionRecord) -> Result<(), Error> {
        let hub = self.hub();
        let setup = hub.payload(&record.setup)?;
        let first =
            setup.map(|setup| Setup::from_bytes(&setup, self.catalogue())).transpose()?.map(|setup| setup.policy);
        let later = hub.grants(record.id)?.into_iter().map(|grant| self.stored_policy(&grant.policy).map(Arc::new));
        let policies = first.into_iter().map(Ok).chain(later).collect::<Result<Vec<_>, Error>>()?;
        let sweeping = ALL.iter().filter_map(|entry| Some((entry, entry.sweep?)));
        for (entry, sweep) in sweeping {
            let name = &*entry.definition.name;
            let granted =
                |policy: &&Arc<SecurityPolicy>| policy.grants.get(name).is_some_and(|grant| !grant.dirs.is_empty());
            let policies: Vec<_> = policies.iter().filter(granted).collect();
            if policies.is_empty() {
                continue;
            }
            self.each_step(record.id, 0, |step| {
                let is_its = entry.functions().any(|(function, _)| function == step.function);
                if is_its && step.completion.is_none() {
                    let key = record.secret.promise_id(name, record.id, step.number);
                    policies.iter().for_each(|policy| sweep(policy, &step.arguments, &key));
                }
            })?;
        }
        Ok(())
    }
}
