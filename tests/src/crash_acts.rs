//! What a guest does to the outside in the crash tests, and how a test sees how often it has happened.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::crash::Place;
use crate::crash_trace::Call;
use crate::ensure;
use crate::fixture::{Failure, because};
use crate::postgres;

/// How long something that has been sent may take to arrive.
const ARRIVES: Duration = Duration::from_secs(10);

/// Something that a guest does to the outside, once in a run.
pub trait Act: Sized {
    /// A word for reports.
    const NAME: &'static str;
    /// Its capability, and the function in the journal.
    const CAPABILITY: &'static str;
    /// Whether a repetition with the same key is granted.
    const IDEMPOTENT: bool = false;
    /// Whether what has happened lies in the place, and is put back with it.
    const IN_THE_PLACE: bool = false;
    /// See [`crate::crash_points::Scenario::ALSO`].
    const ALSO: &'static [&'static str] = &[];
    /// What the guest prints when it is done.
    const SAYS: &'static str;
    /// The same when it was told by a person.
    const SAYS_IF_TOLD: &'static str = Self::SAYS;

    /// Makes what is there before.
    fn prepare(place: &Place) -> Result<Self, Failure>;

    /// What the policy grants, in TOML.
    fn grants(&self) -> String;

    /// The call of the guest; `ask` has it wait before.
    fn call(&self, ask: bool) -> String;

    /// The ok value that a person tells.
    fn told() -> Value;

    /// Forgets what has happened outside of the place.
    fn begin(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// How often it has happened, once whatever is under way has arrived. It may count from anywhere.
    fn times(&self, place: &Place) -> Result<usize, Failure>;

    /// Looks for what should not be left over in the end.
    fn is_tidy(&self, _: &Place) -> Result<(), Failure> {
        Ok(())
    }

    /// See [`crate::crash_points::Scenario::is_told`].
    fn is_told(_: &Call) -> bool {
        false
    }
}

/// A server that counts.
pub struct Counter {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The keys and bodies of the requests that have arrived.
    requests: Mutex<Vec<(String, String)>>,
    open: AtomicUsize,
    holds: AtomicBool,
    /// Milliseconds.
    delay: AtomicU64,
    stopped: AtomicBool,
}

