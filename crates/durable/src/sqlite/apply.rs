//! What each write does. Everything that may refuse a write is looked at before its first
//! change, so a refusal needs no savepoint.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::failed;
use super::promise_id::{encode_id, named_execution, text_id};
use super::promise_row::PromiseRow;
use super::rows::{ExecutionRow, STORED_ARGUMENTS, STORED_NOTES, STORED_RESULT, StepRow, stored};
use crate::ids::{Digest, ExecutionId, NEVER, OwnerId, PromiseId, UnixMs};
use crate::promise::{PromiseRecord, PromiseState, Value};
use crate::step::Step;
use crate::store::{Commit, ExecutionRecord, GrantRecord, INLINE_LIMIT, Lease, Refusal, StoreError, Write, Written};

const INSERT_EXECUTION: &str = "INSERT INTO executions VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
const UPDATE_EXECUTION: &str = "UPDATE executions SET fence = ?, owner = ?, cpu_us = ?, wall_us = ?, output = ?, \
    journal = ?, shown = ?, updated_at = ?, outcome = ?, ended_seq = ?, checksum = ?, generation = ?, \
    calls = ?, felled = ?, showing = ?, aside = ? WHERE id = ?";
const INSERT_STEP: &str = "INSERT OR REPLACE INTO steps VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
const KNOWN_PAYLOAD: &str = "SELECT 1 FROM payloads WHERE digest = ?";
const INSERT_PAYLOAD: &str = "INSERT INTO payloads VALUES (?, ?)";

/// The cursor: the highest number of a row, or of one that is gone. Three looks at the end of
/// an index cost less than a counter, whose page every settlement would write.
pub(super) const CURSOR: &str = "SELECT max((SELECT value FROM numbers WHERE name = 'settled'), \
    ifnull((SELECT max(settled_seq) FROM promises INDEXED BY promises_order), 0), \
    ifnull((SELECT max(ended_seq) FROM executions INDEXED BY executions_ended WHERE ended_seq IS NOT NULL), 0))";

/// Either this write is refused, or the whole batch has failed.
pub(super) enum Fail {
    Refused(Refusal),
    Store(StoreError),
}

impl From<Refusal> for Fail {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<rusqlite::Error> for Fail {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(failed(&error))
    }
}

/// A damaged row refuses the writes that depend on it; the others of the batch go on.
impl From<Arc<str>> for Fail {
    fn from(damage: Arc<str>) -> Self {
        Self::Refused(Refusal::Damaged(damage))
    }
}

/// The writes of one transaction.
pub(super) struct Apply<'c> {
    pub(super) connection: &'c Connection,
    /// The cursor, once a write has needed it.
    cursor: Option<u64>,
    /// Whether the write at hand has moved the cursor: it does so once, whatever it settles.
    moved: bool,
    /// Whether payloads are noted as doomed, once a write has needed to know.
    pub(super) doomed: Option<bool>,
}

