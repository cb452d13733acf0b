//! Guest text made inert: the one place between a guest and a terminal or a text log.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Replaces every character that could move a cursor, start an escape sequence, reorder
/// text or hide it by a visible escape such as `\u{1b}`. Tabs stay, and line ends too where
/// `lines` says so: a record of a log must stay one line.
#[must_use]
pub fn inert(text: &str, lines: Lines) -> Cow<'_, str> {
    let harmful = |c: char| is_harmful(c) && !(c == '\n' && lines == Lines::Keep);
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if !harmful(c) {
            out.push(c);
        } else if c == '\n' {
            out.push_str("\\n");
        } else {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
    }
    Cow::Owned(out)
}

/// What becomes of line ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lines {
    /// They stay: text of several lines, on a terminal.
    Keep,
    /// They are escaped: one record, one line.
    Escape,
}

/// Controls (C0 but tab, DEL, C1), and the format characters of Unicode (category Cf) that
/// reorder, join or hide, with the line and paragraph separators and the tag characters.
fn is_harmful(c: char) -> bool {
    match c {
        '\t' => false,
        c if c.is_control() => true,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_text_is_not_copied() {
        assert!(matches!(inert("Grüße, 世界\t\u{1f600}\n", Lines::Keep), Cow::Borrowed(_)));
    }

    #[test]
    fn every_control_and_direction_character_is_shown_as_text() {
        for code in (0..0x20).chain(0x7f..0xa0) {
            let Some(c) = char::from_u32(code) else { continue };
            let shown = inert(&c.to_string(), Lines::Escape).into_owned();
            if c != '\t' {
                assert!(!shown.chars().any(char::is_control), "{code:x} became {shown:?}");
            }
        }
        let check = |text: &str, expect: &str| assert_eq!(inert(text, Lines::Escape), expect);
        check("\u{1b}[2J", "\\u{1b}[2J");
        check("a\r\u{8}b", "a\\u{d}\\u{8}b");
        check("\u{9b}2J", "\\u{9b}2J");
        check("pay \u{202e}001", "pay \\u{202e}001");
        check("one\ntwo", "one\\ntwo");
        assert_eq!(inert("one\ntwo\r", Lines::Keep), "one\ntwo\\u{d}");
    }
}
