//! Schedules: their rows, and what the writes do.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::apply::{Apply, Fail};
use super::rows::{Damage, Sum, number, optional, stored, uuid};
use crate::ids::{Digest, ExecutionId, ScheduleId, UnixMs};
use crate::schedule::{Fire, NewSchedule, ScheduleRecord};
use crate::store::{ExecutionRecord, Refusal, Written};

const COLUMNS: &str = "id, spec, component, setup, next_at, paused, fired, last, last_at, revision, created_at, \
                       updated_at, checksum";

fn sum(schedule: &ScheduleRecord) -> u32 {
    let r = schedule;
    Sum::of("schedules")
        .bytes(Some(r.id.0.as_bytes()))
        .bytes(Some(r.spec.as_bytes()))
        .bytes(Some(&r.component.0))
        .bytes(Some(&r.setup.0))
        .optional(r.next_at)
        .numbers([u64::from(r.paused), r.fired, r.revision, r.created_at, r.updated_at])
        .bytes(r.last.as_ref().map(|last| last.0.as_bytes().as_slice()))
        .optional(r.last_at)
        .finish()
}

/// Decodes a row of [`COLUMNS`].
fn read(row: &Row<'_>) -> Result<ScheduleRecord, Damage> {
    let decode = || -> rusqlite::Result<(ScheduleRecord, u32)> {
        let schedule = ScheduleRecord {
            id: ScheduleId(uuid(row, 0)?),
            spec: row.get(1)?,
            component: Digest(row.get(2)?),
            setup: Digest(row.get(3)?),
            next_at: optional(row, 4)?,
            paused: row.get(5)?,
            fired: number(row, 6)?,
            last: row.get::<_, Option<[u8; 16]>>(7)?.map(|bytes| ExecutionId(uuid::Uuid::from_bytes(bytes))),
            last_at: optional(row, 8)?,
            revision: number(row, 9)?,
            created_at: number(row, 10)?,
            updated_at: number(row, 11)?,
        };
        Ok((schedule, row.get(12)?))
    };
    match decode() {
        Ok((schedule, crc)) if sum(&schedule) == crc => Ok(schedule),
        _ => Err(match uuid(row, 0) {
            Ok(id) => format!("schedules row {}", id.as_hyphenated()).into(),
            Err(_) => "schedules row of unknown id".into(),
        }),
    }
}

/// One schedule.
pub(super) fn find(
    connection: &Connection,
    id: ScheduleId,
) -> rusqlite::Result<Option<Result<ScheduleRecord, Damage>>> {
    let sql = format!("SELECT {COLUMNS} FROM schedules WHERE id = ?");
    connection.prepare_cached(&sql)?.query_row([id.0.as_bytes()], |row| Ok(read(row))).optional()
}

/// All schedules, by id.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Result<ScheduleRecord, Damage>>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM schedules ORDER BY id"))?;
    let rows = statement.query_map([], |row| Ok(read(row)))?;
    rows.collect()
}

impl Apply<'_> {
    pub(super) fn schedule(&mut self, new: &NewSchedule) -> Result<Written, Fail> {
        if find(self.connection, new.id)?.is_some() {
            return Err(Refusal::ScheduleExists(new.id).into());
        }
        for (digest, bytes) in &new.payloads {
            self.insert_payload(digest, bytes)?;
        }
        let record = ScheduleRecord::of(new);
        self.store_schedule(&record)?;
        Ok(Written::Scheduled(record.revision))
    }

    pub(super) fn fire(&mut self, fire: &Fire) -> Result<Written, Fail> {
        let mut record = self.found_schedule(fire.schedule)?;
        if !record.may_fire(fire.revision) {
            return Err(Refusal::Changed(fire.schedule).into());
        }
        if self.find_execution(fire.execution)?.is_some() {
            return Err(Refusal::Exists(fire.execution).into());
        }
        self.name(&record.component)?;
        self.name(&record.setup)?;
        self.insert_execution(ExecutionRecord::fired(&record, fire), None)?;
        record.fire(fire);
        self.store_schedule(&record)?;
        Ok(Written::Fired(record.revision))
    }

    pub(super) fn reschedule(
        &mut self,
        id: ScheduleId,
        revision: u64,
        paused: bool,
        next_at: Option<UnixMs>,
        now: UnixMs,
    ) -> Result<Written, Fail> {
        let mut record = self.found_schedule(id)?;
        if record.revision != revision {
            return Err(Refusal::Changed(id).into());
        }
        record.paused = paused;
        record.next_at = next_at;
        record.touch(now);
        self.store_schedule(&record)?;
        Ok(Written::Scheduled(record.revision))
    }

    /// A damaged one can be removed as well: it is of no other use.
    pub(super) fn unschedule(&mut self, id: ScheduleId) -> Result<Written, Fail> {
        let mut statement = self.connection.prepare_cached("DELETE FROM schedules WHERE id = ?")?;
        match statement.execute([id.0.as_bytes()])? {
            0 => Err(Refusal::NoSchedule(id).into()),
            _ => Ok(Written::Unscheduled),
        }
    }

    fn found_schedule(&self, id: ScheduleId) -> Result<ScheduleRecord, Fail> {
        Ok(find(self.connection, id)?.transpose()?.ok_or(Refusal::NoSchedule(id))?)
    }

    fn store_schedule(&self, r: &ScheduleRecord) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO schedules VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)";
        self.connection.prepare_cached(sql)?.execute(params![
            r.id.0.as_bytes(),
            r.spec,
            r.component.0,
            r.setup.0,
            r.next_at.map(stored),
            r.paused,
            stored(r.fired),
            r.last.as_ref().map(|last| last.0.as_bytes()),
            r.last_at.map(stored),
            stored(r.revision),
            stored(r.created_at),
            stored(r.updated_at),
            sum(r),
        ])?;
        Ok(())
    }
}

/// Looks at all schedules. Each text names one fault.
pub(super) fn check(connection: &Connection, faults: &mut Vec<String>, limit: usize) -> rusqlite::Result<()> {
    let mut known = connection.prepare("SELECT 1 FROM payloads WHERE digest = ?")?;
    for schedule in all(connection)? {
        if faults.len() >= limit {
            return Ok(());
        }
        match schedule {
            Err(damage) => faults.push(damage.to_string()),
            Ok(schedule) => {
                for (digest, what) in [(schedule.component, "component"), (schedule.setup, "setup")] {
                    if !known.exists([digest.0])? {
                        faults.push(format!("schedules row {}: its {what} is missing", schedule.id));
                    }
                }
            }
        }
    }
    Ok(())
}
