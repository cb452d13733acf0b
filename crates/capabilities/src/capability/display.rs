//! `display`: data for a person to look at.

use std::sync::{Arc, LazyLock};

use parole_durable::EffectClass;
use parole_policy::{Definition, Fact, Function, Kind, Level, Type, field};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::call::question;
use crate::{Entry, Payload, StoreData, sink};

/// The longest media type: what RFC 6838 allows a type and a subtype, with a slash between them.
const MIME_MAX: usize = 127 + 1 + 127;

pub(crate) static ENTRY: LazyLock<Entry> = LazyLock::new(|| Entry {
    definition: Arc::new(definition()),
    classes: &[EffectClass::Send],
    wit: include_str!("../../../../wit/display.wit"),
    link,
    channel: Some(sink::DISPLAY),
    payload: Payload::Unit,
    done: question::never,
    sweep: None,
});

fn definition() -> Definition {
    Definition {
        level: Level::Sandbox,
        kind: Kind::SendOnly,
        functions: vec![Function::infallible(
            "display",
            "display",
            [field("mime", Type::Text(1024)), field("data", Type::Bytes)],
            None,
        )],
        summary: "shows data to a person".into(),
        shown: "{mime}".into(),
        ..Definition::new("display", "parole:capabilities/display@0.1.0")
    }
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap("display", |store: StoreContextMut<'_, StoreData>, (mime, data): (String, Vec<u8>)| {
        // The call has no error channel: a type that is too long to be one is cut.
        let mime = &mime[..mime.floor_char_boundary(MIME_MAX)];
        let length = u16::try_from(mime.len()).unwrap_or_default().to_le_bytes();
        let head = [&length, mime.as_bytes()].concat();
        // Types are compared without case.
        let form = mime.trim_ascii().to_ascii_lowercase();
        let fields = [("mime", Fact::Text(&form)), ("data", Fact::Bytes(&data))];
        Ok(store.data().execution.send(&ENTRY.definition, sink::DISPLAY, (&head, &data), mime, &fields)?)
    })
}
