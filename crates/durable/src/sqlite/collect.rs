//! What is not needed any more: found without keeping anybody from writing, and removed in pieces.

use rusqlite::{Connection, params};

use super::apply::{Apply, Fail};
use super::rows::{stored, uuid};
use crate::ids::{Digest, ExecutionId, UnixMs};
use crate::store::{Mark, Written};

/// Names of payloads, wherever they are.
const NAMED: &str = "SELECT component FROM executions UNION SELECT setup FROM executions UNION \
    SELECT arguments FROM steps WHERE stored & 1 UNION SELECT result FROM steps WHERE stored & 2 UNION \
    SELECT notes FROM steps WHERE stored & 4 UNION SELECT policy FROM grants UNION \
    SELECT component FROM schedules UNION SELECT setup FROM schedules";

/// The executions that ended before a time, by id, each with how many calls it has.
pub(super) fn ended(connection: &Connection, before: UnixMs) -> rusqlite::Result<Vec<(ExecutionId, u64)>> {
    let sql = "SELECT id, ifnull(calls, 0) FROM executions WHERE outcome IS NOT NULL AND updated_at < ? ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([limit(before)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        // One whose key is none is left to those who look for damage.
        if let Ok(id) = uuid(row, 0) {
            found.push((ExecutionId(id), super::rows::number(row, 1)?));
        }
    }
    Ok(found)
}

/// The payloads that nothing names, with their sizes in bytes.
pub(super) fn unnamed(connection: &Connection) -> rusqlite::Result<Vec<(Digest, u64)>> {
    let sql = format!("SELECT digest, length(bytes) FROM payloads WHERE digest NOT IN ({NAMED})");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if let Ok(digest) = row.get(0) {
            found.push((Digest(digest), super::rows::number(row, 1)?));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn limit(before: UnixMs) -> i64 {
    stored(before.min(i64::MAX.cast_unsigned()))
}

impl Apply<'_> {
    pub(super) fn collect(&mut self, executions: &[ExecutionId], before: UnixMs) -> Result<Written, Fail> {
        // What their numbers said of the cursor is kept.
        let cursor = self.cursor()?;
        self.connection
            .prepare_cached("UPDATE numbers SET value = ?1 WHERE name = 'settled' AND value <> ?1")?
            .execute([stored(cursor)])?;
        let sql = "DELETE FROM executions WHERE id = ? AND outcome IS NOT NULL AND updated_at < ?";
        let mut removed = 0;
        for id in executions {
            if self.connection.prepare_cached(sql)?.execute(params![id.0.as_bytes(), limit(before)])? == 0 {
                continue;
            }
            for sql in [
                "DELETE FROM steps WHERE execution = ?",
                "DELETE FROM promises WHERE execution = ?",
                "DELETE FROM claims WHERE execution = ?",
                "DELETE FROM grants WHERE execution = ?",
            ] {
                self.connection.prepare_cached(sql)?.execute([id.0.as_bytes()])?;
            }
            removed += 1;
        }
        Ok(Written::Collected(removed))
    }

    pub(super) fn doom(&mut self, digests: &[Digest], mark: Mark) -> Result<Written, Fail> {
        let mut doom = self.connection.prepare_cached("INSERT OR IGNORE INTO doomed VALUES (?, ?)")?;
        for digest in digests {
            doom.execute(params![digest.0, mark.0.as_bytes()])?;
        }
        self.doomed = None;
        Ok(Written::Doomed)
    }

    pub(super) fn sweep(&mut self, digests: &[Digest], mark: Mark) -> Result<Written, Fail> {
        let mut noted = self.connection.prepare_cached("SELECT 1 FROM doomed WHERE digest = ? AND mark = ?")?;
        let mut notes = self.connection.prepare_cached("DELETE FROM doomed WHERE digest = ?")?;
        let mut remove = self.connection.prepare_cached("DELETE FROM payloads WHERE digest = ?")?;
        let mut removed = 0;
        for digest in digests {
            if noted.exists(params![digest.0, mark.0.as_bytes()])? {
                notes.execute([digest.0])?;
                removed += remove.execute([digest.0])?;
            }
        }
        self.doomed = None;
        Ok(Written::Swept(removed as u64))
    }

    /// Something names a payload from here on: whoever found that nothing did is to leave it.
    pub(super) fn name(&mut self, digest: &Digest) -> rusqlite::Result<()> {
        let any = match self.doomed {
            Some(any) => any,
            None => self.connection.prepare_cached("SELECT 1 FROM doomed")?.exists([])?,
        };
        self.doomed = Some(any);
        if any {
            self.connection.prepare_cached("DELETE FROM doomed WHERE digest = ?")?.execute([digest.0])?;
        }
        Ok(())
    }
}
