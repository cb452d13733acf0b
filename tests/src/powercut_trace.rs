//! The program under strace with all that it writes: what a file system is told, in order, by one or more processes.
//!
//! Each process has a log of its own; they are merged by time. A call is put where it began, a sync where it ended: strace
//! says both before the process goes on, so whatever happened because of something else comes after it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::crash::Place;
use crate::ensure;
use crate::fixture::{Failure, because, parole_binary, strace};

/// What is listened to. Those with `?` exist on some processors only.
const CALLS: &str = "openat,?open,?creat,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,sync_file_range,ftruncate,\
                     truncate,?rename,renameat,?renameat2,?unlink,unlinkat,?mkdir,mkdirat,?rmdir,?link,linkat,?symlink,\
                     symlinkat,fallocate,copy_file_range,sendfile,sendto,sendmsg";
/// How long one recorded process may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What a process did that matters after a power cut.
#[derive(Clone, Debug)]
pub enum Did {
    /// A file is there from here on, if it was not.
    Create(PathBuf),
    /// Bytes at a place; `None` is behind what is there.
    Write(PathBuf, Option<u64>, Vec<u8>),
    /// It has this length.
    Truncate(PathBuf, u64),
    /// A directory.
    MakeDir(PathBuf),
    /// A second name.
    Link(PathBuf, PathBuf),
    /// Another name.
    Rename(PathBuf, PathBuf),
    /// A name less.
    Remove(PathBuf),
    /// A sync of a file or a directory was asked for; the number is that of its end.
    SyncBegins(PathBuf, usize),
    /// It is done.
    SyncEnds(usize),
    /// Bytes to somewhere else: a socket, a terminal.
    Sends(Vec<u8>),
    /// Something that was told to somebody, by its number in the book of the scenario.
    Says(usize),
}

impl fmt::Display for Did {
    /// Without the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match self {
            Did::Create(path) => write!(f, "create {}", name(path)),
            Did::Write(path, Some(at), bytes) => write!(f, "write {} {at}+{}", name(path), bytes.len()),
            Did::Write(path, None, bytes) => write!(f, "append {} {}", name(path), bytes.len()),
            Did::Truncate(path, length) => write!(f, "truncate {} {length}", name(path)),
            Did::MakeDir(path) => write!(f, "mkdir {}", name(path)),
            Did::Link(from, to) => write!(f, "link {} {}", name(from), name(to)),
            Did::Rename(from, to) => write!(f, "rename {} {}", name(from), name(to)),
            Did::Remove(path) => write!(f, "remove {}", name(path)),
            Did::SyncBegins(path, number) => write!(f, "sync {} begins ({number})", name(path)),
            Did::SyncEnds(number) => write!(f, "sync ends ({number})"),
            Did::Sends(bytes) => write!(f, "send {}", bytes.len()),
            Did::Says(number) => write!(f, "acknowledged ({number})"),
        }
    }
}

/// Something that was done, and when, in microseconds.
#[derive(Clone, Debug)]
pub struct Event {
    /// Since the epoch.
    pub at: u64,
    /// What.
    pub did: Did,
}

/// A process that is recorded.
pub struct Recorded {
    number: usize,
    child: Child,
    log: PathBuf,
    shown: String,
}

/// How a recorded process went.
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// When it was over, in microseconds.
    pub at: u64,
    log: String,
    shown: String,
}

impl Ended {
    /// Fails unless the exit code is this one.
    pub fn exits(self, code: i32) -> Result<Self, Failure> {
        ensure!(self.code == Some(code), "it ended with {:?}, not {code}: {}\n{}", self.code, self.shown, self.stdout);
        Ok(self)
    }
}

