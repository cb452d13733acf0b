//! A line while it is typed: what the terminal itself does in its own mode, without its limit.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar as _;

use super::mode::Keys;
use crate::{lines, output};

/// What keys have come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The line goes on.
    More,
    /// It is whole.
    Line,
    /// Ctrl-D at its start.
    End,
}

/// A line that is being typed.
pub struct Line {
    keys: Keys,
    bytes: Vec<u8>,
    /// What each erase takes back: bytes and columns.
    units: Vec<(u8, u8)>,
    /// The beginning of a character.
    partial: Vec<u8>,
    /// The next key is taken as it is.
    literal: bool,
    /// Keys for which there was no room.
    lost: usize,
    /// What is to be shown.
    echo: String,
}

impl Line {
    pub fn new(keys: Keys) -> Self {
        let (bytes, units, partial) = (Vec::new(), Vec::new(), Vec::new());
        Self { keys, bytes, units, partial, literal: false, lost: 0, echo: String::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.partial.is_empty()
    }

    /// Takes keys up to the end of the line. Gives how many were taken.
    pub fn push(&mut self, keys: &[u8]) -> (Pushed, usize) {
        for (key, taken) in keys.iter().zip(1..) {
            let pushed = self.key(*key);
            if pushed != Pushed::More {
                return (pushed, taken);
            }
        }
        (Pushed::More, keys.len())
    }

    /// Whether these keys, at the start of a line, say that there are no more answers.
    pub fn ends(&self, keys: &[u8]) -> bool {
        let is_end = |key: &u8| *key == self.keys.end && *key != 0;
        keys.first().is_some_and(is_end)
            || keys.windows(2).any(|pair| matches!(pair[0], b'\n' | b'\r') && is_end(&pair[1]))
    }

    fn key(&mut self, key: u8) -> Pushed {
        if std::mem::take(&mut self.literal) {
            self.add(key);
            return Pushed::More;
        }
        match key {
            b'\n' | b'\r' => {
                for byte in std::mem::take(&mut self.partial) {
                    self.unit(&[byte], &format!("\\x{byte:02x}"));
                }
                self.echo.push('\n');
                return Pushed::Line;
            }
            0x08 | 0x7f => self.erase(),
            0 => self.add(key),
            key if key == self.keys.end => {
                if self.is_empty() {
                    return Pushed::End;
                }
            }
            key if key == self.keys.erase => self.erase(),
            key if key == self.keys.erase_line => while self.erase_one() {},
            key if key == self.keys.erase_word => {
                let blank = |line: &Self| line.bytes.last().is_some_and(u8::is_ascii_whitespace);
                while blank(self) && self.erase_one() {}
                while !blank(self) && self.erase_one() {}
            }
            key if key == self.keys.literal => self.literal = true,
            key => self.add(key),
        }
        Pushed::More
    }

    fn add(&mut self, key: u8) {
        self.partial.push(key);
        while !self.partial.is_empty() {
            let length = match std::str::from_utf8(&self.partial) {
                Ok(text) => {
                    let (bytes, shown) = (text.as_bytes().to_vec(), shown(text));
                    self.partial.clear();
                    self.unit(&bytes, &shown);
                    return;
                }
                Err(error) => match error.error_len() {
                    Some(length) => length,
                    // The character goes on.
                    None => return,
                },
            };
            for byte in self.partial.drain(..length).collect::<Vec<_>>() {
                self.unit(&[byte], &format!("\\x{byte:02x}"));
            }
        }
    }

    /// One more character, or a byte that is none.
    fn unit(&mut self, bytes: &[u8], shown: &str) {
        if self.lost > 0 || self.bytes.len() + bytes.len() > lines::LINE_MAX {
            self.lost += bytes.len();
            return;
        }
        self.bytes.extend_from_slice(bytes);
        let columns = shown.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>();
        let narrow = |number| u8::try_from(number).unwrap_or(u8::MAX);
        self.units.push((narrow(bytes.len()), narrow(columns)));
        self.echo.push_str(shown);
    }

    fn erase(&mut self) {
        if self.partial.is_empty() {
            self.erase_one();
        } else {
            self.partial.clear();
        }
    }

    fn erase_one(&mut self) -> bool {
        self.partial.clear();
        self.lost = 0;
        let Some((bytes, columns)) = self.units.pop() else { return false };
        self.bytes.truncate(self.bytes.len().saturating_sub(usize::from(bytes)));
        for _ in 0..columns {
            self.echo.push_str("\u{8} \u{8}");
        }
        true
    }

    /// What the person is to see of the keys since this was asked last.
    pub fn echo(&mut self) -> String {
        let echo = std::mem::take(&mut self.echo);
        if self.keys.echo { echo } else { echo.chars().filter(|c| *c == '\n').collect() }
    }

    /// All that the person has typed of it.
    pub fn shown(&self) -> String {
        if self.keys.echo { shown(&String::from_utf8_lossy(&self.bytes)) } else { String::new() }
    }

    /// The line, if it is a text. The error is a sentence.
    pub fn text(&self) -> Result<String, String> {
        if self.lost > 0 {
            return Err(format!("That was longer than {} bytes, the longest line that is taken.", lines::LINE_MAX));
        }
        String::from_utf8(self.bytes.clone()).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let byte = self.bytes.get(at).copied().unwrap_or_default();
            format!("That is not UTF-8 text (byte {}, \\x{byte:02x}): the terminal sends another encoding.", at + 1)
        })
    }
}

