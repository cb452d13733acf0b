//! The typed arguments of a call. Every door to a right presents the same ones, in their one form: paths, URLs and
//! headers have types that nothing else can be made into.

use crate::{Fact, Facts, Fields, GuestPath, Headers, Looks, Resource, Target};

/// The typed arguments of a call.
#[derive(Copy, Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Arguments<'a> {
    /// Nothing that a policy looks at. A rule that looks at something denies such a call.
    None,
    /// Reading one file.
    Read {
        /// The guest path.
        path: &'a GuestPath,
    },
    /// Replacing one file.
    Write {
        /// The guest path.
        path: &'a GuestPath,
        /// The length of the new contents, in bytes.
        bytes: u64,
        /// The new contents.
        contents: &'a [u8],
    },
    /// Sending one request; each redirect hop is a call of its own.
    Fetch(&'a FetchArguments<'a>),
    /// Opening a websocket.
    Connect {
        /// Where to.
        url: &'a Target,
    },
    /// Running one statement.
    Query {
        /// The name of the database.
        database: &'a str,
        /// The statement.
        sql: &'a str,
        /// What is bound to its parameters.
        parameters: &'a [QueryValue],
    },
    /// What a capability without a scope is called with, by the names of its table of arguments.
    Fields(&'a [(&'static str, Field<'a>)]),
}

/// What a guest sends.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct FetchArguments<'a> {
    /// The method, as the guest wrote it.
    pub method: &'a str,
    /// Where to.
    pub url: &'a Target,
    /// Names and values, in order.
    pub headers: &'a Headers,
    /// The body, if there is one.
    pub body: Option<&'a [u8]>,
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

/// One argument of a capability without a scope.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Field<'a> {
    /// Text.
    Text(&'a str),
    /// A number.
    Int(u64),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl Facts for Arguments<'_> {
    fn resource(&self) -> Resource<'_> {
        match self {
            Arguments::None | Arguments::Fields(_) => Resource::Nothing,
            Arguments::Read { path } | Arguments::Write { path, .. } => Resource::Path(path),
            Arguments::Fetch(request) => Resource::Url { method: Some(request.method), url: request.url },
            Arguments::Connect { url } => Resource::Url { method: None, url },
            Arguments::Query { database, .. } => Resource::Name(database),
        }
    }

    fn fact(&self, name: &str) -> Option<Fact<'_>> {
        Some(match (self, name) {
            (Arguments::Read { path } | Arguments::Write { path, .. }, "path") => Fact::Text(path.as_str()),
            (Arguments::Write { contents, .. }, "contents") => Fact::Bytes(contents),
            (Arguments::Fetch(request), "request") => Fact::Record(*request),
            (Arguments::Fetch(FetchArguments { url, .. }) | Arguments::Connect { url }, "target") => Fact::Record(*url),
            (Arguments::Connect { url }, "url") => Fact::Text(url.sent()),
            (Arguments::Query { database, .. }, "database") => Fact::Text(database),
            (Arguments::Query { sql, .. }, "sql") => Fact::Text(sql),
            (Arguments::Query { parameters, .. }, "parameters") => {
                Fact::List(parameters.iter().map(QueryValue::fact).collect())
            }
            (Arguments::Fields(fields), _) => match fields.iter().find(|(own, _)| *own == name)?.1 {
                Field::Text(own) => Fact::Text(own),
                Field::Int(number) => Fact::number(number),
                Field::Bytes(own) => Fact::Bytes(own),
            },
            _ => return None,
        })
    }

    fn read_for(&self) -> Looks {
        match self {
            Arguments::Fetch(request) => request.headers.looks(),
            _ => Looks::ALL,
        }
    }
}

impl Fields for FetchArguments<'_> {
    fn field(&self, name: &str) -> Option<Fact<'_>> {
        Some(match name {
            "method" => Fact::Text(self.method),
            "url" => Fact::Text(self.url.sent()),
            "headers" => Fact::List(self.headers.iter().map(|header| Fact::Record(header)).collect()),
            "body" => self.body.map_or(Fact::Null, Fact::Bytes),
            _ => return None,
        })
    }
}

impl QueryValue {
    fn fact(&self) -> Fact<'_> {
        match self {
            QueryValue::Null => Fact::Null,
            QueryValue::Integer(number) => Fact::Int(*number),
            QueryValue::Real(number) => Fact::Real(*number),
            QueryValue::Text(text) => Fact::Text(text),
            QueryValue::Blob(bytes) => Fact::Bytes(bytes),
        }
    }
}
