//! The one gate before every effect: decide, perhaps ask a person, clear up what is in doubt.
//!
//! A call comes here open and goes on with a [`PermittedCall`], or has its answer already. Everything that
//! was decided on the way is noted in its step, so that a replay never asks again.
//!
//! The journal has the arguments as the guest spelt them. Everything here is about their one form ([`CallRequest`]): what is
//! decided, judged, asked, approved and noted is what will be acted on.

use std::sync::Arc;

use parole_durable::hub::now;
use parole_durable::journal::Open;
use parole_durable::store::{Admission, Lease};
use parole_durable::{Digest, EffectClass, PromiseId, Stage};
use parole_policy::{Definition, Denial, Grant, Kind, Permit, Resource, Timeout, Verdict, decide, reach};

use super::{CallRequest, Execution, State};
use crate::call::audit::{self, AuditEvent, Note};
use crate::call::opened::OpenedPolicy;
use crate::error::Refused;
use crate::{Error, Stop};

/// As many generations of grants before the present one are looked at for what a call may have left.
const GENERATIONS_MAX: usize = 64;

/// What came of a call at the gate.
pub(crate) enum Gate {
    /// It may be performed.
    Go(PermittedCall),
    /// It has its answer, which is recorded.
    Done(Result<Vec<u8>, Error>),
}

/// Leave to perform a call, under the scope by which it was decided.
pub(crate) struct PermittedCall {
    pub(crate) open: Open,
    pub(crate) capability: Arc<Definition>,
    /// The grants under which it was decided, and their generation.
    pub(crate) policy: Arc<OpenedPolicy>,
    pub(crate) generation: u64,
    pub(crate) entries: GrantEntries,
    /// Whether a person has allowed this very call.
    pub(crate) approved: bool,
}

/// Which entries of a grant a call goes by.
#[derive(Clone, Copy)]
pub(crate) struct GrantEntries {
    /// The granted directory: an index.
    pub(crate) dir: Option<usize>,
    /// The granted origin: an index.
    pub(crate) origin: Option<usize>,
    /// Whether a database of that name is granted.
    pub(super) is_named: bool,
    /// The length of what the path has below that directory: its last bytes.
    below: usize,
}

impl GrantEntries {
    const NOTHING: Self = Self { dir: None, origin: None, is_named: false, below: 0 };

    pub(super) fn of(permit: &Permit<'_>) -> Self {
        Self {
            dir: permit.dir,
            origin: permit.origin,
            is_named: permit.database.is_some(),
            below: permit.relative.len(),
        }
    }

    /// The part of a granted path that is below its directory.
    pub(super) fn below<'p>(&self, path: &'p str) -> &'p str {
        path.get(path.len().saturating_sub(self.below)..).unwrap_or_default()
    }
}

impl PermittedCall {
    /// The grant of its capability.
    pub(super) fn grant(&self) -> Option<&Grant> {
        self.policy.policy.grants.get(&*self.capability.name)
    }

    /// Whether it was admitted, durably, when its approval was used.
    pub(super) fn is_admitted(&self) -> bool {
        self.approved && self.capability.kind == Kind::Host
    }
}

/// What was heard from a person.
pub(super) enum DecisionOutcome {
    /// No question was open.
    Nothing,
    Yes,
    Ended(Result<Vec<u8>, Error>),
}

/// What a decision leads to.
enum Decided {
    Go(PermittedCall),
    /// A person is asked, by this promise.
    Asked(Open, PromiseId),
    Done(Result<Vec<u8>, Error>),
}

/// A verdict without its borrow of the policy; the texts name the rule.
enum Ruling {
    Go(GrantEntries, Option<String>),
    Ask(GrantEntries, String, Option<Timeout>),
    No(Refused, Option<String>),
}

impl Execution {
    /// Takes an open call up to where it may be performed.
    pub(super) async fn authorize(&self, open: Open, call: &CallRequest<'_>) -> Result<Gate, Stop> {
        match self.with(|state| state.decide_at_once(open, call))? {
            Ok(gate) => Ok(gate),
            // Boxed, as all that most calls never come to: a call is as large as the largest thing that it waits for.
            Err(open) => Box::pin(self.authorize_in_turn(open, call)).await,
        }
    }

