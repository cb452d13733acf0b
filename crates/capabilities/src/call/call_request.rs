//! A call as it comes to the gate: in its one form.

use parole_policy::Definition;
use std::borrow::Cow;
use std::sync::Arc;

use parole_durable::Digest;
use serde_json::Value;

use super::effect::{Form, Formless};

/// A call at the gate.
pub(crate) struct CallRequest<'c> {
    pub(crate) definition: &'c Arc<Definition>,
    /// What the policy looks at, and what will be acted on; or why the call has no such form.
    pub(crate) form: Result<&'c dyn Form, &'c Formless>,
    /// The same as JSON: what checks in Rust look at, and what digests are of.
    pub(crate) arguments: Cow<'c, [u8]>,
}

impl<'c> CallRequest<'c> {
    /// `recorded`: what the journal has of the arguments.
    pub(super) fn new(
        definition: &'c Arc<Definition>,
        form: Result<&'c dyn Form, &'c Formless>,
        recorded: &'c [u8],
    ) -> Self {
        let canonical = form.ok().and_then(Form::canonical);
        Self { definition, form, arguments: canonical.map_or(Cow::Borrowed(recorded), Cow::Owned) }
    }

    /// All that will be acted on, for a person.
    pub(super) fn shown(&self) -> Value {
        let shown = self.form.ok().and_then(Form::shown);
        shown.unwrap_or_else(|| serde_json::from_slice(&self.arguments).unwrap_or_default())
    }

    /// What makes two calls under one rule, which is about one capability, the same.
    pub(super) fn digest(&self) -> String {
        Digest::of(&self.arguments).to_string()
    }

    /// What a refusal names as its argument.
    pub(super) fn argument(&self) -> Option<String> {
        self.form.map_or_else(|formless| Some(formless.argument.clone()), Form::argument)
    }
}
