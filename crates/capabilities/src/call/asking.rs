//! What a person is asked about a call, and what comes of the answer: may it be made, and did it happen.

use std::sync::Arc;

use parole_durable::hub::now;
use parole_durable::ids::NEVER;
use parole_durable::journal::Open;
use parole_durable::{Digest, PromiseId, PromiseRecord, PromiseState, Stage, UnixMs};
use parole_policy::{Catalogue, Timeout};

use super::call_request::identity;
use super::gate::DecisionOutcome;
use super::{CallRequest, State};
use crate::call::audit::{self, AuditEvent, Note};
use crate::call::question::{self, Decision, Fate, Question};
use crate::error::json;
use crate::{Error, Stop};

/// What the guest is told where a person said no without a reason.
const NO: &str = "a person said no";

impl State {
    /// What a person has decided about a call.
    pub(super) fn take_decision(
        &mut self,
        open: &mut Open,
        call: &CallRequest<'_>,
        record: &PromiseRecord,
    ) -> Result<DecisionOutcome, Stop> {
        self.same_call(open, call, record)?;
        let by = who(record);
        let mut note = Note { promise: Some(record.id.as_str().into()), by, ..self.verdict(AuditEvent::Deny) };
        note.rule = Question::of(record).and_then(|question| question.rule);
        let denied = |reason: Option<String>| Error::Denied(reason.unwrap_or_else(|| NO.into()));
        let heard = match record.state {
            PromiseState::Resolved => match answer_of(record) {
                Some(answer) if answer.decision == Decision::Deny => {
                    note.rest = answer.rest;
                    Err(denied(answer.reason))
                }
                Some(answer) => {
                    note.verdict = AuditEvent::Approve;
                    note.standing = answer.decision == Decision::Execution;
                    Ok(())
                }
                None => Err(denied(Some("the decision cannot be read".into()))),
            },
            PromiseState::Rejected => {
                let reason = record.value.data.as_deref().and_then(|data| serde_json::from_str(data).ok());
                Err(denied(reason))
            }
            PromiseState::RejectedCanceled => {
                note.verdict = AuditEvent::Cancel;
                Err(Error::Canceled)
            }
            PromiseState::RejectedTimedout | PromiseState::Pending => {
                note.verdict = AuditEvent::Expire;
                Err(Error::Expired)
            }
        };
        if note.standing {
            self.approvals.insert((note.rule.clone().unwrap_or_default(), call.digest()));
        }
        self.refusals.learn(&note, || call.digest());
        self.note(open, call, note);
        Ok(match heard {
            Ok(()) => DecisionOutcome::Yes,
            Err(error) => DecisionOutcome::Ended(Err(error)),
        })
    }

    /// What a person has said came of a call.
    pub(super) fn take_fate(
        &mut self,
        open: &mut Open,
        call: &CallRequest<'_>,
        record: &PromiseRecord,
    ) -> Result<DecisionOutcome, Stop> {
        self.same_call(open, call, record)?;
        let mut note =
            Note { promise: Some(record.id.as_str().into()), by: who(record), ..self.verdict(AuditEvent::Fail) };
        let unknown = || Error::Failed("it may or may not have happened".into());
        let catalogue = Catalogue::new([Arc::clone(call.definition)]);
        let heard = match (record.state, fate_of(record, &catalogue)) {
            (PromiseState::Resolved, Some(Fate::Again)) => {
                note.verdict = AuditEvent::Again;
                DecisionOutcome::Yes
            }
            (PromiseState::Resolved, Some(Fate::Done(value))) => {
                note.verdict = AuditEvent::Done;
                let stored = question::stored((&call.definition.name, open.function()), &value, &catalogue);
                DecisionOutcome::Ended(stored.map_err(|_| unknown()))
            }
            (PromiseState::Resolved, Some(Fate::Fail(text))) => DecisionOutcome::Ended(Err(Error::Failed(text))),
            (PromiseState::RejectedCanceled, _) => {
                note.verdict = AuditEvent::Cancel;
                DecisionOutcome::Ended(Err(Error::Canceled))
            }
            _ => {
                let reason = record.value.data.as_deref().and_then(|data| serde_json::from_str(data).ok());
                DecisionOutcome::Ended(Err(reason.map_or_else(unknown, Error::Failed)))
            }
        };
        self.note(open, call, note);
        Ok(heard)
    }

