//! What goes out: the guest's request, checked, and the headers that are the host's own.

use core::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use hyper::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, RANGE};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Uri};
use url::{Position, Url};

use super::Failure;
use crate::clock;

/// The most headers that a guest may give.
pub const REQUEST_HEADERS_MAX: usize = 100;
/// The most bytes that the names and values of its headers may have together.
pub const REQUEST_HEADER_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of a request's body.
pub const REQUEST_BODY_MAX: usize = 64 * 1024 * 1024;
/// What goes out where the guest says nothing else: many servers refuse a request without them.
pub const USUAL: [(&str, &str); 2] = [("accept", "*/*"), ("user-agent", concat!("parole/", env!("CARGO_PKG_VERSION")))];
/// The longest method.
const METHOD_MAX: usize = 32;
/// How much of a guest's text an error repeats.
const SHOWN_MAX: usize = 64;

/// The headers that are the host's: they say how the message is framed and where it goes.
/// `Proxy-…` is added to them. A guest that gives one is told so; only a `Host` and a
/// `Content-Length` that are what the host sends anyway pass, and go out once.
const OWNED: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A request to a URL that was decided on.
pub struct Request<'a> {
    /// The method, in its exact spelling.
    pub method: &'a str,
    /// Where it goes: `http` or `https`.
    pub url: &'a Url,
    /// What may be dialled: from [`resolve`](super::Client::resolve), for this very URL.
    pub addresses: &'a [SocketAddr],
    /// The guest's headers, in order. Values go out as the UTF-8 that they are.
    pub headers: &'a [(String, String)],
    /// The body.
    pub body: Option<Bytes>,
    /// Whether it may be sent twice without anybody being asked. If not, it has a connection of
    /// its own, so that none turns out dead under it.
    pub repeatable: bool,
}

/// A request that can be sent.
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) target: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The host asked for gzip, so it undoes it.
    pub(super) gzip: bool,
}

impl Request<'_> {
    pub(super) fn prepare(&self, deadline: Instant) -> Result<Prepared, Failure> {
        let method = method(self.method)?;
        let host = authority(self.url, ["http", "https"])?;
        let target = target(self.url)?;
        let body = self.body.clone().unwrap_or_default();
        if body.len() > REQUEST_BODY_MAX {
            return Err(Failure::TooLarge(REQUEST_BODY_MAX as u64));
        }
        if self.headers.len() > REQUEST_HEADERS_MAX {
            return Err(Failure::Invalid(format!("more than {REQUEST_HEADERS_MAX} headers")));
        }
        if self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > REQUEST_HEADER_BYTES_MAX {
            return Err(Failure::Invalid(format!("headers of more than {REQUEST_HEADER_BYTES_MAX} bytes")));
        }

        let mut headers = HeaderMap::with_capacity(self.headers.len() + 3);
        headers.insert(HOST, value("Host", &host)?);
        if self.body.is_some() || matches!(method, Method::POST | Method::PUT | Method::PATCH) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        for (name, text) in self.headers {
            let field = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| Failure::Invalid(format!("`{}` is not a header name", shown(name))))?;
            let ours = match field.as_str() {
                "host" => text.eq_ignore_ascii_case(&host),
                "content-length" => *text == body.len().to_string(),
                _ => false,
            };
            if ours {
                continue;
            }
            if OWNED.contains(&field.as_str()) || field.as_str().starts_with("proxy-") {
                return Err(Failure::Invalid(format!("the header `{field}` is the host's to set")));
            }
            let text = value(name, text)?;
            headers.try_append(field, text).map_err(|_| Failure::Invalid("too many headers".into()))?;
        }
        for (name, text) in USUAL {
            headers.entry(name).or_insert(HeaderValue::from_static(text));
        }
        // A part of an encoded body cannot be decoded, and no body need not be.
        let gzip = method != Method::HEAD && !headers.contains_key(ACCEPT_ENCODING) && !headers.contains_key(RANGE);
        if gzip {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if clock::now() >= deadline {
            return Err(Failure::Expired { sent: false });
        }
        Ok(Prepared { method, target, headers, body, gzip })
    }
}

/// Any token but `CONNECT`, which would make the connection something else.
fn method(text: &str) -> Result<Method, Failure> {
    let method = Method::from_bytes(text.as_bytes()).ok().filter(|_| text.len() <= METHOD_MAX);
    match method {
        Some(method) if method != Method::CONNECT => Ok(method),
        _ => Err(Failure::Invalid(format!("`{}` is not a method of a request", shown(text)))),
    }
}

/// The value of `Host`: the URL's own host, and the port where it is not the scheme's.
pub(super) fn authority(url: &Url, schemes: [&str; 2]) -> Result<String, Failure> {
    if !schemes.contains(&url.scheme()) {
        return Err(Failure::Invalid(format!("the scheme is neither {} nor {}", schemes[0], schemes[1])));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::Invalid("a URL with user information".into()));
    }
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => Ok(format!("{host}:{port}")),
        (Some(host), None) if !host.is_empty() => Ok(host.to_owned()),
        _ => Err(Failure::Invalid("the URL has no host".into())),
    }
}

/// Path and query, never with a host: what is on the wire is what was decided on.
pub(super) fn target(url: &Url) -> Result<Uri, Failure> {
    PathAndQuery::try_from(&url[Position::BeforePath..Position::AfterQuery])
        .map(Uri::from)
        .map_err(|_| Failure::Invalid("the path of the URL cannot be sent".into()))
}

fn value(name: &str, text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_bytes(text.as_bytes())
        .map_err(|_| Failure::Invalid(format!("the header `{}` has a control character in its value", shown(name))))
}

/// A guest's text as an error may repeat it.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).flat_map(char::escape_default).collect()
}
