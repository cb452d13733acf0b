//! `review`: a person reads, edits, and accepts or refuses a text.

use parole_durable::EffectClass;
use parole_policy::{Capability, Field, GrantKey, Kind, Level, REVIEW_ARGUMENTS, ScopeKind, Timeout};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower};

use crate::call::door::plain;
use crate::call::question;
use crate::capability::person;
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
            Ok((person::ask::<Decision>(
                &execution,
                &ENTRY,
                "review",
                &[("title", Field::Text(&title)), ("text", Field::Text(&text))],
            )
            .await?,))
        })
    })
}
