//! Futures that are dropped at any point: nothing panics and nothing is left behind.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parole_capabilities::backends::net::{Connections, websocket};
use tokio::time::{sleep, timeout};

use crate::peer::{Ask, Server, client, ok, text, within};

/// After each number of polls, and after each of many times.
#[tokio::test]
async fn dropped_at_any_point() {
    let server = Server::start(|mut peer| async move {
        while peer.request().await.is_some() {
            for part in ["HTTP/1.1 200 ", "OK\r\ntransfer-encoding: chunked\r\n", "\r\n3\r\nab", "c\r\n", "0\r\n\r\n"] {
                sleep(Duration::from_millis(1)).await;
                peer.send(part).await;
            }
        }
    })
    .await;
    let client = client();
    let mut connections = Connections::default();
    let mut whole = 0;
    for polls in 0..60 {
        let ask = Ask::get(&server, "/");
        let mut call = pin!(ask.on(&client, &mut connections));
        for _ in 0..polls {
            if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                whole += 1;
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(whole > 5, "{whole}");
    for micros in (0..12_000).step_by(150) {
        let ask = Ask::get(&server, "/");
        let _ = timeout(Duration::from_micros(micros), ask.on(&client, &mut connections)).await;
    }
    assert!(connections.idle() <= 1);
    let response = Ask::get(&server, "/").on(&client, &mut connections).await.unwrap();
    assert_eq!(text(&response), "abc");
}

/// Every connection that the server saw begin, it sees end.
#[tokio::test]
async fn nothing_is_left_open() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let server = Server::start(move |mut peer| {
        let count = Arc::clone(&count);
        async move {
            while peer.request().await.is_some() {}
            count.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let client = client();
    for wait in 0..100 {
        let ask = Ask::get(&server, "/");
        let mut connections = Connections::default();
        let _ = timeout(Duration::from_micros(wait * 50), ask.on(&client, &mut connections)).await;
    }
    for _ in 0..100 {
        sleep(Duration::from_millis(20)).await;
        if server.seen.connections() > 20 && ended.load(Ordering::SeqCst) == server.seen.connections() {
            return;
        }
    }
    panic!("{} connections, {} ended", server.seen.connections(), ended.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_websocket_dropped_at_any_point() {
    let server = Server::start(|peer| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(peer.stream).await else { return };
        use futures_util::{SinkExt, StreamExt};
        while let Some(Ok(message)) = socket.next().await {
            if message.is_binary() && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await;
    let client = client();
    let url = format!("ws://{}/", server.address).parse().unwrap();
    for polls in 0..40 {
        let mut call = pin!(async {
            let mut socket =
                websocket::connect(&client, &url, &[server.address], 1 << 20, within(1_000)).await.unwrap();
            for _ in 0..3 {
                let message = websocket::Message::Binary(vec![7; 100_000]);
                socket.send(message.clone(), within(1_000)).await.unwrap();
                assert_eq!(socket.receive(within(1_000)).await.unwrap(), Some(message));
            }
            socket.close().await;
        });
        for _ in 0..polls {
            if let Poll::Ready(()) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
    let server = Server::answers(ok("")).await;
    assert!(websocket::connect(&client, &url, &[server.address], 9, within(500)).await.is_err());
}
