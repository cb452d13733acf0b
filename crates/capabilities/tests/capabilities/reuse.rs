//! Connections that are kept, and those that are not.

use std::net::SocketAddr;
use std::time::Duration;

use parole_capabilities::backends::net::{Connections, Failure, Limits};
use tokio::io::AsyncReadExt;
use tokio::time::sleep;

use crate::peer::{Ask, Peer, Seen, Server, client, failed, limits, ok, text, within};

#[tokio::test]
async fn one_connection_for_many() {
    let server = Server::answers(ok("x")).await;
    let client = client();
    let mut connections = Connections::default();
    for _ in 0..20 {
        Ask::get(&server, "/").on(&client, &mut connections).await.unwrap();
    }
    assert_eq!((server.seen.connections(), connections.idle()), (1, 1));
    // Another execution has its own.
    Ask::get(&server, "/").on(&client, &mut Connections::default()).await.unwrap();
    assert_eq!(server.seen.connections(), 2);
    connections.clear();
    assert_eq!(connections.idle(), 0);
}

/// The address has to be among those that were just allowed; host, port and limits have to be
/// the same.
#[tokio::test]
async fn only_for_the_same() {
    let server = Server::answers(ok("one")).await;
    let other = Server::answers(ok("two")).await;
    let client = client();
    let mut connections = Connections::default();
    let mut ask = Ask::get(&server, "/");
    ask.url = "http://a.example/".parse().unwrap();
    ask.on(&client, &mut connections).await.unwrap();

    // The name has another address now.
    ask.addresses = vec![other.address];
    assert_eq!(text(&ask.on(&client, &mut connections).await.unwrap()), "two");
    // Both are allowed: one that is there is taken.
    ask.addresses = vec![server.address, other.address];
    ask.on(&client, &mut connections).await.unwrap();
    assert_eq!((server.seen.connections(), other.seen.connections()), (1, 1));
    // Another name at the same address, another port in the URL, another limit.
    ask.addresses = vec![server.address];
    ask.url = "http://b.example/".parse().unwrap();
    ask.on(&client, &mut connections).await.unwrap();
    ask.url = "http://a.example:81/".parse().unwrap();
    ask.on(&client, &mut connections).await.unwrap();
    ask.url = "http://a.example/".parse().unwrap();
    ask.limits.headers = 7;
    ask.on(&client, &mut connections).await.unwrap();
    assert_eq!(server.seen.connections(), 4);
    assert_eq!(connections.idle(), 4);
}

#[tokio::test]
async fn what_is_not_repeatable_has_its_own() {
    let server = Server::answers(ok("x")).await;
    let client = client();
    let mut connections = Connections::default();
    Ask::get(&server, "/").on(&client, &mut connections).await.unwrap();
    Ask::post(&server, "/", "a").on(&client, &mut connections).await.unwrap();
    Ask::post(&server, "/", "b").on(&client, &mut connections).await.unwrap();
    assert_eq!(server.seen.connections(), 3);
    Ask::get(&server, "/").on(&client, &mut connections).await.unwrap();
    assert_eq!(server.seen.connections(), 3);
}

/// The server closed it meanwhile, or closes it at the request: replaced, once.
#[tokio::test]
async fn a_dead_connection_is_replaced() {
    for wait in [0, 100] {
        let server = Server::start(|mut peer| async move {
            // Answers one request, and hangs up at the second or after 50 ms.
            peer.request().await;
            peer.send(ok("x")).await;
            let _ = tokio::time::timeout(Duration::from_millis(50), peer.request()).await;
        })
        .await;
        let client = client();
        let mut connections = Connections::default();
        for _ in 0..3 {
            Ask::get(&server, "/").on(&client, &mut connections).await.unwrap();
            sleep(Duration::from_millis(wait)).await;
        }
        assert_eq!(server.seen.connections(), 3);
    }
}

/// What has begun to be answered, and what fails on a fresh connection, is not repeated.
#[tokio::test]
async fn repeated_at_most_once() {
    let server = Server::start(|mut peer| async move {
        peer.request().await;
        peer.send(ok("x")).await;
        peer.request().await;
        peer.send("HTTP/1.1 2").await;
    })
    .await;
    let client = client();
    let mut connections = Connections::default();
    Ask::get(&server, "/").on(&client, &mut connections).await.unwrap();
    failed(Ask::get(&server, "/").on(&client, &mut connections).await);
    assert_eq!((server.seen.connections(), server.seen.requests().len()), (1, 2));

    let server = Server::start(|mut peer| async move {
        peer.request().await;
    })
    .await;
    failed(Ask::get(&server, "/").on(&client, &mut connections).await);
    failed(Ask::post(&server, "/", "x").on(&client, &mut connections).await);
    assert_eq!((server.seen.connections(), server.seen.requests().len()), (2, 2));
}

