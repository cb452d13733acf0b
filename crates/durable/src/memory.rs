//! The model of a store: what each write means, said as plainly as possible.
//!
//! It is the oracle of the differential suite and serves tests that need no disk. Clarity
//! goes before speed throughout: nothing is indexed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::{Digest, ExecutionId, Fence, NEVER, OwnerId, PromiseId, ScheduleId, UnixMs};
use crate::promise::{PromiseRecord, PromiseState, Value};
use crate::schedule::{Fire, NewSchedule, ScheduleRecord};
use crate::step::{Completion, Step, StepResult};
use crate::store::Claim;
use crate::store::{
    Changes, Commit, ExecutionRecord, GrantRecord, INLINE_LIMIT, Lease, Listing, Mark, PromiseFilter, Reader, Refusal,
    Store, StoreError, Write, Written,
};

/// A store that lives in memory. Clones share what they hold.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    maps: Arc<Mutex<Maps>>,
}

#[derive(Debug, Default)]
struct Maps {
    executions: BTreeMap<ExecutionId, Execution>,
    steps: BTreeMap<(ExecutionId, u64), Step>,
    promises: BTreeMap<PromiseId, Promise>,
    claims: BTreeMap<PromiseId, Claim>,
    payloads: BTreeMap<Digest, Arc<[u8]>>,
    grants: BTreeMap<(ExecutionId, u64), GrantRecord>,
    schedules: BTreeMap<ScheduleId, ScheduleRecord>,
    /// See [`Write::Doom`].
    doomed: BTreeSet<(Digest, Mark)>,
    /// See [`Reader::granted`].
    granted: u64,
    /// See [`Reader::cursor`].
    cursor: u64,
    /// Whether the write at hand has moved the cursor: it does so once, whatever it settles.
    moved: bool,
    /// See [`Reader::version`].
    version: u64,
}

#[derive(Debug)]
struct Execution {
    record: ExecutionRecord,
    /// The cursor at which it ended.
    ended: Option<u64>,
}

#[derive(Debug)]
struct Promise {
    record: PromiseRecord,
    execution: ExecutionId,
    /// The cursor at which it was settled.
    settled: Option<u64>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A panic in the middle of a write would be a bug of the model; its tests are better served by going on.
    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn write(&mut self, batch: &[Write]) -> Result<Vec<Result<Written, Refusal>>, StoreError> {
        let mut maps = self.lock();
        maps.version += 1;
        Ok(batch.iter().map(|write| maps.apply(write)).collect())
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        Ok(Box::new(self.clone()))
    }
}

