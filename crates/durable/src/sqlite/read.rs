//! The reading side, and the check of the whole database.

use std::borrow::Cow;
use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, ToSql, params};

use super::apply::{CURSOR, find_promise};
use super::aside::{Damages, lost_tail};
use super::claims;
use super::promise_id::decode_id;
use super::promise_row::PromiseRow;
use super::rows::{Damage, ExecutionRow, STORED_ARGUMENTS, STORED_NOTES, STORED_RESULT, StepRow, number, stored, uuid};
use super::{collect, failed, grant, schedule};
use crate::ids::{Digest, ExecutionId, NEVER, PromiseId, ScheduleId, UnixMs};
use crate::promise::PromiseRecord;
use crate::schedule::ScheduleRecord;
use crate::step::Step;
use crate::store::Claim;
use crate::store::{Changes, Damaged, ExecutionRecord, GrantRecord, Listing, PromiseFilter, Reader, StoreError};

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

    fn executions(&self, with_ended: bool) -> Result<Listing<ExecutionRecord>, StoreError> {
        let sql = format!("SELECT {} FROM executions WHERE ? OR outcome IS NULL ORDER BY id", ExecutionRow::COLUMNS);
        let mut statement = self.0.prepare_cached(&sql).map_err(|e| failed(&e))?;
        let mut rows = statement.query([with_ended]).map_err(|e| failed(&e))?;
        let mut found = Listing::from(Vec::new());
        while let Some(row) = rows.next().map_err(|e| failed(&e))? {
            match ExecutionRow::read(row) {
                Ok(row) => found.whole.push(row.record),
                Err(what) => found.damaged.push(Damaged { execution: uuid(row, 0).ok().map(ExecutionId), what }),
            }
        }
        Ok(found)
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

    fn promises(&self, filter: &PromiseFilter) -> Result<Listing<PromiseRecord>, StoreError> {
        let execution = filter.execution.map(|id| id.0.into_bytes());
        let (condition, values): (&str, &[&dyn ToSql]) = match (&execution, filter.pending) {
            (Some(id), true) => ("WHERE execution = ? AND settled_seq IS NULL", &[id]),
            (Some(id), false) => ("WHERE execution = ?", &[id]),
            (None, true) => ("INDEXED BY promises_order WHERE settled_seq IS NULL", &[]),
            (None, false) => ("", &[]),
        };
        let sql = format!("SELECT {} FROM promises {condition}", PromiseRow::COLUMNS);
        let mut statement = self.0.prepare_cached(&sql).map_err(|e| failed(&e))?;
        let mut rows = statement.query(values).map_err(|e| failed(&e))?;
        let mut found = Listing::from(Vec::new());
        while let Some(row) = rows.next().map_err(|e| failed(&e))? {
            match PromiseRow::read(row) {
                Ok((_, record)) => {
                    if filter.capability.as_deref().is_none_or(|name| record.capability() == name) {
                        found.whole.push(record);
                    }
                }
                Err(what) => found.damaged.push(Damaged { execution: uuid(row, 0).ok().map(ExecutionId), what }),
            }
        }
        found.whole.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(found)
    }

    fn claims(&self) -> Result<Vec<Claim>, StoreError> {
        let mut found = claims::pending(&self.0).map_err(|e| failed(&e))?;
        found.sort_by(|one, other| one.promise.cmp(&other.promise));
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
                // A key that is none wakes nobody, and keeps nobody else from being woken.
                let Ok(execution) = uuid(row, 0).map(ExecutionId) else { continue };
                changes.promises.extend(decode_id(execution, &row.get::<_, Vec<u8>>(1)?));
            }
            let mut statement = transaction.prepare_cached("SELECT id FROM executions WHERE ended_seq > ?")?;
            let mut rows = statement.query([from])?;
            while let Some(row) = rows.next()? {
                changes.executions.extend(uuid(row, 0).map(ExecutionId));
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

    fn schedules(&self) -> Result<Listing<ScheduleRecord>, StoreError> {
        let mut found = Listing::from(Vec::new());
        for row in schedule::all(&self.0).map_err(|e| failed(&e))? {
            match row {
                Ok(record) => found.whole.push(record),
                Err(what) => found.damaged.push(Damaged { execution: None, what }),
            }
        }
        Ok(found)
    }

    fn schedule(&self, id: ScheduleId) -> Result<Option<ScheduleRecord>, StoreError> {
        schedule::find(&self.0, id).map_err(|e| failed(&e))?.transpose().map_err(damaged)
    }

    fn damage(&self, id: ExecutionId) -> Result<Vec<String>, StoreError> {
        let transaction = self.0.unchecked_transaction().map_err(|e| failed(&e))?;
        Damages::of(&transaction, id).map(|damages| damages.faults).map_err(|e| failed(&e))
    }

    fn ended(&self, before: UnixMs) -> Result<Vec<(ExecutionId, u64)>, StoreError> {
        collect::ended(&self.0, before).map_err(|e| failed(&e))
    }

    fn unnamed(&self) -> Result<Vec<(Digest, u64)>, StoreError> {
        collect::unnamed(&self.0).map_err(|e| failed(&e))
    }

    fn check(&self) -> Result<Vec<String>, StoreError> {
        let check = || -> rusqlite::Result<Vec<String>> {
            let transaction = self.0.unchecked_transaction()?;
            let mut faults = Vec::new();
            structure(&transaction, &mut faults)?;
            executions(&transaction, &mut faults)?;
            steps(&transaction, &mut faults)?;
            promises(&transaction, &mut faults)?;
            claims::check(&transaction, &mut faults)?;
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
    let sql = "SELECT number + calls FROM steps WHERE execution = ? ORDER BY number DESC LIMIT 1";
    let mut last = connection.prepare(sql)?;
    let mut known = connection.prepare("SELECT 1 FROM payloads WHERE digest = ?")?;
    let mut statement = connection.prepare(&format!("SELECT {} FROM executions ORDER BY id", ExecutionRow::COLUMNS))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match ExecutionRow::read(row) {
            Err(damage) => faults.push(damage.to_string()),
            // Of one that was set aside it is known that something is missing.
            Ok(row) if row.record.aside.is_some() => {}
            Ok(row) => {
                let id = row.record.id;
                if !known.exists([row.record.setup.0])? {
                    faults.push(format!("executions row {id}: its setup is missing"));
                }
                let there = last.query_row([id.0.as_bytes()], |row| number(row, 0)).optional()?.unwrap_or(0);
                if let Some(calls) = row.record.calls
                    && there < calls
                {
                    faults.push(lost_tail(id, there, calls));
                }
            }
        }
        if faults.len() >= FAULTS {
            break;
        }
    }
    Ok(())
}

fn steps(connection: &Connection, faults: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut known = connection.prepare("SELECT 1 FROM payloads WHERE digest = ?")?;
    let mut owned = connection.prepare("SELECT aside IS NOT NULL FROM executions WHERE id = ?")?;
    let sql = format!("SELECT {} FROM steps ORDER BY execution, number", StepRow::COLUMNS);
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    // The execution at hand, and the number that its next step must have; unknown after a damaged row.
    let mut expected: Option<(ExecutionId, Option<u64>)> = None;
    let mut aside = false;
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
                let owner = owned.query_row([id.0.as_bytes()], |row| row.get(0)).optional()?;
                if owner.is_none() {
                    faults.push(format!("{name}: its execution is missing"));
                }
                aside = owner == Some(true);
                Some(0)
            }
        };
        if aside {
            expected = Some((id, None));
            continue;
        }
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
