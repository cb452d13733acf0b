//! What `input`, `approve` and `review` share: a promise that a person settles.

use parole_durable::{EffectClass, PromiseRecord, PromiseState};
use parole_policy::{Arguments, Field};
use serde::de::DeserializeOwned;

use crate::call::{Begin, CallRequest, Form};
use crate::error::canonical;
use crate::{Entry, Error, Execution};

/// Asks a person. `fields` are the arguments, the answer is the JSON of the ok payload.
pub(crate) async fn ask<T: DeserializeOwned>(
    execution: &Execution,
    entry: &'static Entry,
    function: &'static str,
    fields: &[(&'static str, Field<'_>)],
) -> wasmtime::Result<Result<T, Error>> {
    let arguments = canonical(fields);
    let answer = match execution.with(|state| state.begin(function, EffectClass::Await, &arguments))? {
        Begin::Answered(answer) => answer,
        Begin::Open(open) => {
            let (typed, form) = (Arguments::Fields(fields), Form::given(&arguments));
            let call = CallRequest { entry, typed: Ok(&typed), arguments: &form, shown: None };
            match execution.admittance(open, &call).await? {
                Err(answer) => answer,
                Ok(open) => {
                    let promise = execution.with(|state| {
                        let deadline = state.deadline(entry);
                        state.promise(&open, entry, arguments, deadline)
                    })?;
                    execution.answered(open, promise, false, answer_of).await?
                }
            }
        }
    };
    execution.read_back(answer)
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
