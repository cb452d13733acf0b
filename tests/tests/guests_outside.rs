//! The guests in Rust and C that fetch, query and are asked about print what came of each call, and each
//! end of a question is another one to them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use parole_tests::fixture::{Ran, TIMEOUT, parole_binary};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A server that counts what was posted to it. It answers, but not to `/silent`.
struct Server {
    address: SocketAddr,
    posts: Arc<AtomicU32>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let server = Self { address: listener.local_addr().unwrap(), posts: Arc::default() };
        let posts = Arc::clone(&server.posts);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let posts = Arc::clone(&posts);
                thread::spawn(move || answer(stream.unwrap(), &posts));
            }
        });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn posts(&self) -> u32 {
        self.posts.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, posts: &AtomicU32) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        reader.read_line(&mut head).ok().filter(|length| *length > 0)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().ok()?,
                Some(_) => {}
                None => break,
            }
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        if head.starts_with("POST") {
            posts.fetch_add(1, Ordering::SeqCst);
        }
        if head.contains("/silent") {
            return None;
        }
        stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok").ok()?;
    }
}

/// The program with a state of its own, and the policy of the guests with the port of the server.
struct Place(tempfile::TempDir);

impl Place {
    fn new(server: &Server) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let policy = std::fs::read_to_string(root().join("guest-examples/data/fetch.toml")).unwrap();
        let policy = policy.replace("8391", &server.address.port().to_string());
        std::fs::write(place.path("fetch.toml"), policy).unwrap();
        std::fs::copy(root().join("guest-examples/data/shop.db"), place.path("shop.db")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn parole(&self, arguments: &[&str], stdin: Option<&str>) -> Ran {
        let mut command = Command::new(parole_binary().unwrap());
        command.args(arguments).arg("--state").arg(self.path("state")).current_dir(self.0.path()).env_clear();
        Ran::new(&mut command, stdin, TIMEOUT).unwrap()
    }

    /// The output of a run that ends well.
    fn output(&self, arguments: &[&str], stdin: Option<&str>) -> String {
        let ran = self.parole(arguments, stdin);
        ran.exits(0).unwrap();
        ran.out()
    }
}

fn guest(name: &str) -> String {
    root().join("guest-examples/prebuilt").join(format!("{name}.wasm")).to_str().unwrap().to_owned()
}

/// A guest that posts `hello`, or what it got, to a URL and ends up at the question.
type Posts = fn(&Place, &str, &str) -> Value;

fn in_rust(place: &Place, _: &str, to: &str) -> Value {
    let call = format!("send(\"POST\", \"{to}\", \"hello\")");
    let ran = place.parole(&["run", &guest("web"), "--policy", "fetch.toml", "--json", "--invoke", &call], None);
    ran.exits(75).unwrap().json().unwrap()
}

fn in_c(place: &Place, from: &str, to: &str) -> Value {
    let arguments = ["run", &guest("fetch-c"), "--policy", "fetch.toml", "--json", "--stdin", "-"];
    place.parole(&arguments, Some(&format!("{from}\n{to}\n"))).exits(75).unwrap().json().unwrap()
}

/// What the guest prints last when its question has been settled like this.
fn settled(place: &Place, suspended: &Value, how: impl Fn(&str, &str) -> Vec<String>) -> String {
    let id = suspended["pending"][0]["id"].as_str().unwrap();
    let promise = place.parole(&["promise", "get", id, "--json"], None).json().unwrap();
    let question: Value = serde_json::from_str(promise["param"]["data"].as_str().unwrap()).unwrap();
    let words = how(id, question["digest"].as_str().unwrap());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    place.parole(&[&["promise"], &words[..]].concat(), None).exits(0).unwrap();
    let execution = suspended["execution"].as_str().unwrap();
    let ended = place.parole(&["resume", execution, "--json"], None);
    let report = ended.exits(0).unwrap().json().unwrap();
    report["output"].as_str().unwrap().lines().last().unwrap().to_owned()
}

fn decide(decision: Value) -> impl Fn(&str, &str) -> Vec<String> {
    move |id, digest| {
        let mut decision = decision.clone();
        decision["digest"] = digest.into();
        vec!["resolve".to_owned(), id.to_owned(), "--value".to_owned(), decision.to_string()]
    }
}

/// Every end of a question but the one that takes a week.
fn every_end(posts: Posts, done: &str, prefix: &str) {
    let server = Server::start();
    let place = Place::new(&server);
    let (from, to, silent) = (server.url("/data"), server.url("/reports"), server.url("/silent"));
    let ask = |to: &str| posts(&place, &from, to);

    let once = || decide(json!({ "decision": "once" }));
    assert_eq!(settled(&place, &ask(&to), once()), done);
    assert_eq!(server.posts(), 1);

    let no = decide(json!({ "decision": "deny", "reason": "not today" }));
    assert_eq!(settled(&place, &ask(&to), no), format!("{prefix}denied: not today"));
    let cancel = |id: &str, _: &str| vec!["cancel".to_owned(), id.to_owned()];
    assert_eq!(settled(&place, &ask(&to), cancel), format!("{prefix}canceled"));
    assert_eq!(server.posts(), 1, "nothing was sent without a yes");

    let failed = settled(&place, &ask(&silent), once());
    assert!(failed.starts_with(&format!("{prefix}failed: ")) && failed.ends_with("may have happened"), "{failed}");
    assert_eq!(server.posts(), 2, "sent once, and not again");
}

#[test]
fn a_guest_in_rust_tells_one_end_of_a_question_from_the_other() {
    every_end(in_rust, "done: 201 2 bytes", "");
}

#[test]
fn a_guest_in_c_tells_one_end_of_a_question_from_the_other() {
    every_end(in_c, "POST: 201, 2 bytes", "POST: ");
}

#[test]
fn guests_get_what_is_granted_and_hear_why_not() {
    let server = Server::start();
    let place = Place::new(&server);
    let (web, origin) = (guest("web"), server.url(""));
    let run = |call: &str| place.output(&["run", &web, "--allow-net", &origin, "--invoke", call], None);
    assert_eq!(run(&format!("get(\"{origin}/\")")), "201 2 bytes\n");
    assert_eq!(run(&format!("many(\"{origin}/\", 20)")), "40\n");
    let denied = run(&format!("send(\"POST\", \"{origin}/\", \"x\")"));
    assert_eq!(denied, "denied: `fetch` may not use the method `POST`\n");
    let elsewhere = run("send(\"GET\", \"http://169.254.169.254/\", \"\")");
    assert_eq!(elsewhere, "denied: `fetch` may not reach `http://169.254.169.254`\n");
    assert_eq!(server.posts(), 0);
}

#[test]
fn guests_query_with_values_and_not_with_text() {
    let place = Place::new(&Server::start());
    let (sql, query) = (guest("sql"), guest("query-c"));
    let shop = |mode: &str| format!("shop=sqlite:shop.db{mode}");
    let ordered = place.output(&["run", &sql, "--level", "trusted", "--database", &shop("?mode=rw")], None);
    assert_eq!(ordered, "5/8\" washer: 3 left, 97 ordered\nnut: 7 left, 93 ordered\no'ring: 1 left, 99 ordered\n");
    let read_only = ["run", &sql, "--level", "trusted", "--database", &shop("")];
    place.parole(&read_only, None).exits(1).unwrap();
    let call = "statement(\"shop\", \"SELECT * FROM orders WHERE item < ?1\", [\"m\"])";
    let orders = place.output(&[&read_only[..], &["--invoke", call]].concat(), None);
    assert_eq!(orders, "item\tcount\n5/8\" washer\t97\n");
    for (item, answer) in
        [("nut", "7 x nut\n"), ("o'ring", "1 x o'ring\n"), ("' OR 1=1 --", "no ' OR 1=1 -- is known\n")]
    {
        let arguments = ["run", &query, "--level", "trusted", "--database", &shop(""), "--stdin", "-"];
        assert_eq!(place.output(&arguments, Some(&format!("{item}\n"))), answer);
    }
}
