//! What is stored of an execution, for people and programs to look at.

use std::collections::HashMap;

use parole_capabilities::call::audit;
use parole_capabilities::call::{Gathered, entry_of, is_users};
use parole_capabilities::error::Refused;
use parole_capabilities::sink::event_of;
use parole_capabilities::{Event, Payload};
use parole_durable::journal::{DROPPED, OUTPUT, frames};
use parole_durable::store::{ExecutionRecord, PromiseFilter};
use parole_durable::{EffectClass, ExecutionId, Stage, Step, StepResult, StoreError, UnixMs};
use serde::Serialize;
use serde_json::{Value, json};

use crate::block_on::block_on;
use crate::drive::report;
use crate::error::Error;
use crate::promises::pending_of;
use crate::report::{At, Ending, Outcome, Pending, Report};
use crate::runtime::Runtime;
use crate::setup::Setup;

/// Steps are read in pages of this many.
const PAGE: usize = 1024;

/// An execution in a list.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Its id.
    pub execution: ExecutionId,
    /// `running`, `suspended`, `damaged`, or its outcome.
    pub state: &'static str,
    /// The name of its guest.
    pub guest: String,
    /// The digest of its component.
    pub component: String,
    /// When it was started.
    pub created_at: UnixMs,
    /// When it last changed.
    pub updated_at: UnixMs,
    /// What it waits for.
    pub pending: Vec<Pending>,
    /// What is wrong with what is stored of it, as far as a list comes upon it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// What was wrong when it was set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aside: Option<String>,
}

/// The state of an execution that cannot go on as it is.
const DAMAGED: &str = "damaged";

impl Summary {
    /// One of which the row itself cannot be read.
    fn damaged(execution: Option<ExecutionId>, what: &str) -> Self {
        Self {
            // What cannot be told from a key that is damaged too.
            execution: execution.unwrap_or(ExecutionId(Default::default())),
            state: DAMAGED,
            guest: "?".into(),
            component: String::new(),
            created_at: 0,
            updated_at: 0,
            pending: Vec::new(),
            damage: Some(what.into()),
            aside: None,
        }
    }
}

/// One step of a journal.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The number of its first call.
    pub step: u64,
    /// How many calls it covers.
    pub calls: u64,
    /// The capability function, or `output`.
    pub function: String,
    /// Its effect class.
    pub effect: EffectClass,
    /// Its arguments; for `output` a list of what was sent.
    pub arguments: Value,
    /// `admitted`, `completed` or `delivered`.
    pub state: &'static str,
    /// When the host took it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admitted_at: Option<UnixMs>,
    /// When it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<UnixMs>,
    /// Its promise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promise: Option<String>,
    /// What the guest was given: `{"ok": …}`, `{"err": …}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