#[tokio::test]
async fn odd_ones_are_dropped() {
    let client = client();
    let big = "x".repeat(2_000);
    let cases = [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(),
        ok(&big),
    ];
    for answer in cases {
        let server = Server::answers(answer).await;
        let mut connections = Connections::default();
        let result = Ask::get(&server, "/").limits(limits(1_000)).on(&client, &mut connections).await;
        assert!(matches!(result, Ok(_) | Err(Failure::TooLarge(1_000))), "{result:?}");
        assert_eq!(connections.idle(), 0);
    }
    let server = Server::answers("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n").await;
    let mut connections = Connections::default();
    let slow = Limits::new(9, within(50));
    let result = Ask::get(&server, "/").limits(slow).on(&client, &mut connections).await;
    assert_eq!(result, Err(Failure::Expired { sent: true }));
    assert_eq!(connections.idle(), 0);
}

#[tokio::test]
async fn four_are_kept() {
    let client = client();
    let mut connections = Connections::default();
    let mut servers = Vec::new();
    for _ in 0..6 {
        let server = Server::answers(ok("x")).await;
        Ask::get(&server, "/").on(&client, &mut connections).await.unwrap();
        servers.push(server);
    }
    assert_eq!(connections.idle(), 4);
    // The oldest two made room.
    for server in servers.iter().rev() {
        Ask::get(server, "/").on(&client, &mut connections).await.unwrap();
    }
    let counts: Vec<usize> = servers.iter().map(|server| server.seen.connections()).collect();
    assert_eq!(counts, [2, 2, 1, 1, 1, 1]);
}

#[tokio::test]
async fn ten_seconds_are_enough() {
    let server = Server::answers(ok("x")).await;
    let client = client();
    let mut connections = Connections::default();
    Ask::get(&server, "/").on(&client, &mut connections).await.unwrap();
    sleep(Duration::from_millis(10_050)).await;
    Ask::get(&server, "/").on(&client, &mut connections).await.unwrap();
    assert_eq!((server.seen.connections(), connections.idle()), (2, 1));
}

#[tokio::test]
async fn an_empty_list_reaches_nobody() {
    let server = Server::answers(ok("x")).await;
    let client = client();
    let mut connections = Connections::default();
    Ask::get(&server, "/").on(&client, &mut connections).await.unwrap();
    let mut ask = Ask::get(&server, "/");
    ask.addresses = Vec::<SocketAddr>::new();
    assert!(ask.on(&client, &mut connections).await.unwrap_err().unsent());
    assert_eq!(server.seen.requests().len(), 1);
}

/// The kept connection dies with the request in it, and nobody is there to send it to again.
#[tokio::test]
async fn a_repetition_that_fails_was_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server { address: listener.local_addr().unwrap(), seen: Seen::default() };
    let mut peer = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Peer::new(stream, Seen::default());
        peer.request().await;
        peer.send(ok("x")).await;
        peer
    });
    let client = client();
    let mut connections = Connections::default();
    Ask::get(&server, "/").on(&client, &mut connections).await.unwrap();
    let mut peer = (&mut peer).await.unwrap();
    tokio::spawn(async move { peer.request().await });
    assert_eq!(
        failed(Ask::get(&server, "/").on(&client, &mut connections).await),
        "the connection was refused by the server"
    );
    let refused = Ask::get(&server, "/").on(&client, &mut connections).await;
    assert!(refused.unwrap_err().unsent());
}

/// An answer while the request is still being sent.
#[tokio::test]
async fn an_early_answer() {
    let server = Server::start(|mut peer| async move {
        let mut some = [0; 1000];
        peer.stream.read_exact(&mut some).await.unwrap();
        peer.send("HTTP/1.1 413 Too Much\r\ncontent-length: 2\r\n\r\nno").await;
        tokio::io::copy(&mut peer.stream, &mut tokio::io::sink()).await.unwrap();
    })
    .await;
    let mut connections = Connections::default();
    let body = "x".repeat(16 * 1024 * 1024);
    let response = Ask::post(&server, "/", &body).on(&client(), &mut connections).await.unwrap();
    assert_eq!((response.status, text(&response), connections.idle()), (413, "no", 0));
}
