//! The example for newcomers does what its README says: every command in it is run for real, with the
//! program that was built, an API on loopback, and persons at pseudo-terminals.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use parole_tests::fixture::parole_binary;

/// The port in the README, which another program may have here.
const PORT: &str = "8391";
const PATIENCE: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A command of the README, and what it says comes of it.
struct Step {
    command: String,
    expected: Vec<String>,
}

/// The commands in the blocks for terminals, in order, with `other`: the lines of blocks without commands.
fn readme(port: &str) -> (Vec<Step>, Vec<Vec<String>>) {
    let text = std::fs::read_to_string(root().join("examples/report/README.md")).unwrap().replace(PORT, port);
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
            _ => other.push(block),
        }
    }
    (steps, other)
}

/// A line without what differs from run to run: ids, digests, times, the widths of tables.
fn plain(line: &str) -> String {
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
fn compare(step: &Step, shown: &str) {
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

/// Where the README is followed: what it names of the repository, with another port, and a state of its own.
struct Place {
    dir: tempfile::TempDir,
    path: String,
}

impl Place {
    fn new(port: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let copy = |name: &str, to: &str| {
            let to = dir.path().join(to);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            let bytes = std::fs::read(root().join(name)).unwrap();
            let bytes = String::from_utf8(bytes)
                .map_or_else(|error| error.into_bytes(), |text| text.replace(PORT, port).into_bytes());
            std::fs::write(to, bytes).unwrap();
        };
        for name in ["report.toml", "api.rs", "secret.txt", "data/api.txt", "data/stores.csv"] {
            let name = format!("examples/report/{name}");
            copy(&name, &name);
        }
        copy("guest-examples/prebuilt/report.wasm", "guest-examples/prebuilt/report.wasm");
        std::fs::create_dir(dir.path().join("target")).unwrap();
        let mut programs = vec![parole_binary().unwrap().parent().unwrap().to_owned()];
        #[expect(clippy::disallowed_methods, reason = "the compiler is where this machine has it")]
        programs.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let path = std::env::join_paths(programs).unwrap().into_string().unwrap();
        Self { dir, path }
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]).current_dir(self.dir.path());
        self.settle(&mut shell);
        shell
    }

    /// At a pseudo-terminal.
    fn terminal(&self, command: &str) -> Terminal {
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

/// A program, and what it has shown so far.
struct Terminal {
    child: Child,
    stdin: Option<ChildStdin>,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn new(command: &mut Command) -> Self {
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

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).replace('\r', "")
    }

    fn wait_for(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.shown().contains(text) {
            assert!(Instant::now() < until, "waited for {text:?}, shown was:\n{}", self.shown());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Types a line when the prompt stands there.
    fn type_at(&mut self, prompt: &str, line: &str) {
        self.wait_for(prompt);
        // What is typed before a question can have been read is thrown away, and a word that decides is typed, not
        // pasted: its line end comes by itself.
        thread::sleep(Duration::from_secs(1));
        write!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
        thread::sleep(Duration::from_millis(300));
        writeln!(self.stdin.as_mut().unwrap()).unwrap();
    }

    /// Its exit code and all that it has shown.
    fn end(mut self) -> (Option<i32>, String) {
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

const ASKED: &str = "once, execution or deny";

/// Runs a step at a terminal, answers, and compares.
fn answered(place: &Place, step: &Step, answers: &[(&str, &str)], code: i32) {
    let mut terminal = place.terminal(&step.command);
    for (prompt, line) in answers {
        terminal.type_at(prompt, line);
    }
    let (found, shown) = terminal.end();
    assert_eq!(found, Some(code), "$ {}\n{shown}", step.command);
    compare(step, &shown);
}

#[test]
fn a_newcomer_can_follow_the_readme() {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port().to_string();
    let (steps, other) = readme(&port);
    let place = Place::new(&port);
    let mut steps = steps.iter();
    let mut next = |begins: &str| {
        let step = steps.next().unwrap();
        assert!(step.command.starts_with(begins), "{} comes here, not {begins}", step.command);
        step
    };

    let compile = other[0].iter().find(|line| line.starts_with("rustc ")).unwrap();
    assert!(place.shell(compile).status().unwrap().success());

    for _ in 0..3 {
        answered(&place, next("parole policy explain"), &[], 0);
    }

    // The shell is replaced, so that the API ends with the test.
    let step = next("target/report-api");
    let api = Terminal::new(&mut place.shell(&format!("exec {} 2>&1", step.command)));
    api.wait_for("listening");
    compare(step, &api.shown());

    let run = next("parole run");
    let waiting = place.terminal(&run.command);
    waiting.wait_for(ASKED);
    assert!(!api.shown().contains("POST"), "nothing may be sent before the answer: {}", api.shown());
    compare(run, &waiting.shown());
    answered(&place, next("parole promises --pending"), &[], 0);
    answered(&place, next("parole answer"), &[(ASKED, "once")], 0);
    let (code, shown) = waiting.end();
    assert_eq!(code, Some(0), "{shown}");
    let (_, goes_on) = shown.rsplit_once("deny>").unwrap();
    compare(&Step { command: "(it goes on)".to_owned(), expected: other[1].clone() }, goes_on);

    answered(&place, next("timeout --foreground -s KILL"), &[], 137);
    let list = next("parole ps");
    let listed = place.shell(&list.command).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    compare(list, &listed);
    let id = listed.lines().nth(1).unwrap().split(' ').next().unwrap();
    let resume = next("parole resume ");
    let command = format!("parole resume {id}");
    assert_eq!(plain(&command), plain(&resume.command));
    answered(&place, &Step { command, expected: resume.expected.clone() }, &[(ASKED, "once")], 0);

    answered(&place, next("parole run"), &[], 75);
    answered(&place, next("parole answer"), &[(ASKED, "deny"), ("why, for the guest", "not before Friday")], 0);

    answered(&place, next("parole run"), &[], 0);
    assert!(steps.next().is_none(), "the README goes on");
    compare(&Step { command: "(the API)".to_owned(), expected: other[2].clone() }, &api.shown());
}