impl Runtime {
    /// Executions by age, without the ended ones unless asked for.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn executions(&self, with_ended: bool) -> Result<Vec<Summary>, Error> {
        let mut pending: HashMap<ExecutionId, Vec<Pending>> = HashMap::new();
        let mut damage: HashMap<ExecutionId, String> = HashMap::new();
        let promises = self.hub().promises(&PromiseFilter { pending: true, ..PromiseFilter::default() })?;
        for promise in promises.whole {
            if let Some(execution) = promise.execution() {
                pending.entry(execution).or_default().push(pending_of(&promise));
            }
        }
        for damaged in promises.damaged {
            damage.extend(damaged.execution.map(|id| (id, damaged.what.to_string())));
        }
        let records = self.hub().executions(with_ended)?;
        let mut all = Vec::with_capacity(records.whole.len() + records.damaged.len());
        for record in records.whole {
            let pending = pending.remove(&record.id).unwrap_or_default();
            all.push(self.summary(&record, pending, damage.remove(&record.id))?);
        }
        all.extend(records.damaged.iter().map(|damaged| Summary::damaged(damaged.execution, &damaged.what)));
        all.sort_by_key(|summary| summary.execution);
        Ok(all)
    }

    fn summary(
        &self,
        record: &ExecutionRecord,
        pending: Vec<Pending>,
        mut damage: Option<String>,
    ) -> Result<Summary, Error> {
        let setup = match self.hub().payload(&record.setup) {
            Ok(Some(bytes)) => Setup::from_bytes(&bytes, self.catalogue()).ok(),
            // Of one that was set aside that may be what was damaged.
            Ok(None) if record.aside.is_some() => None,
            Ok(None) => {
                damage.get_or_insert_with(|| "its set-up is missing".into());
                None
            }
            Err(StoreError::Damaged(what)) => {
                damage.get_or_insert_with(|| what.to_string());
                None
            }
            Err(error) => return Err(error.into()),
        };
        let state = match &record.outcome {
            Some(text) => match ending(record, text) {
                Ok(ending) => ending.outcome.as_str(),
                Err(error) => {
                    damage = Some(error.to_string());
                    DAMAGED
                }
            },
            None if damage.is_some() => DAMAGED,
            None if self.hub().is_held(record)? => "running",
            None => "suspended",
        };
        Ok(Summary {
            execution: record.id,
            state,
            guest: setup.map_or_else(|| "?".into(), |setup| setup.guest),
            component: record.component.to_string(),
            created_at: record.created_at,
            updated_at: record.updated_at,
            pending,
            damage,
            aside: record.aside.clone(),
        })
    }

    /// The report of an execution as far as it has come, from what is stored.
    ///
    /// # Errors
    /// [`Error::NoExecution`], [`Error::Store`].
    pub fn show(&self, id: ExecutionId) -> Result<Report, Error> {
        block_on(self.show_async(id))
    }

    pub(crate) async fn show_async(&self, id: ExecutionId) -> Result<Report, Error> {
        let Some(record) = self.hub().execution(id)? else { return Err(Error::NoExecution(id)) };
        let mut gathered = Gathered::default();
        self.each_step(id, 0, |step| gather(&step, &mut gathered))?;
        let ending = match &record.outcome {
            Some(text) => ending(&record, text)?,
            None => Ending::of(Outcome::Suspended),
        };
        let filter = PromiseFilter { pending: true, execution: Some(id), capability: None };
        let pending = self.hub().promises_async(&filter).await?.whole.iter().map(pending_of).collect();
        Ok(Report { pending, ..report(id, ending, gathered) })
    }

    /// The journal of an execution.
    ///
    /// # Errors
    /// [`Error::NoExecution`], [`Error::Store`].
    pub fn journal(&self, id: ExecutionId) -> Result<Vec<Entry>, Error> {
        if self.hub().execution(id)?.is_none() {
            return Err(Error::NoExecution(id));
        }
        let mut entries = Vec::new();
        self.each_step(id, 0, |step| entries.push(entry(&step)))?;
        Ok(entries)
    }

    /// Every decision about an execution, in order: its imports first, if they were refused, then its calls.
    ///
    /// # Errors
    /// [`Error::NoExecution`], [`Error::Store`].
    pub fn audit(&self, id: ExecutionId, mut each: impl FnMut(audit::Record)) -> Result<(), Error> {
        let Some(record) = self.hub().execution(id)? else { return Err(Error::NoExecution(id)) };
        let ending = record.outcome.as_deref().map(|text| ending(&record, text)).transpose()?;
        for denied in ending.iter().flat_map(|ending| &ending.denied).filter(|denied| denied.at == At::Link) {
            each(audit::Record::of_import(id, &denied.capability, denied.import.as_deref(), record.created_at));
        }
        self.each_step(id, 0, |step| audit::records(id, &step).into_iter().for_each(&mut each))
    }

    /// Reads the steps of an execution from a number on, a page at a time.
    pub(crate) fn each_step(&self, id: ExecutionId, mut from: u64, mut each: impl FnMut(Step)) -> Result<(), Error> {
        loop {
            let page = self.hub().steps(id, from, PAGE)?;
            let last = page.len() < PAGE;
            for step in page {
                from = step.number + step.calls;
                each(step);
            }
            if last {
                return Ok(());
            }
        }
    }
}

