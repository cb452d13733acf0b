//! The only file that writes to stdout and stderr.
//!
//! Host text and guest text meet here, so everything is made inert on its way to a terminal
//! or a log; only guest output that is piped elsewhere passes as it is.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parole_capabilities::inert::{Lines, inert};
use parole_durable::hub::now;
use parole_durable::ids::{NEVER, UnixMs};
use serde::Serialize;

/// Whoever read our output has gone: `parole ps | head -1`. No fault of ours.
static READER_GONE: AtomicBool = AtomicBool::new(false);
/// Why output was lost, if it was.
static LOST: OnceLock<String> = OnceLock::new();

/// Whether the cursor stands behind a question.
static QUESTION: AtomicBool = AtomicBool::new(false);
/// Whether a question is on the screen, and whether somebody else has written there since it was drawn.
static OPEN: AtomicBool = AtomicBool::new(false);
static COVERED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether this thread is the one that asks.
    static ASKS: Cell<bool> = const { Cell::new(false) };
}

/// When that question expires.
static EXPIRES: AtomicU64 = AtomicU64::new(NEVER);

/// Whether a person can be asked: stdin and stderr are terminals.
pub fn is_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn stdout_is_terminal() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| std::io::stdout().is_terminal())
}

/// Whether something could not be written to stdout, and why. A reader that has gone is no fault.
pub fn lost() -> Option<&'static str> {
    LOST.get().map(String::as_str)
}

/// A line (or more) of a listing.
pub fn out(text: &str) {
    let _ = write_out(&format!("{}\n", inert(text, Lines::Keep)));
}

/// What a guest put out: as it is, but on a terminal. Says whether it was written.
pub fn guest(text: &str) -> bool {
    if stdout_is_terminal() {
        covers();
        write_out(&inert(text, Lines::Keep))
    } else {
        write_out(text)
    }
}

/// One object, on one line. Characters that a terminal would act on are written as `\u` escapes.
pub fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => {
            let _ = write_out(&format!("{}\n", inert_json(&text)));
        }
        Err(error) => {
            let _ = LOST.set(error.to_string());
        }
    }
}

/// A notice, an error, a log record: on stderr.
pub fn err(text: &str) {
    covers();
    let gap = if QUESTION.swap(false, Ordering::Relaxed) { "\n" } else { "" };
    write_err(&format!("{gap}{}\n", inert(text, Lines::Keep)));
}

/// One write, so that the lines of several threads do not mix. Nobody can be told that it failed.
fn write_err(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// The questions from here on are asked until this time.
pub fn asks_until(at: UnixMs) {
    EXPIRES.store(at, Ordering::Relaxed);
}

/// A question is put by this thread. What other threads write covers it.
pub fn question_opens() {
    ASKS.set(true);
    COVERED.store(false, Ordering::SeqCst);
    OPEN.store(true, Ordering::SeqCst);
}

/// It is over.
pub fn question_closes() {
    ASKS.set(false);
    OPEN.store(false, Ordering::SeqCst);
}

/// Whether something else was written below the question: a text that may pass for ours.
pub fn is_covered() -> bool {
    COVERED.load(Ordering::SeqCst)
}

/// The question is drawn once more.
pub fn uncovered() {
    COVERED.store(false, Ordering::SeqCst);
}

fn covers() {
    if OPEN.load(Ordering::SeqCst) && !ASKS.get() {
        COVERED.store(true, Ordering::SeqCst);
    }
}

/// What is typed, shown behind the question. It is made inert by who knows what was typed.
pub fn echo(text: &str) {
    if !text.is_empty() {
        write_err(text);
    }
}

/// A question, with the cursor left behind it.
pub fn prompt(text: &str) {
    QUESTION.store(true, Ordering::Relaxed);
    write_err(&inert(text, Lines::Keep));
}

/// The person has typed a line: the cursor stands below the question.
pub fn typed() {
    QUESTION.store(false, Ordering::Relaxed);
}

/// A question that nobody needs to answer any more; nothing if none is open.
pub fn withdraw_prompt() {
    if QUESTION.load(Ordering::Relaxed) {
        let expired = EXPIRES.load(Ordering::Relaxed) <= now();
        err(if expired { "(expired: nobody answered in time)" } else { "(settled elsewhere)" });
    }
}

/// Replaces the current line of stderr, which is a terminal.
pub fn progress(text: &str) {
    write_err(&format!("\r{}\u{1b}[K", inert(text, Lines::Escape)));
}

/// Says whether it was written.
fn write_out(text: &str) -> bool {
    if READER_GONE.load(Ordering::Relaxed) {
        return false;
    }
    let mut stdout = std::io::stdout().lock();
    let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) else { return true };
    if error.kind() == ErrorKind::BrokenPipe {
        READER_GONE.store(true, Ordering::Relaxed);
    } else if LOST.set(error.to_string()).is_ok() {
        err(&format!("parole: stdout cannot be written: {error}; what could not be shown is shown by a resume"));
    }
    false
}

/// Guest text as one cell, one line.
pub fn cell(text: &str) -> Cow<'_, str> {
    inert(text, Lines::Escape)
}

/// Guest text of several lines.
pub fn block(text: &str) -> Cow<'_, str> {
    inert(text, Lines::Keep)
}

/// The same JSON value, written so that no terminal acts on it: such characters stand in strings only.
fn inert_json(text: &str) -> Cow<'_, str> {
    if matches!(inert(text, Lines::Keep), Cow::Borrowed(_)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    let (mut character, mut units) = ([0; 4], [0; 2]);
    for c in text.chars() {
        if matches!(inert(c.encode_utf8(&mut character), Lines::Keep), Cow::Borrowed(_)) {
            safe.push(c);
        } else {
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_value_and_loses_its_power() {
        let value = "a\u{1b}[2J\u{9b}2J\u{7f}\u{202e}\u{e0041}\r\n\"é";
        let text = serde_json::to_string(value).unwrap_or_default();
        let safe = inert_json(&text);
        assert!(!safe.chars().any(|c| c.is_control() || c == '\u{202e}' || c == '\u{e0041}'), "{safe}");
        assert_eq!(serde_json::from_str::<String>(&safe).ok().as_deref(), Some(value));
    }
}
