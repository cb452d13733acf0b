//! Grants: their rows, and what the write does.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::apply::{Apply, Fail};
use super::rows::{Damage, Sum, number, stored, uuid};
use crate::ids::{Digest, ExecutionId};
use crate::store::{GrantRecord, Refusal, Written};

/// How many grants there have been; NULL if that is lost.
pub(super) const GRANTED: &str = "SELECT (SELECT value FROM numbers WHERE name = 'granted')";
/// What that row is called in a message.
pub(super) const COUNTER: &str = "numbers row granted";

const COLUMNS: &str = "execution, generation, policy, author, change, at, checksum";

fn sum(grant: &GrantRecord) -> u32 {
    Sum::of("grants")
        .bytes(Some(grant.execution.0.as_bytes()))
        .numbers([grant.generation, grant.at])
        .bytes(Some(&grant.policy.0))
        .bytes(Some(grant.by.as_bytes()))
        .bytes(Some(grant.change.as_bytes()))
        .finish()
}

/// Decodes a row of [`COLUMNS`].
fn read(row: &Row<'_>) -> Result<GrantRecord, Damage> {
    let decode = || -> rusqlite::Result<(GrantRecord, u32)> {
        let grant = GrantRecord {
            execution: ExecutionId(uuid(row, 0)?),
            generation: number(row, 1)?,
            policy: Digest(row.get(2)?),
            by: row.get(3)?,
            change: row.get(4)?,
            at: number(row, 5)?,
        };
        Ok((grant, row.get(6)?))
    };
    match decode() {
        Ok((grant, crc)) if sum(&grant) == crc => Ok(grant),
        _ => Err(match (uuid(row, 0), number(row, 1)) {
            (Ok(id), Ok(generation)) => format!("grants row {generation} of execution {}", id.as_hyphenated()).into(),
            _ => "grants row of unknown execution".into(),
        }),
    }
}

/// The rows of an execution with their generations, in order.
pub(super) fn rows_of(
    connection: &Connection,
    id: ExecutionId,
) -> rusqlite::Result<Vec<(u64, Result<GrantRecord, Damage>)>> {
    let sql = format!("SELECT {COLUMNS} FROM grants WHERE execution = ? ORDER BY generation");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([id.0.as_bytes()], |row| Ok((number(row, 1)?, read(row))))?;
    rows.collect()
}

/// The grants of an execution, in order.
pub(super) fn of(connection: &Connection, id: ExecutionId) -> rusqlite::Result<Vec<Result<GrantRecord, Damage>>> {
    Ok(rows_of(connection, id)?.into_iter().map(|(_, grant)| grant).collect())
}

impl Apply<'_> {
    pub(super) fn grant(&mut self, grant: &GrantRecord, policy: &Arc<[u8]>) -> Result<Written, Fail> {
        let (execution, generation) = (grant.execution, grant.generation);
        let mut record = self.running(execution)?;
        if record.generation.checked_add(1) != Some(generation) {
            return Err(Refusal::Stale { execution, found: record.generation }.into());
        }
        // Without it nobody would look for the grant.
        let sql = "UPDATE numbers SET value = value + 1 WHERE name = 'granted'";
        if self.connection.prepare_cached(sql)?.execute([])? == 0 {
            return Err(Refusal::Damaged(COUNTER.into()).into());
        }
        self.insert_payload(&grant.policy, policy)?;
        self.connection.prepare_cached("INSERT INTO grants VALUES (?,?,?,?,?,?,?)")?.execute(params![
            execution.0.as_bytes(),
            stored(generation),
            grant.policy.0,
            grant.by,
            grant.change,
            stored(grant.at),
            sum(grant),
        ])?;
        record.generation = generation;
        record.updated_at = grant.at;
        self.update_execution(record, None)?;
        Ok(Written::Granted(generation))
    }
}

/// Looks at all grants. Each text names one fault.
pub(super) fn check(connection: &Connection, faults: &mut Vec<String>, limit: usize) -> rusqlite::Result<()> {
    if connection.query_row(GRANTED, [], |row| row.get::<_, Option<i64>>(0))?.is_none() {
        faults.push(COUNTER.to_owned());
    }
    let mut known = connection.prepare("SELECT 1 FROM payloads WHERE digest = ?")?;
    let mut owned =
        connection.prepare("SELECT ifnull(generation, 0), aside IS NOT NULL FROM executions WHERE id = ?")?;
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM grants ORDER BY execution, generation"))?;
    let mut rows = statement.query([])?;
    // The execution at hand, and the generation that its next grant must have; unknown after a damaged row.
    let mut expected: Option<(ExecutionId, Option<u64>)> = None;
    while let Some(row) = rows.next()? {
        if faults.len() >= limit {
            return Ok(());
        }
        let grant = match read(row) {
            Ok(grant) => grant,
            Err(damage) => {
                faults.push(damage.to_string());
                expected = uuid(row, 0).ok().map(|id| (ExecutionId(id), None));
                continue;
            }
        };
        let (id, generation) = (grant.execution, grant.generation);
        let name = format!("grants row {generation} of execution {id}");
        let wanted = match expected {
            Some((same, wanted)) if same == id => wanted,
            _ => Some(1),
        };
        expected = Some((id, generation.checked_add(1)));
        let owner = owned.query_row([id.0.as_bytes()], |row| Ok((number(row, 0)?, row.get(1)?))).optional()?;
        // Of one that was set aside it is known that something is missing.
        if owner.is_some_and(|(_, aside)| aside) {
            continue;
        }
        if wanted.is_some_and(|wanted| wanted != generation) {
            faults.push(format!("{name}: the grant before it is missing"));
        }
        match owner.map(|(present, _): (u64, bool)| present) {
            None => faults.push(format!("{name}: its execution is missing")),
            Some(present) if present < generation => faults.push(format!("{name}: its execution is behind it")),
            Some(_) => {}
        }
        if !known.exists([grant.policy.0])? {
            faults.push(format!("{name}: its policy is missing"));
        }
    }
    // The last grant of an execution is the one that its row names.
    let sql = "SELECT id, generation FROM executions e WHERE generation > 0 AND aside IS NULL AND NOT EXISTS \
               (SELECT 1 FROM grants g WHERE g.execution = e.id AND g.generation = e.generation) ORDER BY id";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()?
        && faults.len() < limit
    {
        if let (Ok(id), Ok(generation)) = (uuid(row, 0), number(row, 1)) {
            faults.push(format!("executions row {}: its grant {generation} is missing", id.as_hyphenated()));
        }
    }
    Ok(())
}
