//! What a rule may look at: the arguments of a call, by name and type, as they follow from its schema.

use std::sync::Arc;

/// The longest text that a rule looks at, in bytes, and all the text of one list together. A call that is asked
/// about with more is denied.
pub const MAX_SEEN: u32 = 64 << 10;
/// The most items of a list that a rule looks at. A call with more is denied.
pub const MAX_ITEMS: u32 = 256;

/// The type of an argument, as far as a rule is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArgType {
    /// Text of so many bytes at most.
    Text(u32),
    /// The same without capitals: comparing it with a capital letter is a mistake.
    Lower(u32),
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A number with a fraction.
    Real,
    /// Bytes, of any length.
    Bytes,
    /// What only the value can tell: null, a number, text or bytes.
    Any,
    /// A list of [`MAX_ITEMS`] at most.
    List(Arc<ArgType>),
    /// Fields by name.
    Record(ArgumentTable),
    /// That or null.
    Optional(Arc<ArgType>),
}

/// A table of arguments.
pub(crate) type ArgumentTable = Arc<[(Arc<str>, ArgType)]>;

impl ArgType {
    /// A record of these fields.
    pub(crate) fn record<const N: usize>(fields: [(&str, ArgType); N]) -> ArgType {
        ArgType::Record(fields.into_iter().map(|(name, of)| (name.into(), of)).collect())
    }

    /// The parsed URL: what is sent and where to.
    pub(crate) fn target() -> ArgType {
        let url = || ArgType::Text(crate::MAX_URL as u32);
        ArgType::record([
            ("scheme", ArgType::Lower(5)),
            ("host", ArgType::Lower(256)),
            ("port", ArgType::Int),
            ("path", url()),
            ("query", url()),
        ])
    }
}