impl Maps {
    fn apply(&mut self, write: &Write) -> Result<Written, Refusal> {
        self.moved = false;
        match write {
            Write::Commit(commit) => self.commit(commit),
            Write::Acquire { execution, owner, void } => self.acquire(*execution, *owner, *void),
            Write::Settle { id, state, value, claim, now } => {
                if let Some((owner, fence)) = claim {
                    self.held(id)?.held_by(*owner, *fence)?;
                }
                self.settle(id, *state, value, *now)
            }
            Write::Take { id, owner, void, now } => {
                let promise = self.promises.get(id).ok_or_else(|| Refusal::NoPromise(id.clone()))?;
                let found = self.claims.get(id).cloned();
                let claim = Claim::take(found, &promise.record, *owner, *void, *now)?;
                self.claims.insert(id.clone(), claim.clone());
                Ok(Written::Taken(Box::new(claim)))
            }
            Write::Release { id, claim, how, not_before } => {
                let released = self.held(id)?.clone().release(*claim, *how, *not_before)?;
                self.claims.insert(id.clone(), released);
                Ok(Written::Released)
            }
            Write::Cancel { execution, outcome, now } => self.cancel(*execution, outcome, *now),
            Write::Shown { execution, upto } => self.shown(*execution, *upto),
            Write::Expire { now } => Ok(Written::Expired(self.expire(*now))),
            Write::Recompute { now } => {
                let all = self.promises.values_mut();
                Ok(Written::Recomputed(all.map(|promise| u64::from(promise.record.recompute(*now))).sum()))
            }
            Write::Collect { executions, before } => Ok(Written::Collected(self.collect(executions, *before))),
            Write::Doom { digests, mark } => {
                self.doomed.extend(digests.iter().map(|digest| (*digest, *mark)));
                Ok(Written::Doomed)
            }
            Write::Sweep { digests, mark } => Ok(Written::Swept(self.sweep(digests, *mark))),
            Write::SetAside { execution, outcome, now } => self.set_aside(*execution, outcome, *now),
            Write::Grant { execution, generation, policy, by, change, now } => {
                let record = GrantRecord {
                    execution: *execution,
                    generation: *generation,
                    policy: policy.0,
                    by: by.clone(),
                    change: change.clone(),
                    at: *now,
                };
                self.grant(record, &policy.1)
            }
            Write::Schedule(new) => self.schedule(new),
            Write::Fire(fire) => self.fire(fire),
            Write::Reschedule { id, revision, paused, next_at, now } => {
                self.reschedule(*id, *revision, *paused, *next_at, *now)
            }
            Write::Unschedule { id } => match self.schedules.remove(id) {
                Some(_) => Ok(Written::Unscheduled),
                None => Err(Refusal::NoSchedule(*id)),
            },
            Write::Fell { execution, owner } => self.running(*execution)?.fell(*owner).map(Written::Felled),
            Write::Claim { execution, owner, void } => {
                let found = self.executions.get_mut(execution).ok_or(Refusal::NoExecution(*execution))?;
                found.record.claim(*owner, *void)?;
                Ok(Written::Claimed)
            }
        }
    }

    /// The claim to a promise.
    fn held(&self, id: &PromiseId) -> Result<&Claim, Refusal> {
        if !self.promises.contains_key(id) {
            return Err(Refusal::NoPromise(id.clone()));
        }
        self.claims.get(id).ok_or_else(|| Refusal::Claimed(id.clone()))
    }

    fn grant(&mut self, grant: GrantRecord, policy: &Arc<[u8]>) -> Result<Written, Refusal> {
        let (execution, generation) = (grant.execution, grant.generation);
        let record = self.running(execution)?;
        if record.generation.checked_add(1) != Some(generation) {
            return Err(Refusal::Stale { execution, found: record.generation });
        }
        record.generation = generation;
        record.updated_at = grant.at;
        self.put(grant.policy, policy);
        self.grants.insert((execution, generation), grant);
        self.granted += 1;
        Ok(Written::Granted(generation))
    }

    fn schedule(&mut self, new: &NewSchedule) -> Result<Written, Refusal> {
        if self.schedules.contains_key(&new.id) {
            return Err(Refusal::ScheduleExists(new.id));
        }
        for (digest, bytes) in &new.payloads {
            self.put(*digest, bytes);
        }
        self.schedules.insert(new.id, ScheduleRecord::of(new));
        Ok(Written::Scheduled(0))
    }

    fn fire(&mut self, fire: &Fire) -> Result<Written, Refusal> {
        let schedule = self.schedules.get_mut(&fire.schedule).ok_or(Refusal::NoSchedule(fire.schedule))?;
        if !schedule.may_fire(fire.revision) {
            return Err(Refusal::Changed(fire.schedule));
        }
        if self.executions.contains_key(&fire.execution) {
            return Err(Refusal::Exists(fire.execution));
        }
        let record = ExecutionRecord::fired(schedule, fire);
        schedule.fire(fire);
        let revision = schedule.revision;
        self.spare(&record.component);
        self.spare(&record.setup);
        self.executions.insert(fire.execution, Execution { record, ended: None });
        Ok(Written::Fired(revision))
    }

