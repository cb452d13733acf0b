//! `resume --all --watch`: a process that stays.

use std::io::{BufRead as _, BufReader};
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
