//! The promises that executions wait for: listed, answered, refused, canceled.

use std::sync::Arc;

use parole_capabilities::call::question::{self, Question};
use parole_capabilities::call::untyped;
use parole_durable::store::Claim;
use parole_durable::store::{Listing, PromiseFilter};
use parole_durable::{PromiseId, PromiseRecord, PromiseState, Value, Write, Written, promise};
use parole_policy::{Function, Kind, SecurityPolicy};
use serde::Serialize;

use crate::block_on::block_on;
use crate::error::Error;
use crate::report::Pending;
use crate::runtime::Runtime;
use crate::setup::Setup;

/// The longest answer, in bytes of JSON: it is kept in the store and handed to the guest in one piece.
pub const ANSWER_MAX: usize = 8 << 20;

/// See [`Runtime::promises`].
#[derive(Clone, Copy)]
pub struct Promises<'r>(pub(crate) &'r Runtime);

/// A promise as it is listed: its record, and what its tags say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The record.
    #[serde(flatten)]
    pub record: PromiseRecord,
    /// Its capability.
    pub capability: String,
    /// Its execution.
    pub execution: String,
    /// What workers have had to do with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Held>,
}

/// What workers have had to do with a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Whether one has taken it, and has not given it back.
    pub claimed: bool,
    /// How many attempts have failed.
    pub failed: u64,
    /// Whether it may or may not have been done: its worker has ended, and it must not be done twice. Nobody takes it
    /// any more: whoever knows what came of it settles the promise.
    pub doubt: bool,
}

impl Listed {
    pub(crate) fn of(record: PromiseRecord, claim: Option<&Claim>) -> Self {
        let capability = record.capability().to_owned();
        let execution = record.execution().map(|id| id.to_string()).unwrap_or_default();
        let work = claim.filter(|_| record.state == PromiseState::Pending).map(|claim| Held {
            claimed: claim.owner.is_some(),
            failed: claim.failed,
            doubt: claim.doubt,
        });
        Self { record, capability, execution, work }
    }

    /// Whether it may or may not have been done.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.doubt)
    }

    /// What it asks, in one line. Guest text: not inert.
    #[must_use]
    pub fn summary(&self) -> String {
        let summary = summary(&self.record);
        if self.is_in_doubt() {
            format!("{}: {summary} (its worker ended: it may or may not have happened)", question::DOUBT)
        } else {
            summary
        }
    }
}

/// What a settlement came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The promise as it stands now.
    pub promise: Listed,
    /// Whether it was this settlement that settled it.
    pub won: bool,
}

impl Runtime {
    /// The promises that executions wait for.
    #[must_use]
    pub fn promises(&self) -> Promises<'_> {
        Promises(self)
    }
}

impl Runtime {
    /// The policy of the execution that a promise is of, as it is now; none if the promise is of no execution.
    pub(crate) fn policy_of(&self, record: &PromiseRecord) -> Result<Option<Arc<SecurityPolicy>>, Error> {
        let Some(id) = record.execution() else { return Ok(None) };
        let gone = || Error::NotResumed(format!("damaged: the set-up of {id} is gone"));
        let execution = self.hub().execution(id)?.ok_or_else(gone)?;
        let setup = Setup::from_bytes(&self.hub().payload(&execution.setup)?.ok_or_else(gone)?, self.catalogue())?;
        self.policy_now(&execution, &setup.policy).map(Some)
    }
}