    fn reschedule(
        &mut self,
        id: ScheduleId,
        revision: u64,
        paused: bool,
        next_at: Option<UnixMs>,
        now: UnixMs,
    ) -> Result<Written, Refusal> {
        let schedule = self.schedules.get_mut(&id).ok_or(Refusal::NoSchedule(id))?;
        if schedule.revision != revision {
            return Err(Refusal::Changed(id));
        }
        schedule.paused = paused;
        schedule.next_at = next_at;
        schedule.touch(now);
        Ok(Written::Scheduled(schedule.revision))
    }

    /// The cursor of what the write at hand settles.
    fn next_cursor(&mut self) -> u64 {
        self.cursor += u64::from(!self.moved);
        self.moved = true;
        self.cursor
    }

    fn shown(&mut self, id: ExecutionId, upto: u64) -> Result<Written, Refusal> {
        let execution = self.executions.get_mut(&id).ok_or(Refusal::NoExecution(id))?;
        execution.record.usage.shown = execution.record.usage.shown.max(upto);
        Ok(Written::Committed)
    }

    /// An execution that has not ended.
    fn running(&mut self, id: ExecutionId) -> Result<&mut ExecutionRecord, Refusal> {
        let execution = self.executions.get_mut(&id).ok_or(Refusal::NoExecution(id))?;
        if execution.record.outcome.is_some() {
            return Err(Refusal::Ended(id));
        }
        Ok(&mut execution.record)
    }

    fn commit(&mut self, commit: &Commit) -> Result<Written, Refusal> {
        let id = commit.execution;
        let (found, owned) = match &commit.create {
            Some(_) if self.executions.contains_key(&id) => return Err(Refusal::Exists(id)),
            Some(_) => (Fence::FIRST, true),
            None => {
                let record = self.running(id)?;
                (record.fence, record.owner.is_some())
            }
        };
        if found != commit.fence || !owned {
            return Err(Refusal::Fenced { execution: id, held: commit.fence, found });
        }

        if let Some(new) = &commit.create {
            let record = ExecutionRecord::of(id, new, commit.now);
            self.spare(&record.component);
            self.spare(&record.setup);
            self.executions.insert(id, Execution { record, ended: None });
        }
        for (digest, bytes) in &commit.payloads {
            self.put(*digest, bytes);
        }
        let withheld = self.running(id)?.withheld(commit);
        for step in commit.steps.iter().filter(|step| Some(step.number) != withheld) {
            for bytes in long_parts(step) {
                self.put(Digest::of(bytes), &bytes.into());
            }
            self.steps.insert((id, step.number), step.clone());
        }
        for record in ExecutionRecord::promises(commit, withheld) {
            if !self.promises.contains_key(&record.id) {
                let settled = (record.state != PromiseState::Pending).then(|| self.next_cursor());
                self.promises.insert(record.id.clone(), Promise { record: record.clone(), execution: id, settled });
            }
        }
        let record = self.running(id)?;
        record.advance(commit, withheld);
        let present = record.generation;
        match &commit.lease {
            Lease::Keep => {}
            Lease::Release => record.owner = None,
            Lease::End(outcome) => self.end(id, outcome, commit.now)?,
        }
        Ok(if withheld.is_some() { Written::Withheld(present) } else { Written::Committed })
    }

    fn acquire(&mut self, id: ExecutionId, owner: OwnerId, void: Option<OwnerId>) -> Result<Written, Refusal> {
        let record = self.running(id)?;
        if record.owner.is_some() && record.owner != void {
            return Err(Refusal::Held(id));
        }
        record.owner = Some(owner);
        record.fence.0 += 1;
        Ok(Written::Acquired(record.fence))
    }

