//! `print`: a line of output.

use parole_durable::EffectClass;
use parole_policy::{Capability, Fact, Kind, Level, PRINT_ARGUMENTS, ScopeKind, Timeout};
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::call::question;
use crate::{Entry, Payload, StoreData, no_summary, sink};

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "print",
        interface: "parole:capabilities/print@0.1.0",
        level: Level::Sandbox,
        kind: Kind::SendOnly,
        scope: ScopeKind::Nothing,
        grant_keys: &[],
        default_timeout: Timeout::Never,
        summary: "writes a line to the output of the execution",
        arguments: PRINT_ARGUMENTS,
    },
    functions: &[("print", EffectClass::Send)],
    wit: include_str!("../../../../wit/print.wit"),
    link,
    payload: Payload::Unit,
    summary: no_summary,
    answer: None,
    done: question::never,
    sweep: None,
};

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap("print", |store: StoreContextMut<'_, StoreData>, (text,): (String,)| {
        let fields = [("text", Fact::Text(&text))];
        Ok(store.data().execution.send(&ENTRY, sink::PRINT, (b"", text.as_bytes()), &text, &fields)?)
    })
}
