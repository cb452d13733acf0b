//! What a run came to: outcomes, and the objects that `--json` prints.

use parole_durable::{ExecutionId, UnixMs};
use serde::{Deserialize, Serialize};

/// The longest text that a guest may put into an error or a refusal, in bytes. What it makes on
/// purpose (output, results) has limits of the policy instead.
pub const TEXT_MAX: usize = 2 << 10;
/// The longest name of a guest's making in a text or a list, in bytes.
pub const NAME_MAX: usize = 200;

/// A text of at most so many bytes: what is cut off is marked.
#[must_use]
pub fn cut(text: impl Into<String>, most: usize) -> String {
    const MARK: char = '…';
    let mut text = text.into();
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most.saturating_sub(MARK.len_utf8())));
        text.push(MARK);
        // What was long is not kept in memory behind a short text.
        text.shrink_to_fit();
    }
    text
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The guest returned.
    Completed,
    /// The guest returned an error.
    Failed,
    /// The policy refused an import, or a call that has no error channel.
    Denied,
    /// It waits for a promise; it can be resumed.
    Suspended,
    /// A person or a program canceled it.
    Canceled,
    /// The guest broke a rule of the machine.
    Trapped,
    /// A named limit was reached.
    Exhausted,
}

impl Outcome {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Completed => "completed",
            Outcome::Failed => "failed",
            Outcome::Denied => "denied",
            Outcome::Suspended => "suspended",
            Outcome::Canceled => "canceled",
            Outcome::Trapped => "trapped",
            Outcome::Exhausted => "exhausted",
        }
    }
}

/// One run, as far as it has come. Its JSON is the contract of `--json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which execution.
    pub execution: ExecutionId,
    /// How it ended, or that it waits.
    pub outcome: Outcome,
    /// What the guest returned, in WAVE; nothing for a function without a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The text of the whole execution, one string. Guest text: not inert.
    pub output: String,
    /// What it waits for.
    pub pending: Vec<Pending>,
    /// What was refused.
    pub denied: Vec<Denied>,
    /// The exit code of a guest that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_code: Option<u8>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The policy key of the limit that was reached. Not part of the contract: the error names it.
    #[serde(skip)]
    pub limit: Option<String>,
}

impl Report {
    /// The exit code of the `parole` program for it (design section 7).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.outcome {
            Outcome::Completed => 0,
            Outcome::Failed => self.guest_code.unwrap_or(1),
            Outcome::Denied => 77,
            Outcome::Suspended => 75,
            Outcome::Canceled => 76,
            Outcome::Trapped => 134,
            Outcome::Exhausted => match self.limit.as_deref() {
                Some("cpu_ms" | "wall_ms") => 124,
                _ => 137,
            },
        }
    }
}

/// A promise that an execution waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// Its id.
    pub id: String,
    /// Its capability.
    pub capability: String,
    /// What it asks, in one line. Guest text: not inert.
    pub summary: String,
    /// When it times out.
    pub timeout_at: UnixMs,
}

/// Where something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum At {
    /// Before the start: an import.
    Link,
    /// At a call.
    Call,
}

/// Something that the policy refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// Where.
    pub at: At,
    /// The import, at link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<String>,
    /// The capability; empty for an import that nobody defined.
    pub capability: String,
    /// What was asked for. Guest text: not inert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
    /// Why.
    pub reason: String,
    /// The flag or policy line that would allow it; empty where nothing would.
    pub remedy: String,
}

impl Denied {
    pub(crate) fn at_call(refused: &parole_capabilities::error::Refused) -> Self {
        Self {
            at: At::Call,
            import: None,
            capability: refused.capability.clone(),
            argument: refused.argument.as_deref().map(|argument| cut(argument, TEXT_MAX)),
            reason: match &refused.error {
                parole_capabilities::Error::Denied(reason) => cut(reason, TEXT_MAX),
                error => cut(error.to_string(), TEXT_MAX),
            },
            remedy: cut(refused.remedy.as_str(), TEXT_MAX),
        }
    }
}

/// How an ended execution is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Denied>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

impl Ending {
    pub(crate) fn of(outcome: Outcome) -> Self {
        Self { outcome, result: None, denied: Vec::new(), error: None, limit: None }
    }

    pub(crate) fn error(outcome: Outcome, error: impl Into<String>) -> Self {
        Self { error: Some(cut(error, TEXT_MAX)), ..Self::of(outcome) }
    }

    pub(crate) fn limit(name: &str, error: impl Into<String>) -> Self {
        Self { limit: Some(name.into()), ..Self::error(Outcome::Exhausted, error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_characters_and_marked() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "lo…");
        assert_eq!(cut("äöüäöü", 6), "ä…");
        for most in 0..20 {
            let text = cut("\u{1f600}".repeat(100), most);
            assert!(text.len() <= most.max(3), "{most}: {text}");
        }
    }

    #[test]
    fn whatever_a_guest_says_an_ending_is_short() {
        let ending = Ending::error(Outcome::Trapped, "x".repeat(1 << 20));
        assert_eq!(ending.error.map(|error| error.len()), Some(TEXT_MAX));
        let refused = parole_capabilities::error::Refused {
            capability: "read_file".into(),
            argument: Some("a".repeat(1 << 20)),
            error: parole_capabilities::Error::Denied("b".repeat(1 << 20)),
            remedy: "c".repeat(1 << 20),
        };
        let denied = Denied::at_call(&refused);
        assert!(serde_json::to_string(&denied).unwrap().len() < 4 * TEXT_MAX);
    }

    #[test]
    fn the_limit_is_told_in_words_only() {
        let report = Report {
            execution: ExecutionId::generate(),
            outcome: Outcome::Exhausted,
            result: None,
            output: String::new(),
            pending: Vec::new(),
            denied: Vec::new(),
            guest_code: None,
            error: Some("the cpu_ms limit of 10 ms is reached".into()),
            limit: Some("cpu_ms".into()),
        };
        assert_eq!(report.exit_code(), 124);
        let object = serde_json::to_value(&report).unwrap();
        let keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["denied", "error", "execution", "outcome", "output", "pending"]);
    }
}