    fn settle(&mut self, id: &PromiseId, state: PromiseState, value: &Value, now: UnixMs) -> Result<Written, Refusal> {
        if matches!(state, PromiseState::Pending | PromiseState::RejectedTimedout) {
            return Err(Refusal::State(state));
        }
        let cursor = self.cursor + 1;
        let promise = self.promises.get_mut(id).ok_or_else(|| Refusal::NoPromise(id.clone()))?;
        let pending = promise.record.state == PromiseState::Pending;
        let timed_out = promise.record.apply_timeout(now);
        let won = pending && !timed_out;
        if won {
            if promise.record.is_timer() && state == PromiseState::Rejected {
                return Err(Refusal::Timer(id.clone()));
            }
            promise.record.state = state;
            promise.record.value = value.clone();
            promise.record.settled_at = Some(now);
        }
        if pending {
            self.cursor = cursor;
            promise.settled = Some(cursor);
        }
        Ok(Written::Settled { record: Box::new(promise.record.clone()), won })
    }

    fn cancel(&mut self, id: ExecutionId, outcome: &str, now: UnixMs) -> Result<Written, Refusal> {
        let record = self.running(id)?;
        record.fence.0 += 1;
        record.updated_at = now;
        self.end(id, outcome, now)?;
        Ok(Written::Canceled)
    }

    fn end(&mut self, id: ExecutionId, outcome: &str, now: UnixMs) -> Result<(), Refusal> {
        let cursor = self.next_cursor();
        let record = self.running(id)?;
        record.end(outcome);
        if let Some(execution) = self.executions.get_mut(&id) {
            execution.ended = Some(cursor);
        }
        for promise in self.promises.values_mut() {
            if promise.execution != id || promise.record.state != PromiseState::Pending {
                continue;
            }
            if !promise.record.apply_timeout(now) {
                promise.record.state = PromiseState::RejectedCanceled;
                promise.record.settled_at = Some(now);
            }
            promise.settled = Some(cursor);
        }
        Ok(())
    }

    fn expire(&mut self, now: UnixMs) -> u64 {
        let cursor = self.cursor + 1;
        let mut expired = 0;
        for promise in self.promises.values_mut() {
            if promise.record.timeout_at < NEVER && promise.record.apply_timeout(now) {
                promise.settled = Some(cursor);
                self.cursor = cursor;
                expired += 1;
            }
        }
        expired
    }

    fn collect(&mut self, executions: &[ExecutionId], before: UnixMs) -> u64 {
        let ended = |e: &Execution| e.record.outcome.is_some() && e.record.updated_at < before;
        let gone: BTreeSet<ExecutionId> =
            executions.iter().filter(|id| self.executions.get(id).is_some_and(ended)).copied().collect();
        self.executions.retain(|id, _| !gone.contains(id));
        self.steps.retain(|(id, _), _| !gone.contains(id));
        self.promises.retain(|_, promise| !gone.contains(&promise.execution));
        let promises = &self.promises;
        self.claims.retain(|id, _| promises.contains_key(id));
        self.grants.retain(|(id, _), _| !gone.contains(id));
        gone.len() as u64
    }

    /// All names of payloads that there are.
    fn named(&self) -> BTreeSet<Digest> {
        let mut named: BTreeSet<Digest> = self.grants.values().map(|grant| grant.policy).collect();
        for schedule in self.schedules.values() {
            named.extend([schedule.component, schedule.setup]);
        }
        for execution in self.executions.values() {
            named.extend([execution.record.component, execution.record.setup]);
        }
        for step in self.steps.values() {
            named.extend(long_parts(step).map(Digest::of));
        }
        named
    }

    fn sweep(&mut self, digests: &[Digest], mark: Mark) -> u64 {
        let mut removed = 0;
        for digest in digests {
            if self.doomed.contains(&(*digest, mark)) {
                self.spare(digest);
                removed += u64::from(self.payloads.remove(digest).is_some());
            }
        }
        removed
    }

    /// Somebody names it from now on.
    fn spare(&mut self, digest: &Digest) {
        self.doomed.retain(|(doomed, _)| doomed != digest);
    }

