//! Durable promises: the record model of the Resonate protocol, version `2026-04-01`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{ExecutionId, NEVER, PromiseId, UnixMs};

/// The tag that holds the exact name of the capability.
pub const TAG_CAPABILITY: &str = "parole:capability";
/// The tag that holds the id of the execution.
pub const TAG_EXECUTION: &str = "parole:execution";
/// The tag that holds the number of the step.
pub const TAG_STEP: &str = "parole:step";
/// The tag that holds the digest of the component.
pub const TAG_COMPONENT: &str = "parole:component";
/// The tag of a promise that is meant to be settled from outside.
pub const TAG_EXTERNAL: &str = "resonate:external";
/// The tag of a promise that its timeout resolves.
pub const TAG_TIMER: &str = "resonate:timer";

/// The tag that holds the function, by its name in WIT, of a call that workers answer.
pub const TAG_FUNCTION: &str = "parole:function";
/// The tag that says what it means to do such a call again: `read`, `idempotent` or `once`.
pub const TAG_EFFECT: &str = "parole:effect";

/// Where a promise stands. Only `Pending` moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromiseState {
    /// Nobody has settled it.
    Pending,
    /// Settled with a value.
    Resolved,
    /// Settled with a refusal or an error.
    Rejected,
    /// Canceled, by a person or because its execution ended.
    RejectedCanceled,
    /// Its timeout passed.
    RejectedTimedout,
}

/// A promise that was made later than now by more than this, in milliseconds, was made by a clock that was wrong.
pub const AHEAD_MS: u64 = 1_000;

/// What a promise carries in (`param`) or out (`value`).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Value {
    /// Who settled it, and what else is said about the data.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl Value {
    /// A value of some JSON text, without headers.
    #[must_use]
    pub fn json(data: impl Into<String>) -> Self {
        Self { headers: BTreeMap::new(), data: Some(data.into()) }
    }
}

/// One durable promise. Times are Unix milliseconds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromiseRecord {
    /// Its id.
    pub id: PromiseId,
    /// Where it stands.
    pub state: PromiseState,
    /// What was asked.
    pub param: Value,
    /// What was answered.
    pub value: Value,
    /// What is said about it.
    pub tags: BTreeMap<String, String>,
    /// When it times out.
    pub timeout_at: UnixMs,
    /// When it was made.
    pub created_at: UnixMs,
    /// When it was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<UnixMs>,
}

impl PromiseRecord {
    /// Applies the timeout: a pending promise whose time has come is settled at `timeoutAt`,
    /// a timer as resolved, any other as timed out. Says whether that happened.
    pub fn apply_timeout(&mut self, now: UnixMs) -> bool {
        if self.state != PromiseState::Pending || now < self.timeout_at {
            return false;
        }
        self.state = if self.is_timer() { PromiseState::Resolved } else { PromiseState::RejectedTimedout };
        self.settled_at = Some(self.timeout_at);
        true
    }

    /// Whether a clock made it that was ahead of the present one: nothing is made later than now.
    #[must_use]
    pub fn is_ahead(&self, now: UnixMs) -> bool {
        self.state == PromiseState::Pending && self.created_at > now.saturating_add(AHEAD_MS)
    }

    /// One that a clock made that was ahead has its times computed anew, as if it had been made now: it keeps the
    /// span that it was given. Says whether that happened.
    pub fn recompute(&mut self, now: UnixMs) -> bool {
        if !self.is_ahead(now) {
            return false;
        }
        if self.timeout_at < NEVER {
            self.timeout_at = now.saturating_add(self.timeout_at.saturating_sub(self.created_at)).min(NEVER);
        }
        self.created_at = now;
        true
    }

    /// Whether its timeout resolves it. Whoever may settle promises can end it before.
    #[must_use]
    pub fn is_timer(&self) -> bool {
        self.tags.get(TAG_TIMER).is_some_and(|value| value == "true")
    }

    /// The capability that made it; empty if the tag is missing.
    #[must_use]
    pub fn capability(&self) -> &str {
        self.tags.get(TAG_CAPABILITY).map_or("", String::as_str)
    }

    /// The execution that waits for it.
    #[must_use]
    pub fn execution(&self) -> Option<ExecutionId> {
        self.tags.get(TAG_EXECUTION)?.parse().ok()
    }
}
