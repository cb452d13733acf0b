//! The outside world: requests, statements, and calls about which a person is asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parole_policy::SecurityPolicy;
use parole_runtime::{CATALOGUE, Guest, RunOptions, Runtime, Wait};
use serde_json::{Value, json};

use crate::bare::Rows;
use crate::table::{Row, Samples, count, duration, ratio};
use crate::{guests, host};

const ROUNDS: usize = 7;
const WEB: &[u8] = include_bytes!("../../../guest-examples/prebuilt/web.wasm");
const SQL: &[u8] = include_bytes!("../../../guest-examples/prebuilt/sql.wasm");

/// Clients at once, the requests of each, and the bytes of each answer.
const CLIENTS: u32 = 64;
const GETS: u32 = 100;
const BODY: usize = 1024;

fn policy(grants: &str) -> SecurityPolicy {
    let text = format!("level = \"unrestricted\"\n[limits]\njournal = \"256MiB\"\n{grants}");
    SecurityPolicy::parse(&text, Path::new("/"), &CATALOGUE).unwrap()
}

/// Answers every request on every connection with the same, until it is killed.
pub fn serve_child() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    println!("{}", listener.local_addr().unwrap());
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n{}", "x".repeat(BODY));
    for stream in listener.incoming() {
        let (mut stream, answer) = (stream.unwrap(), answer.clone());
        std::thread::spawn(move || {
            stream.set_nodelay(true).unwrap();
            let (mut buffer, mut filled) = ([0; 4096], 0);
            // A request of this client is smaller than the buffer and has no body.
            while let Ok(more @ 1..) = stream.read(&mut buffer[filled..]) {
                filled += more;
                if buffer[..filled].ends_with(b"\r\n\r\n") {
                    filled = 0;
                    if stream.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            }
        });
    }
}

/// The server, a process of its own.
struct Server(Child, SocketAddr);

impl Server {
    fn start() -> Self {
        let mut child = host::child(&["serve"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().parse().unwrap();
        TcpStream::connect(address).unwrap();
        Self(child, address)
    }

    fn origin(&self) -> String {
        format!("http://{}", self.1)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the HTTP library does when nobody asks anything else of it: a task with a connection that it keeps.
async fn bare_client(address: SocketAddr) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    for _ in 0..GETS {
        let request = hyper::Request::get("/").header("host", address.to_string()).body(Empty::new()).unwrap();
        sender.ready().await.unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), BODY);
    }
    drop(sender);
    driver.await.unwrap().unwrap();
}

/// All clients at once, each a future that `client` makes.
fn all<F: Future<Output = ()> + Send + 'static>(tokio: &tokio::runtime::Runtime, client: impl Fn() -> F) -> Duration {
    tokio.block_on(async {
        let start = Instant::now();
        let tasks: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(client())).collect();
        for task in tasks {
            task.await.unwrap();
        }
        start.elapsed()
    })
}

/// What both sides of the comparison need.
struct Gets {
    server: Server,
    runtime: Runtime,
    guest: Guest,
    policy: SecurityPolicy,
    tokio: tokio::runtime::Runtime,
}

impl Gets {
    fn new(state: &Path) -> Self {
        let server = Server::start();
        let policy = policy(&format!("[grant.fetch]\norigins = [\"{}\"]\n", server.origin()));
        Self {
            server,
            runtime: Runtime::builder().state_dir(state).open().unwrap(),
            guest: host::guest(WEB.to_vec()),
            policy,
            // As many threads as Parole has.
            tokio: tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap(),
        }
    }

    /// All clients at once, as executions.
    fn parole(&self) -> Duration {
        let call = format!("many(\"{}/\", {GETS})", self.server.origin());
        all(&self.tokio, || {
            let (runtime, guest, policy) = (self.runtime.clone(), self.guest.clone(), self.policy.clone());
            let options = RunOptions { invoke: Some(call.clone()), wait: Wait::All, ..RunOptions::default() };
            async move {
                let report = runtime.run(guest, policy, options).await.unwrap();
                assert_eq!(report.result, Some((BODY * GETS as usize).to_string()), "{:?}", report.error);
            }
        })
    }

    /// All clients at once, bare.
    fn bare(&self) -> Duration {
        all(&self.tokio, || bare_client(self.server.1))
    }
}

/// For a profiler.
pub fn fetch_child(arguments: &[&str]) {
    let gets = Gets::new(Path::new(arguments[0]));
    for _ in 0..arguments[2].parse().unwrap() {
        let before = host::processor();
        let time = if arguments[1] == "bare" { gets.bare() } else { gets.parole() };
        println!("{}, {} of processor time", duration(time.as_secs_f64()), duration(host::processor() - before));
    }
}

/// A round, and the processor time that this process has had for it.
fn timed(samples: &mut Samples, processor: &mut Samples, round: impl FnOnce() -> Duration) {
    let before = host::processor();
    samples.push(round());
    processor.push_part(Duration::from_secs_f64(host::processor() - before), CLIENTS * GETS);
}