    /// The same for a call that may have to wait for it.
    async fn authorize_in_turn(&self, mut open: Open, call: &CallRequest<'_>) -> Result<Gate, Stop> {
        // What a person allowed for the whole execution holds, whatever became of its first use.
        self.with(|state| state.remember(open.function(), &open.notes, &call.arguments));
        let heard = match open.earlier.as_ref().map(|earlier| (earlier.stage, earlier.promise.clone())) {
            Some((Stage::Asked, Some(id))) => self.await_decision(&mut open, call, &id).await?,
            Some((Stage::InDoubt, Some(id))) => self.resolve_doubt(&mut open, call, &id).await?,
            Some((Stage::Admitted, _)) if open.effect == EffectClass::Once => {
                let id = self.with(|state| state.doubt(&mut open, call))?;
                self.resolve_doubt(&mut open, call, &id).await?
            }
            _ => DecisionOutcome::Nothing,
        };
        match heard {
            DecisionOutcome::Ended(result) => self.with(|state| state.settle(open, call, result)).map(Gate::Done),
            DecisionOutcome::Yes => self.decided(open, call, true).await,
            DecisionOutcome::Nothing => self.decided(open, call, false).await,
        }
    }

    /// Decides a call, as often as it takes: `approved`, a person has allowed it once.
    pub(super) async fn decided(
        &self,
        mut open: Open,
        call: &CallRequest<'_>,
        mut approved: bool,
    ) -> Result<Gate, Stop> {
        loop {
            let (policy, generation) = self.with(State::grants)?;
            let ruling = self.ruling(&policy, generation, call).await;
            match self.with(|state| state.decide(open, call, (policy, generation, ruling), approved))? {
                Decided::Done(answer) => return Ok(Gate::Done(answer)),
                Decided::Asked(asked, id) => {
                    open = asked;
                    match self.await_decision(&mut open, call, &id).await? {
                        DecisionOutcome::Ended(result) => {
                            return self.with(|state| state.settle(open, call, result)).map(Gate::Done);
                        }
                        // Decided again: scope, checks and rules may be others by now.
                        DecisionOutcome::Yes | DecisionOutcome::Nothing => approved = true,
                    }
                }
                Decided::Go(mut permitted) => {
                    if permitted.is_admitted() {
                        // Using the approval and taking the call on are one commit; after it the call is never
                        // repeated in silence.
                        permitted.open.effect = EffectClass::Once;
                        if !self.admitted(&permitted).await? {
                            (open, approved) = (permitted.open, true);
                            continue;
                        }
                    }
                    return Ok(Gate::Go(permitted));
                }
            }
        }
    }

    /// DecidedBy the policy, then the checks in Rust, about the values that will be acted on. Checks may block: they are asked
    /// on a thread for that.
    async fn ruling(&self, policy: &Arc<OpenedPolicy>, generation: u64, call: &CallRequest<'_>) -> Ruling {
        let ruling = ruling_of(policy, generation, call);
        let capability = &call.definition.name;
        if matches!(ruling, Ruling::No(..)) || !policy.is_judged(capability) {
            return ruling;
        }
        let (policy, id, arguments) = (Arc::clone(policy), self.id(), call.arguments.to_vec());
        let name = Arc::clone(capability);
        let judged = tokio::task::spawn_blocking(move || policy.judge(id, &name, || arguments.clone()));
        match judged.await {
            Ok(None) => ruling,
            Ok(Some((refused, validator))) => {
                Ruling::No(Refused { argument: call.argument(), ..refused }, Some(validator))
            }
            Err(_) => {
                let error = Error::Denied("the host could not ask its checks".into());
                let remedy = "none: it is a fault of this host".into();
                Ruling::No(
                    Refused { capability: capability.to_string(), argument: call.argument(), error, remedy },
                    None,
                )
            }
        }
    }

    /// Decides a call on something that an earlier call was allowed to open: without a person, and without
    /// the rules that want one.
    pub(super) async fn recheck(&self, open: Open, call: &CallRequest<'_>) -> Result<Gate, Stop> {
        let (policy, generation) = self.with(State::grants)?;
        let ruling = self.ruling(&policy, generation, call).await;
        self.with(|state| state.rechecked(open, call, (policy, generation, ruling)))
    }

