//! Bodies that come zipped.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use parole_capabilities::backends::net::Failure;

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
        [body.as_slice(), &body[..body.len() - 1]].concat(),
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

/// What stands behind the end is no part of the body, for browsers and curl neither.
#[tokio::test]
async fn something_behind_the_end() {
    let zipped = zip(b"hello");
    for behind in [&b"\0"[..], &[0; 3_000], b"\r\n", b"junk", b"\x1f", b"\x1fjunk"] {
        let server = serve(&[&zipped, behind].concat(), "gzip").await;
        assert_eq!(text(&Ask::get(&server, "/").go().await.unwrap()), "hello", "{behind:?}");
    }
    // It counts all the same.
    let server = serve(&[&zipped[..], &vec![0; 70_000]].concat(), "gzip").await;
    assert_eq!(Ask::get(&server, "/").limits(limits(1_000)).go().await, Err(Failure::TooLarge(1_000)));
    // Three members, sent a byte at a time, and something behind them.
    let many = [zip(b"one "), zip(b""), zip(b"three"), b"\0\0".to_vec()].concat();
    let server = Server::start(move |mut peer| {
        let many = many.clone();
        async move {
            peer.request().await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", many.len());
            peer.send(head).await;
            for byte in many {
                peer.send([byte]).await;
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    assert_eq!(text(&Ask::get(&server, "/").go().await.unwrap()), "one three");
}

/// Nobody asked for it, and some servers send it none the less: with its frame, or without.
#[tokio::test]
async fn deflate() {
    let long: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
    for plain in [&b""[..], b"h", b"hello", &long] {
        let mut framed = ZlibEncoder::new(Vec::new(), Compression::best());
        framed.write_all(plain).unwrap();
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::best());
        bare.write_all(plain).unwrap();
        for body in [framed.finish().unwrap(), bare.finish().unwrap()] {
            let server = serve(&[body.as_slice(), b"behind"].concat(), "deflate").await;
            let response = Ask::get(&server, "/").go().await.unwrap();
            assert_eq!((response.body.as_slice(), response.headers.len()), (plain, 0));
            let server = serve(&body[..body.len() - 1], "deflate").await;
            assert!(failed(Ask::get(&server, "/").go().await).contains("zipped body"));
            if plain.len() > 1_000 {
                let server = serve(&body, "deflate").await;
                let result = Ask::get(&server, "/").limits(limits(79_999)).go().await;
                assert_eq!(result, Err(Failure::TooLarge(79_999)));
            }
            // A guest that asks for a coding gets what the server sends.
            let server = serve(&body, "deflate").await;
            let response = Ask::get(&server, "/").with("Accept-Encoding", "deflate").go().await.unwrap();
            assert_eq!((response.body, response.headers.len()), (body, 2));
        }
    }
    for no_deflate in [&b"this is none"[..], b"x", &[0x78, 0x9c, 0xff, 0xff]] {
        let server = serve(no_deflate, "deflate").await;
        assert!(failed(Ask::get(&server, "/").go().await).contains("zipped body"));
    }
}
