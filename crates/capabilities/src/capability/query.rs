//! `query`: one SQL statement on a database that the policy names.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use parole_durable::EffectClass;
use parole_policy::{
    DEFAULT_ANSWER_BYTES, DEFAULT_MAX_ROWS, Definition, Fact, Facts, Flag, Function as Declared, GrantEffect, GrantKey,
    HOST_TIMEOUT, Key, Level, Looks, Mode, Resource, ScopeKind, Type, field,
};
use serde::{Deserialize, Serialize};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower};

use crate::backends::sql::engine::{self, Job, Limits};
use crate::backends::{Outside, sql};
use crate::call::act;
use crate::call::door::plain;
use crate::call::effect::{Answer, Attempt, Effect, Form, Function, Unformed};
use crate::call::permit::{self, NamedDatabase, Permit};
use crate::error::{base64_text, json};
use crate::{Entry, Payload, StoreData};

pub(crate) static ENTRY: LazyLock<Entry> = LazyLock::new(|| Entry {
    definition: Arc::new(definition()),
    // On a read-only database it is read.
    classes: &[EffectClass::Once],
    wit: include_str!("../../../../wit/query.wit"),
    link,
    channel: None,
    payload: Payload::Json,
    done: |_, value| {
        let rows = Rows::deserialize(value)
            .map_err(|error| format!("rows are {{\"columns\": [\"a\"], \"rows\": [[\"null\"]]}}: {error}"))?;
        Ok(json(&rows))
    },
    sweep: None,
});

fn definition() -> Definition {
    Definition {
        level: Level::Trusted,
        scope: ScopeKind::Name,
        keys: vec![
            GrantKey::Databases.into(),
            Key::number(GrantKey::MaxRows, DEFAULT_MAX_ROWS),
            Key::number(GrantKey::MaxBytes, DEFAULT_ANSWER_BYTES),
            GrantKey::Effect.into(),
            GrantKey::Retry.into(),
            GrantKey::TimeoutMs.into(),
        ],
        flag: Some(Flag::Database),
        functions: vec![Declared::new(
            "query",
            "query",
            [field("database", Type::Name), field("sql", Type::TEXT), field("parameters", Type::list(Type::SqlValue))],
            Some(Type::record([
                field("columns", Type::list(Type::TEXT)),
                field("rows", Type::list(Type::list(Type::SqlValue))),
            ])),
        )],
        timeout: HOST_TIMEOUT,
        summary: "runs an SQL statement on a database that the policy names".into(),
        shown: "{database}: {sql}".into(),
        ..Definition::new("query", "parole:capabilities/query@0.1.0")
    }
}

/// `parole:capabilities/query.value`.
#[derive(Clone, Debug, PartialEq, ComponentType, Lift, Lower, Serialize, Deserialize)]
#[component(variant)]
#[serde(rename_all = "lowercase")]
enum Value {
    #[component(name = "null")]
    Null,
    #[component(name = "integer")]
    Integer(#[serde(with = "integer_text")] i64),
    #[component(name = "real")]
    Real(#[serde(with = "real_text")] f64),
    #[component(name = "text")]
    Text(String),
    #[component(name = "blob")]
    Blob(#[serde(with = "base64_text")] Vec<u8>),
}

/// `parole:capabilities/query.rows`.
#[derive(ComponentType, Lift, Lower, Serialize, Deserialize)]
#[component(record)]
#[serde(deny_unknown_fields)]
struct Rows {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

/// The arguments: they have one spelling, and this is what the journal has of them.
#[derive(Serialize)]
struct Called {
    database: String,
    sql: String,
    parameters: Vec<Value>,
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async(
        "query",
        |store: StoreContextMut<'_, StoreData>, (database, sql, parameters): (String, String, Vec<Value>)| {
            plain(&store, |execution| async move {
                Ok((act(&execution, Query, Called { database, sql, parameters }).await?,))
            })
        },
    )
}

struct Query;

impl Function for Query {
    fn definition(&self) -> &Arc<Definition> {
        &ENTRY.definition
    }

    fn name(&self) -> Cow<'static, str> {
        "query".into()
    }

    type Args = Called;
    type Form = Called;
    type Answer = Rows;
    type Slot = ();

    fn recorded(&self, args: &Called) -> Vec<u8> {
        json(args)
    }

    fn class(&self, _: &Called) -> EffectClass {
        EffectClass::Once
    }

    fn form(&self, args: Called, _: Looks, (): &()) -> Result<Called, Unformed<Rows>> {
        Ok(args)
    }
}

impl Facts for Called {
    fn resource(&self) -> Resource<'_> {
        Resource::Name(&self.database)
    }

    fn fact(&self, name: &str) -> Option<Fact<'_>> {
        match name {
            "database" => Some(Fact::Text(&self.database)),
            "sql" => Some(Fact::Text(&self.sql)),
            "parameters" => Some(Fact::List(self.parameters.iter().map(Value::fact).collect())),
            _ => None,
        }
    }
}

impl Form for Called {
    fn argument(&self) -> Option<String> {
        Some(self.database.clone())
    }
}

impl Answer for Rows {
    fn encode(&self) -> Vec<u8> {
        json(self)
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        serde_json::from_slice(&bytes).ok()
    }

    /// The parser of JSON may give the number beside the one that was written.
    fn replayed(self, recorded: &[u8]) -> Self {
        serde_json::from_slice(recorded).unwrap_or(self)
    }
}

impl Effect for Query {
    type Scope = permit::Name;
    const OUTSIDE: bool = true;

