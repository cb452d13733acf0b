//! Reading values of a policy file, each fault with its place.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

use crate::nearest::{help, quoted};
use crate::{Catalogue, Files, MAX_TIMEOUT_MS, PolicyError, Timeout, Unit, parse_size};

pub(crate) type Key<'t> = Spanned<DeString<'t>>;
pub(crate) type Value<'t> = Spanned<DeValue<'t>>;

/// Where a file is read: the directory of the file and what the host defines.
pub(crate) struct Setting<'s> {
    pub(crate) base: &'s Path,
    pub(crate) catalogue: &'s Catalogue,
    /// Reads the files that it names, if somebody does.
    pub(crate) files: Option<&'s Files<'s>>,
}

/// The text of a policy file, what was found wrong with it, and where its keys stand.
pub(crate) struct Reader {
    text: String,
    /// The byte at which each line starts.
    starts: Vec<usize>,
    faults: Vec<(Range<usize>, String, Option<String>)>,
    /// As in `SecurityPolicy::source`.
    pub(crate) lines: BTreeMap<String, usize>,
    /// The level of the file is wrong, so it says nothing about what else stands there.
    pub(crate) no_level: bool,
}

impl Reader {
    pub(crate) fn new(text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Reader { text: text.to_owned(), starts, faults: Vec::new(), lines: BTreeMap::new(), no_level: false }
    }

    pub(crate) fn fault(&mut self, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.faults.push((span, message.into(), help));
    }

    /// How many faults there are so far.
    pub(crate) fn faults(&self) -> usize {
        self.faults.len()
    }

    /// Everything that was found wrong, in the order of the file, `most` at most.
    pub(crate) fn into_errors(mut self, text: &str, most: usize) -> Vec<PolicyError> {
        self.faults.sort_by_key(|(span, ..)| span.start);
        let error = |(span, message, help): &(Range<usize>, String, Option<String>)| {
            let line = self.line_of(span.start);
            let start = self.starts.get(line - 1).copied().unwrap_or(0);
            let before = text.get(start..span.start).unwrap_or("");
            let column = before.trim_start_matches('\u{feff}').chars().count() + 1;
            PolicyError { message: message.clone(), span: span.clone(), line, column, help: help.clone() }
        };
        self.faults.iter().take(most).map(error).collect()
    }

    /// The line, counted from 1, of a byte of the file.
    fn line_of(&self, byte: usize) -> usize {
        self.starts.partition_point(|start| *start <= byte).max(1)
    }

    /// The bytes of the file behind some bytes of the text that `value` is; all of the value if that can't be told.
    pub(crate) fn inside(&self, value: &Value<'_>, text: &str, at: &Range<usize>) -> Range<usize> {
        let span = value.span();
        let raw = self.text.get(span.clone()).unwrap_or_default();
        match (written(raw, text, at.start), written(raw, text, at.end)) {
            (Some(start), Some(end)) => span.start + start..span.start + end.max(start),
            _ => span,
        }
    }

    /// Remembers where a key stands, for `explain`.
    pub(crate) fn mark(&mut self, key: String, span: &Range<usize>) {
        let line = self.line_of(span.start);
        self.lines.insert(key, line);
    }

    /// A key that isn't known at `place` ("", "limits", "grant.read_file").
    pub(crate) fn unknown_key(&mut self, place: &str, key: &Key<'_>, valid: &[&str]) {
        let name = key.get_ref();
        let whole = if place.is_empty() { name.to_string() } else { format!("{place}.{name}") };
        self.fault(key.span(), format!("unknown key {}", quoted(&whole)), Some(help(name, valid)));
    }

    fn wrong_type(&mut self, place: &str, expected: &str, value: &Value<'_>) {
        let found = type_name(value.get_ref());
        self.fault(value.span(), format!("{} must be {expected}, found {found}", quoted(place)), None);
    }