    /// Stores a payload, or names one that is there.
    fn put(&mut self, digest: Digest, bytes: &Arc<[u8]>) {
        self.spare(&digest);
        self.payloads.entry(digest).or_insert_with(|| bytes.clone());
    }

    fn set_aside(&mut self, id: ExecutionId, outcome: &str, now: UnixMs) -> Result<Written, Refusal> {
        let faults = self.damage(id);
        if self.executions.contains_key(&id) {
            self.running(id)?;
        } else if faults.is_empty() {
            return Err(Refusal::NoExecution(id));
        }
        if faults.is_empty() {
            return Err(Refusal::Whole(id));
        }
        let record = self.running(id)?;
        record.set_aside(faults, now);
        self.end(id, outcome, now)?;
        Ok(Written::SetAside)
    }

    /// What can be damaged in memory: what was never written.
    fn damage(&self, id: ExecutionId) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(execution) = self.executions.get(&id)
            && !self.payloads.contains_key(&execution.record.setup)
        {
            faults.push(format!("executions row {id}: its setup is missing"));
        }
        let mut wanted = 0;
        for ((_, number), step) in self.steps.range((id, 0)..=(id, u64::MAX)) {
            if *number != wanted {
                faults.push(format!("steps row {number} of execution {id}: the step before it is missing"));
            }
            wanted = number + step.calls;
            if step.promise.as_ref().is_some_and(|promise| !self.promises.contains_key(promise)) {
                faults.push(format!("steps row {number} of execution {id}: its promise is missing"));
            }
        }
        faults
    }
}

/// The arguments, the notes and the result of a step, as far as they are kept as payloads.
fn long_parts(step: &Step) -> impl Iterator<Item = &[u8]> {
    let result = step.completion.as_ref().map(|Completion { result, .. }| match result {
        StepResult::Ok(bytes) | StepResult::Err(bytes) | StepResult::Denied(bytes) => bytes,
    });
    [Some(&step.arguments), Some(&step.notes), result]
        .into_iter()
        .flatten()
        .map(Vec::as_slice)
        .filter(|b| b.len() > INLINE_LIMIT)
}

impl Reader for MemoryStore {
    fn execution(&self, id: ExecutionId) -> Result<Option<ExecutionRecord>, StoreError> {
        Ok(self.lock().executions.get(&id).map(|execution| execution.record.clone()))
    }

    fn executions(&self, with_ended: bool) -> Result<Listing<ExecutionRecord>, StoreError> {
        let maps = self.lock();
        let all = maps.executions.values().map(|execution| &execution.record);
        Ok(all.filter(|record| with_ended || record.outcome.is_none()).cloned().collect::<Vec<_>>().into())
    }

    fn steps(&self, id: ExecutionId, from: u64, limit: usize) -> Result<Vec<Step>, StoreError> {
        let maps = self.lock();
        Ok(maps.steps.range((id, from)..=(id, u64::MAX)).take(limit).map(|(_, step)| step.clone()).collect())
    }

    fn promise(&self, id: &PromiseId) -> Result<Option<PromiseRecord>, StoreError> {
        Ok(self.lock().promises.get(id).map(|promise| promise.record.clone()))
    }

    fn promises(&self, filter: &PromiseFilter) -> Result<Listing<PromiseRecord>, StoreError> {
        let maps = self.lock();
        let mut found: Vec<PromiseRecord> = maps
            .promises
            .values()
            .filter(|p| !filter.pending || p.record.state == PromiseState::Pending)
            .filter(|p| filter.execution.is_none_or(|id| p.execution == id))
            .filter(|p| filter.capability.as_deref().is_none_or(|name| p.record.capability() == name))
            .map(|p| p.record.clone())
            .collect();
        found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(found.into())
    }