    /// A call that was taken on with its key before a crash keeps it, whatever the grant says by now.
    fn class_under(&self, _: &Called, begun: EffectClass, reach: &NamedDatabase, granted: GrantEffect) -> EffectClass {
        let keyed = begun == EffectClass::Idempotent;
        match (reach.database.mode, granted) {
            (Mode::Rw, GrantEffect::Once) if !keyed => EffectClass::Once,
            (Mode::Rw, _) => EffectClass::Idempotent,
            (Mode::Ro, _) if keyed => EffectClass::Idempotent,
            (Mode::Ro, _) => EffectClass::Read,
        }
    }

    fn act(
        &self,
        permit: &Permit<permit::Name>,
        form: &Called,
        outside: &Outside,
        (): &(),
    ) -> impl Future<Output = Attempt<Rows, Called>> + Send {
        let key = permit.key().filter(|_| permit.class() == EffectClass::Idempotent);
        let job = Job {
            sql: form.sql.clone(),
            parameters: form.parameters.iter().map(engine::Value::from).collect(),
            // The permit says.
            write: false,
            key: key.map(|key| key.as_str().to_owned()),
            limits: Limits {
                max_rows: permit.number(GrantKey::MaxRows).unwrap_or(DEFAULT_MAX_ROWS),
                max_bytes: permit.number(GrantKey::MaxBytes).unwrap_or(DEFAULT_ANSWER_BYTES),
                deadline: permit.deadline(),
            },
        };
        // Few calls are as large as this, and all are as large as the largest.
        Box::pin(async move {
            match sql::run(permit, outside, job).await {
                Ok(rows) => Attempt::Done(rows.into()),
                Err(failure) => Attempt::Failed(failure),
            }
        })
    }
}

impl Value {
    fn fact(&self) -> Fact<'_> {
        match self {
            Value::Null => Fact::Null,
            Value::Integer(number) => Fact::Int(*number),
            Value::Real(number) => Fact::Real(*number),
            Value::Text(text) => Fact::Text(text),
            Value::Blob(bytes) => Fact::Bytes(bytes),
        }
    }
}

impl From<&Value> for engine::Value {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => engine::Value::Null,
            Value::Integer(number) => engine::Value::Integer(*number),
            Value::Real(number) => engine::Value::Real(*number),
            Value::Text(text) => engine::Value::Text(text.clone()),
            Value::Blob(bytes) => engine::Value::Blob(bytes.clone()),
        }
    }
}

impl From<engine::Value> for Value {
    fn from(value: engine::Value) -> Self {
        match value {
            engine::Value::Null => Value::Null,
            engine::Value::Integer(number) => Value::Integer(number),
            engine::Value::Real(number) => Value::Real(number),
            engine::Value::Text(text) => Value::Text(text),
            engine::Value::Blob(bytes) => Value::Blob(bytes),
        }
    }
}

impl From<engine::Rows> for Rows {
    fn from(rows: engine::Rows) -> Self {
        let values = |row: Vec<engine::Value>| row.into_iter().map(Value::from).collect();
        Self { columns: rows.columns, rows: rows.rows.into_iter().map(values).collect() }
    }
}

/// 64-bit integers are text in JSON; an exact number is taken.
mod integer_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(i64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(number),
            Written::Text(text) => text.parse().map_err(|_| D::Error::custom("expected a 64-bit integer as text")),
        }
    }
}

/// Numbers in JSON, and `"nan"`, `"inf"`, `"-inf"`.
mod real_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        match number {
            number if number.is_finite() => serializer.serialize_f64(*number),
            number if number.is_nan() => serializer.serialize_str("nan"),
            number if *number > 0.0 => serializer.serialize_str("inf"),
            _ => serializer.serialize_str("-inf"),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(number),
            Written::Text(text) => match text.as_str() {
                "nan" => Ok(f64::NAN),
                "inf" => Ok(f64::INFINITY),
                "-inf" => Ok(f64::NEG_INFINITY),
                _ => Err(D::Error::custom("expected a number, \"nan\", \"inf\" or \"-inf\"")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the guest is given live is what a replay gives it.
    #[test]
    fn numbers_are_the_same_at_a_replay() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let number = f64::from_bits(state);
            let rows = Rows::from(engine::Rows { columns: vec![], rows: vec![vec![engine::Value::Real(number)]] });
            let recorded = rows.encode();
            let (live, replayed) = (rows.replayed(&recorded), Rows::decode(recorded).unwrap());
            let bits = |rows: &Rows| match rows.rows[0][0] {
                Value::Real(number) if number.is_nan() => None,
                Value::Real(number) => Some(number.to_bits()),
                _ => panic!(),
            };
            assert_eq!(bits(&live), bits(&replayed), "{number:e}");
        }
    }

    #[test]
    fn values_survive_the_journal() {
        let rows = Rows {
            columns: vec!["a".into()],
            rows: vec![vec![
                Value::Null,
                Value::Integer(i64::MIN),
                Value::Real(0.1),
                Value::Real(f64::NEG_INFINITY),
                Value::Text("\u{1f600}\0".into()),
                Value::Blob(vec![0, 255]),
            ]],
        };
        let text = json(&rows);
        let back: Rows = serde_json::from_slice(&text).unwrap();
        assert_eq!(back.rows, rows.rows);
        let nan: Value = serde_json::from_slice(&json(&Value::Real(f64::NAN))).unwrap();
        assert!(matches!(nan, Value::Real(number) if number.is_nan()));
        assert_eq!(serde_json::from_str::<Value>(r#"{"integer": 7}"#).unwrap(), Value::Integer(7));
        assert!(serde_json::from_str::<Value>(r#"{"integer": 1.5}"#).is_err());
    }
}
