//! The replay core of one execution: a state machine without I/O.
//!
//! The driver tells it each host call of the guest, and what the store has recorded. It
//! answers *replayed* (here is what the guest got), or *open* (decide, then record and
//! perform, and say how it went), or a [`Fault`]. What has to be made durable collects in
//! it until the driver takes it at a barrier. It never looks at a clock and never waits.
//!
//! # Stages
//!
//! A call is recorded as *asked* while somebody decides about it, as *admitted* before its effect, and as
//! *in doubt* when its process died in between and repeating it is not free. Each record replaces the one
//! before, in one commit with the promise that it waits for; its notes stay. What the stages of an
//! interrupted call mean is the driver's to say: see [`Open::earlier`].
//!
//! # Frames
//!
//! Send-only calls are recorded in runs: one `output` step holds the frames of all calls
//! since the last other step or flush. A frame is a channel byte, the payload's length as
//! four little-endian bytes, and the payload.

mod call;
mod repeat;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

pub use call::{Earlier, Next, Open};
use call::{Standing, waits};

use crate::ids::{ExecutionId, PromiseId, Secret, UnixMs};
use crate::promise::PromiseRecord;
use crate::step::{Completion, EffectClass, Stage, Step, StepResult};

/// The function name of a run of send-only calls.
pub const OUTPUT: &str = "output";

/// Set on the channel of a frame that the policy dropped: recorded, never shown.
pub const DROPPED: u8 = 0x80;

const FRAME_HEAD: usize = 5;
/// What each send-only call costs of the output beside its payload: the end of its line.
const LINE_END: u64 = 1;
/// What each step costs of the journal beside its arguments, notes and result: about what its row takes.
const STEP_COST: usize = 64;

/// The limits that the journal itself keeps, pinned when the execution starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalLimits {
    /// Bytes of arguments, notes and results of all steps but output.
    pub journal: u64,
    /// Bytes of the payloads of send-only calls.
    pub output: u64,
    /// Promises that are pending at once.
    pub promises: u64,
}

/// Why an execution cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// On replay the guest asked something else than it did before.
    #[error(
        "step {step}: the journal has {recorded}, the guest now asks {asked}. The guest is not the one \
         that was recorded, or it depends on something that the host does not record. \
         The journal is unchanged: run the recorded component (`--pinned`), or cancel the execution"
    )]
    Mismatch {
        /// The number of the call.
        step: u64,
        /// What was recorded.
        recorded: String,
        /// What was asked.
        asked: String,
    },
    /// The recorded steps are not one unbroken row.
    #[error("damaged: the journal goes on with step {found} where step {expected} is due")]
    Gap {
        /// The number that is due.
        expected: u64,
        /// The number that was found.
        found: u64,
    },
    /// Steps at the end are missing.
    #[error("damaged: the journal ends after {found} calls, and {expected} were recorded")]
    Tail {
        /// How many calls were recorded.
        expected: u64,
        /// How many are there.
        found: u64,
    },
    /// A limit of the execution is reached.
    #[error("the {name} limit of {limit} bytes is reached")]
    Limit {
        /// `journal` or `output`.
        name: &'static str,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A replay without effects has come to the end of what was recorded.
    #[error("the end of the journal is reached at step {0}")]
    Head(u64),
}

/// What a barrier makes durable.
#[derive(Debug, Default)]
pub struct Unsaved {
    /// New steps, and steps that went further.
    pub steps: Vec<Step>,
    /// New promises.
    pub promises: Vec<PromiseRecord>,
}

/// What comes after the last call that is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Head {
    /// New calls.
    Live,
    /// Of a replay without effects: the end of the guest, which it had come to by itself.
    End,
    /// Of such a replay: nothing that is known.
    Unknown,
}

