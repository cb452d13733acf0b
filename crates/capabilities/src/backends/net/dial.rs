//! A stream to one of the decided addresses, plain or TLS.

use core::net::SocketAddr;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{CertificateError, Error as TlsError};
use url::{Host, Url};

use super::heads::Heads;
use super::{Client, Failure};
use crate::lack::lack;

/// How long one address is tried before the next one is tried beside it.
const CONNECT_STAGGER: Duration = Duration::from_millis(250);

/// What went over a stream, in bytes of the protocol above TLS.
#[derive(Default)]
pub(super) struct Traffic {
    written: AtomicU64,
    read: AtomicU64,
    /// The other side takes no more; sticks.
    deaf: AtomicBool,
    /// A new answer is waited for.
    fresh: AtomicBool,
    /// The head of the answer is written in an odd way.
    odd: AtomicBool,
}

impl Traffic {
    pub(super) fn reset(&self) {
        self.written.store(0, Ordering::Relaxed);
        self.read.store(0, Ordering::Relaxed);
        self.odd.store(false, Ordering::Relaxed);
        self.fresh.store(true, Ordering::Relaxed);
    }

    /// Whether any byte was taken for sending. `false` is certain.
    pub(super) fn sent(&self) -> bool {
        self.written.load(Ordering::Relaxed) > 0
    }

    /// Whether any byte of an answer arrived.
    pub(super) fn answered(&self) -> bool {
        self.read.load(Ordering::Relaxed) > 0
    }

    /// Whether the other side closed its ear before all was said.
    pub(super) fn deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed)
    }

    /// Whether the head of the answer is one that another reader might end elsewhere.
    pub(super) fn odd(&self) -> bool {
        self.odd.load(Ordering::Relaxed)
    }
}

pub(super) struct Stream {
    inner: Inner,
    traffic: Arc<Traffic>,
    /// Of HTTP: what becomes of the answer. None: something else is spoken.
    heads: Option<Heads>,
}

enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// The same stream for HTTP, where the answer counts however the sending went: a server may answer before it has
    /// read everything (413, 401), and close. What it does not take any more is thrown away here, so that the answer,
    /// which may be there already, is read. And the end of a TLS stream that nobody announced is its end: whether an
    /// answer is complete is for its framing to say, as in browsers.
    pub(super) fn for_http(self) -> Self {
        Self { heads: Some(Heads::new()), ..self }
    }

    /// What writing comes to: on a stream for HTTP that cannot be written any more, as if all of it were.
    fn or_deaf(&self, written: io::Result<usize>, length: usize) -> io::Result<usize> {
        match written {
            Err(error) if self.heads.is_some() && error.kind() != io::ErrorKind::Interrupted => {
                self.traffic.deaf.store(true, Ordering::Relaxed);
                Ok(length)
            }
            written => written,
        }
    }

    fn is_deaf(&self) -> bool {
        self.heads.is_some() && self.traffic.deaf()
    }
}

/// Connects to the first of `addresses` that answers, and does the TLS handshake for the name
/// in `url` if `tls`. Says to which address. The caller bounds the time.
pub(super) async fn dial(
    client: &Client,
    url: &Url,
    tls: bool,
    addresses: &[SocketAddr],
) -> Result<(Stream, SocketAddr), Failure> {
    let (stream, address) = connect(addresses).await?;
    let inner = if tls {
        let stream = client.tls.connect(server_name(url)?, stream).await.map_err(|error| tls_failure(&error))?;
        Inner::Tls(Box::new(stream))
    } else {
        Inner::Plain(stream)
    };
    Ok((Stream { inner, traffic: Arc::default(), heads: None }, address))
}

async fn connect(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), Failure> {
    let mut waiting = addresses.iter().copied();
    let mut attempts = FuturesUnordered::new();
    let mut failure = None;
    loop {
        if let Some(address) = waiting.next() {
            attempts.push(async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>((stream, address))
            });
        }
        let next = tokio::select! {
            next = attempts.next() => next,
            () = sleep(CONNECT_STAGGER), if waiting.len() > 0 => continue,
        };
        match next {
            Some(Ok(connected)) => return Ok(connected),
            Some(Err(error)) => failure = failure.or(Some(connect_failure(&error))),
            None => return Err(failure.unwrap_or_else(|| Failure::before("there is no address to connect to"))),
        }
    }
}

fn server_name(url: &Url) -> Result<ServerName<'static>, Failure> {
    match url.host() {
        Some(Host::Domain(name)) => ServerName::try_from(name.to_owned())
            .map_err(|_| Failure::Invalid("the host is not a name that a certificate can have".into())),
        Some(Host::Ipv4(address)) => Ok(ServerName::IpAddress(core::net::IpAddr::V4(address).into())),
        Some(Host::Ipv6(address)) => Ok(ServerName::IpAddress(core::net::IpAddr::V6(address).into())),
        None => Err(Failure::Invalid("the URL has no host".into())),
    }
}

fn connect_failure(error: &io::Error) -> Failure {
    if let Some(what) = lack(error) {
        return Failure::Lack(what);
    }
    Failure::before(match error.kind() {
        io::ErrorKind::ConnectionRefused => "the connection was refused by the server",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "the server cannot be reached",
        io::ErrorKind::TimedOut => "the server did not answer",
        _ => "the connection could not be made",
    })
}

fn tls_failure(error: &io::Error) -> Failure {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    Failure::before(match reason {
        Some(TlsError::InvalidCertificate(why)) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate is for another name"
            }
            CertificateError::UnknownIssuer => "the server's certificate is of an unknown issuer",
            _ => "the server's certificate is not valid",
        },
        Some(TlsError::AlertReceived(_)) => "the server refused the TLS handshake",
        _ => "the TLS handshake failed",
    })
}

macro_rules! each {
    ($inner:expr, $stream:ident => $call:expr) => {
        match $inner {
            Inner::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Inner::Tls($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let this = &mut *self;
        let read = ready!(each!(&mut this.inner, stream => stream.poll_read(cx, buffer)));
        let Some(heads) = &mut this.heads else {
            read?;
            let read = buffer.filled().len().saturating_sub(before);
            this.traffic.read.fetch_add(read as u64, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        };
        match read {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            // The same that writing met.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && this.traffic.deaf() => {}
            read => read?,
        }
        let read = buffer.filled().get(before..).unwrap_or_default();
        this.traffic.read.fetch_add(read.len() as u64, Ordering::Relaxed);
        if this.traffic.fresh.swap(false, Ordering::Relaxed) {
            *heads = Heads::new();
        }
        if heads.look(read) {
            this.traffic.odd.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream {
    fn count(&self, written: io::Result<usize>, length: usize) -> Poll<io::Result<usize>> {
        let written = match written {
            Ok(0) if length > 0 => Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                self.traffic.written.fetch_add(written as u64, Ordering::Relaxed);
                Ok(written)
            }
            error => error,
        };
        Poll::Ready(self.or_deaf(written, length))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_deaf() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(each!(&mut self.inner, stream => stream.poll_write(cx, bytes)));
        self.count(written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.is_deaf() {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(each!(&mut self.inner, stream => stream.poll_write_vectored(cx, slices)));
        self.count(written, length)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.inner {
            Inner::Plain(stream) => stream.is_write_vectored(),
            Inner::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf() {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(each!(&mut self.inner, stream => stream.poll_flush(cx)));
        Poll::Ready(self.or_deaf(flushed.map(|()| 0), 0).map(drop))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf() {
            return Poll::Ready(Ok(()));
        }
        each!(&mut self.inner, stream => stream.poll_shutdown(cx))
    }
}
