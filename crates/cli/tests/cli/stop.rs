//! Signals and what becomes of the work that is under way, and of output that waits behind it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use crate::scratch::{Ran, Scratch, guest};

const PATIENCE: Duration = Duration::from_secs(60);

/// A server that answers each request when it is told to.
struct Held {
    origin: String,
    came: Arc<AtomicUsize>,
    release: Sender<()>,
}

impl Held {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (came, (release, released)) = (Arc::new(AtomicUsize::new(0)), channel());
        let count = Arc::clone(&came);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if !stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                    continue;
                }
                count.fetch_add(1, Ordering::SeqCst);
                if released.recv().is_err() {
                    return;
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
            }
        });
        Self { origin, came, release }
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }

    /// The words for one POST to it.
    fn post(&self, scratch: &Scratch) -> Vec<String> {
        let policy =
            format!("level = \"standard\"\n[grant.fetch]\norigins = [\"{}\"]\nmethods = [\"POST\"]\n", self.origin);
        let policy = scratch.file("post.toml", policy);
        let call = format!("send(\"POST\", \"{}/x\", \"hello\")", self.origin);
        ["run", &guest("web.wasm"), "--policy", &policy, "--invoke", &call].map(str::to_owned).to_vec()
    }
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "never {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(child: &Child, name: &str) {
    let kill = std::process::Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
}

fn pending(scratch: &Scratch) -> usize {
    scratch.pending().as_array().unwrap().len()
}

/// However it ended, the answer is recorded: nobody is asked what came of the call, and it is not sent again.
fn goes_on_by_itself(scratch: &Scratch, server: &Held, ran: &Ran) {
    assert_eq!(pending(scratch), 0, "{ran:?}");
    let list = scratch.parole(&["ps", "--all", "--json"]).code(0).json();
    let execution = list[0]["execution"].as_str().unwrap();
    let rest = scratch.parole(&["resume", execution]).code(0);
    assert_eq!(format!("{}{}", ran.out, rest.out), "done: 200 2 bytes\n", "{ran:?}");
    assert_eq!(server.came(), 1);
}

#[test]
fn an_orderly_stop_waits_for_a_post_and_leaves_no_doubt() {
    for name in ["-TERM", "-INT", "-HUP"] {
        let (scratch, server) = (Scratch::new(), Held::start());
        let mut child = scratch.command(server.post(&scratch)).spawn().unwrap();
        until("sent", || server.came() == 1);
        signal(&child, name);
        std::thread::sleep(Duration::from_millis(300));
        assert!(child.try_wait().unwrap().is_none(), "{name}: it did not wait");
        server.release.send(()).unwrap();
        let ran = Ran::of(&child.wait_with_output().unwrap());
        assert!([0, 75].contains(&ran.code), "{name}: {ran:?}");
        goes_on_by_itself(&scratch, &server, &ran);
    }
}

#[test]
fn a_second_signal_waits_for_nothing() {
    let (scratch, server) = (Scratch::new(), Held::start());
    let child = scratch.command(server.post(&scratch)).spawn().unwrap();
    until("sent", || server.came() == 1);
    signal(&child, "-TERM");
    std::thread::sleep(Duration::from_millis(200));
    signal(&child, "-TERM");
    // Nothing was released.
    let ran = Ran::of(&child.wait_with_output().unwrap()).code(75);
    assert_eq!(ran.out, "");
    let list = scratch.parole(&["ps", "--json"]).code(0).json();
    let report = scratch.parole(&["resume", list[0]["execution"].as_str().unwrap(), "--json"]).code(75).json();
    assert_eq!(report["pending"][0]["capability"], "doubt");
}

#[test]
fn a_watching_process_stops_in_order() {
    let (scratch, server) = (Scratch::new(), Held::start());
    let mut words = server.post(&scratch);
    words.extend(["--at".to_owned(), "+1s".to_owned(), "--quiet".to_owned()]);
    scratch.parole(&words.iter().map(String::as_str).collect::<Vec<_>>()).code(0);
    let mut watcher = scratch.command(["resume", "--all", "--watch"]).spawn().unwrap();
    until("sent", || server.came() == 1);
    signal(&watcher, "-TERM");
    std::thread::sleep(Duration::from_millis(300));
    assert!(watcher.try_wait().unwrap().is_none(), "it did not wait");
    server.release.send(()).unwrap();
    let ran = Ran::of(&watcher.wait_with_output().unwrap()).code(0);
    goes_on_by_itself(&scratch, &server, &ran);
}

