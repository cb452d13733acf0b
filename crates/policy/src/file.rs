//! The policy file: one TOML file, read strictly. An unknown key, a wrong type, an entry that doesn't parse is
//! an error with its place and the nearest valid spelling; all errors are reported at once.

use std::ops::Range;
use std::path::Path;

use toml::de::DeTable;
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use crate::file_capability::capabilities;
use crate::file_grants as grants;
use crate::file_rules::rules;
use crate::nearest::quoted;
use crate::reader::{Reader, Setting, Value};
use crate::{Catalogue, Level, LimitKey, Limits, ReadAuthority, ReadWit, SecurityPolicy};

/// The longest policy file, in bytes.
pub const MAX_FILE: usize = 1 << 20;
/// The most errors that are reported for one file.
pub const MAX_ERRORS: usize = 100;

/// What reads the files that a policy names: this crate does not touch files.
pub struct Files<'f> {
    /// Reads certificates of authorities.
    pub authority: &'f ReadAuthority,
    /// Reads WIT.
    pub wit: &'f ReadWit<'f>,
}

/// Something wrong in a policy file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct PolicyError {
    /// What is wrong. Names the key.
    pub message: String,
    /// The bytes of the file that it is about.
    pub span: Range<usize>,
    /// The line, counted from 1.
    pub line: usize,
    /// The character in that line, counted from 1.
    pub column: usize,
    /// The nearest valid spelling, or what is valid.
    pub help: Option<String>,
}

/// One key of the file: its name and what reads it. They are read in this order, because limits start from
/// those of the level.
type TopKey = (&'static str, fn(&mut Reader, &Setting<'_>, &mut SecurityPolicy, &Value<'_>));

const KEYS: [TopKey; 8] = [
    ("level", level),
    ("capability", capabilities),
    ("block", block),
    ("link", link),
    ("async", async_guests),
    ("limits", limits),
    ("grant", grants::grants),
    ("rule", rules),
];

/// Keys of later versions, so that a file for one of them gets a clear answer.
const LATER: [&str; 1] = ["wasi"];

impl SecurityPolicy {
    /// Reads a policy file. `base` is the absolute directory of the file: host paths are relative to it.
    ///
    /// On failure there is at least one error; they stand in the order of the file, [`MAX_ERRORS`] at most.
    ///
    /// Files of certificate authorities stay unread, and those of WIT are missed: see [`SecurityPolicy::parse_with`].
    pub fn parse(toml: &str, base: &Path, catalogue: &Catalogue) -> Result<Self, Vec<PolicyError>> {
        Self::read(toml, &Setting { base, catalogue, files: None })
    }

    /// The same, with the files read that it names, so that what is wrong with one is an error with its place.
    pub fn parse_with(
        toml: &str,
        base: &Path,
        catalogue: &Catalogue,
        files: &Files<'_>,
    ) -> Result<Self, Vec<PolicyError>> {
        Self::read(toml, &Setting { base, catalogue, files: Some(files) })
    }

    fn read(toml: &str, setting: &Setting<'_>) -> Result<Self, Vec<PolicyError>> {
        if toml.len() > MAX_FILE {
            let message = format!("the file is over {MAX_FILE} bytes");
            return Err(vec![PolicyError { message, span: 0..0, line: 1, column: 1, help: None }]);
        }
        let mut reader = Reader::new(toml);
        let mut policy = SecurityPolicy::new(Level::default());
        if let Some(root) = document(&mut reader, toml) {
            walk(&mut reader, setting, &mut policy, &root);
        }
        policy.source.lines = std::mem::take(&mut reader.lines);
        let errors = reader.into_errors(toml, MAX_ERRORS);
        if errors.is_empty() { Ok(policy) } else { Err(errors) }
    }
}

/// The tables of the file, unless its syntax is broken. A key that stands twice is no broken syntax.
fn document<'t>(reader: &mut Reader, text: &'t str) -> Option<DeTable<'t>> {
    if let Some(line) = too_deep(text) {
        reader.fault(line, "the keys of this file have too many dots", None);
        return None;
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut sound = true;
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        if error.message() == "duplicate key" {
            let key = text.get(span.clone()).unwrap_or_default();
            reader.fault(span, format!("key {} stands twice", quoted(key)), None);
        } else {
            sound = false;
            reader.fault(span, error.message(), None);
        }
    }
    sound.then(|| root.into_inner())
}

/// The line at which there are over [`MAX_KEY_DOTS`] dots in keys.
///
/// The parser bounds brackets and the dots of one key at 80 each, but 80 inline tables with 80 dots each make a
/// tree that overflows the stack when it is dropped. The dots of a key have a `=` after them on their line, so
/// the dots before the last `=` of each line, added up, are never fewer than the dots of nested keys. Dots and `=` in
/// texts and comments are none: the parser's own tokens say which are.
fn too_deep(text: &str) -> Option<Range<usize>> {
    let (mut dots, mut on_line) = (0, 0);
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::Dot => on_line += 1,
            TokenKind::Equals => {
                dots += std::mem::take(&mut on_line);
                if dots > MAX_KEY_DOTS {
                    let at = token.span().start();
                    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
                    return Some(start..text[at..].find('\n').map_or(text.len(), |end| at + end));
                }
            }
            TokenKind::Newline => on_line = 0,
            _ => {}
        }
    }
    None
}