    /// Decides where a redirect leads, under the grants of the call. Nobody is asked for it.
    pub(super) async fn redirect(
        &self,
        permitted: &mut PermittedCall,
        call: &CallRequest<'_>,
    ) -> Result<GrantEntries, Refused> {
        let ruling = self.ruling(&permitted.policy, permitted.generation, call).await;
        self.with(|state| state.redirected(permitted, call, ruling))
    }

    /// Waits for the decision about a call.
    async fn await_decision(
        &self,
        open: &mut Open,
        call: &CallRequest<'_>,
        id: &PromiseId,
    ) -> Result<DecisionOutcome, Stop> {
        let record = self.wait(id, false).await?;
        self.with(|state| state.take_decision(open, call, &record))
    }

    /// Waits for a person to say what came of a call.
    async fn resolve_doubt(
        &self,
        open: &mut Open,
        call: &CallRequest<'_>,
        id: &PromiseId,
    ) -> Result<DecisionOutcome, Stop> {
        let record = self.wait(id, false).await?;
        self.with(|state| state.take_fate(open, call, &record))
    }

    /// Records that an effect is about to happen, and makes that durable with all that came before. Where the grants
    /// have changed since the call was decided it is decided again: what came of that is the error.
    pub(super) async fn admit(
        &self,
        permitted: PermittedCall,
        call: &CallRequest<'_>,
    ) -> Result<Result<PermittedCall, Gate>, Stop> {
        if self.admitted(&permitted).await? {
            return Ok(Ok(permitted));
        }
        self.decided(permitted.open, call, false).await.map(Err)
    }

    /// Whether it is durable that a call is taken on, under the generation by which it was decided.
    async fn admitted(&self, PermittedCall { open, generation, .. }: &PermittedCall) -> Result<bool, Stop> {
        self.with(|state| state.config.journal.record(open, Stage::Admitted, None, None, now()))?;
        self.commit_admission(Admission { step: open.number, generation: *generation }).await
    }

    /// Leaves a call of which nothing has happened, and gives why: it is recorded as one that was not taken on, so
    /// that nobody is asked what came of it. One that may be repeated, and may have happened at an earlier attempt, stays
    /// taken on.
    pub(super) async fn withdraw(&self, open: &Open, why: Stop) -> Stop {
        let stays = open.effect == EffectClass::Idempotent && was_begun(open);
        if open.effect == EffectClass::Read || stays {
            return why;
        }
        // A person who allowed this very call is heard again, not asked again.
        let asked = audit::notes(&open.notes).into_iter().rev().find(|note| note.verdict == AuditEvent::Ask);
        let approval = asked.and_then(|note| note.promise).map(|id| PromiseId::from(id.as_str()));
        let recorded = self.with(|state| state.config.journal.record(open, Stage::Asked, None, approval, now()));
        match recorded.map_err(Stop::from) {
            Ok(()) => self.commit(Lease::Keep).await.err().unwrap_or(why),
            Err(stop) => stop,
        }
    }
}

impl State {
    /// What it may reach now, and the generation of that.
    pub(super) fn grants(&mut self) -> Result<(Arc<OpenedPolicy>, u64), Stop> {
        let policy = self.current_scope()?;
        Ok((policy, self.generation))
    }

    /// Decides a call about which nothing has to be waited for: it was not begun before, no check in Rust has a say, and
    /// nobody is asked. `Err`: it is not such a call.
    fn decide_at_once(&mut self, open: Open, call: &CallRequest<'_>) -> Result<Result<Gate, Open>, Stop> {
        if open.earlier.is_some() {
            return Ok(Err(open));
        }
        let (policy, generation) = self.grants()?;
        if policy.is_judged(&call.definition.name) {
            return Ok(Err(open));
        }
        let ruling = ruling_of(&policy, generation, call);
        if matches!(ruling, Ruling::Ask(..)) {
            return Ok(Err(open));
        }
        Ok(match self.decide(open, call, (policy, generation, ruling), false)? {
            Decided::Go(permitted) => Ok(Gate::Go(permitted)),
            Decided::Done(answer) => Ok(Gate::Done(answer)),
            Decided::Asked(open, _) => Err(open),
        })
    }