/// See the module.
#[derive(Debug)]
pub struct Journal {
    execution: ExecutionId,
    secret: Secret,
    limits: JournalLimits,
    next: u64,
    recorded: VecDeque<Step>,
    /// How far the frames of the first recorded step have been replayed.
    frames_done: usize,
    /// Whether `recorded` reaches to the end of the stored journal.
    complete: bool,
    /// How many calls the stored journal covers at least.
    stored: u64,
    head: Head,
    unsaved: Unsaved,
    /// Whether a step of it is output.
    unsaved_output: bool,
    run: Vec<u8>,
    run_first: u64,
    output: u64,
    size: u64,
    /// Calls that have been recorded and have no result yet, by number.
    standing: BTreeMap<u64, Standing>,
}

impl Journal {
    /// The journal of a new execution: nothing is recorded.
    #[must_use]
    pub fn new(execution: ExecutionId, secret: Secret, limits: JournalLimits) -> Self {
        Self {
            execution,
            secret,
            limits,
            next: 0,
            recorded: VecDeque::new(),
            frames_done: 0,
            complete: true,
            stored: 0,
            head: Head::Live,
            unsaved: Unsaved::default(),
            unsaved_output: false,
            run: Vec::new(),
            run_first: 0,
            output: 0,
            size: 0,
            standing: BTreeMap::new(),
        }
    }

    /// The journal of an execution that goes on: its steps must be fed with [`Journal::feed`].
    #[must_use]
    pub fn resume(execution: ExecutionId, secret: Secret, limits: JournalLimits) -> Self {
        Self { complete: false, ..Self::new(execution, secret, limits) }
    }

    /// Says how many calls the stored journal covers, if that is known: a call of which the record is lost must not
    /// be taken for one that was never made.
    #[must_use]
    pub fn expecting(mut self, calls: Option<u64>) -> Self {
        self.stored = calls.unwrap_or(0);
        self
    }

    /// The execution.
    #[must_use]
    pub fn execution(&self) -> ExecutionId {
        self.execution
    }

    /// Whether more recorded steps must be fed before the next call.
    #[must_use]
    pub fn starved(&self) -> bool {
        !self.complete && self.recorded.is_empty()
    }

