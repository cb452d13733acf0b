//! Answers that contradict themselves.

use parole_capabilities::backends::net::Connections;

use crate::peer::{Ask, Server, client, failed, ok, text};

#[tokio::test]
async fn not_http() {
    for answer in [
        "hello\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: \0\r\n\r\n\0",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ] {
        let server = Server::once(answer).await;
        failed(Ask::get(&server, "/").go().await);
    }
    let server = Server::once("HTTP/1.0 200 \r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx").await;
    assert_eq!(text(&Ask::get(&server, "/").go().await.unwrap()), "x");
}

/// Chunked and a length at once: the chunks are read, the connection is not used again.
#[tokio::test]
async fn two_framings() {
    let both = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let server = Server::answers(both).await;
    let mut connections = Connections::default();
    for _ in 0..2 {
        let response = Ask::get(&server, "/").on(&client(), &mut connections).await.unwrap();
        assert_eq!(text(&response), "ok");
    }
    assert_eq!((server.seen.connections(), connections.idle()), (2, 0));
}

/// A second answer on a kept connection, in the same packet or later, is never taken for the
/// answer to the next request.
#[tokio::test]
async fn a_smuggled_answer() {
    for later in [false, true] {
        let server = Server::start(move |mut peer| async move {
            while peer.request().await.is_some() {
                let smuggled = ok("smuggled");
                if later {
                    peer.send(ok("real")).await;
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    peer.send(smuggled).await;
                } else {
                    peer.send(ok("real") + &smuggled).await;
                }
            }
        })
        .await;
        let mut connections = Connections::default();
        let client = client();
        for _ in 0..3 {
            let response = Ask::get(&server, "/").on(&client, &mut connections).await.unwrap();
            assert_eq!(text(&response), "real");
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        }
        assert_eq!(server.seen.connections(), 3);
    }
}

/// A body on an answer that has none is not the next answer either.
#[tokio::test]
async fn a_body_where_none_is() {
    for (method, status) in [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")] {
        let server = Server::answers(format!("HTTP/1.1 {status}\r\n\r\n{}", ok("smuggled"))).await;
        let mut connections = Connections::default();
        let client = client();
        for _ in 0..2 {
            let response = Ask::get(&server, "/").method(method).on(&client, &mut connections).await.unwrap();
            assert_eq!(response.body, b"");
        }
        assert_eq!(server.seen.connections(), 2);
    }
}
