//! Answers that are not as the standard wants them and that browsers and curl read all the same, and answers that
//! come before the request has been read.

use std::time::Duration;

use parole_capabilities::backends::net::Connections;
use tokio::io::AsyncReadExt;
use tokio::time::sleep;

use crate::peer::{Ask, Server, client, failed, ok, text};

/// The answer is read; what follows on that connection is not believed.
#[tokio::test]
async fn heads_that_are_written_in_an_odd_way() {
    let client = client();
    for (answer, header) in [
        ("HTTP/1.1 200 OK\r\nx: a;\r\n  b\r\n\tc\r\ncontent-length: 2\r\n\r\nok", Some("a;    b   c")),
        ("HTTP/1.1 200 OK\r\nx:\r\n a\r\ncontent-length: 2\r\n\r\nok", Some("a")),
        ("HTTP/1.1 200 OK\r\nx : a\r\ncontent-length : 2\r\n\r\nok", Some("a")),
        ("HTTP/1.1 200 OK\r\nthis is no header\r\nx: a\r\ncontent-length: 2\r\n\r\nok", Some("a")),
        ("HTTP/1.1 200 OK\r\n<x>: a\r\n: b\r\ncontent-length: 2\r\n\r\nok", None),
        ("HTTP/1.1 200 OK\nx: a\ncontent-length: 2\n\nok", Some("a")),
        ("\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", None),
        ("HTTP/1.1 103 Early Hints\r\nlink: </a>;\r\n x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", None),
    ] {
        let server = Server::answers(answer).await;
        let mut connections = Connections::default();
        for _ in 0..2 {
            let response = Ask::get(&server, "/").on(&client, &mut connections).await.unwrap();
            assert_eq!((response.status, text(&response)), (200, "ok"), "{answer:?}");
            let of = response.headers.iter().find(|(name, _)| name == "x").map(|(_, value)| value.split_whitespace());
            let wanted = header.map(str::split_whitespace);
            assert_eq!(of.map(Iterator::collect::<Vec<_>>), wanted.map(Iterator::collect), "{answer:?}");
            assert!(response.headers.iter().all(|(_, value)| !value.contains(['\r', '\n'])), "{response:?}");
        }
        assert_eq!((server.seen.connections(), connections.idle()), (2, 0), "{answer:?}");
    }
}

/// The twins: what is unusual and leaves no doubt about the end keeps its connection.
#[tokio::test]
async fn unusual_heads_that_are_in_order() {
    let client = client();
    for answer in [
        "HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 Tr\u{e8}s bien\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx:\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\n\n",
    ] {
        let server = Server::answers(answer).await;
        let mut connections = Connections::default();
        for _ in 0..2 {
            let response = Ask::get(&server, "/").on(&client, &mut connections).await.unwrap();
            assert_eq!((response.status, response.body.len()), (200, 2), "{answer:?}");
        }
        assert_eq!((server.seen.connections(), connections.idle()), (1, 1), "{answer:?}");
    }
    for answer in [
        "HTTP/1.0 200 OK\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nok",
    ] {
        let server = Server::once(answer).await;
        assert_eq!(text(&Ask::get(&server, "/").go().await.unwrap()), "ok", "{answer:?}");
    }
}

/// A folded header cannot bring in what is none of it: neither a length nor an end.
#[tokio::test]
async fn a_fold_hides_nothing() {
    let answer = "HTTP/1.1 200 OK\r\nx: a\r\n content-length: 1\r\ncontent-length: 2\r\n\r\nok";
    let server = Server::answers(answer).await;
    let response = Ask::get(&server, "/").go().await.unwrap();
    assert_eq!(text(&response), "ok");
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n content-length: 2\r\n\r\nok";
    let server = Server::answers(answer).await;
    failed(Ask::get(&server, "/").go().await);
}

/// How a server leaves that has said that it wants no more.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// At once, with what it was sent unread: a reset.
    AtOnce,
    /// The same after a moment.
    Later,
    /// As nginx: it says that it is done, and throws away what comes.
    Lingering,
}

async fn refusing(answer: &'static str, leaves: Leaves) -> Server {
    Server::start(move |mut peer| async move {
        let mut some = [0; 100];
        peer.stream.read_exact(&mut some).await.unwrap();
        peer.send(answer).await;
        match leaves {
            Leaves::AtOnce => {}
            Leaves::Later => sleep(Duration::from_millis(100)).await,
            Leaves::Lingering => {
                tokio::io::AsyncWriteExt::shutdown(&mut peer.stream).await.unwrap();
                let _ = tokio::io::copy(&mut peer.stream, &mut tokio::io::sink()).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_answer_before_the_request_was_read() {
    let client = client();
    for (answer, status) in [
        ("HTTP/1.1 413 Too Much\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno", 413),
        ("HTTP/1.1 401 Who\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 401),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 Later\r\ncontent-length: 2\r\n\r\nno", 503),
        ("HTTP/1.0 413 Too Much\r\n\r\nno", 413),
    ] {
        for leaves in [Leaves::AtOnce, Leaves::Later, Leaves::Lingering] {
            for size in [1_000, 200_000, 8_000_000] {
                let server = refusing(answer, leaves).await;
                let body = "x".repeat(size);
                for _ in 0..5 {
                    let mut connections = Connections::default();
                    let response = Ask::post(&server, "/", &body).on(&client, &mut connections).await;
                    let response = response.unwrap_or_else(|failure| panic!("{leaves:?} {size} {answer:?}: {failure}"));
                    assert_eq!((response.status, text(&response)), (status, "no"), "{leaves:?} {size}");
                }
                // A request that may not be repeated is sent once, whatever becomes of it.
                assert_eq!(server.seen.connections(), 5);
            }
        }
    }
}

/// A reset is no end of an answer that is known to be longer, or that says that all is well, and none at all is none.
#[tokio::test]
async fn a_reset_in_the_middle() {
    let client = client();
    let body = "x".repeat(8_000_000);
    for answer in [
        "HTTP/1.1 413 Too Much\r\ncontent-length: 3\r\n\r\nno",
        "HTTP/1.1 413 Too Much\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n",
        "HTTP/1.1 413 Too Mu",
        "",
    ] {
        let server = refusing(answer, Leaves::AtOnce).await;
        let result = Ask::post(&server, "/", &body).on(&client, &mut Connections::default()).await;
        failed(result);
        assert_eq!(server.seen.connections(), 1, "{answer:?}");
    }
}

/// What an idle connection was told before the request came is not the answer to it.
#[tokio::test]
async fn a_last_word_on_an_idle_connection() {
    let server = Server::start(|mut peer| async move {
        peer.request().await;
        peer.send(ok("real")).await;
        sleep(Duration::from_millis(50)).await;
        peer.send("HTTP/1.1 408 Too Slow\r\ncontent-length: 4\r\nconnection: close\r\n\r\nslow").await;
    })
    .await;
    let client = client();
    let mut connections = Connections::default();
    for _ in 0..3 {
        let response = Ask::get(&server, "/").on(&client, &mut connections).await.unwrap();
        assert_eq!(text(&response), "real");
        sleep(Duration::from_millis(150)).await;
    }
}
