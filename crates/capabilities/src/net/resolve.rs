//! Names to addresses, once, each address decided on.

use core::net::{IpAddr, SocketAddr};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use super::{Client, Failure};

/// The most addresses that are kept of one name. All answers are looked at.
pub const ADDRESSES_MAX: usize = 16;
/// The most lookups that one [`SystemResolver`] has under way: each may hold a thread for as
/// long as the system's resolver takes, whoever has stopped waiting for it.
pub const LOOKUPS_MAX: usize = 64;

/// What a lookup answers.
pub type Answers<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Knows the addresses of names. It is never asked about an address literal, and the port is
/// not its business.
pub trait Resolver: Send + Sync {
    /// All addresses of `host`, the best first. The caller bounds the time.
    fn lookup<'a>(&'a self, host: &'a str) -> Answers<'a>;
}

/// The operating system's resolver.
pub struct SystemResolver {
    lookups: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self { lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

impl Resolver for SystemResolver {
    fn lookup<'a>(&'a self, host: &'a str) -> Answers<'a> {
        Box::pin(async move {
            let permit = Arc::clone(&self.lookups).acquire_owned().await.map_err(io::Error::other)?;
            let host = host.to_owned();
            // A task of its own, so that the permit lives as long as the lookup does.
            let lookup = tokio::spawn(async move {
                let found = tokio::net::lookup_host((host, 0)).await;
                drop(permit);
                Ok::<Vec<IpAddr>, io::Error>(found?.map(|address| address.ip()).collect())
            });
            lookup.await.map_err(io::Error::other)?
        })
    }
}

impl Client {
    /// The addresses of `host` that `may` allows: what is dialled, and nothing else.
    ///
    /// `host` is the host of a parsed URL; an IPv6 literal may stand in its brackets. Every
    /// answer goes through `may`, literals too; the refused ones are dropped, and if none is
    /// left the first refusal is the answer. At most [`ADDRESSES_MAX`] are returned.
    pub async fn resolve(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
        may: &(dyn Fn(IpAddr) -> Result<(), String> + Sync),
    ) -> Result<Vec<SocketAddr>, Failure> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let answers = match bare.parse::<IpAddr>() {
            Ok(literal) => vec![literal],
            Err(_) => timeout_at(deadline.into(), self.resolver.lookup(host))
                .await
                .map_err(|_| Failure::Expired { sent: false })?
                .map_err(|_| Failure::before("the name of the host could not be resolved"))?,
        };
        let mut allowed: Vec<SocketAddr> = Vec::with_capacity(answers.len().min(ADDRESSES_MAX));
        let mut refusal = None;
        for address in answers {
            match may(address) {
                Ok(()) => {
                    let address = SocketAddr::new(address, port);
                    if allowed.len() < ADDRESSES_MAX && !allowed.contains(&address) {
                        allowed.push(address);
                    }
                }
                Err(text) => refusal = refusal.or(Some(text)),
            }
        }
        match refusal {
            _ if !allowed.is_empty() => Ok(allowed),
            Some(text) => Err(Failure::Denied(text)),
            None => Err(Failure::before("the name of the host has no address")),
        }
    }
}
