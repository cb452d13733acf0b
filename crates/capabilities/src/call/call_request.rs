//! A call as it comes to the gate: in its one form.

use parole_policy::{Definition, WorkEffect};
use std::borrow::Cow;
use std::sync::Arc;

use parole_durable::Digest;
use serde_json::Value;

use super::effect::{Form, Formless};
use super::is_users;

/// A call at the gate.
pub(crate) struct CallRequest<'c> {
    pub(crate) definition: &'c Arc<Definition>,
    /// The function, as the journal names it.
    pub(crate) function: Cow<'static, str>,
    /// What the policy looks at, and what will be acted on; or why the call has no such form.
    pub(crate) form: Result<&'c dyn Form, &'c Formless>,
    /// The same as JSON: what checks in Rust look at, and what digests are of.
    pub(crate) arguments: Cow<'c, [u8]>,
}

impl<'c> CallRequest<'c> {
    /// `recorded`: what the journal has of the arguments.
    pub(super) fn new(
        definition: &'c Arc<Definition>,
        function: Cow<'static, str>,
        form: Result<&'c dyn Form, &'c Formless>,
        recorded: &'c [u8],
    ) -> Self {
        let canonical = form.ok().and_then(Form::canonical);
        Self { definition, function, form, arguments: canonical.map_or(Cow::Borrowed(recorded), Cow::Owned) }
    }

    /// All that will be acted on, for a person.
    pub(super) fn shown(&self) -> Value {
        let shown = self.form.ok().and_then(Form::shown);
        shown.unwrap_or_else(|| serde_json::from_slice(&self.arguments).unwrap_or_default())
    }

    /// What makes two calls under one rule, which is about one capability, the same.
    pub(super) fn digest(&self) -> String {
        identity(&self.function, Digest::of(&self.arguments).to_string())
    }

    /// What a person is told that a guest wants to call.
    pub(super) fn called(&self) -> &str {
        if self.definition.is_users() { &self.function } else { &self.definition.name }
    }

    /// Of a call that workers answer: its function, by its name in WIT, and what doing it again means.
    pub(super) fn work(&self) -> Option<(&str, WorkEffect)> {
        let at = self.definition.functions.iter().position(|own| *own.name == *self.function)?;
        Some((&*self.definition.functions[at].wit, *self.definition.effects.get(at)?))
    }

    /// What a refusal names as its argument.
    pub(super) fn argument(&self) -> Option<String> {
        self.form.map_or_else(|formless| Some(formless.argument.clone()), Form::argument)
    }
}

/// What makes two calls the same that one rule is about: the arguments, and of a capability that users define also the
/// function. Of a built-in one the first function alone is decided.
pub(super) fn identity(function: &str, digest: String) -> String {
    if is_users(function) { format!("{function}:{digest}") } else { digest }
}
