//! Websockets.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use parole_capabilities::backends::net::websocket::{Message, Socket, connect};
use parole_capabilities::backends::net::{Client, Failure};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::{WebSocketStream, accept_async};
use url::Url;

use crate::peer::{Peer, Server, client, header, ok, within};
use crate::tls::acceptor;

const MAX: u64 = 64 * 1024;

async fn echo(mut socket: WebSocketStream<TcpStream>) {
    while let Some(Ok(message)) = socket.next().await {
        if !message.is_close() && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Does the handshake by hand and then sends these bytes.
async fn raw(extra: &'static str, frames: Vec<u8>, repeat: bool) -> Server {
    Server::start(move |mut peer| {
        let frames = frames.clone();
        async move {
            if !opened(&mut peer, extra).await {
                return;
            }
            while peer.send(&frames).await && repeat {}
            while peer.request().await.is_some() {}
        }
    })
    .await
}

async fn opened(peer: &mut Peer, extra: &str) -> bool {
    let Some(request) = peer.request().await else { return false };
    let key = derive_accept_key(header(&request, "sec-websocket-key").unwrap().as_bytes());
    let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n";
    peer.send(format!("{head}sec-websocket-accept: {key}\r\n{extra}\r\n")).await
}

fn url(server: &Server, path: &str) -> Url {
    format!("ws://{}{path}", server.address).parse().unwrap()
}

async fn open(server: &Server) -> Result<Socket, Failure> {
    connect(&client(), &url(server, "/"), &[server.address], MAX, within(2_000)).await
}

#[tokio::test]
async fn there_and_back() {
    let server = Server::start(|peer| async move { echo(accept_async(peer.stream).await.unwrap()).await }).await;
    let mut socket = open(&server).await.unwrap();
    for message in [
        Message::Text("grüß".into()),
        Message::Binary(vec![0, 255]),
        Message::Text(String::new()),
        Message::Binary(vec![1; MAX as usize]),
    ] {
        socket.send(message.clone(), within(1_000)).await.unwrap();
        assert_eq!(socket.receive(within(1_000)).await.unwrap(), Some(message));
    }
    // A message that is too long is not begun.
    let long = Message::Binary(vec![1; MAX as usize + 1]);
    assert_eq!(socket.send(long, within(1_000)).await, Err(Failure::TooLarge(MAX)));
    // Nothing comes: it may be asked again.
    assert_eq!(socket.receive(within(50)).await, Err(Failure::Expired { sent: false }));
    socket.send(Message::Text("again".into()), within(1_000)).await.unwrap();
    assert_eq!(socket.receive(within(1_000)).await.unwrap(), Some(Message::Text("again".into())));
    socket.close().await;
    assert_eq!(socket.send(Message::Text("x".into()), within(1_000)).await, Err(Failure::Closed));
    assert_eq!(socket.receive(within(1_000)).await, Err(Failure::Closed));
    socket.close().await;
}

#[tokio::test]
async fn what_goes_out() {
    let server = raw("", Vec::new(), false).await;
    let named = format!("ws://Listed.example:{}/a b?q=ü#f", server.address.port()).parse().unwrap();
    connect(&client(), &named, &[server.address], MAX, within(2_000)).await.unwrap();
    let request = server.seen.only();
    assert!(request.starts_with("GET /a%20b?q=%C3%BC HTTP/1.1\r\n"), "{request}");
    assert_eq!(header(&request, "host"), Some(format!("listed.example:{}", server.address.port())));
    assert_eq!(request.to_lowercase().matches("\r\nhost:").count(), 1);
    for absent in ["sec-websocket-extensions", "origin", "cookie", "authorization"] {
        assert_eq!(header(&request, absent), None);
    }
    for bad in ["http://127.0.0.1/", "ws://u@127.0.0.1/", "wss://:p@127.0.0.1/"] {
        let result = connect(&client(), &bad.parse().unwrap(), &[server.address], MAX, within(500)).await;
        assert!(matches!(result, Err(Failure::Invalid(_))), "{bad}");
    }
    assert!(connect(&client(), &url(&server, "/"), &[], MAX, within(500)).await.is_err_and(|e| e.unsent()));
    let late = connect(&client(), &url(&server, "/"), &[server.address], MAX, within(0)).await;
    assert_eq!(late.err(), Some(Failure::Expired { sent: false }));
    assert_eq!(server.seen.connections(), 1);
}

/// N03 for websockets, and other answers that open nothing.
#[tokio::test]
async fn other_answers() {
    let canary = Server::answers(ok("canary")).await;
    let accept = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n";
    let endless = format!("HTTP/1.1 101 x\r\nx: {}", "v".repeat(1_000_000));
    for (answer, about) in [
        (format!("HTTP/1.1 302 Found\r\nlocation: ws://{}/\r\n\r\n", canary.address), "status 302"),
        (format!("HTTP/1.1 307 Go\r\nlocation: http://{}/\r\n\r\n", canary.address), "status 307"),
        (ok("hello"), "status 200"),
        ("HTTP/1.1 401 No\r\n\r\n".into(), "status 401"),
        (format!("{accept}sec-websocket-accept: AAAA\r\n\r\n"), "does not open"),
        (format!("{accept}\r\n"), "does not open"),
        ("HTTP/1.1 103 Early\r\n\r\n".repeat(1_000), "status 103"),
        (format!("HTTP/1.1 101 x\r\n{}\r\n", "x: y\r\n".repeat(100_000)), "does not open"),
        (endless, "does not open"),
        ("not http\r\n\r\n".into(), "does not open"),
        (String::new(), "ended before"),
    ] {
        let server = Server::once(&answer).await;
        let failure = open(&server).await.err().unwrap();
        assert!(failure.to_string().contains(about), "{failure} instead of {about}");
        assert!(!failure.unsent());
    }
    assert_eq!(canary.seen.connections(), 0);
    for (extra, fine) in [
        ("sec-websocket-extensions: permessage-deflate\r\n", false),
        ("sec-websocket-protocol: chat\r\n", false),
        ("x-extra: fine\r\n", true),
    ] {
        let server = raw(extra, Vec::new(), false).await;
        assert_eq!(open(&server).await.is_ok(), fine, "{extra}");
    }
    let slow = Server::start(|mut peer| async move {
        while peer.send("H").await {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let result = connect(&client(), &url(&slow, "/"), &[slow.address], MAX, within(200)).await;
    assert!(result.is_err_and(|failure| !failure.unsent()));
}

#[tokio::test]
async fn frames_that_are_wrong() {
    let too_large = Failure::TooLarge(MAX);
    let wrong = |text: &str| Failure::Failed { text: text.into(), sent: true };
    let broken = wrong("the server broke the websocket protocol");
    let fragments = [[0x02, 126, 0x80, 0].as_slice(), &[7; 0x8000], &[0x00, 126, 0x80, 1], &[7; 0x8001]].concat();
    for (frames, expected) in [
        // Declared as 2^63 - 1, 64 KiB + 1, and two parts that are too long together.
        (vec![0x82, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255], too_large.clone()),
        ([[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 1].as_slice(), &[7; 0x10001]].concat(), too_large.clone()),
        (fragments, too_large),
        (vec![0x81, 1, 0xff], wrong("the server sent text that is not UTF-8")),
        // Masked, compressed, of an unknown kind, a continuation of nothing, a long ping.
        (vec![0x81, 0x81, 0, 0, 0, 0, b'x'], broken.clone()),
        (vec![0xc1, 1, b'x'], broken.clone()),
        (vec![0x83, 1, b'x'], broken.clone()),
        (vec![0x80, 1, b'x'], broken.clone()),
        ([[0x89, 126, 0, 126].as_slice(), &[b'x'; 126]].concat(), broken),
    ] {
        let server = raw("", frames.clone(), false).await;
        let mut socket = open(&server).await.unwrap();
        assert_eq!(socket.receive(within(1_000)).await, Err(expected), "{:?}", &frames[..2]);
        assert_eq!(socket.receive(within(1_000)).await, Err(Failure::Closed));
    }
    // In parts, with a ping in between, and of exactly the longest length.
    let fine =
        [[0x02, 126, 0x80, 0].as_slice(), &[7; 0x8000], &[0x89, 0], &[0x80, 126, 0x80, 0], &[7; 0x8000]].concat();
    let server = raw("", fine, false).await;
    let mut socket = open(&server).await.unwrap();
    assert_eq!(socket.receive(within(1_000)).await, Ok(Some(Message::Binary(vec![7; 0x10000]))));
}

/// Pings, empty parts and pongs without end: the deadline holds and others get a turn.
#[tokio::test]
async fn floods_of_nothing() {
    let pings = [0x89, 0].repeat(10_000);
    let pongs = [0x8a, 1, b'x'].repeat(10_000);
    let parts = [[0x01, 0].as_slice(), &[0x00, 0].repeat(10_000)].concat();
    let empty_parts = [0x00, 0].repeat(10_000);
    for (first, flood) in [(Vec::new(), pings), (Vec::new(), pongs), (parts, empty_parts)] {
        let server = Server::start(move |mut peer| {
            let (first, flood) = (first.clone(), flood.clone());
            async move {
                if opened(&mut peer, "").await {
                    peer.send(&first).await;
                    while peer.send(&flood).await {}
                }
            }
        })
        .await;
        let mut socket = open(&server).await.unwrap();
        let ticks = tokio::spawn(async {
            for _ in 0..10 {
                sleep(Duration::from_millis(10)).await;
            }
        });
        let start = Instant::now();
        assert_eq!(socket.receive(within(600)).await, Err(Failure::Expired { sent: false }));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert!(ticks.is_finished());
    }
}

#[tokio::test]
async fn pings_are_answered() {
    let server = Server::start(|peer| async move {
        let mut socket = accept_async(peer.stream).await.unwrap();
        socket.send(Frame::Ping(vec![1, 2].into())).await.unwrap();
        let Some(Ok(Frame::Pong(payload))) = socket.next().await else { return };
        socket.send(Frame::binary(payload)).await.unwrap();
        socket.next().await;
    })
    .await;
    let mut socket = open(&server).await.unwrap();
    assert_eq!(socket.receive(within(1_000)).await, Ok(Some(Message::Binary(vec![1, 2]))));
}

#[tokio::test]
async fn the_end() {
    // A goodbye is an end; after it there is nothing more.
    let server = Server::start(|peer| async move {
        let mut socket = accept_async(peer.stream).await.unwrap();
        socket.send(Frame::text("last")).await.unwrap();
        socket.close(None).await.unwrap();
        assert!(matches!(socket.next().await, Some(Ok(Frame::Close(_)))));
    })
    .await;
    let mut socket = open(&server).await.unwrap();
    assert_eq!(socket.receive(within(1_000)).await, Ok(Some(Message::Text("last".into()))));
    assert_eq!(socket.receive(within(1_000)).await, Ok(None));
    assert_eq!(socket.receive(within(1_000)).await, Ok(None));
    assert_eq!(socket.send(Message::Text("x".into()), within(1_000)).await, Err(Failure::Closed));
    // No goodbye is none.
    let server = Server::start(|mut peer| async move {
        opened(&mut peer, "").await;
        peer.stream.shutdown().await.unwrap();
    })
    .await;
    let mut socket = open(&server).await.unwrap();
    assert_eq!(socket.receive(within(1_000)).await, Err(Failure::Closed));
    // A server that does not read: sending ends at the deadline, and so does the goodbye.
    let server = Server::start(|mut peer| async move {
        opened(&mut peer, "").await;
        sleep(Duration::from_secs(60)).await;
        drop(peer);
    })
    .await;
    let mut socket = connect(&client(), &url(&server, "/"), &[server.address], 1 << 26, within(1_000)).await.unwrap();
    let big = Message::Binary(vec![0; 1 << 25]);
    assert_eq!(socket.send(big, within(200)).await, Err(Failure::Expired { sent: true }));
    assert_eq!(socket.receive(within(200)).await, Err(Failure::Closed));
    let start = Instant::now();
    socket.close().await;
    assert!(start.elapsed() < Duration::from_secs(3));
}

/// What was sent last arrives, though the server had something to say that nobody reads.
#[tokio::test]
async fn the_last_word_arrives() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |peer| {
        let tell = tell.clone();
        async move {
            let mut socket = accept_async(peer.stream).await.unwrap();
            socket.send(Frame::binary(vec![0; 60_000])).await.unwrap();
            sleep(Duration::from_millis(50)).await;
            while let Some(Ok(Frame::Text(text))) = socket.next().await {
                tell.send(text.len()).unwrap();
            }
        }
    })
    .await;
    for _ in 0..5 {
        // Long enough that a part of it is still on this side when it has been sent.
        let to = url(&server, "/");
        let mut socket = connect(&client(), &to, &[server.address], 1 << 22, within(2_000)).await.unwrap();
        socket.send(Message::Text("x".repeat(1 << 20)), within(1_000)).await.unwrap();
        socket.close().await;
        drop(socket);
        assert_eq!(timeout(Duration::from_secs(2), told.recv()).await, Ok(Some(1 << 20)));
    }
}

#[tokio::test]
async fn over_tls() {
    let (acceptor, root) = acceptor(&["ws.example"], false);
    let server = Server::start(move |peer| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(peer.stream).await else { return };
            let mut socket = accept_async(stream).await.unwrap();
            socket.send(Frame::text("private")).await.unwrap();
            socket.next().await;
        }
    })
    .await;
    let port = server.address.port();
    let trusting = Client::new(&[root.as_bytes()]).unwrap();
    let to = async |client: &Client, host: &str| {
        let url = format!("wss://{host}:{port}/").parse().unwrap();
        connect(client, &url, &[server.address], MAX, within(2_000)).await
    };
    let mut socket = to(&trusting, "ws.example").await.unwrap();
    assert_eq!(socket.receive(within(1_000)).await, Ok(Some(Message::Text("private".into()))));
    assert!(to(&trusting, "other.example").await.is_err_and(|failure| failure.unsent()));
    assert!(to(&client(), "ws.example").await.is_err_and(|failure| failure.unsent()));
}
