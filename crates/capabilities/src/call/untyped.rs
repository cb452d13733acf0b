//! Capabilities that users define: calls whose types are known when a guest is linked, and not before.
//!
//! A call is JSON by the declaration of its function ([`wire`]), in the journal as in the promise that answers it.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use parole_durable::{EffectClass, PromiseRecord, PromiseState};
use parole_policy::{
    Definition, ErrorType, Fact, Facts, Fields as _, Function as Declared, Looks, OwnedFields, Resource,
};
use serde_json::Value;
use wasmtime::component::{LinkerInstance, Val};

use super::door::plain;
use super::effect::{Answer, Await, Form, Function, Unformed};
use super::{Execution, StoreData, ask, wire};
use crate::error::json;
use crate::{Error, Stop};

/// Defines the functions of a capability that workers answer.
///
/// # Errors
/// The engine does not take one.
pub fn link(instance: &mut LinkerInstance<'_, StoreData>, definition: &Arc<Definition>) -> wasmtime::Result<()> {
    for at in 0..definition.functions.len() {
        let function = UserFunction { definition: Arc::clone(definition), at };
        define(instance, function, |execution, function, arguments| async move {
            ask(&execution, UserCall { function, answered_by: Workers }, arguments).await
        })?;
    }
    Ok(())
}

/// Defines a function: what `call` makes of its arguments is for the guest.
pub(super) fn define<F, A>(
    instance: &mut LinkerInstance<'_, StoreData>,
    function: UserFunction,
    call: F,
) -> wasmtime::Result<()>
where
    F: Fn(Execution, UserFunction, Vec<u8>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = wasmtime::Result<Result<Returned, Error>>> + Send + 'static,
{
    let wit = Arc::clone(&function.declared().wit);
    instance.func_new_async(&wit, move |store, _, params, results| {
        let (function, call) = (function.clone(), call.clone());
        let arguments = wire::arguments(params, &function.declared().params);
        let own = function.clone();
        let called = plain(&store, |execution| async move {
            let arguments = arguments.ok_or_else(|| mistyped(&own, "an argument"))?;
            call(execution, own, arguments).await
        });
        Box::new(async move {
            let answer = Box::into_pin(called).await?;
            match (results, function.returned(answer)?) {
                ([], None) => Ok(()),
                ([slot], Some(value)) => {
                    *slot = value;
                    Ok(())
                }
                _ => Err(mistyped(&function, "the result")),
            }
        })
    })
}

/// The engine has checked the types before the guest was started.
fn mistyped(function: &UserFunction, what: &str) -> wasmtime::Error {
    wasmtime::format_err!("{what} of `{}` has another type than it was linked with", function.declared().name)
}

/// A function of a capability that users define.
#[derive(Clone, Debug)]
pub(super) struct UserFunction {
    pub(super) definition: Arc<Definition>,
    pub(super) at: usize,
}

/// A call of such a function.
pub(super) struct UserCall<A> {
    pub(super) function: UserFunction,
    pub(super) answered_by: A,
}

/// Who answers a call.
pub(super) trait AnsweredBy: Send + Sync + 'static {
    /// As what a call of this function is recorded.
    fn class(&self, function: &UserFunction) -> EffectClass;
}

/// Whoever settles its promise.
struct Workers;

impl AnsweredBy for Workers {
    fn class(&self, _: &UserFunction) -> EffectClass {
        EffectClass::Await
    }
}

impl UserFunction {
    pub(super) fn declared(&self) -> &Declared {
        &self.definition.functions[self.at]
    }

    /// The value for the guest.
    fn returned(&self, answer: Result<Returned, Error>) -> Result<Option<Val>, Stop> {
        let declared = self.declared();
        let value = match answer {
            Ok(Returned(bytes)) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) => match told(&declared.error, &error) {
                Some(value) => serde_json::json!({ "err": value }),
                None => return Err(Stop::Untold { function: declared.name.to_string(), error }),
            },
        };
        declared.returns().map(|of| wire::read(&value, &of).ok_or_else(|| self.unreadable())).transpose()
    }

    fn unreadable(&self) -> Stop {
        Stop::Untold {
            function: self.declared().name.to_string(),
            error: Error::Failed("what is recorded of it is no value of its type".into()),
        }
    }
}

/// The JSON by which a function tells its guest of an error; `None`: it has no way to.
fn told(of: &ErrorType, error: &Error) -> Option<Value> {
    match of {
        ErrorType::None => None,
        ErrorType::Shared => serde_json::to_value(error).ok(),
        ErrorType::Own(None) => Some(Value::Null),
        ErrorType::Own(Some(own)) => {
            let failed = Error::Failed(error.to_string());
            let forms =
                [serde_json::to_value(error), serde_json::to_value(error.to_string()), serde_json::to_value(failed)];
            forms.into_iter().flatten().find(|value| own.check(value, "").is_ok())
        }
    }
}

