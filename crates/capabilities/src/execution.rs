//! The state of one running guest, and the few ways in which a capability may act on it.
//!
//! A send-only call is [`Execution::send`]. Any other begins with [`Execution::begin`]: it is
//! answered from the journal, or open; an open one comes to the gate ([`Execution::pass`]), which
//! decides it and perhaps asks a person; then it is perhaps admitted and made durable
//! ([`Execution::admit`]), performed, and finished ([`Execution::finish`]). A call that waits does
//! so in [`Execution::wait`].

mod barrier;
mod calling;
mod gate;
mod refusals;
mod view;
mod wait;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parole_durable::hub::{Seen, Waiter, now};
use parole_durable::journal::{DROPPED, Next, OUTPUT, Open, frames};
use parole_durable::store::{Lease, NewExecution, Usage};
use parole_durable::{Digest, Effect, ExecutionId, Fence, Hub, Journal, PromiseId, PromiseRecord, StepResult};
use parole_policy::{Arguments, Field, Looks, Verdict, decide};
use serde::de::DeserializeOwned;
use wasmtime::ResourceLimiter;

use crate::audit;
use crate::meter::Meter;
use crate::outside::{Links, Outside};
use crate::scope::Scope;
use crate::sink::{Event, NotShown, Sink, event_of};
use crate::stop::Stop;
use crate::stopping::Stopping;
use crate::types::{self, Error, Refused, json};
use crate::validator::Call;
use crate::waiting_room::WaitingRoom;
use crate::{ALL, Entry};
use barrier::Flight;
pub(crate) use barrier::OUTPUT_DELAY;
pub(crate) use calling::{Calling, Form, Formless};
pub(crate) use gate::{Gate, Leave, Passage, was_begun};
use view::View;

/// Bytes of output text that are kept in memory for the report of one execution: most put out less. Of those that
/// put out more there may be thousands, and they may wait for weeks.
const OUTPUT_KEPT: usize = 4 << 10;
/// Recorded steps are read in pages of this many.
const STEPS_A_PAGE: usize = 1024;

/// What the guest's calls may do about waiting.
#[derive(Clone)]
pub struct Parking {
    /// The first wait of any kind parks, and the lease is given back.
    pub detach: bool,
    /// A wait for a person parks, and the lease is given back.
    pub leave_persons: bool,
    /// A guest that has waited this long gives its memory up.
    pub after: Duration,
    /// Where the waiting guests of a process are counted.
    pub room: Arc<WaitingRoom>,
    /// Tells when the runtime is to end.
    pub stopping: Arc<Stopping>,
}

/// What is written with the first commit of an execution.
pub struct Birth {
    /// The execution itself.
    pub new: NewExecution,
    /// The payload that pins its set-up.
    pub setup: Arc<[u8]>,
    /// The bytes of its component: kept unless the first commit is the last.
    pub component: Arc<[u8]>,
}

/// What an [`Execution`] is made of.
pub struct Parts {
    /// The replay core.
    pub journal: Journal,
    /// Where it is made durable.
    pub hub: Hub,
    /// The fence under which this process holds it.
    pub fence: Fence,
    /// For a new execution.
    pub birth: Option<Box<Birth>>,
    /// The digest of the component.
    pub component: Digest,
    /// What it may reach, and the generation of the grants in it.
    pub scope: Arc<Scope>,
    /// See `scope`.
    pub generation: u64,
    /// Opens the scope of a later generation.
    pub rescope: Arc<Rescope>,
    /// The network, and what else lies outside.
    pub outside: Arc<Outside>,
    /// Where its output goes.
    pub sink: Arc<dyn Sink>,
    /// Its clocks.
    pub meter: Arc<Meter>,
    /// What had been used when this attempt began.
    pub used: Usage,
    /// What to do about waits.
    pub parking: Parking,
    /// Counts memories and tables.
    pub limiter: Box<dyn ResourceLimiter + Send + Sync>,
}

/// The store data of a running guest.
pub struct Execution {
    parts: Parts,
    /// Whether the replay is over.
    live: bool,
    flights: VecDeque<Flight>,
    view: Arc<View>,
    /// Recorded output that is not noted as shown, each with the number of the call after it.
    unshown: Vec<(u64, Vec<u8>)>,
    output_since: Option<Instant>,
    started: Instant,
    /// Tells that the execution may have been canceled; asked for once the guest has run for a while.
    fenced: Option<Waiter>,
    /// The promise that was made last, until it is waited for.
    made: Option<Box<PromiseRecord>>,
    /// The generation of the grants in `parts.scope`.
    generation: u64,
    /// How far the store had come when the generation was last looked for.
    seen: Seen,
    /// Calls that a person has allowed for the whole execution: the rule, and the digest of the arguments in their form.
    standing: HashSet<(String, String)>,
    /// What a person has refused.
    refusals: refusals::Refusals,
    /// Bytes of the questions that were put.
    asked: u64,
    /// What `write_file` has used of its quota.
    pub(crate) written: Written,
    /// The connections to the outside that it has open.
    pub(crate) links: Links,
    gathered: Gathered,
}