    pub(crate) fn table<'v, 't>(&mut self, place: &str, value: &'v Value<'t>) -> Option<&'v DeTable<'t>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => {
                self.wrong_type(place, "a table", value);
                None
            }
        }
    }

    pub(crate) fn text<'v>(&mut self, place: &str, value: &'v Value<'_>) -> Option<&'v str> {
        match value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => {
                self.wrong_type(place, "text in quotes", value);
                None
            }
        }
    }

    pub(crate) fn flag(&mut self, place: &str, value: &Value<'_>) -> Option<bool> {
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.wrong_type(place, "true or false", value);
                None
            }
        }
    }

    pub(crate) fn list<'v, 't>(&mut self, place: &str, value: &'v Value<'t>) -> Option<&'v [Value<'t>]> {
        match value.get_ref() {
            DeValue::Array(list) => Some(list),
            _ => {
                self.wrong_type(place, "a list", value);
                None
            }
        }
    }

    /// A number in a unit, in a range.
    pub(crate) fn number(
        &mut self,
        place: &str,
        value: &Value<'_>,
        unit: Unit,
        range: &RangeInclusive<u64>,
    ) -> Option<u64> {
        let number = match (value.get_ref(), unit) {
            (DeValue::Integer(integer), _) => unsigned(integer),
            (DeValue::String(text), Unit::Bytes) => match parse_size(text) {
                Some(bytes) => Some(bytes),
                None => {
                    let help = "write an integer of bytes, or text such as \"64MiB\" (units: B, KiB, MiB, GiB)";
                    self.fault(
                        value.span(),
                        format!("{} is not a size: {}", quoted(place), quoted(text)),
                        Some(help.to_owned()),
                    );
                    return None;
                }
            },
            _ => {
                let help = duration_help(value.get_ref()).filter(|_| unit == Unit::Ms);
                let expected =
                    if unit == Unit::Bytes { "a size, such as \"64MiB\" or an integer of bytes" } else { "an integer" };
                let found = type_name(value.get_ref());
                self.fault(value.span(), format!("{} must be {expected}, found {found}", quoted(place)), help);
                return None;
            }
        };
        if let Some(number) = number.filter(|number| range.contains(number)) {
            return Some(number);
        }
        let (least, most) = (unit.text(*range.start()), unit.text(*range.end()));
        let message = match number {
            Some(number) if number > *range.end() => {
                format!("{} is too large: {most} at most", quoted(place))
            }
            _ => format!("{} is too small: {least} at least", quoted(place)),
        };
        self.fault(value.span(), message, Some(format!("{least} to {most}")));
        None
    }

    /// Milliseconds or `"never"`.
    pub(crate) fn timeout(&mut self, place: &str, value: &Value<'_>) -> Option<Timeout> {
        match value.get_ref() {
            DeValue::String(word) if *word == "never" => Some(Timeout::Never),
            DeValue::String(_) => {
                let help = duration_help(value.get_ref());
                let help = help.or_else(|| Some("an integer of milliseconds, or \"never\"".to_owned()));
                self.fault(
                    value.span(),
                    format!("{} must be an integer or \"never\", found text", quoted(place)),
                    help,
                );
                None
            }
            _ => self.number(place, value, Unit::Ms, &(1..=MAX_TIMEOUT_MS)).map(Timeout::After),
        }
    }
}

/// The byte of a string in a TOML file, quotes included, at which byte `at` of the text that it stands for is
/// written.
fn written(raw: &str, text: &str, at: usize) -> Option<usize> {
    let quotes = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| raw.starts_with(quotes))?;
    let mut place = quotes.len();
    if quotes.len() == 3 {
        let rest = raw.get(place..)?;
        place += if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
    }
    for c in text.get(..at)?.chars() {
        let mut rest = raw.get(place..)?;
        if quotes.starts_with('"') {
            // A backslash at the end of a line takes the white space after it away.
            while let Some(after) = rest.strip_prefix('\\').filter(|after| after.starts_with(char::is_whitespace)) {
                rest = after.trim_start();
            }
            place = raw.len() - rest.len();
        }
        place += if let Some(escape) = rest.strip_prefix('\\').filter(|_| quotes.starts_with('"')) {
            match escape.chars().next()? {
                'x' => 4,
                'u' => 6,
                'U' => 10,
                _ => 2,
            }
        } else if c == '\n' && rest.starts_with("\r\n") {
            2
        } else if rest.starts_with(c) {
            c.len_utf8()
        } else {
            return None;
        };
    }
    Some(place)
}

/// For text that would be a duration on the command line: what to write here.
fn duration_help(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => match text.parse() {
            Ok(Timeout::After(ms)) => Some(format!("write {ms} (milliseconds)")),
            _ => None,
        },
        _ => None,
    }
}

/// An integer of a file: `None` when it is negative, the greatest number when it doesn't fit.
fn unsigned(integer: &DeInteger<'_>) -> Option<u64> {
    match i128::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) if number < 0 => None,
        Ok(number) => Some(u64::try_from(number).unwrap_or(u64::MAX)),
        Err(_) => (!integer.as_str().starts_with('-')).then_some(u64::MAX),
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