impl<'c> Apply<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection, cursor: None, moved: false, doomed: None }
    }

    pub(super) fn write(&mut self, write: &Write) -> Result<Result<Written, Refusal>, StoreError> {
        self.moved = false;
        let answer = match write {
            Write::Commit(commit) => self.commit(commit),
            Write::Acquire { execution, owner, void } => self.acquire(*execution, *owner, *void),
            Write::Settle { id, state, value, claim, now } => {
                self.may_settle(id, *claim).and_then(|()| self.settle(id, *state, value, *now))
            }
            Write::Take { id, owner, void, now } => self.take_claim(id, *owner, *void, *now),
            Write::Release { id, claim, how, not_before } => self.release_claim(id, *claim, *how, *not_before),
            Write::Cancel { execution, outcome, now } => self.cancel(*execution, outcome, *now),
            Write::Shown { execution, upto } => self.shown(*execution, *upto),
            Write::Expire { now } => self.expire(*now).map(Written::Expired),
            Write::Recompute { now } => self.recompute(*now).map(Written::Recomputed),
            Write::Collect { executions, before } => self.collect(executions, *before),
            Write::Doom { digests, mark } => self.doom(digests, *mark),
            Write::Sweep { digests, mark } => self.sweep(digests, *mark),
            Write::SetAside { execution, outcome, now } => self.set_aside(*execution, outcome, *now),
            Write::Grant { execution, generation, policy, by, change, now } => {
                let grant = GrantRecord {
                    execution: *execution,
                    generation: *generation,
                    policy: policy.0,
                    by: by.clone(),
                    change: change.clone(),
                    at: *now,
                };
                self.grant(&grant, &policy.1)
            }
            Write::Schedule(new) => self.schedule(new),
            Write::Fire(fire) => self.fire(fire),
            Write::Reschedule { id, revision, paused, next_at, now } => {
                self.reschedule(*id, *revision, *paused, *next_at, *now)
            }
            Write::Unschedule { id } => self.unschedule(*id),
            Write::Fell { execution, owner } => self.fell(*execution, *owner),
            Write::Claim { execution, owner, void } => self.claim(*execution, *owner, *void),
        };
        match answer {
            Ok(written) => Ok(Ok(written)),
            Err(Fail::Refused(refusal)) => Ok(Err(refusal)),
            Err(Fail::Store(error)) => Err(error),
        }
    }

    /// Prepares what the commits of a short run need.
    pub(super) fn warm(&self) -> rusqlite::Result<()> {
        let known = format!("SELECT {} FROM executions WHERE id = ?", ExecutionRow::COLUMNS);
        for sql in [&known, INSERT_EXECUTION, UPDATE_EXECUTION, INSERT_STEP, KNOWN_PAYLOAD, INSERT_PAYLOAD, CURSOR] {
            self.connection.prepare_cached(sql)?;
        }
        Ok(())
    }

    /// The cursor as it is at this point of the transaction.
    pub(super) fn cursor(&mut self) -> rusqlite::Result<u64> {
        let cursor = match self.cursor {
            Some(cursor) => cursor,
            None => self.connection.prepare_cached(CURSOR)?.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned(),
        };
        self.cursor = Some(cursor);
        Ok(cursor)
    }

    /// The cursor of what the write at hand settles.
    fn next_cursor(&mut self) -> rusqlite::Result<u64> {
        let cursor = self.cursor()?;
        let cursor = if self.moved { cursor } else { cursor + 1 };
        self.cursor = Some(cursor);
        self.moved = true;
        Ok(cursor)
    }

    pub(super) fn find_execution(&self, id: ExecutionId) -> Result<Option<ExecutionRecord>, Fail> {
        Ok(self.find_row(id)?.map(|row| row.record))
    }

    fn find_row(&self, id: ExecutionId) -> Result<Option<ExecutionRow>, Fail> {
        let sql = format!("SELECT {} FROM executions WHERE id = ?", ExecutionRow::COLUMNS);
        let mut statement = self.connection.prepare_cached(&sql)?;
        let found = statement.query_row([id.0.as_bytes()], |row| Ok(ExecutionRow::read(row))).optional()?;
        Ok(found.transpose()?)
    }

    /// An execution that has not ended.
    pub(super) fn running(&self, id: ExecutionId) -> Result<ExecutionRecord, Fail> {
        let record = self.find_execution(id)?.ok_or(Refusal::NoExecution(id))?;
        if record.outcome.is_some() {
            return Err(Refusal::Ended(id).into());
        }
        Ok(record)
    }

    pub(super) fn insert_execution(&self, record: ExecutionRecord, ended: Option<u64>) -> rusqlite::Result<()> {
        let row = ExecutionRow { record, ended };
        let (r, crc) = (&row.record, row.sum());
        self.connection.prepare_cached(INSERT_EXECUTION)?.execute(params![
            r.id.0.as_bytes(),
            r.component.0,
            r.setup.0,
            r.secret.0,
            stored(r.fence.0),
            r.owner.as_ref().map(|owner| owner.0.as_bytes()),
            stored(r.usage.cpu_us),
            stored(r.usage.wall_us),
            stored(r.usage.output),
            stored(r.usage.journal),
            stored(r.usage.shown),
            stored(r.created_at),
            stored(r.updated_at),
            r.outcome,
            row.ended.map(stored),
            crc,
            row.generation().map(stored),
            r.schedule.as_ref().map(|id| id.0.as_bytes()),
            r.calls.map(stored),
            row.felled().map(stored),
            r.showing.as_ref().map(|owner| owner.0.as_bytes()),
            r.aside,
        ])?;
        Ok(())
    }

    /// Rewrites what may change of an execution.
    pub(super) fn update_execution(&self, record: ExecutionRecord, ended: Option<u64>) -> rusqlite::Result<()> {
        let row = ExecutionRow { record, ended };
        let (r, crc) = (&row.record, row.sum());
        self.connection.prepare_cached(UPDATE_EXECUTION)?.execute(params![
            stored(r.fence.0),
            r.owner.as_ref().map(|owner| owner.0.as_bytes()),
            stored(r.usage.cpu_us),
            stored(r.usage.wall_us),
            stored(r.usage.output),
            stored(r.usage.journal),
            stored(r.usage.shown),
            stored(r.updated_at),
            r.outcome,
            row.ended.map(stored),
            crc,
            row.generation().map(stored),
            r.calls.map(stored),
            row.felled().map(stored),
            r.showing.as_ref().map(|owner| owner.0.as_bytes()),
            r.aside,
            r.id.0.as_bytes(),
        ])?;
        Ok(())
    }

    fn commit(&mut self, commit: &Commit) -> Result<Written, Fail> {
        let id = commit.execution;
        let mut record = match &commit.create {
            None => self.running(id)?,
            Some(_) if self.find_execution(id)?.is_some() => return Err(Refusal::Exists(id).into()),
            Some(new) => ExecutionRecord::of(id, new, commit.now),
        };
        if record.fence != commit.fence || record.owner.is_none() {
            return Err(Refusal::Fenced { execution: id, held: commit.fence, found: record.fence }.into());
        }

        for (digest, bytes) in &commit.payloads {
            self.insert_payload(digest, bytes)?;
        }
        if let Some(new) = &commit.create {
            self.name(&new.component)?;
            self.name(&new.setup)?;
        }
        let withheld = record.withheld(commit);
        for step in commit.steps.iter().filter(|step| Some(step.number) != withheld) {
            self.insert_step(id, step)?;
        }
        for promise in ExecutionRecord::promises(commit, withheld) {
            self.insert_promise(id, promise)?;
        }
        record.advance(commit, withheld);
        let present = record.generation;
        let mut ended = None;
        match &commit.lease {
            Lease::Keep => {}
            Lease::Release => record.owner = None,
            Lease::End(outcome) => ended = Some(self.end(&mut record, outcome, commit.now)?),
        }
        if commit.create.is_some() {
            self.insert_execution(record, ended)?;
        } else {
            self.update_execution(record, ended)?;
        }
        Ok(if withheld.is_some() { Written::Withheld(present) } else { Written::Committed })
    }

    /// Looks first: a component may have 20 MB, which binding would copy.
    pub(super) fn insert_payload(&mut self, digest: &Digest, bytes: &[u8]) -> rusqlite::Result<()> {
        let mut known = self.connection.prepare_cached(KNOWN_PAYLOAD)?;
        if known.exists([digest.0])? {
            self.name(digest)?;
        } else {
            self.connection.prepare_cached(INSERT_PAYLOAD)?.execute(params![digest.0, bytes])?;
        }
        Ok(())
    }

    /// Moves a long part of a step out of its row; says whether it did.
    fn shorten(&mut self, part: &mut std::borrow::Cow<'_, [u8]>) -> rusqlite::Result<bool> {
        if part.len() <= INLINE_LIMIT {
            return Ok(false);
        }
        let digest = Digest::of(part);
        self.insert_payload(&digest, part)?;
        *part = digest.0.to_vec().into();
        Ok(true)
    }

    fn insert_step(&mut self, id: ExecutionId, step: &Step) -> rusqlite::Result<()> {
        let mut row = StepRow::of(id, step);
        if self.shorten(&mut row.arguments)? {
            row.stored |= STORED_ARGUMENTS;
        }
        if let Some(result) = &mut row.result
            && self.shorten(result)?
        {
            row.stored |= STORED_RESULT;
        }
        if let Some(notes) = &mut row.notes
            && self.shorten(notes)?
        {
            row.stored |= STORED_NOTES;
        }
        let crc = row.sum(id);
        self.connection.prepare_cached(INSERT_STEP)?.execute(params![
            id.0.as_bytes(),
            stored(row.number),
            stored(row.calls),
            row.function,
            stored(row.effect),
            row.arguments,
            row.promise,
            stored(row.admitted_at),
            row.completed_at.map(stored),
            row.outcome.map(stored),
            row.result,
            row.delivered,
            stored(row.stored),
            crc,
            row.notes,
        ])?;
        Ok(())
    }

    fn insert_promise(&mut self, execution: ExecutionId, record: &PromiseRecord) -> rusqlite::Result<()> {
        if exists_promise(self.connection, execution, &record.id)? {
            return Ok(());
        }
        let settled = match record.state {
            PromiseState::Pending => None,
            _ => Some(self.next_cursor()?),
        };
        let row = PromiseRow::of(execution, record, settled);
        let crc = row.sum();
        self.connection.prepare_cached("INSERT INTO promises VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)")?.execute(
            params![
                row.execution.0.as_bytes(),
                row.id,
                stored(row.state),
                stored(row.created_at),
                stored(row.timeout_at),
                row.settled_at.map(stored),
                row.settled_seq.map(stored),
                stored(row.flags),
                row.step.map(stored),
                row.component.map(|digest| digest.0),
                row.tags,
                row.param_headers,
                row.param,
                row.value_headers,
                row.value,
                crc,
            ],
        )?;
        Ok(())
    }

    /// Stores that a promise is settled as its record says.
    fn update_promise(&mut self, execution: ExecutionId, record: &PromiseRecord) -> rusqlite::Result<()> {
        let row = PromiseRow::of(execution, record, Some(self.next_cursor()?));
        let crc = row.sum();
        self.connection
            .prepare_cached(
                "UPDATE promises SET state = ?, settled_at = ?, settled_seq = ?, value_headers = ?, value = ?, \
                 checksum = ? \
                 WHERE execution = ? AND id = ?",
            )?
            .execute(params![
                stored(row.state),
                row.settled_at.map(stored),
                row.settled_seq.map(stored),
                row.value_headers,
                row.value,
                crc,
                row.execution.0.as_bytes(),
                row.id,
            ])?;
        Ok(())
    }

    fn shown(&self, id: ExecutionId, upto: u64) -> Result<Written, Fail> {
        let mut row = self.find_row(id)?.ok_or(Refusal::NoExecution(id))?;
        row.record.usage.shown = row.record.usage.shown.max(upto);
        self.update_execution(row.record, row.ended)?;
        Ok(Written::Committed)
    }

    fn acquire(&mut self, id: ExecutionId, owner: OwnerId, void: Option<OwnerId>) -> Result<Written, Fail> {
        let mut record = self.running(id)?;
        if record.owner.is_some() && record.owner != void {
            return Err(Refusal::Held(id).into());
        }
        record.owner = Some(owner);
        record.fence.0 += 1;
        if record.calls.is_none() {
            record.calls = Some(self.count_calls(id)?);
        }
        let fence = record.fence;
        self.update_execution(record, None)?;
        Ok(Written::Acquired(fence))
    }

    /// Of an execution that an older program made: what its steps cover is what is known of it.
    fn count_calls(&self, id: ExecutionId) -> rusqlite::Result<u64> {
        let sql = "SELECT number + calls FROM steps WHERE execution = ? ORDER BY number DESC LIMIT 1";
        let calls = self.connection.prepare_cached(sql)?.query_row([id.0.as_bytes()], |row| row.get::<_, i64>(0));
        Ok(calls.optional()?.map_or(0, i64::cast_unsigned))
    }

    fn fell(&mut self, id: ExecutionId, owner: OwnerId) -> Result<Written, Fail> {
        let mut record = self.running(id)?;
        let felled = record.fell(owner)?;
        self.update_execution(record, None)?;
        Ok(Written::Felled(felled))
    }

    fn claim(&mut self, id: ExecutionId, owner: Option<OwnerId>, void: Option<OwnerId>) -> Result<Written, Fail> {
        let mut row = self.find_row(id)?.ok_or(Refusal::NoExecution(id))?;
        row.record.claim(owner, void)?;
        self.update_execution(row.record, row.ended)?;
        Ok(Written::Claimed)
    }

    fn settle(&mut self, id: &PromiseId, state: PromiseState, value: &Value, now: UnixMs) -> Result<Written, Fail> {
        if matches!(state, PromiseState::Pending | PromiseState::RejectedTimedout) {
            return Err(Refusal::State(state).into());
        }
        let found = find_promise(self.connection, id)?.transpose()?;
        let (row, mut record) = found.ok_or_else(|| Refusal::NoPromise(id.clone()))?;
        let pending = record.state == PromiseState::Pending;
        let won = pending && !record.apply_timeout(now);
        if won {
            if record.is_timer() && state == PromiseState::Rejected {
                return Err(Refusal::Timer(id.clone()).into());
            }
            record.state = state;
            record.value = value.clone();
            record.settled_at = Some(now);
        }
        if pending {
            self.update_promise(row.execution, &record)?;
        }
        Ok(Written::Settled { record: Box::new(record), won })
    }

    fn cancel(&mut self, id: ExecutionId, outcome: &str, now: UnixMs) -> Result<Written, Fail> {
        let mut record = self.running(id)?;
        record.fence.0 += 1;
        record.updated_at = now;
        let ended = self.end(&mut record, outcome, now)?;
        self.update_execution(record, Some(ended))?;
        Ok(Written::Canceled)
    }

    /// Ends an execution, whose row is the caller's to write: what is pending times out or is canceled.
    pub(super) fn end(&mut self, execution: &mut ExecutionRecord, outcome: &str, now: UnixMs) -> Result<u64, Fail> {
        const SQL: &str = "WHERE execution = ? AND settled_seq IS NULL";
        execution.end(outcome);
        for (row, mut record) in self.select_promises(SQL, params![execution.id.0.as_bytes()])? {
            if !record.apply_timeout(now) {
                record.state = PromiseState::RejectedCanceled;
                record.settled_at = Some(now);
            }
            self.update_promise(row.execution, &record)?;
        }
        Ok(self.next_cursor()?)
    }

    fn expire(&mut self, now: UnixMs) -> Result<u64, Fail> {
        const SQL: &str = "INDEXED BY promises_order WHERE settled_seq IS NULL AND timeout_at BETWEEN 0 AND ?";
        let mut expired = 0;
        for (row, mut record) in self.select_promises(SQL, params![stored(now.min(NEVER - 1))])? {
            if record.apply_timeout(now) {
                self.update_promise(row.execution, &record)?;
                expired += 1;
            }
        }
        Ok(expired)
    }

    /// Rare: every pending promise is looked at.
    fn recompute(&mut self, now: UnixMs) -> Result<u64, Fail> {
        const SQL: &str = "INDEXED BY promises_order WHERE settled_seq IS NULL AND created_at > ?";
        let mut recomputed = 0;
        for (row, mut record) in self.select_promises(SQL, params![stored(now.min(NEVER - 1))])? {
            if record.recompute(now) {
                let row = PromiseRow::of(row.execution, &record, None);
                let crc = row.sum();
                let sql =
                    "UPDATE promises SET created_at = ?, timeout_at = ?, checksum = ? WHERE execution = ? AND id = ?";
                self.connection.prepare_cached(sql)?.execute(params![
                    stored(row.created_at),
                    stored(row.timeout_at),
                    crc,
                    row.execution.0.as_bytes(),
                    row.id,
                ])?;
                recomputed += 1;
            }
        }
        Ok(recomputed)
    }

    /// Promises that are to be changed. A damaged one is left as it is, so that reading it goes
    /// on to say so, and does not keep the others from being expired or canceled.
    fn select_promises(
        &self,
        condition: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> rusqlite::Result<Vec<(PromiseRow, PromiseRecord)>> {
        let sql = format!("SELECT {} FROM promises {condition}", PromiseRow::COLUMNS);
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(values, |row| Ok(PromiseRow::read(row)))?;
        let mut found = Vec::new();
        for row in rows {
            match row? {
                Ok(row) => found.push(row),
                Err(damage) => tracing::error!(%damage, "damaged: left as it is"),
            }
        }
        Ok(found)
    }
}

