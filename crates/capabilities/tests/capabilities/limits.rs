//! Servers that send too much, too slowly or without end.

use std::time::{Duration, Instant};

use parole_capabilities::backends::net::{Connections, Failure, Limits};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use crate::peer::{Ask, Server, client, failed, limits, ok, text, within};

const MIB: u64 = 1024 * 1024;

/// N10.
#[tokio::test]
async fn an_endless_body() {
    for head in ["", "transfer-encoding: chunked\r\n"] {
        let server = Server::start(move |mut peer| async move {
            peer.request().await;
            peer.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n")).await;
            let chunk = if head.is_empty() {
                vec![b'x'; 4096]
            } else {
                [b"1000\r\n", [b'x'; 4096].as_slice(), b"\r\n"].concat()
            };
            while peer.send(&chunk).await {}
        })
        .await;
        assert_eq!(Ask::get(&server, "/").go().await, Err(Failure::TooLarge(MIB)));
    }
}

#[tokio::test]
async fn exactly_the_limit() {
    let body = "x".repeat(1000);
    for answer in [ok(&body), format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}")] {
        let server = Server::once(answer).await;
        assert_eq!(text(&Ask::get(&server, "/").limits(limits(1000)).go().await.unwrap()), body);
        assert_eq!(Ask::get(&server, "/").limits(limits(999)).go().await, Err(Failure::TooLarge(999)));
    }
}

/// The declared length is enough: nobody waits for the body.
#[tokio::test]
async fn a_length_over_the_limit() {
    for length in ["1048577", "18446744073709551613"] {
        let server = Server::start(move |mut peer| async move {
            peer.request().await;
            peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")).await;
            sleep(Duration::from_secs(60)).await;
        })
        .await;
        assert_eq!(Ask::get(&server, "/").go().await, Err(Failure::TooLarge(MIB)));
    }
    let server = Server::once("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n").await;
    failed(Ask::get(&server, "/").go().await);
}

