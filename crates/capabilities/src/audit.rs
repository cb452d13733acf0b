//! One structured record for each decision about a call: in the journal, and through `tracing`.
//!
//! A step keeps its [`Note`]s; that a call was plainly allowed under the first generation is what a step
//! without notes says. [`records`] makes the full records of a step. Neither arguments nor results are in
//! them, only the digest of the canonical arguments.

use parole_durable::journal::{DROPPED, OUTPUT, frames};
use parole_durable::{Digest, ExecutionId, Step, StepResult, UnixMs};
use serde::{Deserialize, Serialize};

use crate::sink;
use crate::types::json;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
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
    pub verdict: Verdict,
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
}

impl Note {
    pub(crate) fn new(verdict: Verdict, generation: u64, at: UnixMs) -> Self {
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
        }
    }

    /// Whether a step without notes says the same.
    pub(crate) fn goes_without_saying(&self) -> bool {
        self.verdict == Verdict::Allow && self.generation == 0 && self.rule.is_none()
    }
}

/// The notes of a step; bytes that are none give none.
#[must_use]
pub fn notes(bytes: &[u8]) -> Vec<Note> {
    if bytes.is_empty() { Vec::new() } else { serde_json::from_slice(bytes).unwrap_or_default() }
}

/// Adds a note to those of a step.
pub(crate) fn add(bytes: &mut Vec<u8>, note: Note) {
    let mut all = notes(bytes);
    all.push(note);
    *bytes = json(&all);
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
    /// The digest of the canonical arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
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
            import: import.map(str::to_owned),
            note: Note::new(Verdict::Deny, 0, at),
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
                let name = match channel & !DROPPED {
                    sink::PRINT => "print",
                    sink::LOG => "log",
                    sink::DISPLAY => "display",
                    _ => return None,
                };
                let verdict = if channel & DROPPED == 0 { Verdict::Allow } else { Verdict::Deny };
                Some(Record {
                    execution,
                    step: Some(number),
                    site: "call",
                    capability: name.into(),
                    function: Some(name.into()),
                    arguments: Some(Digest::of(payload).to_string()),
                    import: None,
                    note: Note::new(verdict, 0, 0),
                })
            })
            .collect();
    }
    let mut all = notes(&step.notes);
    if all.is_empty() {
        let denied = matches!(&step.completion, Some(done) if matches!(done.result, StepResult::Denied(_)));
        all.push(Note::new(if denied { Verdict::Deny } else { Verdict::Allow }, 0, step.admitted_at));
    }
    let capability = crate::execution::entry_of(&step.function).map_or("", |entry| entry.capability.name);
    let digest = Digest::of(&step.arguments).to_string();
    all.into_iter()
        .map(|note| Record {
            execution,
            step: Some(step.number),
            site: "call",
            capability: capability.into(),
            function: Some(step.function.to_string()),
            arguments: Some(digest.clone()),
            import: None,
            note,
        })
        .collect()
}

/// Tells a subscriber of `tracing`, in the same words, at the level that its weight deserves.
pub(crate) fn tell(execution: ExecutionId, step: u64, capability: &str, arguments: &[u8], note: &Note) {
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
