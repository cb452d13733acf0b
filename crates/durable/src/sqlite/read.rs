//! The reading side, and the check of the whole database.

use std::borrow::Cow;
use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, ToSql, params};

use super::apply::{CURSOR, find_promise};
use super::promise_row::{PromiseRow, decode_id};
use super::rows::{Damage, ExecutionRow, STORED_ARGUMENTS, STORED_NOTES, STORED_RESULT, StepRow, stored, uuid};
use super::{failed, grant, schedule};
use crate::ids::{Digest, ExecutionId, NEVER, PromiseId, ScheduleId, UnixMs};
use crate::promise::PromiseRecord;
use crate::schedule::ScheduleRecord;
use crate::step::Step;
use crate::store::{Changes, ExecutionRecord, GrantRecord, PromiseFilter, Reader, StoreError};

/// How many faults are named; a check of a thoroughly damaged database must end.
const FAULTS: usize = 1000;

pub(super) struct SqliteReader(Connection);

impl SqliteReader {
    pub(super) fn new(connection: Connection) -> Self {
        Self(connection)
    }

    fn number(&self, sql: &str, values: &[&dyn ToSql]) -> Result<Option<u64>, StoreError> {
        let value =
            self.0.prepare_cached(sql).and_then(|mut s| s.query_row(values, |row| row.get::<_, Option<i64>>(0)));
        value.map(|n| n.map(i64::cast_unsigned)).map_err(|e| failed(&e))
    }

    fn fetch(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let bytes: Option<Vec<u8>> = self
            .0
            .prepare_cached("SELECT bytes FROM payloads WHERE digest = ?")
            .and_then(|mut s| s.query_row([digest.0], |row| row.get(0)).optional())
            .map_err(|e| failed(&e))?;
        match bytes {
            Some(bytes) if Digest::of(&bytes) != *digest => Err(damaged(format!("payloads row {digest}").into())),
            bytes => Ok(bytes),
        }
    }

    /// Puts a long part back in its place.
    fn lengthen(&self, part: &mut Cow<'_, [u8]>, row: &dyn Fn() -> String) -> Result<(), StoreError> {
        let bytes = match <[u8; 32]>::try_from(part.as_ref()) {
            Ok(digest) => self.fetch(&Digest(digest))?,
            Err(_) => None,
        };
        *part = bytes.ok_or_else(|| damaged(format!("{}: its payload is missing", row()).into()))?.into();
        Ok(())
    }

    fn whole_step(&self, id: ExecutionId, mut row: StepRow<'_>) -> Result<Step, StoreError> {
        let number = row.number;
        let name = || format!("steps row {number} of execution {id}");
        if row.stored & STORED_ARGUMENTS != 0 {
            self.lengthen(&mut row.arguments, &name)?;
        }
        if row.stored & STORED_RESULT != 0
            && let Some(result) = &mut row.result
        {
            self.lengthen(result, &name)?;
        }
        if row.stored & STORED_NOTES != 0
            && let Some(notes) = &mut row.notes
        {
            self.lengthen(notes, &name)?;
        }
        row.into_step(id).ok_or_else(|| damaged(name().into()))
    }
}

fn damaged(what: Damage) -> StoreError {
    StoreError::Damaged(what)
}

impl Reader for SqliteReader {
    fn execution(&self, id: ExecutionId) -> Result<Option<ExecutionRecord>, StoreError> {
        let sql = format!("SELECT {} FROM executions WHERE id = ?", ExecutionRow::COLUMNS);
        let found = self
            .0
            .prepare_cached(&sql)
            .and_then(|mut s| s.query_row([id.0.as_bytes()], |row| Ok(ExecutionRow::read(row))).optional())
            .map_err(|e| failed(&e))?;
        Ok(found.transpose().map_err(damaged)?.map(|row| row.record))
    }

    fn executions(&self, with_ended: bool) -> Result<Vec<ExecutionRecord>, StoreError> {
        let sql = format!("SELECT {} FROM executions WHERE ? OR outcome IS NULL ORDER BY id", ExecutionRow::COLUMNS);
        let mut statement = self.0.prepare_cached(&sql).map_err(|e| failed(&e))?;
        let rows = statement.query_map([with_ended], |row| Ok(ExecutionRow::read(row))).map_err(|e| failed(&e))?;
        rows.map(|row| Ok(row.map_err(|e| failed(&e))?.map_err(damaged)?.record)).collect()
    }

    fn steps(&self, id: ExecutionId, from: u64, limit: usize) -> Result<Vec<Step>, StoreError> {
        let sql = format!(
            "SELECT {} FROM steps WHERE execution = ? AND number >= ? ORDER BY number LIMIT ?",
            StepRow::COLUMNS
        );
        let mut statement = self.0.prepare_cached(&sql).map_err(|e| failed(&e))?;
        let values = params![id.0.as_bytes(), stored(from), i64::try_from(limit).unwrap_or(i64::MAX)];
        let rows = statement.query_map(values, |row| Ok(StepRow::read(row))).map_err(|e| failed(&e))?;
        rows.map(|row| {
            let (id, row) = row.map_err(|e| failed(&e))?.map_err(damaged)?;
            self.whole_step(id, row)
        })
        .collect()
    }

