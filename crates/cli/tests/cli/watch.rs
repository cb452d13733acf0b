//! `resume --all --watch`: a process that stays.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::scratch::{Scratch, guest};

const PATIENCE: Duration = Duration::from_secs(20);

struct Watch {
    child: Child,
    lines: mpsc::Receiver<(Instant, String)>,
}

impl Watch {
    fn start(scratch: &Scratch) -> Self {
        let mut child = scratch.command(["resume", "--all", "--watch"]).spawn().unwrap();
        let mut notices = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(notices.next().unwrap().unwrap().contains("watching"));
        std::thread::spawn(move || notices.count());
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = send.send((Instant::now(), line));
            }
        });
        Self { child, lines }
    }

    fn prints(&self, text: &str) -> Instant {
        let (at, line) = self.lines.recv_timeout(PATIENCE).expect("a line of output");
        assert_eq!(line, text);
        at
    }

    fn ends(mut self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn timers_and_settlements_by_others_are_taken_up() {
    let scratch = Scratch::new();
    let (_, id) = scratch.waiting();
    let watch = Watch::start(&scratch);
    scratch.parole(&["run", &guest("sleeper.wasm"), "--detach", "--quiet"]).code(75).prints("before\n");
    watch.prints("after");
    let settled = Instant::now();
    scratch.parole(&["promise", "resolve", &id, "--data", "Ada"]).code(0);
    let seen = watch.prints("Hello, Ada!");
    // The figure is 50 ms; a busy machine gets more before this counts as broken.
    assert!(seen.duration_since(settled) < Duration::from_secs(2));
    watch.ends("-TERM");
}

#[test]
fn ctrl_c_ends_the_watch_well() {
    let scratch = Scratch::new();
    Watch::start(&scratch).ends("-INT");
}

/// A pipe into which nothing fits, and that does not wait: what a full disk is to a log.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    for piece in [4096, 1] {
        while writer.write_all(&vec![b'.'; piece]).is_ok() {}
    }
    (reader, writer)
}

#[test]
fn output_that_a_watcher_cannot_write_is_shown_by_whoever_comes_and_what_comes_later_by_it() {
    let scratch = Scratch::new();
    let (mut reader, writer) = full_pipe();
    let stdout = writer.try_clone().unwrap();
    let mut watch = scratch.command(["resume", "--all", "--watch"]).stdout(stdout).spawn().unwrap();
    let mut notices = BufReader::new(watch.stderr.take().unwrap()).lines();
    assert!(notices.next().unwrap().unwrap().contains("watching"));
    let ends = |id: &str| {
        let since = Instant::now();
        while scratch.parole(&["show", id, "--json"]).code(0).json()["outcome"] != "completed" {
            assert!(since.elapsed() < PATIENCE, "{id} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let settled = |name| {
        let (execution, promise) = scratch.waiting();
        scratch.parole(&["promise", "resolve", &promise, "--data", name]).code(0);
        ends(&execution);
        execution
    };
    let lost = settled("Ada");
    let said: String = notices.by_ref().map_while(Result::ok).take_while(|line| !line.contains("completed")).collect();
    assert_eq!(said.matches("stdout cannot be written").count(), 1, "{said}");
    // The watcher lives, and leaves it to others.
    scratch.parole(&["resume", &lost]).code(0).prints("Hello, Ada!\n");
    scratch.parole(&["resume", &lost]).code(0).prints("");
    let mut dots = vec![0; 1 << 20];
    let _ = reader.read(&mut dots).unwrap();
    let shown = settled("Grace");
    let mut text = String::new();
    while !text.contains("Hello, Grace!") {
        let read = reader.read(&mut dots).unwrap();
        text.push_str(std::str::from_utf8(&dots[..read]).unwrap());
    }
    scratch.parole(&["resume", &shown]).code(0).prints("");
    drop((reader, writer));
    assert!(Command::new("kill").args(["-TERM", &watch.id().to_string()]).status().unwrap().success());
    // That something was not shown by it is said at its end, too.
    assert_eq!(watch.wait().unwrap().code(), Some(70));
}

/// Another program holds the database while a timer is due: the watcher hears that it is to end all the same.
#[test]
fn a_watcher_that_waits_for_the_lock_of_another_program_ends_when_it_is_told() {
    let scratch = Scratch::new();
    scratch.parole(&["run", &guest("sleeper.wasm"), "--detach", "--quiet"]).code(75);
    let watch = Watch::start(&scratch);
    let lock = rusqlite::Connection::open(scratch.path("state/parole.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let told = Instant::now();
    let pid = watch.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let mut child = watch.child;
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(12), "{:?}", told.elapsed());
    drop(lock);
}
