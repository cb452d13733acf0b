//! Questions of guests, put to the person at the terminal.
//!
//! A question is asked on a thread of its own. Everything of the guest is inert, wrapped to
//! the width of the terminal and stands behind a bar, so that it cannot pass for our words.

use std::io;
use std::os::unix::net::UnixStream;

use parole_durable::{PromiseRecord, hub::now};
use parole_policy::Type;
use parole_runtime::CATALOGUE;
use parole_runtime::question::{ASK, DOUBT};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::terminal::{Keyboard, Typed};
use crate::{output, shell, times};
use sheet::Sheet;

mod decision;
mod editor;
mod sheet;

/// Digits of a digest that are shown.
const DIGEST_SHOWN: usize = "sha256:".len() + 12;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The name of the guest.
    pub guest: String,
    /// The digest of its component.
    pub component: String,
}

/// A question.
#[derive(Clone, Debug)]
pub struct Prompt {
    pub asker: Asker,
    pub record: PromiseRecord,
    /// Whether `s` leaves it for later.
    pub may_skip: bool,
}

/// What a person made of it.
#[derive(Debug)]
pub enum Reply {
    /// The value to resolve the promise with.
    Answer(Value),
    /// Later.
    Skip,
    /// Ctrl-D: no more answers.
    End,
    /// It was settled elsewhere meanwhile, or has expired.
    Withdrawn,
    /// The terminal failed.
    Failed(io::Error),
}

/// A question that is being asked. Dropping `open` withdraws it.
pub struct Asking {
    pub record: PromiseRecord,
    pub reply: oneshot::Receiver<Reply>,
    pub open: Option<UnixStream>,
}

/// Asks on a thread of its own.
pub fn ask(question: Prompt) -> io::Result<Asking> {
    let (open, withdrawn) = UnixStream::pair()?;
    let (send, reply) = oneshot::channel();
    let record = question.record.clone();
    std::thread::Builder::new().name("parole-ask".into()).spawn(move || {
        let _ = send.send(question.put(&withdrawn));
    })?;
    Ok(Asking { record, reply, open: Some(open) })
}

/// The inner error is any reply that ends the asking early.
type Asked<T> = Result<T, Reply>;

/// What is said where a word would allow what was not all shown.
const UNSEEN: &str = "Not all of it has been shown. Type `more` to see the rest, or the word and `unseen` behind it (as \
                      in `yes unseen`) to decide without.";

impl Prompt {
    fn put(&self, withdrawn: &UnixStream) -> Reply {
        let mut keyboard = match Keyboard::open(withdrawn) {
            Ok(keyboard) => keyboard,
            Err(error) => return Reply::Failed(error),
        };
        output::asks_until(self.record.timeout_at);
        let arguments: Value =
            self.record.param.data.as_deref().and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
        let capability = CATALOGUE.by_name(self.record.capability());
        let text = |at: usize| {
            let texts = || arguments.as_object().into_iter().flat_map(|all| all.values()).filter_map(Value::as_str);
            match capability.and_then(|own| own.params().get(at)) {
                Some(field) => arguments.get(&*field.name).and_then(Value::as_str).unwrap_or_default(),
                // This program does not know it: what there is.
                None => texts().nth(at).unwrap_or_default(),
            }
        };
        let asked = match capability.and_then(|own| own.answer()) {
            _ if matches!(self.record.capability(), ASK | DOUBT) => self.decide(&mut keyboard),
            Some(Type::Bool) => self.approve(text(0), &mut keyboard),
            Some(Type::Record(_)) => self.review(text(0), text(1), &mut keyboard),
            _ => self.input(text(0), &mut keyboard),
        };
        match asked {
            Ok(value) => Reply::Answer(value),
            Err(reply) => reply,
        }
    }

    fn input(&self, prompt: &str, keyboard: &mut Keyboard<'_>) -> Asked<Value> {
        self.head("asks for a line of text");
        output::err("├");
        Sheet::new(&self.record.id).show(prompt);
        if self.may_skip {
            let resolve = shell::command(&format!("promise resolve {}", self.record.id.as_str()));
            output::err(&format!("(s skips; to answer with a single s: {} --data s)", output::cell(&resolve)));
        }
        let line = line(keyboard.text("> "))?;
        if self.may_skip && line == "s" { Err(Reply::Skip) } else { Ok(Value::from(line)) }
    }

