//! `print`: a line of output.

use std::sync::{Arc, LazyLock};

use parole_durable::EffectClass;
use parole_policy::{Definition, Fact, Function, Kind, Level, Type, field};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::call::question;
use crate::{Entry, Payload, StoreData, sink};

pub(crate) static ENTRY: LazyLock<Entry> = LazyLock::new(|| Entry {
    definition: Arc::new(definition()),
    classes: &[EffectClass::Send],
    wit: include_str!("../../../../wit/print.wit"),
    link,
    channel: Some(sink::PRINT),
    payload: Payload::Unit,
    done: question::never,
    sweep: None,
});

fn definition() -> Definition {
    Definition {
        level: Level::Sandbox,
        kind: Kind::SendOnly,
        functions: vec![Function::infallible("print", "print", [field("text", Type::TEXT)], None)],
        summary: "writes a line to the output of the execution".into(),
        shown: "{text}".into(),
        ..Definition::new("print", "parole:capabilities/print@0.1.0")
    }
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap("print", |store: StoreContextMut<'_, StoreData>, (text,): (String,)| {
        let fields = [("text", Fact::Text(&text))];
        Ok(store.data().execution.send(&ENTRY.definition, sink::PRINT, (b"", text.as_bytes()), &text, &fields)?)
    })
}
