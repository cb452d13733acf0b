//! `approve`: a yes or no from a person.

use parole_durable::EffectClass;
use parole_policy::{APPROVE_ARGUMENTS, Capability, GrantKey, Kind, Level, Looks, ScopeKind, Timeout};
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
    sweep: None,
};

fn answer(value: &Value) -> Result<(), String> {
    if value.is_boolean() { Ok(()) } else { Err("expected true or false (--value true)".into()) }
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("approve", |store: StoreContextMut<'_, StoreData>, (question,): (String,)| {
        plain(
            &store,
            |execution| async move { Ok((ask::<Approve>(&execution, Texts([("question", question)])).await?,)) },
        )
    })
}

struct Approve;

impl Function for Approve {
    const ENTRY: &'static Entry = &ENTRY;
    const NAME: &'static str = "approve";
    type Args = Texts<1>;
    type Form = Texts<1>;
    type Answer = bool;
    type Slot = ();

    fn recorded(args: &Texts<1>) -> Vec<u8> {
        args.recorded()
    }

    fn class(_: &Texts<1>) -> EffectClass {
        EffectClass::Await
    }

    fn form(args: Texts<1>, _: Looks, (): &()) -> Result<Texts<1>, Unformed<bool>> {
        Ok(args)
    }
}

impl Await for Approve {}
