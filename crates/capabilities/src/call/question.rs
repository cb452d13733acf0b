//! What a person is asked about a call of a guest: whether it may be made (`ask`), and what came of it
//! when nobody knows (`doubt`).
//!
//! The texts are the host's. What the guest wanted stands in `arguments`, exactly and apart from them.

use parole_durable::{Digest, ExecutionId, PromiseRecord};
use parole_policy::Catalogue;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::untyped;
use crate::error::json;

/// The label of promises that ask whether a call may be made.
pub const ASK: &str = "ask";
/// The label of promises that ask what came of a call.
pub const DOUBT: &str = "doubt";
/// The most arguments that a person can be asked about, in bytes of JSON.
pub const ARGUMENTS_MAX: usize = 1 << 20;
/// When a question about a call expires if its rule says nothing else: 7 days, in milliseconds.
pub const ASK_TIMEOUT_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// The `param` of such a promise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// What is asked, in the host's words.
    pub text: String,
    /// Which capability.
    pub capability: String,
    /// Which of its functions, as the journal names it.
    pub function: String,
    /// The rule that wants a person asked; of a doubt there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Everything that the guest passed, in the form that is acted on, by parameter name. Guest text: not inert.
    pub arguments: Value,
    /// Ties the answer to this very call; see [`digest`].
    pub digest: String,
    /// The digest of the component.
    pub component: String,
    /// The execution.
    pub execution: String,
    /// The number of the call in it.
    pub step: u64,
}

impl Question {
    /// The question of a promise; `None` for a promise of another kind, or one that cannot be read.
    #[must_use]
    pub fn of(record: &PromiseRecord) -> Option<Self> {
        if !matches!(record.capability(), ASK | DOUBT) {
            return None;
        }
        serde_json::from_str(record.param.data.as_deref()?).ok()
    }

    /// One line on what it is about. Guest text: not inert.
    #[must_use]
    pub fn summary(&self) -> String {
        let users = || line(self.function.rsplit('.').next().unwrap_or_default(), &self.arguments);
        let about = match crate::by_name(&self.capability) {
            Some(entry) => entry.definition.line(&self.arguments),
            None => users(),
        };
        match &self.rule {
            Some(rule) => format!("{} {about} (rule `{rule}`)", self.capability),
            None => format!("{} {about} (it may or may not have happened)", self.capability),
        }
    }
}

/// One line on a call of a function that users define: `delete(id: "42")`. Guest text: not inert.
#[must_use]
pub fn line(function: &str, arguments: &Value) -> String {
    let each = arguments.as_object().into_iter().flatten().map(|(name, value)| format!("{name}: {value}"));
    format!("{function}({})", each.collect::<Vec<_>>().join(", "))
}

/// What a decision is bound to: the SHA-256 of component, capability, arguments in their one form, execution and step,
/// as JSON.
#[must_use]
pub fn digest(component: &Digest, capability: &str, arguments: &[u8], execution: ExecutionId, step: u64) -> String {
    #[derive(Serialize)]
    struct Bound<'a> {
        component: String,
        capability: &'a str,
        arguments: std::borrow::Cow<'a, str>,
        execution: String,
        step: u64,
    }
    let bound = Bound {
        component: component.to_string(),
        capability,
        arguments: String::from_utf8_lossy(arguments),
        execution: execution.to_string(),
        step,
    };
    Digest::of(&json(&bound)).to_string()
}

/// What a person decides about a call that was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// This call.
    Once,
    /// This call, and the same again in this execution: the same rule, identical arguments.
    Execution,
    /// No.
    Deny,
}

/// The value that settles an `ask`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// What was decided.
    pub decision: Decision,
    /// The digest of the question.
    pub digest: String,
    /// Why, for the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// With a no: also to whatever else the same rule asks in this execution from now on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rest: bool,
}

/// The value that settles a `doubt`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It happened, and this was the answer: the JSON of the ok payload.
    Done(Value),
    /// Do it again.
    Again,
    /// The guest is to be told that it failed.
    Fail(String),
}

/// Checks the value with which somebody wants to settle an `ask` or a `doubt`; the error says what was expected.
/// `catalogue` has what this program answers beside what Parole ships.
/// `None` for a promise of another kind.
#[must_use]
pub fn check(record: &PromiseRecord, value: &Value, catalogue: &Catalogue) -> Option<Result<(), String>> {
    let kind = record.capability();
    if !matches!(kind, ASK | DOUBT) {
        return None;
    }
    let Some(question) = Question::of(record) else {
        return Some(Err("a question that can be read; cancel the execution".into()));
    };
    Some(if kind == ASK { answer(&question, value).map(drop) } else { fate(&question, value, catalogue).map(drop) })
}

pub(crate) fn answer(question: &Question, value: &Value) -> Result<Answer, String> {
    let expected = |why: String| {
        format!(
            "expected {{\"decision\": \"once\" or \"execution\" or \"deny\", \"digest\": \"{}\", \"reason\": \"…\"}}, with \"deny\" also \"rest\": true: {why}",
            question.digest
        )
    };
    // An array of the fields would do for the parser.
    if !value.is_object() {
        return Err(expected("it is no object".into()));
    }
    let answer = Answer::deserialize(value).map_err(|error| expected(error.to_string()))?;
    if answer.rest && answer.decision != Decision::Deny {
        return Err(expected("`rest` goes with `deny`".into()));
    }
    if answer.digest != question.digest {
        return Err(expected("the digest is that of another call".into()));
    }
    Ok(answer)
}

pub(crate) fn fate(question: &Question, value: &Value, catalogue: &Catalogue) -> Result<Fate, String> {
    let expected = |why: String| format!("expected {{\"done\": OK-VALUE}}, \"again\" or {{\"fail\": \"TEXT\"}}: {why}");
    let fate = Fate::deserialize(value).map_err(|error| expected(error.to_string()))?;
    if let Fate::Done(value) = &fate {
        stored((&question.capability, &question.function), value, catalogue).map_err(expected)?;
    }
    Ok(fate)
}

/// The form in which the journal keeps an ok value that a person gives.
pub(crate) fn stored(
    (capability, function): (&str, &str),
    value: &Value,
    catalogue: &Catalogue,
) -> Result<Vec<u8>, String> {
    if let Some(entry) = crate::by_name(capability) {
        return (entry.done)(function, value);
    }
    let own = catalogue.by_name(capability).and_then(|own| own.functions.iter().find(|own| *own.name == *function));
    untyped::stored(own.ok_or_else(|| format!("this program has no capability `{capability}`"))?, value)
}

/// The ok values of calls that are never in doubt.
pub(crate) fn never(_: &str, _: &Value) -> Result<Vec<u8>, String> {
    Err("such a call is never in doubt".into())
}

/// The ok value of a call that has none: `null`.
pub(crate) fn unit(_: &str, value: &Value) -> Result<Vec<u8>, String> {
    if value.is_null() { Ok(Vec::new()) } else { Err("its ok value is null".into()) }
}

/// The ok value of a call that gives bytes: base64.
pub(crate) fn bytes(_: &str, value: &Value) -> Result<Vec<u8>, String> {
    use base64::Engine as _;
    let text = value.as_str().unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok().filter(|_| value.is_string());
    bytes.ok_or_else(|| "its ok value is base64 text".into())
}
