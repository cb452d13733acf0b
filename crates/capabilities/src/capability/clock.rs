//! `clock`: the time. A repetition gets the same times again.

use parole_durable::EffectClass;
use parole_policy::{CLOCK_ARGUMENTS, Capability, Kind, Level, ScopeKind, Timeout, Unscoped};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::call::immediate::{Immediate, Own, give};
use crate::call::question;
use crate::error::canonical;
use crate::{Entry, Payload, Stop, StoreData, no_summary};

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "clock",
        interface: "parole:capabilities/clock@0.1.0",
        level: Level::Sandbox,
        kind: Kind::Immediate,
        scope: ScopeKind::Nothing,
        grant_keys: &[],
        default_timeout: Timeout::Never,
        summary: "tells the time",
        arguments: CLOCK_ARGUMENTS,
    },
    functions: &[(NAME, EffectClass::Read)],
    wit: include_str!("../../../../wit/clock.wit"),
    link,
    payload: Payload::Json,
    summary: no_summary,
    answer: None,
    done: question::never,
    sweep: None,
};

const NAME: &str = "clock";

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap("now", |store: StoreContextMut<'_, StoreData>, (): ()| {
        Ok((give::<Now>(&store.data().execution, Unscoped(&[]))?,))
    })
}

struct Now;

impl Immediate for Now {
    const ENTRY: &'static Entry = &ENTRY;
    type Args = Unscoped<'static>;
    type Answer = u64;

    fn shown(args: &Self::Args) -> Vec<u8> {
        canonical(args.0)
    }

    fn answer(_: Self::Args, own: &mut Own<'_>) -> Result<u64, Stop> {
        own.time(NAME)
    }
}
