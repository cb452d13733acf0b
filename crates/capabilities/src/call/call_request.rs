//! A call as it comes to the gate: in its one form.

use std::borrow::Cow;
use std::ops::Deref;

use parole_durable::Digest;
use parole_policy::{Arguments, Denial};
use serde_json::Value;

use crate::Entry;

/// A call at the gate.
pub(crate) struct CallRequest<'c> {
    pub(crate) entry: &'static Entry,
    /// What the policy looks at; or why the call has no such form.
    pub(crate) typed: Result<&'c Arguments<'c>, &'c Formless>,
    /// The same as JSON: what checks in Rust look at, and what digests are of.
    pub(crate) arguments: &'c Form<'c>,
    /// All that will be acted on, for a person who is asked; `None`: `arguments`.
    pub(crate) shown: Option<&'c (dyn Fn() -> Value + Sync)>,
}

impl CallRequest<'_> {
    pub(super) fn shown(&self) -> Value {
        self.shown.map_or_else(|| serde_json::from_slice(self.arguments).unwrap_or_default(), |shown| shown())
    }

    /// What makes two calls under one rule, which is about one capability, the same.
    pub(super) fn digest(&self) -> String {
        Digest::of(self.arguments).to_string()
    }

    /// What a refusal names as its argument.
    pub(super) fn argument(&self) -> Option<String> {
        self.typed.map_or_else(|formless| Some(formless.argument.clone()), argument_of)
    }
}

/// The arguments of a call in their one form, as JSON: an object by parameter name, as the journal has it of what
/// the guest spelt.
pub(crate) struct Form<'f>(Cow<'f, [u8]>);

impl<'f> Form<'f> {
    /// That of arguments that cannot be spelt in two ways, or have no form at all: what the journal has.
    pub(crate) fn given(arguments: &'f [u8]) -> Self {
        Form(Cow::Borrowed(arguments))
    }

    /// That of what is decided on.
    pub(crate) fn of(arguments: Vec<u8>) -> Self {
        Form(Cow::Owned(arguments))
    }
}

impl Deref for Form<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Arguments that no policy can be asked about, because they have no one form.
pub(crate) struct Formless {
    /// What the guest wrote.
    pub(crate) argument: String,
    /// Why they have none.
    pub(crate) denial: Denial,
}

fn argument_of(arguments: &Arguments<'_>) -> Option<String> {
    match arguments {
        Arguments::Read { path } | Arguments::Write { path, .. } => Some(path.as_str().into()),
        Arguments::Fetch(request) => Some(format!("{} {}", request.method, request.url.url())),
        Arguments::Connect { url } => Some(url.url().to_string()),
        Arguments::Query { database, .. } => Some((*database).into()),
        _ => None,
    }
}
