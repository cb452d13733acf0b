//! The one form of the headers of a request.

use std::ops::Deref;

use crate::denial::{self, Part};
use crate::{Denial, Looks};

/// Headers with which servers are told to take a request for one of another method.
const OVERRIDES: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];

/// The headers of a request in their one form: names in lower case, values without blanks around them, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    list: Vec<(String, String)>,
    looks: Looks,
}

impl Headers {
    /// Reads headers as a guest spelt them, for rules that look at so much of the request.
    pub fn read<'h>(headers: impl IntoIterator<Item = (&'h str, &'h str)>, looks: Looks) -> Result<Headers, Denial> {
        let blank = |c: char| c == ' ' || c == '\t';
        let one = |(name, value): (&str, &str)| (name.to_ascii_lowercase(), value.trim_matches(blank).to_owned());
        let list: Vec<(String, String)> = headers.into_iter().map(one).collect();
        // Behind a gateway `x_a` and `x.a` are `x-a`.
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if looks.headers && list.iter().any(|(name, _)| !plain(name)) {
            return Err(denial::ambiguous(Part::Headers, "a name with other characters than letters, digits and `-`"));
        }
        if looks.method && list.iter().any(|(name, _)| OVERRIDES.contains(&name.as_str())) {
            return Err(denial::ambiguous(Part::Method, "a header that asks the server to take another one"));
        }
        Ok(Headers { list, looks })
    }

    /// For which looks it was read. No headers at all have one form.
    pub(crate) fn looks(&self) -> Looks {
        if self.list.is_empty() { Looks::ALL } else { self.looks }
    }
}

impl Deref for Headers {
    type Target = [(String, String)];

    fn deref(&self) -> &Self::Target {
        &self.list
    }
}