impl Counter {
    /// Starts one on loopback.
    pub fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(because("listening"))?;
        let address = listener.local_addr().map_err(because("the address of a server"))?;
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if own.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&own)) else { continue };
                shared.open.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    drop(shared.serve(stream));
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Ok(Counter { address, shared })
    }

    /// Where it is.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether it keeps its answers for itself.
    pub fn hold(&self, holds: bool) {
        self.shared.holds.store(holds, Ordering::SeqCst);
    }

    /// How long it thinks about each request, in milliseconds.
    pub fn think(&self, ms: u64) {
        self.shared.delay.store(ms, Ordering::SeqCst);
    }

    /// The keys of the requests so far; an empty one is none.
    #[must_use]
    pub fn now(&self) -> Vec<String> {
        self.requests().into_iter().map(|(key, _)| key).collect()
    }

    /// How often something was asked for.
    #[must_use]
    pub fn count(&self, body: &str) -> usize {
        self.requests().iter().filter(|(_, own)| own == body).count()
    }

    fn requests(&self) -> Vec<(String, String)> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets them.
    pub fn forget(&self) {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The same when everything that was sent has arrived.
    pub fn all(&self) -> Result<Vec<String>, Failure> {
        // Connections are taken in their order: when this one is, all of the dead are.
        let mut last = TcpStream::connect(self.address).map_err(because("connecting"))?;
        last.write_all(b"PING\r\n\r\n").map_err(because("asking"))?;
        last.read_to_end(&mut Vec::new()).map_err(because("hearing"))?;
        let until = Instant::now() + ARRIVES;
        while self.shared.open.load(Ordering::SeqCst) > 0 {
            ensure!(Instant::now() < until, "a connection of a process that has ended is open");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(self.now())
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.hold(false);
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        loop {
            let (mut key, mut length, mut first) = (String::new(), 0, String::new());
            if reader.read_line(&mut first)? == 0 || first.starts_with("PING") {
                return Ok(());
            }
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                match line.trim_end().split_once(": ") {
                    Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                        length = value.parse().unwrap_or(0);
                    }
                    Some((name, value)) if name.eq_ignore_ascii_case("idempotency-key") => key = value.to_owned(),
                    Some(_) => {}
                    None => break,
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            // Counted before it is answered.
            let request = (key, String::from_utf8_lossy(&body).into_owned());
            self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            thread::sleep(Duration::from_millis(self.delay.load(Ordering::SeqCst)));
            while self.holds.load(Ordering::SeqCst) {
                // Until the other side is gone.
                stream.set_nonblocking(true)?;
                let gone = matches!(stream.peek(&mut [0]), Ok(0));
                stream.set_nonblocking(false)?;
                if gone {
                    return Ok(());
                }
                thread::sleep(Duration::from_millis(1));
            }
            stream.write_all(b"HTTP/1.1 201 Made\r\nContent-Length: 5\r\n\r\ntaken")?;
        }
    }
}

/// `fetch` with POST.
pub struct Post<const IDEMPOTENT: bool> {
    /// Where it goes.
    pub server: Counter,
}

impl<const IDEMPOTENT: bool> Act for Post<IDEMPOTENT> {
    const NAME: &'static str = if IDEMPOTENT { "POST, idempotent" } else { "POST" };
    const CAPABILITY: &'static str = "fetch";
    const IDEMPOTENT: bool = IDEMPOTENT;
    const ALSO: &'static [&'static str] = &["connect", "writev", "sendto", "recvfrom"];
    const SAYS: &'static str = "taken\n";
    const SAYS_IF_TOLD: &'static str = "told\n";

    fn prepare(_: &Place) -> Result<Self, Failure> {
        Ok(Self { server: Counter::start()? })
    }

    fn grants(&self) -> String {
        let effect = if IDEMPOTENT { "idempotent" } else { "once" };
        let origin = self.server.origin();
        format!("[grant.fetch]\norigins = [\"{origin}\"]\nmethods = [\"POST\"]\neffect = \"{effect}\"\n")
    }

    fn call(&self, ask: bool) -> String {
        format!("post({ask}, \"{}/things\", \"one thing\")", self.server.origin())
    }

    fn told() -> Value {
        json!({ "status": 201, "headers": [], "body": "dG9sZA==" })
    }

    fn begin(&self) -> Result<(), Failure> {
        self.server.forget();
        Ok(())
    }

    /// Requests; those with the same key count once, as they do for a server that knows what it is for.
    fn times(&self, _: &Place) -> Result<usize, Failure> {
        let all = self.server.all()?;
        let (without, with): (Vec<&String>, Vec<&String>) = all.iter().partition(|key| key.is_empty());
        ensure!(IDEMPOTENT || with.is_empty(), "keys that nobody has granted: {with:?}");
        Ok(without.len() + with.into_iter().collect::<BTreeSet<_>>().len())
    }
}

/// `write_file`, of a file that was not there.
pub struct WriteFile(Cell<usize>);

impl Act for WriteFile {
    const NAME: &'static str = "write_file";
    const CAPABILITY: &'static str = "write_file";
    const SAYS: &'static str = "written\n";

    fn prepare(place: &Place) -> Result<Self, Failure> {
        fs::create_dir(place.path("out")).map_err(because("out"))?;
        Ok(Self(Cell::new(0)))
    }

    fn grants(&self) -> String {
        "[grant.write_file]\ndirs = { \"/out\" = \"./out\" }\n".into()
    }

    fn call(&self, ask: bool) -> String {
        format!("write({ask}, \"/out/thing.txt\", \"one thing\")")
    }

    fn told() -> Value {
        Value::Null
    }

    fn begin(&self) -> Result<(), Failure> {
        self.0.set(0);
        Ok(())
    }

    /// Takes the file away, so that a second one is seen.
    fn times(&self, place: &Place) -> Result<usize, Failure> {
        let path = place.path("out/thing.txt");
        if path.exists() {
            let text = fs::read_to_string(&path).map_err(because(path.display()))?;
            ensure!(text == "one thing", "a file is half written: {text:?}");
            fs::remove_file(&path).map_err(because(path.display()))?;
            self.0.set(self.0.get() + 1);
        }
        Ok(self.0.get())
    }

