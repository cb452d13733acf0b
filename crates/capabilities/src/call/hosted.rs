//! Capabilities that the embedding program answers: an interface from WIT, and a closure for each function.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parole_durable::{EffectClass, ExecutionId};
use parole_policy::{Definition, ErrorType, Function as Declared, Kind, Level, Timeout, UserCapability, WorkEffect};
use serde_json::Value;
use wasmtime::component::{LinkerInstance, Val};

use super::effect::{Attempt, Effect, Failure};
use super::permit::{Nothing, Permit};
use super::untyped::{self, AnsweredBy, Arguments, Returned, UserCall, UserFunction};
use super::{StoreData, act, wire};
use crate::backends::Outside;
use crate::clock;

/// What a closure gives: the ok value, or why there is none.
pub type Answered = Result<Reply, CallError>;

type Answer = Pin<Box<dyn Future<Output = Answered> + Send>>;
type Closure = dyn Fn(Request) -> Answer + Send + Sync;

/// A capability that this program answers. It is given to the builder of a runtime.
///
/// Its name is its interface. Level, block list, rules, `ask`, revocations and audit are as for any other.
#[derive(Clone)]
pub struct Capability {
    interface: String,
    user: UserCapability,
    closures: Vec<(String, Arc<Closure>)>,
}

/// A call of a guest, as a closure sees it: decided, and taken on.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which execution asks.
    pub execution: ExecutionId,
    /// The same at every attempt at this call, before a crash and after it: a key for what must not be done twice. A
    /// call that only looks has none.
    pub key: Option<String>,
    /// The arguments: an object by parameter name, in the JSON of WIT values.
    pub arguments: Value,
    function: UserFunction,
}

impl Request {
    /// The arguments as values of the engine, in order.
    #[must_use]
    pub fn values(&self) -> Vec<Val> {
        let value = |param: &parole_policy::Field| {
            wire::read(self.arguments.get(&*param.name).unwrap_or(&Value::Null), &param.of)
        };
        self.function.declared().params.iter().filter_map(value).collect()
    }
}

/// The ok value of a call.
#[derive(Clone, Debug)]
pub enum Reply {
    /// In the JSON of WIT values; null where there is none.
    Json(Value),
    /// As a value of the engine.
    Val(Val),
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        Reply::Json(value)
    }
}

impl From<Val> for Reply {
    fn from(value: Val) -> Self {
        Reply::Val(value)
    }
}

impl From<()> for Reply {
    fn from((): ()) -> Self {
        Reply::Json(Value::Null)
    }
}

/// Why a call has no ok value.
#[derive(Clone, Debug, PartialEq)]
pub enum CallError {
    /// An error of the function's own type, in the JSON of WIT values.
    Own(Value),
    /// It did not work, and may work at another attempt.
    Failed(String),
    /// The answer is no.
    Denied(String),
}

impl Capability {
    /// A capability with this interface of the WIT text, from level `unrestricted`. What is wrong with it is said when the
    /// runtime is opened.
    #[must_use]
    pub fn from_wit(interface: &str, wit: &str) -> Self {
        let user = UserCapability { timeout: parole_policy::HOST_TIMEOUT, ..UserCapability::new(wit) };
        Self { interface: interface.to_owned(), user, closures: Vec::new() }
    }

    /// The lowest level that links it.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.user.level = level;
        self
    }

    /// How long an attempt at a call may take, where no grant says so.
    #[must_use]
    pub fn timeout(mut self, timeout: Timeout) -> Self {
        self.user.timeout = timeout;
        self
    }

    /// Answers a function, by its name in WIT. `effect` says what doing it again means: after a crash a call that is
    /// `once` is not repeated, and a person says what came of it.
    ///
    /// The future is polled on the runtime's own threads, and dropped when its time is over or the execution is canceled.
    #[must_use]
    pub fn func<F, A>(mut self, name: &str, effect: WorkEffect, closure: F) -> Self
    where
        F: Fn(Request) -> A + Send + Sync + 'static,
        A: Future<Output = Answered> + Send + 'static,
    {
        self.user.effects.insert(name.to_owned(), effect);
        self.closures.push((name.to_owned(), Arc::new(move |request| Box::pin(closure(request)))));
        self
    }

    /// The same with a plain function, which may block: it has a thread of its own meanwhile.
    #[must_use]
    pub fn func_blocking<F>(self, name: &str, effect: WorkEffect, closure: F) -> Self
    where
        F: Fn(Request) -> Answered + Send + Sync + 'static,
    {
        let closure = Arc::new(closure);
        self.func(name, effect, move |request| {
            let closure = Arc::clone(&closure);
            async move {
                let done = tokio::task::spawn_blocking(move || closure(request)).await;
                done.unwrap_or_else(|_| Err(CallError::Failed("whoever answers it failed".into())))
            }
        })
    }

    /// What policy and guests know of it, and who answers each function.
    ///
    /// # Errors
    /// What is wrong with the WIT or the closures.
    pub fn declare(&self) -> Result<Hosted, String> {
        let here = |fault: String| format!("the capability `{}`: {fault}", self.interface);
        let mut definition = self.user.definition(&self.interface).map_err(here)?;
        definition.kind = Kind::Host;
        definition.summary = "answered by this program".into();
        let mut closures = Vec::new();
        for function in &definition.functions {
            let mut own = self.closures.iter().filter(|(name, _)| **name == *function.wit);
            match (own.next(), own.next()) {
                (Some((_, closure)), None) => closures.push(Arc::clone(closure)),
                (None, _) => return Err(here(format!("nothing answers `{}`", function.wit))),
                (Some(_), Some(_)) => return Err(here(format!("two closures answer `{}`", function.wit))),
            }
        }
        Ok(Hosted { definition: Arc::new(definition), closures: closures.into() })
    }
}