/// See [`too_deep`].
const MAX_KEY_DOTS: usize = 1_000;

/// Reads every key.
fn walk(reader: &mut Reader, setting: &Setting<'_>, policy: &mut SecurityPolicy, root: &DeTable<'_>) {
    for (name, read) in KEYS {
        if let Some((key, value)) = root.get_key_value(name) {
            let faults = reader.faults();
            let catalogue = policy.catalogue(setting.catalogue).into_owned();
            read(reader, &Setting { catalogue: &catalogue, ..*setting }, policy, value);
            if reader.faults() == faults {
                reader.mark(name.to_owned(), &key.span());
            }
        }
    }
    if let Some(value) = root.get("grant").filter(|_| !reader.no_level) {
        let catalogue = policy.catalogue(setting.catalogue).into_owned();
        let setting = &Setting { catalogue: &catalogue, ..*setting };
        grants::excluded(reader, setting, policy, value);
    }
    for key in root.keys() {
        let name = key.get_ref().as_ref();
        if LATER.contains(&name) {
            let message = format!("key {} is not known to this version of Parole yet", quoted(name));
            reader.fault(key.span(), message, None);
        } else if !KEYS.iter().any(|(known, _)| *known == name) {
            reader.unknown_key("", key, &KEYS.map(|(known, _)| known));
        }
    }
}

fn level(reader: &mut Reader, _: &Setting<'_>, policy: &mut SecurityPolicy, value: &Value<'_>) {
    reader.no_level = true;
    let Some(word) = reader.text("level", value) else {
        return;
    };
    match word.parse::<Level>() {
        Ok(level) => {
            reader.no_level = false;
            policy.level = level;
            policy.limits = Limits::of(level);
        }
        Err(unknown) => reader.fault(value.span(), unknown.to_string(), Some(unknown.help())),
    }
}

fn block(reader: &mut Reader, setting: &Setting<'_>, policy: &mut SecurityPolicy, value: &Value<'_>) {
    let Some(list) = reader.list("block", value) else {
        return;
    };
    for entry in list {
        let Some(name) = reader.text("block", entry) else {
            continue;
        };
        if let Some((capability, function)) = grants::part(reader, setting, name, entry.span()) {
            let name = function.map_or_else(|| capability.name.to_string(), |own| format!("{}.{own}", capability.name));
            reader.mark(format!("block.{name}"), &entry.span());
            policy.block.insert(name);
        }
    }
}

fn link(reader: &mut Reader, setting: &Setting<'_>, policy: &mut SecurityPolicy, value: &Value<'_>) {
    let Some(table) = reader.table("link", value) else {
        return;
    };
    for (key, value) in table.iter() {
        if key.get_ref() != "denied" {
            reader.unknown_key("link", key, &["denied"]);
            continue;
        }
        for entry in reader.list("link.denied", value).unwrap_or_default() {
            let Some(name) = reader.text("link.denied", entry) else {
                continue;
            };
            let Some(full) = denied_name(reader, setting, name, entry) else {
                continue;
            };
            if policy.block.contains(&full) {
                let help = Some(format!("remove `{full}` from one of them"));
                reader.fault(entry.span(), format!("link.denied: `{full}` is in `block` as well"), help);
            }
            reader.mark(format!("link.denied.{full}"), &entry.span());
            policy.link_denied.insert(full);
        }
    }
}

/// The full name of an entry: that of a capability, or of an interface that nobody defines.
fn denied_name(reader: &mut Reader, setting: &Setting<'_>, name: &str, entry: &Value<'_>) -> Option<String> {
    if !name.contains(':') {
        return grants::capability(reader, setting, name, entry.span()).map(|own| own.name.to_string());
    }
    let full = crate::link::denied_name(setting.catalogue, name);
    full.map_err(|why| reader.fault(entry.span(), format!("link.denied: {}: {why}", quoted(name)), None)).ok()
}

fn async_guests(reader: &mut Reader, _: &Setting<'_>, policy: &mut SecurityPolicy, value: &Value<'_>) {
    policy.async_guests = reader.flag("async", value).unwrap_or(false);
}

fn limits(reader: &mut Reader, _: &Setting<'_>, policy: &mut SecurityPolicy, value: &Value<'_>) {
    let Some(table) = reader.table("limits", value) else {
        return;
    };
    for (key, value) in table.iter() {
        let Some(known) = LimitKey::ALL.iter().find(|known| known.name == key.get_ref()) else {
            let valid: Vec<&str> = LimitKey::ALL.iter().map(|known| known.name).collect();
            reader.unknown_key("limits", key, &valid);
            continue;
        };
        let place = format!("limits.{}", known.name);
        if let Some(number) = reader.number(&place, value, known.unit, &known.range) {
            known.set(&mut policy.limits, number);
            policy.source.own_limits.insert(known.name);
        }
        reader.mark(place, &key.span());
    }
}
