//! One structured record for each decision about a call: in the journal, and through `tracing`.
//!
//! A step keeps its [`Note`]s; that a call was plainly allowed under the first generation is what a step
//! without notes says. [`records`] makes the full records of a step. Neither arguments nor results are in
//! them, only the digest of the arguments in the form that was decided on; of what was denied also the reason, and the
//! path, URL or name that it was about.

use parole_durable::journal::{DROPPED, OUTPUT, frames};
use parole_durable::{Completion, Digest, ExecutionId, Step, StepResult, UnixMs};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Refused, json};
use crate::{ALL, sink};

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditEvent {
    /// The policy allows it.
    Allow,
    /// The policy wants a person asked.
    Ask,
    /// The policy, or a check in Rust, or a person, says no.
    Deny,
    /// A person allows it.
    Approve,
    /// Nobody decided in time.
    Expire,
    /// The question was taken back.
    Cancel,
    /// It may or may not have happened: a person is asked.
    Doubt,
    /// A person says that it happened.
    Done,
    /// A person has it done again.
    Again,
    /// A person has it fail.
    Fail,
    /// It was tried, did not work, and is tried again.
    Retry,
}

/// A decision, as a step keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What was decided.
    pub verdict: AuditEvent,
    /// When.
    pub at: UnixMs,
    /// The generation of the grants under which it was decided.
    pub generation: u64,
    /// The rule of the policy that decided, or the validator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The promise through which a person was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<String>,
    /// Who decided, if it was a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Of an approval: whether it stands for the same call in all of this execution. Of a denial: whether it comes
    /// from one that stands.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standing: bool,
    /// Whether a no is for whatever else the rule asks in this execution, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rest: bool,
    /// Bytes of the question that was put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Which attempt it was that failed, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The digest of the arguments in the form that was decided on, where the guest spelt them in another way. Read
    /// it through [`Record::arguments`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// Of a call that was refused as invalid: why. Read it through [`Record::reason`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of such a call: what it was about. Read it through [`Record::argument`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
}

impl Note {
    pub(super) fn new(verdict: AuditEvent, generation: u64, at: UnixMs) -> Self {
        Self {
            verdict,
            at,
            generation,
            rule: None,
            promise: None,
            by: None,
            standing: false,
            rest: false,
            bytes: None,
            attempt: None,
            arguments: None,
            reason: None,
            argument: None,
        }
    }

    /// Whether a step without notes says the same.
    pub(super) fn goes_without_saying(&self) -> bool {
        self.verdict == AuditEvent::Allow && self.generation == 0 && self.rule.is_none() && self.arguments.is_none()
    }
}

/// The notes of a step; bytes that are none give none.
#[must_use]
pub fn notes(bytes: &[u8]) -> Vec<Note> {
    if bytes.is_empty() { Vec::new() } else { serde_json::from_slice(bytes).unwrap_or_default() }
}

/// Adds a note to those of a step.
pub(super) fn add(bytes: &mut Vec<u8>, note: Note) {
    let mut all = notes(bytes);
    all.push(note);
    *bytes = json(&all);
}

/// Notes why a call was refused whose answer does not say it to the operator.
pub(super) fn explain(bytes: &mut Vec<u8>, refused: &Refused) {
    let mut all = notes(bytes);
    if let Some(last) = all.last_mut().filter(|note| note.verdict == AuditEvent::Deny) {
        (last.reason, last.argument) = (Some(refused.error.to_string()), refused.argument.clone());
        *bytes = json(&all);
    }
}

/// One decision. Its JSON is a line of `parole journal --audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Which execution.
    pub execution: ExecutionId,
    /// The number of the call; none for an import.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// `call` or `link`.
    pub site: &'static str,
    /// Which capability; empty for an import that nobody defined.
    pub capability: String,
    /// Which of its functions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The digest of the arguments, in the form that was decided on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// Of a denied call: why, as the guest was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a denied call: the path, URL or name that was decided on. Guest text: not inert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
    /// The import that was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<String>,
    /// The decision. Times of send-only calls are not recorded.
    #[serde(flatten)]
    pub note: Note,
}