    /// Takes up what was ruled about a call, and notes what was decided.
    fn decide(
        &mut self,
        mut open: Open,
        call: &CallRequest<'_>,
        (policy, generation, ruling): (Arc<OpenedPolicy>, u64, Ruling),
        mut approved: bool,
    ) -> Result<Decided, Stop> {
        let (entries, rule) = match ruling {
            Ruling::No(mut refused, rule) => {
                if was_begun(&open) && matches!(open.effect, EffectClass::Idempotent | EffectClass::Once) {
                    self.note(&mut open, call, self.verdict(AuditEvent::Doubt));
                    if let Error::Denied(reason) = &mut refused.error {
                        reason.push_str("; it had been begun before, and may have happened");
                    }
                }
                self.note(&mut open, call, Note { rule, ..self.verdict_under(generation, AuditEvent::Deny) });
                return Ok(Decided::Done(Err(self.refuse(open, refused)?)));
            }
            Ruling::Go(entries, rule) => (entries, rule),
            Ruling::Ask(entries, rule, timeout) => {
                approved = approved || self.is_preapproved(&rule, call);
                if !approved {
                    let asked = match self.refusals.of(&rule, || call.digest()) {
                        Some(promise) => Err(self.refused_before(&mut open, call, rule, promise)?),
                        None => self.ask(&mut open, call, &rule, timeout)?,
                    };
                    return match asked {
                        Ok(id) => Ok(Decided::Asked(open, id)),
                        Err(error) => self.settle(open, call, Err(error)).map(Decided::Done),
                    };
                }
                (entries, Some(rule))
            }
        };
        self.note(&mut open, call, Note { rule, ..self.verdict_under(generation, AuditEvent::Allow) });
        Ok(Decided::Go(PermittedCall {
            open,
            capability: Arc::clone(call.definition),
            policy,
            generation,
            entries,
            approved,
        }))
    }

    /// Where a call leads now, and where it might before, the newest first: for what is left of one that is over.
    pub(super) fn reached_so_far(
        &mut self,
        definition: &Definition,
        resource: Resource<'_>,
    ) -> Result<Vec<(Arc<OpenedPolicy>, GrantEntries)>, Stop> {
        let policy = self.current_scope()?;
        let earlier = (0..self.generation).rev().take(GENERATIONS_MAX);
        let earlier: Vec<_> =
            earlier.filter_map(|generation| (self.config.rescope)(generation, &policy).ok()).collect();
        let all = std::iter::once(policy).chain(earlier);
        Ok(all
            .filter_map(|policy| {
                let entries = GrantEntries::of(&reach(&policy.policy, definition, resource)?);
                Some((policy, entries))
            })
            .collect())
    }

    /// Ends a call that was never performed, or of which a person told the end.
    fn settle(
        &mut self,
        open: Open,
        call: &CallRequest<'_>,
        result: Result<Vec<u8>, Error>,
    ) -> Result<Result<Vec<u8>, Error>, Stop> {
        if let Err(error @ Error::Denied(_)) = &result {
            let (capability, argument) = (call.definition.name.to_string(), call.argument());
            let remedy = "run it again, and allow the call when you are asked".to_owned();
            let refused = Refused { capability, argument, error: error.clone(), remedy };
            return Ok(Err(self.refuse(open, refused)?));
        }
        self.finish(open, None, result.clone())?;
        Ok(result)
    }

    fn is_preapproved(&self, rule: &str, call: &CallRequest<'_>) -> bool {
        !self.approvals.is_empty() && self.approvals.contains(&(rule.to_owned(), call.digest()))
    }

    pub(super) fn verdict(&self, verdict: AuditEvent) -> Note {
        Note::new(verdict, self.generation, now())
    }

    /// The same under the grants by which a call was decided.
    fn verdict_under(&self, generation: u64, verdict: AuditEvent) -> Note {
        Note { generation, ..self.verdict(verdict) }
    }

    /// Notes a decision in the step of a call, and tells who listens.
    pub(super) fn note(&self, open: &mut Open, call: &CallRequest<'_>, note: Note) {
        audit::tell(self.id(), open.number, &call.definition.name, &call.arguments, &note);
        let form = &*call.arguments;
        let arguments = (form != open.arguments()).then(|| Digest::of(form).to_string());
        let note = Note { arguments, ..note };
        if !note.goes_without_saying() || !open.notes.is_empty() {
            audit::add(&mut open.notes, note);
        }
    }

