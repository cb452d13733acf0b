//! A server of raw bytes, and short forms of requests.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parole_capabilities::backends::net::{Client, Connections, Failure, Limits, Request, Response, exchange};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// What a server saw.
#[derive(Clone, Default)]
pub struct Seen {
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Seen {
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The head of the one request.
    pub fn only(&self) -> String {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }
}

/// One accepted connection.
pub struct Peer<S = TcpStream> {
    pub stream: S,
    pub seen: Seen,
    rest: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub fn new(stream: S, seen: Seen) -> Self {
        Self { stream, seen, rest: Vec::new() }
    }

    /// The next request, body and all; `None` at the end of the connection.
    pub async fn request(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.rest.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.rest[..at + 4]).into_owned();
                let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
                if self.rest.len() >= at + 4 + length {
                    let rest = self.rest.split_off(at + 4 + length);
                    let request = String::from_utf8_lossy(&std::mem::replace(&mut self.rest, rest)).into_owned();
                    self.seen.requests.lock().unwrap().push(request.clone());
                    return Some(request);
                }
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.rest.extend_from_slice(&buffer[..read]),
            }
        }
    }

    /// Whether the client is still there.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok() && self.stream.flush().await.is_ok()
    }
}

pub fn header(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().take_while(|line| !line.is_empty()).skip(1);
    let found = lines.find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)));
    found.map(|(_, value)| value.trim().to_owned())
}

pub struct Server {
    pub address: SocketAddr,
    pub seen: Seen,
}

impl Server {
    pub async fn start<F, D>(serve: F) -> Self
    where
        F: Fn(Peer) -> D + Send + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let all = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                all.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(Peer::new(stream, all.clone())));
            }
        });
        Self { address, seen }
    }

    /// Answers each request with these bytes and keeps the connection.
    pub async fn answers(answer: impl AsRef<[u8]>) -> Self {
        let answer = Arc::new(answer.as_ref().to_vec());
        Self::start(move |mut peer| {
            let answer = Arc::clone(&answer);
            async move {
                while peer.request().await.is_some() {
                    peer.send(answer.as_slice()).await;
                }
            }
        })
        .await
    }

    /// Answers one request with these bytes and ends the connection.
    pub async fn once(answer: impl AsRef<[u8]>) -> Self {
        let answer = Arc::new(answer.as_ref().to_vec());
        Self::start(move |mut peer| {
            let answer = Arc::clone(&answer);
            async move {
                peer.request().await;
                peer.send(answer.as_slice()).await;
            }
        })
        .await
    }

    pub fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }
}

pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

pub fn client() -> Client {
    Client::new(&[]).unwrap()
}

pub fn within(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

pub fn limits(max_bytes: u64) -> Limits {
    Limits::new(max_bytes, within(5_000))
}

/// A call with everything spelled out by the test.
pub struct Ask<'a> {
    pub method: &'a str,
    pub url: Url,
    pub addresses: Vec<SocketAddr>,
    pub headers: Vec<(String, String)>,
    pub body: Option<&'a [u8]>,
    pub repeatable: bool,
    pub limits: Limits,
}

impl<'a> Ask<'a> {
    pub fn get(server: &Server, path: &str) -> Self {
        Self {
            method: "GET",
            url: server.url(path),
            addresses: vec![server.address],
            headers: Vec::new(),
            body: None,
            repeatable: true,
            limits: limits(1024 * 1024),
        }
    }

    pub fn post(server: &Server, path: &str, body: &'a str) -> Self {
        Self { method: "POST", body: Some(body.as_bytes()), repeatable: false, ..Self::get(server, path) }
    }

    pub fn method(self, method: &'a str) -> Self {
        Self { method, ..self }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    pub async fn on(&self, client: &Client, connections: &mut Connections) -> Result<Response, Failure> {
        let request = Request {
            method: self.method,
            url: &self.url,
            addresses: &self.addresses,
            headers: &self.headers,
            body: self.body.map(Bytes::copy_from_slice),
            repeatable: self.repeatable,
        };
        exchange(client, connections, request, self.limits).await
    }

    pub async fn go(&self) -> Result<Response, Failure> {
        self.on(&client(), &mut Connections::default()).await
    }
}

pub fn text(response: &Response) -> &str {
    std::str::from_utf8(&response.body).unwrap()
}

#[track_caller]
pub fn invalid(result: Result<Response, Failure>, about: &str) {
    match result {
        Err(Failure::Invalid(text)) => assert!(text.contains(about), "{text}"),
        other => panic!("{other:?}"),
    }
}

/// The text of a failure after sending.
#[track_caller]
pub fn failed(result: Result<Response, Failure>) -> String {
    match result {
        Err(Failure::Failed { text, sent: true }) => text,
        other => panic!("{other:?}"),
    }
}
