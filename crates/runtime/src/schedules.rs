//! Schedules: guests that run at a time, or again and again.
//!
//! A schedule pins what an execution pins: component, policy and call. When it is due, [`Runtime::fire_due`] makes
//! an execution of it that nobody owns, in the very transaction that moves the schedule on to its next time;
//! whoever resumes executions takes that one like any other. So however many processes look, and wherever
//! one of them dies, each time makes one execution.

mod calendar;
pub(crate) mod checked;

use parole_durable::hub::{WriteError, now};
use parole_durable::ids::UnixMs;
use parole_durable::schedule::{Fire, NewSchedule};
use parole_durable::store::{Damaged, Listing, Refusal};
use parole_durable::{Digest, ExecutionId, ScheduleId, ScheduleRecord, Secret, StoreError, Write};
use parole_policy::SecurityPolicy;
use serde::Serialize;

pub use calendar::{LATE_MS, MISSED_MAX, Missed, Overlap, Spec, When};
pub use parole_capabilities::backends::calendar::{CRON_MAX, ZONE_MAX};

use crate::block_on::block_on;
use crate::blocking::Blocking;
use crate::drive::pin_of;
use crate::error::Error;
use crate::guest::Guest;
use crate::invoke;
use crate::report::Denied;
use crate::runtime::Runtime;
use crate::setup::{DETERMINISM, Setup};
use calendar::{Due, Last};

pub use checked::SCHEDULES_MAX;
/// Somebody else may change a schedule at the same time: as often as this it is tried again.
const TRIES: u32 = 16;

/// A schedule as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Schedule {
    /// Its id.
    pub schedule: ScheduleId,
    /// The name of its guest.
    pub guest: String,
    /// The digest of its component.
    pub component: String,
    /// When it runs; `None` where a program of another version made it, which this one leaves alone.
    pub when: Option<When>,
    /// What becomes of missed times.
    pub if_missed: Missed,
    /// What becomes of times that come before the last run has ended.
    pub overlap: Overlap,
    /// When it is due; `None` once it will never be again.
    pub next_at: Option<UnixMs>,
    /// Whether that time has come, and waits for the end of the last run.
    pub queued: bool,
    /// Whether it is held back.
    pub paused: bool,
    /// How many of its times have gone by up to now without a process that fires it, [`MISSED_MAX`] for that many or more.
    pub missed: u64,
    /// How many of its times were left out since its last run was made, because that had not ended, [`MISSED_MAX`] for
    /// that many or more.
    pub skipped: u64,
    /// How many executions it has made.
    pub fired: u64,
    /// The last of them (which may be gone).
    pub last: Option<ExecutionId>,
    /// When that was made.
    pub last_at: Option<UnixMs>,
    /// When it was made.
    pub created_at: UnixMs,
}

/// What came of the wish for a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    /// It is made.
    Made(Box<Schedule>),
    /// The policy refuses the guest: there is no schedule.
    Denied(Vec<Denied>),
}

/// What came of the time of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// Which.
    pub schedule: ScheduleId,
    /// The execution that was made, ready to be resumed; none where times are left out.
    pub execution: Option<ExecutionId>,
    /// How many times had gone by before, [`MISSED_MAX`] for that many or more.
    pub missed: u64,
    /// The last run, where times are left out because it has not ended, and how many: [`MISSED_MAX`] for that many or
    /// more.
    pub overlaps: Option<(ExecutionId, u64)>,
    /// The time that was stored, where that was further ahead than the rule allows: a clock was wrong. Nothing else has
    /// come of it.
    pub ahead: Option<UnixMs>,
    /// When it is due next.
    pub next_at: Option<UnixMs>,
}

impl Runtime {
    /// Makes a schedule. The policy is pinned as for a run, and the guest is stored: what runs later is what
    /// was given here, whatever becomes of its file.
    ///
    /// # Errors
    /// [`Error::NotAGuest`], [`Error::Usage`] for a policy, a call or a time that does not fit or more than
    /// [`SCHEDULES_MAX`] schedules, [`Error::Store`].
    pub async fn schedule(
        &self,
        guest: Guest,
        policy: SecurityPolicy,
        invoke: Option<String>,
        spec: Spec,
    ) -> Result<Planned, Error> {
        let this = self.inside();
        self.on_workers(Box::pin(plan(this, guest, policy, invoke, spec))).await
    }