    fn approve(&self, question: &str, keyboard: &mut Keyboard<'_>) -> Asked<Value> {
        let mut sheet = Sheet::new(&self.record.id);
        let show = |sheet: &mut Sheet| {
            self.head("asks for your approval");
            output::err("├");
            sheet.show(question);
        };
        keyboard.draws();
        show(&mut sheet);
        loop {
            let typed = self.word("yes or no", keyboard, &mut sheet, &show)?;
            match typed.strip_suffix(" unseen").unwrap_or(&typed) {
                word @ ("yes" | "approve") if sheet.is_whole() || word != typed => return Ok(Value::from(true)),
                "yes" | "approve" => output::err(UNSEEN),
                "no" | "deny" => return Ok(Value::from(false)),
                _ => output::err("Type the whole word: yes or no."),
            }
        }
    }

    fn review(&self, title: &str, text: &str, keyboard: &mut Keyboard<'_>) -> Asked<Value> {
        let mut sheet = Sheet::new(&self.record.id);
        let show = |text: &str, sheet: &mut Sheet| {
            self.head("asks for a review");
            output::err("├");
            sheet.show(title);
            output::err("├");
            sheet.show(text);
        };
        keyboard.draws();
        show(text, &mut sheet);
        let mut text = text.to_owned();
        let accepted = loop {
            let typed = self.word("accept, edit or refuse", keyboard, &mut sheet, &|sheet| show(&text, sheet))?;
            match typed.strip_suffix(" unseen").unwrap_or(&typed) {
                word @ "accept" if sheet.is_whole() || word != typed => break true,
                "accept" => output::err(UNSEEN),
                "refuse" => break false,
                "edit" => match self.edited(&text, keyboard)? {
                    Some(edited) => {
                        text = edited;
                        // The person has had all of it in hand; what came before it is as it was.
                        Sheet::new(&self.record.id).show(&text);
                        sheet.forget_last();
                    }
                    None => continue,
                },
                _ => output::err("Type the whole word: accept, edit or refuse."),
            }
        };
        let comment = line(keyboard.text("comment (may be empty)> "))?;
        let comment = (!comment.trim().is_empty()).then_some(comment);
        Ok(json!({ "accepted": accepted, "text": text, "comment": comment }))
    }

    /// The text as the person has changed it; none if that did not work, which is said.
    fn edited(&self, text: &str, keyboard: &mut Keyboard<'_>) -> Asked<Option<String>> {
        match keyboard.aside(|| editor::edit(text)).map_err(Reply::Failed)? {
            Some(Ok(edited)) => Ok(Some(edited)),
            Some(Err(why)) => {
                output::err(&format!("parole: {}; the text is unchanged", output::cell(&why)));
                Ok(None)
            }
            None => {
                output::err(
                    "Type the new text; a line with a single dot ends it. ($EDITOR would be used if it were set.)",
                );
                let mut lines = Vec::new();
                loop {
                    match line(keyboard.part("| "))? {
                        line if line == "." => return Ok(Some(lines.join("\n"))),
                        line => lines.push(line),
                    }
                }
            }
        }
    }

    /// A word in lower case; `s` skips where that is possible. Whenever something else was written below the question
    /// it is put again, so that the last thing before the word is ours.
    fn word(
        &self,
        words: &str,
        keyboard: &mut Keyboard<'_>,
        sheet: &mut Sheet,
        show: &dyn Fn(&mut Sheet),
    ) -> Asked<String> {
        let skip = if self.may_skip { ", s to skip" } else { "" };
        let prompt = format!("{words}{skip}> ");
        loop {
            match keyboard.word(&prompt).map_err(Reply::Failed)? {
                Typed::Covered => {
                    output::err("(The question is still open. Here it is again.)");
                    keyboard.draws();
                    sheet.forget();
                    show(sheet);
                }
                typed => match line(Ok(typed))?.trim().to_ascii_lowercase().as_str() {
                    "s" if self.may_skip => return Err(Reply::Skip),
                    "more" => sheet.more(),
                    word => return Ok(word.split_whitespace().collect::<Vec<_>>().join(" ")),
                },
            }
        }
    }

    /// Our own words: who asks, for what, until when.
    fn head(&self, asks: &str) {
        let digest: String = self.asker.component.chars().take(DIGEST_SHOWN).collect();
        let guest = output::cell(&self.asker.guest).into_owned();
        output::err(&format!("\n┌ {guest} ({digest}) {asks}  [{}]", self.record.capability()));
        let deadline = times::deadline(self.record.timeout_at, now());
        let elsewhere = shell::command(&format!("promise resolve {}", self.record.id.as_str()));
        output::err(&format!("│ expires {deadline}; elsewhere: {}", output::cell(&elsewhere)));
    }
}

fn line(typed: io::Result<Typed>) -> Asked<String> {
    match typed {
        Ok(Typed::Line(line)) => Ok(line),
        Ok(Typed::End | Typed::Covered) => Err(Reply::End),
        Ok(Typed::Withdrawn) => Err(Reply::Withdrawn),
        Err(error) => Err(Reply::Failed(error)),
    }
}
