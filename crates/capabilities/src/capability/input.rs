//! `input`: a line of text from a person.

use parole_durable::EffectClass;
use parole_policy::{Capability, Field, GrantKey, INPUT_ARGUMENTS, Kind, Level, ScopeKind, Timeout};
use serde_json::Value;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::call::door::plain;
use crate::call::question;
use crate::capability::person;
use crate::{Entry, Payload, StoreData};

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "input",
        interface: "parole:capabilities/input@0.1.0",
        level: Level::Restricted,
        kind: Kind::Person,
        scope: ScopeKind::Nothing,
        grant_keys: &[GrantKey::TimeoutMs],
        default_timeout: Timeout::After(5 * 60 * 1000),
        summary: "asks a person for a line of text",
        arguments: INPUT_ARGUMENTS,
    },
    functions: &[("input", EffectClass::Await)],
    wit: include_str!("../../../../wit/input.wit"),
    link,
    payload: Payload::Json,
    summary: |arguments| person::field(arguments, "prompt"),
    answer: Some(answer),
    done: question::never,
};

fn answer(value: &Value) -> Result<(), String> {
    if value.is_string() { Ok(()) } else { Err("expected a JSON string, such as \"Ada\" (or use --data TEXT)".into()) }
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("input", |store: StoreContextMut<'_, StoreData>, (prompt,): (String,)| {
        plain(&store, |execution| async move {
            Ok((person::ask::<String>(&execution, &ENTRY, "input", &[("prompt", Field::Text(&prompt))]).await?,))
        })
    })
}
