//! What `input`, `approve` and `review` share: a promise that a person settles.

use parole_durable::{Effect, PromiseRecord, PromiseState};
use parole_policy::Arguments;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::execution::Begin;
use crate::types::json;
use crate::{Entry, Error, Execution, Stop};

/// Asks a person: `question` is a record of the arguments by parameter name, the answer is the JSON of the ok payload.
pub(crate) async fn ask<T: DeserializeOwned>(
    execution: &mut Execution,
    entry: &'static Entry,
    function: &'static str,
    question: &impl Serialize,
) -> wasmtime::Result<Result<T, Error>> {
    let arguments = json(question);
    let answer = match execution.begin(function, Effect::Await, &arguments)? {
        Begin::Answered(answer) => answer,
        Begin::Open(open) => {
            if open.admitted.is_none() {
                let scope = execution.scope();
                if let Err(refused) = execution.decide(&scope, entry, &Arguments::None, &arguments) {
                    return Ok(Err(execution.refuse(open, refused)?));
                }
            }
            let deadline = execution.deadline(entry);
            match execution.promise(&open, entry, arguments, deadline) {
                Ok(id) => {
                    let answer = answer_of(execution.wait(&id, false).await?);
                    execution.finish(open, Some(id), &answer)?;
                    answer
                }
                Err(error) => {
                    execution.finish(open, None, &Err(error.clone()))?;
                    Err(error)
                }
            }
        }
    };
    match answer {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Ok(value)),
            // It was checked when it was settled: what cannot be read now was changed since.
            Err(_) => Err(Stop::Unreadable(execution.journal().calls()).into()),
        },
        Err(error) => Ok(Err(error)),
    }
}

/// What the guest gets for a settled promise.
pub(crate) fn answer_of(record: PromiseRecord) -> Result<Vec<u8>, Error> {
    match record.state {
        PromiseState::Resolved => Ok(record.value.data.unwrap_or_else(|| "null".into()).into_bytes()),
        PromiseState::Rejected => {
            let reason = record.value.data.and_then(|data| serde_json::from_str(&data).ok());
            Err(Error::Denied(reason.unwrap_or_else(|| "a person said no".into())))
        }
        PromiseState::RejectedCanceled => Err(Error::Canceled),
        PromiseState::RejectedTimedout | PromiseState::Pending => Err(Error::Expired),
    }
}

/// The text of one argument, for summaries.
pub(crate) fn field(arguments: &serde_json::Value, name: &str) -> String {
    arguments.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}
