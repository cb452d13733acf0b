//! `display`: data for a person to look at.

use parole_durable::EffectClass;
use parole_policy::{Capability, DISPLAY_ARGUMENTS, Fact, Kind, Level, ScopeKind, Timeout};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::call::question;
use crate::{Entry, Payload, StoreData, no_summary, sink};

/// The longest media type: what RFC 6838 allows a type and a subtype, with a slash between them.
const MIME_MAX: usize = 127 + 1 + 127;

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "display",
        interface: "parole:capabilities/display@0.1.0",
        level: Level::Sandbox,
        kind: Kind::SendOnly,
        scope: ScopeKind::Nothing,
        grant_keys: &[],
        default_timeout: Timeout::Never,
        summary: "shows data to a person",
        arguments: DISPLAY_ARGUMENTS,
    },
    functions: &[("display", EffectClass::Send)],
    wit: include_str!("../../../../wit/display.wit"),
    link,
    payload: Payload::Unit,
    summary: no_summary,
    answer: None,
    done: question::never,
    sweep: None,
};

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap("display", |store: StoreContextMut<'_, StoreData>, (mime, data): (String, Vec<u8>)| {
        // The call has no error channel: a type that is too long to be one is cut.
        let mime = &mime[..mime.floor_char_boundary(MIME_MAX)];
        let length = u16::try_from(mime.len()).unwrap_or_default().to_le_bytes();
        let head = [&length, mime.as_bytes()].concat();
        // Types are compared without case.
        let form = mime.trim_ascii().to_ascii_lowercase();
        let fields = [("mime", Fact::Text(&form)), ("data", Fact::Bytes(&data))];
        Ok(store.data().execution.send(&ENTRY, sink::DISPLAY, (&head, &data), mime, &fields)?)
    })
}