    fn promise(&self, id: &PromiseId) -> Result<Option<PromiseRecord>, StoreError> {
        let found = find_promise(&self.0, id).map_err(|e| failed(&e))?;
        Ok(found.transpose().map_err(damaged)?.map(|(_, record)| record))
    }

    fn promises(&self, filter: &PromiseFilter) -> Result<Vec<PromiseRecord>, StoreError> {
        let execution = filter.execution.map(|id| id.0.into_bytes());
        let (condition, values): (&str, &[&dyn ToSql]) = match (&execution, filter.pending) {
            (Some(id), true) => ("WHERE execution = ? AND settled_seq IS NULL", &[id]),
            (Some(id), false) => ("WHERE execution = ?", &[id]),
            (None, true) => ("INDEXED BY promises_order WHERE settled_seq IS NULL", &[]),
            (None, false) => ("", &[]),
        };
        let sql = format!("SELECT {} FROM promises {condition}", PromiseRow::COLUMNS);
        let mut statement = self.0.prepare_cached(&sql).map_err(|e| failed(&e))?;
        let rows = statement.query_map(values, |row| Ok(PromiseRow::read(row))).map_err(|e| failed(&e))?;
        let mut found = Vec::new();
        for row in rows {
            let (_, record) = row.map_err(|e| failed(&e))?.map_err(damaged)?;
            if filter.capability.as_deref().is_none_or(|name| record.capability() == name) {
                found.push(record);
            }
        }
        found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(found)
    }

    fn payload(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.fetch(digest)
    }

    fn settled_since(&self, cursor: u64) -> Result<Changes, StoreError> {
        let from = stored(cursor.min(i64::MAX.cast_unsigned()));
        let read = || -> rusqlite::Result<Changes> {
            // One transaction, so that the new cursor is not ahead of what was read.
            let transaction = self.0.unchecked_transaction()?;
            let mut changes = Changes { cursor, ..Changes::default() };
            let mut statement =
                transaction.prepare_cached("SELECT execution, id FROM promises WHERE settled_seq > ?")?;
            let mut rows = statement.query([from])?;
            while let Some(row) = rows.next()? {
                let execution = ExecutionId(uuid(row, 0)?);
                changes.promises.extend(decode_id(execution, &row.get::<_, Vec<u8>>(1)?));
            }
            let mut statement = transaction.prepare_cached("SELECT id FROM executions WHERE ended_seq > ?")?;
            let mut rows = statement.query([from])?;
            while let Some(row) = rows.next()? {
                changes.executions.push(ExecutionId(uuid(row, 0)?));
            }
            let mut statement = transaction.prepare_cached(CURSOR)?;
            changes.cursor = statement.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned().max(cursor);
            Ok(changes)
        };
        let mut changes = read().map_err(|e| failed(&e))?;
        changes.promises.sort_unstable();
        changes.executions.sort_unstable();
        Ok(changes)
    }

    fn cursor(&self) -> Result<u64, StoreError> {
        Ok(self.number(CURSOR, &[])?.unwrap_or(0))
    }

    fn next_deadline(&self) -> Result<Option<UnixMs>, StoreError> {
        let sql = "SELECT min(timeout_at) FROM promises INDEXED BY promises_order \
                   WHERE settled_seq IS NULL AND timeout_at >= 0";
        Ok(self.number(sql, &[])?.filter(|at| *at < NEVER))
    }

    fn version(&self) -> Result<u64, StoreError> {
        Ok(self.number("PRAGMA data_version", &[])?.unwrap_or(0))
    }

    fn grants(&self, id: ExecutionId) -> Result<Vec<GrantRecord>, StoreError> {
        let rows = grant::of(&self.0, id).map_err(|e| failed(&e))?;
        rows.into_iter().map(|row| row.map_err(damaged)).collect()
    }

    fn granted(&self) -> Result<u64, StoreError> {
        self.number(grant::GRANTED, &[])?.ok_or_else(|| damaged(grant::COUNTER.into()))
    }

    fn schedules(&self) -> Result<Vec<ScheduleRecord>, StoreError> {
        let rows = schedule::all(&self.0).map_err(|e| failed(&e))?;
        rows.into_iter().map(|row| row.map_err(damaged)).collect()
    }

    fn schedule(&self, id: ScheduleId) -> Result<Option<ScheduleRecord>, StoreError> {
        schedule::find(&self.0, id).map_err(|e| failed(&e))?.transpose().map_err(damaged)
    }

