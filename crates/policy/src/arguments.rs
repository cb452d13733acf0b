//! The typed arguments of a call. Every door to a right presents the same ones, in their one form: paths, URLs and
//! headers have types that nothing else can be made into.

use crate::{GuestPath, Headers, Target};

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
