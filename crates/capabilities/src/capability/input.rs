//! `input`: a line of text from a person.

use parole_durable::EffectClass;
use parole_policy::{Capability, GrantKey, INPUT_ARGUMENTS, Kind, Level, Looks, ScopeKind, Timeout};
use serde_json::Value;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::call::door::plain;
use crate::call::effect::{Await, Function, Unformed};
use crate::call::{ask, question};
use crate::capability::person::{self, Texts};
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
    sweep: None,
};

fn answer(value: &Value) -> Result<(), String> {
    if value.is_string() { Ok(()) } else { Err("expected a JSON string, such as \"Ada\" (or use --data TEXT)".into()) }
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("input", |store: StoreContextMut<'_, StoreData>, (prompt,): (String,)| {
        plain(&store, |execution| async move { Ok((ask::<Input>(&execution, Texts([("prompt", prompt)])).await?,)) })
    })
}

struct Input;

impl Function for Input {
    const ENTRY: &'static Entry = &ENTRY;
    const NAME: &'static str = "input";
    type Args = Texts<1>;
    type Form = Texts<1>;
    type Answer = String;
    type Slot = ();

    fn recorded(args: &Texts<1>) -> Vec<u8> {
        args.recorded()
    }

    fn class(_: &Texts<1>) -> EffectClass {
        EffectClass::Await
    }

    fn form(args: Texts<1>, _: Looks, (): &()) -> Result<Texts<1>, Unformed<String>> {
        Ok(args)
    }
}

impl Await for Input {}
