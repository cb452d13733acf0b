//! The way to the network: HTTP/1.1 and websockets to addresses that were decided on.
//!
//! # How to read it
//!
//! [`Client::resolve`] turns the host of a decided URL into the addresses that may be dialled;
//! nothing here ever resolves a name a second time. [`exchange`] and [`websocket::connect`]
//! take the parsed URL and those addresses, and no string. All of a call has one deadline.
//!
//! # What it does not do
//!
//! It does not decide what may be reached (the caller's `may` does), it follows no redirect
//! ([`redirect`] says where one leads), and it knows no proxy, cookie jar, netrc or
//! environment. Connections are kept for one execution ([`Connections`]), TLS sessions for none:
//! nothing passes from one execution to another through here.

mod body;
mod dial;
mod heads;
mod http;
mod limits;
mod pool;
mod redirect;
mod request;
mod resolve;
pub mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;

use crate::Error;
use crate::backends::trust;
use crate::call::failure;
use crate::call::permit::{AllowedUrl, Origin, Permit};

pub use http::{Response, exchange};
pub use limits::Limits;
pub use pool::Connections;
pub use redirect::{Redirect, redirect, same_origin, strip_credentials};
pub use request::{REQUEST_BODY_MAX, REQUEST_HEADER_BYTES_MAX, REQUEST_HEADERS_MAX, Request, USUAL};
pub use resolve::{ADDRESSES_MAX, Answers, LOOKUPS_MAX, Resolver, SystemResolver};

impl Client {
    /// The addresses of the URL of a permit that may be dialled.
    pub(crate) async fn addresses(&self, permit: &Permit<Origin>) -> Result<Vec<SocketAddr>, Failure> {
        let url = permit.reach().url();
        let missing = || Failure::Invalid("a URL names a host and a port".into());
        let (host, port) = url.host_str().zip(url.port_or_known_default()).ok_or_else(missing)?;
        self.resolve(host, port, permit.deadline(), &|address| permit.reach().may_dial(address)).await
    }
}

impl Failure {
    /// What it comes to for a call to a granted URL.
    pub(crate) fn at(self, granted: &AllowedUrl) -> failure::Failure {
        match self {
            Failure::Denied(reason) => granted.denied(reason),
            Failure::Invalid(reason) => Error::Invalid(reason).into(),
            Failure::TooLarge(limit) => Error::TooLarge(limit).into(),
            Failure::Closed => Error::Closed.into(),
            Failure::Lack(what) => failure::Failure::Lack(what),
            Failure::Expired { sent } => failure::Failure::Expired { sent },
            Failure::Failed { text, sent } => failure::Failure::Failed { text, sent },
        }
    }
}

/// Why a call to the outside did not give an answer.
///
/// No text holds an address, a path or anything of the environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No address of the host may be dialled; the text of the first refusal.
    #[error("{0}")]
    Denied(String),
    /// The request cannot be right; nothing was sent.
    #[error("{0}")]
    Invalid(String),
    /// The answer, or what was to be sent, is over this many bytes.
    #[error("over the limit of {0} bytes")]
    TooLarge(u64),
    /// The deadline came first.
    #[error("the time is over")]
    Expired {
        /// `false` only when it is certain that no byte of the request left.
        sent: bool,
    },
    /// The host is short of this, and no byte of the request left.
    #[error("the host is short of {0}")]
    Lack(&'static str),
    /// The connection is gone: only of a websocket that had been open.
    #[error("the connection is closed")]
    Closed,
    /// It was tried and did not work.
    #[error("{text}")]
    Failed {
        /// What went wrong.
        text: String,
        /// `false` only when it is certain that no byte of the request left.
        sent: bool,
    },
}

impl Failure {
    /// Whether it is certain that nothing of the request was sent.
    pub fn unsent(&self) -> bool {
        match self {
            Self::Denied(_) | Self::Invalid(_) | Self::Lack(_) => true,
            Self::TooLarge(_) | Self::Closed => false,
            Self::Expired { sent } | Self::Failed { sent, .. } => !sent,
        }
    }

    /// A failure before anything of the request left.
    fn before(text: impl Into<String>) -> Self {
        Self::Failed { text: text.into(), sent: false }
    }

    /// A failure after something of the request left, or may have.
    fn after(text: impl Into<String>) -> Self {
        Self::Failed { text: text.into(), sent: true }
    }
}

/// What all calls of a process share: certificates and the resolver. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    tls: TlsConnector,
    resolver: Arc<dyn Resolver>,
}

impl Client {
    /// A client that trusts the public roots and `extra_roots`, each a PEM text of one or more
    /// certificates, and asks the system's resolver.
    pub fn new(extra_roots: &[&[u8]]) -> Result<Self, Failure> {
        let roots = trust::roots(extra_roots.iter().copied()).map_err(|why| Failure::Invalid(why.into()))?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| Failure::Invalid("TLS cannot be set up".into()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A ticket would tell a server that two executions are of one process.
        config.resumption = Resumption::disabled();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), resolver: Arc::new(SystemResolver::default()) })
    }

    /// A client with the trust of `other` and the resolver of this one.
    pub(crate) fn trusting(&self, other: Self) -> Self {
        Self { resolver: Arc::clone(&self.resolver), ..other }
    }

    /// The same client with another resolver.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = resolver;
        self
    }
}