    /// Whether the next call is a new one.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.complete && self.recorded.is_empty()
    }

    /// The number from which to feed.
    #[must_use]
    pub fn wants(&self) -> u64 {
        self.recorded.back().map_or(self.next, |step| step.number + step.calls)
    }

    /// The number of calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.next
    }

    /// Bytes of steps so far, without output.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of output so far.
    #[must_use]
    pub fn output(&self) -> u64 {
        self.output
    }

    /// Bytes of payload that the output limit still leaves a call.
    #[must_use]
    pub fn output_left(&self) -> u64 {
        self.limits.output.saturating_sub(self.output).saturating_sub(LINE_END)
    }

    /// Whether calls that have no recorded result are performed.
    #[must_use]
    pub fn has_effects(&self) -> bool {
        self.head == Head::Live
    }

    /// The end of the guest: on replay everything that is recorded must have been asked again by then.
    ///
    /// # Errors
    /// [`Fault::Mismatch`] when steps are left.
    pub fn end(&self) -> Result<(), Fault> {
        if self.is_live() { Ok(()) } else { Err(self.mismatch("the end of the guest", b"")) }
    }

    /// Takes recorded steps, in order; `last` says that the store has no more.
    ///
    /// # Errors
    /// [`Fault::Gap`] when a step is missing, [`Fault::Tail`] when the last ones are.
    pub fn feed(&mut self, steps: Vec<Step>, last: bool) -> Result<(), Fault> {
        for step in steps {
            let expected = self.wants();
            if step.number != expected || step.calls == 0 {
                return Err(Fault::Gap { expected, found: step.number });
            }
            self.recorded.push_back(step);
        }
        if last && self.wants() < self.stored {
            return Err(Fault::Tail { expected: self.stored, found: self.wants() });
        }
        self.complete = last;
        Ok(())
    }

    /// Takes a send-only call with the payload `head` followed by `body`, and gives the channel as
    /// it is recorded: on replay that says whether the call had been [`DROPPED`]. `overhead` is what its
    /// showing takes beside the payload and a line end, in bytes.
    ///
    /// # Errors
    /// [`Fault::Mismatch`] on replay, [`Fault::Limit`] when the payload does not fit in the output limit, or
    /// its frame in the journal (nothing of it is recorded then).
    pub fn send(&mut self, channel: u8, head: &[u8], body: &[u8], overhead: u64) -> Result<u8, Fault> {
        let cost = ((head.len() + body.len()) as u64 + LINE_END).saturating_add(overhead);
        let output = self.output.saturating_add(cost);
        if output > self.limits.output {
            return Err(Fault::Limit { name: "output", limit: self.limits.output });
        }
        self.charge(FRAME_HEAD)?;
        let channel = self.frame(channel, head, body)?;
        self.output = output;
        Ok(channel)
    }

    /// Records a frame without a payload that counts against nothing: a mark of the host's own.
    ///
    /// # Errors
    /// [`Fault::Mismatch`] on replay.
    pub fn mark(&mut self, channel: u8) -> Result<u8, Fault> {
        self.frame(channel, b"", b"")
    }

    fn frame(&mut self, channel: u8, head: &[u8], body: &[u8]) -> Result<u8, Fault> {
        let size = FRAME_HEAD + head.len() + body.len();
        let Ok(length) = u32::try_from(head.len() + body.len()).map(u32::to_le_bytes) else {
            return Err(Fault::Limit { name: "output", limit: u64::from(u32::MAX) });
        };
        let mut recorded = channel;
        if let Some(step) = self.recorded.front() {
            let rest = step.arguments.get(self.frames_done..).unwrap_or_default();
            let same = step.function == OUTPUT
                && rest.len() >= size
                && rest[0] & !DROPPED == channel & !DROPPED
                && rest[1..FRAME_HEAD] == length
                && rest[FRAME_HEAD..].starts_with(head)
                && rest[FRAME_HEAD + head.len()..].starts_with(body);
            if !same {
                return Err(self.mismatch(OUTPUT, &[head, body].concat()));
            }
            recorded = rest[0];
            self.frames_done += size;
            if self.frames_done == step.arguments.len() {
                self.recorded.pop_front();
                self.frames_done = 0;
            }
        } else if self.head != Head::Live {
            return Err(Fault::Head(self.next));
        } else {
            if self.run.is_empty() {
                self.run_first = self.next;
            }
            self.run.push(channel);
            self.run.extend_from_slice(&length);
            self.run.extend_from_slice(head);
            self.run.extend_from_slice(body);
        }
        self.next += 1;
        Ok(recorded)
    }

    /// Takes any other call. On replay `arguments` must be what was recorded, byte for byte.
    ///
    /// # Errors
    /// [`Fault::Mismatch`] on replay, [`Fault::Limit`] when the arguments do not fit in the journal.
    pub fn call(
        &mut self,
        function: impl Into<Cow<'static, str>>,
        effect: EffectClass,
        arguments: &[u8],
    ) -> Result<Next, Fault> {
        let function = function.into();
        let Some(step) = self.recorded.front() else {
            if self.head != Head::Live {
                return Err(Fault::Head(self.next));
            }
            self.charge(arguments.len() + STEP_COST)?;
            return Ok(Next::Open(self.open(function, effect, arguments.to_vec(), None)));
        };
        let same = step.function == function && step.arguments == arguments;
        if !same || self.frames_done != 0 {
            return Err(self.mismatch(&function, arguments));
        }
        self.size = self.size.saturating_add(step.size() + STEP_COST as u64);
        let Some(step) = self.recorded.pop_front() else { return Err(Fault::Head(self.next)) };
        match step.completion {
            Some(completion) => {
                self.next += 1;
                if step.delivered {
                    return Ok(Next::Replayed { result: completion.result, notes: step.notes, promise: step.promise });
                }
                let result = completion.result.clone();
                let (notes, promise) = (step.notes.clone(), step.promise.clone());
                self.unsaved.steps.push(Step { completion: Some(completion), delivered: true, ..step });
                Ok(Next::Replayed { result, notes, promise })
            }
            None if self.head != Head::Live => Err(Fault::Head(self.next)),
            None => {
                let standing = Standing {
                    stage: step.stage,
                    at: step.admitted_at,
                    waits: waits(step.stage, step.effect, step.promise.as_ref()),
                    notes: step.notes.len() as u64,
                };
                self.standing.insert(self.next, standing);
                let earlier =
                    Earlier { stage: step.stage, at: step.admitted_at, promise: step.promise, notes: step.notes };
                Ok(Next::Open(self.open(function, step.effect, step.arguments, Some(earlier))))
            }
        }
    }

    fn open(
        &mut self,
        function: Cow<'static, str>,
        effect: EffectClass,
        arguments: Vec<u8>,
        earlier: Option<Earlier>,
    ) -> Open {
        self.close_run();
        let number = self.next;
        self.next += 1;
        let notes = earlier.as_ref().map(|earlier| earlier.notes.clone()).unwrap_or_default();
        Open { number, effect, notes, earlier, function, arguments }
    }

    /// The seed of the random stream of the execution: the same at every replay.
    #[must_use]
    pub fn random_seed(&self) -> [u8; 32] {
        self.secret.random_seed()
    }

    /// The id of a promise of a call: the same at every replay. `label` is the capability, or what else the
    /// promise is for; where a call asks more than once for the same, each `round` (from 0) has its own.
    #[must_use]
    pub fn promise_id(&self, call: &Open, label: &str, round: u32) -> PromiseId {
        self.secret.promise_id_of_round(label, self.execution, call.number, round)
    }

    /// Whether a call may wait for a promise, be it its first or one after another that is settled by then.
    ///
    /// # Errors
    /// The limit, when it is reached.
    pub fn may_wait(&self, call: &Open) -> Result<(), u64> {
        let others = self.standing.iter().filter(|(number, standing)| standing.waits && **number != call.number);
        if (others.count() as u64) < self.limits.promises { Ok(()) } else { Err(self.limits.promises) }
    }

    /// Records how far a call has come, with its notes. It must be durable (see [`Journal::take_unsaved`])
    /// before the effect, or before anybody is told of the promise.
    ///
    /// `promise` is a new one that this stage waits for; the one before it, if there was any, has been settled.
    /// `keep` is the id that the record names where it makes no new one: that of an approval that is used here.
    ///
    /// # Errors
    /// [`Fault::Limit`] when the notes do not fit in the journal; nothing is recorded then.
    pub fn record(
        &mut self,
        call: &Open,
        stage: Stage,
        promise: Option<PromiseRecord>,
        keep: Option<PromiseId>,
        now: UnixMs,
    ) -> Result<(), Fault> {
        let at = self.advance(call, 0, stage, now)?;
        let id = promise.as_ref().map(|record| record.id.clone()).or(keep);
        let standing =
            Standing { stage, at, waits: waits(stage, call.effect, id.as_ref()), notes: call.notes.len() as u64 };
        self.standing.insert(call.number, standing);
        self.unsaved.promises.extend(promise);
        self.put(Step {
            number: call.number,
            calls: 1,
            function: call.function.clone(),
            effect: call.effect,
            arguments: call.arguments.clone(),
            promise: id,
            stage,
            notes: call.notes.clone(),
            admitted_at: at,
            completion: None,
            delivered: false,
        });
        Ok(())
    }

    /// Records how a call went, with its notes; its result goes to the guest right after. `promise` is what the
    /// record names from now on.
    ///
    /// # Errors
    /// [`Fault::Limit`] when the result does not fit in the journal.
    pub fn complete(
        &mut self,
        call: Open,
        promise: Option<PromiseId>,
        result: StepResult,
        now: UnixMs,
    ) -> Result<(), Fault> {
        let length = match &result {
            StepResult::Ok(bytes) | StepResult::Err(bytes) | StepResult::Denied(bytes) => bytes.len(),
        };
        let stage = self.standing.get(&call.number).map_or(Stage::default(), |standing| standing.stage);
        let at = self.advance(&call, length, stage, now)?;
        self.standing.remove(&call.number);
        self.put(Step {
            number: call.number,
            calls: 1,
            function: call.function.clone(),
            effect: call.effect,
            arguments: call.arguments,
            promise,
            stage,
            notes: call.notes,
            admitted_at: at,
            completion: Some(Completion { at: now, result }),
            delivered: true,
        });
        Ok(())
    }

    /// Charges what a record adds to the one before it, and says when the call came to this stage.
    fn advance(&mut self, call: &Open, result: usize, stage: Stage, now: UnixMs) -> Result<UnixMs, Fault> {
        let before = self.standing.get(&call.number);
        let at = before.filter(|before| before.stage == stage).map_or(now, |before| before.at);
        let notes = before.map_or(0, |before| before.notes);
        // Notes that have become shorter make room; a replay will see only the last ones.
        let rest = self.size.saturating_sub(notes);
        let size = rest.saturating_add(call.notes.len() as u64).saturating_add(result as u64);
        self.size = self.within(size)?;
        Ok(at)
    }

    /// Takes a step for the next barrier; a record of the same call that still waits for it goes.
    fn put(&mut self, step: Step) {
        match self.unsaved.steps.last_mut() {
            Some(last) if last.number == step.number => *last = step,
            _ => self.unsaved.steps.push(step),
        }
    }

    /// Bytes that wait to be made durable, roughly: a driver may take them early when they are many.
    #[must_use]
    pub fn unsaved_steps(&self) -> usize {
        self.unsaved.steps.len() + usize::from(!self.run.is_empty())
    }

    /// Whether output waits to be made durable and shown.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.run.is_empty() || self.unsaved_output
    }

    /// Takes what a barrier makes durable.
    pub fn take_unsaved(&mut self) -> Unsaved {
        self.close_run();
        self.unsaved_output = false;
        std::mem::take(&mut self.unsaved)
    }

    fn close_run(&mut self) {
        if self.run.is_empty() {
            return;
        }
        let arguments = std::mem::take(&mut self.run);
        self.unsaved_output = true;
        self.unsaved.steps.push(Step {
            number: self.run_first,
            calls: self.next - self.run_first,
            function: Cow::Borrowed(OUTPUT),
            effect: EffectClass::Send,
            arguments,
            promise: None,
            stage: Stage::default(),
            notes: Vec::new(),
            admitted_at: 0,
            completion: Some(Completion { at: 0, result: StepResult::Ok(Vec::new()) }),
            delivered: true,
        });
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Fault> {
        self.size = self.within(self.size.saturating_add(bytes as u64))?;
        Ok(())
    }

    fn within(&self, size: u64) -> Result<u64, Fault> {
        let limit = self.limits.journal;
        if size > limit { Err(Fault::Limit { name: "journal", limit }) } else { Ok(size) }
    }

    fn mismatch(&self, function: &str, arguments: &[u8]) -> Fault {
        let recorded = match self.recorded.front() {
            Some(step) => {
                let from = if step.function == OUTPUT { self.frames_done + FRAME_HEAD } else { 0 };
                describe(&step.function, step.arguments.get(from..).unwrap_or_default())
            }
            None => "steps that were not read yet".into(),
        };
        Fault::Mismatch { step: self.next, recorded, asked: describe(function, arguments) }
    }
}

/// The frames of an `output` step: channel and payload. A broken tail ends the iteration.
pub fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&channel, rest) = bytes.split_first()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (payload, rest) = rest.split_at_checked(length)?;
        bytes = rest;
        Some((channel, payload))
    })
}

fn describe(function: &str, arguments: &[u8]) -> String {
    const SHOWN: usize = 120;
    let text = String::from_utf8_lossy(&arguments[..arguments.len().min(SHOWN)]);
    let more = if arguments.len() > SHOWN { "…" } else { "" };
    format!("`{function}` {}{more}", text.escape_debug())
}

#[cfg(test)]
mod stages;
#[cfg(test)]
mod tests;
