use std::fmt;

use crate::wit::types;

/// Why the host did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// The policy, or a person, said no.
    Denied(String),
    /// Nobody settled it before its timeout.
    Expired,
    /// It was canceled.
    Canceled,
    /// The connection is gone.
    Closed,
    /// There is no such thing.
    NotFound,
    /// The argument cannot be right.
    Invalid(String),
    /// It is larger than this limit, in bytes.
    TooLarge(u64),
    /// A quota or limit of this execution is used up.
    Exhausted(String),
    /// It was tried and did not work.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(why) => write!(f, "denied: {why}"),
            Self::Expired => f.write_str("expired: nobody answered in time"),
            Self::Canceled => f.write_str("canceled"),
            Self::Closed => f.write_str("the connection is closed"),
            Self::NotFound => f.write_str("not found"),
            Self::Invalid(why) => write!(f, "invalid: {why}"),
            Self::TooLarge(limit) => write!(f, "too large: the limit is {limit} bytes"),
            Self::Exhausted(why) => write!(f, "exhausted: {why}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<types::Error> for Error {
    fn from(error: types::Error) -> Self {
        match error {
            types::Error::Denied(why) => Self::Denied(why),
            types::Error::Expired => Self::Expired,
            types::Error::Canceled => Self::Canceled,
            types::Error::Closed => Self::Closed,
            types::Error::NotFound => Self::NotFound,
            types::Error::Invalid(why) => Self::Invalid(why),
            types::Error::TooLarge(limit) => Self::TooLarge(limit),
            types::Error::Exhausted(why) => Self::Exhausted(why),
            types::Error::Failed(why) => Self::Failed(why),
        }
    }
}
