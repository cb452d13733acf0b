//! What workers hold: of several that answer promises of one kind, each promise is one's at a time.
//!
//! A claim is held by an owner, which is a lock and not a clock (see [`owner`](crate::owner)): it is void once its process has
//! ended. It has a fence, one more with each claim, so that whoever has lost it settles nothing.

use super::Refusal;
use crate::ids::{OwnerId, PromiseId, UnixMs};
use crate::promise::{PromiseRecord, PromiseState, TAG_EFFECT};

/// The claim of a worker to a promise that is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The promise.
    pub promise: PromiseId,
    /// Who holds it; nobody, once it was given back.
    pub owner: Option<OwnerId>,
    /// How often it has been claimed.
    pub fence: u64,
    /// How many attempts at it have failed.
    pub failed: u64,
    /// It is not to be claimed before.
    pub not_before: UnixMs,
    /// Whether it may or may not have been done: its worker has died, and it is not to be done twice. Nobody claims it
    /// again; a person settles the promise.
    pub doubt: bool,
}

/// What becomes of a claim that is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Nothing was done: it is tried again later.
    Later,
    /// It was tried, and did not work.
    Failed,
    /// It may or may not have been done.
    Doubt,
}

impl Claim {
    /// Takes a promise, of which there may be a claim already; `void` is an owner that the caller has seen to be dead.
    ///
    /// # Errors
    /// It is not pending, somebody else holds it, or its time has not come.
    pub(crate) fn take(
        found: Option<Claim>,
        promise: &PromiseRecord,
        owner: OwnerId,
        void: Option<OwnerId>,
        now: UnixMs,
    ) -> Result<Claim, Refusal> {
        let mut due = promise.clone();
        due.apply_timeout(now);
        let id = || promise.id.clone();
        if due.state != PromiseState::Pending || promise.is_timer() {
            return Err(Refusal::Settled(id()));
        }
        let claim = match found {
            None => Claim { promise: id(), owner: None, fence: 0, failed: 0, not_before: 0, doubt: false },
            Some(claim) if claim.doubt => return Err(Refusal::InDoubt(id())),
            Some(claim) if claim.owner.is_some() && claim.owner != void => return Err(Refusal::Claimed(id())),
            // Its worker has died with it.
            Some(claim) if claim.owner.is_some() && is_once(promise) => {
                return Ok(Claim { owner: None, doubt: true, ..claim });
            }
            Some(claim) if claim.owner.is_none() && now < claim.not_before => return Err(Refusal::Claimed(id())),
            Some(claim) => claim,
        };
        Ok(Claim { owner: Some(owner), fence: claim.fence + 1, ..claim })
    }

    /// Gives it back.
    ///
    /// # Errors
    /// Somebody else holds it by now.
    pub(crate) fn release(
        self,
        (owner, fence): (OwnerId, u64),
        how: Release,
        not_before: UnixMs,
    ) -> Result<Self, Refusal> {
        self.held_by(owner, fence)?;
        let failed = self.failed + u64::from(how == Release::Failed);
        Ok(Claim { owner: None, failed, not_before, doubt: how == Release::Doubt, ..self })
    }

    /// Whether this owner holds it under this fence.
    pub(crate) fn held_by(&self, owner: OwnerId, fence: u64) -> Result<(), Refusal> {
        if self.owner == Some(owner) && self.fence == fence {
            return Ok(());
        }
        Err(Refusal::Claimed(self.promise.clone()))
    }
}

/// Whether doing it again means something else than doing it once.
fn is_once(promise: &PromiseRecord) -> bool {
    promise.tags.get(TAG_EFFECT).is_some_and(|effect| effect == "once")
}
