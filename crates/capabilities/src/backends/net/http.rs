//! One request and its answer.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::ext::on_informational;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, StatusCode};

use super::body::{Coding, Gather};
use super::limits::Limits;
use super::pool::{Connections, Wire};
use super::request::Prepared;
use super::{Client, Failure, Request};
use crate::clock::{self, timeout_at};

/// The most headers of an answer, whatever the caller allows: the library panics far above it.
const HEADERS_MAX: usize = 1024;
/// The most bytes of an answer's head, whatever the caller allows.
const HEADER_BYTES_MAX: usize = 1024 * 1024;

/// How the library says that a head is over its limits: it has a method for that, but only in
/// builds that are servers too.
const TOO_LARGE: &str = "message head is too large";

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status, never 1xx.
    pub status: u16,
    /// The headers, names in lower case; several of one name stay several. Headers of the
    /// connection (`Connection`, `Keep-Alive`, `Transfer-Encoding`, `Trailer`, `Upgrade`,
    /// `Proxy-Connection`) are left out, and `Content-Encoding` and `Content-Length` when the
    /// body was unzipped here. A folded value has spaces where it was folded, and what is no header is left out. A value that is not UTF-8 is read as Latin-1.
    pub headers: Vec<(String, String)>,
    /// The body. Trailers are ignored.
    pub body: Vec<u8>,
}

/// Sends `request` to one of its addresses and reads the answer, within `limits`.
///
/// A connection of `connections` is used again only for a request that is `repeatable`; if it
/// turns out to be dead before any byte of an answer, it is replaced once. Dropping the future
/// ends the connection that is under way.
pub async fn exchange(
    client: &Client,
    connections: &mut Connections,
    request: Request<'_>,
    limits: Limits,
) -> Result<Response, Failure> {
    let limits = Limits {
        header_bytes: limits.header_bytes.min(HEADER_BYTES_MAX),
        headers: limits.headers.min(HEADERS_MAX),
        ..limits
    };
    let prepared = request.prepare(limits.deadline)?;
    let mut sent_before = false;
    if request.repeatable
        && let Some(mut wire) = connections.take(request.url, request.addresses, &limits)
    {
        let result = attempt(&mut wire, &prepared, &limits).await;
        // An answer to a request that the server did not take is not one to it: it may have been under way as the last
        // word on an idle connection.
        let died = matches!(result, Err(Failure::Failed { .. })) && !wire.traffic.answered() || wire.traffic.deaf();
        if !died {
            return settle(connections, wire, result);
        }
        sent_before = wire.traffic.sent();
    }
    let opened = timeout_at(limits.deadline, Wire::open(client, request.url, request.addresses, &limits));
    let mut wire = match opened.await {
        Err(_) => return Err(Failure::Expired { sent: sent_before }),
        Ok(Err(Failure::Failed { text, .. })) => return Err(Failure::Failed { text, sent: sent_before }),
        Ok(wire) => wire?,
    };
    let result = attempt(&mut wire, &prepared, &limits).await;
    settle(connections, wire, result)
}

/// Keeps the connection of an answer that was in order.
fn settle(
    connections: &mut Connections,
    wire: Wire,
    result: Result<(Response, bool), Failure>,
) -> Result<Response, Failure> {
    let (response, clean) = result?;
    if clean {
        connections.keep(wire);
    }
    Ok(response)
}

/// The answer, and whether the connection may be used again.
async fn attempt(wire: &mut Wire, prepared: &Prepared, limits: &Limits) -> Result<(Response, bool), Failure> {
    wire.traffic.reset();
    wire.driver.interim.store(0, Ordering::Relaxed);
    let interim = Arc::clone(&wire.driver.interim);

    let mut request = hyper::Request::new(Full::new(prepared.body.clone()));
    *request.method_mut() = prepared.method.clone();
    *request.uri_mut() = prepared.target.clone();
    *request.headers_mut() = prepared.headers.clone();
    on_informational(&mut request, move |_| {
        interim.fetch_add(1, Ordering::Relaxed);
    });

    let work = receive(&mut wire.sender, request, prepared, limits);
    let result = timeout_at(limits.deadline, wire.driver.drive(work)).await;
    let sent = wire.traffic.sent();
    match result {
        Err(_) => Err(Failure::Expired { sent }),
        Ok(Err(Failure::Failed { text, .. })) => Err(Failure::Failed { text, sent }),
        Ok(Err(Failure::Expired { .. })) => Err(Failure::Expired { sent }),
        Ok(Ok((response, clean))) => Ok((response, clean && !wire.traffic.odd() && !wire.traffic.deaf())),
        Ok(result) => result,
    }
}

