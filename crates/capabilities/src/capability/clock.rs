//! `clock`: the time. A repetition gets the same times again.

use std::sync::{Arc, LazyLock};

use parole_durable::EffectClass;
use parole_policy::{Definition, Function, Int, Kind, Level, PlainFacts, Type};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::call::immediate::{Immediate, Own, give};
use crate::call::question;
use crate::error::canonical;
use crate::{Entry, Payload, Stop, StoreData};

pub(crate) static ENTRY: LazyLock<Entry> = LazyLock::new(|| Entry {
    definition: Arc::new(definition()),
    classes: &[EffectClass::Read],
    wit: include_str!("../../../../wit/clock.wit"),
    link,
    channel: None,
    payload: Payload::Json,
    done: question::never,
    sweep: None,
});

fn definition() -> Definition {
    Definition {
        level: Level::Sandbox,
        kind: Kind::Immediate,
        functions: vec![Function::infallible("now", NAME, [], Some(Type::Int(Int::U64)))],
        summary: "tells the time".into(),
        ..Definition::new("clock", "parole:capabilities/clock@0.1.0")
    }
}

const NAME: &str = "clock";

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap("now", |store: StoreContextMut<'_, StoreData>, (): ()| {
        Ok((give::<Now>(&store.data().execution, PlainFacts(&[]))?,))
    })
}

struct Now;

impl Immediate for Now {
    fn definition() -> &'static Arc<Definition> {
        &ENTRY.definition
    }

    const NAME: &'static str = NAME;
    type Args = PlainFacts<'static>;
    type Answer = u64;

    fn shown(args: &Self::Args) -> Vec<u8> {
        canonical(args.0)
    }

    fn answer(_: Self::Args, own: &mut Own<'_>) -> Result<u64, Stop> {
        own.time(NAME)
    }
}
