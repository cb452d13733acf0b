//! `input`: a line of text from a person.

use std::sync::{Arc, LazyLock};

use parole_durable::EffectClass;
use parole_policy::{Definition, Function, GrantKey, Kind, Level, Timeout, Type, field};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::call::door::plain;
use crate::call::{ask, question};
use crate::capability::person::{Asked, Person, Texts};
use crate::{Entry, Payload, StoreData};

pub(crate) static ENTRY: LazyLock<Entry> = LazyLock::new(|| Entry {
    definition: Arc::new(definition()),
    classes: &[EffectClass::Await],
    wit: include_str!("../../../../wit/input.wit"),
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
        functions: vec![Function::new("input", "input", [field("prompt", Type::TEXT)], Some(Type::TEXT))],
        timeout: Timeout::After(5 * 60 * 1000),
        summary: "asks a person for a line of text".into(),
        shown: "{prompt}".into(),
        ..Definition::new("input", "parole:capabilities/input@0.1.0")
    }
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("input", |store: StoreContextMut<'_, StoreData>, (prompt,): (String,)| {
        plain(&store, |execution| async move {
            Ok((ask(&execution, Asked::<Input, 1>::new(), Texts([("prompt", prompt)])).await?,))
        })
    })
}

struct Input;

impl Person<1> for Input {
    const NAME: &'static str = "input";
    type Answer = String;

    fn definition() -> &'static Arc<Definition> {
        &ENTRY.definition
    }
}
