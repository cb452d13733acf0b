//! What the measurements share: a runtime, a policy, a directory, this process as seen by the system.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use parole_policy::{Level, SecurityPolicy, Timeout};
use parole_runtime::{Event, ExecutionId, Guest, RunOptions, Runtime, Wait};
use tokio::sync::mpsc;

/// Where the programs of this build are.
pub fn programs() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let dir = exe.parent().unwrap();
    // `cargo bench` runs it from `deps`.
    if dir.ends_with("deps") { dir.parent().unwrap().to_owned() } else { dir.to_owned() }
}

/// A directory on the disk of the build, gone at the end.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(programs()).unwrap()
}

/// Everything is allowed, for a day.
pub fn policy() -> SecurityPolicy {
    SecurityPolicy::new(Level::Unrestricted).timeout("input", Timeout::After(86_400_000)).limits(|limits| {
        limits.output = 1 << 30;
        limits.journal = 4 << 30;
        limits.park_after_ms = 86_400_000;
    })
}

pub fn guest(bytes: Vec<u8>) -> Guest {
    Guest::from_bytes("bench", bytes).unwrap()
}

/// `run(times)`.
pub fn options(times: u32, wait: Wait) -> RunOptions {
    RunOptions { invoke: Some(format!("run({times})")), wait, ..RunOptions::default() }
}

/// A runtime that tells the ids of the promises for which its guests begin to wait.
pub fn waiting(state: &Path, at_once: usize) -> (Runtime, mpsc::UnboundedReceiver<String>) {
    let (send, receive) = mpsc::unbounded_channel();
    let sink = move |_: ExecutionId, event: Event<'_>| {
        if let Event::Waiting(promise) = event {
            let _ = send.send(promise.id.as_str().to_owned());
        }
    };
    let runtime = Runtime::builder().state_dir(state).sink(sink).waiting_at_once(at_once).open().unwrap();
    (runtime, receive)
}

/// This program again, with pipes.
pub fn child(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("child").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// The output of a child, which ends well.
pub fn output(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Bytes of this process that are in memory.
pub fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size() as u64
}

/// Seconds of processor time that this process has had.
pub fn processor() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Seconds by a clock that all processes share.
pub fn clock() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Seconds of processor time that this thread has had.
pub fn thread() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The database in a state directory.
pub fn database(state: &Path) -> rusqlite::Connection {
    let mut files = std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
    let database = files.find(|path| path.extension().is_some_and(|end| end == "db")).unwrap();
    rusqlite::Connection::open(database).unwrap()
}
