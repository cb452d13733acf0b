//! Schedules: what is to be run at a time, or again and again.
//!
//! Nothing here knows a calendar: whoever fires a schedule says when it is due next. The store sees to it
//! that of many that fire the same schedule one wins, and that the new execution and the next time are one commit.

use std::sync::Arc;

use crate::ids::{Digest, ExecutionId, ScheduleId, Secret, UnixMs};

/// A schedule as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRecord {
    /// Its id.
    pub id: ScheduleId,
    /// When and how it runs, as JSON text; opaque here.
    pub spec: String,
    /// The digest of the component.
    pub component: Digest,
    /// The payload that pins everything else, as for an execution.
    pub setup: Digest,
    /// When it is due; `None` once it will never be again.
    pub next_at: Option<UnixMs>,
    /// Whether it is held back.
    pub paused: bool,
    /// How many executions it has made.
    pub fired: u64,
    /// The last of them (which may be gone).
    pub last: Option<ExecutionId>,
    /// When that was made.
    pub last_at: Option<UnixMs>,
    /// One more with each change, from 0: a write that was decided upon an older one is refused.
    pub revision: u64,
    /// When it was made.
    pub created_at: UnixMs,
    /// When its row last changed.
    pub updated_at: UnixMs,
}

/// A schedule to be made.
#[derive(Clone, Debug)]
pub struct NewSchedule {
    /// Its id.
    pub id: ScheduleId,
    /// See [`ScheduleRecord::spec`].
    pub spec: String,
    /// The digest of the component.
    pub component: Digest,
    /// See [`ScheduleRecord::setup`].
    pub setup: Digest,
    /// When it is first due.
    pub next_at: Option<UnixMs>,
    /// Whether it is held back from the start.
    pub paused: bool,
    /// The component and the set-up; stored once per digest.
    pub payloads: Vec<(Digest, Arc<[u8]>)>,
    /// The time of the request.
    pub now: UnixMs,
}

/// Makes an execution of a schedule, and says when the next is due.
#[derive(Clone, Debug)]
pub struct Fire {
    /// Which.
    pub schedule: ScheduleId,
    /// The revision upon which this was decided.
    pub revision: u64,
    /// The execution to make. Nobody owns it: it is there to be resumed.
    pub execution: ExecutionId,
    /// See [`Secret`].
    pub secret: Secret,
    /// When the schedule is due next; `None`: never again.
    pub next_at: Option<UnixMs>,
    /// The time of the request.
    pub now: UnixMs,
}

impl ScheduleRecord {
    /// The record of a new one.
    pub(crate) fn of(new: &NewSchedule) -> Self {
        Self {
            id: new.id,
            spec: new.spec.clone(),
            component: new.component,
            setup: new.setup,
            next_at: new.next_at,
            paused: new.paused,
            fired: 0,
            last: None,
            last_at: None,
            revision: 0,
            created_at: new.now,
            updated_at: new.now,
        }
    }

    /// Whether a write that was decided upon `revision` may fire it.
    pub(crate) fn may_fire(&self, revision: u64) -> bool {
        self.revision == revision && !self.paused && self.next_at.is_some()
    }

    /// What it becomes when it fires.
    pub(crate) fn fire(&mut self, fire: &Fire) {
        self.next_at = fire.next_at;
        self.fired += 1;
        self.last = Some(fire.execution);
        self.last_at = Some(fire.now);
        self.touch(fire.now);
    }

    /// One more change.
    pub(crate) fn touch(&mut self, now: UnixMs) {
        self.revision += 1;
        self.updated_at = now;
    }
}