/// As a terminal shows what is typed: Ctrl-A as `^A`, and nothing that acts on it.
fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push_str("    "),
            '\0'..='\u{1f}' => {
                let _ = write!(out, "^{}", char::from(c as u8 + b'@'));
            }
            c => out.push_str(&output::cell(c.encode_utf8(&mut [0; 4]))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        let keys = Keys { erase: 0x7f, erase_word: 0x17, erase_line: 0x15, end: 4, literal: 0x16, ..Keys::default() };
        Line::new(Keys { echo: true, ..keys })
    }

    fn typed(keys: &[u8]) -> (Pushed, Result<String, String>) {
        let mut line = line();
        let (pushed, _) = line.push(keys);
        (pushed, line.text())
    }

    #[test]
    fn a_line_is_edited_as_the_terminal_would() {
        for (keys, text) in [
            (&b"Ada\n"[..], "Ada"),
            (b"Adam\x7f\r", "Ada"),
            ("Zoë\u{7f}e\n".as_bytes(), "Zoe"),
            ("世界\u{8}\n".as_bytes(), "世"),
            (b"one two \x17x\n", "one x"),
            (b"one two\x15three\n", "three"),
            (b"a\x16\x04b\n", "a\u{4}b"),
            (b"a\x04b\n", "ab"),
            (b"\x7f\x7f\n", ""),
        ] {
            assert_eq!(typed(keys), (Pushed::Line, Ok(text.to_owned())), "{keys:?}");
        }
        assert_eq!(typed(b"\x04").0, Pushed::End);
        assert_eq!(typed(b"Ada").0, Pushed::More);
        assert_eq!(line().push(b"one\ntwo\n"), (Pushed::Line, 4));
    }

    #[test]
    fn a_character_may_come_in_pieces() {
        let mut line = line();
        for byte in "é€😀\n".as_bytes() {
            line.push(&[*byte]);
        }
        assert_eq!(line.text().as_deref(), Ok("é€😀"));
        assert_eq!(line.echo(), "é€😀\n");
    }

    #[test]
    fn what_is_no_text_and_what_is_too_long_is_refused_with_words() {
        let error = typed(b"Ren\xe9\n").1.unwrap_err();
        assert!(error.contains("UTF-8") && error.contains("byte 4") && error.contains("\\xe9"), "{error}");
        assert!(typed(b"\xe2\x82\n").1.is_err());
        // Taken back, it is no fault.
        assert_eq!(typed(b"Ren\xe9\x7fe\n").1.as_deref(), Ok("Rene"));
        let mut long = vec![b'a'; lines::LINE_MAX];
        long.push(b'\n');
        assert_eq!(typed(&long).1.map(|text| text.len()), Ok(lines::LINE_MAX));
        long.insert(0, b'a');
        assert!(typed(&long).1.unwrap_err().contains("longer"));
    }

    #[test]
    fn nothing_typed_acts_on_the_terminal() {
        let mut line = line();
        line.push("\u{1b}[2J\u{9b}2J\u{202e}\t\u{7}".as_bytes());
        let echo = line.echo();
        assert!(!echo.chars().any(|c| c.is_control() || c == '\u{202e}'), "{echo:?}");
        let mut hidden = line_without_echo();
        hidden.push(b"secret\n");
        assert_eq!(hidden.echo(), "\n");
    }

    fn line_without_echo() -> Line {
        Line::new(Keys::default())
    }
}