    /// Makes the promise that asks whether the call may be made.
    pub(super) fn ask(
        &mut self,
        open: &mut Open,
        call: &CallRequest<'_>,
        rule: &str,
        timeout: Option<Timeout>,
    ) -> Result<Result<PromiseId, Error>, Stop> {
        let capability = call.called();
        let text = format!("A guest wants to call `{capability}`. The rule `{rule}` of its policy says: ask.");
        let param = json(&self.question(open, call, text, Some(rule.to_owned())));
        if let Err(error) = self.may_ask(open, param.len()) {
            self.note(open, call, Note { rule: Some(rule.to_owned()), ..self.verdict(AuditEvent::Deny) });
            return Ok(Err(error));
        }
        let deadline = match timeout.unwrap_or(Timeout::After(question::ASK_TIMEOUT_MS)) {
            Timeout::After(ms) => now().saturating_add(ms).min(NEVER),
            Timeout::Never => NEVER,
        };
        let note = Note { rule: Some(rule.to_owned()), ..self.verdict(AuditEvent::Ask) };
        self.put(open, call, (question::ASK, Stage::Asked, note), param, deadline).map(Ok)
    }

    /// Questions hold what the journal has by digest only, so they have the same room once more.
    fn may_ask(&self, open: &Open, bytes: usize) -> Result<(), Error> {
        if bytes > question::ARGUMENTS_MAX {
            return Err(Error::TooLarge(question::ARGUMENTS_MAX as u64));
        }
        let most = self.config.scope.policy.limits.journal;
        if self.asked.saturating_add(bytes as u64) > most {
            return Err(Error::Exhausted(format!("journal: questions of {most} bytes in all")));
        }
        self.may_wait(open)
    }

    /// Makes the promise that asks what came of the call.
    pub(super) fn doubt(&mut self, open: &mut Open, call: &CallRequest<'_>) -> Result<PromiseId, Stop> {
        let capability = call.called();
        let text = format!(
            "A call of `{capability}` was under way when its process ended: it may or may not have happened. \
             Say that it did and what it answered, have it done again, or have it fail."
        );
        let param = json(&self.question(open, call, text, None));
        self.put(open, call, (question::DOUBT, Stage::InDoubt, self.verdict(AuditEvent::Doubt)), param, NEVER)
    }

