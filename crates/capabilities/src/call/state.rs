//! The state of one running guest: what is done in one section, under the lock of its [`Execution`](super::Execution).

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use chacha20::ChaCha20Rng;
use parole_durable::hub::{Seen, Waiter, now};
use parole_durable::journal::{DROPPED, Fault, Next, OUTPUT, Open};
use parole_durable::{EffectClass, ExecutionId, Journal, PromiseId, PromiseRecord, StepResult, UnixMs};
use parole_policy::{Definition, Denial, Fact, Facts, Looks, PlainFacts, Verdict, decide};

use super::barrier::Flight;
use super::driver::Task;
use super::refusals::Refusals;
use super::view::View;
use super::{ExecutionConfig, Gathered};
use crate::call::audit;
use crate::call::opened::OpenedPolicy;
use crate::error::{self, Error, Refused, json};
use crate::sink::Event;
use crate::stop::Stop;

/// Bytes of output text that are kept in memory for the report of one execution: most put out less. Of those that
/// put out more there may be thousands, and they may wait for weeks.
const OUTPUT_KEPT: usize = 4 << 10;
/// Recorded steps are read in pages of this many.
const STEPS_A_PAGE: usize = 1024;

/// What one running guest has, and what is known of it.
pub(crate) struct State {
    pub(super) config: ExecutionConfig,
    /// Whether the replay is over.
    pub(super) live: bool,
    pub(super) flights: VecDeque<Flight>,
    pub(super) view: Arc<View>,
    /// Recorded output that is not noted as shown, each with the number of the call after it.
    unshown: Vec<(u64, Vec<u8>)>,
    pub(super) output_since: Option<Instant>,
    pub(super) started: Instant,
    /// Tells that the execution may have been canceled; asked for once the guest has run for a while.
    pub(super) fenced: Option<Waiter>,
    /// The promise that was made last, until it is waited for.
    pub(super) made: Option<Box<PromiseRecord>>,
    /// The generation of the grants in `config.scope`.
    pub(super) generation: u64,
    /// Whether the next send-only call looks for the generation, as any other call does.
    pub(super) look_due: bool,
    /// Capabilities of which the present grants allow every call.
    always_allowed: Vec<Arc<str>>,
    /// What the clock said last.
    pub(super) reading: Option<Reading>,
    /// The random stream of the execution, from its first use on.
    pub(super) random: Option<Box<ChaCha20Rng>>,
    /// How far the store had come when the generation was last looked for.
    seen: Seen,
    /// Calls that a person has allowed for the whole execution: the rule, and the digest of the arguments in their form.
    pub(super) approvals: HashSet<(String, String)>,
    /// What a person has refused.
    pub(super) refusals: Refusals,
    /// Bytes of the questions that were put.
    pub(super) asked: u64,
    pub(super) gathered: Gathered,
    /// The call that the guest has begun and that waits, until the driver takes it.
    pub(super) begun: Option<Task>,
}

/// What the clock said.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    pub(super) at: UnixMs,
    /// How often it has been given again.
    pub(super) repeated: u64,
}

/// What a call comes to at first.
pub(crate) enum Begin {
    /// The journal knows the answer.
    Answered(Result<Vec<u8>, Error>),
    /// It is to be decided and performed.
    Open(Open),
}

impl State {
    /// At the start of an attempt.
    pub(super) fn new(config: ExecutionConfig) -> Self {
        let live = config.journal.is_live();
        let generation = config.generation;
        let view = View::new(&config);
        Self {
            config,
            generation,
            look_due: true,
            always_allowed: Vec::new(),
            reading: None,
            random: None,
            seen: Seen::default(),
            approvals: HashSet::new(),
            refusals: Refusals::default(),
            asked: 0,
            live,
            flights: VecDeque::new(),
            view,
            unshown: Vec::new(),
            output_since: None,
            started: Instant::now(),
            fenced: None,
            made: None,
            gathered: Gathered::default(),
            begun: None,
        }
    }

    /// Its id.
    pub(super) fn id(&self) -> ExecutionId {
        self.config.journal.execution()
    }

    /// Its journal.
    pub(super) fn journal(&self) -> &Journal {
        &self.config.journal
    }

    /// Whether the replay is over.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// Reads recorded steps when they are needed, and notices the head of the journal. Done before the
    /// guest starts and after each recorded step, so that time counts from the very head on.
    ///
    /// # Errors
    /// The store failed, or the journal has a gap.
    pub(super) fn catch_up(&mut self) -> Result<(), Stop> {
        if self.live {
            return Ok(());
        }
        while self.config.journal.starved() {
            let steps = self.config.hub.steps(self.id(), self.config.journal.wants(), STEPS_A_PAGE)?;
            let last = steps.len() < STEPS_A_PAGE;
            let unshown = steps.iter().filter(|step| step.function == OUTPUT && step.number >= self.view.shown());
            self.unshown.extend(unshown.map(|step| (step.number + step.calls, step.arguments.clone())));
            self.config.journal.feed(steps, last)?;
        }
        if self.config.journal.is_live() {
            (self.live, self.look_due) = (true, true);
            self.config.meter.restart(self.config.used);
            self.show_again();
        }
        Ok(())
    }

