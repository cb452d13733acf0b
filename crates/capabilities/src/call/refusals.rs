//! What a person has said no to in an execution: the same call is not put to them again.

use std::collections::HashMap;

use parole_durable::PromiseId;

use crate::call::audit::{AuditEvent, Note};

/// The calls and rules that were refused, each with the promise by which. As many as a person has refused.
#[derive(Default)]
pub(super) struct Refusals {
    /// By rule, and the digest of the arguments in their form.
    calls: HashMap<(String, String), PromiseId>,
    /// Rules of which all is refused from then on.
    rules: HashMap<String, PromiseId>,
}

impl Refusals {
    /// Takes up what a note says; `digest` is asked for where it matters.
    pub(super) fn learn(&mut self, note: &Note, digest: impl FnOnce() -> String) {
        if let (AuditEvent::Deny, Some(rule), Some(promise)) = (note.verdict, &note.rule, &note.promise) {
            let promise = PromiseId::from(promise.as_str());
            if note.rest {
                self.rules.entry(rule.clone()).or_insert_with(|| promise.clone());
            }
            self.calls.entry((rule.clone(), digest())).or_insert(promise);
        }
    }

    /// The promise by which a call that a rule asks about was refused before.
    pub(super) fn of(&self, rule: &str, digest: impl FnOnce() -> String) -> Option<PromiseId> {
        if self.rules.is_empty() && self.calls.is_empty() {
            return None;
        }
        self.rules.get(rule).or_else(|| self.calls.get(&(rule.to_owned(), digest()))).cloned()
    }
}
