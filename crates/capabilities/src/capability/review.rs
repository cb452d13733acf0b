//! `review`: a person reads, edits, and accepts or refuses a text.

use parole_durable::EffectClass;
use parole_policy::{Capability, GrantKey, Kind, Level, Looks, REVIEW_ARGUMENTS, ScopeKind, Timeout};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower};

use crate::call::door::plain;
use crate::call::effect::{Answer, Await, Function, Unformed};
use crate::call::{ask, question};
use crate::capability::person::{self, Texts};
use crate::error::json;
use crate::{Entry, Payload, StoreData};

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "review",
        interface: "parole:capabilities/review@0.1.0",
        level: Level::Restricted,
        kind: Kind::Person,
        scope: ScopeKind::Nothing,
        grant_keys: &[GrantKey::TimeoutMs],
        default_timeout: Timeout::After(7 * 24 * 60 * 60 * 1000),
        summary: "lets a person read, edit, and accept or refuse a text",
        arguments: REVIEW_ARGUMENTS,
    },
    functions: &[("review", EffectClass::Await)],
    wit: include_str!("../../../../wit/review.wit"),
    link,
    payload: Payload::Json,
    summary: |arguments| person::field(arguments, "title"),
    answer: Some(answer),
    done: question::never,
    sweep: None,
};

/// `parole:capabilities/review.decision`.
#[derive(ComponentType, Lift, Lower, Serialize, Deserialize)]
#[component(record)]
#[serde(deny_unknown_fields)]
struct Decision {
    accepted: bool,
    text: String,
    comment: Option<String>,
}

fn answer(value: &Value) -> Result<(), String> {
    // An array of the fields would do for the parser.
    let decision = match value {
        Value::Object(_) => Decision::deserialize(value),
        _ => Err(serde::de::Error::custom("it is no object")),
    };
    decision.map(drop).map_err(|error: serde_json::Error| {
        format!("expected {{\"accepted\": true or false, \"text\": \"…\", \"comment\": \"…\" or null}}: {error}")
    })
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("review", |store: StoreContextMut<'_, StoreData>, (title, text): (String, String)| {
        plain(&store, |execution| async move {
            Ok((ask::<Review>(&execution, Texts([("title", title), ("text", text)])).await?,))
        })
    })
}

struct Review;

impl Function for Review {
    const ENTRY: &'static Entry = &ENTRY;
    const NAME: &'static str = "review";
    type Args = Texts<2>;
    type Form = Texts<2>;
    type Answer = Decision;
    type Slot = ();

    fn recorded(args: &Texts<2>) -> Vec<u8> {
        args.recorded()
    }

    fn class(_: &Texts<2>) -> EffectClass {
        EffectClass::Await
    }

    fn form(args: Texts<2>, _: Looks, (): &()) -> Result<Texts<2>, Unformed<Decision>> {
        Ok(args)
    }
}

impl Await for Review {}

impl Answer for Decision {
    fn encode(&self) -> Vec<u8> {
        json(self)
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        person::decoded(&bytes)
    }
}