    /// Output that had been made durable, but perhaps not shown, before a crash. Shown at the head of the
    /// journal, when the replay has turned out to be one.
    fn show_again(&mut self) {
        let unshown = std::mem::take(&mut self.unshown);
        let Some(upto) = unshown.last().map(|(upto, _)| *upto) else { return };
        let output: Vec<_> = unshown.into_iter().map(|(_, output)| output).collect();
        self.view.show(&output, upto);
    }

    /// Takes a send-only call: a frame of `head` and `body`. `text` is its text (of `display`, the type), and
    /// `fields` are its arguments.
    pub(super) fn send(
        &mut self,
        definition: &Arc<Definition>,
        channel: u8,
        (head, body): (&[u8], &[u8]),
        text: &str,
        fields: &[(&'static str, Fact<'_>)],
    ) -> Result<(), Stop> {
        let mut channel = channel;
        let overhead = if channel == crate::sink::DISPLAY { crate::sink::DISPLAY_FRAME } else { 0 };
        if let Some((_, rule)) = self.refusal(definition, &PlainFacts(fields), || error::canonical(fields))? {
            let note = audit::Note { rule, ..self.verdict(audit::AuditEvent::Deny) };
            let number = self.config.journal.calls();
            audit::tell(self.id(), number, &definition.name, &error::canonical(fields), &note);
            channel |= DROPPED;
        }
        let channel = match self.config.journal.send(channel, head, body, overhead) {
            Ok(channel) => channel,
            Err(Fault::Limit { name, limit }) => {
                return Err(self.cut(channel, body, name, limit));
            }
            Err(fault) => return Err(fault.into()),
        };
        self.catch_up()?;
        if self.output_since.is_none() {
            self.output_since = Some(Instant::now());
        }
        if channel == crate::sink::PRINT {
            self.gather(&Event::Print(text));
        } else if channel == crate::sink::DISPLAY {
            self.gather(&Event::Display { mime: text, data: body });
        }
        Ok(())
    }

    /// Keeps text for a report. A replay without effects has no journal to read it from again.
    fn gather(&mut self, event: &Event<'_>) {
        if self.gathered.is_cut {
            return;
        }
        event.append_to(&mut self.gathered.output);
        if self.gathered.output.len() > OUTPUT_KEPT && self.config.journal.has_effects() {
            self.gathered.output = String::new();
            self.gathered.is_cut = true;
        }
    }

    /// The output limit: what still fits of a line is kept, with a mark after it.
    fn cut(&mut self, channel: u8, body: &[u8], name: &'static str, limit: u64) -> Stop {
        if channel & !DROPPED == crate::sink::PRINT
            && name == "output"
            && let Ok(text) = std::str::from_utf8(body)
        {
            let left = usize::try_from(self.config.journal.output_left()).unwrap_or(usize::MAX);
            let fits = text.floor_char_boundary(left.min(text.len()));
            match self.config.journal.send(channel, b"", &body[..fits], 0) {
                Ok(crate::sink::PRINT) => self.gather(&Event::Print(&text[..fits])),
                // No room for even an empty line: the mark alone says so.
                Ok(_) | Err(Fault::Limit { .. }) => {}
                Err(fault) => return fault.into(),
            }
        }
        if let Err(fault) = self.config.journal.mark(crate::sink::CUT) {
            return fault.into();
        }
        self.gather(&Event::Cut);
        Stop::Limit { name, limit: parole_policy::size_text(limit) }
    }

    /// Takes any other call: from the journal, or open. `arguments` is JSON of what the guest passed, as it spelt it.
    pub(super) fn begin(
        &mut self,
        function: Cow<'static, str>,
        effect: EffectClass,
        arguments: &[u8],
    ) -> Result<Begin, Stop> {
        let number = self.config.journal.calls();
        let next = self.config.journal.call(function.clone(), effect, arguments)?;
        self.catch_up()?;
        match next {
            // What has not begun by now begins when the execution is resumed.
            Next::Open(_) if self.config.parking.stopping.is_begun() => Err(Stop::Stopped),
            Next::Open(open) => Ok(Begin::Open(open)),
            Next::Replayed { result, notes, .. } => {
                if !notes.is_empty() {
                    self.remember(&function, &notes, arguments);
                }
                if let StepResult::Denied(bytes) = &result {
                    self.gathered.denied.extend(serde_json::from_slice(bytes));
                }
                error::decode(result).map(Begin::Answered).ok_or(Stop::Unreadable(number))
            }
        }
    }

