//! Promises: made, waited for in memory, or left to be resumed.

use std::collections::BTreeMap;

use parole_durable::hub::{Waiter, now};
use parole_durable::ids::NEVER;
use parole_durable::journal::Open;
use parole_durable::store::{Admission, Lease};
use parole_durable::{PromiseId, PromiseRecord, PromiseState, Stage, UnixMs, Value, promise};
use parole_policy::{Definition, Kind, Timeout, WorkEffect};

use super::gate::PermittedCall;
use super::{CallRequest, Execution, Gate, State};
use crate::Stop;
use crate::call::audit;
use crate::error::Error;
use crate::sink::Event;

impl Execution {
    /// Brings a call through the gate to the promise that it waits for; one that has it already is through. `Err`: it has
    /// its answer.
    pub(super) async fn promise_for(
        &self,
        open: Open,
        call: &CallRequest<'_>,
        arguments: &[u8],
        timer: impl Fn() -> Result<Option<UnixMs>, Error> + Send + Sync,
    ) -> Result<Result<(Open, Result<PromiseId, Error>), Result<Vec<u8>, Error>>, Stop> {
        if let Some(id) = own_promise(&open) {
            return Ok(Ok((open, Ok(id))));
        }
        let mut gate = self.authorize(open, call).await?;
        loop {
            let permitted = match gate {
                Gate::Go(permitted) => permitted,
                Gate::Done(answer) => return Ok(Err(answer)),
            };
            let promise = match timer() {
                Ok(timer) => self.with(|state| {
                    let deadline = timer.map_or_else(|| state.deadline(call.definition), |at| at.min(NEVER));
                    state.promise(&permitted, call, arguments.to_vec(), deadline)
                })?,
                Err(error) => Err(error),
            };
            if promise.is_err() || call.definition.kind != Kind::Worker || self.commit_promise(&permitted).await? {
                return Ok(Ok((permitted.open, promise)));
            }
            gate = Box::pin(self.decided(permitted.open, call, permitted.approved)).await?;
        }
    }

    /// Makes a promise durable that somebody acts on without being asked: under the grants by which the call was decided,
    /// or not at all.
    async fn commit_promise(&self, PermittedCall { open, generation, .. }: &PermittedCall) -> Result<bool, Stop> {
        let taken = self.commit_admission(Admission { step: open.number, generation: *generation }).await?;
        // Whoever waits for it has to look: it may be settled by now.
        self.with(|state| state.made = None);
        Ok(taken)
    }

    /// Waits for the promise of a call, and ends the call with what `read` makes of it.
    pub(super) async fn answered(
        &self,
        mut open: Open,
        promise: Result<PromiseId, Error>,
        definition: &Definition,
        read: impl FnOnce(PromiseRecord) -> Result<Vec<u8>, Error>,
    ) -> Result<Result<Vec<u8>, Error>, Stop> {
        let timer = definition.kind == Kind::Timer;
        let (promise, answer) = match promise {
            Ok(id) => {
                let record = self.wait(&id, timer).await?;
                if timer {
                    self.with(|state| state.note_end(&mut open, &definition.name, &record));
                }
                (Some(id), read(record))
            }
            Err(error) => (None, Err(error)),
        };
        self.with(|state| state.finish(open, promise, answer.clone()))?;
        Ok(answer)
    }

    /// Waits for a promise, in memory or by parking, and gives the settled record.
    pub(super) async fn wait(&self, id: &PromiseId, timer: bool) -> Result<PromiseRecord, Stop> {
        let made = self.with(|state| state.made.take());
        let record = match made {
            Some(made) if made.id == *id => self.wait_for_new(made).await?,
            _ => self.wait_for_old(id, timer).await?,
        };
        self.with(|state| state.look_due = true);
        if record.state == PromiseState::RejectedCanceled {
            // Either the promise was canceled, or with it the execution.
            self.still_held()?;
        }
        Ok(record)
    }

    /// Waits for a promise that is made durable by the barrier before this wait. Until then nobody
    /// can settle it, so whoever registers before has missed nothing, and need not read the row.
    async fn wait_for_new(&self, made: Box<PromiseRecord>) -> Result<PromiseRecord, Stop> {
        let timer = made.is_timer();
        if self.parts_at_once(timer) {
            self.release_lease().await?;
            return Err(Stop::Parked { promise: made.id, deadline: made.timeout_at, timer, released: true });
        }
        let waiter = self.0.hub.settled(&made.id, made.timeout_at);
        self.commit(Lease::Keep).await?;
        self.wait_for(made, Some(waiter)).await
    }

    async fn wait_for_old(&self, id: &PromiseId, timer: bool) -> Result<PromiseRecord, Stop> {
        if self.with(|state| state.config.journal.unsaved_steps() > 0) {
            self.commit(Lease::Keep).await?;
        }
        let Some(record) = self.0.hub.promise_async(id).await? else { return Err(Stop::Fenced) };
        if record.state != PromiseState::Pending {
            return Ok(record);
        }
        if self.parts_at_once(timer) {
            self.release_lease().await?;
            return Err(Stop::Parked { promise: id.clone(), deadline: record.timeout_at, timer, released: true });
        }
        self.wait_for(Box::new(record), None).await
    }

    async fn wait_for(&self, record: Box<PromiseRecord>, waiter: Option<Waiter>) -> Result<PromiseRecord, Stop> {
        // That is not output: nobody misses it later.
        let _ = self.0.sink.event(self.id(), Event::Waiting(&record));
        // Of the record no more is kept while the guest waits, nor of what is idle by then.
        let stays = self.0.slots.rest();
        let (id, deadline, timer) = (record.id.clone(), record.timeout_at, record.is_timer());
        drop(record);
        self.0.meter.pause();
        let settled = self.settled_in_memory(&id, deadline, waiter, stays).await;
        self.0.meter.resume();
        match settled? {
            Some(record) => Ok(record),
            None => Err(Stop::Parked { promise: id, deadline, timer, released: false }),
        }
    }

