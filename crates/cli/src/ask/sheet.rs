//! Guest text behind a bar, a page at a time, and whether all of it was shown.

use std::collections::VecDeque;

use parole_durable::PromiseId;
use unicode_width::UnicodeWidthChar as _;

use crate::{output, shell, terminal};

/// More guest text than this is not shown at once, in bytes.
const SHOWN_MAX: usize = 16 << 10;
/// The same in lines of a terminal that does not say how high it is.
const LINES_MAX: usize = 200;
/// Lines of a question that are not guest text: who asks, headings, the prompt.
const FRAME: usize = 12;
/// Lines of guest text that are shown however low the terminal is.
const LINES_MIN: usize = 8;

/// How many lines of guest text are shown at once: what stands above must not scroll away.
fn room() -> usize {
    match terminal::height() {
        0 => LINES_MAX,
        rows => rows.saturating_sub(FRAME).clamp(LINES_MIN, LINES_MAX),
    }
}

/// What a person was shown of a question.
pub struct Sheet {
    promise: String,
    /// How many texts there are.
    texts: usize,
    /// Lines that the page has room for.
    room: usize,
    /// Lines that were not shown yet, text by text, each with its number.
    rest: VecDeque<(usize, VecDeque<String>)>,
}

impl Sheet {
    pub fn new(promise: &PromiseId) -> Self {
        Self { promise: promise.as_str().to_owned(), texts: 0, room: room(), rest: VecDeque::new() }
    }

    /// Whether nothing was left out.
    pub fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }

    /// All of it is to be shown from its start.
    pub fn forget(&mut self) {
        self.texts = 0;
        self.room = room();
        self.rest.clear();
    }

    /// What was left out of the last text is not asked about any more.
    pub fn forget_last(&mut self) {
        self.rest.retain(|(text, _)| *text != self.texts);
    }

    /// Shows a text, or its first page.
    pub fn show(&mut self, text: &str) {
        self.texts += 1;
        let bytes = text.len();
        let mut lines = wrap(&output::block(text), terminal::width().saturating_sub(2)).into();
        self.room = self.room.saturating_sub(page(&mut lines, self.room));
        if !lines.is_empty() {
            let get = shell::command(&format!("promise get {}", self.promise));
            output::err(&format!("├ of {bytes} bytes the rest is not shown; all of it: {}", output::cell(&get)));
            self.rest.push_back((self.texts, lines));
        }
    }

    /// Shows the next page of what was left out.
    pub fn more(&mut self) {
        let Some((text, mut lines)) = self.rest.pop_front() else {
            output::err("(All of it has been shown.)");
            return;
        };
        output::err("├ …");
        page(&mut lines, room());
        if !lines.is_empty() {
            output::err(&format!("├ {} more lines", lines.len()));
            self.rest.push_front((text, lines));
        } else if self.rest.is_empty() {
            output::err("└ That was all.");
        }
    }
}

/// Shows as much as there is room for, and says how many lines that were.
fn page(lines: &mut VecDeque<String>, room: usize) -> usize {
    let (mut bytes, mut shown) = (0, 0);
    while shown < room && bytes < SHOWN_MAX {
        let Some(line) = lines.pop_front() else { break };
        bytes += line.len();
        shown += 1;
        output::err(&format!("│ {line}"));
    }
    shown
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
    use parole_durable::PromiseId;

    use super::{LINES_MAX, Sheet, wrap};

    #[test]
    fn what_was_left_out_of_one_text_is_not_seen_with_another() {
        let mut sheet = Sheet::new(&PromiseId::from("review:x"));
        let long = "line\n".repeat(LINES_MAX + 1);
        for title in ["short", &long] {
            sheet.forget();
            sheet.show(title);
            sheet.show(&long);
            assert!(!sheet.is_whole());
            sheet.forget_last();
            assert_eq!(sheet.is_whole(), title == "short");
        }
        sheet.more();
        assert!(sheet.is_whole());
    }

    #[test]
    fn guest_lines_never_reach_the_edge() {
        assert_eq!(wrap("one\n\ntwo", 10), ["one", "", "two"]);
        assert_eq!(wrap("0123456789abc", 10), ["0123456789", "abc"]);
        assert_eq!(wrap("世界世界世", 8), ["世界世界", "世"]);
        assert_eq!(wrap("a\tb", 8), ["a    b"]);
    }
}
