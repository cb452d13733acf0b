//! Grants that change while an execution runs or is parked: by generations, each a whole policy.

use std::sync::Arc;

use parole_durable::hub::now;
use parole_durable::store::{GrantRecord, Refusal};
use parole_durable::{Digest, ExecutionId, Write, Written};
use parole_policy::SecurityPolicy;

use crate::error::Error;
use crate::runtime::Runtime;
use crate::setup::Setup;

/// Somebody else may change the grants at the same time: as often as this it is tried again.
const TRIES: u32 = 16;

impl Runtime {
    /// The policy under which an execution would make its next call.
    ///
    /// # Errors
    /// [`Error::NoExecution`], [`Error::Store`].
    pub fn policy(&self, id: ExecutionId) -> Result<SecurityPolicy, Error> {
        let Some(record) = self.hub().execution(id)? else { return Err(Error::NoExecution(id)) };
        let setup = self.hub().payload(&record.setup)?;
        let setup = setup.ok_or_else(|| Error::NotResumed(format!("damaged: the set-up of {id} is gone")))?;
        self.policy_now(&record, &Setup::from_bytes(&setup, self.catalogue())?.policy).map(Arc::unwrap_or_clone)
    }

    /// Every change of the grants of an execution, in order.
    ///
    /// # Errors
    /// [`Error::NoExecution`], [`Error::Store`].
    pub fn grants(&self, id: ExecutionId) -> Result<Vec<GrantRecord>, Error> {
        if self.hub().execution(id)?.is_none() {
            return Err(Error::NoExecution(id));
        }
        Ok(self.hub().grants(id)?)
    }

    /// Changes what an execution may reach, whether it runs, here or elsewhere, or is parked. Its next call is
    /// decided under the new generation; a call that is under way completes. Gives the generation.
    ///
    /// `change` makes the new policy from the present one, and may be called again when somebody else changes the
    /// grants meanwhile. Level, block list, rules and limits stay as they were pinned. `what` and `by` are for the record.
    ///
    /// # Errors
    /// That of `change`; [`Error::Usage`] for a policy that changes what must stay, or grants what may not be
    /// granted; [`Error::NoExecution`]; [`Error::NotResumed`] when it has ended.
    pub async fn regrant(
        &self,
        id: ExecutionId,
        change: impl Fn(&SecurityPolicy) -> Result<SecurityPolicy, Error>,
        what: &str,
        by: &str,
    ) -> Result<u64, Error> {
        let mut tries = 0;
        loop {
            let Some(record) = self.hub().execution(id)? else { return Err(Error::NoExecution(id)) };
            let old = self.policy(id)?;
            let mut new = change(&old)?;
            new.resolve(self.catalogue()).map_err(|faults| Error::Usage(faults.join("; ")))?;
            if !scopes_only(&old, &new) {
                return Err(Error::Usage("a grant changes scopes; level, block list, rules and limits stay".into()));
            }
            self.pin(&mut new, Some(&old))?;
            let text = new.to_json().map_err(|error| Error::Internal(error.to_string()))?;
            let bytes: Arc<[u8]> = text.into_bytes().into();
            let write = Write::Grant {
                execution: id,
                generation: record.generation + 1,
                policy: (Digest::of(&bytes), bytes),
                by: by.to_owned(),
                change: what.to_owned(),
                now: now(),
            };
            tries += 1;
            match self.hub().write(write).await {
                Ok(Written::Granted(generation)) => return Ok(generation),
                Ok(other) => return Err(Error::Internal(format!("{other:?}"))),
                Err(parole_durable::hub::WriteError::Refused(Refusal::Stale { .. })) if tries < TRIES => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether two policies differ in nothing but what is granted and revoked.
fn scopes_only(old: &SecurityPolicy, new: &SecurityPolicy) -> bool {
    let mut same = new.clone();
    same.grants.clone_from(&old.grants);
    same.revoked.clone_from(&old.revoked);
    same == *old
}
