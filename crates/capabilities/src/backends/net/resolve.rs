//! Names to addresses, once, each address decided on.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::future::Future;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;

use super::{Client, Failure};
use crate::clock::timeout_at;
use crate::lack::lack;

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

/// The operating system's table of hosts, and its resolver.
///
/// A name is always taken as it stands: the resolver would else try it with the search domains of the system
/// after it, and so find another host than the one that was decided on.
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
                let found = look_up(host).await;
                drop(permit);
                found
            });
            lookup.await.map_err(io::Error::other)?
        })
    }
}

/// Where hosts have their names without anybody being asked.
const HOSTS: &str = "/etc/hosts";
/// More of that table is not read, in bytes.
const HOSTS_MAX: u64 = 1 << 20;

async fn look_up(host: String) -> io::Result<Vec<IpAddr>> {
    let name = host.trim_end_matches('.').to_owned();
    let absolute = format!("{name}.");
    let listed = tokio::task::spawn_blocking(move || match hosts() {
        // Without the table the name would be that of another host.
        Err(error) if lack(&error).is_some() => Err(error),
        hosts => Ok(listed(&hosts.unwrap_or_default(), &name)),
    });
    let listed = listed.await??;
    if !listed.is_empty() {
        return Ok(listed);
    }
    Ok(tokio::net::lookup_host((absolute, 0)).await?.map(|address| address.ip()).collect())
}

fn hosts() -> io::Result<String> {
    let mut text = Vec::new();
    std::fs::File::open(HOSTS)?.take(HOSTS_MAX).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The addresses that a table of hosts has for a name. `localhost` is this machine, whatever it says (RFC 6761).
fn listed(hosts: &str, name: &str) -> Vec<IpAddr> {
    if name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost") {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect()
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
            Err(_) => timeout_at(deadline, self.resolver.lookup(host))
                .await
                .map_err(|_| Failure::Expired { sent: false })?
                .map_err(|error| {
                    let unresolved = || Failure::before("the name of the host could not be resolved");
                    lack(&error).map_or_else(unresolved, Failure::Lack)
                })?,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_hosts() {
        let hosts = "127.0.0.1 localhost\n# 10.0.0.9 api.test\n10.0.0.1\tapi.test other # x\n::2 API.test.\nnonsense api.test\n";
        let of = |name: &str| listed(hosts, name).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of("api.test"), ["10.0.0.1", "::2"]);
        assert_eq!(of("Other"), ["10.0.0.1"]);
        assert_eq!(of("pi.test"), [""; 0]);
        assert_eq!(of("x"), [""; 0]);
        assert_eq!(of("a.localhost"), ["127.0.0.1", "::1"]);
    }
}