    fn check(&self) -> Result<Vec<String>, StoreError> {
        let check = || -> rusqlite::Result<Vec<String>> {
            let transaction = self.0.unchecked_transaction()?;
            let mut faults = Vec::new();
            structure(&transaction, &mut faults)?;
            executions(&transaction, &mut faults)?;
            steps(&transaction, &mut faults)?;
            promises(&transaction, &mut faults)?;
            grant::check(&transaction, &mut faults, FAULTS)?;
            schedule::check(&transaction, &mut faults, FAULTS)?;
            payloads(&transaction, &mut faults)?;
            faults.truncate(FAULTS);
            Ok(faults)
        };
        check().map_err(|e| failed(&e))
    }
}

fn structure(connection: &Connection, faults: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    faults.extend(lines.into_iter().filter(|line| line != "ok"));
    Ok(())
}

fn executions(connection: &Connection, faults: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut known = connection.prepare("SELECT 1 FROM payloads WHERE digest = ?")?;
    let mut statement = connection.prepare(&format!("SELECT {} FROM executions ORDER BY id", ExecutionRow::COLUMNS))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match ExecutionRow::read(row) {
            Err(damage) => faults.push(damage.to_string()),
            Ok(row) if !known.exists([row.record.setup.0])? => {
                faults.push(format!("executions row {}: its setup is missing", row.record.id));
            }
            Ok(_) => {}
        }
        if faults.len() >= FAULTS {
            break;
        }
    }
    Ok(())
}

fn steps(connection: &Connection, faults: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut known = connection.prepare("SELECT 1 FROM payloads WHERE digest = ?")?;
    let mut owned = connection.prepare("SELECT 1 FROM executions WHERE id = ?")?;
    let sql = format!("SELECT {} FROM steps ORDER BY execution, number", StepRow::COLUMNS);
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    // The execution at hand, and the number that its next step must have; unknown after a damaged row.
    let mut expected: Option<(ExecutionId, Option<u64>)> = None;
    while let Some(row) = rows.next()? {
        if faults.len() >= FAULTS {
            break;
        }
        let (id, row) = match StepRow::read(row) {
            Ok(found) => found,
            Err(damage) => {
                faults.push(damage.to_string());
                expected = uuid(row, 0).ok().map(|id| (ExecutionId(id), None));
                continue;
            }
        };
        let name = format!("steps row {} of execution {id}", row.number);
        let wanted = match expected {
            Some((same, wanted)) if same == id => wanted,
            _ => {
                if !owned.exists([id.0.as_bytes()])? {
                    faults.push(format!("{name}: its execution is missing"));
                }
                Some(0)
            }
        };
        if wanted.is_some_and(|wanted| wanted != row.number) {
            faults.push(format!("{name}: the step before it is missing"));
        }
        expected = Some((id, Some(row.number.saturating_add(row.calls))));
        let parts = [
            (STORED_ARGUMENTS, Some(&row.arguments)),
            (STORED_RESULT, row.result.as_ref()),
            (STORED_NOTES, row.notes.as_ref()),
        ];
        for (bit, part) in parts {
            if row.stored & bit != 0
                && let Some(digest) = part
                && !known.exists([digest.as_ref()])?
            {
                faults.push(format!("{name}: its payload is missing"));
            }
        }
        if let Some(id) = row.promise.as_deref().and_then(|stored| decode_id(id, stored))
            && find_promise(connection, &id)?.is_none()
        {
            faults.push(format!("{name}: its promise is missing"));
        }
    }
    Ok(())
}

fn promises(connection: &Connection, faults: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut owned = connection.prepare("SELECT 1 FROM executions WHERE id = ?")?;
    let sql = format!("SELECT {} FROM promises ORDER BY execution, id", PromiseRow::COLUMNS);
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut seen = BTreeSet::new();
    while let Some(row) = rows.next()? {
        match PromiseRow::read(row) {
            Err(damage) => faults.push(damage.to_string()),
            Ok((row, record)) => {
                if seen.insert(row.execution) && !owned.exists([row.execution.0.as_bytes()])? {
                    faults.push(format!("promises row {}: its execution is missing", record.id));
                }
            }
        }
        if faults.len() >= FAULTS {
            break;
        }
    }
    Ok(())
}

fn payloads(connection: &Connection, faults: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT digest, bytes FROM payloads")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let digest: Result<[u8; 32], _> = row.get(0);
        match digest.map(Digest) {
            Ok(digest) if row.get_ref(1)?.as_blob().is_ok_and(|bytes| Digest::of(bytes) == digest) => {}
            Ok(digest) => faults.push(format!("payloads row {digest}")),
            Err(_) => faults.push("payloads row of unknown digest".to_owned()),
        }
        if faults.len() >= FAULTS {
            break;
        }
    }
    Ok(())
}
