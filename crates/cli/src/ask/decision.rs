//! Decisions about calls: whether one may be made (`ask`), and what came of one (`doubt`).
//!
//! The person sees everything that the guest passed, each part behind a bar, and types a whole word. The
//! answer carries the digest of the very question that was shown.

use std::os::unix::net::UnixStream;

use parole_runtime::question::{self, ASK};
use serde_json::{Value, json};

use super::{Asked, Question, Reply, read};
use crate::{json as strict, output, question as shown};

impl Question {
    pub(super) fn decide(&self, withdrawn: &UnixStream) -> Asked<Value> {
        let Some(call) = question::Question::of(&self.record) else {
            output::err("parole: this question cannot be read: parole promise get shows what is stored");
            return Err(if self.may_skip { Reply::Skip } else { Reply::End });
        };
        let asks = self.record.capability() == ASK;
        self.head(&if asks {
            format!("wants to call {}", call.capability)
        } else {
            format!("called {} when its process died: did it happen?", call.capability)
        });
        output::err(&format!("│ {}", output::cell(&call.text)));
        output::err(&format!("│ {}, call {} of execution {}", call.digest, call.step, output::cell(&call.execution)));
        for part in shown::parts(&call) {
            output::err(&format!("├ {}", output::cell(&part.heading)));
            if !part.text.is_empty() {
                self.guest_text(&part.text);
            }
        }
        output::err("└");
        if asks { self.allow(&call, withdrawn) } else { self.clear_up(&call, withdrawn) }
    }

    fn allow(&self, call: &question::Question, withdrawn: &UnixStream) -> Asked<Value> {
        let answer = |decision: &str| json!({ "decision": decision, "digest": call.digest });
        loop {
            match self.word("once, execution or deny", withdrawn)?.as_str() {
                word @ ("once" | "execution") => return Ok(answer(word)),
                "deny" => {
                    let mut answer = answer("deny");
                    output::prompt("why, for the guest (may be empty)> ");
                    let reason = read(withdrawn)?;
                    if let (Some(answer), false) = (answer.as_object_mut(), reason.trim().is_empty()) {
                        answer.insert("reason".into(), reason.into());
                    }
                    return Ok(answer);
                }
                _ => output::err(
                    "Type the whole word: once (this call), execution (this call, and the very same again in this \
                     execution) or deny.",
                ),
            }
        }
    }

    fn clear_up(&self, call: &question::Question, withdrawn: &UnixStream) -> Asked<Value> {
        loop {
            match self.word("done, again or fail", withdrawn)?.as_str() {
                "done" => {
                    if let Some(value) = self.outcome(call, withdrawn)? {
                        return Ok(json!({ "done": value }));
                    }
                }
                "again" => return Ok(Value::from("again")),
                "fail" => {
                    output::prompt("what the guest is told> ");
                    return Ok(json!({ "fail": read(withdrawn)? }));
                }
                _ => output::err(
                    "Type the whole word: done (it happened, and you know its answer), again (do it once more) or \
                     fail (the guest is told that it failed).",
                ),
            }
        }
    }

    /// The answer that the call gave, typed as JSON until it is one that the call can give; none with an empty line.
    fn outcome(&self, call: &question::Question, withdrawn: &UnixStream) -> Asked<Option<Value>> {
        output::err(&format!("What did {} answer? JSON of its ok value; an empty line goes back.", call.function));
        loop {
            output::prompt("answer> ");
            let line = read(withdrawn)?;
            if line.trim().is_empty() {
                return Ok(None);
            }
            let checked =
                strict::strict(&line).map_err(|error| format!("this is no JSON: {error}")).and_then(|value| {
                    let answer = json!({ "done": value });
                    question::check(&self.record, &answer).unwrap_or(Ok(())).map(|()| value)
                });
            match checked {
                Ok(value) => return Ok(Some(value)),
                Err(why) => output::err(&output::cell(&why)),
            }
        }
    }

    /// A word in lower case; `s` skips where that is possible.
    fn word(&self, words: &str, withdrawn: &UnixStream) -> Asked<String> {
        let skip = if self.may_skip { ", s to skip" } else { "" };
        Ok(self.line(&format!("{words}{skip}> "), withdrawn)?.trim().to_ascii_lowercase())
    }
}
