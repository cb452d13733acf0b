//! One recorded host call.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::ids::{PromiseId, UnixMs};

/// What repeating a capability function would do to the world.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectClass {
    /// Sent and forgotten: `print`, `log`, `display`.
    Send,
    /// Someone else settles a promise.
    Await,
    /// Repeat freely.
    Read,
    /// Repeat with the promise id as the key.
    Idempotent,
    /// Never repeated silently.
    Once,
}

/// How far a call has come that has no result yet; of one that has, how far it came before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It is being asked about: nothing has been done.
    Asked,
    /// The host has taken it on: from here on its effect may have happened.
    #[default]
    Admitted,
    /// Its process died on it: somebody must say what came of it.
    InDoubt,
}

/// One host call of an execution, or one run of send-only calls that were flushed together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The number of the (first) call, counted from 0 over all calls of the execution.
    pub number: u64,
    /// How many calls it covers: 1, or more for a run of send-only calls.
    pub calls: u64,
    /// The capability function: `read_file`, or `output` for a run of send-only calls.
    pub function: Cow<'static, str>,
    /// Its effect class.
    pub effect: EffectClass,
    /// Canonical arguments; for `output` the frames themselves (see [`crate::journal`]).
    pub arguments: Vec<u8>,
    /// The promise of an `await` call, or the one by which it was asked about or cleared of doubt.
    pub promise: Option<PromiseId>,
    /// How far it has come.
    pub stage: Stage,
    /// What the upper crates note about it, opaque here; mostly empty.
    pub notes: Vec<u8>,
    /// When it came to its stage.
    pub admitted_at: UnixMs,
    /// How it went; `None` while it is only admitted.
    pub completion: Option<Completion>,
    /// Whether the guest has been given the result.
    pub delivered: bool,
}

/// How a call went, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completion {
    /// When it completed.
    pub at: UnixMs,
    /// What the guest is given.
    pub result: StepResult,
}

/// What the guest is given. The bytes are in the encoding of the capability.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StepResult {
    /// The ok payload.
    Ok(Vec<u8>),
    /// A typed error, as JSON text.
    Err(Vec<u8>),
    /// A denial by the policy, as JSON text: it holds the reason (for the guest) and the remedy (for the operator).
    Denied(Vec<u8>),
}

impl Step {
    /// The bytes that count against the journal limit: arguments, notes and result.
    #[must_use]
    pub fn size(&self) -> u64 {
        let result = match &self.completion {
            None => 0,
            Some(Completion { result: StepResult::Ok(b) | StepResult::Err(b) | StepResult::Denied(b), .. }) => b.len(),
        };
        (self.arguments.len() + self.notes.len() + result) as u64
    }
}
