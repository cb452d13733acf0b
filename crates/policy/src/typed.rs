//! A call that a person has typed: for the question what a policy would say to it.

use base64::Engine as _;
use serde_json::Value;
use std::iter::Copied;
use std::slice::Iter;

use crate::nearest::quoted;
use crate::schema::rule_name;
use crate::{
    Definition, Denial, Fact, Facts, Field, Fields as _, GuestPath, Looks, OwnedFact, OwnedFields, Resource, ScopeKind,
    Target, Type,
};

/// Contents that a rule is shown are made up to this size.
const CONTENTS_MAX: u64 = 64 << 20;

/// A call as somebody typed it, in its one form.
#[derive(Debug, Default)]
pub struct Typed {
    facts: OwnedFields,
    /// The function, of a capability that users define.
    function: String,
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

impl Typed {
    /// Reads what was typed, in the order of the declaration: scalars as they are, bytes as text, of contents how many,
    /// and no headers. A capability without a scope may be asked about without arguments.
    ///
    /// # Errors
    /// It is not what the capability takes, or it has no form. `looks` is what rules look at.
    pub fn read(
        capability: &Definition,
        function: Option<&str>,
        given: &[&str],
        looks: Looks,
    ) -> Result<Self, Mistyped> {
        if capability.is_users() {
            return Typed::users(capability, function, given);
        }
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

    /// The same for a capability that users define: scalars as they are, and everything else as JSON.
    fn users(capability: &Definition, function: Option<&str>, given: &[&str]) -> Result<Self, Mistyped> {
        let one = match (function, capability.functions.as_slice()) {
            (Some(wit), _) => capability.function(wit),
            (None, [one]) => Some(one),
            (None, _) => None,
        };
        let one = one.ok_or_else(|| expected(capability))?;
        if given.len() != one.params.len() {
            return Err(expected(capability));
        }
        let mut facts = Vec::new();
        for (field, text) in one.params.iter().zip(given) {
            let value = of_text(&field.of, text);
            let fits = field.of.check(&value, &field.name);
            fits.map_err(|fault| Mistyped::Usage(format!("{fault}; {}", usage_of(capability))))?;
            facts.push((rule_name(&field.name), OwnedFact::of(&value, &field.of)));
        }
        Ok(Typed { facts: OwnedFields(facts), function: one.wit.to_string(), ..Typed::default() })
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
    ) -> Result<OwnedFields, Mistyped> {
        let mut record = Vec::new();
        for field in fields {
            let held = match &field.of {
                Type::Record(fields) => OwnedFact::Record(self.record(capability, fields, looks, given)?),
                Type::List(of) => {
                    let items: Result<_, _> =
                        given.by_ref().map(|text| self.held(capability, of, text, looks)).collect();
                    OwnedFact::List(items?)
                }
                Type::Headers => OwnedFact::List(Vec::new()),
                of => match (given.next(), of) {
                    (Some(text), of) => self.held(capability, of, text, looks)?,
                    (None, Type::Option(_)) => OwnedFact::Null,
                    (None, Type::Contents) => OwnedFact::Bytes(Vec::new()),
                    (None, _) => return Err(expected(capability)),
                },
            };
            record.push((rule_name(&field.name), held));
        }
        Ok(OwnedFields(record))
    }

    fn held(&mut self, capability: &Definition, of: &Type, text: &str, looks: Looks) -> Result<OwnedFact, Mistyped> {
        let mut reach = |reached: Reached| {
            text.clone_into(&mut self.typed);
            self.reached = Some(reached);
        };
        Ok(match of {
            Type::Path => {
                let path = GuestPath::read(text).map_err(Mistyped::Formless)?;
                let held = OwnedFact::Text(path.as_str().to_owned());
                reach(Reached::Path(path));
                held
            }
            Type::Url => {
                let url = Target::read(text, looks).map_err(Mistyped::Formless)?;
                let held = OwnedFact::Text(url.sent().to_owned());
                reach(Reached::Url(url));
                held
            }
            Type::Name => {
                reach(Reached::Name(text.to_owned()));
                OwnedFact::Text(text.to_owned())
            }
            Type::Method => {
                self.method = Some(text.to_owned());
                OwnedFact::Text(text.to_owned())
            }
            Type::Text(_) | Type::Enum(_) => OwnedFact::Text(text.to_owned()),
            Type::Bytes => OwnedFact::Bytes(text.as_bytes().to_vec()),
            Type::Contents => {
                let count: u64 = text.parse().map_err(|_| not_a_number(capability, text))?;
                // Of what is in them nothing is known.
                OwnedFact::Bytes(vec![b' '; usize::try_from(count.min(CONTENTS_MAX)).unwrap_or_default()])
            }
            Type::Int(_) => OwnedFact::Int(text.parse().map_err(|_| not_a_number(capability, text))?),
            Type::Option(of) => self.held(capability, of, text, looks)?,
            _ => match (text, text.parse(), text.parse::<f64>()) {
                ("null", ..) => OwnedFact::Null,
                (_, Ok(number), _) => OwnedFact::Int(number),
                (_, _, Ok(number)) if number.is_finite() => OwnedFact::Real(number),
                _ => OwnedFact::Text(text.to_owned()),
            },
        })
    }
}

fn expected(capability: &Definition) -> Mistyped {
    Mistyped::Usage(usage_of(capability))
}

fn usage_of(capability: &Definition) -> String {
    format!("expected: {}", capability.usage())
}

/// The JSON that text stands for.
fn of_text(of: &Type, text: &str) -> Value {
    match of {
        Type::Text(_) | Type::Char | Type::Enum(_) => Value::from(text),
        Type::Int(int) if int.is_wide() => Value::from(text),
        Type::Bytes => Value::from(base64::engine::general_purpose::STANDARD.encode(text)),
        Type::Option(inner) if text != "null" && !inner.takes_null() => of_text(inner, text),
        _ => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
    }
}

fn not_a_number(capability: &Definition, text: &str) -> Mistyped {
    Mistyped::Usage(format!("{} is not a number; expected {}", quoted(text), capability.usage()))
}

impl Definition {
    /// How a call is typed: `fetch METHOD URL [BODY]`.
    pub fn usage(&self) -> String {
        let one = |name: &str, params: &[Field]| {
            let mut words = vec![name.to_owned()];
            usage(params, &mut words);
            words.join(" ")
        };
        if !self.is_users() {
            return one(&self.name, self.params());
        }
        let all: Vec<String> = self.functions.iter().map(|own| one(&own.name, &own.params)).collect();
        all.join(", or ")
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
    fn function(&self) -> &str {
        &self.function
    }

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
