//! Promises: made, waited for in memory, or left to be resumed.

use std::collections::BTreeMap;

use parole_durable::hub::{Waiter, now};
use parole_durable::ids::NEVER;
use parole_durable::journal::Open;
use parole_durable::store::Lease;
use parole_durable::{PromiseId, PromiseRecord, PromiseState, UnixMs, Value, promise};
use parole_policy::Timeout;

use super::Execution;
use crate::sink::Event;
use crate::types::Error;
use crate::{Entry, Stop};

impl Execution {
    /// Makes the promise of an open call, or finds the one that it made before a crash.
    pub(crate) fn promise(
        &mut self,
        open: &Open,
        entry: &'static Entry,
        arguments: Vec<u8>,
        deadline: UnixMs,
    ) -> Result<PromiseId, Error> {
        if let Some(id) = open.admitted.as_ref().and_then(|admitted| admitted.promise.clone()) {
            return Ok(id);
        }
        if let Err(limit) = self.parts.journal.may_wait() {
            return Err(Error::Exhausted(format!("promises: {limit} may be pending at once")));
        }
        let name = entry.capability.name;
        let id = self.key(open, name);
        let timer = entry.capability.kind == parole_policy::Kind::Timer;
        let mut tags = BTreeMap::from([
            (promise::TAG_CAPABILITY.into(), name.into()),
            (promise::TAG_EXECUTION.into(), self.id().to_string()),
            (promise::TAG_STEP.into(), open.number.to_string()),
            (promise::TAG_COMPONENT.into(), self.parts.component.to_string()),
            (promise::TAG_EXTERNAL.into(), "true".into()),
        ]);
        if timer {
            tags.insert(promise::TAG_TIMER.into(), "true".into());
        }
        let now = now();
        let record = PromiseRecord {
            id: id.clone(),
            state: PromiseState::Pending,
            param: Value::json(String::from_utf8(arguments).unwrap_or_default()),
            value: Value::default(),
            tags,
            timeout_at: deadline,
            created_at: now,
            settled_at: None,
        };
        self.made = Some(Box::new(record.clone()));
        self.parts.journal.admit(open, Some(record), now);
        Ok(id)
    }

    /// When a promise made now would expire.
    pub(crate) fn deadline(&self, entry: &'static Entry) -> UnixMs {
        match self.parts.scope.policy.timeout_of(&entry.capability) {
            Timeout::After(ms) => now().saturating_add(ms).min(NEVER),
            Timeout::Never => NEVER,
        }
    }

    /// Waits for a promise, in memory or by parking, and gives the settled record.
    pub(crate) async fn wait(&mut self, id: &PromiseId, timer: bool) -> Result<PromiseRecord, Stop> {
        let record = match self.made.take() {
            Some(made) if made.id == *id => self.wait_for_new(made).await?,
            _ => self.wait_for_old(id, timer).await?,
        };
        if record.state == PromiseState::RejectedCanceled {
            // Either the promise was canceled, or with it the execution.
            self.still_held()?;
        }
        Ok(record)
    }

    /// Waits for a promise that is made durable by the barrier before this wait. Until then nobody
    /// can settle it, so whoever registers before has missed nothing, and need not read the row.
    async fn wait_for_new(&mut self, made: Box<PromiseRecord>) -> Result<PromiseRecord, Stop> {
        let timer = made.is_timer();
        if self.parts_at_once(timer) {
            self.leave().await?;
            return Err(Stop::Parked { promise: made.id, deadline: made.timeout_at, timer, released: true });
        }
        let waiter = self.parts.hub.settled(&made.id, made.timeout_at);
        self.commit(Lease::Keep).await?;
        self.wait_for(made, Some(waiter)).await
    }

    async fn wait_for_old(&mut self, id: &PromiseId, timer: bool) -> Result<PromiseRecord, Stop> {
        if self.parts.journal.unsaved_steps() > 0 {
            self.commit(Lease::Keep).await?;
        }
        let Some(record) = self.parts.hub.promise(id)? else { return Err(Stop::Fenced) };
        if record.state != PromiseState::Pending {
            return Ok(record);
        }
        if self.parts_at_once(timer) {
            self.leave().await?;
            return Err(Stop::Parked { promise: id.clone(), deadline: record.timeout_at, timer, released: true });
        }
        self.wait_for(Box::new(record), None).await
    }

    fn parts_at_once(&self, timer: bool) -> bool {
        self.parts.parking.detach || (self.parts.parking.leave_persons && !timer)
    }

    async fn wait_for(&mut self, record: Box<PromiseRecord>, waiter: Option<Waiter>) -> Result<PromiseRecord, Stop> {
        self.parts.sink.event(self.id(), Event::Waiting(&record));
        // Of the record no more is kept while the guest waits.
        let (id, deadline, timer) = (record.id.clone(), record.timeout_at, record.is_timer());
        drop(record);
        self.parts.meter.pause();
        let settled = self.settled_in_memory(&id, deadline, waiter).await;
        self.parts.meter.resume();
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
        deadline: UnixMs,
        mut waiter: Option<Waiter>,
    ) -> Result<Option<PromiseRecord>, Stop> {
        let mut seat = self.parts.parking.room.enter();
        let park = tokio::time::sleep(self.parts.parking.after);
        tokio::pin!(park);
        loop {
            let waiter = match waiter.take().filter(|_| deadline > now()) {
                Some(waiter) => waiter,
                None => {
                    let waiter = self.parts.hub.settled(id, deadline);
                    match self.parts.hub.promise(id)? {
                        Some(record) if record.state != PromiseState::Pending => return Ok(Some(record)),
                        Some(_) => waiter,
                        None => return Err(Stop::Fenced),
                    }
                }
            };
            tokio::select! {
                () = waiter => {}
                () = &mut park => return Ok(None),
                () = seat.evicted() => return Ok(None),
            }
        }
    }
}