    fn claims(&self) -> Result<Vec<Claim>, StoreError> {
        let maps = self.lock();
        let is_pending =
            |id: &PromiseId| maps.promises.get(id).is_some_and(|own| own.record.state == PromiseState::Pending);
        Ok(maps.claims.values().filter(|claim| is_pending(&claim.promise)).cloned().collect())
    }

    fn payload(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().payloads.get(digest).map(|bytes| bytes.to_vec()))
    }

    fn settled_since(&self, cursor: u64) -> Result<Changes, StoreError> {
        let maps = self.lock();
        let promises = maps.promises.iter().filter(|(_, p)| p.settled.is_some_and(|at| at > cursor));
        let executions = maps.executions.iter().filter(|(_, e)| e.ended.is_some_and(|at| at > cursor));
        Ok(Changes {
            promises: promises.map(|(id, _)| id.clone()).collect(),
            executions: executions.map(|(id, _)| *id).collect(),
            cursor: maps.cursor.max(cursor),
        })
    }

    fn cursor(&self) -> Result<u64, StoreError> {
        Ok(self.lock().cursor)
    }

    fn next_deadline(&self) -> Result<Option<UnixMs>, StoreError> {
        let maps = self.lock();
        let pending = maps.promises.values().filter(|p| p.record.state == PromiseState::Pending);
        Ok(pending.map(|p| p.record.timeout_at).filter(|at| *at < NEVER).min())
    }

    fn version(&self) -> Result<u64, StoreError> {
        Ok(self.lock().version)
    }

    fn grants(&self, id: ExecutionId) -> Result<Vec<GrantRecord>, StoreError> {
        let maps = self.lock();
        Ok(maps.grants.range((id, 0)..=(id, u64::MAX)).map(|(_, grant)| grant.clone()).collect())
    }

    fn granted(&self) -> Result<u64, StoreError> {
        Ok(self.lock().granted)
    }

    fn schedules(&self) -> Result<Listing<ScheduleRecord>, StoreError> {
        Ok(self.lock().schedules.values().cloned().collect::<Vec<_>>().into())
    }

    fn schedule(&self, id: ScheduleId) -> Result<Option<ScheduleRecord>, StoreError> {
        Ok(self.lock().schedules.get(&id).cloned())
    }

    fn damage(&self, id: ExecutionId) -> Result<Vec<String>, StoreError> {
        Ok(self.lock().damage(id))
    }

    fn ended(&self, before: UnixMs) -> Result<Vec<(ExecutionId, u64)>, StoreError> {
        let maps = self.lock();
        let all = maps.executions.values().map(|execution| &execution.record);
        let ended = all.filter(|record| record.outcome.is_some() && record.updated_at < before);
        Ok(ended.map(|record| (record.id, record.calls.unwrap_or(0))).collect())
    }

    fn unnamed(&self) -> Result<Vec<(Digest, u64)>, StoreError> {
        let maps = self.lock();
        let named = maps.named();
        let payloads = maps.payloads.iter().filter(|(digest, _)| !named.contains(digest));
        Ok(payloads.map(|(digest, bytes)| (*digest, bytes.len() as u64)).collect())
    }

    fn check(&self) -> Result<Vec<String>, StoreError> {
        let maps = self.lock();
        let whole = |id: &&ExecutionId| maps.executions.get(id).is_none_or(|e| e.record.aside.is_none());
        let ids: BTreeSet<ExecutionId> = maps.executions.keys().copied().collect();
        let mut faults: Vec<String> = ids.iter().filter(whole).flat_map(|id| maps.damage(*id)).collect();
        // As the other store has them: executions before steps.
        faults.sort_by_key(|fault| !fault.starts_with("executions"));
        for schedule in maps.schedules.values() {
            for (digest, what) in [(schedule.component, "component"), (schedule.setup, "setup")] {
                if !maps.payloads.contains_key(&digest) {
                    faults.push(format!("schedules row {}: its {what} is missing", schedule.id));
                }
            }
        }
        Ok(faults)
    }
}