/// What a run reports beside its outcome: all of the execution, replayed calls too.
#[derive(Default, Debug)]
pub struct Gathered {
    /// The text of its output.
    pub output: String,
    /// There is more of it than is kept in memory: then none is, and the journal has all of it.
    pub is_cut: bool,
    /// The calls that were refused.
    pub denied: Vec<Refused>,
}

/// Bytes and files that this execution has written.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

/// Opens the scope of a generation of grants, after the one that is open.
pub type Rescope = dyn Fn(u64, &Scope) -> Result<Arc<Scope>, Stop> + Send + Sync;

/// What a call comes to at first.
pub(crate) enum Begin {
    /// The journal knows the answer.
    Answered(Result<Vec<u8>, Error>),
    /// It is to be decided and performed.
    Open(Open),
}

impl Execution {
    /// An execution at the start of an attempt.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let live = parts.journal.is_live();
        let generation = parts.generation;
        let view = View::new(&parts);
        Self {
            parts,
            generation,
            seen: Seen::default(),
            standing: HashSet::new(),
            refusals: refusals::Refusals::default(),
            asked: 0,
            links: Links::default(),
            live,
            flights: VecDeque::new(),
            view,
            unshown: Vec::new(),
            output_since: None,
            started: Instant::now(),
            fenced: None,
            made: None,
            written: Written::default(),
            gathered: Gathered::default(),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> ExecutionId {
        self.parts.journal.execution()
    }

    /// Its journal.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.parts.journal
    }

    /// What it has gathered, for a report.
    #[must_use]
    pub fn into_gathered(self) -> Gathered {
        self.gathered
    }

