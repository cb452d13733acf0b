//! `approve`: a yes or no from a person.

use std::sync::{Arc, LazyLock};

use parole_durable::EffectClass;
use parole_policy::{Definition, Function as Declared, GrantKey, Kind, Level, Looks, Timeout, Type, field};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::call::door::plain;
use crate::call::effect::{Await, Function, Unformed};
use crate::call::{ask, question};
use crate::capability::person::Texts;
use crate::{Entry, Payload, StoreData};

pub(crate) static ENTRY: LazyLock<Entry> = LazyLock::new(|| Entry {
    definition: Arc::new(definition()),
    classes: &[EffectClass::Await],
    wit: include_str!("../../../../wit/approve.wit"),
    link,
    channel: None,
    payload: Payload::Json,
    done: question::never,
    sweep: None,
});

fn definition() -> Definition {
    Definition {
        level: Level::Restricted,
        kind: Kind::Person,
        keys: vec![GrantKey::TimeoutMs.into()],
        functions: vec![Declared::new("approve", "approve", [field("question", Type::TEXT)], Some(Type::Bool))],
        timeout: Timeout::After(7 * 24 * 60 * 60 * 1000),
        summary: "asks a person for a yes or no".into(),
        shown: "{question}".into(),
        ..Definition::new("approve", "parole:capabilities/approve@0.1.0")
    }
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
    fn definition() -> &'static Arc<Definition> {
        &ENTRY.definition
    }

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
