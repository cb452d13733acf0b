//! `approve`: a yes or no from a person.

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
        functions: vec![Function::new("approve", "approve", [field("question", Type::TEXT)], Some(Type::Bool))],
        timeout: Timeout::After(7 * 24 * 60 * 60 * 1000),
        summary: "asks a person for a yes or no".into(),
        shown: "{question}".into(),
        ..Definition::new("approve", "parole:capabilities/approve@0.1.0")
    }
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("approve", |store: StoreContextMut<'_, StoreData>, (question,): (String,)| {
        plain(&store, |execution| async move {
            Ok((ask(&execution, Asked::<Approve, 1>::new(), Texts([("question", question)])).await?,))
        })
    })
}

struct Approve;

impl Person<1> for Approve {
    const NAME: &'static str = "approve";
    type Answer = bool;

    fn definition() -> &'static Arc<Definition> {
        &ENTRY.definition
    }
}