    fn is_tidy(&self, place: &Place) -> Result<(), Failure> {
        let names = place.names("out")?;
        ensure!(names.is_empty(), "left over: {names:?}");
        Ok(())
    }

    fn is_told(call: &Call) -> bool {
        call.path.starts_with("out")
    }
}

/// `query` with an INSERT into an SQLite file.
pub struct Sqlite<const IDEMPOTENT: bool>;

const INSERT: &str = "INSERT INTO things (name) VALUES ('one thing')";

fn query_grants(idempotent: bool, source: &str) -> String {
    let effect = if idempotent { "idempotent" } else { "once" };
    format!("[grant.query]\neffect = \"{effect}\"\n[grant.query.databases]\nshop = {{ {source}, mode = \"rw\" }}\n")
}

impl<const IDEMPOTENT: bool> Act for Sqlite<IDEMPOTENT> {
    const NAME: &'static str = if IDEMPOTENT { "INSERT into SQLite, idempotent" } else { "INSERT into SQLite" };
    const CAPABILITY: &'static str = "query";
    const IDEMPOTENT: bool = IDEMPOTENT;
    const IN_THE_PLACE: bool = true;
    const SAYS: &'static str = "changed\n";

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let shop = Connection::open(place.path("shop.db")).map_err(because("shop.db"))?;
        shop.execute_batch("CREATE TABLE things (name TEXT)").map_err(because("shop.db"))?;
        Ok(Self)
    }

    fn grants(&self) -> String {
        query_grants(IDEMPOTENT, "sqlite = \"./shop.db\"")
    }

    fn call(&self, ask: bool) -> String {
        format!("change({ask}, \"shop\", \"{INSERT}\")")
    }

    fn told() -> Value {
        json!({ "columns": [], "rows": [] })
    }

    fn times(&self, place: &Place) -> Result<usize, Failure> {
        let shop = Connection::open(place.path("shop.db")).map_err(because("shop.db"))?;
        let whole: String =
            shop.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(because("shop.db"))?;
        ensure!(whole == "ok", "shop.db is damaged: {whole}");
        let rows: i64 =
            shop.query_row("SELECT count(*) FROM things", [], |row| row.get(0)).map_err(because("shop.db"))?;
        usize::try_from(rows).map_err(because("counting"))
    }

    fn is_told(call: &Call) -> bool {
        call.path.starts_with("shop.db")
    }
}

/// The same into PostgreSQL.
pub struct Postgres<const IDEMPOTENT: bool>(postgres::Database<'static>);

impl<const IDEMPOTENT: bool> Act for Postgres<IDEMPOTENT> {
    const NAME: &'static str = if IDEMPOTENT { "INSERT into PostgreSQL, idempotent" } else { "INSERT into PostgreSQL" };
    const CAPABILITY: &'static str = "query";
    const IDEMPOTENT: bool = IDEMPOTENT;
    const ALSO: &'static [&'static str] = <Post<false>>::ALSO;
    const SAYS: &'static str = "changed\n";

    fn prepare(_: &Place) -> Result<Self, Failure> {
        let shop = postgres::Server::shared().database();
        shop.own("CREATE TABLE things (name text)");
        Ok(Self(shop))
    }

    fn grants(&self) -> String {
        query_grants(IDEMPOTENT, &format!("postgres = \"{}\"", self.0.url()))
    }

    fn call(&self, ask: bool) -> String {
        format!("change({ask}, \"shop\", \"{INSERT}\")")
    }

    fn told() -> Value {
        json!({ "columns": [], "rows": [] })
    }

    fn begin(&self) -> Result<(), Failure> {
        self.0.admin("SET client_min_messages = error; TRUNCATE things; DROP SCHEMA IF EXISTS parole CASCADE");
        Ok(())
    }

    fn times(&self, _: &Place) -> Result<usize, Failure> {
        let others =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let until = Instant::now() + ARRIVES;
        while self.0.admin(others) != "0" {
            ensure!(Instant::now() < until, "the server still works for a process that has ended");
            thread::sleep(Duration::from_millis(5));
        }
        self.0.admin("SELECT count(*) FROM things").parse().map_err(because("counting"))
    }
}