fn ending(record: &ExecutionRecord, text: &str) -> Result<Ending, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::NotResumed(format!("damaged: the outcome of {}: {error}", record.id)))
}

fn gather(step: &Step, gathered: &mut Gathered) {
    if step.function == OUTPUT {
        for (channel, payload) in frames(&step.arguments) {
            if let Some(event) = event_of(channel, payload) {
                event.append_to(&mut gathered.output);
            }
        }
    } else if let Some(completion) = &step.completion
        && let StepResult::Denied(bytes) = &completion.result
    {
        gathered.denied.extend(serde_json::from_slice::<Refused>(bytes));
    }
}

fn entry(step: &Step) -> Entry {
    let output = step.function == OUTPUT;
    let arguments = if output {
        frames(&step.arguments).map(|(channel, payload)| frame(channel, payload)).collect()
    } else {
        serde_json::from_slice(&step.arguments).unwrap_or(Value::Null)
    };
    let time = |at: UnixMs| (at != 0).then_some(at);
    Entry {
        step: step.number,
        calls: step.calls,
        function: step.function.to_string(),
        effect: step.effect,
        arguments,
        state: match (&step.completion, step.delivered) {
            (None, _) => match step.stage {
                Stage::Asked => "asked",
                Stage::Admitted => "admitted",
                Stage::InDoubt => "in doubt",
            },
            (Some(_), false) => "completed",
            (Some(_), true) => "delivered",
        },
        admitted_at: time(step.admitted_at),
        completed_at: step.completion.as_ref().and_then(|completion| time(completion.at)),
        promise: step.promise.as_ref().map(|id| id.as_str().to_owned()),
        result: step
            .completion
            .as_ref()
            .filter(|_| !output)
            .map(|completion| result(&step.function, &completion.result)),
    }
}

fn result(function: &str, result: &StepResult) -> Value {
    use base64::Engine as _;
    match (result, entry_of(function).map(|entry| entry.payload)) {
        (StepResult::Ok(_), Some(Payload::Unit)) => json!({ "ok": null }),
        (StepResult::Ok(bytes), Some(Payload::Json)) => {
            json!({ "ok": serde_json::from_slice::<Value>(bytes).unwrap_or_default() })
        }
        (StepResult::Ok(bytes), None) if is_users(function) => {
            // What it returns, which says itself whether it is an error, where it has any.
            let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
            if matches!(parole_policy::json::case(&value), ("ok" | "err", Some(_))) {
                value
            } else {
                json!({ "ok": value })
            }
        }
        (StepResult::Ok(bytes), _) => json!({ "ok": base64::engine::general_purpose::STANDARD.encode(bytes) }),
        (StepResult::Err(bytes), _) => json!({ "err": serde_json::from_slice::<Value>(bytes).unwrap_or_default() }),
        (StepResult::Denied(bytes), _) => {
            json!({ "denied": serde_json::from_slice::<Value>(bytes).unwrap_or_default() })
        }
    }
}

fn frame(channel: u8, payload: &[u8]) -> Value {
    let mut value = match event_of(channel & !DROPPED, payload) {
        Some(Event::Print(text)) => json!({ "print": text }),
        Some(Event::Log { level, message }) => json!({ "log": message, "level": level }),
        Some(Event::Display { mime, data }) => json!({ "display": mime, "bytes": data.len() }),
        Some(Event::Cut) => json!({ "cut": true }),
        _ => json!({ "unknown": channel }),
    };
    if channel & DROPPED != 0
        && let Some(object) = value.as_object_mut()
    {
        object.insert("denied".into(), true.into());
    }
    value
}