    /// Notes an attempt that did not work and is made again.
    pub(super) fn note_retry(&self, open: &mut Open, call: &CallRequest<'_>, attempt: u32) {
        let note = Note { attempt: Some(attempt), ..self.verdict(AuditEvent::Retry) };
        self.note(open, call, note);
    }

    /// Takes up what was ruled about where a redirect leads.
    fn redirected(
        &self,
        permitted: &mut PermittedCall,
        call: &CallRequest<'_>,
        ruling: Ruling,
    ) -> Result<GrantEntries, Refused> {
        let capability = &*call.definition.name;
        let (verdict, rule, result) = match ruling {
            Ruling::Go(entries, rule) => (AuditEvent::Allow, rule, Ok(entries)),
            Ruling::No(refused, rule) => (AuditEvent::Deny, rule, Err(refused)),
            Ruling::Ask(_, rule, _) => {
                let text = format!("a redirect leads to where `{capability}` needs a decision: call it there");
                let remedy = format!("the rule `{rule}` says ask; the guest may call `{capability}` there itself");
                let argument = call.argument();
                let refused = Refused { capability: capability.into(), argument, error: Error::Denied(text), remedy };
                (AuditEvent::Deny, Some(rule), Err(refused))
            }
        };
        if permitted.open.notes.is_empty() {
            audit::add(&mut permitted.open.notes, self.verdict(AuditEvent::Allow));
        }
        self.note(&mut permitted.open, call, Note { rule, ..self.verdict(verdict) });
        result
    }

    /// Takes up what was ruled about a call on something that is open.
    fn rechecked(
        &mut self,
        mut open: Open,
        call: &CallRequest<'_>,
        (policy, generation, ruling): (Arc<OpenedPolicy>, u64, Ruling),
    ) -> Result<Gate, Stop> {
        match ruling {
            Ruling::No(refused, rule) => {
                self.note(&mut open, call, Note { rule, ..self.verdict_under(generation, AuditEvent::Deny) });
                Ok(Gate::Done(Err(self.refuse(open, refused)?)))
            }
            Ruling::Go(entries, _) | Ruling::Ask(entries, ..) => {
                self.note(&mut open, call, self.verdict_under(generation, AuditEvent::Allow));
                let capability = Arc::clone(call.definition);
                Ok(Gate::Go(PermittedCall { open, capability, policy, generation, entries, approved: false }))
            }
        }
    }

    /// A call that gives up what an earlier one was allowed to open.
    pub(super) fn unasked(&self, open: Open, definition: &Arc<Definition>) -> Gate {
        let (capability, policy) = (Arc::clone(definition), Arc::clone(&self.config.scope));
        Gate::Go(PermittedCall {
            open,
            capability,
            policy,
            generation: self.generation,
            entries: GrantEntries::NOTHING,
            approved: false,
        })
    }
}

/// What the policy says about a call.
fn ruling_of(policy: &OpenedPolicy, generation: u64, call: &CallRequest<'_>) -> Ruling {
    let capability = call.definition;
    let no = |denial: Denial| {
        let rule = denial.rule.clone();
        Ruling::No(Refused::of(call.definition, call.argument(), denial), rule)
    };
    let form = match call.form {
        Ok(form) => form,
        Err(formless) => return no(formless.denial.clone()),
    };
    match decide(&policy.policy, generation, capability, form) {
        Verdict::Deny(denial) => no(denial),
        Verdict::Allow(permit) => Ruling::Go(GrantEntries::of(&permit), permit.rule.map(str::to_owned)),
        Verdict::Ask(asked) => Ruling::Ask(GrantEntries::of(&asked.permit), asked.rule.to_owned(), asked.timeout),
    }
}

/// Whether a call may have happened at an earlier attempt at it: in this process, or before a crash.
pub(super) fn was_begun(open: &Open) -> bool {
    let before = open.earlier.as_ref().is_some_and(|earlier| earlier.stage != Stage::Asked);
    // One that is `once` is attempted again only when nothing of it was sent, or when a person says so.
    before
        || audit::notes(&open.notes).iter().any(|note| match note.verdict {
            AuditEvent::Again => true,
            AuditEvent::Retry => open.effect == EffectClass::Idempotent,
            _ => false,
        })
}
