//! `query`: one SQL statement on a database that the policy names.

use std::time::Duration;

use parole_durable::EffectClass;
use parole_policy::{
    Arguments, Authority, Capability, DEFAULT_ANSWER_BYTES, DEFAULT_MAX_ROWS, Database, Grant, GrantEffect, GrantKey,
    Kind, Level, Mode, QUERY_ARGUMENTS, QueryValue, ScopeKind, Source, Timeout,
};
use serde::{Deserialize, Serialize};

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower};

use crate::backends::Outside;
use crate::backends::sql::engine::{self, Failure, Job, Limits};
use crate::backends::sql::{postgres, sqlite};
use crate::call::door::plain;
use crate::call::retry::Retries;
use crate::call::{Begin, CallRequest, Form, Gate, PermittedCall};
use crate::capability::person;
use crate::clock;
use crate::error::{Refused, base64_text, json};
use crate::{Entry, Error, Execution, Payload, Stop, StoreData};

/// What a statement may take when its grant says that it never expires.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) const ENTRY: Entry = Entry {
    capability: Capability {
        name: "query",
        interface: "parole:capabilities/query@0.1.0",
        level: Level::Trusted,
        kind: Kind::Host,
        scope: ScopeKind::Name,
        grant_keys: &[
            GrantKey::Databases,
            GrantKey::MaxRows,
            GrantKey::MaxBytes,
            GrantKey::Effect,
            GrantKey::Retry,
            GrantKey::TimeoutMs,
        ],
        default_timeout: Timeout::After(10_000),
        summary: "runs an SQL statement on a database that the policy names",
        arguments: QUERY_ARGUMENTS,
    },
    // On a read-only database it is read.
    functions: &[("query", EffectClass::Once)],
    wit: include_str!("../../../../wit/query.wit"),
    link,
    payload: Payload::Json,
    summary: |arguments| format!("{}: {}", person::field(arguments, "database"), person::field(arguments, "sql")),
    answer: None,
    done: |_, value| {
        let rows = Rows::deserialize(value)
            .map_err(|error| format!("rows are {{\"columns\": [\"a\"], \"rows\": [[\"null\"]]}}: {error}"))?;
        Ok(json(&rows))
    },
};

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

#[derive(Serialize)]
struct RecordedArguments<'a> {
    database: &'a str,
    sql: &'a str,
    parameters: &'a [Value],
}

fn link(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.func_wrap_async(
        "query",
        |store: StoreContextMut<'_, StoreData>, (database, sql, parameters): (String, String, Vec<Value>)| {
            plain(&store, |execution| async move { Ok((query(&execution, &database, sql, parameters).await?,)) })
        },
    )
}

async fn query(
    execution: &Execution,
    database: &str,
    sql: String,
    parameters: Vec<Value>,
) -> wasmtime::Result<Result<Rows, Error>> {
    let arguments = json(&RecordedArguments { database, sql: &sql, parameters: &parameters });
    let answer = match execution.with(|state| state.begin("query", EffectClass::Once, &arguments))? {
        Begin::Answered(answer) => answer,
        Begin::Open(open) => {
            let parameters: Vec<QueryValue> = parameters.into_iter().map(Value::into).collect();
            let typed = Arguments::Query { database, sql: &sql, parameters: &parameters };
            let form = Form::given(&arguments);
            let call = CallRequest { entry: &ENTRY, typed: Ok(&typed), arguments: &form, shown: None };
            match execution.authorize(open, &call).await? {
                Gate::Done(answer) => answer,
                Gate::Go(permitted) => Box::pin(perform(execution, permitted, &call, &typed)).await?,
            }
        }
    };
    execution.read_back(answer)
}

/// Runs it, as often as the grant's `retry` allows, and records how it went.
async fn perform(
    execution: &Execution,
    mut permitted: PermittedCall,
    call: &CallRequest<'_>,
    typed: &Arguments<'_>,
) -> Result<Result<Vec<u8>, Error>, Stop> {
    let Arguments::Query { database: name, sql, parameters } = *typed else {
        return Ok(Err(Error::Failed("this is no query".into())));
    };
    let grant = permitted.grant(ENTRY.capability.name).cloned();
    let Some((grant, database)) = grant.and_then(|grant| {
        let database = grant.databases.get(name).cloned()?;
        Some((grant, database))
    }) else {
        let error = Error::Denied("nothing is granted".into());
        execution.with(|state| state.finish(permitted.open, None, &Err(error.clone())))?;
        return Ok(Err(error));
    };
    if !permitted.admitted {
        // A call that was admitted with its key before a crash keeps it, whatever the grant says by now.
        let keyed = permitted.open.effect == EffectClass::Idempotent;
        permitted.open.effect = effect_of(database.mode, grant.effect, keyed);
    }
    let effect = permitted.open.effect;
    if effect != EffectClass::Read && !permitted.admitted {
        permitted = match execution.admit(permitted, call).await? {
            Ok(permitted) => permitted,
            Err(gate) => return afresh(execution, gate, call, typed).await,
        };
    }
    execution.commit_creation().await?;
    let key = (effect == EffectClass::Idempotent)
        .then(|| execution.with(|state| state.key(&permitted.open, ENTRY.capability.name)));
    let mut retries = Retries::of(grant.retry.as_ref());
    let result = loop {
        let job = Job {
            sql: sql.to_owned(),
            parameters: parameters.iter().map(engine::Value::from).collect(),
            write: database.mode == Mode::Rw,
            key: key.as_ref().map(|key| key.as_str().to_owned()),
            limits: limits_from_now(&grant),
        };
        let running = run(execution.outside(), (name, &database), grant.database_ca.get(name), job);
        match execution.unless_left(effect, running).await? {
            Ok(rows) => break Ok(json(&Rows::from(rows))),
            Err(failure) if failure.may_repeat(effect) && retries.left() => {
                execution.with(|state| state.note_retry(&mut permitted.open, call, retries.attempt()));
                if effect != EffectClass::Read {
                    permitted = match execution.admit(permitted, call).await? {
                        Ok(permitted) => permitted,
                        Err(gate) => return afresh(execution, gate, call, typed).await,
                    };
                }
                execution.back_off(&mut retries, &permitted.open).await?;
            }
            Err(Failure::Denied(reason)) => {
                let remedy = Failure::remedy(&reason, name, database.mode);
                let (capability, argument) = (ENTRY.capability.name.into(), Some(name.to_owned()));
                let refused = Refused { capability, argument, error: Error::Denied(reason), remedy };
                return Ok(Err(execution.with(|state| state.refuse(permitted.open, refused))?));
            }
            Err(Failure::Lack(what)) => return Err(execution.withdraw(&permitted.open, Stop::Lack(what)).await),
            Err(failure) => break Err(failure.into_guest_error(effect)),
        }
    };
    execution.conclude(permitted.open, &result).await?;
    Ok(result)
}