impl Record {
    /// The refusal of an import, before the start.
    #[must_use]
    pub fn of_import(execution: ExecutionId, capability: &str, import: Option<&str>, at: UnixMs) -> Self {
        Self {
            execution,
            step: None,
            site: "link",
            capability: capability.into(),
            function: None,
            arguments: None,
            reason: None,
            argument: None,
            import: import.map(str::to_owned),
            note: Note::new(AuditEvent::Deny, 0, at),
        }
    }
}

/// The decisions about a step, in their order.
#[must_use]
pub fn records(execution: ExecutionId, step: &Step) -> Vec<Record> {
    if step.function == OUTPUT {
        return frames(&step.arguments)
            .zip(step.number..)
            .filter_map(|((channel, payload), number)| {
                let sent = ALL.iter().find(|entry| entry.channel == Some(channel & !DROPPED))?;
                let name = &*sent.definition.name;
                let dropped = channel & DROPPED != 0;
                let verdict = if dropped { AuditEvent::Deny } else { AuditEvent::Allow };
                Some(Record {
                    execution,
                    step: Some(number),
                    site: "call",
                    capability: name.into(),
                    function: Some(name.into()),
                    arguments: Some(Digest::of(payload).to_string()),
                    reason: dropped
                        .then(|| format!("the policy, or a check of this host, refuses this call of `{name}`")),
                    argument: sink::event_of(channel & !DROPPED, payload).filter(|_| dropped).and_then(said),
                    import: None,
                    note: Note::new(verdict, 0, 0),
                })
            })
            .collect();
    }
    let mut all = notes(&step.notes);
    let refused: Option<Refused> = match &step.completion {
        Some(Completion { result: StepResult::Denied(bytes), .. }) => serde_json::from_slice(bytes).ok(),
        _ => None,
    };
    if all.is_empty() {
        let denied = matches!(&step.completion, Some(done) if matches!(done.result, StepResult::Denied(_)));
        all.push(Note::new(if denied { AuditEvent::Deny } else { AuditEvent::Allow }, 0, step.admitted_at));
    }
    if let (Some(refused), Some(last)) = (refused, all.last_mut().filter(|note| note.verdict == AuditEvent::Deny)) {
        let reason = match refused.error {
            Error::Denied(reason) => reason,
            error => error.to_string(),
        };
        (last.reason, last.argument) = (Some(reason), refused.argument);
    }
    let capability = crate::call::capability_of(&step.function);
    let digest = Digest::of(&step.arguments).to_string();
    all.into_iter()
        .map(|mut note| Record {
            execution,
            step: Some(step.number),
            site: "call",
            capability: capability.into(),
            function: Some(step.function.to_string()),
            arguments: Some(note.arguments.take().unwrap_or_else(|| digest.clone())),
            reason: note.reason.take(),
            argument: note.argument.take(),
            import: None,
            note,
        })
        .collect()
}

/// How much of output that was refused an audit record repeats, in bytes.
const SAID_MAX: usize = 256;

/// What output was about.
fn said(event: sink::Event<'_>) -> Option<String> {
    let text = match event {
        sink::Event::Print(text) | sink::Event::Log { message: text, .. } => text,
        sink::Event::Display { mime, .. } => mime,
        _ => return None,
    };
    Some(text[..text.floor_char_boundary(SAID_MAX)].to_owned())
}

/// Tells a subscriber of `tracing`, in the same words, at the level that its weight deserves.
pub(super) fn tell(execution: ExecutionId, step: u64, capability: &str, arguments: &[u8], note: &Note) {
    macro_rules! tell {
        ($level:expr) => {
            tracing::event!(
                target: "parole::audit",
                $level,
                %execution,
                step,
                capability,
                arguments = %Digest::of(arguments),
                verdict = ?note.verdict,
                rule = note.rule.as_deref(),
                generation = note.generation,
                promise = note.promise.as_deref(),
                by = note.by.as_deref(),
            )
        };
    }
    if note.goes_without_saying() { tell!(tracing::Level::DEBUG) } else { tell!(tracing::Level::INFO) }
}
