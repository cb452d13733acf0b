//! Bodies that come zipped.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use parole_capabilities::net::Failure;

use crate::peer::{Ask, Server, failed, limits, text};

fn zip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn serve(body: &[u8], coding: &str) -> Server {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n", body.len());
    Server::answers([head.as_bytes(), body].concat()).await
}

#[tokio::test]
async fn undone_only_where_the_host_asked() {
    let body = zip(b"hello");
    for coding in ["gzip", "GZip", "x-gzip"] {
        let server = serve(&body, coding).await;
        let response = Ask::get(&server, "/").go().await.unwrap();
        assert_eq!((text(&response), response.headers.len()), ("hello", 0));
    }
    for (name, value) in [("Accept-Encoding", "gzip"), ("accept-encoding", "br"), ("Range", "bytes=0-")] {
        let server = serve(&body, "gzip").await;
        let response = Ask::get(&server, "/").with(name, value).go().await.unwrap();
        assert_eq!((&response.body, response.headers.len()), (&body, 2));
        assert_eq!(server.seen.only().matches("accept-encoding").count(), usize::from(name != "Range"));
    }
    // What nobody asked for is handed on as it is, and says so.
    for coding in ["br", "gzip, gzip", "identity"] {
        let server = serve(&body, coding).await;
        let response = Ask::get(&server, "/").go().await.unwrap();
        assert_eq!((&response.body, response.headers.len()), (&body, 2));
    }
    let server = serve(b"", "gzip").await;
    assert_eq!(Ask::get(&server, "/").go().await.unwrap().body, b"");
    let server = serve(&[zip(b"two "), zip(b"members")].concat(), "gzip").await;
    assert_eq!(text(&Ask::get(&server, "/").go().await.unwrap()), "two members");
}

/// N10: 256 MiB in 256 KiB, and one that is zipped twice.
#[tokio::test]
async fn a_bomb() {
    let bomb = zip(&vec![0; 256 * 1024 * 1024]);
    assert!(bomb.len() < 300_000);
    let server = serve(&bomb, "gzip").await;
    assert_eq!(Ask::get(&server, "/").go().await, Err(Failure::TooLarge(1024 * 1024)));
    let server = serve(&zip(&bomb), "gzip").await;
    assert_eq!(Ask::get(&server, "/").go().await.unwrap().body, bomb);
}

#[tokio::test]
async fn counted_as_it_comes_out() {
    let server = serve(&zip(&[b'x'; 10_000]), "gzip").await;
    assert_eq!(Ask::get(&server, "/").limits(limits(9_999)).go().await, Err(Failure::TooLarge(9_999)));
    assert_eq!(Ask::get(&server, "/").limits(limits(10_000)).go().await.unwrap().body, [b'x'; 10_000]);
}

/// Members that hold nothing, without end.
#[tokio::test]
async fn a_flood_of_nothing() {
    let server = Server::start(|mut peer| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n").await;
        let many = zip(b"").repeat(1_000);
        while peer.send(&many).await {}
    })
    .await;
    assert_eq!(Ask::get(&server, "/").go().await, Err(Failure::TooLarge(1024 * 1024)));
}

#[tokio::test]
async fn damaged() {
    let body = zip(&(0..20_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    let mut flipped = body.clone();
    let end = flipped.len() - 6;
    flipped[end] ^= 1;
    let mut middle = body.clone();
    middle[body.len() / 2] ^= 0x55;
    let cases = [
        b"this is not gzip, whatever the header says".to_vec(),
        body[..5].to_vec(),
        body[..12].to_vec(),
        body[..body.len() / 2].to_vec(),
        body[..body.len() - 1].to_vec(),
        [body.as_slice(), b"garbage behind it"].concat(),
        flipped,
        middle,
    ];
    for (number, case) in cases.iter().enumerate() {
        let server = serve(case, "gzip").await;
        assert!(failed(Ask::get(&server, "/").go().await).contains("zipped body"), "{number}");
    }
    let server = serve(&body, "gzip").await;
    assert_eq!(Ask::get(&server, "/").go().await.unwrap().body.len(), 80_000);
}