/// The arguments of a call: JSON by parameter name. It is its own one form.
pub(crate) struct Arguments {
    function: UserFunction,
    json: Vec<u8>,
    /// The same for rules, from the first look on.
    facts: OnceLock<OwnedFields>,
}

impl Arguments {
    /// They are JSON that this program has made.
    pub(super) fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }
}

impl<A: AnsweredBy> Function for UserCall<A> {
    fn definition(&self) -> &Arc<Definition> {
        &self.function.definition
    }

    fn name(&self) -> Cow<'static, str> {
        self.function.declared().name.to_string().into()
    }

    type Args = Vec<u8>;
    type Form = Arguments;
    type Answer = Returned;
    type Slot = ();

    fn recorded(&self, args: &Vec<u8>) -> Vec<u8> {
        args.clone()
    }

    fn class(&self, _: &Vec<u8>) -> EffectClass {
        self.answered_by.class(&self.function)
    }

    fn form(&self, json: Vec<u8>, _: Looks, (): &()) -> Result<Arguments, Unformed<Returned>> {
        Ok(Arguments { function: self.function.clone(), json, facts: OnceLock::new() })
    }
}

impl Await for UserCall<Workers> {
    fn read(&self, record: PromiseRecord) -> Result<Vec<u8>, Error> {
        let data = record.value.data;
        match record.state {
            PromiseState::Resolved => {
                Ok(ok(self.function.declared(), data.unwrap_or_else(|| "null".into()).into_bytes()))
            }
            PromiseState::Rejected => {
                let value: Value = data.and_then(|data| serde_json::from_str(&data).ok()).unwrap_or_default();
                match &self.function.declared().error {
                    ErrorType::Own(Some(own)) if own.check(&value, "").is_ok() => Ok(err(&value)),
                    _ => Err(Error::Denied(match value {
                        Value::String(text) => text,
                        Value::Null => "whoever answers it said no".into(),
                        value => value.to_string(),
                    })),
                }
            }
            PromiseState::RejectedCanceled => Err(Error::Canceled),
            PromiseState::RejectedTimedout | PromiseState::Pending => Err(Error::Expired),
        }
    }
}

impl Facts for Arguments {
    fn resource(&self) -> Resource<'_> {
        Resource::Nothing
    }

    fn fact(&self, name: &str) -> Option<Fact<'_>> {
        let facts = self.facts.get_or_init(|| OwnedFields::of(&self.value(), &self.function.declared().params));
        facts.field(name)
    }

    fn function(&self) -> &str {
        &self.function.declared().wit
    }
}

impl Form for Arguments {
    fn argument(&self) -> Option<String> {
        Some(self.function.declared().wit.to_string())
    }
}

/// The JSON of what a function returns: the ok value, or an object with `ok` or `err` where it is a `result`.
pub(crate) struct Returned(Vec<u8>);

impl Returned {
    pub(super) fn of(json: Vec<u8>) -> Self {
        Self(json)
    }
}

impl Answer for Returned {
    fn encode(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).ok()?;
        Some(Self(bytes))
    }
}

/// The JSON of what a function returns, when this is that of its ok value.
pub(super) fn ok(function: &Declared, json: Vec<u8>) -> Vec<u8> {
    match function.error {
        ErrorType::None => json,
        ErrorType::Shared | ErrorType::Own(_) => [&b"{\"ok\":"[..], &json, b"}"].concat(),
    }
}

/// The same, when this is its error.
pub(super) fn err(error: &Value) -> Vec<u8> {
    json(&serde_json::json!({ "err": error }))
}

/// The form in which the journal keeps an ok value that a person tells of a call in doubt.
///
/// # Errors
/// It is none of the function: what was expected.
pub(super) fn stored(function: &Declared, value: &Value) -> Result<Vec<u8>, String> {
    check(function, value)?;
    Ok(ok(function, json(value)))
}

/// What is wrong with an answer to a call of a function, as somebody settles its promise.
///
/// # Errors
/// The place and what was expected there.
pub fn check(function: &Declared, value: &Value) -> Result<(), String> {
    match &function.result {
        Some(of) => of.check(value, "").map_err(|why| format!("{why}; it is {of}, as in {}", of.example())),
        None if value.is_null() => Ok(()),
        None => Err("expected null: the function has no value to give".into()),
    }
}
