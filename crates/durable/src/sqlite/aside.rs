//! An execution of which something is damaged: what that is, and how it is set aside.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::apply::{Apply, Fail};
use super::promise_row::PromiseRow;
use super::rows::{ExecutionRow, STORED_ARGUMENTS, STORED_NOTES, STORED_RESULT, StepRow, number, stored};
use super::{grant, promise_id};
use crate::ids::{Digest, ExecutionId, Fence, Secret, UnixMs};
use crate::store::{ExecutionRecord, Refusal, Usage, Written};

/// What is damaged of an execution: each fault in words, and the rows that are of no more use.
#[derive(Default)]
pub(super) struct Damages {
    pub(super) faults: Vec<String>,
    /// Whether there is anything of that id at all.
    any: bool,
    execution: Option<ExecutionRow>,
    steps: Vec<u64>,
    promises: Vec<Vec<u8>>,
    grants: Vec<u64>,
    payloads: BTreeSet<Digest>,
}

impl Damages {
    /// Looks at all that there is of one execution.
    pub(super) fn of(connection: &Connection, id: ExecutionId) -> rusqlite::Result<Self> {
        let mut this = Self::default();
        this.look_at_row(connection, id)?;
        this.look_at_steps(connection, id)?;
        this.look_at_promises(connection, id)?;
        this.look_at_grants(connection, id)?;
        if this.any && this.execution.is_none() && this.faults.is_empty() {
            this.faults.push(format!("executions row {id} is missing"));
        }
        Ok(this)
    }

    fn look_at_row(&mut self, connection: &Connection, id: ExecutionId) -> rusqlite::Result<()> {
        let sql = format!("SELECT {} FROM executions WHERE id = ?", ExecutionRow::COLUMNS);
        let found = connection
            .prepare_cached(&sql)?
            .query_row([id.0.as_bytes()], |row| Ok(ExecutionRow::read(row)))
            .optional()?;
        let Some(found) = found else { return Ok(()) };
        self.any = true;
        match found {
            Err(damage) => self.faults.push(damage.to_string()),
            Ok(row) => {
                let (setup, component) = (row.record.setup, row.record.component);
                self.execution = Some(row);
                self.look_at_payload(connection, &setup, true, || format!("executions row {id}: its setup"))?;
                // It is kept only from the first wait on.
                self.look_at_payload(connection, &component, false, || format!("executions row {id}: its component"))?;
            }
        }
        Ok(())
    }

    /// Gives whether it is whole.
    fn look_at_payload(
        &mut self,
        connection: &Connection,
        digest: &Digest,
        must: bool,
        name: impl Fn() -> String,
    ) -> rusqlite::Result<bool> {
        let mut statement = connection.prepare_cached("SELECT bytes FROM payloads WHERE digest = ?")?;
        let whole = statement
            .query_row([digest.0], |row| Ok(row.get_ref(0)?.as_blob().is_ok_and(|bytes| Digest::of(bytes) == *digest)))
            .optional()?;
        match whole {
            Some(true) => return Ok(true),
            None if !must => return Ok(true),
            None => self.faults.push(format!("{} is missing", name())),
            Some(false) => {
                self.payloads.insert(*digest);
                self.faults.push(format!("{} is damaged", name()));
            }
        }
        Ok(false)
    }

    fn look_at_steps(&mut self, connection: &Connection, id: ExecutionId) -> rusqlite::Result<()> {
        let sql = format!("SELECT {} FROM steps WHERE execution = ? ORDER BY number", StepRow::COLUMNS);
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([id.0.as_bytes()])?;
        // The number that the next step must have; unknown after a damaged row.
        let mut wanted = Some(0);
        while let Some(row) = rows.next()? {
            self.any = true;
            let place = number(row, 1)?;
            let step = match StepRow::read(row) {
                Ok((_, step)) => step,
                Err(damage) => {
                    self.faults.push(damage.to_string());
                    self.steps.push(place);
                    wanted = None;
                    continue;
                }
            };
            let name = format!("steps row {place} of execution {id}");
            if wanted.is_some_and(|wanted| wanted != place) {
                self.faults.push(format!("{name}: the step before it is missing"));
            }
            wanted = Some(place.saturating_add(step.calls));
            let parts = [
                (STORED_ARGUMENTS, Some(&step.arguments)),
                (STORED_RESULT, step.result.as_ref()),
                (STORED_NOTES, step.notes.as_ref()),
            ];
            for (bit, part) in parts {
                let named = part.filter(|_| step.stored & bit != 0).and_then(|part| part.as_ref().try_into().ok());
                if let Some(digest) = named
                    && !self.look_at_payload(connection, &Digest(digest), true, || format!("{name}: its payload"))?
                {
                    self.steps.push(place);
                }
            }
            if let Some(promise) = step.promise.as_deref().and_then(|bytes| promise_id::decode_id(id, bytes))
                && super::apply::find_promise(connection, &promise)?.is_none()
            {
                self.faults.push(format!("{name}: its promise is missing"));
            }
        }
        let calls = self.execution.as_ref().and_then(|row| row.record.calls);
        if let (Some(wanted), Some(calls)) = (wanted, calls)
            && wanted < calls
        {
            self.faults.push(lost_tail(id, wanted, calls));
        }
        Ok(())
    }

