//! The claims of workers: rows, and the writes that are about them.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use super::apply::{Apply, Fail, find_promise};
use super::promise_id::{decode_id, encode_id};
use super::rows::{Damage, Sum, number, stored, uuid};
use crate::ids::{ExecutionId, OwnerId, PromiseId, UnixMs};
use crate::store::{Claim, Release};
use crate::store::{Refusal, Written};

pub(super) const COLUMNS: &str = "execution, id, owner, fence, failed, not_before, doubt, checksum";

fn sum(execution: ExecutionId, id: &[u8], claim: &Claim) -> u32 {
    Sum::of("claims")
        .bytes(Some(execution.0.as_bytes()))
        .bytes(Some(id))
        .bytes(claim.owner.as_ref().map(|owner| owner.0.as_bytes().as_slice()))
        .numbers([claim.fence, claim.failed, claim.not_before, u64::from(claim.doubt)])
        .finish()
}

/// Decodes a row of [`COLUMNS`].
pub(super) fn read(row: &Row<'_>) -> Result<(ExecutionId, Claim), Damage> {
    let damage = || -> Damage {
        match uuid(row, 0) {
            Ok(id) => format!("claims row of {}", id.as_hyphenated()).into(),
            Err(_) => "claims row of unknown execution".into(),
        }
    };
    decode(row).ok().flatten().ok_or_else(damage)
}

/// `None`: it is not what was written.
fn decode(row: &Row<'_>) -> rusqlite::Result<Option<(ExecutionId, Claim)>> {
    let (execution, id) = (ExecutionId(uuid(row, 0)?), row.get::<_, Vec<u8>>(1)?);
    let Some(promise) = decode_id(execution, &id) else { return Ok(None) };
    let owner = row.get::<_, Option<[u8; 16]>>(2)?.map(|bytes| OwnerId(Uuid::from_bytes(bytes)));
    let (fence, failed, not_before) = (number(row, 3)?, number(row, 4)?, number(row, 5)?);
    let claim = Claim { promise, owner, fence, failed, not_before, doubt: number(row, 6)? == 1 };
    let crc: u32 = row.get(7)?;
    Ok((sum(execution, &id, &claim) == crc).then_some((execution, claim)))
}

/// The claims to promises that are pending; a damaged one is left out, and said to be when the store is checked.
pub(super) fn pending(connection: &Connection) -> rusqlite::Result<Vec<Claim>> {
    let columns = COLUMNS.split(", ").map(|column| format!("claims.{column}")).collect::<Vec<_>>().join(", ");
    let sql = format!("SELECT {columns} FROM claims JOIN promises USING (execution, id) WHERE settled_seq IS NULL");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([], |row| Ok(read(row)))?;
    let mut found = Vec::new();
    for row in rows {
        match row? {
            Ok((_, claim)) => found.push(claim),
            Err(damage) => tracing::error!(%damage, "damaged: left out"),
        }
    }
    Ok(found)
}

/// What is damaged of them.
pub(super) fn check(connection: &Connection, faults: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM claims"))?;
    let rows = statement.query_map([], |row| Ok(read(row)))?;
    for row in rows {
        faults.extend(row?.err().map(|damage| damage.to_string()));
    }
    Ok(())
}

impl Apply<'_> {
    pub(super) fn take_claim(
        &mut self,
        id: &PromiseId,
        owner: OwnerId,
        void: Option<OwnerId>,
        now: UnixMs,
    ) -> Result<Written, Fail> {
        let found = find_promise(self.connection, id)?.transpose()?;
        let (row, record) = found.ok_or_else(|| Refusal::NoPromise(id.clone()))?;
        let claim = Claim::take(self.find_claim(row.execution, id)?, &record, owner, void, now)?;
        self.put_claim(row.execution, &claim)?;
        Ok(Written::Taken(Box::new(claim)))
    }

    pub(super) fn release_claim(
        &mut self,
        id: &PromiseId,
        holder: (OwnerId, u64),
        how: Release,
        not_before: UnixMs,
    ) -> Result<Written, Fail> {
        let (execution, claim) = self.held(id)?;
        let claim = claim.release(holder, how, not_before)?;
        self.put_claim(execution, &claim)?;
        Ok(Written::Released)
    }

    /// Whether a worker may settle a promise under its claim.
    pub(super) fn may_settle(&mut self, id: &PromiseId, holder: Option<(OwnerId, u64)>) -> Result<(), Fail> {
        match holder {
            Some((owner, fence)) => Ok(self.held(id)?.1.held_by(owner, fence)?),
            None => Ok(()),
        }
    }

    fn held(&self, id: &PromiseId) -> Result<(ExecutionId, Claim), Fail> {
        let found = find_promise(self.connection, id)?.transpose()?;
        let (row, _) = found.ok_or_else(|| Refusal::NoPromise(id.clone()))?;
        let claim = self.find_claim(row.execution, id)?;
        Ok((row.execution, claim.ok_or_else(|| Refusal::Claimed(id.clone()))?))
    }

    fn find_claim(&self, execution: ExecutionId, id: &PromiseId) -> Result<Option<Claim>, Fail> {
        let sql = format!("SELECT {COLUMNS} FROM claims WHERE execution = ? AND id = ?");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let values = params![execution.0.as_bytes(), encode_id(execution, id)];
        let found = statement.query_row(values, |row| Ok(read(row))).optional()?;
        Ok(found.transpose()?.map(|(_, claim)| claim))
    }

    fn put_claim(&self, execution: ExecutionId, claim: &Claim) -> rusqlite::Result<()> {
        let id = encode_id(execution, &claim.promise);
        let crc = sum(execution, &id, claim);
        let sql = format!("INSERT OR REPLACE INTO claims ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?)");
        self.connection.prepare_cached(&sql)?.execute(params![
            execution.0.as_bytes(),
            id,
            claim.owner.map(|owner| *owner.0.as_bytes()),
            stored(claim.fence),
            stored(claim.failed),
            stored(claim.not_before),
            claim.doubt,
            crc,
        ])?;
        Ok(())
    }
}
