//! `sleep`: a durable timer.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use parole_durable::{EffectClass, PromiseRecord, UnixMs};
use parole_policy::{Definition, Fact, Facts, Function as Declared, Int, Kind, Level, Looks, Resource, Type, field};
use serde::Serialize;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::call::door::plain;
use crate::call::effect::{Await, Form, Function, Unformed, passed};
use crate::call::{ask, question};
use crate::error::json;
use crate::{Entry, Error, Payload, StoreData};

/// The longest sleep: ten years. A longer one is an argument that cannot be right.
pub const SLEEP_MAX_MS: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

pub(crate) static ENTRY: LazyLock<Entry> = LazyLock::new(|| Entry {
    definition: Arc::new(definition()),
    classes: &[EffectClass::Await],
    wit: include_str!("../../../../wit/sleep.wit"),
    link,
    channel: None,
    payload: Payload::Unit,
    done: question::never,
    sweep: None,
});

fn definition() -> Definition {
    Definition {
        level: Level::Restricted,
        kind: Kind::Timer,
        functions: vec![Declared::new("sleep", "sleep", [field("duration-ms", Type::Int(Int::U64))], None)],
        summary: "waits, across restarts of the host".into(),
        shown: "{duration-ms} ms".into(),
        ..Definition::new("sleep", "parole:capabilities/sleep@0.1.0")
    }
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("sleep", |store: StoreContextMut<'_, StoreData>, (duration_ms,): (u64,)| {
        plain(&store, |execution| async move { Ok((ask(&execution, Sleep, Called { duration_ms }).await?,)) })
    })
}

struct Sleep;

struct Called {
    duration_ms: u64,
}

impl Function for Sleep {
    fn definition(&self) -> &Arc<Definition> {
        &ENTRY.definition
    }

    fn name(&self) -> Cow<'static, str> {
        "sleep".into()
    }

    type Args = Called;
    type Form = Called;
    type Answer = ();
    type Slot = ();

    fn recorded(&self, args: &Called) -> Vec<u8> {
        #[derive(Serialize)]
        struct Recorded {
            #[serde(rename = "duration-ms")]
            duration_ms: String,
        }
        json(&Recorded { duration_ms: args.duration_ms.to_string() })
    }

    fn class(&self, _: &Called) -> EffectClass {
        EffectClass::Await
    }

    fn form(&self, args: Called, _: Looks, (): &()) -> Result<Called, Unformed<()>> {
        Ok(args)
    }
}

impl Facts for Called {
    fn resource(&self) -> Resource<'_> {
        Resource::Nothing
    }

    fn fact(&self, name: &str) -> Option<Fact<'_>> {
        (name == "duration_ms").then(|| Fact::number(self.duration_ms))
    }
}

impl Form for Called {}

impl Await for Sleep {
    fn timer(&self, form: &Called, now: UnixMs) -> Result<Option<UnixMs>, Error> {
        match form.duration_ms {
            0..=SLEEP_MAX_MS => Ok(Some(now.saturating_add(form.duration_ms))),
            _ => Err(Error::Invalid(format!("a sleep of more than {SLEEP_MAX_MS} ms"))),
        }
    }

    fn read(&self, record: PromiseRecord) -> Result<Vec<u8>, Error> {
        passed(&record).map(|_| Vec::new())
    }
}
