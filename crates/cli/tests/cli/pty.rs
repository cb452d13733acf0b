//! The program at a real terminal, made by `script` of util-linux: opening one ourselves would
//! need unsafe code or another feature of a crate that everything is built on.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::scratch::{PAROLE, Scratch};

/// How long a text may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a person reads before a word is typed: longer than the time in which a word does not count.
const READ: Duration = Duration::from_millis(700);
/// The time between two keys.
const KEY: Duration = Duration::from_millis(80);

pub struct Pty {
    child: Child,
    stdin: Option<ChildStdin>,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: Option<std::thread::JoinHandle<()>>,
    /// What has been looked at.
    seen: usize,
}

impl Pty {
    pub fn start(scratch: &Scratch, arguments: &[&str]) -> Self {
        let words: Vec<String> = std::iter::once(&PAROLE).chain(arguments).map(|word| format!("'{word}'")).collect();
        // Without `exec` the shell would take part in Ctrl-C.
        Self::shell(scratch, &format!("exec {}", words.join(" ")))
    }

    /// A line of shell at a terminal.
    pub fn shell(scratch: &Scratch, line: &str) -> Self {
        let mut child = Command::new("/usr/bin/script")
            .args(["--quiet", "--return", "--flush", "--command", line, "/dev/null"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("PAROLE_STATE", scratch.path("state"))
            .current_dir(scratch.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("`script` of util-linux makes the terminals of these tests");
        let mut stdout = child.stdout.take().unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                shared.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        Self { stdin: child.stdin.take(), child, screen, reader: Some(reader), seen: 0 }
    }

    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    /// Waits for a text after what was seen before, and gives all up to it.
    pub fn sees(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen.lock().unwrap().clone();
            let fresh = &screen[self.seen..];
            if let Some(at) = fresh.windows(text.len()).position(|window| window == text.as_bytes()) {
                let end = at + text.len();
                self.seen += end;
                return String::from_utf8_lossy(&fresh[..end]).into_owned();
            }
            assert!(Instant::now() < until, "no {text:?} on the terminal:\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn types(&mut self, text: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_ref()).unwrap();
        stdin.flush().unwrap();
    }

    /// Types a word that decides, as a person does who has read the question: after a while, and the line end by itself.
    pub fn decides(&mut self, word: &str) {
        loop {
            std::thread::sleep(READ);
            self.types(word);
            if !word.is_empty() && self.sees_one_of(&[word, "does not count"]) == 1 {
                // The machine was slow.
                self.sees("> ");
                continue;
            }
            std::thread::sleep(KEY);
            self.types("\n");
            return;
        }
    }

    /// Waits for one of some texts, and gives which it was.
    pub fn sees_one_of(&mut self, texts: &[&str]) -> usize {
        let until = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen.lock().unwrap().clone();
            let fresh = &screen[self.seen..];
            let find = |text: &str| fresh.windows(text.len()).position(|window| window == text.as_bytes());
            let first = texts.iter().zip(0..).filter_map(|(text, which)| Some((find(text)? + text.len(), which))).min();
            if let Some((end, which)) = first {
                self.seen += end;
                return which;
            }
            assert!(Instant::now() < until, "none of {texts:?} on the terminal:\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end. Gives the exit code and everything on the screen.
    pub fn ends(mut self) -> (i32, String) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                let _ = self.child.kill();
                panic!("it does not end:\n{}", self.screen());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        drop(self.stdin.take());
        self.reader.take().unwrap().join().unwrap();
        (status.code().unwrap_or(-1), self.screen())
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
