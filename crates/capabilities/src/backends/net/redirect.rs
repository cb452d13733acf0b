//! Where an answer sends the caller on to. Nothing here goes there.

use url::Url;

use super::{Failure, Response};

/// The longest `Location`.
const LOCATION_MAX: usize = 8 * 1024;

/// The headers that go along to another origin. Any other may be a credential: besides
/// `Authorization`, `Cookie` and `Proxy-Authorization` there are as many names of keys and
/// tokens (`X-Api-Key`, `X-Auth-Token`, …) as there are services.
const HARMLESS: [&str; 13] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-language",
    "content-type",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "pragma",
    "range",
    "user-agent",
];

/// A redirect that an answer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The URL, resolved against the one that was asked and without fragment. It is the server's
    /// text: it has to be decided on like a guest's.
    pub url: String,
    /// The method to go on with.
    pub method: String,
}

/// Where `response`, the answer to `method` on `base`, leads: `None` if it is no redirect.
///
/// 303 makes any method but `HEAD` a `GET`; 301 and 302 do so with `POST`, as browsers do; 307 and
/// 308 keep the method. A redirect status without a `Location` is an ordinary answer.
pub fn redirect(base: &Url, method: &str, response: &Response) -> Option<Result<Redirect, Failure>> {
    let method = match (response.status, method) {
        (303, "HEAD") => "HEAD",
        (303, _) | (301 | 302, "POST") => "GET",
        (301 | 302 | 307 | 308, method) => method,
        _ => return None,
    };
    let mut locations = response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("location"));
    let (_, location) = locations.next()?;
    if locations.any(|(_, other)| other != location) {
        return Some(Err(Failure::after("the server redirects to several places at once")));
    }
    if location.len() > LOCATION_MAX {
        return Some(Err(Failure::after("the server redirects to a URL that is too long")));
    }
    let Ok(mut url) = base.join(location) else {
        return Some(Err(Failure::after("the server redirects to something that is not a URL")));
    };
    url.set_fragment(None);
    Some(Ok(Redirect { url: url.into(), method: method.to_owned() }))
}

/// Whether scheme, host and port are the same.
pub fn same_origin(one: &Url, other: &Url) -> bool {
    let origin = one.origin();
    origin.is_tuple() && origin == other.origin()
}

/// Drops what may be a credential, for a hop to another origin: all headers but those that are
/// known to be harmless (`Accept…`, `Cache-Control`, `Content-Language`, `Content-Type`, `If-…`
/// without `If-Match` and `If-Range`, `Pragma`, `Range`, `User-Agent`).
pub fn strip_credentials(headers: &mut Vec<(String, String)>) {
    headers.retain(|(name, _)| HARMLESS.iter().any(|harmless| name.eq_ignore_ascii_case(harmless)));
}