    /// The limiter, for the engine.
    pub fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        &mut *self.parts.limiter
    }

    /// Whether the replay is over.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether the runtime is to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.parts.parking.stopping.is_begun()
    }

    /// Reads recorded steps when they are needed, and notices the head of the journal. Done before the
    /// guest starts and after each recorded step, so that time counts from the very head on.
    ///
    /// # Errors
    /// The store failed, or the journal has a gap.
    pub fn catch_up(&mut self) -> Result<(), Stop> {
        if self.live {
            return Ok(());
        }
        while self.parts.journal.starved() {
            let steps = self.parts.hub.steps(self.id(), self.parts.journal.wants(), STEPS_A_PAGE)?;
            let last = steps.len() < STEPS_A_PAGE;
            let unshown = steps.iter().filter(|step| step.function == OUTPUT && step.number >= self.view.shown());
            self.unshown.extend(unshown.map(|step| (step.number + step.calls, step.arguments.clone())));
            self.parts.journal.feed(steps, last)?;
        }
        if self.parts.journal.is_live() {
            self.live = true;
            self.parts.meter.restart(self.parts.used);
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
    /// `fields` are its arguments. Grants that have changed since the last look (see [`Execution::pump`]) are not
    /// looked for here: such a call costs less than the question.
    pub(crate) fn send(
        &mut self,
        entry: &'static Entry,
        channel: u8,
        (head, body): (&[u8], &[u8]),
        text: &str,
        fields: &[(&'static str, Field<'_>)],
    ) -> Result<(), Stop> {
        let mut channel = channel;
        let overhead = if channel == crate::sink::DISPLAY { crate::sink::DISPLAY_FRAME } else { 0 };
        if self.live && self.is_refused(entry, fields) {
            let (name, note) = (entry.capability.name, self.verdict(audit::Verdict::Deny));
            audit::tell(self.id(), self.parts.journal.calls(), name, &types::canonical(fields), &note);
            channel |= DROPPED;
        }
        let channel = match self.parts.journal.send(channel, head, body, overhead) {
            Ok(channel) => channel,
            Err(parole_durable::journal::Fault::Limit { name, limit }) => {
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
        if self.gathered.output.len() > OUTPUT_KEPT && self.parts.journal.has_effects() {
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
            let left = usize::try_from(self.parts.journal.output_left()).unwrap_or(usize::MAX);
            let fits = text.floor_char_boundary(left.min(text.len()));
            match self.parts.journal.send(channel, b"", &body[..fits], 0) {
                Ok(crate::sink::PRINT) => self.gather(&Event::Print(&text[..fits])),
                // No room for even an empty line: the mark alone says so.
                Ok(_) | Err(parole_durable::journal::Fault::Limit { .. }) => {}
                Err(fault) => return fault.into(),
            }
        }
        if let Err(fault) = self.parts.journal.mark(crate::sink::CUT) {
            return fault.into();
        }
        self.gather(&Event::Cut);
        Stop::Limit { name, limit: parole_policy::size_text(limit) }
    }

    /// Takes any other call: from the journal, or open. `arguments` is JSON of what the guest passed, as it spelt it.
    pub(crate) fn begin(&mut self, function: &'static str, effect: Effect, arguments: &[u8]) -> Result<Begin, Stop> {
        let number = self.parts.journal.calls();
        let next = self.parts.journal.call(function, effect, arguments)?;
        self.catch_up()?;
        match next {
            // What has not begun by now begins when the execution is resumed.
            Next::Open(_) if self.parts.parking.stopping.is_begun() => Err(Stop::Stopped),
            Next::Open(open) => Ok(Begin::Open(open)),
            Next::Replayed { result, notes, .. } => {
                if !notes.is_empty() {
                    self.remember(&notes, arguments);
                }
                if let StepResult::Denied(bytes) = &result {
                    self.gathered.denied.extend(serde_json::from_slice(bytes));
                }
                types::decode(result).map(Begin::Answered).ok_or(Stop::Unreadable(number))
            }
        }
    }

    /// Whether the policy, or a check in Rust, refuses a send-only call.
    fn is_refused(&self, entry: &'static Entry, fields: &[(&'static str, Field<'_>)]) -> bool {
        let scope = &*self.parts.scope;
        match decide(&scope.policy, self.generation, &entry.capability, &Arguments::Fields(fields)) {
            Verdict::Allow(_) => self.judge(scope, entry, || types::canonical(fields)).is_some(),
            // There is nobody to ask: a policy that says so was refused when it was read.
            Verdict::Deny(_) | Verdict::Ask(_) => true,
        }
    }

    /// The first refusal of a check in Rust, with its name.
    fn judge(
        &self,
        scope: &Scope,
        entry: &'static Entry,
        arguments: impl Fn() -> Vec<u8>,
    ) -> Option<(Refused, String)> {
        let name = entry.capability.name;
        let mut call = None;
        for validator in scope.validators.iter().filter(|validator| &*validator.capability == name) {
            let call = call.get_or_insert_with(|| Call {
                execution: self.id(),
                capability: name,
                arguments: String::from_utf8_lossy(&arguments()).into(),
            });
            if let Err(reason) = validator.judge(call) {
                let refused = Refused {
                    capability: name.into(),
                    argument: None,
                    error: Error::Denied(reason),
                    remedy: format!("the validator `{}` of this host decides", validator.name),
                };
                return Some((refused, validator.name.to_string()));
            }
        }
        None
    }

    /// What may look at the parts of a call that can be spelt in several ways. Grants may change; rules and checks are
    /// those of its start.
    pub(crate) fn looks(&self, entry: &Entry) -> Looks {
        self.parts.scope.looks(entry.capability.name)
    }

    /// What it may reach now: the newest generation of its grants.
    pub(crate) fn current_scope(&mut self) -> Result<Arc<Scope>, Stop> {
        // Until its first commit nobody else knows of it.
        if self.parts.birth.is_none() && self.parts.journal.has_effects() {
            let newest = self.parts.hub.generation(self.id(), &mut self.seen)?;
            if newest != self.generation {
                self.parts.scope = (self.parts.rescope)(newest, &self.parts.scope)?;
                self.generation = newest;
            }
        }
        Ok(Arc::clone(&self.parts.scope))
    }

    /// Ends an open call with a refusal: recorded, so that a replay answers the same.
    pub(crate) fn refuse(&mut self, mut open: Open, refused: Refused) -> Result<Error, Stop> {
        let result = match &refused.error {
            Error::Denied(_) => StepResult::Denied(json(&refused)),
            error => StepResult::Err(json(error)),
        };
        // What was allowed by then is denied none the less, and the last word on it says so.
        let last = audit::notes(&open.notes).pop();
        let denied = matches!(refused.error, Error::Denied(_));
        if let Some(last) = last.filter(|note| denied && note.verdict != audit::Verdict::Deny) {
            let note = audit::Note { arguments: last.arguments, ..self.verdict(audit::Verdict::Deny) };
            audit::tell(self.id(), open.number, &refused.capability, open.arguments(), &note);
            audit::add(&mut open.notes, note);
        } else if !denied {
            audit::explain(&mut open.notes, &refused);
        }
        self.parts.journal.complete(open, None, result, now())?;
        let error = refused.error.clone();
        if matches!(error, Error::Denied(_)) {
            self.gathered.denied.push(refused);
        }
        Ok(error)
    }

    /// Ends an open call with its result.
    pub(crate) fn finish(
        &mut self,
        open: Open,
        promise: Option<PromiseId>,
        result: &Result<Vec<u8>, Error>,
    ) -> Result<(), Stop> {
        Ok(self.parts.journal.complete(open, promise, types::encode(result), now())?)
    }

    /// Ends a performed call. Of one that is never repeated the end is durable at once.
    pub(crate) async fn conclude(&mut self, open: Open, result: &Result<Vec<u8>, Error>) -> Result<(), Stop> {
        let once = open.effect == Effect::Once;
        let left = self.parts.scope.policy.limits.journal.saturating_sub(self.parts.journal.size());
        match result {
            // What has happened is recorded, and if it is without its answer.
            Ok(answer) if open.effect != Effect::Read && answer.len() as u64 > left => {
                let text = format!("it happened, but its answer of {} bytes does not fit in the journal", answer.len());
                self.finish(open, None, &Err(Error::Failed(text)))?;
                self.commit(Lease::Keep).await?;
                let limit = parole_policy::size_text(self.parts.scope.policy.limits.journal);
                return Err(Stop::Limit { name: "journal", limit });
            }
            result => self.finish(open, None, result)?,
        }
        if once { self.commit(Lease::Keep).await } else { Ok(()) }
    }

    /// The value of a recorded answer that is JSON.
    pub(crate) fn read_back<T: DeserializeOwned>(
        &self,
        answer: Result<Vec<u8>, Error>,
    ) -> wasmtime::Result<Result<T, Error>> {
        match answer.map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(value)) => Ok(Ok(value)),
            // It was checked when it was recorded: what cannot be read now was changed since.
            Ok(Err(_)) => Err(Stop::Unreadable(self.journal().calls()).into()),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Before the execution goes outside: others can see and cancel it from then on, and what it has put out is
    /// shown meanwhile.
    pub(crate) async fn be_known(&mut self) -> Result<(), Stop> {
        if self.parts.birth.is_some() { self.commit(Lease::Keep).await } else { self.show_meanwhile().await }
    }

    /// Resolves when work with the outside is to be left: the execution is canceled or taken over, or the runtime is
    /// to end. Then what can be done again is left at once, and everything else is waited for, within a bound.
    pub(crate) fn left(&self, effect: Effect) -> impl Future<Output = Stop> + Send + use<> {
        let (canceled, stopping) = (self.canceled(), Arc::clone(&self.parts.parking.stopping));
        async move {
            tokio::select! {
                () = canceled => Stop::Fenced,
                () = stopping.begun(), if effect == Effect::Read => Stop::Stopped,
                () = stopping.over() => Stop::Stopped,
            }
        }
    }

    /// Resolves when the execution is canceled, or taken over. For work that may take long: it is looked for
    /// only after a while.
    fn canceled(&self) -> impl Future<Output = ()> + Send + use<> {
        let (hub, id, fence) = (self.parts.hub.clone(), self.id(), self.parts.fence);
        async move {
            tokio::time::sleep(barrier::CANCEL_DELAY).await;
            loop {
                let fenced = hub.fenced(id);
                match hub.execution(id) {
                    Ok(Some(held)) if held.fence == fence && held.outcome.is_none() => fenced.await,
                    _ => return,
                }
            }
        }
    }

    /// What lies outside.
    pub(crate) fn outside(&self) -> &Outside {
        &self.parts.outside
    }

    /// Time from here on is not the guest's: it waits for the outside.
    pub(crate) fn pause(&self) {
        self.parts.meter.pause();
    }

    /// The guest's time goes on.
    pub(crate) fn resume(&self) {
        self.parts.meter.resume();
    }

    /// The id that an open call has, at this and every later attempt.
    pub(crate) fn key(&self, open: &Open, capability: &str) -> PromiseId {
        self.parts.journal.promise_id(open, capability, 0)
    }
}

/// Shows the frames of an `output` step.
///
/// # Errors
/// One of them could not be shown; those after it were not tried.
pub fn show(sink: &dyn Sink, execution: ExecutionId, output: &[u8]) -> Result<(), NotShown> {
    frames(output)
        .filter_map(|(channel, payload)| event_of(channel, payload))
        .try_for_each(|event| sink.event(execution, event))
}

/// The entry of a journal function name.
#[must_use]
pub fn entry_of(function: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.functions.iter().any(|(name, _)| *name == function))
}
