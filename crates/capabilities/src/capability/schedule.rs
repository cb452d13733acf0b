//! `schedule`: a durable timer by the calendar.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use parole_durable::{EffectClass, PromiseRecord, UnixMs};
use parole_policy::{Definition, Fact, Facts, Function as Declared, Int, Kind, Level, Looks, Resource, Type, field};
use serde::Serialize;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::backends::calendar::{CRON_MAX, Calendar, ZONE_MAX};
use crate::call::door::plain;
use crate::call::effect::{Answer as _, Await, Form, Function, Unformed, passed};
use crate::call::{ask, question};
use crate::error::json;
use crate::{Entry, Error, Payload, StoreData};

pub(crate) static ENTRY: LazyLock<Entry> = LazyLock::new(|| Entry {
    definition: Arc::new(definition()),
    classes: &[EffectClass::Await],
    wit: include_str!("../../../../wit/schedule.wit"),
    link,
    channel: None,
    payload: Payload::Json,
    done: question::never,
    sweep: None,
});

fn definition() -> Definition {
    Definition {
        level: Level::Restricted,
        kind: Kind::Timer,
        functions: vec![Declared::new(
            "wait",
            "schedule",
            [field("pattern", Type::Text(CRON_MAX as u32)), field("zone", Type::Text(ZONE_MAX as u32))],
            Some(Type::Int(Int::U64)),
        )],
        summary: "waits for the next time of a cron pattern, across restarts of the host".into(),
        shown: "{pattern} ({zone})".into(),
        ..Definition::new("schedule", "parole:capabilities/schedule@0.1.0")
    }
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("wait", |store: StoreContextMut<'_, StoreData>, (pattern, zone): (String, String)| {
        plain(&store, |execution| async move { Ok((ask(&execution, Wait, Called { pattern, zone }).await?,)) })
    })
}

struct Wait;

#[derive(Serialize)]
struct Called {
    pattern: String,
    zone: String,
}

impl Function for Wait {
    fn definition(&self) -> &Arc<Definition> {
        &ENTRY.definition
    }

    fn name(&self) -> Cow<'static, str> {
        "schedule".into()
    }

    type Args = Called;
    type Form = Called;
    type Answer = u64;
    type Slot = ();

    fn recorded(&self, args: &Called) -> Vec<u8> {
        json(args)
    }

    fn class(&self, _: &Called) -> EffectClass {
        EffectClass::Await
    }

    fn form(&self, args: Called, _: Looks, (): &()) -> Result<Called, Unformed<u64>> {
        Ok(args)
    }
}

impl Facts for Called {
    fn resource(&self) -> Resource<'_> {
        Resource::Nothing
    }

    fn fact(&self, name: &str) -> Option<Fact<'_>> {
        match name {
            "pattern" => Some(Fact::Text(&self.pattern)),
            "zone" => Some(Fact::Text(&self.zone)),
            _ => None,
        }
    }
}

impl Form for Called {}

impl Await for Wait {
    fn timer(&self, form: &Called, now: UnixMs) -> Result<Option<UnixMs>, Error> {
        let calendar = Calendar::read_exactly(&form.pattern, &form.zone).map_err(Error::Invalid)?;
        let never = || Error::Invalid("the pattern names a day that no calendar has".into());
        calendar.next(now).map(Some).ok_or_else(never)
    }

    fn read(&self, record: PromiseRecord) -> Result<Vec<u8>, Error> {
        passed(&record).map(|at| at.encode())
    }
}