    /// Records a question about a call. It is durable before anybody is told.
    fn put(
        &mut self,
        open: &mut Open,
        call: &CallRequest<'_>,
        (label, stage, note): (&'static str, Stage, Note),
        param: Vec<u8>,
        deadline: UnixMs,
    ) -> Result<PromiseId, Stop> {
        let round = audit::notes(&open.notes).iter().filter(|earlier| earlier.verdict == note.verdict).count();
        let id = self.config.journal.promise_id(open, label, u32::try_from(round).unwrap_or(u32::MAX));
        let bytes = Some(param.len() as u64);
        self.asked = self.asked.saturating_add(param.len() as u64);
        self.note(open, call, Note { promise: Some(id.as_str().into()), bytes, ..note });
        let record = self.promise_record(id.clone(), open.number, label, param, deadline);
        self.made = Some(Box::new(record.clone()));
        self.config.journal.record(open, stage, Some(record), None, now())?;
        Ok(id)
    }

    fn question(&self, open: &Open, call: &CallRequest<'_>, text: String, rule: Option<String>) -> Question {
        let capability = &*call.definition.name;
        Question {
            text,
            capability: capability.into(),
            function: open.function().into(),
            rule,
            arguments: call.shown(),
            digest: question::digest(&self.config.component, capability, &call.arguments, self.id(), open.number),
            component: self.config.component.to_string(),
            execution: self.id().to_string(),
            step: open.number,
        }
    }

    /// A person has said no to this before: nobody is asked again.
    pub(super) fn refused_before(
        &mut self,
        open: &mut Open,
        call: &CallRequest<'_>,
        rule: String,
        promise: PromiseId,
    ) -> Result<Error, Stop> {
        let record = self.config.hub.promise(&promise)?;
        let by = record.as_ref().and_then(who);
        let reason = record.as_ref().and_then(reason_of).unwrap_or_else(|| NO.into());
        let (rule, promise) = (Some(rule), Some(promise.as_str().to_owned()));
        let note = Note { rule, promise, by, standing: true, ..self.verdict(AuditEvent::Deny) };
        self.note(open, call, note);
        Ok(Error::Denied(reason))
    }

    /// Takes up again what an earlier attempt noted of a call. A note has the digest of its form, unless `arguments` are
    /// that.
    pub(super) fn remember(&mut self, function: &str, notes: &[u8], arguments: &[u8]) {
        for note in audit::notes(notes) {
            self.asked = self.asked.saturating_add(note.bytes.unwrap_or(0));
            let digest = || note.arguments.clone().unwrap_or_else(|| Digest::of(arguments).to_string());
            let call = || identity(function, digest());
            if note.verdict == AuditEvent::Deny {
                self.refusals.learn(&note, call);
            } else if note.standing {
                self.approvals.insert((note.rule.clone().unwrap_or_default(), call()));
            }
        }
    }

    /// The question must be about this very call: a store that was changed does not get one approved for another.
    fn same_call(&self, open: &Open, call: &CallRequest<'_>, record: &PromiseRecord) -> Result<(), Stop> {
        let name = &*call.definition.name;
        let digest =
            |arguments: &[u8]| question::digest(&self.config.component, name, arguments, self.id(), open.number);
        match Question::of(record) {
            Some(question) if is_about(&question, &call.arguments, open.arguments(), digest) => Ok(()),
            _ => Err(Stop::Unreadable(open.number)),
        }
    }
}

/// Whether a question is about the call with this form, which the guest spelt as `given`. An earlier Parole asked about
/// the arguments as they were spelt; they are this call's all the same.
fn is_about(question: &Question, form: &[u8], given: &[u8], digest: impl Fn(&[u8]) -> String) -> bool {
    question.digest == digest(form) || (form != given && question.digest == digest(given))
}

pub(super) fn who(record: &PromiseRecord) -> Option<String> {
    record.value.headers.get("parole:by").cloned()
}

/// Why a person said no to a call, if they said why.
fn reason_of(record: &PromiseRecord) -> Option<String> {
    match record.state {
        PromiseState::Rejected => serde_json::from_str(record.value.data.as_deref()?).ok(),
        _ => answer_of(record)?.reason,
    }
}

fn answer_of(record: &PromiseRecord) -> Option<question::Answer> {
    let value = serde_json::from_str(record.value.data.as_deref()?).ok()?;
    question::answer(&Question::of(record)?, &value).ok()
}

fn fate_of(record: &PromiseRecord, catalogue: &Catalogue) -> Option<Fate> {
    let value = serde_json::from_str(record.value.data.as_deref()?).ok()?;
    question::fate(&Question::of(record)?, &value, catalogue).ok()
}

#[cfg(test)]
mod tests {
    use parole_durable::ExecutionId;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_question_of_an_earlier_program_is_about_the_spelling() {
        let (component, execution) = (Digest::of(b"guest"), ExecutionId::generate());
        let digest = |arguments: &[u8]| question::digest(&component, "read_file", arguments, execution, 7);
        let (form, given) = (br#"{"path":"/data/x"}"#, br#"{"path":"/data/./x"}"#);
        let asked = |digest: String| Question {
            text: String::new(),
            capability: "read_file".into(),
            function: "read_file".into(),
            rule: None,
            arguments: Value::Null,
            digest,
            component: component.to_string(),
            execution: execution.to_string(),
            step: 7,
        };
        let about = |question: &Question| is_about(question, form, given, digest);
        assert!(about(&asked(digest(form))) && about(&asked(digest(given))));
        assert!(!about(&asked(digest(br#"{"path":"/data/y"}"#))));
        // That of another step, capability or execution is none.
        let other = |name, id, step| asked(question::digest(&component, name, given, id, step));
        assert!(!about(&other("read_file", execution, 8)) && !about(&other("write_file", execution, 7)));
        assert!(!about(&other("read_file", ExecutionId::generate(), 7)));
    }
}
