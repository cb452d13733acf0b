//! Decisions about calls: whether one may be made (`ask`), and what came of one (`doubt`).
//!
//! The person sees everything that the guest passed, each part behind a bar, and types a whole word. The
//! answer carries the digest of the very question that was shown.

use parole_runtime::CATALOGUE;
use parole_runtime::question::{self, ASK};
use serde_json::{Value, json};

use super::{Asked, Prompt, Reply, Sheet, UNSEEN, line};
use crate::terminal::Keyboard;
use crate::{json as strict, output, question as shown, shell};

impl Prompt {
    pub(super) fn decide(&self, keyboard: &mut Keyboard<'_>) -> Asked<Value> {
        let Some(call) = question::Question::of(&self.record) else {
            let get = shell::command(&format!("promise get {}", self.record.id.as_str()));
            output::err(&format!("parole: this question cannot be read: {} shows what is stored", output::cell(&get)));
            return Err(if self.may_skip { Reply::Skip } else { Reply::End });
        };
        let mut sheet = Sheet::new(&self.record.id);
        keyboard.draws();
        self.show(&call, &mut sheet);
        if self.record.capability() == ASK {
            self.allow(&call, keyboard, &mut sheet)
        } else {
            self.clear_up(&call, keyboard, &mut sheet)
        }
    }

    /// Puts the whole call on the screen.
    fn show(&self, call: &question::Question, sheet: &mut Sheet) {
        let asks = self.record.capability() == ASK;
        self.head(&if asks {
            format!("wants to call {}", call.capability)
        } else {
            format!("called {} when its process died: did it happen?", call.capability)
        });
        output::err(&format!("│ {}", output::cell(&call.text)));
        output::err(&format!("│ {}, call {} of execution {}", call.digest, call.step, output::cell(&call.execution)));
        for part in shown::parts(call) {
            output::err(&format!("├ {}", output::cell(&part.heading)));
            if !part.text.is_empty() {
                sheet.show(&part.text);
            }
        }
        let rule = output::cell(call.rule.as_deref().unwrap_or_default());
        if asks {
            output::err(&format!(
                "└ (deny all: no to this and to whatever else the rule `{rule}` asks in this execution)"
            ));
        } else {
            output::err("└");
        }
    }

    fn allow(&self, call: &question::Question, keyboard: &mut Keyboard<'_>, sheet: &mut Sheet) -> Asked<Value> {
        loop {
            let typed =
                self.word("once, execution or deny", keyboard, sheet, &|sheet: &mut Sheet| self.show(call, sheet))?;
            match typed.strip_suffix(" unseen").unwrap_or(&typed) {
                word @ ("once" | "execution") if sheet.is_whole() || word != typed => {
                    return Ok(json!({ "decision": word, "digest": call.digest }));
                }
                "once" | "execution" => output::err(UNSEEN),
                "deny" => return self.deny(call, false, keyboard),
                "deny all" | "deny rest" | "deny the rest" => return self.deny(call, true, keyboard),
                _ => output::err(
                    "Type the whole word: once (this call), execution (this call, and the very same again in this \
                     execution), deny (this call, and the very same again) or deny all (whatever this rule asks in \
                     this execution).",
                ),
            }
        }
    }

    fn deny(&self, call: &question::Question, rest: bool, keyboard: &mut Keyboard<'_>) -> Asked<Value> {
        let reason = line(keyboard.text("why, for the guest (may be empty)> "))?;
        let mut answer = json!({ "decision": "deny", "digest": call.digest });
        if let Some(answer) = answer.as_object_mut() {
            if !reason.trim().is_empty() {
                answer.insert("reason".into(), reason.into());
            }
            if rest {
                answer.insert("rest".into(), true.into());
            }
        }
        Ok(answer)
    }

    fn clear_up(&self, call: &question::Question, keyboard: &mut Keyboard<'_>, sheet: &mut Sheet) -> Asked<Value> {
        loop {
            let typed =
                self.word("done, again or fail", keyboard, sheet, &|sheet: &mut Sheet| self.show(call, sheet))?;
            match typed.strip_suffix(" unseen").unwrap_or(&typed) {
                "done" => {
                    if let Some(value) = self.outcome(call, keyboard)? {
                        return Ok(json!({ "done": value }));
                    }
                }
                word @ "again" if sheet.is_whole() || word != typed => return Ok(Value::from("again")),
                "again" => output::err(UNSEEN),
                "fail" => return Ok(json!({ "fail": line(keyboard.text("what the guest is told> "))? })),
                _ => output::err(
                    "Type the whole word: done (it happened, and you know its answer), again (do it once more) or \
                     fail (the guest is told that it failed).",
                ),
            }
        }
    }

    /// The answer that the call gave, typed as JSON until it is one that the call can give; none with an empty line.
    fn outcome(&self, call: &question::Question, keyboard: &mut Keyboard<'_>) -> Asked<Option<Value>> {
        output::err(&format!("What did {} answer? JSON of its ok value; an empty line goes back.", call.function));
        loop {
            let line = line(keyboard.text("answer> "))?;
            if line.trim().is_empty() {
                return Ok(None);
            }
            let checked =
                strict::strict(&line).map_err(|error| format!("this is no JSON: {error}")).and_then(|value| {
                    let answer = json!({ "done": value });
                    question::check(&self.record, &answer, &CATALOGUE).unwrap_or(Ok(())).map(|()| value)
                });
            match checked {
                Ok(value) => return Ok(Some(value)),
                Err(why) => output::err(&output::cell(&why)),
            }
        }
    }
}
