//! What the file of a capability writes for each of its functions: an effect, which the host performs, or an answer that
//! somebody else gives ([`Await`]).
//!
//! It sees what it was called with, what it may reach and the means for that. It cannot see the execution, the journal or
//! the policy: those are the path's ([`perform`](super::perform)), and with them everything that could be forgotten.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use parole_durable::{EffectClass, PromiseId, PromiseRecord, PromiseState, UnixMs};
use parole_policy::{Definition, Denial, Facts, GrantEffect, Looks};
use serde_json::Value;

pub use super::failure::Failure;
use super::permit::{Permit, Scope};
use super::slot::Slot;
use crate::Error;
use crate::backends::Outside;

/// A function of a capability.
pub trait Function: Send + Sync + 'static {
    /// The capability.
    fn definition(&self) -> &Arc<Definition>;
    /// The name that the journal has for it.
    fn name(&self) -> Cow<'static, str>;
    /// What the guest passed.
    type Args: Send + Sync + 'static;
    /// The same in its one form.
    type Form: Form;
    /// What the guest gets if all goes well.
    type Answer: Answer;
    /// What is kept between the calls of one execution; `()`: nothing.
    type Slot: Slot;

    /// JSON of what the guest passed, as it spelt it: what the journal keeps, and a replay compares. An object by
    /// parameter name, in order.
    fn recorded(&self, args: &Self::Args) -> Vec<u8>;

    /// Its effect class with these arguments, as the journal has it.
    fn class(&self, args: &Self::Args) -> EffectClass;

    /// The one form of the arguments, for rules that look at so much of them. It is made once, after a replay has
    /// compared what was recorded.
    ///
    /// # Errors
    /// There is none, or the call is over before it is decided.
    fn form(&self, args: Self::Args, looks: Looks, slot: &Self::Slot) -> Result<Self::Form, Unformed<Self::Answer>>;

    /// Bytes that the guest brings, for [`Effect::count`].
    fn bytes(&self, _: &Self::Args) -> u64 {
        0
    }
}

/// The arguments of a call in their one form: what is decided, judged, asked, approved, noted and acted on.
pub trait Form: Facts + Send + Sync + 'static {
    /// JSON of it, as [`Function::recorded`] has it of what the guest spelt; `None`: the very same.
    fn canonical(&self) -> Option<Vec<u8>> {
        None
    }

    /// All that will be acted on, for a person who is asked; `None`: that JSON.
    fn shown(&self) -> Option<Value> {
        None
    }

    /// What a refusal names as its argument.
    fn argument(&self) -> Option<String> {
        None
    }
}

/// Why a call has no form.
pub enum Unformed<A> {
    /// The policy cannot be asked about it.
    Denied(Formless),
    /// There is nothing to decide: the guest gets this.
    Ended(Result<A, Error>),
}

/// Arguments that no policy can be asked about, because they have no one form.
pub struct Formless {
    /// What the guest wrote.
    pub argument: String,
    /// Why they have none.
    pub denial: Denial,
}

impl Formless {
    /// What the guest wrote has no form.
    pub(crate) fn of<A>(argument: &str) -> impl FnOnce(Denial) -> Unformed<A> {
        move |denial| Unformed::Denied(Formless { argument: argument.to_owned(), denial })
    }
}

/// The ok value of a function, and the form in which the journal keeps it.
pub trait Answer: Send + Sync + Sized + 'static {
    /// What the journal keeps.
    fn encode(&self) -> Vec<u8>;
    /// Reads that again; `None`: it is something else.
    fn decode(bytes: Vec<u8>) -> Option<Self>;
    /// The value that a replay will read, where that may be another one: a guest is given the same both times.
    fn replayed(self, _recorded: &[u8]) -> Self {
        self
    }
}

impl Answer for () {
    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }

    fn decode(_: Vec<u8>) -> Option<Self> {
        Some(())
    }
}

impl Answer for u64 {
    fn encode(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        serde_json::from_slice(&bytes).ok()
    }
}

impl Answer for Vec<u8> {
    fn encode(&self) -> Vec<u8> {
        self.clone()
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        Some(bytes)
    }
}

/// A function that the host performs.
pub trait Effect: Function {
    /// What a grant has to list for it.
    type Scope: Scope;
    /// Whether it leaves the host: then others can see and cancel the execution meanwhile, its output is shown, and the
    /// time of the guest stands still.
    const OUTSIDE: bool;
    /// What an attempt may take when its grant says that it never expires.
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

    /// Its effect class, by what was granted; `begun`: as what an earlier attempt was taken on.
    fn class_under(
        &self,
        _: &Self::Form,
        begun: EffectClass,
        _: &<Self::Scope as Scope>::Reach,
        _: GrantEffect,
    ) -> EffectClass {
        begun
    }

    /// Looks whether there is room for it, before it is taken on.
    ///
    /// # Errors
    /// There is none: the guest gets this.
    fn before(&self, _: &Self::Slot, _: &Permit<Self::Scope>, _: &Self::Form) -> Result<(), Error> {
        Ok(())
    }

    /// Performs it, once.
    fn act(
        &self,
        permit: &Permit<Self::Scope>,
        form: &Self::Form,
        outside: &Outside,
        slot: &Self::Slot,
    ) -> impl Future<Output = Attempt<Self::Answer, Self::Form>> + Send;

    /// Takes note of a call that is over, replayed or live, in the order of the guest.
    fn count(&self, _: &Self::Slot, _bytes: u64, _: &Result<Self::Answer, Error>) {}

    /// Whether an attempt that was cut short leaves something that [`Effect::clear_up`] takes away.
    const LEAVES: bool = false;

    /// Takes away what an attempt that was cut short may have left: the call ends without another one. `key` is its id.
    fn clear_up(&self, _: &<Self::Scope as Scope>::Reach, _key: &PromiseId) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// How one attempt went.
pub enum Attempt<A, F> {
    /// It gave this.
    Done(A),
    /// It gave this, which says that it would do better later: a granted `retry` is used, and this is the answer if
    /// there is none.
    Later(A),
    /// It led to another call, of the same kind, which is decided before it is made; or to one that has no form.
    Redirect(Result<F, Formless>),
    /// It did not work.
    Failed(Failure),
}

/// A function that somebody else answers, through a durable promise.
pub trait Await: Function<Slot = ()> {
    /// When the promise ends by itself, for one that time alone ends; `None`: when the grant says.
    ///
    /// # Errors
    /// The arguments cannot be right: the guest gets this.
    fn timer(&self, _: &Self::Form, _now: UnixMs) -> Result<Option<UnixMs>, Error> {
        Ok(None)
    }

    /// What the guest gets, as the journal keeps it: what somebody has answered.
    ///
    /// # Errors
    /// Somebody said no, or it was canceled or has expired.
    fn read(&self, record: PromiseRecord) -> Result<Vec<u8>, Error> {
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
}

/// When a timer was due that has ended.
pub(crate) fn passed(record: &PromiseRecord) -> Result<UnixMs, Error> {
    match record.state {
        PromiseState::Resolved => Ok(record.timeout_at),
        _ => Err(Error::Canceled),
    }
}