/// Everything that was recorded.
#[derive(Default)]
pub struct Recorder {
    events: Mutex<Vec<Event>>,
    number: Mutex<usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Recorder {
    /// Starts the program.
    pub fn start<S: AsRef<std::ffi::OsStr>>(&self, place: &Place, arguments: &[S]) -> Result<Recorded, Failure> {
        let number = {
            let mut number = lock(&self.number);
            *number += 1;
            *number
        };
        let log = place.root().with_file_name(format!("trace-{number}.log"));
        let mut command = Command::new(strace().ok_or("strace is missing: apt-get install strace")?);
        command.args(["-f", "-ttt", "-y", "-xx", "-s", "100000000", "-e", "signal=none", "--seccomp-bpf"]);
        command.arg("-e").arg(format!("trace={CALLS}")).arg("-o").arg(&log);
        command.arg(parole_binary()?).args(arguments);
        place.surround(&mut command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let shown = format!("{command:?}");
        let child = command.spawn().map_err(because(&shown))?;
        Ok(Recorded { number, child, log, shown })
    }

    /// Waits for its end, and keeps what it did.
    pub fn end(&self, place: &Place, recorded: Recorded) -> Result<Ended, Failure> {
        let number = recorded.number;
        let ended = recorded.end()?;
        let events = read(&place.state(), &ended.log, number)?;
        lock(&self.events).extend(events);
        Ok(ended)
    }

    /// Runs the program to its end.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, place: &Place, arguments: &[S]) -> Result<Ended, Failure> {
        let recorded = self.start(place, arguments)?;
        self.end(place, recorded)
    }

    /// Notes that something was said at this time.
    pub fn says(&self, at: u64, number: usize) {
        lock(&self.events).push(Event { at, did: Did::Says(number) });
    }

    /// All of it by time.
    #[must_use]
    pub fn events(self) -> Vec<Event> {
        let mut events = self.events.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        events.sort_by_key(|event| event.at);
        events
    }
}

impl Recorded {
    /// Asks the program, not strace, to end.
    pub fn signal(&self, signal: &str) -> Result<(), Failure> {
        let pid = self.child.id();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(&path).map_err(because(path))?;
        let program = children.split(' ').next().ok_or("strace has no child")?.to_owned();
        Command::new("/bin/kill").args([signal, &program]).status().map_err(because("kill"))?;
        Ok(())
    }

    fn end(mut self) -> Result<Ended, Failure> {
        let stdout = self.child.stdout.take().ok_or("no output")?;
        let reader = std::thread::spawn(move || std::io::read_to_string(stdout));
        let until = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(because(&self.shown))? {
                break status;
            }
            ensure!(Instant::now() < until, "it does not end: {}", self.shown);
            std::thread::sleep(Duration::from_millis(2));
        };
        let stdout = reader.join().map_err(|_| "reading its output")?.map_err(because(&self.shown))?;
        let log = fs::read_to_string(&self.log).map_err(because(self.log.display()))?;
        ensure!(!log.is_empty(), "strace wrote nothing: can it trace here? {}", self.shown);
        drop(fs::remove_file(&self.log));
        let last = log.lines().next_back().and_then(|line| time(line.split_whitespace().nth(1)?));
        let at = last.ok_or_else(|| format!("a log without times: {}", self.shown))?;
        Ok(Ended { code: status.code(), stdout, at, log, shown: std::mem::take(&mut self.shown) })
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            drop(self.signal("-KILL"));
            drop((self.child.kill(), self.child.wait()));
        }
    }
}

/// `1764036000.123456`, in microseconds.
fn time(text: &str) -> Option<u64> {
    let (seconds, micros) = text.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?)
}

/// A call as a log has it: when it began, when it ended, its name, arguments and result.
struct Call<'l> {
    began: u64,
    ended: u64,
    name: &'l str,
    arguments: String,
    /// None if the process was gone before.
    result: Option<i64>,
}

