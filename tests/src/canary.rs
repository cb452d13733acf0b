//! Servers for guests to talk to. Each writes down who came, at which address, and what was asked: what is not
//! in that log was not dialled.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::canary_pages::{self as pages, Page};
use crate::canary_socket as websocket;
use crate::fixture::{Failure, because};

/// The longest body that a server reads.
const BODY_MAX: usize = 64 << 20;
/// The longest line of a head.
const LINE_MAX: u64 = 1 << 20;
/// How long a server waits for the next request of a connection, and for room to write.
const PATIENCE: Duration = Duration::from_secs(30);

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The address that was dialled.
    pub local: SocketAddr,
    /// The method.
    pub method: String,
    /// What the request line asks for.
    pub target: String,
    /// The headers, names as they were sent.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Hit {
    /// The values of a header, in order.
    pub fn all<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h str> {
        self.headers.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The first value of a header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }
}

/// What a server has seen.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The addresses that were dialled, one for each connection.
    pub connections: Vec<SocketAddr>,
    /// The requests, in the order in which they were complete.
    pub hits: Vec<Hit>,
}

/// What a server answers.
pub type Script = dyn Fn(&Hit, &Log) -> Page + Send + Sync;

/// A server. It stops when it is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    log: Mutex<Log>,
    script: Box<Script>,
    stopped: AtomicBool,
    held: AtomicBool,
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Listens at an address, port 0 for a fresh one.
    pub fn start(
        address: SocketAddr,
        script: impl Fn(&Hit, &Log) -> Page + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address).map_err(because(format!("listening at {address}")))?;
        let address = listener.local_addr().map_err(because("the address of a server"))?;
        let shared = Arc::new(Shared {
            log: Mutex::default(),
            script: Box::new(script),
            stopped: AtomicBool::new(false),
            held: AtomicBool::new(true),
        });
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if own.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&own)) else { continue };
                thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Ok(Server { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen so far.
    pub fn log(&self) -> Log {
        self.shared.log().clone()
    }

    /// Forgets what it has seen.
    pub fn forget(&self) {
        *self.shared.log() = Log::default();
    }

    /// Lets the answers go that [`Page::Held`] holds back, those to come included.
    pub fn release(&self) {
        self.shared.held.store(false, Ordering::SeqCst);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.release();
        // Wakes the thread that waits for the next connection.
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let local = plain(stream.local_addr()?);
    shared.log().connections.push(local);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while let Some(hit) = request(&mut reader, local)? {
        let page = {
            let mut log = shared.log();
            let page = (shared.script)(&hit, &log);
            log.hits.push(hit.clone());
            page
        };
        if websocket::is_asked(&hit) {
            return websocket::serve(stream, &hit);
        }
        let page = match page {
            Page::Held(page) => {
                while shared.held.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(5));
                }
                *page
            }
            page => page,
        };
        let stopped = || shared.stopped.load(Ordering::SeqCst);
        if !pages::write(&mut stream, &hit, page, &stopped)? {
            return Ok(());
        }
    }
    Ok(())
}

/// An IPv4 address that a server for both kinds sees as IPv6, as itself.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The next request of a connection; nothing at its end.
fn request(reader: &mut BufReader<TcpStream>, local: SocketAddr) -> std::io::Result<Option<Hit>> {
    // What begins with no letter is not HTTP: TLS, perhaps, which would wait for an answer.
    if !reader.fill_buf()?.first().is_some_and(u8::is_ascii_alphabetic) {
        return Ok(None);
    }
    let Some(first) = line(reader)? else { return Ok(None) };
    let mut words = first.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let mut hit = Hit { local, method: word(), target: word(), headers: Vec::new(), body: Vec::new() };
    while let Some(line) = line(reader)?.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        hit.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let length = hit.header("content-length").parse::<usize>().unwrap_or(0).min(BODY_MAX);
    hit.body = vec![0; length];
    reader.read_exact(&mut hit.body)?;
    Ok(Some(hit))
}

fn line(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let line = String::from_utf8_lossy(&line);
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Writes bytes in one piece.
pub(crate) fn put(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes)?;
    stream.flush()
}
