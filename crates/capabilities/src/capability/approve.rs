//! `approve`: a yes or no from a person.

use parole_durable::EffectClass;
use parole_policy::{APPROVE_ARGUMENTS, Capability, Field, GrantKey, Kind, Level, ScopeKind, Timeout};
use serde_json::Value;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::call::door::plain;
use crate::call::question;
use crate::capability::person;
use crate::{Entry, Payload, StoreData};

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "approve",
        interface: "parole:capabilities/approve@0.1.0",
        level: Level::Restricted,
        kind: Kind::Person,
        scope: ScopeKind::Nothing,
        grant_keys: &[GrantKey::TimeoutMs],
        default_timeout: Timeout::After(7 * 24 * 60 * 60 * 1000),
        summary: "asks a person for a yes or no",
        arguments: APPROVE_ARGUMENTS,
    },
    functions: &[("approve", EffectClass::Await)],
    wit: include_str!("../../../../wit/approve.wit"),
    link,
    payload: Payload::Json,
    summary: |arguments| person::field(arguments, "question"),
    answer: Some(answer),
    done: question::never,
};

fn answer(value: &Value) -> Result<(), String> {
    if value.is_boolean() { Ok(()) } else { Err("expected true or false (--value true)".into()) }
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("approve", |store: StoreContextMut<'_, StoreData>, (question,): (String,)| {
        plain(&store, |execution| async move {
            Ok((person::ask::<bool>(&execution, &ENTRY, "approve", &[("question", Field::Text(&question))]).await?,))
        })
    })
}
