//! A place of its own for each test: nothing of the machine's environment reaches the program.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

pub const PAROLE: &str = env!("CARGO_BIN_EXE_parole");

pub struct Scratch {
    dir: tempfile::TempDir,
}

/// What a process came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Scratch {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The path of a file with these contents.
    pub fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn dir(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(PAROLE);
        command.args(arguments).env_clear().env("PAROLE_STATE", self.path("state")).current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[must_use]
    pub fn parole(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments))
    }

    /// With some text on stdin, which is a pipe.
    #[must_use]
    pub fn piped(&self, arguments: &[&str], stdin: &[u8]) -> Ran {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        // A program that does not read it closes its end.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        Ran::of(&child.wait_with_output().unwrap())
    }

    /// The id of the one program that runs over this state.
    pub fn at_the_terminal(&self) -> String {
        let ours = format!("PAROLE_STATE={}", self.path("state").display());
        let is_ours = |entry: &std::fs::DirEntry| {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            name == "parole\n" && environment.split(|byte| *byte == 0).any(|line| line == ours.as_bytes())
        };
        let found = std::fs::read_dir("/proc").unwrap().flatten().find(is_ours);
        found.expect("a program that runs over this state").file_name().into_string().unwrap()
    }

    /// A policy for `files.wasm`, with what it reads, that asks before each call of one capability.
    pub fn asks_before(&self, capability: &str) -> String {
        self.file("data/in.txt", "abc");
        self.dir("out");
        let grants = "[grant.read_file]\ndirs = { \"/data\" = \"./data\" }\n\
                      [grant.write_file]\ndirs = { \"/out\" = \"./out\" }\n";
        let rule = format!("[[rule]]\nname = \"asks\"\ncapability = \"{capability}\"\nthen = \"ask\"\n");
        self.file("asks.toml", format!("{grants}{rule}"))
    }

    /// The promises that are to be settled.
    pub fn pending(&self) -> Value {
        self.parole(&["promises", "--pending", "--json"]).code(0).json()
    }

    /// Starts the greeter and leaves it at its question. Gives the ids of execution and promise.
    pub fn waiting(&self) -> (String, String) {
        self.left_at(&["run", &guest("greet.wasm"), "--detach", "--json"])
    }

    pub fn left_at(&self, arguments: &[&str]) -> (String, String) {
        let report = self.parole(arguments).code(75).json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&report["execution"]), text(&report["pending"][0]["id"]))
    }
}

#[must_use]
pub fn ran(mut command: Command) -> Ran {
    Ran::of(&command.output().unwrap())
}

impl Ran {
    pub fn of(output: &std::process::Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Asserts the exit code.
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// The one object on stdout.
    pub fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "one line, one object: {:?}", self.out);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {:?}", self.out))
    }

    pub fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "no {text:?} in: {}", self.err);
        self
    }

    pub fn prints(self, text: &str) -> Self {
        assert_eq!(self.out, text, "stderr: {}", self.err);
        self
    }
}

/// A prebuilt guest, or one in text form.
pub fn guest(name: &str) -> String {
    let folder = if name.ends_with(".wat") { "wat" } else { "prebuilt" };
    let path = format!("{}/../../guest-examples/{folder}/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::canonicalize(&path).unwrap_or_else(|error| panic!("{path}: {error}")).to_str().unwrap().to_owned()
}
