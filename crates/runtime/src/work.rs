//! Workers: who answers the promises of a capability that users define.
//!
//! A worker takes promises, one claim each, does the work, and settles under the claim. It settles and no more: executions
//! go on by being resumed. A claim is void once the process that holds it has ended; then somebody else takes the promise,
//! unless that must not be done twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::future::join_all;

pub use parole_capabilities::call::retry::pause_ms;
use parole_capabilities::call::untyped;
use parole_durable::hub::{WriteError, now};
use parole_durable::promise::TAG_EFFECT;
use parole_durable::store::{Claim, Release};
use parole_durable::store::{PromiseFilter, Refusal};
use parole_durable::{OwnerId, PromiseId, PromiseRecord, PromiseState, UnixMs, Value, Write, Written};
use parole_policy::{ErrorType, Retry};
use serde_json::Value as Json;

use crate::error::Error;
use crate::promises::{ANSWER_MAX, Listed};
use crate::report::{TEXT_MAX, cut};
use crate::runtime::Runtime;

/// A worker for the promises of one capability. Its claims are those of this process.
pub struct Worker {
    runtime: Runtime,
    capability: String,
    owner: OwnerId,
}

/// A promise that this worker has taken.
#[derive(Clone, Debug)]
pub struct Job {
    /// The promise.
    pub promise: Listed,
    /// The attempts at it that have failed so far.
    pub failed: u64,
    /// Whether doing it again means something else than doing it once.
    pub once: bool,
    /// How often it may be tried, as its policy says, and how long to wait in between.
    pub retry: Option<Retry>,
    fence: u64,
}

/// What there was to take.
#[derive(Debug, Default)]
pub struct Taken {
    /// What is this worker's now.
    pub jobs: Vec<Job>,
    /// What has become doubtful by it: its worker has ended, and it must not be done twice.
    pub doubts: Vec<Listed>,
    /// How many more are pending, in nobody's doubt: held by another worker, or not to be tried yet.
    pub waiting: usize,
    /// When one of those may be tried again.
    pub next: Option<UnixMs>,
    /// What cannot be worked on, and why: what it belongs to is damaged.
    pub damaged: Vec<(PromiseId, Error)>,
}

/// What a settlement came to.
#[derive(Debug)]
pub enum Settlement {
    /// It is settled by it.
    Done,
    /// It stands as it was settled before: answered by somebody else, canceled or expired.
    Stands(PromiseState),
    /// The claim is lost.
    Lost,
    /// The function has no such value: what was expected. The claim is still held.
    Unfit(String),
}

impl Runtime {
    /// A worker for a capability that users define: `acme:crm/customers@1.0.0`, or without the version.
    ///
    /// # Errors
    /// It is no name of an interface, or the owner of this process cannot be made.
    pub fn worker(&self, capability: &str) -> Result<Worker, Error> {
        if !capability.contains(':') {
            let message = format!(
                "`{capability}` is not answered by workers: expected an interface, such as acme:crm/customers@1.0.0"
            );
            return Err(Error::Usage(message));
        }
        Ok(Worker { owner: self.hub().owner()?, runtime: self.inside(), capability: capability.to_owned() })
    }
}

impl Worker {
    /// Takes at most `most` promises, the oldest first. A future that is dropped may leave promises with this process that
    /// nobody knows of.
    ///
    /// # Errors
    /// [`Error::Store`]: then nothing is taken.
    pub async fn take(&self, most: usize) -> Result<Taken, Error> {
        let mut taken = Taken::default();
        let Err(error) = self.take_into(&mut taken, most).await else { return Ok(taken) };
        for job in taken.jobs {
            // One that cannot be given back is void when this process ends.
            let _ = self.give_back(&job, Release::Later, 0).await;
        }
        Err(error)
    }