/// A capability that this program answers, read and checked.
#[derive(Clone)]
pub struct Hosted {
    /// What policy and guests know of it.
    pub definition: Arc<Definition>,
    closures: Arc<[Arc<Closure>]>,
}

impl Hosted {
    /// Defines its functions.
    ///
    /// # Errors
    /// The engine does not take one.
    pub fn link(&self, instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
        for (at, closure) in self.closures.iter().enumerate() {
            let function = UserFunction { definition: Arc::clone(&self.definition), at };
            let closure = Arc::clone(closure);
            untyped::define(instance, function, move |execution, function, arguments| {
                let answered_by = HostClosure { execution: execution.id(), closure: Arc::clone(&closure) };
                async move { act(&execution, UserCall { function, answered_by }, arguments).await }
            })?;
        }
        Ok(())
    }
}

/// A closure of this program.
struct HostClosure {
    execution: ExecutionId,
    closure: Arc<Closure>,
}

impl AnsweredBy for HostClosure {
    fn class(&self, function: &UserFunction) -> EffectClass {
        match function.definition.effects.get(function.at) {
            Some(WorkEffect::Read) => EffectClass::Read,
            Some(WorkEffect::Idempotent) => EffectClass::Idempotent,
            Some(WorkEffect::Once) | None => EffectClass::Once,
        }
    }
}

impl Effect for UserCall<HostClosure> {
    type Scope = Nothing;
    const OUTSIDE: bool = true;

    async fn act(
        &self,
        permit: &Permit<Nothing>,
        form: &Arguments,
        _: &Outside,
        (): &(),
    ) -> Attempt<Returned, Arguments> {
        let HostClosure { execution, closure } = &self.answered_by;
        let request = Request {
            execution: *execution,
            key: permit.key().map(|key| key.as_str().to_owned()),
            arguments: form.value(),
            function: self.function.clone(),
        };
        let left = permit.deadline().saturating_duration_since(clock::now());
        let answered = match tokio::time::timeout(left, closure(request)).await {
            Ok(answered) => answered,
            Err(_) => return Attempt::Failed(Failure::Expired { sent: true }),
        };
        match returned(self.function.declared(), answered) {
            Ok(json) => Attempt::Done(Returned::of(json)),
            Err(failure) => Attempt::Failed(failure),
        }
    }
}

/// The JSON of what a function returns.
fn returned(function: &Declared, answered: Answered) -> Result<Vec<u8>, Failure> {
    let failed = |text: String| Failure::Failed { text, sent: true };
    match answered {
        Ok(Reply::Json(value)) => {
            untyped::stored(function, &value).map_err(|why| failed(format!("its answer does not fit: {why}")))
        }
        Ok(Reply::Val(value)) => {
            let mut json = Vec::new();
            match &function.result {
                None => json.extend_from_slice(b"null"),
                Some(of) => {
                    wire::write(&value, of, &mut json).ok_or_else(|| failed(format!("its answer is no {of}")))?
                }
            }
            Ok(untyped::ok(function, json))
        }
        Err(CallError::Denied(reason)) => Err(Failure::Ended(crate::Error::Denied(reason))),
        Err(CallError::Failed(text)) => Err(failed(text)),
        Err(CallError::Own(error)) => match &function.error {
            ErrorType::Own(Some(of)) if of.check(&error, "").is_ok() => Ok(untyped::err(&error)),
            _ => Err(failed("its error is none that the function has".into())),
        },
    }
}
