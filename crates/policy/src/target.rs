//! The one parser for URLs that a guest names.

use url::Url;

use crate::denial::{self, Part};
use crate::origin::Scheme;
use crate::{Denial, DenialKind, Looks, percent};

/// The longest URL that a guest may name, in bytes, as it wrote it and as it is sent.
pub const MAX_URL: usize = 8 << 10;

/// A URL that a guest, or a redirect, named, in its one form: what is decided on, and what is sent.
///
/// Scheme, host and port have one spelling in every [`Url`]. Path and query are as they were written, for whoever signed
/// them, unless something looks at them: then each has its one spelling too, or there is no such form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    url: Url,
    looks: Looks,
}

impl Target {
    /// Reads a URL as it was spelt, for rules that look at so much of it.
    pub fn read(text: &str, looks: Looks) -> Result<Target, Denial> {
        let mut url = parse_url(text)?;
        if looks.path {
            let path = percent::path(url.path()).map_err(|odd| denial::ambiguous(Part::Path, odd))?;
            url.set_path(&path);
            if url.path() != path {
                return Err(denial::ambiguous(Part::Path, "what has no one spelling"));
            }
        }
        if looks.query
            && let Some(query) = url.query()
        {
            let query = percent::query(query).map_err(|odd| denial::ambiguous(Part::Query, odd))?;
            let query = Some(query.as_str()).filter(|query| !query.is_empty());
            url.set_query(query);
            if url.query() != query {
                return Err(denial::ambiguous(Part::Query, "what has no one spelling"));
            }
        }
        Ok(Target { url, looks })
    }

    /// The URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// For which looks it was read.
    pub fn looks(&self) -> Looks {
        self.looks
    }
}

/// Reads a URL that a guest wrote: `http`, `https`, `ws` or `wss`, with a host and no credentials.
///
/// No text says what the URL was: it may hold secrets. The `url` crate forgives much that is never meant
/// well (tabs, backslashes, `http:host`, `http:///host`); here all of that is refused first.
fn parse_url(text: &str) -> Result<Url, Denial> {
    if text.len() > MAX_URL {
        return Err(invalid(format!("the URL is over {MAX_URL} bytes long")));
    }
    let odd = |c: char| c.is_control() || c.is_whitespace() || c == '\\' || is_invisible(c);
    if let Some(odd) = text.chars().find(|c| odd(*c)) {
        return Err(invalid(format!("the URL holds a character that no URL has ({})", odd.escape_unicode())));
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(invalid("the URL has no scheme".to_owned()));
    };
    if Scheme::of(scheme).is_none() {
        let known = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let kind = if known { DenialKind::Denied } else { DenialKind::Invalid };
        let remedy = "none: the schemes are http and https for `fetch`, ws and wss for `websocket`";
        return Err(denial(kind, "the URL has a scheme that is not offered".to_owned(), remedy));
    }
    let Some(rest) = rest.strip_prefix("//") else {
        return Err(invalid("the URL has no `//` after its scheme".to_owned()));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Err(invalid("the URL names no host".to_owned()));
    }
    if authority.contains('@') {
        return Err(credentials());
    }
    if text.contains('#') {
        return Err(invalid("the URL has a fragment, which is never sent".to_owned()));
    }
    let url = Url::parse(text).map_err(|error| invalid(format!("the URL cannot be read: {error}")))?;
    check(&url)?;
    Ok(url)
}

/// What must hold of a parsed URL, wherever it comes from.
pub(crate) fn check(url: &Url) -> Result<Scheme, Denial> {
    if url.as_str().len() > MAX_URL {
        return Err(invalid(format!("the URL is over {MAX_URL} bytes long")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(credentials());
    }
    let scheme = Scheme::of(url.scheme()).filter(|_| url.has_host() && url.port_or_known_default() != Some(0));
    scheme.ok_or_else(|| invalid("the URL has no host and port that can be reached".to_owned()))
}

/// Characters that are not seen: they serve only to make one URL look like another.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn credentials() -> Denial {
    let reason = "a URL may not hold a user or password".to_owned();
    denial(DenialKind::Denied, reason, "none: the guest has to send credentials in a header")
}

fn invalid(reason: String) -> Denial {
    denial(DenialKind::Invalid, reason, "none: no policy allows such a URL")
}

fn denial(kind: DenialKind, reason: String, remedy: &str) -> Denial {
    Denial { kind, reason, remedy: remedy.to_owned(), rule: None }
}
