//! The one path of a call: begin → authorize ⇄ ask → admit → act or wait → conclude.
//!
//! A capability takes no part in it but by what its [`Function`] says. Cancel, pause, deadline and retry are here and
//! nowhere else.

use std::sync::Arc;

use parole_durable::hub::now;
use parole_durable::journal::Open;
use parole_durable::store::Lease;
use parole_durable::{EffectClass, PromiseId};
use parole_policy::{Facts as _, GrantEffect, Resource, Retry, Timeout};

use super::effect::{Answer as _, Attempt, Await, Effect, Failure, Form, Formless, Function, Unformed};
use super::execution::Execution;
use super::gate::{Gate, PermittedCall, was_begun};
use super::permit::{DecidedBy, GrantMatch, Permit, Scope, Terms};
use super::retry::Retries;
use super::state::Begin;
use super::{CallRequest, OUTPUT_DELAY};
use crate::error::Refused;
use crate::{Error, Stop};

/// Redirects that one attempt follows.
pub const REDIRECTS_MAX: u32 = 10;

/// A call as the guest makes it.
enum Begun<A> {
    Answered(Result<A, Error>),
    Open(Open),
}

/// A call that the host performs.
pub(crate) async fn act<E: Effect>(
    execution: &Execution,
    effect: E,
    args: E::Args,
) -> wasmtime::Result<Result<E::Answer, Error>> {
    let (slot, bytes) = (execution.slot::<E::Slot>(), effect.bytes(&args));
    let recorded = effect.recorded(&args);
    let answer = match begin(execution, &effect, effect.class(&args), &recorded)? {
        Begun::Answered(answer) => answer,
        Begun::Open(open) => perform((execution, &effect, &slot), open, args, &recorded).await?,
    };
    effect.count(&slot, bytes, &answer);
    Ok(answer)
}

/// A call that somebody else answers.
pub(crate) async fn ask<A: Await>(
    execution: &Execution,
    call: A,
    args: A::Args,
) -> wasmtime::Result<Result<A::Answer, Error>> {
    let recorded = call.recorded(&args);
    Ok(match begin(execution, &call, call.class(&args), &recorded)? {
        Begun::Answered(answer) => answer,
        Begun::Open(open) => wait(execution, &call, open, args, recorded).await?,
    })
}

/// Takes a call from the journal, or opens it. It never waits, so calls have the order in which the guest makes them.
fn begin<F: Function>(
    execution: &Execution,
    function: &F,
    class: EffectClass,
    recorded: &[u8],
) -> Result<Begun<F::Answer>, Stop> {
    let name = function.name();
    let (number, begun) = execution.with(|state| (state.journal().calls(), state.begin(name, class, recorded)));
    Ok(match begun? {
        Begin::Answered(answer) => Begun::Answered(decoded::<F>(answer, number)?),
        Begin::Open(open) => Begun::Open(open),
    })
}

/// What a recorded answer says. It was checked when it was recorded: what cannot be read was changed since.
fn decoded<F: Function>(answer: Result<Vec<u8>, Error>, number: u64) -> Result<Result<F::Answer, Error>, Stop> {
    match answer {
        Ok(bytes) => F::Answer::decode(bytes).map(Ok).ok_or(Stop::Unreadable(number)),
        Err(error) => Ok(Err(error)),
    }
}

type Formed<F> = Result<(Open, Result<<F as Function>::Form, Formless>), Result<<F as Function>::Answer, Error>>;

fn encoded<F: Function>(answer: &Result<F::Answer, Error>) -> Result<Vec<u8>, Error> {
    answer.as_ref().map(F::Answer::encode).map_err(Clone::clone)
}

/// The form of an open call. `Err`: it has ended with this.
fn formed<F: Function>(
    execution: &Execution,
    function: &F,
    open: Open,
    (args, slot): (F::Args, &F::Slot),
) -> Result<Formed<F>, Stop> {
    let looks = execution.with(|state| state.looks(function.definition()));
    match function.form(args, looks, slot) {
        Ok(form) => Ok(Ok((open, Ok(form)))),
        Err(Unformed::Denied(formless)) => Ok(Ok((open, Err(formless)))),
        Err(Unformed::Ended(answer)) => {
            execution.with(|state| state.finish(open, None, encoded::<F>(&answer)))?;
            Ok(Err(answer))
        }
    }
}

