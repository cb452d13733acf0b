//! `random`: bytes of the random stream of the execution. A repetition gets the same bytes again.

use std::sync::{Arc, LazyLock};

use parole_durable::EffectClass;
use parole_policy::{Definition, Fact, Facts, Function, Int, Kind, Level, Resource, Type, field, size_text};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::call::immediate::{Immediate, Own, give};
use crate::call::question;
use crate::error::canonical;
use crate::{Entry, Payload, Stop, StoreData};

/// Bytes that one call may ask for.
pub const LENGTH_MAX: u32 = 1 << 20;

pub(crate) static ENTRY: LazyLock<Entry> = LazyLock::new(|| Entry {
    definition: Arc::new(definition()),
    classes: &[EffectClass::Read],
    wit: include_str!("../../../../wit/random.wit"),
    link,
    channel: None,
    payload: Payload::Bytes,
    done: question::never,
    sweep: None,
});

fn definition() -> Definition {
    Definition {
        level: Level::Sandbox,
        kind: Kind::Immediate,
        functions: vec![Function::infallible(
            "bytes",
            "random",
            [field("length", Type::Int(Int::U32))],
            Some(Type::Bytes),
        )],
        summary: "gives random bytes".into(),
        shown: "{length}".into(),
        ..Definition::new("random", "parole:capabilities/random@0.1.0")
    }
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap("bytes", |store: StoreContextMut<'_, StoreData>, (length,): (u32,)| {
        Ok((give::<Bytes>(&store.data().execution, Called { length })?,))
    })
}

struct Bytes;

struct Called {
    length: u32,
}

impl Facts for Called {
    fn resource(&self) -> Resource<'_> {
        Resource::Nothing
    }

    fn fact(&self, name: &str) -> Option<Fact<'_>> {
        (name == "length").then(|| Fact::number(self.length.into()))
    }
}

impl Immediate for Bytes {
    fn definition() -> &'static Arc<Definition> {
        &ENTRY.definition
    }

    const NAME: &'static str = "random";
    type Args = Called;
    type Answer = Vec<u8>;

    fn shown(args: &Called) -> Vec<u8> {
        canonical(&[("length", Fact::number(args.length.into()))])
    }

    fn answer(args: Called, own: &mut Own<'_>) -> Result<Vec<u8>, Stop> {
        match usize::try_from(args.length) {
            Ok(length) if args.length <= LENGTH_MAX => Ok(own.random(length)),
            _ => Err(Stop::Limit { name: "random", limit: format!("{} a call", size_text(LENGTH_MAX.into())) }),
        }
    }
}
