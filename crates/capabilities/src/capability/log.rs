//! `log`: a record in the log of the host.

use std::sync::{Arc, LazyLock};

use parole_durable::EffectClass;
use parole_policy::{Definition, Fact, Function, Kind, Level as PolicyLevel, Type, field};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower};

use crate::call::question;
use crate::{Entry, Payload, StoreData, sink};

pub(crate) static ENTRY: LazyLock<Entry> = LazyLock::new(|| Entry {
    definition: Arc::new(definition()),
    classes: &[EffectClass::Send],
    wit: include_str!("../../../../wit/log.wit"),
    link,
    channel: Some(sink::LOG),
    payload: Payload::Unit,
    done: question::never,
    sweep: None,
});

fn definition() -> Definition {
    let level = Type::words(&["trace", "debug", "info", "warn", "error"]);
    Definition {
        level: PolicyLevel::Sandbox,
        kind: Kind::SendOnly,
        functions: vec![Function::infallible(
            "log",
            "log",
            [field("level", level), field("message", Type::TEXT)],
            None,
        )],
        summary: "writes a record to the log of the host".into(),
        shown: "{level} {message}".into(),
        ..Definition::new("log", "parole:capabilities/log@0.1.0")
    }
}

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
        Ok(store.data().execution.send(&ENTRY.definition, sink::LOG, (&head, message.as_bytes()), &message, &fields)?)
    })
}
