//! READMEs that are followed: each command in a block for terminals is run for real, with the program that was built and
//! persons at pseudo-terminals, in a copy of what the README needs; what is shown is what stands there.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::fixture::parole_binary;

const PATIENCE: Duration = Duration::from_secs(60);

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A command of a README, and what it says comes of it.
pub struct Step {
    /// As it is typed.
    pub command: String,
    /// Line by line.
    pub expected: Vec<String>,
}

/// The commands in the blocks for terminals, in order, and the other blocks with their kinds.
#[must_use]
pub fn read(text: &str) -> (Vec<Step>, Vec<(String, Vec<String>)>) {
    let (mut steps, mut other) = (Vec::<Step>::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let block: Vec<String> = lines.by_ref().take_while(|line| *line != "```").map(str::to_owned).collect();
        match kind {
            "console" => {
                for line in block {
                    match line.strip_prefix("$ ") {
                        Some(command) => steps.push(Step { command: command.to_owned(), expected: Vec::new() }),
                        None => steps.last_mut().unwrap().expected.push(line),
                    }
                }
            }
            _ => other.push((kind.to_owned(), block)),
        }
    }
    (steps, other)
}

/// A line without what differs from run to run: ids, digests, times, the widths of tables.
#[must_use]
pub fn plain(line: &str) -> String {
    let mut line = line.trim_end().to_owned();
    if let (Some(from), Some(to)) = (line.find(" in "), line.find(" UTC")) {
        line.replace_range(from..to, "");
    }
    let mut plain = Vec::new();
    let mut has_id = false;
    for word in line.split_whitespace() {
        let mut text = String::new();
        for part in word.split_inclusive(|c: char| !c.is_ascii_hexdigit() && c != '-') {
            let digits = part.trim_end_matches(|c: char| !c.is_ascii_hexdigit() && c != '-');
            let id = digits.len() >= 12 && digits.contains(|c: char| c.is_ascii_digit());
            has_id |= id;
            text.push_str(&if id { part.replacen(digits, "ID", 1) } else { part.to_owned() });
        }
        plain.push(text);
    }
    if has_id {
        // The age of an execution.
        plain.iter_mut().filter(|word| word.parse::<u32>().is_ok()).for_each(|word| *word = "0".to_owned());
    }
    plain.join(" ")
}

/// What was shown is what stands there; `…` stands for any lines.
pub fn compare(step: &Step, shown: &str) {
    let shown_lines: Vec<String> = shown.lines().map(plain).filter(|line| !line.is_empty()).collect();
    let mut at = 0;
    let mut may_skip = false;
    for expected in step.expected.iter().map(|line| plain(line)).filter(|line| !line.is_empty()) {
        if expected == "…" {
            may_skip = true;
            continue;
        }
        let rest = &shown_lines[at..];
        let found = rest.iter().position(|line| *line == expected);
        match found {
            Some(skipped) if may_skip || skipped == 0 => at += skipped + 1,
            _ => panic!("$ {}\nexpected: {expected}\nat: {rest:#?}\nshown:\n{shown}", step.command),
        }
        may_skip = false;
    }
    assert!(may_skip || at == shown_lines.len(), "$ {}\nthen also: {:#?}", step.command, &shown_lines[at..]);
}

/// Where a README is followed: a copy of what it names of the repository, with words replaced, and a state of its own.
pub struct Place {
    dir: tempfile::TempDir,
    path: String,
}

impl Place {
    /// With these files and directories.
    #[must_use]
    pub fn new(names: &[&str], replaced: (&str, &str)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            copy(&root().join(name), &dir.path().join(name), replaced);
        }
        std::fs::create_dir(dir.path().join("target")).unwrap();
        let mut programs = vec![parole_binary().unwrap().parent().unwrap().to_owned()];
        #[expect(clippy::disallowed_methods, reason = "the compiler is where this machine has it")]
        programs.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let path = std::env::join_paths(programs).unwrap().into_string().unwrap();
        Self { dir, path }
    }

    /// Where it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A command, without a terminal.
    #[must_use]
    pub fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]).current_dir(self.dir.path());
        self.settle(&mut shell);
        shell
    }

    /// At a pseudo-terminal.
    #[must_use]
    pub fn terminal(&self, command: &str) -> Terminal {
        let mut script = Command::new("/usr/bin/script");
        script.args(["-qec", command, "/dev/null"]).current_dir(self.dir.path());
        self.settle(&mut script);
        Terminal::new(script.env("SHELL", "/bin/sh"))
    }

    fn settle(&self, command: &mut Command) {
        command.env("PATH", &self.path).env("TERM", "dumb").env("NO_COLOR", "1");
        command.env("PAROLE_STATE", self.dir.path().join("state"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
    }
}

fn copy(from: &Path, to: &Path, (word, other): (&str, &str)) {
    if from.is_dir() {
        for entry in std::fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name), (word, other));
        }
        return;
    }
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    let bytes = String::from_utf8(std::fs::read(from).unwrap())
        .map_or_else(|error| error.into_bytes(), |text| text.replace(word, other).into_bytes());
    std::fs::write(to, bytes).unwrap();
}

/// A program, and what it has shown so far.
pub struct Terminal {
    child: Child,
    stdin: Option<ChildStdin>,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts it.
    pub fn new(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut stdout, all) = (child.stdout.take().unwrap(), Arc::clone(&shown));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                all.lock().unwrap().extend(&buffer[..count]);
            }
        });
        Self { stdin: child.stdin.take(), child, shown }
    }

    /// All that it has shown so far.
    #[must_use]
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).replace('\r', "")
    }

    /// Waits until it has shown this.
    pub fn wait_for(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.shown().contains(text) {
            assert!(Instant::now() < until, "waited for {text:?}, shown was:\n{}", self.shown());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Types a line when the prompt stands there.
    pub fn type_at(&mut self, prompt: &str, line: &str) {
        self.wait_for(prompt);
        // What is typed before a question can have been read is thrown away, and a word that decides is typed, not
        // pasted: its line end comes by itself.
        thread::sleep(Duration::from_secs(1));
        write!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
        thread::sleep(Duration::from_millis(300));
        writeln!(self.stdin.as_mut().unwrap()).unwrap();
    }

    /// Ctrl-C.
    pub fn interrupt(&mut self) {
        write!(self.stdin.as_mut().unwrap(), "\u{3}").unwrap();
    }

    /// Its exit code and all that it has shown.
    #[must_use]
    pub fn end(mut self) -> (Option<i32>, String) {
        let until = Instant::now() + PATIENCE;
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(Instant::now() < until, "it does not end; shown was:\n{}", self.shown());
            thread::sleep(Duration::from_millis(20));
        };
        // The last of it may still be in the pipe.
        thread::sleep(Duration::from_millis(100));
        (code, self.shown())
    }
}

/// Ends with the test.
impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a step at a terminal, answers, and compares.
pub fn answered(place: &Place, step: &Step, answers: &[(&str, &str)], code: i32) {
    let mut terminal = place.terminal(&step.command);
    for (prompt, line) in answers {
        terminal.type_at(prompt, line);
    }
    let (found, shown) = terminal.end();
    assert_eq!(found, Some(code), "$ {}\n{shown}", step.command);
    compare(step, &shown);
}
