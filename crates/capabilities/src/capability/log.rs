//! `log`: a record in the log of the host.

use parole_durable::EffectClass;
use parole_policy::{Capability, Fact, Kind, LOG_ARGUMENTS, Level as PolicyLevel, ScopeKind, Timeout};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower};

use crate::call::question;
use crate::{Entry, Payload, StoreData, no_summary, sink};

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "log",
        interface: "parole:capabilities/log@0.1.0",
        level: PolicyLevel::Sandbox,
        kind: Kind::SendOnly,
        scope: ScopeKind::Nothing,
        grant_keys: &[],
        default_timeout: Timeout::Never,
        summary: "writes a record to the log of the host",
        arguments: LOG_ARGUMENTS,
    },
    functions: &[("log", EffectClass::Send)],
    wit: include_str!("../../../../wit/log.wit"),
    link,
    payload: Payload::Unit,
    summary: no_summary,
    answer: None,
    done: question::never,
    sweep: None,
};

/// `parole:capabilities/log.level`, in the order of [`sink::LOG_LEVELS`].
#[derive(Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "the engine makes the values, from what the guest passes")]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap("log", |store: StoreContextMut<'_, StoreData>, (level, message): (Level, String)| {
        let head = [level as u8];
        let name = sink::LOG_LEVELS[usize::from(head[0])];
        let fields = [("level", Fact::Text(name)), ("message", Fact::Text(&message))];
        Ok(store.data().execution.send(&ENTRY, sink::LOG, (&head, message.as_bytes()), &message, &fields)?)
    })
}
