//! Connections of one execution that wait for its next request.

use core::net::SocketAddr;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use url::Url;

use super::dial::{Stream, Traffic, dial};
use super::limits::Limits;
use super::{Client, Failure};

/// The most connections that one execution keeps.
const IDLE_MAX: usize = 4;
/// How long one is kept without use.
const IDLE_FOR: Duration = Duration::from_secs(10);
/// The most interim answers (1xx) before the answer.
const INTERIM_MAX: u32 = 16;
/// The least buffer that the HTTP library works with.
const BUFFER_MIN: usize = 64 * 1024;

/// The kept connections of one execution. Never shared between two.
///
/// One is used again only for the same scheme, host, port and limits, and only if its address is
/// among those that the new request was just allowed. Nothing runs while they wait.
#[derive(Default)]
pub struct Connections {
    idle: Vec<Wire>,
}

impl Connections {
    /// Closes all of them: for an execution that is going to wait.
    pub fn clear(&mut self) {
        self.idle.clear();
    }

    /// How many are kept.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// A kept connection for `url` that is still good, if there is one.
    pub(super) fn take(&mut self, url: &Url, addresses: &[SocketAddr], limits: &Limits) -> Option<Wire> {
        self.idle.retain(|wire| wire.since.elapsed() < IDLE_FOR);
        while let Some(at) = self.idle.iter().rposition(|wire| wire.fits(url, addresses, limits)) {
            let mut wire = self.idle.remove(at);
            if wire.is_ready() {
                return Some(wire);
            }
        }
        None
    }

    /// Keeps a connection on which nothing odd happened. The oldest makes room.
    pub(super) fn keep(&mut self, mut wire: Wire) {
        self.idle.retain(|wire| wire.since.elapsed() < IDLE_FOR);
        if wire.is_ready() {
            if self.idle.len() >= IDLE_MAX {
                self.idle.remove(0);
            }
            wire.since = Instant::now();
            self.idle.push(wire);
        }
    }
}

/// One connection, driven by whoever uses it and by nobody else.
pub(super) struct Wire {
    pub(super) sender: SendRequest<Full<Bytes>>,
    pub(super) driver: Driver,
    pub(super) traffic: Arc<Traffic>,
    tls: bool,
    host: String,
    port: Option<u16>,
    address: SocketAddr,
    header_bytes: usize,
    headers: usize,
    since: Instant,
}

impl Wire {
    pub(super) async fn open(
        client: &Client,
        url: &Url,
        addresses: &[SocketAddr],
        limits: &Limits,
    ) -> Result<Self, Failure> {
        let tls = url.scheme() == "https";
        let (stream, address) = dial(client, url, tls, addresses).await?;
        let traffic = stream.traffic();
        let (sender, connection) = Builder::new()
            .max_headers(limits.headers)
            .max_header_size(limits.header_bytes)
            .max_buf_size(limits.header_bytes.max(BUFFER_MIN))
            // What browsers and curl read. A connection on which it came is not used again; see `heads.rs`.
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .handshake(TokioIo::new(stream.for_http()))
            .await
            .map_err(|_| Failure::before("the connection could not be used"))?;
        Ok(Self {
            sender,
            driver: Driver { connection: Some(Box::new(connection)), interim: Arc::default() },
            traffic,
            tls,
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default(),
            address,
            header_bytes: limits.header_bytes,
            headers: limits.headers,
            since: Instant::now(),
        })
    }

    fn fits(&self, url: &Url, addresses: &[SocketAddr], limits: &Limits) -> bool {
        self.tls == (url.scheme() == "https")
            && url.host_str() == Some(self.host.as_str())
            && url.port_or_known_default() == self.port
            && self.header_bytes == limits.header_bytes
            && self.headers == limits.headers
            && addresses.contains(&self.address)
    }

    /// Looks at the socket once: closed by the server, or bytes that nobody asked for, end it.
    fn is_ready(&mut self) -> bool {
        self.driver.step(&mut Context::from_waker(Waker::noop()));
        self.driver.connection.is_some() && self.sender.is_ready()
    }
}

/// The HTTP library's half of a connection, which has to be polled for anything to move.
pub(super) struct Driver {
    /// Gone as soon as it has ended, so that what waits for it ends too.
    connection: Option<Box<Connection<TokioIo<Stream>, Full<Bytes>>>>,
    /// Interim answers to the request under way.
    pub(super) interim: Arc<AtomicU32>,
}

impl Driver {
    fn step(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            self.connection = None;
        }
    }

    /// Does `work` on the connection.
    pub(super) async fn drive<T>(&mut self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            self.step(cx);
            if self.interim.load(Ordering::Relaxed) > INTERIM_MAX {
                return Poll::Ready(Err(Failure::after("the server sends interim answers without end")));
            }
            work.as_mut().poll(cx)
        })
        .await
    }
}