    async fn take_into(&self, taken: &mut Taken, most: usize) -> Result<(), Error> {
        let hub = self.runtime.hub();
        let capability = self.capability.contains('@').then(|| self.capability.clone());
        let filter = PromiseFilter { pending: true, capability, ..PromiseFilter::default() };
        let pending = hub.promises_async(&filter).await?.whole;
        let mut pending = pending.into_iter().filter(|record| self.answers(record)).peekable();
        if pending.peek().is_none() {
            return Ok(());
        }
        let claims: BTreeMap<PromiseId, Claim> =
            hub.claims()?.into_iter().map(|claim| (claim.promise.clone(), claim)).collect();
        let mut free = VecDeque::new();
        for record in pending {
            let claim = claims.get(&record.id);
            if claim.is_some_and(|claim| claim.doubt) {
                continue;
            }
            let void = match claim.and_then(|claim| claim.owner) {
                Some(holder) if holder == self.owner || hub.is_alive(holder)? => {
                    taken.waiting += 1;
                    continue;
                }
                holder => holder,
            };
            let not_before = claim.filter(|_| void.is_none()).map_or(0, |claim| claim.not_before);
            if not_before > now() {
                taken.waiting += 1;
                taken.next = taken.next.into_iter().chain([not_before]).min();
                continue;
            }
            free.push_back((record, void));
        }
        // Those that are taken at once share a commit.
        while taken.jobs.len() < most && !free.is_empty() {
            let room = free.len().min(most - taken.jobs.len());
            let mut wanted = Vec::new();
            for (record, void) in free.drain(..room) {
                match self.retry(&record) {
                    Ok(retry) => wanted.push((record, void, retry)),
                    Err(error @ Error::Store(_)) => return Err(error),
                    Err(error) => taken.damaged.push((record.id, error)),
                }
            }
            let claims = join_all(wanted.iter().map(|(record, void, _)| self.take_one(record, *void))).await;
            let mut failed = None;
            for ((record, _, retry), claim) in wanted.into_iter().zip(claims) {
                match claim {
                    Ok(Some(claim)) if claim.doubt => taken.doubts.push(Listed::of(record, Some(&claim))),
                    Ok(Some(claim)) => taken.jobs.push(job(record, &claim, retry)),
                    Ok(None) => taken.waiting += 1,
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        taken.waiting += free.len();
        Ok(())
    }

    /// Interfaces whose calls wait for workers, where none of them is this worker's: perhaps its name is misspelt.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn others(&self) -> Result<Vec<String>, Error> {
        let filter = PromiseFilter { pending: true, ..PromiseFilter::default() };
        let mut all = self.runtime.hub().promises_async(&filter).await?.whole;
        all.retain(|record| record.tags.contains_key(TAG_EFFECT));
        let names: BTreeSet<&str> = all.iter().map(PromiseRecord::capability).collect();
        let own = all.iter().any(|record| self.answers(record));
        Ok(if own { Vec::new() } else { names.into_iter().map(str::to_owned).collect() })
    }

    fn answers(&self, record: &PromiseRecord) -> bool {
        let name = record.capability();
        let versioned = || name.strip_prefix(&self.capability).is_some_and(|rest| rest.starts_with('@'));
        record.tags.contains_key(TAG_EFFECT) && (name == self.capability || versioned())
    }

    /// The claim; none if somebody else was faster.
    async fn take_one(&self, record: &PromiseRecord, void: Option<OwnerId>) -> Result<Option<Claim>, Error> {
        let write = Write::Take { id: record.id.clone(), owner: self.owner, void, now: now() };
        match self.runtime.hub().write(write).await {
            Ok(Written::Taken(claim)) => Ok(Some(*claim)),
            Ok(other) => Err(Error::Internal(format!("{other:?}"))),
            Err(WriteError::Refused(_)) => Ok(None),
            Err(WriteError::Store(error)) => Err(Error::Store(error)),
        }
    }

    fn retry(&self, record: &PromiseRecord) -> Result<Option<Retry>, Error> {
        Ok(self.runtime.policy_of(record)?.and_then(|policy| policy.grants.get(record.capability())?.retry))
    }

    /// Answers with JSON text: the ok value of the function.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn resolve(&self, job: &Job, answer: &str, by: &str) -> Result<Settlement, Error> {
        if answer.len() > ANSWER_MAX {
            return Ok(Settlement::Unfit(format!("at most {ANSWER_MAX} bytes of JSON")));
        }
        let value: Json = match serde_json::from_str(answer) {
            Ok(value) => value,
            Err(error) => return Ok(Settlement::Unfit(format!("JSON: {error}"))),
        };
        let function = self.runtime.promises().work(&job.promise.record)?;
        let Some(function) = function else {
            return Ok(Settlement::Unfit("a function that its policy defines".to_owned()));
        };
        if let Err(expected) = untyped::check(&function, &value) {
            return Ok(Settlement::Unfit(expected));
        }
        self.settle(job, PromiseState::Resolved, Some(value.to_string()), by).await
    }

    /// Says no, with a reason for the guest: JSON of the error of the function, where it has one, or text.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn reject(&self, job: &Job, reason: &str, by: &str) -> Result<Settlement, Error> {
        let own = serde_json::from_str::<Json>(reason).ok();
        let function = self.runtime.promises().work(&job.promise.record)?;
        let fits = |value: &Json| match function.as_ref().map(|own| &own.error) {
            Some(ErrorType::Own(Some(of))) => of.check(value, "").is_ok(),
            _ => false,
        };
        let data = own.filter(fits).unwrap_or_else(|| Json::from(cut(reason, TEXT_MAX))).to_string();
        self.settle(job, PromiseState::Rejected, Some(data), by).await
    }

    async fn settle(
        &self,
        job: &Job,
        state: PromiseState,
        data: Option<String>,
        by: &str,
    ) -> Result<Settlement, Error> {
        let headers = [("parole:by".to_owned(), by.to_owned())].into();
        let (id, claim) = (job.promise.record.id.clone(), Some((self.owner, job.fence)));
        let write = Write::Settle { id, state, value: Value { headers, data }, claim, now: now() };
        match self.runtime.hub().write(write).await {
            Ok(Written::Settled { won: true, .. }) => Ok(Settlement::Done),
            Ok(Written::Settled { record, .. }) => Ok(Settlement::Stands(record.state)),
            Ok(other) => Err(Error::Internal(format!("{other:?}"))),
            Err(WriteError::Refused(Refusal::Claimed(_) | Refusal::NoPromise(_))) => Ok(Settlement::Lost),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives it back: it is tried again, by whom it may be, but not before that time.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn give_back(&self, job: &Job, how: Release, not_before: UnixMs) -> Result<(), Error> {
        let (id, claim) = (job.promise.record.id.clone(), (self.owner, job.fence));
        match self.runtime.hub().write(Write::Release { id, claim, how, not_before }).await {
            // Whoever has it now does with it what is to be done.
            Ok(_) | Err(WriteError::Refused(_)) => Ok(()),
            Err(WriteError::Store(error)) => Err(Error::Store(error)),
        }
    }
}

fn job(record: PromiseRecord, claim: &Claim, retry: Option<Retry>) -> Job {
    let once = record.tags.get(TAG_EFFECT).is_some_and(|effect| effect == "once");
    let (failed, fence) = (claim.failed, claim.fence);
    Job { promise: Listed::of(record, Some(claim)), failed, once, retry, fence }
}
