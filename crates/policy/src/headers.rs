//! The one form of the headers of a request.

use std::ops::Deref;

use crate::denial::{self, Part};
use crate::{Denial, Looks};

/// Headers with which servers are told to take a request for another one: their letters and digits, for behind a gateway
/// `x_a` and `x.a` are `x-a`, and the part that they speak of.
const OVERRIDES: [(&str, Part); 6] = [
    ("xhttpmethod", Part::Method),
    ("xhttpmethodoverride", Part::Method),
    ("xmethodoverride", Part::Method),
    ("xoriginaluri", Part::Path),
    ("xoriginalurl", Part::Path),
    ("xrewriteurl", Part::Path),
];

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
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if looks.headers && list.iter().any(|(name, _)| !plain(name)) {
            return Err(denial::ambiguous(Part::Headers, "a name with other characters than letters, digits and `-`"));
        }
        if let Some(part) = list.iter().find_map(|(name, _)| overridden(name, looks)) {
            return Err(denial::ambiguous(part, "a header that asks the server to take another one"));
        }
        Ok(Headers { list, looks })
    }

    /// For which looks it was read. No headers at all have one form.
    pub fn looks(&self) -> Looks {
        if self.list.is_empty() { Looks::ALL } else { self.looks }
    }
}

/// The part of a request, if something looks at it, for which a header of this name gives another.
fn overridden(name: &str, looks: Looks) -> Option<Part> {
    let letters = || name.bytes().filter(u8::is_ascii_alphanumeric);
    let (_, part) = OVERRIDES.iter().find(|(other, _)| letters().eq(other.bytes()))?;
    let looked_at = match part {
        Part::Method => looks.method,
        Part::Path => looks.path || looks.query,
        Part::Query | Part::Headers => true,
    };
    looked_at.then_some(*part)
}

impl Deref for Headers {
    type Target = [(String, String)];

    fn deref(&self) -> &Self::Target {
        &self.list
    }
}
