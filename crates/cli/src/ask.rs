//! Questions of guests, put to the person at the terminal.
//!
//! A question is asked on a thread of its own. Everything of the guest is inert, wrapped to
//! the width of the terminal and stands behind a bar, so that it cannot pass for our words.

use std::io;
use std::os::unix::net::UnixStream;

use parole_durable::{PromiseRecord, hub::now};
use parole_runtime::question::{ASK, DOUBT};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use unicode_width::UnicodeWidthChar as _;

use crate::terminal::{self, Typed};
use crate::{output, times};

mod decision;
mod editor;

/// More guest text than this is not shown at once, in bytes.
const SHOWN_MAX: usize = 16 << 10;
/// The same in lines of the terminal: what stands above must not scroll away.
const LINES_MAX: usize = 200;
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
pub struct Question {
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
pub fn ask(question: Question) -> io::Result<Asking> {
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

impl Question {
    fn put(&self, withdrawn: &UnixStream) -> Reply {
        terminal::forget_typed();
        output::asks_until(self.record.timeout_at);
        let arguments: Value =
            self.record.param.data.as_deref().and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default();
        let asked = match self.record.capability() {
            ASK | DOUBT => self.decide(withdrawn),
            "approve" => self.approve(text("question"), withdrawn),
            "review" => self.review(text("title"), text("text"), withdrawn),
            _ => self.input(text("prompt"), withdrawn),
        };
        match asked {
            Ok(value) => Reply::Answer(value),
            Err(reply) => reply,
        }
    }

    fn input(&self, prompt: &str, withdrawn: &UnixStream) -> Asked<Value> {
        self.head("asks for a line of text");
        output::err("├");
        self.guest_text(prompt);
        if self.may_skip {
            output::err("(s skips; to answer with a single s use `parole promise resolve`)");
        }
        Ok(Value::from(self.line("> ", withdrawn)?))
    }

    fn approve(&self, question: &str, withdrawn: &UnixStream) -> Asked<Value> {
        self.head("asks for your approval");
        output::err("├");
        self.guest_text(question);
        let skip = if self.may_skip { ", s to skip" } else { "" };
        loop {
            let line = self.line(&format!("yes or no{skip}> "), withdrawn)?;
            match line.trim().to_ascii_lowercase().as_str() {
                "yes" | "approve" => return Ok(Value::from(true)),
                "no" | "deny" => return Ok(Value::from(false)),
                _ => output::err("Type the whole word: yes or no."),
            }
        }
    }

    fn review(&self, title: &str, text: &str, withdrawn: &UnixStream) -> Asked<Value> {
        self.head("asks for a review");
        output::err("├");
        self.guest_text(title);
        output::err("├");
        self.guest_text(text);
        let skip = if self.may_skip { ", s to skip" } else { "" };
        let mut text = text.to_owned();
        let accepted = loop {
            let line = self.line(&format!("accept, edit or refuse{skip}> "), withdrawn)?;
            match line.trim().to_ascii_lowercase().as_str() {
                "accept" => break true,
                "refuse" => break false,
                "edit" => {
                    text = match editor::edit(&text) {
                        Some(Ok(edited)) => edited,
                        Some(Err(why)) => {
                            output::err(&format!("parole: {why}; the text is unchanged"));
                            continue;
                        }
                        None => {
                            output::err(
                                "Type the new text; a line with a single dot ends it. ($EDITOR would be used if it were set.)",
                            );
                            self.lines(withdrawn)?
                        }
                    };
                    self.guest_text(&text);
                }
                _ => output::err("Type the whole word: accept, edit or refuse."),
            }
        };
        let comment = self.line("comment (may be empty)> ", withdrawn)?;
        let comment = (!comment.trim().is_empty()).then_some(comment);
        Ok(json!({ "accepted": accepted, "text": text, "comment": comment }))
    }

    fn lines(&self, withdrawn: &UnixStream) -> Asked<String> {
        let mut lines = Vec::new();
        loop {
            output::prompt("| ");
            match read(withdrawn)? {
                line if line == "." => return Ok(lines.join("\n")),
                line => lines.push(line),
            }
        }
    }

    fn line(&self, prompt: &str, withdrawn: &UnixStream) -> Asked<String> {
        output::prompt(prompt);
        let line = read(withdrawn)?;
        if self.may_skip && line == "s" { Err(Reply::Skip) } else { Ok(line) }
    }

    /// Our own words: who asks, for what, until when.
    fn head(&self, asks: &str) {
        let digest: String = self.asker.component.chars().take(DIGEST_SHOWN).collect();
        let guest = output::cell(&self.asker.guest).into_owned();
        output::err(&format!("\n┌ {guest} ({digest}) {asks}  [{}]", self.record.capability()));
        let deadline = times::deadline(self.record.timeout_at, now());
        output::err(&format!(
            "│ expires {deadline}; elsewhere: parole promise resolve {}",
            output::cell(self.record.id.as_str())
        ));
    }

    fn guest_text(&self, text: &str) {
        let end = text.floor_char_boundary(SHOWN_MAX);
        let lines = wrap(&output::block(&text[..end]), terminal::width().saturating_sub(2));
        for line in lines.iter().take(LINES_MAX) {
            output::err(&format!("│ {line}"));
        }
        if end < text.len() || lines.len() > LINES_MAX {
            output::err(&format!(
                "├ of {} bytes the rest is not shown; all of it: parole promise get {}",
                text.len(),
                output::cell(self.record.id.as_str())
            ));
        }
    }
}

fn read(withdrawn: &UnixStream) -> Asked<String> {
    match terminal::read_line(withdrawn) {
        Ok(Typed::Line(line)) => {
            output::typed();
            Ok(line)
        }
        Ok(Typed::End) => Err(Reply::End),
        Ok(Typed::Withdrawn) => Err(Reply::Withdrawn),
        Err(error) => Err(Reply::Failed(error)),
    }
}

/// Breaks text where the terminal would, so that no guest text stands at the start of a line.
fn wrap(text: &str, width: usize) -> Vec<String> {
    // A tab moves to a stop that we do not know: it is made into blanks.
    let text = text.replace('\t', "    ");
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let (mut part, mut used) = (String::new(), 0);
        for c in line.chars() {
            // Of unknown width: taken as the widest.
            let wide = c.width().map_or(2, |width| if c.is_ascii() { width } else { width.max(1) });
            if used + wide > width.max(8) {
                lines.push(std::mem::take(&mut part));
                used = 0;
            }
            part.push(c);
            used += wide;
        }
        lines.push(part);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn guest_lines_never_reach_the_edge() {
        assert_eq!(wrap("one\n\ntwo", 10), ["one", "", "two"]);
        assert_eq!(wrap("0123456789abc", 10), ["0123456789", "abc"]);
        assert_eq!(wrap("世界世界世", 8), ["世界世界", "世"]);
        assert_eq!(wrap("a\tb", 8), ["a    b"]);
    }
}