fn dynamic<F: Form>(form: &Result<F, Formless>) -> Result<&dyn Form, &Formless> {
    form.as_ref().map(|form| form as &dyn Form)
}

async fn perform<E: Effect>(
    (execution, effect, slot): (&Execution, &E, &E::Slot),
    open: Open,
    args: E::Args,
    recorded: &[u8],
) -> Result<Result<E::Answer, Error>, Stop> {
    let (open, form) = match formed(execution, effect, open, (args, slot))? {
        Ok(formed) => formed,
        Err(answer) => return Ok(answer),
    };
    let call = CallRequest::new(effect.definition(), effect.name(), dynamic(&form), recorded);
    let (number, leaves) = (open.number, E::LEAVES && was_begun(&open));
    let left = leaves.then(|| execution.with(|state| state.key(&open, &effect.definition().name)));
    let mut gate = match E::Scope::DECIDED_BY {
        DecidedBy::PolicyAndPersons => execution.authorize(open, &call).await?,
        DecidedBy::PolicyAlone => execution.recheck(open, &call).await?,
        DecidedBy::Nobody => execution.with(|state| state.unasked(open, effect.definition())),
    };
    loop {
        let permitted = match (gate, &form) {
            (Gate::Go(permitted), Ok(form)) => (permitted, form),
            (Gate::Go(permitted), Err(Formless { argument, denial })) => {
                let refused = Refused::of(effect.definition(), Some(argument.clone()), denial.clone());
                return Ok(Err(execution.with(|state| state.refuse(permitted.open, refused))?));
            }
            (Gate::Done(answer), form) => {
                if let (Some(key), Ok(form)) = (left, form) {
                    Box::pin(clear_up(execution, effect, &key, form)).await?;
                }
                return decoded::<E>(answer, number);
            }
        };
        match attempts((execution, effect, slot), permitted, &call).await? {
            Next::Ended(answer) => return Ok(answer),
            Next::Decided(next) => gate = next,
        }
    }
}

/// What comes after the attempts at a call.
enum Next<A> {
    Ended(Result<A, Error>),
    /// The grants had changed when it was to be taken on, and it was decided again.
    Decided(Gate),
}