async fn receive(
    sender: &mut SendRequest<Full<bytes::Bytes>>,
    request: hyper::Request<Full<bytes::Bytes>>,
    prepared: &Prepared,
    limits: &Limits,
) -> Result<(Response, bool), Failure> {
    let response = sender.send_request(request).await.map_err(|error| failure(&error, limits))?;
    let (mut head, mut body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::after("the server switched to a protocol that nobody asked for"));
    }
    let bodiless =
        prepared.method == Method::HEAD || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let coded = head.headers.get(TRANSFER_ENCODING).is_some();
    if coded && !bodiless && !is(&head.headers, TRANSFER_ENCODING.as_str(), &["chunked", "identity"]) {
        return Err(Failure::after("the answer comes in a transfer coding that nobody asked for"));
    }
    // Two lengths: the chunks are believed, the connection is not.
    let clean = !(coded && head.headers.contains_key(CONTENT_LENGTH));

    // Deflate was not asked for, but some servers send it: the guest has asked for neither.
    let coding = Coding::ALL.into_iter().find(|coding| is(&head.headers, CONTENT_ENCODING.as_str(), coding.names()));
    let coding = coding.filter(|_| prepared.gzip && !bodiless);
    let declared = if bodiless { None } else { body.size_hint().exact() };
    // Some servers close with a reset when they have not read all of a request: of what is wrong with it they have
    // said what they wanted to, and only the close says that it is all.
    let may_be_cut = !prepared.body.is_empty() && declared.is_none() && !coded && is_refusal(head.status);
    let mut gather = Gather::new(coding, limits.max_bytes, declared)?;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = match frame {
            Err(error) if may_be_cut && io_kind(&error) == Some(ErrorKind::ConnectionReset) => break,
            frame => frame.map_err(|error| failure(&error, limits))?,
        };
        if let Some(data) = frame.data_ref() {
            gather.push(data)?;
        }
        // A server that always has something to say must not keep the timer from being looked at.
        if clock::now() >= limits.deadline {
            return Err(Failure::Expired { sent: true });
        }
    }
    drop::<Incoming>(body);
    let body = gather.finish()?;
    if coding.is_some() {
        head.headers.remove(CONTENT_ENCODING);
        head.headers.remove(CONTENT_LENGTH);
    }
    Ok((Response { status: head.status.as_u16(), headers: readable(&head.headers), body }, clean))
}

/// Whether the one header `name` is one of `values`.
fn is(headers: &HeaderMap, name: &str, values: &[&str]) -> bool {
    let mut all = headers.get_all(name).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return false };
    let value = value.as_bytes().trim_ascii();
    values.iter().any(|known| value.eq_ignore_ascii_case(known.as_bytes()))
}

fn readable(headers: &HeaderMap) -> Vec<(String, String)> {
    let hop = ["connection", "keep-alive", "proxy-connection", "trailer", "transfer-encoding", "upgrade"];
    let kept = headers.iter().filter(|(name, _)| !hop.contains(&name.as_str()));
    kept.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn text(value: &HeaderValue) -> String {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().copied().map(char::from).collect(),
    }
}

fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// What kind of failure of the stream is behind an error of the library.
fn io_kind(error: &hyper::Error) -> Option<ErrorKind> {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.map(std::io::Error::kind)
}

/// What the library says, without what it quotes. Whether anything was sent is filled in later.
fn failure(error: &hyper::Error, limits: &Limits) -> Failure {
    let text = if error.is_parse() && error.to_string().contains(TOO_LARGE) {
        let Limits { headers, header_bytes, .. } = limits;
        return Failure::after(format!("the answer has more than {headers} headers or {header_bytes} bytes of them"));
    } else if error.is_parse() {
        "the answer is not HTTP, or contradicts itself"
    } else if error.is_incomplete_message()
        || error.is_closed()
        || error.is_canceled()
        || io_kind(error) == Some(ErrorKind::UnexpectedEof)
    {
        "the connection ended before the answer did"
    } else {
        "the connection failed before the answer was complete"
    };
    Failure::after(text)
}