    /// Every schedule, by age, and those that are damaged.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn schedules(&self) -> Result<Listing<Schedule>, Error> {
        let Listing { whole, damaged } = self.hub().schedule_listing()?;
        let mut found = Listing { whole: Vec::new(), damaged };
        for record in whole {
            match self.listed(&record) {
                Ok(schedule) => found.whole.push(schedule),
                Err(Error::Store(StoreError::Damaged(what))) => {
                    let what = format!("schedule {}: {what}", record.id).into();
                    found.damaged.push(Damaged { execution: None, what });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// One schedule.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none of that id, [`Error::Store`].
    pub fn scheduled(&self, id: ScheduleId) -> Result<Schedule, Error> {
        self.listed(&self.schedule_record(id)?)
    }

    /// When the next schedule is due, in Unix milliseconds. One whose time waits for the end of its last run is not,
    /// and one that is to be computed anew is due at once.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn next_due(&self) -> Result<Option<UnixMs>, Error> {
        let now = now();
        let mut first = None;
        for record in self.hub().schedules()? {
            let Some(due) = record.next_at.filter(|due| !record.paused && first.is_none_or(|first| *due < first))
            else {
                continue;
            };
            let Some(spec) = Spec::of(&record.spec).filter(Spec::is_readable) else { continue };
            first = match self.look(&record, &spec, due, now)? {
                Due::Queued => first,
                Due::NotYet => Some(due),
                _ => Some(due.min(now)),
            };
        }
        Ok(first)
    }

    /// What is to be done with a schedule that is due next at `due`.
    fn look(&self, record: &ScheduleRecord, spec: &Spec, due: UnixMs, now: UnixMs) -> Result<Due, Error> {
        if due > now && self.0.checked.is_known(record, now) {
            return Ok(Due::NotYet);
        }
        let found = spec.look(due, now, || self.last(record))?;
        if found == Due::NotYet {
            self.0.checked.note(record, now);
        }
        Ok(found)
    }

    /// How the last run of a schedule stands. One that is gone has ended, and one of which the row is damaged will not
    /// say any more: neither holds its schedule up.
    fn last(&self, record: &ScheduleRecord) -> Result<Last, Error> {
        let Some(id) = record.last else { return Ok(Last::None) };
        match self.hub().execution(id) {
            Ok(Some(last)) if last.outcome.is_none() => Ok(Last::Open),
            Ok(Some(last)) => Ok(Last::Ended(last.updated_at)),
            Ok(None) | Err(StoreError::Damaged(_)) => Ok(Last::None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the execution of each schedule that is due, ready to be resumed. What another process fires at the same
    /// time is left to it. A stored time that is further ahead than its rule allows is computed anew.
    ///
    /// Whether the last run has ended is looked at before the commit, which is refused if the schedule has changed
    /// since. That is as good as looking within it: only a firing makes another run the last one, and that is such a
    /// change; and what has ended has ended for good.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn fire_due(&self) -> Result<Vec<Fired>, Error> {
        let now = now();
        let mut under_way = Vec::new();
        for record in self.hub().schedules()? {
            let Some(due) = record.next_at.filter(|_| !record.paused) else { continue };
            let Some(spec) = Spec::of(&record.spec) else { continue };
            let found = self.look(&record, &spec, due, now)?;
            if let Some((write, fired)) = firing(&record, due, found, now)? {
                under_way.push((self.hub().write(write), fired));
            }
        }
        let mut all = Vec::new();
        for (receipt, fired) in under_way {
            match receipt.await {
                Ok(_) => all.push(fired),
                // Another process was first, or somebody paused or deleted it.
                Err(WriteError::Refused(Refusal::Changed(_) | Refusal::NoSchedule(_))) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(all)
    }

    /// Holds a schedule back, or lets it go on. The times of a pause are not missed: it goes on with the next one. A
    /// schedule for one time whose time came in the pause is due at once, if it makes up for missed times.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none of that id, [`Error::Store`].
    pub async fn pause(&self, id: ScheduleId, paused: bool) -> Result<Schedule, Error> {
        let mut tries = 0;
        loop {
            let record = self.schedule_record(id)?;
            if record.paused == paused {
                return self.listed(&record);
            }
            let now = now();
            let next = match Spec::of(&record.spec).map(|spec| spec.when) {
                Some(when @ When::Every { .. }) if !paused => when.next(now),
                _ => record.next_at,
            };
            tries += 1;
            match self.hub().write(reschedule(&record, paused, next, now)).await {
                Ok(_) => {}
                Err(WriteError::Refused(Refusal::Changed(_))) if tries < TRIES => {}
                Err(error) => return Err(of_schedule(error)),
            }
        }
    }

    /// Removes a schedule. The executions that it made stay.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none of that id, [`Error::Store`].
    pub async fn unschedule(&self, id: ScheduleId) -> Result<(), Error> {
        self.hub().write(Write::Unschedule { id }).await.map_err(of_schedule)?;
        Ok(())
    }

    /// Removes the schedules that will never be due again and last changed before a time (Unix milliseconds), and
    /// gives how many.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn collect_schedules(&self, before: UnixMs) -> Result<u64, Error> {
        let spent = |record: &ScheduleRecord| record.next_at.is_none() && record.updated_at < before;
        let spent = self.hub().schedules()?.into_iter().filter(spent);
        let under_way: Vec<_> = spent.map(|record| self.hub().write(Write::Unschedule { id: record.id })).collect();
        let mut count = 0;
        for receipt in under_way {
            match receipt.await {
                Ok(_) => count += 1,
                Err(WriteError::Refused(Refusal::NoSchedule(_))) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    }

    fn schedule_record(&self, id: ScheduleId) -> Result<ScheduleRecord, Error> {
        self.hub().schedule(id)?.ok_or_else(|| of_schedule(WriteError::Refused(Refusal::NoSchedule(id))))
    }

    fn listed(&self, record: &ScheduleRecord) -> Result<Schedule, Error> {
        let setup =
            self.hub().payload(&record.setup)?.map(|bytes| Setup::from_bytes(&bytes, self.catalogue())).transpose();
        let guest = setup.ok().flatten().map_or_else(|| "?".into(), |setup| setup.guest);
        Ok(listed(record, guest, self.last(record)?))
    }
}

/// What comes of a look at a schedule, and the write that makes it so.
fn firing(record: &ScheduleRecord, due: UnixMs, found: Due, now: UnixMs) -> Result<Option<(Write, Fired)>, Error> {
    let none =
        Fired { schedule: record.id, execution: None, missed: 0, overlaps: None, ahead: None, next_at: record.next_at };
    let fired = match found {
        Due::NotYet | Due::Queued => return Ok(None),
        Due::Fire { next, missed } => Fired { execution: Some(ExecutionId::generate()), missed, next_at: next, ..none },
        Due::Skip { next, missed } => Fired { missed, next_at: next, ..none },
        Due::Overlaps { next, skipped } => {
            Fired { overlaps: record.last.map(|last| (last, skipped)), next_at: next, ..none }
        }
        Due::Ahead { next } => Fired { ahead: Some(due), next_at: next, ..none },
    };
    let write = match fired.execution {
        None => reschedule(record, false, fired.next_at, now),
        Some(execution) => Write::Fire(Box::new(Fire {
            schedule: record.id,
            revision: record.revision,
            execution,
            secret: secret()?,
            next_at: fired.next_at,
            now,
        })),
    };
    Ok(Some((write, fired)))
}

fn listed(record: &ScheduleRecord, guest: String, last: Last) -> Schedule {
    let spec = Spec::of(&record.spec);
    let now = now();
    let come = record.next_at.is_some_and(|due| due <= now && !record.paused);
    let queued = come && last == Last::Open && spec.as_ref().is_some_and(|spec| spec.overlap == Overlap::Queue);
    let missed = match (&spec, record.next_at) {
        _ if queued => 0,
        (Some(spec), Some(due)) if !record.paused && due <= now => spec.missed(due, now),
        // Its only time was left out.
        (Some(_), None) if record.fired == 0 => 1,
        _ => 0,
    };
    let skipped = spec.as_ref().map_or(0, |spec| spec.skipped(record.last_at, record.next_at, last, now));
    Schedule {
        schedule: record.id,
        guest,
        component: record.component.to_string(),
        if_missed: spec.as_ref().map(|spec| spec.missed).unwrap_or_default(),
        overlap: spec.as_ref().map(|spec| spec.overlap).unwrap_or_default(),
        when: spec.map(|spec| spec.when),
        next_at: record.next_at,
        queued,
        paused: record.paused,
        missed,
        skipped,
        fired: record.fired,
        last: record.last,
        last_at: record.last_at,
        created_at: record.created_at,
    }
}

async fn plan(
    runtime: Runtime,
    guest: Guest,
    policy: SecurityPolicy,
    invoke: Option<String>,
    spec: Spec,
) -> Result<Planned, Error> {
    let now = now();
    let spec = checked(spec, now)?;
    let Some(next_at) = spec.when.next(now) else {
        return Err(Error::Usage("a schedule needs a time that is to come".into()));
    };
    if runtime.hub().schedules()?.len() >= SCHEDULES_MAX {
        return Err(Error::Usage(format!(
            "there are {SCHEDULES_MAX} schedules, and no more are kept: delete some, or collect those that are spent"
        )));
    }
    let validators = runtime.0.validators.clone();
    let pins = validators.iter().map(pin_of).collect();
    let scope = runtime.scope(policy, validators)?;
    let prepared = match runtime.prepare(&guest, &scope.policy, ExecutionId::generate()).await? {
        Ok(prepared) => prepared,
        Err(denied) => return Ok(Planned::Denied(denied)),
    };
    invoke::target(&prepared.pre, invoke.as_deref())?;
    // No path: the stored component runs, also when the file holds another one by then.
    let setup = Setup {
        determinism: DETERMINISM,
        guest: guest.name.clone(),
        path: None,
        invoke,
        validators: pins,
        policy: &*scope.policy,
    };
    let setup = setup.to_bytes()?;
    let record = NewSchedule {
        id: ScheduleId::generate(),
        spec: serde_json::to_string(&spec).map_err(|error| Error::Internal(error.to_string()))?,
        component: guest.digest,
        setup: Digest::of(&setup),
        next_at: Some(next_at),
        paused: false,
        payloads: vec![(guest.digest, guest.bytes), (Digest::of(&setup), setup.into())],
        now,
    };
    let id = record.id;
    runtime.hub().write(Write::Schedule(Box::new(record))).await?;
    Ok(Planned::Made(Box::new(runtime.scheduled(id)?)))
}

/// A spec may have been put together in Rust: its parts are read as if they had been typed.
fn checked(spec: Spec, now: UnixMs) -> Result<Spec, Error> {
    let when = match spec.when {
        When::At(at) if at > now => When::At(at),
        When::At(_) => return Err(Error::Usage("that time has passed".into())),
        When::Every { cron, zone } => When::every(&cron, &zone).map_err(Error::Usage)?,
    };
    Ok(Spec { when, ..spec })
}

fn reschedule(record: &ScheduleRecord, paused: bool, next_at: Option<UnixMs>, now: UnixMs) -> Write {
    Write::Reschedule { id: record.id, revision: record.revision, paused, next_at, now }
}

fn secret() -> Result<Secret, Error> {
    Secret::generate().map_err(|error| Error::Internal(format!("no random bytes: {error}")))
}

fn of_schedule(error: WriteError) -> Error {
    match error {
        WriteError::Refused(refusal @ Refusal::NoSchedule(_)) => Error::Usage(refusal.to_string()),
        error => error.into(),
    }
}

impl Blocking<'_> {
    /// See [`Runtime::schedule`].
    ///
    /// # Errors
    /// The same.
    pub fn schedule(
        &self,
        guest: Guest,
        policy: SecurityPolicy,
        invoke: Option<String>,
        spec: Spec,
    ) -> Result<Planned, Error> {
        block_on(self.0.schedule(guest, policy, invoke, spec))
    }

    /// See [`Runtime::fire_due`].
    ///
    /// # Errors
    /// The same.
    pub fn fire_due(&self) -> Result<Vec<Fired>, Error> {
        block_on(self.0.fire_due())
    }

    /// See [`Runtime::pause`].
    ///
    /// # Errors
    /// The same.
    pub fn pause(&self, id: ScheduleId, paused: bool) -> Result<Schedule, Error> {
        block_on(self.0.pause(id, paused))
    }

    /// See [`Runtime::unschedule`].
    ///
    /// # Errors
    /// The same.
    pub fn unschedule(&self, id: ScheduleId) -> Result<(), Error> {
        block_on(self.0.unschedule(id))
    }

    /// See [`Runtime::collect_schedules`].
    ///
    /// # Errors
    /// The same.
    pub fn collect_schedules(&self, before: UnixMs) -> Result<u64, Error> {
        block_on(self.0.collect_schedules(before))
    }
}

#[cfg(test)]
mod tests;
