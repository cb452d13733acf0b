//! What policy and rules see of a call: what it is to reach, and its arguments by name.

use std::fmt;

use url::Position;

use crate::{GuestPath, Looks, Target};

/// A call as a policy sees it, in the one form that will be acted on.
pub trait Facts: Sync {
    /// What it is to reach.
    fn resource(&self) -> Resource<'_>;

    /// One of its arguments, by the name that the table of the capability has for it; `None`: this call has no such fact,
    /// and a rule that looks at it denies.
    fn fact(&self, name: &str) -> Option<Fact<'_>>;

    /// Which function of the capability is called, by its name in WIT; of one that users define, each is decided for
    /// itself.
    fn function(&self) -> &str {
        ""
    }

    /// For rules that look at how much of it this form was read, beside a URL, which says so itself. One without other
    /// parts that can be spelt in several ways is for all.
    fn read_for(&self) -> Looks {
        Looks::ALL
    }
}

/// What a call is to reach, by the kind of scope that grants it.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Resource<'a> {
    /// Nothing that a grant lists.
    Nothing,
    /// A file.
    Path(&'a GuestPath),
    /// A URL, with the method of a request for it.
    Url {
        /// As the guest wrote it; what has none is no request.
        method: Option<&'a str>,
        /// Where to.
        url: &'a Target,
    },
    /// Something that the policy has given a name: a database.
    Name(&'a str),
}

/// The arguments of a call that reaches nothing, by name.
#[derive(Copy, Clone, Debug)]
pub struct PlainFacts<'a>(pub &'a [(&'static str, Fact<'a>)]);

impl Facts for PlainFacts<'_> {
    fn resource(&self) -> Resource<'_> {
        Resource::Nothing
    }

    fn fact(&self, name: &str) -> Option<Fact<'_>> {
        self.0.iter().find(|(own, _)| *own == name).map(|(_, fact)| fact.clone())
    }
}

/// One argument, or a part of one.
#[derive(Clone, Debug)]
pub enum Fact<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Real(f64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A list.
    List(Vec<Fact<'a>>),
    /// Fields by name.
    Record(&'a dyn Fields),
}

impl Fact<'_> {
    /// A number that may not fit: rules know signed ones.
    pub fn number(number: u64) -> Self {
        Fact::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A record, looked into field by field.
pub trait Fields: Sync {
    /// One of its fields.
    fn field(&self, name: &str) -> Option<Fact<'_>>;
}

impl fmt::Debug for dyn Fields + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("record")
    }
}

impl Target {
    /// What is sent of it: all but a fragment.
    pub fn sent(&self) -> &str {
        &self.url()[..Position::AfterQuery]
    }
}

/// A URL, taken apart.
impl Fields for Target {
    fn field(&self, name: &str) -> Option<Fact<'_>> {
        let url = self.url();
        Some(match name {
            "scheme" => Fact::Text(url.scheme()),
            "host" => Fact::Text(url.host_str().unwrap_or_default()),
            "port" => Fact::Int(url.port_or_known_default().unwrap_or_default().into()),
            "path" => Fact::Text(url.path()),
            "query" => Fact::Text(url.query().unwrap_or_default()),
            _ => return None,
        })
    }
}

/// A header.
impl Fields for (String, String) {
    fn field(&self, name: &str) -> Option<Fact<'_>> {
        match name {
            "name" => Some(Fact::Text(&self.0)),
            "value" => Some(Fact::Text(&self.1)),
            _ => None,
        }
    }
}

/// A value that is bound to a parameter of a statement, or that a row holds.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryValue {
    /// Nothing.
    Null,
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl QueryValue {
    /// The same, as rules see it.
    pub fn fact(&self) -> Fact<'_> {
        match self {
            QueryValue::Null => Fact::Null,
            QueryValue::Integer(number) => Fact::Int(*number),
            QueryValue::Real(number) => Fact::Real(*number),
            QueryValue::Text(text) => Fact::Text(text),
            QueryValue::Blob(bytes) => Fact::Bytes(bytes),
        }
    }
}
