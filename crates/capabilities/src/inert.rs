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

/// Controls (C0 but tab, DEL, C1), the line and paragraph separators, every format character of
/// Unicode (category Cf: they reorder, join or hide), and whatever else is drawn as nothing:
/// fillers, variation selectors and what Unicode keeps free for more of them.
///
/// So a joined emoji is shown in its parts, and one that a variation selector made colourful
/// with that selector written out: a text that can hide nothing is worth more than that.
fn is_harmful(c: char) -> bool {
    match c {
        '\t' => false,
        c if c.is_control() => true,
        '\u{2028}' | '\u{2029}' => true,
        c => is_format(c) || is_invisible(c),
    }
}

/// Category Cf of Unicode 17.
fn is_format(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}'
            | '\u{2066}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}'
    )
}

/// Default_Ignorable_Code_Point of Unicode 17, without what is a format character.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2065}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{e0000}'..='\u{e0fff}'
    )
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
        check("a\u{200d}b\u{fe0f}", "a\\u{200d}b\\u{fe0f}");
        assert_eq!(inert("one\ntwo\r", Lines::Keep), "one\ntwo\\u{d}");
    }

    #[test]
    fn nothing_that_is_drawn_as_nothing_passes() {
        let ranges = [
            0xad..=0xad,
            0x34f..=0x34f,
            0x600..=0x605,
            0x115f..=0x1160,
            0x17b4..=0x17b5,
            0x180b..=0x180f,
            0x200b..=0x200f,
            0x2028..=0x202e,
            0x2060..=0x206f,
            0x3164..=0x3164,
            0xfe00..=0xfe0f,
            0xffa0..=0xffa0,
            0xfff0..=0xfffb,
            0x1bca0..=0x1bca3,
            0x1d173..=0x1d17a,
            0xe0000..=0xe0fff,
        ];
        for code in ranges.into_iter().flatten() {
            let c = char::from_u32(code).unwrap();
            for lines in [Lines::Keep, Lines::Escape] {
                assert_eq!(inert(&c.to_string(), lines), format!("\\u{{{code:x}}}"));
            }
        }
        // Blanks that have a width, letters, marks and emoji stay.
        for c in [' ', '\u{a0}', '\u{2003}', '\u{202f}', '\u{3000}', '가', '\u{301}', 'ا', '\u{fffc}', '\u{fffd}', '❤']
        {
            assert!(matches!(inert(&c.to_string(), Lines::Escape), Cow::Borrowed(_)), "{c:?}");
        }
    }
}