fn calls(log: &str) -> Result<Vec<Call<'_>>, Failure> {
    let mut calls: Vec<Call<'_>> = Vec::new();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for line in log.lines() {
        let not_understood = || Failure::from(format!("a line of strace that is not understood: {line:.300}"));
        let mut parts = line.splitn(2, ' ');
        let (thread, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default().trim_start());
        let (at, rest) = rest.split_once(' ').ok_or_else(not_understood)?;
        let (at, rest) = (time(at).ok_or_else(not_understood)?, rest.trim_start());
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let index = open.remove(thread).ok_or_else(not_understood)?;
            let (_, rest) = resumed.split_once(" resumed>").ok_or_else(not_understood)?;
            let (more, result) = result(rest);
            let call = &mut calls[index];
            call.arguments.push_str(more);
            (call.ended, call.result) = (at, result);
            continue;
        }
        let (name, rest) = rest.split_once('(').ok_or_else(not_understood)?;
        if let Some(arguments) = rest.strip_suffix(" <unfinished ...>") {
            open.insert(thread, calls.len());
            calls.push(Call { began: at, ended: u64::MAX, name, arguments: arguments.to_owned(), result: None });
        } else {
            let (arguments, result) = result(rest);
            calls.push(Call { began: at, ended: at, name, arguments: arguments.to_owned(), result });
        }
    }
    Ok(calls)
}

/// What stands before the result, and the result.
fn result(rest: &str) -> (&str, Option<i64>) {
    let Some((arguments, result)) = rest.rsplit_once(") ") else { return (rest, None) };
    let number = result.trim_start().strip_prefix("= ").unwrap_or_default();
    let end = number.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(number.len());
    (arguments, number[..end].parse().ok())
}

/// The bytes of `\x2f\x74…`.
fn bytes(hex: &str) -> Result<Vec<u8>, Failure> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let of = |four: &[u8]| match four {
        [b'\\', b'x', high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    hex.as_bytes().chunks(4).map(of).collect::<Option<Vec<u8>>>().ok_or_else(|| format!("no bytes: {hex:.100}").into())
}

fn path(hex: &str) -> Result<PathBuf, Failure> {
    use std::os::unix::ffi::OsStringExt as _;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(bytes(hex)?)))
}

/// The arguments of a call, one by one: neither bytes nor paths hold a comma, for all of them are hexadecimal.
struct Arguments<'a>(Vec<&'a str>);

impl<'a> Arguments<'a> {
    fn number(&self, n: usize) -> Result<u64, Failure> {
        self.0.get(n).and_then(|text| text.parse().ok()).ok_or_else(|| format!("no number: {:.300?}", self.0).into())
    }

    fn text(&self, n: usize) -> Result<&'a str, Failure> {
        let text = self.0.get(n).and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
        text.ok_or_else(|| format!("no text: {:.300?}", self.0).into())
    }

    /// The path of a descriptor, if it has one.
    fn of_descriptor(&self, n: usize) -> Result<PathBuf, Failure> {
        let hex = self.0.get(n).and_then(|text| text.split_once('<')?.1.strip_suffix('>'));
        hex.map_or_else(|| Ok(PathBuf::new()), |hex| path(hex.trim_end_matches(">(deleted)")))
    }

    /// The path in an argument, or in two: a directory and a name.
    fn at(&self, n: usize) -> Result<PathBuf, Failure> {
        Ok(self.of_descriptor(n)?.join(path(self.text(n + 1)?)?))
    }
}