impl Promises<'_> {
    /// Promises in the order in which they were made, without those that are damaged.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn list(&self, filter: &PromiseFilter) -> Result<Vec<Listed>, Error> {
        Ok(self.list_all(filter)?.whole)
    }

    /// Promises in the order in which they were made, and beside them what cannot be read.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn list_all(&self, filter: &PromiseFilter) -> Result<Listing<Listed>, Error> {
        let Listing { whole, damaged } = self.0.hub().promises(filter)?;
        let claims = self.0.hub().claims()?;
        let of = |id: &PromiseId| claims.binary_search_by(|claim| claim.promise.cmp(id)).ok().map(|at| &claims[at]);
        let listed = |record: PromiseRecord| {
            let claim = of(&record.id);
            Listed::of(record, claim)
        };
        Ok(Listing { whole: whole.into_iter().map(listed).collect(), damaged })
    }

    /// One promise.
    ///
    /// # Errors
    /// [`Error::NoPromise`], [`Error::Store`].
    pub fn get(&self, id: &str) -> Result<Listed, Error> {
        block_on(self.look(id))
    }

    async fn look(&self, id: &str) -> Result<Listed, Error> {
        let record = self.0.hub().promise_async(&PromiseId::from(id)).await?;
        let record = record.ok_or_else(|| Error::NoPromise(id.into()))?;
        let claims = if record.tags.contains_key(promise::TAG_EFFECT) { self.0.hub().claims()? } else { Vec::new() };
        let claim = claims.iter().find(|claim| claim.promise == record.id);
        Ok(Listed::of(record, claim))
    }

    /// Settles a promise with a value: the JSON of the ok payload of its call. `by` says who did.
    ///
    /// # Errors
    /// [`Error::BadAnswer`] when the call cannot have such a value: the promise is still pending then.
    /// [`Error::NoPromise`], [`Error::Usage`] for one that nobody settles from outside, [`Error::Store`].
    pub async fn resolve(&self, id: &str, value: &serde_json::Value, by: &str) -> Result<Settled, Error> {
        let promise = self.look(id).await?;
        let data = value.to_string();
        if data.len() > ANSWER_MAX {
            let expected = format!("at most {ANSWER_MAX} bytes of JSON");
            return Err(Error::BadAnswer { id: promise.record.id, expected });
        }
        let bad = |expected| Error::BadAnswer { id: promise.record.id.clone(), expected };
        let entry = parole_capabilities::by_name(&promise.capability);
        if let Some(checked) = question::check(&promise.record, value, self.0.catalogue()) {
            checked.map_err(bad)?;
            return self.settle(id, PromiseState::Resolved, Some(data), by).await;
        }
        if let Some(function) = self.work(&promise.record)? {
            untyped::check(&function, value).map_err(bad)?;
            return self.settle(id, PromiseState::Resolved, Some(data), by).await;
        }
        match entry.filter(|entry| entry.definition.kind == Kind::Person).and_then(|entry| entry.definition.answer()) {
            Some(of) => of.check(value, "").map_err(|why| bad(format!("{why}, as in {}", of.example())))?,
            // As if its time had come.
            None if promise.record.is_timer() => {
                if !value.is_null() {
                    return Err(bad("a timer has no value: it is resolved with null, or without one".into()));
                }
                return self.settle(id, PromiseState::Resolved, None, by).await;
            }
            None => return Err(Error::Usage(format!("{id} is not settled from outside"))),
        }
        self.settle(id, PromiseState::Resolved, Some(data), by).await
    }

    /// The function of a promise that a worker answers, as the policy of its execution defines it.
    pub(crate) fn work(&self, record: &PromiseRecord) -> Result<Option<Function>, Error> {
        let Some(wit) = record.tags.get(promise::TAG_FUNCTION) else { return Ok(None) };
        let Some(policy) = self.0.policy_of(record)? else { return Ok(None) };
        let catalogue = policy.catalogue(self.0.catalogue());
        let definition = catalogue.by_name(record.capability());
        Ok(definition.and_then(|own| own.function(wit)).cloned())
    }

    /// Says no: the guest gets `denied` with the reason.
    ///
    /// # Errors
    /// As [`Promises::resolve`]; [`Error::Usage`] for a timer.
    pub async fn reject(&self, id: &str, reason: Option<&str>, by: &str) -> Result<Settled, Error> {
        let data = reason.map(|reason| serde_json::Value::from(reason).to_string());
        self.settle(id, PromiseState::Rejected, data, by).await
    }

    /// Takes the question back: the guest gets `canceled`.
    ///
    /// # Errors
    /// As [`Promises::resolve`].
    pub async fn cancel(&self, id: &str, by: &str) -> Result<Settled, Error> {
        self.settle(id, PromiseState::RejectedCanceled, None, by).await
    }

    async fn settle(&self, id: &str, state: PromiseState, data: Option<String>, by: &str) -> Result<Settled, Error> {
        if data.as_ref().is_some_and(|data| data.len() > ANSWER_MAX) {
            return Err(Error::Usage(format!("an answer has at most {ANSWER_MAX} bytes")));
        }
        let headers = [("parole:by".to_owned(), by.to_owned())].into();
        let write = Write::Settle {
            id: id.into(),
            state,
            value: Value { headers, data },
            claim: None,
            now: parole_durable::hub::now(),
        };
        match self.0.hub().write(write).await? {
            Written::Settled { record, won } => Ok(Settled { promise: Listed::of(*record, None), won }),
            other => Err(Error::Internal(format!("{other:?}"))),
        }
    }
}

/// What a promise asks, in one line.
fn summary(record: &PromiseRecord) -> String {
    if let Some(question) = Question::of(record) {
        return question.summary();
    }
    let arguments = record.param.data.as_deref().and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
    match (parole_capabilities::by_name(record.capability()), record.tags.get(promise::TAG_FUNCTION)) {
        (Some(entry), _) => entry.definition.line(&arguments),
        (None, Some(function)) => question::line(function, &arguments),
        (None, None) => String::new(),
    }
}

pub(crate) fn pending_of(record: &PromiseRecord) -> Pending {
    Pending {
        id: record.id.as_str().into(),
        capability: record.capability().into(),
        summary: summary(record),
        timeout_at: record.timeout_at,
    }
}