/// What a grant allows an answer; its time runs from now on.
fn limits_from_now(grant: &Grant) -> Limits {
    let timeout = grant.timeout.as_millis().map_or(LONGEST, Duration::from_millis).min(LONGEST);
    Limits {
        max_rows: grant.max_rows.unwrap_or(DEFAULT_MAX_ROWS),
        max_bytes: grant.max_bytes.unwrap_or(DEFAULT_ANSWER_BYTES),
        deadline: clock::now() + timeout,
    }
}

/// Goes on with a call that was decided again.
async fn afresh(
    execution: &Execution,
    gate: Gate,
    call: &CallRequest<'_>,
    typed: &Arguments<'_>,
) -> Result<Result<Vec<u8>, Error>, Stop> {
    match gate {
        Gate::Go(permitted) => Box::pin(perform(execution, permitted, call, typed)).await,
        Gate::Done(answer) => Ok(answer),
    }
}

/// `keyed`: it was admitted before with a key.
fn effect_of(mode: Mode, granted: GrantEffect, keyed: bool) -> EffectClass {
    match (mode, granted) {
        (Mode::Rw, GrantEffect::Once) if !keyed => EffectClass::Once,
        (Mode::Rw, _) => EffectClass::Idempotent,
        (Mode::Ro, _) if keyed => EffectClass::Idempotent,
        (Mode::Ro, _) => EffectClass::Read,
    }
}

async fn run(
    outside: &Outside,
    (name, database): (&str, &Database),
    authorities: Option<&Vec<Authority>>,
    job: Job,
) -> Result<engine::Rows, Failure> {
    match &database.source {
        Source::Sqlite(path) => sqlite::run(path.clone(), job).await,
        Source::Postgres(url) => postgres::run(url, job, &outside.databases_for(authorities)?).await,
        Source::UrlEnv(variable) => match (outside.variables)(variable) {
            Some(url) => {
                if let Err(fault) = postgres::check_url(&url) {
                    // It was in order when the execution was started.
                    tracing::warn!(database = name, variable, "{fault}");
                }
                postgres::run(&url, job, &outside.databases_for(authorities)?).await
            }
            None => {
                tracing::warn!(database = name, variable, "the variable that names a database is not set");
                Err(Failure::Failed { text: "the database is not configured".into(), unknown: false })
            }
        },
    }
}

impl Failure {
    /// Whether the same statement may be run again without anybody being asked.
    fn may_repeat(&self, effect: EffectClass) -> bool {
        match self {
            Failure::Lack(_) => true,
            Failure::Expired { unknown } | Failure::Failed { unknown, .. } => effect != EffectClass::Once || !unknown,
            _ => false,
        }
    }

    fn into_guest_error(self, effect: EffectClass) -> Error {
        match self {
            Failure::Denied(reason) => Error::Denied(reason),
            Failure::Invalid(reason) => Error::Invalid(reason),
            Failure::TooLarge(limit) => Error::TooLarge(limit),
            Failure::Exhausted(what) => Error::Exhausted(what),
            Failure::Lack(what) => Error::Failed(format!("the host is short of {what}")),
            Failure::Expired { unknown: true } if effect != EffectClass::Read => {
                Error::Failed("no answer came in time: it may have happened".into())
            }
            Failure::Expired { .. } => Error::Expired,
            Failure::Failed { text, unknown: true } if effect != EffectClass::Read => {
                Error::Failed(format!("{text}; it may have happened"))
            }
            Failure::Failed { text, .. } => Error::Failed(text),
        }
    }
}

impl From<Value> for QueryValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => QueryValue::Null,
            Value::Integer(number) => QueryValue::Integer(number),
            Value::Real(number) => QueryValue::Real(number),
            Value::Text(text) => QueryValue::Text(text),
            Value::Blob(bytes) => QueryValue::Blob(bytes),
        }
    }
}

impl From<&QueryValue> for engine::Value {
    fn from(value: &QueryValue) -> Self {
        match value {
            QueryValue::Null => engine::Value::Null,
            QueryValue::Integer(number) => engine::Value::Integer(*number),
            QueryValue::Real(number) => engine::Value::Real(*number),
            QueryValue::Text(text) => engine::Value::Text(text.clone()),
            QueryValue::Blob(bytes) => engine::Value::Blob(bytes.clone()),
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
