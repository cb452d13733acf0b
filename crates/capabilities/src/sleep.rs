//! `sleep`: a durable timer.

use parole_durable::hub::now;
use parole_durable::ids::NEVER;
use parole_durable::{Effect, PromiseState};
use parole_policy::{Arguments, Capability, Kind, Level, Timeout};
use serde::Serialize;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::execution::Begin;
use crate::types::json;
use crate::{Entry, Error, Execution, Payload};

/// The longest sleep: ten years. A longer one is an argument that cannot be right.
pub const SLEEP_MAX_MS: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "sleep",
        interface: "parole:capabilities/sleep@0.1.0",
        level: Level::Restricted,
        kind: Kind::Timer,
        grant_keys: &[],
        default_timeout: Timeout::Never,
        summary: "waits, across restarts of the host",
    },
    functions: &[("sleep", Effect::Await)],
    wit: include_str!("../../../wit/sleep.wit"),
    link,
    payload: Payload::Unit,
    summary: |arguments| format!("{} ms", arguments["duration-ms"].as_str().unwrap_or("?")),
    answer: None,
};

#[derive(Serialize)]
struct Question {
    #[serde(rename = "duration-ms")]
    duration_ms: String,
}

fn link(instance: &mut LinkerInstance<'_, Execution>) -> wasmtime::Result<()> {
    instance.func_wrap_async("sleep", |mut store: StoreContextMut<'_, Execution>, (duration_ms,): (u64,)| {
        Box::new(async move { Ok((sleep(store.data_mut(), duration_ms).await?,)) })
    })
}

async fn sleep(execution: &mut Execution, duration_ms: u64) -> wasmtime::Result<Result<(), Error>> {
    let arguments = json(&Question { duration_ms: duration_ms.to_string() });
    let open = match execution.begin("sleep", Effect::Await, &arguments)? {
        Begin::Answered(answer) => return Ok(answer.map(|_| ())),
        Begin::Open(open) => open,
    };
    if open.admitted.is_none() {
        let scope = execution.scope();
        if let Err(refused) = execution.decide(&scope, &ENTRY, &Arguments::None, &arguments) {
            return Ok(Err(execution.refuse(open, refused)?));
        }
    }
    let slept = if duration_ms > SLEEP_MAX_MS {
        Err(Error::Invalid(format!("a sleep of more than {SLEEP_MAX_MS} ms")))
    } else {
        execution.promise(&open, &ENTRY, arguments, now().saturating_add(duration_ms).min(NEVER))
    };
    match slept {
        Ok(id) => {
            let record = execution.wait(&id, true).await?;
            let result = if record.state == PromiseState::Resolved { Ok(()) } else { Err(Error::Canceled) };
            execution.finish(open, Some(id), &result.clone().map(|()| Vec::new()))?;
            Ok(result)
        }
        Err(error) => {
            execution.finish(open, None, &Err(error.clone()))?;
            Ok(Err(error))
        }
    }
}