#[test]
fn a_terminal_that_goes_away_ends_in_order() {
    let scratch = Scratch::new();
    let greet = guest("greet.wasm");
    let waiting = scratch.command(["run", &greet, "--stdin", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    until("asked", || pending(&scratch) == 1);
    signal(&waiting, "-HUP");
    let began = Instant::now();
    let ran = Ran::of(&waiting.wait_with_output().unwrap()).code(75).says("is suspended");
    assert!(began.elapsed() < Duration::from_secs(5), "{ran:?}");
    let list = scratch.parole(&["ps", "--json"]).code(0).json();
    assert_eq!(list[0]["state"], "suspended");
    let watch = |ignore: &str| {
        let script = format!("{ignore} exec \"$0\" resume --all --watch");
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &script, crate::scratch::PAROLE]).env_clear().env("PAROLE_STATE", scratch.path("state"));
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert!(line.contains("watching"), "{line}");
        (child, lines)
    };
    let (mut child, _lines) = watch("");
    signal(&child, "-HUP");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // One that was started to outlive its terminal does.
    let (mut child, _lines) = watch("trap '' HUP;");
    signal(&child, "-HUP");
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none());
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn output_does_not_wait_behind_the_outside() {
    let (scratch, server) = (Scratch::new(), Held::start());
    let lister = format!("{}/../../tests/fixtures/fetch-listed/guest.wat", env!("CARGO_MANIFEST_DIR"));
    let url = format!("\"{}/\"", server.origin);
    let call = format!("get-all([{url}, {url}, {url}])");
    let words = ["run", &lister, "--allow-net", &server.origin, "--timeout", "fetch=60s", "--invoke", &call];
    let mut child = scratch.command(words).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    for answered in 1..=3 {
        server.release.send(()).unwrap();
        // The next request is held until this line is there.
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "200 ok\n");
        assert!(server.came() <= answered + 1);
    }
    assert!(child.wait().unwrap().success());
}

/// For longer than it may take, while it computes and while it waits for the outside.
#[test]
fn time_in_which_the_process_stood_still_is_nobodys() {
    let scratch = Scratch::new();
    let hello = std::fs::read_to_string(guest("hello.wat")).unwrap();
    let burns =
        hello.replace("(func (export \"run\") (result i32)", "(func (export \"run\") (result i32) (local $n i64)");
    let burns = burns.replace(
        "(i32.const 14))",
        "(i32.const 14))
         (local.set $n (i64.const 300000000))
         (loop $burn (br_if $burn (i64.gt_s (local.tee $n (i64.sub (local.get $n) (i64.const 1))) (i64.const 0))))",
    );
    let burns = scratch.file("burns.wat", burns);
    // Compiled before.
    let policy = scratch.file("p.toml", "level = \"sandbox\"\n[limits]\ncpu_ms = 60000\nwall_ms = 8000\n");
    let _ = scratch.parole(&["inspect", &burns]);
    let server = Held::start();
    let web = guest("web.wasm");
    let call = format!("get(\"{}/\")", server.origin);
    let fetches = ["run", &web, "--allow-net", &server.origin, "--timeout", "fetch=8s", "--invoke", &call];
    let computes = scratch.command(["run", &burns, "--policy", &policy]).spawn().unwrap();
    let fetches = scratch.command(fetches).spawn().unwrap();
    until("sent", || server.came() == 1);
    for child in [&computes, &fetches] {
        signal(child, "-STOP");
    }
    std::thread::sleep(Duration::from_millis(9_500));
    for child in [&computes, &fetches] {
        signal(child, "-CONT");
    }
    // It would have given up at once.
    std::thread::sleep(Duration::from_millis(100));
    server.release.send(()).unwrap();
    assert_eq!(Ran::of(&fetches.wait_with_output().unwrap()).code(0).out, "200 2 bytes\n");
    let _ = Ran::of(&computes.wait_with_output().unwrap()).code(0);
}

#[test]
fn output_that_could_not_be_written_is_shown_later() {
    let scratch = Scratch::new();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    // One that has ended, and one that waits.
    let ended = scratch.command(["run", &guest("hello.wat")]).stdout(full()).output().unwrap();
    let _ = Ran::of(&ended).code(70).says("could not be written");
    let list = scratch.parole(&["ps", "--all", "--json"]).code(0).json();
    let id = list[0]["execution"].as_str().unwrap().to_owned();
    scratch.parole(&["resume", &id]).code(0).prints("Hello from WAT\n");
    scratch.parole(&["resume", &id]).code(0).prints("");

    let (execution, promise) = scratch.waiting();
    scratch.parole(&["promise", "resolve", &promise, "--data", "Ada"]).code(0);
    let lost = scratch.command(["resume", &execution]).stdout(full()).output().unwrap();
    let _ = Ran::of(&lost).code(70);
    // A reader that has gone is no fault, but it has not seen it either.
    let mut gone = scratch.command(["resume", &execution]).spawn().unwrap();
    drop(gone.stdout.take());
    assert_eq!(gone.wait().unwrap().code(), Some(0));
    scratch.parole(&["resume", &execution]).code(0).prints("Hello, Ada!\n");
    scratch.parole(&["resume", &execution]).code(0).prints("");
}

#[test]
fn of_many_that_resume_at_once_one_shows_the_output() {
    let scratch = Scratch::new();
    for _ in 0..6 {
        let (execution, promise) = scratch.waiting();
        scratch.parole(&["promise", "resolve", &promise, "--data", "Ada"]).code(0);
        let resumes: Vec<_> = (0..6).map(|_| scratch.command(["resume", &execution]).spawn().unwrap()).collect();
        let ran: Vec<Ran> = resumes.into_iter().map(|child| Ran::of(&child.wait_with_output().unwrap())).collect();
        let output: String = ran.iter().map(|ran| ran.out.as_str()).collect();
        assert_eq!(output, "Hello, Ada!\n", "{ran:?}");
        assert!(ran.iter().all(|ran| [0, 73].contains(&ran.code)), "{ran:?}");
    }
}