pub fn fetch() -> Vec<Row> {
    let scratch = host::scratch();
    let gets = Gets::new(&scratch.path().join("state"));
    gets.parole();
    gets.bare();
    let (mut figure, mut baseline) = (Samples::default(), Samples::default());
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        timed(&mut figure, &mut ours, || gets.parole());
        timed(&mut baseline, &mut theirs, || gets.bare());
    }
    let times = figure.median() / baseline.median();
    let rate = |samples: &Samples| count(f64::from(CLIENTS * GETS) / samples.median());
    vec![
        Row {
            what: "64 executions, each 100 GETs of 1 KiB",
            figure: figure.text(),
            baseline: format!("bare {}, {}/s to {}/s", duration(baseline.median()), rate(&figure), rate(&baseline)),
            ratio: ratio(times),
            target: "<= 1.5 x",
            met: Some(times <= 1.5),
        },
        Row {
            what: "  processor time of a GET, without the server's",
            figure: ours.text(),
            baseline: format!("bare {}", duration(theirs.median())),
            ratio: ratio(ours.median() / theirs.median()),
            target: "",
            met: None,
        },
    ]
}

pub fn query() -> Vec<Row> {
    const CALLS: u32 = 2_000;
    const STATEMENT: &str = "SELECT count FROM stock WHERE item = 'nut'";
    let scratch = host::scratch();
    let file = scratch.path().join("shop.db");
    let make =
        "CREATE TABLE stock (item TEXT PRIMARY KEY, count INTEGER NOT NULL); INSERT INTO stock VALUES ('nut', 7);";
    rusqlite::Connection::open(&file).unwrap().execute_batch(make).unwrap();
    let runtime = Runtime::builder().state_dir(scratch.path().join("state")).open().unwrap();
    let guest = host::guest(SQL.to_vec());
    let policy = policy(&format!("[grant.query.databases]\nshop = {{ sqlite = \"{}\" }}\n", file.display()));
    let call = format!("many(\"shop\", \"{STATEMENT}\", {CALLS})");
    let (mut figure, mut baseline) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        let options = RunOptions { invoke: Some(call.clone()), wait: Wait::All, ..RunOptions::default() };
        let start = Instant::now();
        let report = runtime.blocking().run(guest.clone(), policy.clone(), options).unwrap();
        figure.push_part(start.elapsed(), CALLS);
        assert_eq!(report.result, Some(CALLS.to_string()), "{:?}", report.error);
        let start = Instant::now();
        for _ in 0..CALLS {
            let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
            let connection = rusqlite::Connection::open_with_flags(&file, flags).unwrap();
            assert_eq!(connection.query_row(STATEMENT, [], |row| row.get::<_, i64>(0)).unwrap(), 7);
        }
        baseline.push_part(start.elapsed(), CALLS);
    }
    vec![Row {
        what: "query of one row, SQLite, read-only, in a loop",
        figure: figure.rate_text(),
        baseline: format!("opened and asked {}/s", count(1.0 / baseline.median())),
        ratio: ratio(figure.median() / baseline.median()),
        target: "",
        met: None,
    }]
}

/// The value that approves what a promise asks about.
fn approval(runtime: &Runtime, id: &str) -> Value {
    let record = runtime.promises().get(id).unwrap().record;
    let question: Value = serde_json::from_str(&record.param.data.unwrap()).unwrap();
    json!({ "decision": "once", "digest": question["digest"] })
}

pub fn ask() -> Vec<Row> {
    const CALLS: u32 = 500;
    let scratch = host::scratch();
    let data = scratch.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), b"short").unwrap();
    let (runtime, mut waiting) = host::waiting(&scratch.path().join("state"), 1000);
    let mut rows = Rows::new(scratch.path());
    let policy = policy(&format!(
        "[grant.read_file]\ndirs = {{ \"/data\" = \"{}\" }}\n[[rule]]\nname = \"reads\"\ncapability = \"read_file\"\nthen = \"ask\"\n",
        data.display()
    ));
    let run = {
        let (runtime, guest): (Runtime, Guest) = (runtime.clone(), host::guest(guests::read_file()));
        let options = host::options(CALLS, Wait::All);
        std::thread::spawn(move || runtime.blocking().run(guest, policy, options).unwrap())
    };
    let (mut figure, mut commit) = (Samples::default(), Samples::default());
    let mut id = waiting.blocking_recv().unwrap();
    // The last answer ends the guest.
    for number in 0..CALLS - 1 {
        let approval = approval(&runtime, &id);
        id = figure.time(|| {
            runtime.blocking().resolve(&id, &approval, "bench").unwrap();
            waiting.blocking_recv().unwrap()
        });
        commit.time(|| rows.commit(number.into(), 1, 256));
    }
    let approval = approval(&runtime, &id);
    runtime.blocking().resolve(&id, &approval, "bench").unwrap();
    let report = run.join().unwrap();
    assert_eq!((report.exit_code(), report.denied.len()), (0, 0));
    vec![Row {
        what: "ask, approve, read, ask again, one at a time",
        figure: figure.text(),
        baseline: format!("a commit {}", duration(commit.median())),
        ratio: ratio(figure.median() / commit.median()),
        target: "",
        met: None,
    }]
}
