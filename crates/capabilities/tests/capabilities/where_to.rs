//! Names, addresses, and that nothing else is dialled.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use parole_capabilities::backends::net::{ADDRESSES_MAX, Answers, Client, Connections, Failure, Resolver};

use crate::peer::{Ask, Server, client, ok, text, within};

/// Answers from a script, the last one for ever.
#[derive(Default)]
struct Script {
    answers: Mutex<Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Script {
    fn of(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |list: &&[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self { answers: Mutex::new(answers.iter().map(parse).collect()), asked: AtomicUsize::new(0) })
    }
}

impl Resolver for Script {
    fn lookup<'a>(&'a self, _: &'a str) -> Answers<'a> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let next = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Box::pin(async move { Ok(next) })
    }
}

/// Like the rule for names: no loopback but 127.0.0.2, no private address.
fn may(address: IpAddr) -> Result<(), String> {
    match address {
        IpAddr::V4(four) if four == Ipv4Addr::new(127, 0, 0, 2) => Ok(()),
        IpAddr::V4(four) if !four.is_loopback() && !four.is_private() && !four.is_link_local() => Ok(()),
        IpAddr::V6(six) if six.segments()[0] & 0xe000 == 0x2000 => Ok(()),
        _ => Err("a private address".into()),
    }
}

async fn resolve(answers: &[&[&str]], host: &str) -> Result<Vec<String>, Failure> {
    let client = client().with_resolver(Script::of(answers));
    let found = client.resolve(host, 443, within(1_000), &may).await?;
    Ok(found.iter().map(SocketAddr::to_string).collect())
}

/// N04.
#[tokio::test]
async fn every_answer_is_looked_at() {
    let denied = Err(Failure::Denied("a private address".into()));
    assert_eq!(resolve(&[&["10.0.0.1"]], "h.example").await, denied);
    assert_eq!(resolve(&[&["127.0.0.1", "169.254.169.254", "::1", "::ffff:8.8.8.8"]], "h.example").await, denied);
    let mixed: &[&str] = &["127.0.0.1", "8.8.8.8", "::1", "2606:4700::1111", "8.8.8.8", "192.168.0.1"];
    assert_eq!(resolve(&[mixed], "h.example").await.unwrap(), ["8.8.8.8:443", "[2606:4700::1111]:443"]);
    let empty = resolve(&[&[]], "h.example").await.unwrap_err();
    assert!(empty.unsent() && empty.to_string().contains("no address"), "{empty:?}");
}

#[tokio::test]
async fn literals_are_decided_on_and_never_looked_up() {
    let script = Script::of(&[&["8.8.8.8"]]);
    let client = client().with_resolver(Arc::<Script>::clone(&script));
    let denied = Err(Failure::Denied("a private address".into()));
    for literal in ["127.0.0.1", "[::1]", "::1", "[::ffff:127.0.0.1]"] {
        assert_eq!(client.resolve(literal, 80, within(1_000), &may).await, denied, "{literal}");
    }
    let found = client.resolve("[2606:4700::1111]", 80, within(1_000), &may).await.unwrap();
    assert_eq!(found, ["[2606:4700::1111]:80".parse().unwrap()]);
    assert_eq!(script.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn many_answers() {
    let all: Vec<String> = (0..200).map(|i| format!("8.8.{i}.1")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(resolve(&[&all], "h.example").await.unwrap().len(), ADDRESSES_MAX);
    // The one that may be dialled is the last of many.
    let mut hidden = vec!["10.0.0.1"; 500];
    hidden.push("8.8.8.8");
    assert_eq!(resolve(&[&hidden], "h.example").await.unwrap(), ["8.8.8.8:443"]);
}

/// N05 and C08: the name means something else by the time of the dial, and it does not matter.
#[tokio::test]
async fn rebinding() {
    let canary = Server::answers(ok("canary")).await;
    let port = canary.address.port();
    let listed = tokio::net::TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&hits);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listed.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut peer = crate::peer::Peer::new(stream, crate::peer::Seen::default());
            peer.request().await;
            peer.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nlisted").await;
        }
    });
    let script = Script::of(&[&["127.0.0.2"], &["127.0.0.1"]]);
    let client = client().with_resolver(Arc::<Script>::clone(&script));
    let mut connections = Connections::default();
    let mut ask = Ask::get(&canary, "/");
    ask.url = format!("http://h.example:{port}/").parse().unwrap();
    ask.addresses = client.resolve("h.example", port, within(1_000), &may).await.unwrap();
    for _ in 0..3 {
        assert_eq!(text(&ask.on(&client, &mut connections).await.unwrap()), "listed");
    }
    assert_eq!((script.asked.load(Ordering::SeqCst), hits.load(Ordering::SeqCst)), (1, 3));
    let second = client.resolve("h.example", port, within(1_000), &may).await;
    assert_eq!(second, Err(Failure::Denied("a private address".into())));
    // One good answer and one bad one at once: the bad one is not tried when the good one fails.
    let both = client.with_resolver(Script::of(&[&["127.0.0.1", "127.0.0.2"]]));
    ask.addresses = both.resolve("h.example", port, within(1_000), &may).await.unwrap();
    assert_eq!(text(&ask.on(&both, &mut connections).await.unwrap()), "listed");
    assert_eq!(canary.seen.connections(), 0);
}

struct Stuck;

impl Resolver for Stuck {
    fn lookup<'a>(&'a self, _: &'a str) -> Answers<'a> {
        Box::pin(std::future::pending())
    }
}

struct Broken;

impl Resolver for Broken {
    fn lookup<'a>(&'a self, _: &'a str) -> Answers<'a> {
        Box::pin(async { Err(std::io::Error::other("/etc/secret at 10.9.8.7")) })
    }
}

#[tokio::test]
async fn a_resolver_that_does_not_answer() {
    let stuck = client().with_resolver(Arc::new(Stuck));
    let start = Instant::now();
    let result = stuck.resolve("h.example", 80, within(100), &may).await;
    assert_eq!(result, Err(Failure::Expired { sent: false }));
    assert!(start.elapsed() < Duration::from_secs(2));
    let broken = client().with_resolver(Arc::new(Broken));
    let failure = broken.resolve("h.example", 80, within(100), &may).await.unwrap_err();
    assert!(failure.unsent() && !failure.to_string().contains("10.9"), "{failure:?}");
}

/// The system's resolver, with the one name that needs no network.
#[tokio::test]
async fn the_system_resolver() {
    let loopback = |address: IpAddr| if address.is_loopback() { Ok(()) } else { Err("not loopback".into()) };
    let allowed = client().resolve("localhost", 80, within(5_000), &loopback).await.unwrap();
    assert!(allowed.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
    let denied = client().resolve("localhost", 80, within(5_000), &may).await;
    assert_eq!(denied, Err(Failure::Denied("a private address".into())));
}

/// No proxy of the environment is asked: the suite may be run with one set.
#[tokio::test]
async fn the_first_address_that_answers() {
    let server = Server::answers(ok("second")).await;
    let mut ask = Ask::get(&server, "/");
    // Nobody listens at the first one.
    ask.addresses = vec![SocketAddr::from(([127, 0, 0, 3], server.address.port())), server.address];
    assert_eq!(text(&ask.go().await.unwrap()), "second");
    fn both<T: Send + Sync>() {}
    both::<Client>();
    both::<Connections>();
}
