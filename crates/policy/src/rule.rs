//! Rules: what the scope allows, looked at again call by call.

use serde::{Deserialize, Serialize};

use crate::nearest::quoted;
use crate::{Condition, Definition, SecurityPolicy, Timeout};

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
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, unique in the policy.
    pub name: String,
    /// The capability that it is about.
    pub capability: String,
    /// The function that it is about, of a capability that users define; none: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// When it decides; always, if there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    /// What it says then.
    pub then: Then,
    /// Of one that asks: when the question expires, if not after 7 days.
    #[serde(default, rename = "timeout_ms", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
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
    /// Reads its condition, if nobody has.
    pub(crate) fn read(&mut self, capability: &Definition) -> Result<(), String> {
        if let Some(when) = self.when.as_mut().filter(|when| !when.is_read()) {
            *when =
                Condition::compile(when.source(), capability, self.function.as_deref()).map_err(|bad| bad.message)?;
        }
        Ok(())
    }

    /// Why this capability can have no such rule.
    pub(crate) fn unfit(&self, capability: &Definition) -> Option<String> {
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
