//! `review`: a person reads, edits, and accepts or refuses a text.

use std::sync::{Arc, LazyLock};

use parole_durable::EffectClass;
use parole_policy::{Definition, Function, GrantKey, Kind, Level, Timeout, Type, field};
use serde::{Deserialize, Serialize};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower};

use crate::call::door::plain;
use crate::call::effect::Answer;
use crate::call::{ask, question};
use crate::capability::person::{self, Asked, Person, Texts};
use crate::error::json;
use crate::{Entry, Payload, StoreData};

pub(crate) static ENTRY: LazyLock<Entry> = LazyLock::new(|| Entry {
    definition: Arc::new(definition()),
    classes: &[EffectClass::Await],
    wit: include_str!("../../../../wit/review.wit"),
    link,
    channel: None,
    payload: Payload::Json,
    done: question::never,
    sweep: None,
});

fn definition() -> Definition {
    Definition {
        level: Level::Restricted,
        kind: Kind::Person,
        keys: vec![GrantKey::TimeoutMs.into()],
        functions: vec![Function::new(
            "review",
            "review",
            [field("title", Type::TEXT), field("text", Type::TEXT)],
            Some(Type::record([
                field("accepted", Type::Bool),
                field("text", Type::TEXT),
                field("comment", Type::option(Type::TEXT)),
            ])),
        )],
        timeout: Timeout::After(7 * 24 * 60 * 60 * 1000),
        summary: "lets a person read, edit, and accept or refuse a text".into(),
        shown: "{title}".into(),
        ..Definition::new("review", "parole:capabilities/review@0.1.0")
    }
}

/// `parole:capabilities/review.decision`.
#[derive(ComponentType, Lift, Lower, Serialize, Deserialize)]
#[component(record)]
#[serde(deny_unknown_fields)]
struct Decision {
    accepted: bool,
    text: String,
    comment: Option<String>,
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async("review", |store: StoreContextMut<'_, StoreData>, (title, text): (String, String)| {
        plain(&store, |execution| async move {
            Ok((ask(&execution, Asked::<Review, 2>::new(), Texts([("title", title), ("text", text)])).await?,))
        })
    })
}

struct Review;

impl Person<2> for Review {
    const NAME: &'static str = "review";
    type Answer = Decision;

    fn definition() -> &'static Arc<Definition> {
        &ENTRY.definition
    }
}

impl Answer for Decision {
    fn encode(&self) -> Vec<u8> {
        json(self)
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        person::decoded(&bytes)
    }
}