/// N10: in head, body and chunk sizes.
#[tokio::test]
async fn one_byte_at_a_time() {
    let heads = [
        "HTTP/1.1 200 ",
        "HTTP/1.1 200 OK\r\nx: ",
        "HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;",
    ];
    for head in heads {
        let server = Server::start(move |mut peer| async move {
            peer.request().await;
            peer.send(head).await;
            while peer.send("x").await {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let start = Instant::now();
        let slow = Limits::new(MIB, within(300));
        assert_eq!(Ask::get(&server, "/").limits(slow).go().await, Err(Failure::Expired { sent: true }), "{head}");
        assert!(start.elapsed() < Duration::from_secs(2));
    }
    // The twin is slow too, but ends.
    let server = Server::start(|mut peer| async move {
        peer.request().await;
        for byte in ok("slow").into_bytes() {
            peer.send([byte]).await;
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(text(&Ask::get(&server, "/").go().await.unwrap()), "slow");
}

#[tokio::test]
async fn a_server_that_never_answers() {
    let server = Server::start(|peer| async move {
        sleep(Duration::from_secs(60)).await;
        drop(peer);
    })
    .await;
    let slow = Limits::new(MIB, within(200));
    assert_eq!(Ask::get(&server, "/").limits(slow).go().await, Err(Failure::Expired { sent: true }));
}

/// A body that the server does not read: the deadline holds for sending too.
#[tokio::test]
async fn a_server_that_never_reads() {
    let server = Server::start(|peer| async move {
        sleep(Duration::from_secs(60)).await;
        drop(peer);
    })
    .await;
    let body = "x".repeat(32 * 1024 * 1024);
    let slow = Limits::new(MIB, within(300));
    assert_eq!(Ask::post(&server, "/", &body).limits(slow).go().await, Err(Failure::Expired { sent: true }));
}

#[tokio::test]
async fn too_many_headers() {
    let answer = |count: usize| {
        let mut answer = String::from("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n");
        (1..count).for_each(|i| answer.push_str(&format!("x-{i}: v\r\n")));
        answer + "\r\n"
    };
    for (count, allowed) in [(101, 100), (100_000, 100), (100_000, usize::MAX), (4, 3)] {
        let server = Server::once(answer(count)).await;
        let limits = Limits { headers: allowed, header_bytes: usize::MAX, ..limits(MIB) };
        assert!(failed(Ask::get(&server, "/").limits(limits).go().await).contains("headers"));
    }
    for (count, allowed) in [(100, 100), (1_000, usize::MAX), (3, 3)] {
        let server = Server::once(answer(count)).await;
        let limits = Limits { headers: allowed, ..limits(MIB) };
        assert_eq!(Ask::get(&server, "/").limits(limits).go().await.unwrap().headers.len(), count);
    }
}

#[tokio::test]
async fn a_header_that_is_too_long() {
    let answer = |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: {}\r\n\r\n", "v".repeat(length));
    for (length, allowed) in [(64 * 1024, 64 * 1024), (10_000_000, usize::MAX), (200, 128)] {
        let server = Server::once(answer(length)).await;
        let limits = Limits { header_bytes: allowed, ..limits(MIB) };
        assert!(failed(Ask::get(&server, "/").limits(limits).go().await).contains("bytes of them"));
    }
    for (length, allowed) in [(64 * 1024 - 60, 64 * 1024), (60, 128)] {
        let server = Server::once(answer(length)).await;
        Ask::get(&server, "/").limits(Limits { header_bytes: allowed, ..limits(MIB) }).go().await.unwrap();
    }
}

#[tokio::test]
async fn interim_answers() {
    let server = Server::start(|mut peer| async move {
        peer.request().await;
        while peer.send("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").await {}
    })
    .await;
    assert!(failed(Ask::get(&server, "/").go().await).contains("interim"));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(16);
    let server = Server::answers(interim + &ok("after")).await;
    let mut connections = Connections::default();
    for _ in 0..3 {
        let response = Ask::get(&server, "/").on(&client(), &mut connections).await.unwrap();
        assert_eq!((response.status, text(&response)), (200, "after"));
    }
}

/// A switch that nobody asked for.
#[tokio::test]
async fn a_switch_of_protocols() {
    let server = Server::once("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n").await;
    assert!(failed(Ask::get(&server, "/").go().await).contains("switched"));
}

/// Chunks of one byte: many, but bounded by the limit and the deadline, and others get a turn.
#[tokio::test]
async fn a_flood_of_small_chunks() {
    let server = Server::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let many = "1\r\nx\r\n".repeat(10_000);
        while peer.send(&many).await {}
    })
    .await;
    assert_eq!(Ask::get(&server, "/").limits(limits(100_000)).go().await, Err(Failure::TooLarge(100_000)));
    let slow = Limits::new(u64::MAX, within(200));
    let start = Instant::now();
    assert_eq!(Ask::get(&server, "/").limits(slow).go().await, Err(Failure::Expired { sent: true }));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn trailers_without_end() {
    let server = Server::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n").await;
        while peer.send("x-t: v\r\n").await {}
    })
    .await;
    failed(Ask::get(&server, "/").go().await);
}

#[tokio::test]
async fn cut_short() {
    for answer in [
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfour",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfour\r\n",
    ] {
        let server = Server::once(answer).await;
        assert!(failed(Ask::get(&server, "/").go().await).contains("ended before"), "{answer}");
    }
    let server = Server::once("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n\r\n").await;
    assert_eq!(text(&Ask::get(&server, "/").go().await.unwrap()), "four");
    let server = Server::start(|mut peer| async move {
        peer.request().await;
        peer.stream.set_zero_linger().unwrap();
        peer.stream.shutdown().await.unwrap();
    })
    .await;
    failed(Ask::get(&server, "/").go().await);
}
