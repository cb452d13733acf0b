//! A call on its way through the journal.

use std::borrow::Cow;

use super::{EffectClass, PromiseId, StepResult, UnixMs};
use crate::step::Stage;

/// What the driver does next with a call.
#[derive(Debug)]
pub enum Next {
    /// Give this to the guest; nothing else may happen.
    Replayed {
        /// What the guest is given.
        result: StepResult,
        /// What had been noted about the call.
        notes: Vec<u8>,
        /// The promise of its record.
        promise: Option<PromiseId>,
    },
    /// Decide it, and if it is allowed perform it.
    Open(Open),
}

/// A call that has no result yet.
#[derive(Debug)]
pub struct Open {
    /// Its number.
    pub number: u64,
    /// Its effect class: the recorded one where the call had been recorded, else the one that was
    /// asked with. A driver that knows better (an asked call is `once`) sets it before it records the call.
    pub effect: EffectClass,
    /// What is noted about it, opaque here: written with each record of the call. Starts as what was recorded.
    pub notes: Vec<u8>,
    /// Set where the call had been recorded before a crash or a park.
    pub earlier: Option<Earlier>,
    pub(super) function: Cow<'static, str>,
    pub(super) arguments: Vec<u8>,
}

impl Open {
    /// The capability function.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The canonical arguments.
    #[must_use]
    pub fn arguments(&self) -> &[u8] {
        &self.arguments
    }
}

/// What is known of a call that was recorded before this attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// How far it had come.
    pub stage: Stage,
    /// When it had come there.
    pub at: UnixMs,
    /// The promise of that record.
    pub promise: Option<PromiseId>,
    /// What was noted about it.
    pub notes: Vec<u8>,
}

/// What the journal remembers of a call between its first record and its result.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) stage: Stage,
    pub(super) at: UnixMs,
    /// Whether its promise counts as pending.
    pub(super) waits: bool,
    /// Bytes of notes that count against the journal.
    pub(super) notes: u64,
}

/// Whether the promise of a record is one that the guest waits for, so that it counts against the limit
/// of pending ones. One that an admitted call keeps has been settled, unless waiting is all that the call does.
pub(super) fn waits(stage: Stage, effect: EffectClass, promise: Option<&PromiseId>) -> bool {
    promise.is_some() && (stage != Stage::Admitted || effect == EffectClass::Await)
}
