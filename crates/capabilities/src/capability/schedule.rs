//! `schedule`: a durable timer by the calendar.

use parole_durable::{EffectClass, PromiseRecord, UnixMs};
use parole_policy::{Capability, Fact, Facts, Kind, Level, Looks, Resource, SCHEDULE_ARGUMENTS, ScopeKind, Timeout};
use serde::Serialize;
use wasmtime::StoreContextMut;
use wasmtime::component::LinkerInstance;

use crate::backends::calendar::Calendar;
use crate::call::door::plain;
use crate::call::effect::{Answer as _, Await, Form, Function, Unformed, passed};
use crate::call::{ask, question};
use crate::capability::person;
use crate::error::json;
use crate::{Entry, Error, Payload, StoreData};

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "schedule",
        interface: "parole:capabilities/schedule@0.1.0",
        level: Level::Restricted,
        kind: Kind::Timer,
        scope: ScopeKind::Nothing,
        grant_keys: &[],
        default_timeout: Timeout::Never,
        summary: "waits for the next time of a cron pattern, across restarts of the host",
        arguments: SCHEDULE_ARGUMENTS,
    },
    functions: &[("schedule", EffectClass::Await)],
    wit: include_str!("../../../../wit/schedule.wit"),
    link,
    payload: Payload::Json,
    summary: |arguments| format!("{} ({})", person::field(arguments, "pattern"), person::field(arguments, "zone")),
    answer: None,
    done: question::never,
    sweep: None,
};

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("wait", |store: StoreContextMut<'_, StoreData>, (pattern, zone): (String, String)| {
        plain(&store, |execution| async move { Ok((ask::<Wait>(&execution, Called { pattern, zone }).await?,)) })
    })
}

struct Wait;

#[derive(Serialize)]
struct Called {
    pattern: String,
    zone: String,
}

impl Function for Wait {
    const ENTRY: &'static Entry = &ENTRY;
    const NAME: &'static str = "schedule";
    type Args = Called;
    type Form = Called;
    type Answer = u64;
    type Slot = ();

    fn recorded(args: &Called) -> Vec<u8> {
        json(args)
    }

    fn class(_: &Called) -> EffectClass {
        EffectClass::Await
    }

    fn form(args: Called, _: Looks, (): &()) -> Result<Called, Unformed<u64>> {
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
    fn timer(form: &Called, now: UnixMs) -> Result<Option<UnixMs>, Error> {
        let calendar = Calendar::read(&form.pattern, &form.zone).map_err(Error::Invalid)?;
        let never = || Error::Invalid("the pattern names a day that no calendar has".into());
        calendar.next(now).map(Some).ok_or_else(never)
    }

    fn read(record: PromiseRecord) -> Result<Vec<u8>, Error> {
        passed(&record).map(|at| at.encode())
    }
}
