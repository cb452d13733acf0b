//! The condition of a rule: an expression of CEL over the arguments of a call.
//!
//! The `cel` crate parses and evaluates. Before it may evaluate anything, `cel::check` walks the parsed
//! expression: names, types and cost are known when a policy is read, so a rule can neither be misspelled nor be
//! slow. What it evaluates on are views of the arguments (`cel::values`), made when they are looked at.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cel::{self, Compiled};
use crate::{Definition, Facts, Looks};

/// The longest expression, in bytes.
pub const MAX_EXPRESSION: usize = 2 << 10;
/// The deepest nesting of an expression, as it is parsed and as the macros in it expand.
pub const MAX_DEPTH: usize = 32;
/// How deep `all`, `exists`, `exists_one`, `map` and `filter` may stand in one another.
pub const MAX_NESTING: usize = 2;
/// What evaluating an expression may cost at worst, where one step costs 64 and a byte that is looked at 1.
pub const MAX_COST: u64 = 1 << 28;
/// The most text that a part of an expression may come to, in bytes.
pub const MAX_HELD: u64 = 1 << 20;

/// The condition of a rule: an expression of CEL over the arguments of the call.
///
/// It is compared, and pinned, as its source. Of one that was not read for a capability yet nobody knows whether it
/// holds.
#[derive(Clone)]
pub struct Condition {
    source: Arc<str>,
    read: Option<(Arc<Compiled>, Looks)>,
}

/// What is wrong with a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadCondition {
    /// What is wrong.
    pub message: String,
    /// The bytes of the expression that it is about.
    pub at: Range<usize>,
    /// The nearest valid spelling, or what is valid.
    pub help: Option<String>,
}

impl Condition {
    /// An expression that nobody has read yet.
    pub(crate) fn unread(source: &str) -> Self {
        Condition { source: source.into(), read: None }
    }

    /// Whether it has been read.
    pub(crate) fn is_read(&self) -> bool {
        self.read.is_some()
    }

    /// Reads an expression that may look at the arguments of this capability, or of one function of it.
    pub fn compile(source: &str, capability: &Definition, function: Option<&str>) -> Result<Self, BadCondition> {
        if source.len() > MAX_EXPRESSION {
            let message = format!("an expression is {MAX_EXPRESSION} bytes long at most");
            return Err(BadCondition { message, at: 0..0, help: None });
        }
        let read = catch_unwind(AssertUnwindSafe(|| cel::compile(source, capability, function)));
        let compiled = read.unwrap_or_else(|_| {
            let message = "the expression cannot be read".to_owned();
            Err(BadCondition { message, at: 0..0, help: None })
        })?;
        let looks = compiled.looks(capability);
        Ok(Condition { source: source.into(), read: Some((Arc::new(compiled), looks)) })
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What it looks at, whatever the call.
    pub fn looks(&self) -> Looks {
        self.read.as_ref().map_or(Looks::ALL, |(_, looks)| *looks)
    }

    /// A comparison in it that holds for no call, because it is with a spelling that nothing has.
    pub(crate) fn never(&self) -> Option<&BadCondition> {
        self.read.as_ref().and_then(|(compiled, _)| compiled.never.as_ref())
    }

    /// Whether it holds for a call; an error says for the operator why that cannot be told.
    pub(crate) fn holds(&self, facts: &dyn Facts) -> Result<bool, String> {
        let Some((compiled, _)) = &self.read else { return Err("it was not read".to_owned()) };
        let evaluate = AssertUnwindSafe(|| compiled.evaluate(facts));
        catch_unwind(evaluate).unwrap_or_else(|_| Err("it failed".to_owned()))
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.source).finish()
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Condition {}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|source| Condition::unread(&source))
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}