    fn look_at_promises(&mut self, connection: &Connection, id: ExecutionId) -> rusqlite::Result<()> {
        let sql = format!("SELECT {} FROM promises WHERE execution = ?", PromiseRow::COLUMNS);
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([id.0.as_bytes()])?;
        while let Some(row) = rows.next()? {
            self.any = true;
            if let Err(damage) = PromiseRow::read(row) {
                self.faults.push(damage.to_string());
                self.promises.push(row.get(1)?);
            }
        }
        Ok(())
    }

    fn look_at_grants(&mut self, connection: &Connection, id: ExecutionId) -> rusqlite::Result<()> {
        let mut next = 1;
        for (generation, found) in grant::rows_of(connection, id)? {
            self.any = true;
            let name = format!("grants row {generation} of execution {id}");
            match found {
                Err(damage) => {
                    self.faults.push(damage.to_string());
                    self.grants.push(generation);
                }
                Ok(grant) => {
                    if grant.generation != next {
                        self.faults.push(format!("{name}: the grant before it is missing"));
                    }
                    self.look_at_payload(connection, &grant.policy, true, || format!("{name}: its policy"))?;
                }
            }
            next = generation.saturating_add(1);
        }
        let generation = self.execution.as_ref().map_or(0, |row| row.record.generation);
        if generation >= next {
            self.faults.push(format!("executions row {id}: its grant {generation} is missing"));
        }
        Ok(())
    }
}

/// What can still be read of a row of [`ExecutionRow::COLUMNS`], or of none.
fn remains(id: ExecutionId, row: Option<&Row<'_>>, now: UnixMs) -> ExecutionRecord {
    let count = |column: usize| row.and_then(|row| number(row, column).ok());
    let digest = |column: usize| row.and_then(|row| row.get(column).ok()).map_or(Digest([0; 32]), Digest);
    ExecutionRecord {
        id,
        component: digest(1),
        setup: digest(2),
        secret: Secret([0; 32]),
        // Nobody who held it may go on.
        fence: Fence(count(4).unwrap_or(0).min(u64::MAX >> 2)),
        owner: None,
        usage: Usage::default(),
        created_at: count(11).filter(|at| *at <= now).unwrap_or(now),
        updated_at: now,
        outcome: None,
        generation: 0,
        schedule: None,
        calls: None,
        felled: 0,
        showing: None,
        aside: None,
    }
}

/// What is said of steps that are missing at the end.
pub(super) fn lost_tail(id: ExecutionId, there: u64, calls: u64) -> String {
    format!("executions row {id}: the steps of the calls {there} to {} are missing", calls - 1)
}

impl Apply<'_> {
    pub(super) fn set_aside(&mut self, id: ExecutionId, outcome: &str, now: UnixMs) -> Result<Written, Fail> {
        let damages = Damages::of(self.connection, id)?;
        if !damages.any {
            return Err(Refusal::NoExecution(id).into());
        }
        if damages.execution.as_ref().is_some_and(|row| row.record.outcome.is_some()) {
            return Err(Refusal::Ended(id).into());
        }
        if damages.faults.is_empty() {
            return Err(Refusal::Whole(id).into());
        }
        let key = id.0.as_bytes();
        for step in &damages.steps {
            let mut statement =
                self.connection.prepare_cached("DELETE FROM steps WHERE execution = ? AND number = ?")?;
            statement.execute(params![key, stored(*step)])?;
        }
        for promise in &damages.promises {
            let mut statement =
                self.connection.prepare_cached("DELETE FROM promises WHERE execution = ? AND id = ?")?;
            statement.execute(params![key, promise])?;
        }
        for generation in &damages.grants {
            let sql = "DELETE FROM grants WHERE execution = ? AND generation = ?";
            self.connection.prepare_cached(sql)?.execute(params![key, stored(*generation)])?;
        }
        // Bytes that are not those of their digest keep the right ones from being stored again.
        for digest in &damages.payloads {
            self.connection.prepare_cached("DELETE FROM payloads WHERE digest = ?")?.execute([digest.0])?;
        }
        let mut record = match damages.execution {
            Some(row) => row.record,
            None => {
                let sql = format!("SELECT {} FROM executions WHERE id = ?", ExecutionRow::COLUMNS);
                let mut statement = self.connection.prepare_cached(&sql)?;
                let found = statement.query_row([key], |row| Ok(remains(id, Some(row), now))).optional()?;
                found.unwrap_or_else(|| remains(id, None, now))
            }
        };
        record.set_aside(damages.faults, now);
        let ended = self.end(&mut record, outcome, now)?;
        self.connection.prepare_cached("DELETE FROM executions WHERE id = ?")?.execute([key])?;
        self.insert_execution(record, Some(ended))?;
        Ok(Written::SetAside)
    }
}
