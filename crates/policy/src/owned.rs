//! Facts that are made for the purpose, and not looked up in what a call holds anyway.

use std::sync::Arc;

use serde_json::Value;

use crate::schema::{CASE, rule_name};
use crate::{Fact, Field, Fields, Int, Type, json};

/// A fact by value.
#[derive(Clone, Debug)]
pub enum OwnedFact {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<OwnedFact>),
    /// Fields by name, as rules spell it.
    Record(OwnedFields),
}

/// Facts by name.
#[derive(Clone, Debug, Default)]
pub struct OwnedFields(pub(crate) Vec<(Arc<str>, OwnedFact)>);

impl OwnedFact {
    /// What JSON of a value stands for, which [`Type::check`] has found to be one of the type.
    pub fn of(value: &Value, of: &Type) -> OwnedFact {
        match (of, value) {
            (Type::Bool, Value::Bool(yes)) => OwnedFact::Bool(*yes),
            (Type::Int(int), value) => OwnedFact::number(*int, value),
            (Type::Single | Type::Real, value) => json::real(value).map_or(OwnedFact::Null, OwnedFact::Real),
            (Type::Bytes | Type::Contents, Value::String(text)) => {
                json::bytes(text).map_or(OwnedFact::Null, OwnedFact::Bytes)
            }
            (Type::List(of), Value::Array(items)) => {
                OwnedFact::List(items.iter().map(|item| OwnedFact::of(item, of)).collect())
            }
            (Type::Tuple(types), Value::Array(items)) => {
                OwnedFact::List(types.iter().zip(items).map(|(of, item)| OwnedFact::of(item, of)).collect())
            }
            (Type::Record(fields), Value::Object(_)) => OwnedFact::Record(OwnedFields::of(value, fields)),
            (Type::Option(_), Value::Null) => OwnedFact::Null,
            (Type::Option(of), value) if of.takes_null() => {
                json::case(value).1.map_or(OwnedFact::Null, |value| OwnedFact::of(value, of))
            }
            (Type::Option(of), value) => OwnedFact::of(value, of),
            (Type::Variant(cases), value) => held(value, cases.iter().map(|(name, of)| (&**name, of.as_ref()))),
            (Type::Result(ok, error), value) => {
                held(value, [("ok", ok.as_deref()), ("err", error.as_deref())].into_iter())
            }
            (_, Value::String(text)) => OwnedFact::Text(text.clone()),
            (_, Value::Array(items)) => {
                let texts = items.iter().filter_map(Value::as_str);
                OwnedFact::List(texts.map(|text| OwnedFact::Text(text.to_owned())).collect())
            }
            _ => OwnedFact::Null,
        }
    }

    fn number(int: Int, value: &Value) -> OwnedFact {
        let number = json::whole(int, value);
        // Rules know signed numbers.
        number.map_or(OwnedFact::Null, |number| OwnedFact::Int(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    pub(crate) fn fact(&self) -> Fact<'_> {
        match self {
            OwnedFact::Null => Fact::Null,
            OwnedFact::Bool(yes) => Fact::Bool(*yes),
            OwnedFact::Int(number) => Fact::Int(*number),
            OwnedFact::Real(number) => Fact::Real(*number),
            OwnedFact::Text(text) => Fact::Text(text),
            OwnedFact::Bytes(bytes) => Fact::Bytes(bytes),
            OwnedFact::List(items) => Fact::List(items.iter().map(OwnedFact::fact).collect()),
            OwnedFact::Record(record) => Fact::Record(record),
        }
    }
}

/// A case as rules see it: its name, and for each case what it holds.
fn held<'t>(value: &Value, cases: impl Iterator<Item = (&'t str, Option<&'t Type>)>) -> OwnedFact {
    let (name, payload) = json::case(value);
    let own = cases.filter(|(case, _)| *case != CASE).filter_map(|(case, of)| {
        let of = of?;
        let held = payload.filter(|_| case == name).map_or(OwnedFact::Null, |value| OwnedFact::of(value, of));
        Some((rule_name(case), held))
    });
    let case = (CASE.into(), OwnedFact::Text(name.to_owned()));
    OwnedFact::Record(OwnedFields(std::iter::once(case).chain(own).collect()))
}

impl OwnedFields {
    /// The arguments of a function, or the fields of a record, from their JSON.
    pub fn of(value: &Value, fields: &[Field]) -> Self {
        let of = |field: &Field| {
            let value = value.get(&*field.name).unwrap_or(&Value::Null);
            (rule_name(&field.name), OwnedFact::of(value, &field.of))
        };
        Self(fields.iter().map(of).collect())
    }
}

impl Fields for OwnedFields {
    fn field(&self, name: &str) -> Option<Fact<'_>> {
        self.0.iter().find(|(own, _)| **own == *name).map(|(_, held)| held.fact())
    }
}