    /// The settled record, or `None` when the guest is to give its memory up. A waiter that is
    /// handed in has been there from the start: the row is looked at only once it says so.
    async fn settled_in_memory(
        &self,
        id: &PromiseId,
        mut deadline: UnixMs,
        mut waiter: Option<Waiter>,
        stays: bool,
    ) -> Result<Option<PromiseRecord>, Stop> {
        let mut seat = self.0.parking.room.enter();
        let park = tokio::time::sleep(self.0.parking.after);
        tokio::pin!(park);
        loop {
            let waiter = match waiter.take().filter(|_| deadline > now()) {
                Some(waiter) => waiter,
                None => {
                    let waiter = self.0.hub.settled(id, deadline);
                    match self.0.hub.promise_async(id).await? {
                        Some(record) if record.state != PromiseState::Pending => return Ok(Some(record)),
                        // It was computed anew.
                        Some(record) if record.timeout_at != deadline => {
                            deadline = record.timeout_at;
                            continue;
                        }
                        Some(_) => waiter,
                        None => return Err(Stop::Fenced),
                    }
                }
            };
            tokio::select! {
                () = waiter => {}
                () = &mut park, if !stays => return Ok(None),
                () = seat.evicted(), if !stays => return Ok(None),
                () = self.0.parking.stopping.begun() => return Ok(None),
            }
        }
    }

    fn parts_at_once(&self, timer: bool) -> bool {
        let parking = &self.0.parking;
        parking.detach || (parking.park_for_persons && !timer) || parking.stopping.is_begun()
    }
}

impl State {
    /// Makes the promise of a call.
    pub(super) fn promise(
        &mut self,
        permitted: &PermittedCall,
        call: &CallRequest<'_>,
        arguments: Vec<u8>,
        deadline: UnixMs,
    ) -> Result<Result<PromiseId, Error>, Stop> {
        let open = &permitted.open;
        if let Err(error) = self.may_wait(open) {
            return Ok(Err(error));
        }
        let definition = call.definition;
        let name = &*definition.name;
        let id = self.key(open, name);
        let timer = definition.kind == Kind::Timer;
        let mut record = self.promise_record(id.clone(), open.number, name, arguments, deadline);
        if timer {
            record.tags.insert(promise::TAG_TIMER.into(), "true".into());
        }
        if let Some((function, effect)) = call.work() {
            record.tags.insert(promise::TAG_FUNCTION.into(), function.into());
            // What a person has allowed is done once.
            let effect = if permitted.approved { WorkEffect::Once } else { effect };
            record.tags.insert(promise::TAG_EFFECT.into(), effect.as_str().into());
        }
        self.made = Some(Box::new(record.clone()));
        self.config.journal.record(open, Stage::Admitted, Some(record), None, now())?;
        Ok(Ok(id))
    }

    /// Whether a call may wait for a promise.
    pub(super) fn may_wait(&self, open: &Open) -> Result<(), Error> {
        self.config
            .journal
            .may_wait(open)
            .map_err(|limit| Error::Exhausted(format!("promises: {limit} may be pending at once")))
    }

    /// Notes who ended a timer before its time.
    fn note_end(&self, open: &mut Open, name: &str, record: &PromiseRecord) {
        let Some(by) = super::asking::who(record) else { return };
        let canceled = record.state == PromiseState::RejectedCanceled;
        let verdict = if canceled { audit::AuditEvent::Cancel } else { audit::AuditEvent::Done };
        let at = record.settled_at.unwrap_or_else(now);
        let note = audit::Note { promise: Some(record.id.as_str().into()), by: Some(by), at, ..self.verdict(verdict) };
        audit::tell(self.id(), open.number, name, open.arguments(), &note);
        if open.notes.is_empty() {
            audit::add(
                &mut open.notes,
                audit::Note { at: record.created_at, ..self.verdict(audit::AuditEvent::Allow) },
            );
        }
        audit::add(&mut open.notes, note);
    }

    /// A pending promise of this execution. `label` says what kind it is: a capability, or a question about a call.
    pub(super) fn promise_record(
        &self,
        id: PromiseId,
        step: u64,
        label: &str,
        param: Vec<u8>,
        deadline: UnixMs,
    ) -> PromiseRecord {
        let tags = BTreeMap::from([
            (promise::TAG_CAPABILITY.into(), label.into()),
            (promise::TAG_EXECUTION.into(), self.id().to_string()),
            (promise::TAG_STEP.into(), step.to_string()),
            (promise::TAG_COMPONENT.into(), self.config.component.to_string()),
            (promise::TAG_EXTERNAL.into(), "true".into()),
        ]);
        PromiseRecord {
            id,
            state: PromiseState::Pending,
            param: Value::json(String::from_utf8(param).unwrap_or_default()),
            value: Value::default(),
            tags,
            timeout_at: deadline,
            created_at: now(),
            settled_at: None,
        }
    }

    /// When a promise made now would expire.
    pub(super) fn deadline(&self, definition: &Definition) -> UnixMs {
        match self.config.scope.policy.timeout_of(definition) {
            Timeout::After(ms) => now().saturating_add(ms).min(NEVER),
            Timeout::Never => NEVER,
        }
    }
}

/// The promise of its own that a call made before a crash: it waits for that, and is not decided again.
pub(super) fn own_promise(open: &Open) -> Option<PromiseId> {
    open.earlier.as_ref().filter(|earlier| earlier.stage == Stage::Admitted)?.promise.clone()
}
