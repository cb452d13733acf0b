//! What is stored of an execution, beside its steps and promises.

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::Write;
use super::{Commit, NewExecution, Refusal};
use crate::ids::{Digest, ExecutionId, Fence, OwnerId, ScheduleId, Secret, UnixMs};
use crate::promise::PromiseRecord;
use crate::schedule::{Fire, ScheduleRecord};

/// How many faults are kept with an execution that was set aside.
const FAULTS_KEPT: usize = 16;

/// What an execution has used, saved at barriers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Guest time, in microseconds.
    pub cpu_us: u64,
    /// Time while running, in microseconds; waiting on a promise does not count.
    pub wall_us: u64,
    /// Bytes of output.
    pub output: u64,
    /// Bytes of steps.
    pub journal: u64,
    /// Output of calls below this number has been shown: a resume shows what lies above it
    /// (and so may repeat what was shown right before a crash, never lose it).
    pub shown: u64,
}

/// An execution as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionRecord {
    /// Its id.
    pub id: ExecutionId,
    /// The digest of the component.
    pub component: Digest,
    /// See [`NewExecution::setup`].
    pub setup: Digest,
    /// See [`Secret`].
    pub secret: Secret,
    /// The current fence.
    pub fence: Fence,
    /// Who holds it, if anybody (who may be dead).
    pub owner: Option<OwnerId>,
    /// What it has used.
    pub usage: Usage,
    /// When it was started.
    pub created_at: UnixMs,
    /// When its row last changed.
    pub updated_at: UnixMs,
    /// How it ended, as JSON text; `None` while it has not.
    pub outcome: Option<String>,
    /// Under which policy its next call is decided: 0 is the one of its set-up, others are in its grants.
    pub generation: u64,
    /// The schedule that made it (which may be gone).
    pub schedule: Option<ScheduleId>,
    /// How many calls its steps cover; `None` for one that an older program made, until it is next acquired.
    pub calls: Option<u64>,
    /// How many processes it has felled since it last came further; see [`Write::Fell`].
    pub felled: u64,
    /// Once it has ended: who had its last output to show (who may be dead); see [`Write::Claim`].
    pub showing: Option<OwnerId>,
    /// What was found damaged when it was set aside.
    pub aside: Option<String>,
}

impl ExecutionRecord {
    /// The record of a new one.
    pub(crate) fn of(id: ExecutionId, new: &NewExecution, now: UnixMs) -> Self {
        Self {
            id,
            component: new.component,
            setup: new.setup,
            secret: new.secret.clone(),
            fence: Fence::FIRST,
            owner: Some(new.owner),
            usage: Usage::default(),
            created_at: new.created_at,
            updated_at: now,
            outcome: None,
            generation: 0,
            schedule: None,
            calls: Some(0),
            felled: 0,
            showing: None,
            aside: None,
        }
    }

    /// The record of one that a schedule makes.
    pub(crate) fn fired(schedule: &ScheduleRecord, fire: &Fire) -> Self {
        Self {
            id: fire.execution,
            component: schedule.component,
            setup: schedule.setup,
            secret: fire.secret.clone(),
            fence: Fence::FIRST,
            owner: None,
            usage: Usage::default(),
            created_at: fire.now,
            updated_at: fire.now,
            outcome: None,
            generation: 0,
            schedule: Some(schedule.id),
            calls: Some(0),
            felled: 0,
            showing: None,
            aside: None,
        }
    }

    /// What a commit changes, without the step that is withheld from it, and but for what becomes of the lease.
    pub(crate) fn advance(&mut self, commit: &Commit, withheld: Option<u64>) {
        let steps = commit.steps.iter().filter(|step| Some(step.number) != withheld);
        // What has been shown stays shown, whatever an attempt believed that began before it was noted.
        let shown = self.usage.shown.max(commit.usage.shown);
        self.usage = Usage { shown, ..commit.usage };
        self.updated_at = commit.now;
        let known = self.calls.unwrap_or(0);
        // A call that is taken on again, as one that may be repeated is, is not further than before.
        if steps.clone().any(|step| step.number >= known || step.completion.is_some()) {
            self.felled = 0;
        }
        let upto = steps.map(|step| step.number.saturating_add(step.calls)).max();
        self.calls = self.calls.map(|calls| calls.max(upto.unwrap_or(0)));
    }

    /// The step that a commit is to leave out: the call was decided under grants that are not the present ones.
    pub(crate) fn withheld(&self, commit: &Commit) -> Option<u64> {
        commit.admits.filter(|admission| admission.generation != self.generation).map(|admission| admission.step)
    }

    /// The promises that a commit makes, without those of the step that is withheld from it.
    pub(crate) fn promises(commit: &Commit, withheld: Option<u64>) -> impl Iterator<Item = &PromiseRecord> {
        let step = commit.steps.iter().find(|step| Some(step.number) == withheld);
        let own = step.and_then(|step| step.promise.as_ref());
        commit.promises.iter().filter(move |promise| Some(&promise.id) != own)
    }

    /// It ends; what it has not shown yet is for its owner to show.
    pub(crate) fn end(&mut self, outcome: &str) {
        self.outcome = Some(outcome.to_owned());
        self.showing = self.owner.take();
    }

    /// It is taken from whoever holds it, and nobody is to show any of it.
    pub(crate) fn set_aside(&mut self, mut faults: Vec<String>, now: UnixMs) {
        let more = faults.len().saturating_sub(FAULTS_KEPT);
        faults.truncate(FAULTS_KEPT);
        if more > 0 {
            faults.push(format!("and {more} more"));
        }
        self.aside = Some(faults.join("; "));
        self.fence.0 += 1;
        self.owner = None;
        self.updated_at = now;
    }

    /// It has felled its owner; gives how many by now.
    pub(crate) fn fell(&mut self, owner: OwnerId) -> Result<u64, Refusal> {
        if self.owner != Some(owner) {
            return Err(Refusal::Held(self.id));
        }
        self.owner = None;
        self.felled = self.felled.saturating_add(1);
        Ok(self.felled)
    }

    /// Somebody else shows its last output, or nobody yet.
    pub(crate) fn claim(&mut self, owner: Option<OwnerId>, void: Option<OwnerId>) -> Result<(), Refusal> {
        if self.outcome.is_none() {
            return Err(Refusal::NotEnded(self.id));
        }
        if self.showing.is_some() && self.showing != void {
            return Err(Refusal::Held(self.id));
        }
        self.showing = owner;
        Ok(())
    }
}

/// One change of the policy of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRecord {
    /// Whose.
    pub execution: ExecutionId,
    /// The generation that began with it.
    pub generation: u64,
    /// The policy from then on, a payload.
    pub policy: Digest,
    /// Who did it.
    pub by: String,
    /// What was changed, as JSON text.
    pub change: String,
    /// When.
    pub at: UnixMs,
}
