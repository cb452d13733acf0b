//! What the servers of the tests answer, by path.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use parole_capabilities::backends::net::USUAL;

use crate::canary::{Hit, Log, put};

/// How long the slow page waits after each byte.
const SLOW: Duration = Duration::from_millis(200);

/// An answer.
#[derive(Clone, Debug)]
pub enum Page {
    /// An ordinary one.
    Plain {
        /// The status.
        status: u16,
        /// The headers, without those for the length.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// These bytes, whatever they are; then the connection ends.
    Raw(Vec<u8>),
    /// This head, then this piece again and again, with a pause; then the connection ends.
    Again {
        /// What comes first.
        head: Vec<u8>,
        /// What is repeated.
        piece: Vec<u8>,
        /// How often.
        times: u64,
        /// The wait after each.
        pause: Duration,
    },
    /// Another answer, once the server is told to let it go.
    Held(Box<Page>),
    /// None.
    Silence,
}

impl Page {
    /// A status and a text.
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Page::Plain { status, headers: Vec::new(), body: body.into() }
    }

    /// A redirect to this `Location`.
    pub fn redirect(status: u16, location: &str) -> Self {
        let headers = vec![("Location".to_owned(), location.to_owned())];
        Page::Plain { status, headers, body: b"moved".to_vec() }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        if let Page::Plain { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// `piece` again and again, for as long as anybody listens.
    fn endless(head: &str, piece: &[u8]) -> Self {
        Page::Again { head: head.into(), piece: piece.to_vec(), times: u64::MAX, pause: Duration::ZERO }
    }
}

/// The pages of a listed server. `name` is what it calls itself.
pub fn listed(name: &str, hit: &Hit, log: &Log) -> Page {
    let (path, query) = hit.target.split_once('?').unwrap_or((&hit.target, ""));
    let mut parts = path.trim_start_matches('/').split('/');
    let (page, detail) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let number = detail.parse::<u64>().unwrap_or(0);
    let status = detail.parse::<u16>().unwrap_or(302);
    match page {
        "ok" => Page::text(200, format!("ok from {name}")),
        "echo" => echo(hit),
        "where" => Page::text(200, format!("{} {} {}", hit.local, hit.header("host"), hit.target)),
        "log" => {
            let seen: Vec<_> = log.hits.iter().map(|hit| format!("{} {}", hit.method, hit.target)).collect();
            Page::text(200, seen.join(", "))
        }
        "count" => Page::text(200, format!("{} requests before", log.hits.len())),
        "status" => Page::text(status, format!("status {status}")),
        "redirect" => Page::redirect(status, query),
        "hops" if number == 0 => Page::text(200, "the end of all hops"),
        "hops" => Page::redirect(302, &format!("/hops/{}", number - 1)),
        "loop" => Page::redirect(302, "/loop"),
        "nowhere" => Page::text(302, "there is no Location"),
        "both" => Page::redirect(302, "/ok").with("Location", query),
        "cookie" => Page::text(200, "have a cookie").with("Set-Cookie", "guest=marked; Path=/"),
        "private" => Page::text(401, "who are you?").with("WWW-Authenticate", "Basic realm=\"all\""),
        "length" => Page::text(200, format!("count {}", hit.body.len())),
        "keys" => {
            let own =
                if hit.all("idempotency-key").any(|key| key == "mine" || key == "too") { ", one its own" } else { "" };
            Page::text(200, format!("{} keys{own}", hit.all("idempotency-key").count()))
        }
        "hold" => Page::Held(Box::new(echo(hit))),
        "stall" => Page::Silence,
        // So often it is busy, then no more.
        "busy" if log.hits.iter().filter(|earlier| earlier.target == hit.target).count() < number as usize => {
            Page::text(503, "busy")
        }
        "busy" => Page::text(200, format!("free after {} requests", log.hits.len() + 1)),
        _ => hostile(page, number),
    }
}

/// What was asked, in one line, the headers by name.
fn echo(hit: &Hit) -> Page {
    let headers = hit.headers.iter().map(|(name, value)| (name.to_lowercase(), value.as_str()));
    // What goes out where a guest says nothing else is in every request: it is left out while it is that very text.
    let told = headers.filter(|(name, value)| !USUAL.contains(&(name.as_str(), *value)));
    let mut headers: Vec<_> = told.map(|(name, value)| format!("{name}: {value}")).collect();
    headers.sort();
    let told = format!("{} {} [{}] {}", hit.method, hit.target, headers.join("; "), String::from_utf8_lossy(&hit.body));
    Page::text(200, told)
}

/// Answers that want something from who reads them.
fn hostile(page: &str, number: u64) -> Page {
    let length = usize::try_from(number).unwrap_or(0);
    let sized = |more: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {number}\r\n{more}\r\n");
    let mib = 1 << 20;
    match page {
        "bytes" => Page::text(200, vec![b'b'; length]),
        "unsized" => Page::Raw([b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'u'; length]].concat()),
        "chunked" => {
            let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{number:x}\r\n");
            Page::Raw([head.into_bytes(), vec![b'c'; length], b"\r\n0\r\n\r\n".to_vec()].concat())
        }
        "claims" => Page::Raw([sized("").into_bytes(), b"too little".to_vec()].concat()),
        "endless" => Page::endless("HTTP/1.1 200 OK\r\n\r\n", &[b'e'; 16384]),
        "chunks" => Page::endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\ne\r\n"),
        "headers" => Page::Raw([&b"HTTP/1.1 200 OK\r\n"[..], &b"X-Much: 1\r\n".repeat(length), b"\r\n"].concat()),
        "header" => Page::Raw([&b"HTTP/1.1 200 OK\r\nX-Long: "[..], &vec![b'h'; length], b"\r\n\r\n"].concat()),
        "head" => Page::endless("HTTP/1.1 200 OK\r\n", b"X-Much: 1\r\n"),
        "continue" => Page::endless("", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "slow" => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec();
            Page::Again { head, piece: b"s".to_vec(), times: 1000, pause: SLOW }
        }
        // Many small zipped files in a row are one big one.
        "gzip" => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n".to_vec();
            Page::Again { head, piece: zipped(mib), times: number, pause: Duration::ZERO }
        }
        "not-gzip" => Page::text(200, "this is not zipped").with("Content-Encoding", "gzip"),
        "lengths" => Page::Raw(sized("Content-Length: 3\r\n").into_bytes()),
        "folded" => Page::Raw(sized("X-Folded: a\r\n b\r\n").into_bytes()),
        "garbage" => Page::Raw(b"\0\xff\xfe this is not HTTP\r\n\r\n".to_vec()),
        "odd-status" => Page::Raw(b"HTTP/1.1 99999 What\r\n\r\n".to_vec()),
        "switch" => Page::Raw(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw".to_vec()),
        "trailers" => {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Set-Cookie\r\n\r\n";
            Page::Raw([head.as_bytes(), b"2\r\nok\r\n0\r\nSet-Cookie: a=b\r\n\r\n"].concat())
        }
        _ => Page::text(404, "no such page"),
    }
}

fn zipped(length: usize) -> Vec<u8> {
    let mut zip = GzEncoder::new(Vec::new(), Compression::best());
    // Into memory: it cannot fail.
    drop(zip.write_all(&vec![0; length]));
    zip.finish().unwrap_or_default()
}

/// Writes an answer; says whether the connection may be used again.
pub(crate) fn write(
    stream: &mut TcpStream,
    hit: &Hit,
    page: Page,
    stopped: &dyn Fn() -> bool,
) -> std::io::Result<bool> {
    match page {
        Page::Plain { status, headers, body } => {
            let mut head = format!("HTTP/1.1 {status} Status\r\n");
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
            let body = if hit.method == "HEAD" { Vec::new() } else { body };
            put(stream, &[head.into_bytes(), body].concat())?;
            return Ok(true);
        }
        Page::Raw(bytes) => put(stream, &bytes)?,
        Page::Again { head, piece, times, pause } => {
            put(stream, &head)?;
            for _ in 0..times {
                if stopped() {
                    break;
                }
                put(stream, &piece)?;
                thread::sleep(pause);
            }
        }
        Page::Held(_) => {}
        Page::Silence => {
            while !stopped() {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
    Ok(false)
}