/// Takes a call on and performs it, as often as the grant's `retry` allows, and records how it went.
async fn attempts<E: Effect>(
    (execution, effect, slot): (&Execution, &E, &E::Slot),
    (mut permitted, form): (PermittedCall, &E::Form),
    call: &CallRequest<'_>,
) -> Result<Next<E::Answer>, Stop> {
    let (granted, retry, timeout) = terms_of(&permitted);
    let found = permitted.found(form.resource());
    let reach = match E::Scope::reach(&found) {
        Ok(reach) => reach,
        Err(error) => return conclude::<E>(execution, permitted.open, Err(error)).await.map(Next::Ended),
    };
    if !permitted.is_admitted() {
        permitted.open.effect = effect.class_under(form, permitted.open.effect, &reach, granted);
    }
    let class = permitted.open.effect;
    let mut permit = Permit::<E::Scope>::new(reach, execution.terms(&permitted));
    if let Err(error) = effect.before(slot, &permit, form) {
        return conclude::<E>(execution, permitted.open, Err(error)).await.map(Next::Ended);
    }
    let is_admitted = E::Scope::DECIDED_BY == DecidedBy::PolicyAndPersons && class != EffectClass::Read;
    if is_admitted && !permitted.is_admitted() {
        permitted = match Box::pin(execution.admit(permitted, call)).await? {
            Ok(permitted) => permitted,
            Err(gate) => return Ok(Next::Decided(gate)),
        };
    }
    match E::Scope::DECIDED_BY {
        DecidedBy::PolicyAndPersons if E::OUTSIDE => execution.commit_creation().await?,
        DecidedBy::PolicyAndPersons => {}
        // What the guest acts upon is durable before the outside sees that it acts; and it may wait for long.
        DecidedBy::PolicyAlone | DecidedBy::Nobody => Box::pin(execution.commit(Lease::Keep)).await?,
    }
    let mut retries = Retries::of(retry.as_ref());
    let result = loop {
        permit.starts(timeout, E::LONGEST, !E::OUTSIDE && execution.with(|state| state.has_unshown()));
        let outcome = redirected((execution, effect, slot), (&permit, form), &mut permitted).await?;
        let again = match &outcome {
            Outcome::Later(_) => class != EffectClass::Once,
            Outcome::Failed(failure) => failure.may_repeat(class),
            Outcome::Done(_) | Outcome::Refused(_) => false,
        };
        match outcome {
            _ if again && retries.left() => {
                execution.with(|state| state.note_retry(&mut permitted.open, call, retries.attempt()));
                if is_admitted {
                    permitted = match Box::pin(execution.admit(permitted, call)).await? {
                        Ok(permitted) => permitted,
                        Err(gate) => return Ok(Next::Decided(gate)),
                    };
                }
                Box::pin(execution.back_off(&mut retries, &permitted.open)).await?;
            }
            Outcome::Done(answer) | Outcome::Later(answer) => break Ok(answer),
            Outcome::Failed(Failure::Lack(what)) => {
                return Err(Box::pin(execution.withdraw(&permitted.open, Stop::Lack(what))).await);
            }
            Outcome::Failed(Failure::Denied { reason, argument, remedy }) => {
                let capability = effect.definition().name.to_string();
                let refused = Refused { capability, argument, error: Error::Denied(reason), remedy };
                return Ok(Next::Ended(Err(execution.with(|state| state.refuse(permitted.open, refused))?)));
            }
            Outcome::Refused(refused) => {
                return Ok(Next::Ended(Err(execution.with(|state| state.refuse(permitted.open, refused))?)));
            }
            Outcome::Failed(failure) => break Err(failure.into_guest_error(class)),
        }
    };
    conclude::<E>(execution, permitted.open, result).await.map(Next::Ended)
}

fn terms_of(permitted: &PermittedCall) -> (GrantEffect, Option<Retry>, Timeout) {
    let timeout = permitted.policy.policy.timeout_of(&permitted.capability);
    permitted.grant().map_or((GrantEffect::Once, None, timeout), |grant| (grant.effect, grant.retry, timeout))
}

/// How one attempt went, with the redirects after it.
enum Outcome<A> {
    Done(A),
    Later(A),
    Failed(Failure),
    Refused(Refused),
}

/// One attempt, and where it leads: each redirect is decided like any call, on exactly what will be sent.
async fn redirected<E: Effect>(
    (execution, effect, slot): (&Execution, &E, &E::Slot),
    (first, form): (&Permit<E::Scope>, &E::Form),
    permitted: &mut PermittedCall,
) -> Result<Outcome<E::Answer>, Stop> {
    let mut hop: Option<(Permit<E::Scope>, E::Form)> = None;
    for redirects in 0..=REDIRECTS_MAX {
        let (permit, form) = hop.as_ref().map_or((first, form), |(permit, form)| (permit, form));
        let next = match attempt((execution, effect, slot), permit, form).await? {
            Attempt::Done(answer) => return Ok(Outcome::Done(answer)),
            Attempt::Later(answer) => return Ok(Outcome::Later(answer)),
            // What is repeated is the whole of it, so the first hop counts.
            Attempt::Failed(failure) if redirects > 0 => return Ok(Outcome::Failed(failure.after_something())),
            Attempt::Failed(failure) => return Ok(Outcome::Failed(failure)),
            Attempt::Redirect(next) => next,
        };
        if redirects == REDIRECTS_MAX {
            break;
        }
        let next = match next {
            Ok(next) => next,
            Err(Formless { argument, denial }) => {
                return Ok(Outcome::Refused(Refused::of(effect.definition(), Some(argument), denial)));
            }
        };
        let call = CallRequest::new(effect.definition(), effect.name(), Ok(&next), &[]);
        let entries = match Box::pin(execution.redirect(permitted, &call)).await {
            Ok(entries) => entries,
            Err(refused) => return Ok(Outcome::Refused(refused)),
        };
        let found = GrantMatch { entries, ..permitted.found(next.resource()) };
        match E::Scope::reach(&found) {
            Ok(reach) => hop = Some((permit.leading_to(reach), next)),
            Err(error) => return Ok(Outcome::Failed(error.into())),
        }
    }
    let text = format!("more than {REDIRECTS_MAX} redirects");
    Ok(Outcome::Failed(Failure::Failed { text, sent: true }))
}

