//! A call that a person has typed: for the question what a policy would say to it.

use std::iter::Copied;
use std::slice::Iter;
use std::sync::Arc;

use crate::nearest::quoted;
use crate::schema::rule_name;
use crate::{Definition, Denial, Fact, Facts, Field, Fields, GuestPath, Looks, Resource, ScopeKind, Target, Type};

/// Contents that a rule is shown are made up to this size.
const CONTENTS_MAX: u64 = 64 << 20;

/// A call as somebody typed it, in its one form.
#[derive(Debug, Default)]
pub struct Typed {
    facts: Record,
    reached: Option<Reached>,
    method: Option<String>,
    /// What was typed of what it is to reach.
    typed: String,
}

#[derive(Debug)]
enum Reached {
    Path(GuestPath),
    Url(Target),
    Name(String),
}

/// Why there is no such call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mistyped {
    /// It is called otherwise: what was wrong.
    Usage(String),
    /// What it is to reach has no form, so no policy is asked about it.
    Formless(Denial),
}

#[derive(Debug)]
enum Held {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Held>),
    Record(Record),
}

#[derive(Debug, Default)]
struct Record(Vec<(Arc<str>, Held)>);

impl Typed {
    /// Reads what was typed, in the order of the declaration: scalars as they are, bytes as text, of contents how many,
    /// and no headers. A capability without a scope may be asked about without arguments.
    ///
    /// # Errors
    /// It is not what the capability takes, or it has no form. `looks` is what rules look at.
    pub fn read(capability: &Definition, given: &[&str], looks: Looks) -> Result<Self, Mistyped> {
        let mut typed = Typed::default();
        if given.is_empty() && capability.scope == ScopeKind::Nothing {
            return Ok(typed);
        }
        let mut given = given.iter().copied();
        typed.facts = typed.record(capability, capability.params(), looks, &mut given)?;
        match given.next() {
            Some(_) => Err(expected(capability)),
            None => Ok(typed),
        }
    }

    /// What it is to reach, in the form that is decided on, and as it was typed.
    pub fn form(&self) -> Option<(&str, &str)> {
        let form = match self.reached.as_ref()? {
            Reached::Path(path) => path.as_str(),
            Reached::Url(url) => url.url().as_str(),
            Reached::Name(name) => name,
        };
        Some((form, &self.typed))
    }

    fn record(
        &mut self,
        capability: &Definition,
        fields: &[Field],
        looks: Looks,
        given: &mut Copied<Iter<'_, &str>>,
    ) -> Result<Record, Mistyped> {
        let mut record = Vec::new();
        for field in fields {
            let held = match &field.of {
                Type::Record(fields) => Held::Record(self.record(capability, fields, looks, given)?),
                Type::List(of) => {
                    let items: Result<_, _> =
                        given.by_ref().map(|text| self.held(capability, of, text, looks)).collect();
                    Held::List(items?)
                }
                Type::Headers => Held::List(Vec::new()),
                of => match (given.next(), of) {
                    (Some(text), of) => self.held(capability, of, text, looks)?,
                    (None, Type::Option(_)) => Held::Null,
                    (None, Type::Contents) => Held::Bytes(Vec::new()),
                    (None, _) => return Err(expected(capability)),
                },
            };
            record.push((rule_name(&field.name), held));
        }
        Ok(Record(record))
    }

    fn held(&mut self, capability: &Definition, of: &Type, text: &str, looks: Looks) -> Result<Held, Mistyped> {
        let mut reach = |reached: Reached| {
            text.clone_into(&mut self.typed);
            self.reached = Some(reached);
        };
        Ok(match of {
            Type::Path => {
                let path = GuestPath::read(text).map_err(Mistyped::Formless)?;
                let held = Held::Text(path.as_str().to_owned());
                reach(Reached::Path(path));
                held
            }
            Type::Url => {
                let url = Target::read(text, looks).map_err(Mistyped::Formless)?;
                let held = Held::Text(url.sent().to_owned());
                reach(Reached::Url(url));
                held
            }
            Type::Name => {
                reach(Reached::Name(text.to_owned()));
                Held::Text(text.to_owned())
            }
            Type::Method => {
                self.method = Some(text.to_owned());
                Held::Text(text.to_owned())
            }
            Type::Text(_) | Type::Enum(_) => Held::Text(text.to_owned()),
            Type::Bytes => Held::Bytes(text.as_bytes().to_vec()),
            Type::Contents => {
                let count: u64 = text.parse().map_err(|_| not_a_number(capability, text))?;
                // Of what is in them nothing is known.
                Held::Bytes(vec![b' '; usize::try_from(count.min(CONTENTS_MAX)).unwrap_or_default()])
            }
            Type::Int(_) => Held::Int(text.parse().map_err(|_| not_a_number(capability, text))?),
            Type::Option(of) => self.held(capability, of, text, looks)?,
            _ => match (text, text.parse(), text.parse::<f64>()) {
                ("null", ..) => Held::Null,
                (_, Ok(number), _) => Held::Int(number),
                (_, _, Ok(number)) if number.is_finite() => Held::Real(number),
                _ => Held::Text(text.to_owned()),
            },
        })
    }
}

fn expected(capability: &Definition) -> Mistyped {
    Mistyped::Usage(format!("expected: {}", capability.usage()))
}

fn not_a_number(capability: &Definition, text: &str) -> Mistyped {
    Mistyped::Usage(format!("{} is not a number; expected {}", quoted(text), capability.usage()))
}

impl Definition {
    /// How a call is typed: `fetch METHOD URL [BODY]`.
    pub fn usage(&self) -> String {
        let mut words = vec![self.name.to_string()];
        usage(self.params(), &mut words);
        words.join(" ")
    }
}

fn usage(fields: &[Field], words: &mut Vec<String>) {
    for field in fields {
        let name = field.name.to_uppercase();
        match &field.of {
            Type::Record(fields) => usage(fields, words),
            Type::Headers => {}
            Type::Option(_) => words.push(format!("[{name}]")),
            Type::Contents => words.push("[BYTES]".to_owned()),
            Type::List(_) => words.push(format!("[{}…]", name.trim_end_matches('S'))),
            _ => words.push(name),
        }
    }
}

impl Facts for Typed {
    fn resource(&self) -> Resource<'_> {
        match &self.reached {
            None => Resource::Nothing,
            Some(Reached::Path(path)) => Resource::Path(path),
            Some(Reached::Url(url)) => Resource::Url { method: self.method.as_deref(), url },
            Some(Reached::Name(name)) => Resource::Name(name),
        }
    }

    fn fact(&self, name: &str) -> Option<Fact<'_>> {
        match (&self.reached, name) {
            (Some(Reached::Url(url)), "target") => Some(Fact::Record(url)),
            _ => self.facts.field(name),
        }
    }
}

impl Held {
    fn fact(&self) -> Fact<'_> {
        match self {
            Held::Null => Fact::Null,
            Held::Int(number) => Fact::Int(*number),
            Held::Real(number) => Fact::Real(*number),
            Held::Text(text) => Fact::Text(text),
            Held::Bytes(bytes) => Fact::Bytes(bytes),
            Held::List(items) => Fact::List(items.iter().map(Held::fact).collect()),
            Held::Record(record) => Fact::Record(record),
        }
    }
}

impl Fields for Record {
    fn field(&self, name: &str) -> Option<Fact<'_>> {
        self.0.iter().find(|(own, _)| **own == *name).map(|(_, held)| held.fact())
    }
}
