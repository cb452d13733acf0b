//! What writes that were cut short have left in granted directories: taken away when nobody goes on with them.

use parole_capabilities::backends::files::unfinished;
use parole_durable::ExecutionId;
use parole_durable::store::ExecutionRecord;

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
        let first = setup.map(|setup| Setup::from_bytes(&setup)).transpose()?.map(|setup| setup.policy);
        let later = hub.grants(record.id)?.into_iter().map(|grant| self.stored_policy(&grant.policy));
        let mut policies = first.into_iter().map(Ok).chain(later).collect::<Result<Vec<_>, Error>>()?;
        policies.retain(|policy| policy.grants.get(unfinished::FUNCTION).is_some_and(|grant| !grant.dirs.is_empty()));
        if policies.is_empty() {
            return Ok(());
        }
        self.each_step(record.id, 0, |step| {
            if step.function == unfinished::FUNCTION && step.completion.is_none() {
                let key = record.secret.promise_id(unfinished::FUNCTION, record.id, step.number);
                policies.iter().for_each(|policy| unfinished::sweep(policy, &step.arguments, &key));
            }
        })
    }
}