    /// The refusal of a call about which nobody can be asked, by the policy or a check in Rust, and the rule or check. A
    /// replay decides nothing. Grants that have changed are looked for after a wait, and once in a while
    /// ([`Execution::pump`](super::Execution::pump)): such a call costs less than the question.
    pub(super) fn refusal(
        &mut self,
        definition: &Arc<Definition>,
        facts: &dyn Facts,
        arguments: impl Fn() -> Vec<u8>,
    ) -> Result<Option<(Refused, Option<String>)>, Stop> {
        if !self.live || !self.config.journal.has_effects() {
            return Ok(None);
        }
        if std::mem::take(&mut self.look_due) {
            self.current_scope()?;
        }
        let name = &definition.name;
        if self.always_allowed.iter().any(|own| Arc::ptr_eq(own, name)) {
            return Ok(None);
        }
        let scope = &*self.config.scope;
        let no = |denial: Denial| {
            let rule = denial.rule.clone();
            Some((Refused::of(definition, None, denial), rule))
        };
        let refused = match decide(&scope.policy, self.generation, definition, facts) {
            Verdict::Allow(_) => {
                scope.judge(self.id(), name, &arguments).map(|(refused, validator)| (refused, Some(validator)))
            }
            Verdict::Deny(denial) => no(denial),
            // There is nobody to ask: a policy that says so was refused when it was read.
            Verdict::Ask(asked) => no(Denial::nobody_to_ask(definition, asked.rule)),
        };
        if refused.is_none() && scope.decides_alike(name) {
            self.always_allowed.push(Arc::clone(name));
        }
        Ok(refused)
    }

    /// What may look at the parts of a call that can be spelt in several ways. Grants may change; rules and checks are
    /// those of its start.
    pub(super) fn looks(&self, definition: &Definition) -> Looks {
        self.config.scope.looks(definition)
    }

    /// What it may reach now: the newest generation of its grants.
    pub(super) fn current_scope(&mut self) -> Result<Arc<OpenedPolicy>, Stop> {
        // Until its first commit nobody else knows of it.
        if self.config.creation.is_none() && self.config.journal.has_effects() {
            let newest = self.config.hub.generation(self.id(), &mut self.seen)?;
            if newest != self.generation {
                self.config.scope = (self.config.rescope)(newest, &self.config.scope)?;
                self.generation = newest;
                self.always_allowed.clear();
            }
        }
        Ok(Arc::clone(&self.config.scope))
    }

    /// Ends an open call with a refusal: recorded, so that a replay answers the same.
    pub(super) fn refuse(&mut self, mut open: Open, refused: Refused) -> Result<Error, Stop> {
        let result = match &refused.error {
            Error::Denied(_) => StepResult::Denied(json(&refused)),
            error => StepResult::Err(json(error)),
        };
        // What was allowed by then is denied none the less, and the last word on it says so.
        let last = audit::notes(&open.notes).pop();
        let denied = matches!(refused.error, Error::Denied(_));
        if let Some(last) = last.filter(|note| denied && note.verdict != audit::AuditEvent::Deny) {
            let note = audit::Note { arguments: last.arguments, ..self.verdict(audit::AuditEvent::Deny) };
            audit::tell(self.id(), open.number, &refused.capability, open.arguments(), &note);
            audit::add(&mut open.notes, note);
        } else if !denied {
            audit::explain(&mut open.notes, &refused);
        }
        self.config.journal.complete(open, None, result, now())?;
        let error = refused.error.clone();
        if matches!(error, Error::Denied(_)) {
            self.gathered.denied.push(refused);
        }
        Ok(error)
    }

    /// Ends an open call with its result.
    pub(super) fn finish(
        &mut self,
        open: Open,
        promise: Option<PromiseId>,
        result: Result<Vec<u8>, Error>,
    ) -> Result<(), Stop> {
        Ok(self.config.journal.complete(open, promise, error::encode(result), now())?)
    }

    /// The bytes that the journal may have, and those that are left.
    pub(super) fn journal_left(&self) -> (u64, u64) {
        let most = self.config.scope.policy.limits.journal;
        (most, most.saturating_sub(self.config.journal.size()))
    }

    /// Whether nobody else knows of the execution yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.config.creation.is_some()
    }

    /// Whether the execution is this process's still.
    pub(super) fn still_held(&self) -> Result<(), Stop> {
        match self.config.hub.execution(self.id())? {
            Some(held) if held.fence == self.config.fence && held.outcome.is_none() => Ok(()),
            _ => Err(Stop::Fenced),
        }
    }

    /// The id that an open call has, at this and every later attempt.
    pub(super) fn key(&self, open: &Open, capability: &str) -> PromiseId {
        self.config.journal.promise_id(open, capability, 0)
    }
}