type Found = Result<(PromiseRow, PromiseRecord), Arc<str>>;

/// Whether there is a promise of this id, damaged or not.
fn exists_promise(connection: &Connection, execution: ExecutionId, id: &PromiseId) -> rusqlite::Result<bool> {
    let mut usual = connection.prepare_cached("SELECT 1 FROM promises WHERE execution = ? AND id = ?")?;
    if usual.exists(params![execution.0.as_bytes(), encode_id(execution, id)])? {
        return Ok(true);
    }
    // The id may name another execution, or none.
    if let Some(named) = named_execution(id)
        && named != execution
        && usual.exists(params![named.0.as_bytes(), encode_id(named, id)])?
    {
        return Ok(true);
    }
    let mut odd = connection.prepare_cached("SELECT 1 FROM promises WHERE id = ? AND id < x'01'")?;
    odd.exists(params![text_id(id)])
}

/// A promise, wherever it is.
pub(super) fn find_promise(connection: &Connection, id: &PromiseId) -> rusqlite::Result<Option<Found>> {
    if let Some(execution) = named_execution(id) {
        let sql = format!("SELECT {} FROM promises WHERE execution = ? AND id = ?", PromiseRow::COLUMNS);
        let mut statement = connection.prepare_cached(&sql)?;
        let values = params![execution.0.as_bytes(), encode_id(execution, id)];
        let found = statement.query_row(values, |row| Ok(PromiseRow::read(row))).optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    let sql = format!("SELECT {} FROM promises WHERE id = ? AND id < x'01'", PromiseRow::COLUMNS);
    connection.prepare_cached(&sql)?.query_row([text_id(id)], |row| Ok(PromiseRow::read(row))).optional()
}
