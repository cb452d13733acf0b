//! `read_file`: a whole regular file of a granted directory.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use parole_durable::EffectClass;
use parole_policy::{
    DEFAULT_MAX_BYTES, Definition, Fact, Facts, Flag, Function as Declared, GrantKey, GuestPath, HOST_TIMEOUT, Key,
    Level, Looks, Resource, ScopeKind, Type, field,
};
use serde::Serialize;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::backends::{Outside, files};
use crate::call::door::plain;
use crate::call::effect::{Attempt, Effect, Form, Formless, Function, Unformed};
use crate::call::permit::{Path, Permit};
use crate::call::{act, question};
use crate::error::json;
use crate::{Entry, Payload, StoreData};

/// The default of `max_bytes`, used where a policy has none.
const MAX_BYTES: u64 = 8 << 20;

pub(crate) static ENTRY: LazyLock<Entry> = LazyLock::new(|| Entry {
    definition: Arc::new(definition()),
    classes: &[EffectClass::Read],
    wit: include_str!("../../../../wit/read-file.wit"),
    link,
    channel: None,
    payload: Payload::Bytes,
    done: question::bytes,
    sweep: None,
});

fn definition() -> Definition {
    Definition {
        level: Level::Restricted,
        scope: ScopeKind::Path,
        keys: vec![
            GrantKey::Dirs.into(),
            Key::number(GrantKey::MaxBytes, DEFAULT_MAX_BYTES),
            GrantKey::TimeoutMs.into(),
        ],
        flag: Some(Flag::AllowRead),
        functions: vec![Declared::new("read-file", "read_file", [field("path", Type::Path)], Some(Type::Bytes))],
        timeout: HOST_TIMEOUT,
        summary: "reads a file of a granted directory".into(),
        shown: "{path}".into(),
        ..Definition::new("read_file", "parole:capabilities/read-file@0.1.0")
    }
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("read-file", |store: StoreContextMut<'_, StoreData>, (path,): (String,)| {
        plain(&store, |execution| async move { Ok((act(&execution, ReadFile, path).await?,)) })
    })
}

struct ReadFile;

#[derive(Serialize)]
struct Recorded<'a> {
    path: &'a str,
}

struct Called {
    path: GuestPath,
    /// Whether the guest spelt it so.
    is_spelt_so: bool,
}

impl Function for ReadFile {
    fn definition(&self) -> &Arc<Definition> {
        &ENTRY.definition
    }

    fn name(&self) -> Cow<'static, str> {
        "read_file".into()
    }

    type Args = String;
    type Form = Called;
    type Answer = Vec<u8>;
    type Slot = ();

    fn recorded(&self, path: &String) -> Vec<u8> {
        json(&Recorded { path })
    }

    fn class(&self, _: &String) -> EffectClass {
        EffectClass::Read
    }

    fn form(&self, path: String, _: Looks, (): &()) -> Result<Called, Unformed<Vec<u8>>> {
        let form = GuestPath::read(&path).map_err(Formless::of(&path))?;
        Ok(Called { is_spelt_so: form.as_str() == path, path: form })
    }
}

impl Facts for Called {
    fn resource(&self) -> Resource<'_> {
        Resource::Path(&self.path)
    }

    fn fact(&self, name: &str) -> Option<Fact<'_>> {
        (name == "path").then(|| Fact::Text(self.path.as_str()))
    }
}

impl Form for Called {
    fn canonical(&self) -> Option<Vec<u8>> {
        (!self.is_spelt_so).then(|| json(&Recorded { path: self.path.as_str() }))
    }

    fn argument(&self) -> Option<String> {
        Some(self.path.as_str().into())
    }
}

impl Effect for ReadFile {
    type Scope = Path;
    const OUTSIDE: bool = false;

    async fn act(&self, permit: &Permit<Path>, _: &Called, _: &Outside, (): &()) -> Attempt<Vec<u8>, Called> {
        let max = permit.number(GrantKey::MaxBytes).unwrap_or(MAX_BYTES);
        match files::read::read(permit, max).await {
            Ok(bytes) => Attempt::Done(bytes),
            Err(failure) => Attempt::Failed(failure),
        }
    }
}