async fn attempt<E: Effect>(
    (execution, effect, slot): (&Execution, &E, &E::Slot),
    permit: &Permit<E::Scope>,
    form: &E::Form,
) -> Result<Attempt<E::Answer, E::Form>, Stop> {
    let work = effect.act(permit, form, execution.outside(), slot);
    if E::OUTSIDE {
        return execution.unless_left(permit.class(), work).await;
    }
    if !permit.is_watched() {
        return Ok(work.await);
    }
    let mut work = Box::pin(work);
    match tokio::time::timeout(OUTPUT_DELAY, work.as_mut()).await {
        Ok(attempt) => Ok(attempt),
        Err(_) => {
            execution.show_meanwhile().await?;
            Ok(work.await)
        }
    }
}

async fn conclude<E: Effect>(
    execution: &Execution,
    open: Open,
    answer: Result<E::Answer, Error>,
) -> Result<Result<E::Answer, Error>, Stop> {
    let result = encoded::<E>(&answer);
    let answer = match (answer, &result) {
        (Ok(answer), Ok(recorded)) => Ok(answer.replayed(recorded)),
        (answer, _) => answer,
    };
    match E::Scope::DECIDED_BY {
        DecidedBy::PolicyAndPersons => execution.conclude(open, result).await?,
        // What dies with the process is never asked about.
        DecidedBy::PolicyAlone | DecidedBy::Nobody => execution.with(|state| state.finish(open, None, result))?,
    }
    Ok(answer)
}

/// What the first attempt of a call that is over may have left is nobody's any more, wherever the grants of that time
/// led.
async fn clear_up<E: Effect>(execution: &Execution, effect: &E, key: &PromiseId, form: &E::Form) -> Result<(), Stop> {
    let (capability, resource) = (effect.definition(), form.resource());
    for (policy, entries) in execution.with(|state| state.reached_so_far(effect.definition(), resource))? {
        if let Ok(reach) = E::Scope::reach(&GrantMatch { policy: &policy, capability, entries, resource }) {
            effect.clear_up(&reach, key).await;
        }
    }
    Ok(())
}

async fn wait<A: Await>(
    execution: &Execution,
    call: &A,
    open: Open,
    args: A::Args,
    recorded: Vec<u8>,
) -> Result<Result<A::Answer, Error>, Stop> {
    let number = open.number;
    let (open, form) = match formed(execution, call, open, (args, &()))? {
        Ok(formed) => formed,
        Err(answer) => return Ok(answer),
    };
    let request = CallRequest::new(call.definition(), call.name(), dynamic(&form), &recorded);
    let timer = || form.as_ref().map_or(Ok(None), |form| call.timer(form, now()));
    let (open, promise) = match execution.promise_for(open, &request, &recorded, timer).await? {
        Ok(promised) => promised,
        Err(answer) => return decoded::<A>(answer, number),
    };
    let answer = execution.answered(open, promise, call.definition(), |record| call.read(record)).await?;
    decoded::<A>(answer, number)
}

impl PermittedCall {
    fn found<'f>(&'f self, resource: Resource<'f>) -> GrantMatch<'f> {
        GrantMatch { policy: &self.policy, capability: &self.capability, entries: self.entries, resource }
    }
}

impl Execution {
    fn terms(&self, permitted: &PermittedCall) -> Terms {
        let (open, capability) = (&permitted.open, &permitted.capability);
        let key = (open.effect != EffectClass::Read).then(|| self.with(|state| state.key(open, &capability.name)));
        Terms::new(Arc::clone(&permitted.policy), Arc::clone(capability), open.effect, key)
    }
}
