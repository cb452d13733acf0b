//! Rules: what the scope allows, looked at again call by call.

use serde::{Deserialize, Serialize};

use crate::nearest::quoted;
use crate::{BadCondition, Capability, Condition, SecurityPolicy, Timeout, arguments_of};

/// The most rules of one policy.
pub const MAX_RULES: usize = 64;
/// The longest name of a rule, in bytes.
pub const MAX_RULE_NAME: usize = 64;

/// What a rule says about the calls that it is about.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// The call may be made.
    Allow,
    /// A person decides.
    Ask,
    /// It may not be made.
    Deny,
}

impl Then {
    /// Every word.
    pub const ALL: [Then; 3] = [Then::Allow, Then::Ask, Then::Deny];

    /// The word as a policy file spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Then::Allow => "allow",
            Then::Ask => "ask",
            Then::Deny => "deny",
        }
    }

    /// What the word says.
    pub fn of(word: &str) -> Option<Then> {
        Then::ALL.into_iter().find(|then| then.as_str() == word)
    }
}

/// One rule. Of a capability's rules, in order, the first whose condition holds decides; none: the call may be
/// made, because its scope already held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Pinned")]
pub struct Rule {
    /// Its name, unique in the policy.
    pub name: String,
    /// The capability that it is about.
    pub capability: String,
    /// When it decides; always, if there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    /// What it says then.
    pub then: Then,
    /// Of one that asks: when the question expires, if not after 7 days.
    #[serde(default, rename = "timeout_ms", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
}

/// A rule as JSON holds it: its condition is only text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pinned {
    name: String,
    capability: String,
    #[serde(default)]
    when: Option<String>,
    then: Then,
    #[serde(default)]
    timeout_ms: Option<Timeout>,
}

impl TryFrom<Pinned> for Rule {
    type Error = String;

    fn try_from(pinned: Pinned) -> Result<Self, String> {
        let Pinned { name, capability, when, then, timeout_ms: timeout } = pinned;
        let when = match when {
            None => None,
            Some(text) => {
                let arguments = arguments_of(&capability);
                let compiled = Condition::compile(&text, arguments);
                Some(compiled.map_err(|bad: BadCondition| format!("rule {}: {}", quoted(&name), bad.message))?)
            }
        };
        Ok(Rule { name, capability, when, then, timeout })
    }
}

/// What is wrong with the name of a rule.
pub(crate) fn name(text: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !text.is_empty() && text.len() <= MAX_RULE_NAME && text.chars().all(plain) {
        return Ok(());
    }
    Err(format!("{} is not a name for a rule: 1 to 64 letters, digits, `_`, `-` and `.`", quoted(text)))
}

impl Rule {
    /// Why this capability can have no such rule.
    pub(crate) fn unfit(&self, capability: &Capability) -> Option<String> {
        (self.then == Then::Ask && !capability.kind.waits())
            .then(|| format!("nobody can be asked about `{}`: it is called without waiting", capability.name))
    }
}

impl SecurityPolicy {
    /// The rules of a capability, in order.
    pub fn rules_of<'p>(&'p self, capability: &'p str) -> impl Iterator<Item = &'p Rule> {
        self.rules.iter().filter(move |rule| rule.capability == capability)
    }
}
