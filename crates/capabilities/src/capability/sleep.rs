//! `sleep`: a durable timer.

use parole_durable::hub::now;
use parole_durable::ids::NEVER;
use parole_durable::{EffectClass, PromiseState};
use parole_policy::{Arguments, Capability, Field, Kind, Level, SLEEP_ARGUMENTS, ScopeKind, Timeout};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::call::door::plain;
use crate::call::question;
use crate::call::{Begin, CallRequest, Form};
use crate::error::canonical;
use crate::{Entry, Error, Execution, Payload, StoreData};

/// The longest sleep: ten years. A longer one is an argument that cannot be right.
pub const SLEEP_MAX_MS: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "sleep",
        interface: "parole:capabilities/sleep@0.1.0",
        level: Level::Restricted,
        kind: Kind::Timer,
        scope: ScopeKind::Nothing,
        grant_keys: &[],
        default_timeout: Timeout::Never,
        summary: "waits, across restarts of the host",
        arguments: SLEEP_ARGUMENTS,
    },
    functions: &[("sleep", EffectClass::Await)],
    wit: include_str!("../../../../wit/sleep.wit"),
    link,
    payload: Payload::Unit,
    summary: |arguments| format!("{} ms", arguments["duration-ms"].as_str().unwrap_or("?")),
    answer: None,
    done: question::never,
};

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("sleep", |store: StoreContextMut<'_, StoreData>, (duration_ms,): (u64,)| {
        plain(&store, |execution| async move { Ok((sleep(&execution, duration_ms).await?,)) })
    })
}

async fn sleep(execution: &Execution, duration_ms: u64) -> wasmtime::Result<Result<(), Error>> {
    let fields = [("duration_ms", Field::Int(duration_ms))];
    let arguments = canonical(&fields);
    let open = match execution.with(|state| state.begin("sleep", EffectClass::Await, &arguments))? {
        Begin::Answered(answer) => return Ok(answer.map(drop)),
        Begin::Open(open) => open,
    };
    let (typed, form) = (Arguments::Fields(&fields), Form::given(&arguments));
    let call = CallRequest { entry: &ENTRY, typed: Ok(&typed), arguments: &form, shown: None };
    let open = match execution.admittance(open, &call).await? {
        Ok(open) => open,
        Err(answer) => return Ok(answer.map(drop)),
    };
    let promise = if duration_ms > SLEEP_MAX_MS {
        Err(Error::Invalid(format!("a sleep of more than {SLEEP_MAX_MS} ms")))
    } else {
        execution.with(|state| state.promise(&open, &ENTRY, arguments, now().saturating_add(duration_ms).min(NEVER)))?
    };
    let answer = execution.answered(open, promise, true, |record| match record.state {
        PromiseState::Resolved => Ok(Vec::new()),
        _ => Err(Error::Canceled),
    });
    Ok(answer.await?.map(drop))
}