/// What a log says of a directory, and of what was sent elsewhere. Numbers of syncs begin with that of the log.
fn read(state: &Path, log: &str, number: usize) -> Result<Vec<Event>, Failure> {
    let mut events = Vec::new();
    for (index, call) in calls(log)?.into_iter().enumerate() {
        if call.result.is_some_and(|result| result < 0) {
            continue;
        }
        let arguments = Arguments(call.arguments.split(", ").collect());
        let wrong = |failure: Failure| because(format!("{}({:.300})", call.name, call.arguments))(failure);
        let sync = number * 10_000_000 + index;
        for did in acts(&call, &arguments, sync).map_err(wrong)? {
            let ours = match &did {
                Did::Create(path) | Did::Write(path, ..) | Did::Truncate(path, _) | Did::MakeDir(path) => path,
                Did::Link(path, _) | Did::Rename(path, _) | Did::Remove(path) | Did::SyncBegins(path, _) => path,
                Did::SyncEnds(_) | Did::Sends(_) | Did::Says(_) => state,
            };
            if !ours.starts_with(state) {
                continue;
            }
            if let Did::SyncBegins(..) = did
                && call.ended < u64::MAX
            {
                events.push(Event { at: call.ended, did: Did::SyncEnds(sync) });
            }
            events.push(Event { at: call.began, did });
        }
    }
    // What began at the same microsecond stays in the order of the log, and a sync ends after it began.
    events.sort_by_key(|event| (event.at, matches!(event.did, Did::SyncEnds(_))));
    Ok(events)
}

fn acts(call: &Call<'_>, arguments: &Arguments<'_>, sync: usize) -> Result<Vec<Did>, Failure> {
    let written = |arguments: &Arguments<'_>| -> Result<Vec<u8>, Failure> {
        let mut data = bytes(arguments.text(1)?)?;
        data.truncate(call.result.and_then(|count| usize::try_from(count).ok()).unwrap_or(data.len()));
        Ok(data)
    };
    Ok(match call.name {
        "openat" | "open" | "creat" => {
            let (path, flags) = match call.name {
                "openat" => (arguments.at(0)?, arguments.0.get(2)),
                _ => (path(arguments.text(0)?)?, arguments.0.get(1)),
            };
            let has = |flag: &str| flags.is_some_and(|flags| flags.split('|').any(|one| one == flag));
            let mut did = Vec::new();
            if has("O_CREAT") {
                did.push(Did::Create(path.clone()));
            }
            if has("O_TRUNC") {
                did.push(Did::Truncate(path, 0));
            }
            did
        }
        "write" => {
            let path = arguments.of_descriptor(0)?;
            if path.is_absolute() {
                vec![Did::Write(path, None, written(arguments)?)]
            } else {
                vec![Did::Sends(written(arguments)?)]
            }
        }
        "sendto" => vec![Did::Sends(written(arguments)?)],
        // Strings in a list of parts: only looked through for what was sent.
        "writev" | "sendmsg" if !arguments.of_descriptor(0)?.is_absolute() => {
            let parts = call.arguments.split('"').skip(1).step_by(2).map(bytes);
            vec![Did::Sends(parts.collect::<Result<Vec<_>, _>>()?.concat())]
        }
        "pwrite64" => vec![Did::Write(arguments.of_descriptor(0)?, Some(arguments.number(3)?), written(arguments)?)],
        "fsync" | "fdatasync" => vec![Did::SyncBegins(arguments.of_descriptor(0)?, sync)],
        "ftruncate" => vec![Did::Truncate(arguments.of_descriptor(0)?, arguments.number(1)?)],
        "rename" => vec![Did::Rename(path(arguments.text(0)?)?, path(arguments.text(1)?)?)],
        "renameat" | "renameat2" => vec![Did::Rename(arguments.at(0)?, arguments.at(2)?)],
        "unlink" | "rmdir" => vec![Did::Remove(path(arguments.text(0)?)?)],
        "unlinkat" => vec![Did::Remove(arguments.at(0)?)],
        "mkdir" => vec![Did::MakeDir(path(arguments.text(0)?)?)],
        "mkdirat" => vec![Did::MakeDir(arguments.at(0)?)],
        "link" => vec![Did::Link(path(arguments.text(0)?)?, path(arguments.text(1)?)?)],
        "linkat" => vec![Did::Link(arguments.at(0)?, arguments.at(2)?)],
        // A file of ours must not be written in a way that is not followed here.
        _ => vec![Did::Write(arguments.of_descriptor(0)?, Some(u64::MAX), Vec::new())],
    })
}
