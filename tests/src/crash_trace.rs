//! The program under strace: its durable system calls listed, and one of them replaced by a SIGKILL or an error.
//!
//! What strace does, as found out with strace 6.1 (the numbers are `when=N` of `--inject`):
//!
//! * N is counted for each system call and for each *thread* by itself, not over the set: `inject=fsync,pwrite64:when=2`
//!   hits the second `fsync` and the second `pwrite64` of whichever thread gets there first. So each call of an
//!   undisturbed run is aimed at by its own turn, and what was hit is read from the log again. What one thread hides
//!   from another is aimed at by its path (`-P`), which restricts the count too.
//! * SIGKILL strikes on the way in: the call is not performed. A kill at the N-th call shows the state after the
//!   calls before it, and the run that ends by itself shows the one after the last.
//! * With `--seccomp-bpf`, which is faster, most of the kills do not happen; errors do.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::crash::Place;
use crate::ensure;
use crate::fixture::{Failure, Ran, because, parole_binary, strace};

/// The system calls that change what is on the disk. Those with `?` exist on some processors only.
pub const DURABLE: [&str; 14] = [
    "fsync",
    "fdatasync",
    "pwrite64",
    "?rename",
    "renameat",
    "?renameat2",
    "?unlink",
    "unlinkat",
    "ftruncate",
    "?link",
    "linkat",
    "?mkdir",
    "mkdirat",
    "fallocate",
];

/// Writes without an offset: to files, but to pipes and to wake threads too.
pub const WRITE: &str = "write";

/// The path of the victim's output in a [`Call`].
pub const STDOUT: &str = "stdout";

/// What the name of a socket begins with; its number follows.
const SOCKET: &str = "socket:[";

/// A traced run may take this long.
const LIMIT: Duration = Duration::from_secs(30);

/// What is done to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// The process is killed instead.
    Kill,
    /// It fails once, with EIO.
    Eio,
    /// It fails, with ENOSPC, and all further ones of the same name do too.
    Enospc,
}

impl Harm {
    fn option(self, syscall: &str, n: usize) -> String {
        match self {
            Harm::Kill => format!("inject={syscall}:signal=KILL:when={n}"),
            Harm::Eio => format!("inject={syscall}:error=EIO:when={n}"),
            Harm::Enospc => format!("inject={syscall}:error=ENOSPC:when={n}+"),
        }
    }
}

/// Where it is done: at the `n`-th `syscall` of a thread, of those on `path` if there is one.
#[derive(Clone, Debug)]
pub struct Aim {
    /// The name of the call.
    pub syscall: String,
    /// Counted from 1.
    pub n: usize,
    /// A full path.
    pub path: Option<PathBuf>,
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.syscall, self.n)?;
        self.path.as_ref().map_or(Ok(()), |path| write!(f, " on {}", path.display()))
    }
}

/// A durable call: which, and on what. Random parts of names are `*`, the place itself is left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Its name.
    pub syscall: String,
    /// The file, or both of a rename.
    pub path: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.syscall, self.path)
    }
}

/// A durable call of a traced run.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which.
    pub call: Call,
    /// The full path of its file; of a rename the source.
    pub path: PathBuf,
    /// Whether that is a socket: it has another name each time.
    pub is_socket: bool,
    /// Its turn among the calls of this name that its thread makes, where no other thread was there before.
    pub turn: Option<usize>,
    /// The same among those on this path.
    pub turn_on_path: Option<usize>,
}

/// A traced run.
pub struct Traced {
    /// What the program did.
    pub ran: Ran,
    /// Its durable calls, in the order in which they were begun.
    pub calls: Vec<Seen>,
    /// Which of them were harmed.
    pub harmed: Vec<usize>,
}

impl Traced {
    /// The first call that failed and must not be passed over by a run that says that all is well: a write to the log
    /// of the database, or a sync of anything, which no later sync of the same file made good before it said so.
    #[must_use]
    pub fn passed_over(&self, is_told: impl Fn(&Call) -> bool) -> Option<&Call> {
        let is_sync = |call: &Call| matches!(&*call.syscall, "fsync" | "fdatasync");
        let says = self.calls.iter().rposition(|seen| seen.call.path == STDOUT).unwrap_or(self.calls.len());
        let made_good = |index: usize| {
            let mut after = self.calls[..says].iter().enumerate().skip(index + 1);
            let path = &self.calls[index].call.path;
            after.any(|(later, Seen { call, .. })| is_sync(call) && call.path == *path && !self.harmed.contains(&later))
        };
        // Two threads may sync the same: the second has nothing to make durable.
        let had_nothing = |index: usize| {
            let path = &self.calls[index].call.path;
            let mut before = self.calls[..index].iter().enumerate().rev();
            before.find_map(|(earlier, Seen { call, .. })| {
                let names = ["mkdir", "link", "rename"].iter().any(|kind| call.syscall.contains(kind));
                let writes = call.path == *path || (names && call.path.contains(path.as_str()));
                match is_sync(call) {
                    true => (call.path == *path && !self.harmed.contains(&earlier)).then_some(true),
                    false => writes.then_some(false),
                }
            }) == Some(true)
        };
        let counts =
            |call: &Call| is_sync(call) || (call.syscall == "pwrite64" && call.path.ends_with("parole.db-wal"));
        let mut harmed = self.harmed.iter().filter(|index| **index < says && counts(&self.calls[**index].call));
        harmed
            .find(|index| !made_good(**index) && !had_nothing(**index) && !is_told(&self.calls[**index].call))
            .map(|index| &self.calls[*index].call)
    }

    /// Whether everything that was written to the log of the database was synced before the program spoke.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        let says = self.calls.iter().rposition(|seen| seen.call.path == STDOUT).unwrap_or(self.calls.len());
        let mut of_the_log = self.calls[..says].iter().filter(|seen| seen.call.path.ends_with("parole.db-wal"));
        of_the_log.next_back().is_none_or(|seen| matches!(&*seen.call.syscall, "fsync" | "fdatasync"))
    }

    /// The `k`-th of its kind, for the call of this number.
    #[must_use]
    pub fn which(&self, index: usize) -> (Call, usize) {
        let call = self.calls[index].call.clone();
        let k = self.calls[..=index].iter().filter(|other| other.call == call).count();
        (call, k)
    }
}

/// Runs the program under strace, and does harm to one of its calls, or to none.
pub fn trace(place: &Place, arguments: &[String], harm: Option<(Harm, &Aim)>) -> Result<Traced, Failure> {
    trace_more(place, arguments, harm, &[], None)
}

/// Runs `$@`, asks it to end after `$0` seconds, and ends as it did.
const FOR_A_WHILE: &str = r#"
"$@" & child=$!
(sleep "$0"; kill -TERM $child) 2> /dev/null &
wait $child; code=$?
[ $code -le 128 ] || kill -$((code - 128)) $$
exit $code
"#;

/// The same with more calls to be aimed at, for a program that `stays` until it is asked to end.
pub fn trace_more(
    place: &Place,
    arguments: &[String],
    harm: Option<(Harm, &Aim)>,
    also: &[&str],
    stays: Option<Duration>,
) -> Result<Traced, Failure> {
    let missing = "strace is missing, and without it nothing is killed at the right moment: apt-get install strace";
    let (log, stdout) = (place.root().with_file_name("strace.log"), stdout(place));
    // Its output goes to a file, which can be aimed at as well.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec \"$@\" >\"$0\""]).arg(&stdout).arg(strace().ok_or(missing)?);
    command.args(["-f", "-y", "-s", "0", "-e", "signal=KILL", "-o"]).arg(&log);
    command.arg("-e").arg(format!("trace={},{WRITE}", [&DURABLE[..], also].concat().join(",")));
    if harm.is_none_or(|(harm, _)| harm != Harm::Kill) {
        command.arg("--seccomp-bpf");
    }
    if let Some((harm, aim)) = harm {
        command.arg("-e").arg(harm.option(&aim.syscall, aim.n));
        if let Some(path) = &aim.path {
            command.arg("-P").arg(path);
            if aim.syscall != WRITE {
                // To see when it speaks.
                command.arg("-P").arg(&stdout);
            }
        }
    }
    if let Some(stays) = stays {
        command.args(["/bin/sh", "-c", FOR_A_WHILE, &stays.as_secs_f64().to_string()]);
    }
    command.arg(parole_binary()?).args(arguments);
    place.surround(&mut command);
    let mut ran = Ran::new(&mut command, None, LIMIT)?;
    ran.stdout = fs::read(&stdout).map_err(because(stdout.display()))?;
    let text = fs::read_to_string(&log).map_err(because(log.display()))?;
    ensure!(!text.is_empty(), "strace wrote nothing: can it trace here?\n{}", ran.report());
    read(place, ran, &text, harm, also)
}

/// Where the output of a traced run goes.
#[must_use]
pub fn stdout(place: &Place) -> PathBuf {
    place.root().with_file_name("stdout")
}

/// Counts calls by thread, and knows who was first.
#[derive(Default)]
struct Turns<'t, K>(BTreeMap<(&'t str, K), usize>);

impl<'t, K: Ord + Clone> Turns<'t, K> {
    /// The turn of this call of a thread, and whether no other thread had as many before.
    fn take(&mut self, thread: &'t str, what: K) -> (usize, bool) {
        let turn = self.0.get(&(thread, what.clone())).map_or(1, |before| before + 1);
        let first = !self.0.iter().any(|((other, w), count)| *other != thread && *w == what && *count >= turn);
        self.0.insert((thread, what), turn);
        (turn, first)
    }
}

fn read(place: &Place, ran: Ran, text: &str, harm: Option<(Harm, &Aim)>, also: &[&str]) -> Result<Traced, Failure> {
    let mut traced = Traced { ran, calls: Vec::new(), harmed: Vec::new() };
    let (mut turns, mut turns_on_path) = (Turns::default(), Turns::default());
    let killed = text.contains("+++ killed by SIGKILL +++");
    // By thread: the call that it has begun and that the log has not yet seen the end of.
    let mut begun: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        let injected = rest.contains("(INJECTED)");
        if rest.starts_with("<...") {
            if let (true, Some(index)) = (injected, begun.remove(thread)) {
                traced.harmed.push(index);
            }
            continue;
        }
        let Some((syscall, arguments)) = rest.split_once('(') else { continue };
        let (arguments, unfinished) = match arguments.split_once(" <unfinished") {
            Some((arguments, _)) => (arguments, true),
            None => (arguments, false),
        };
        // A thread that was killed before strace could look: `???(`.
        let is_more = also.contains(&syscall);
        if syscall != WRITE && !is_more && !DURABLE.iter().any(|name| name.trim_start_matches('?') == syscall) {
            continue;
        }
        let path = path_of(arguments).ok_or_else(|| format!("a line of strace that is not understood: {line}"))?;
        let (turn, first) = turns.take(thread, syscall);
        let (turn_on_path, first_on_path) = turns_on_path.take(thread, (syscall, path.clone()));
        let aimed_at = harm.is_some_and(|(_, aim)| aim.syscall == syscall && aim.n == turn);
        let hit = killed && aimed_at && traced.harmed.is_empty();
        let is_socket = path.to_string_lossy().starts_with(SOCKET);
        if is_more && !is_socket && !hit {
            continue;
        }
        // Only files of ours and what is said to the caller: a `write` may as well wake a thread.
        let ours = path.starts_with(place.root());
        let says = path == stdout(place);
        if syscall == WRITE && !ours && !says && !hit {
            continue;
        }
        let name = match (syscall == WRITE && !ours, says) {
            (false, _) => plain(place, arguments),
            (true, true) => STDOUT.into(),
            (true, false) => "elsewhere".into(),
        };
        traced.calls.push(Seen {
            call: Call { syscall: syscall.into(), path: name },
            path,
            is_socket,
            turn: first.then_some(turn),
            turn_on_path: first_on_path.then_some(turn_on_path),
        });
        let index = traced.calls.len() - 1;
        if injected || hit {
            traced.harmed.push(index);
        } else if unfinished {
            begun.insert(thread, index);
        }
    }
    ensure!(
        !killed || !traced.harmed.is_empty(),
        "something was killed, and the log does not say where\n{text}\n{}",
        traced.ran.report()
    );
    Ok(traced)
}

/// The file that a call is about; of a rename the source.
fn path_of(arguments: &str) -> Option<PathBuf> {
    let mut parts = texts(arguments);
    let first = parts.next()?;
    // `unlinkat(5</state/owners>, "name", 0)`: a directory and a name in it.
    let directory = arguments.split_once('<').is_some_and(|(before, _)| !before.contains('"'));
    match (directory, parts.next()) {
        (true, Some(name)) if !name.starts_with('/') && !name.is_empty() => Some(PathBuf::from(first).join(name)),
        _ => Some(first.into()),
    }
}

/// The paths in the arguments of a call: of descriptors (`<…>`) and as text (`"…"`).
fn texts(arguments: &str) -> impl Iterator<Item = &str> {
    let mut rest = arguments;
    std::iter::from_fn(move || {
        let at = rest.find(['<', '"'])?;
        let close = if rest[at..].starts_with('<') { '>' } else { '"' };
        let (text, after) = rest[at + 1..].split_once(close)?;
        rest = after;
        Some(text)
    })
}

/// All paths of a call, without the place and without random parts.
fn plain(place: &Place, arguments: &str) -> String {
    let root = place.root().to_string_lossy().into_owned();
    let texts: Vec<String> = texts(arguments)
        .filter(|text| !text.is_empty())
        .map(|text| if text.starts_with(SOCKET) { SOCKET } else { text })
        .map(|text| text.strip_prefix(&root).unwrap_or(text).trim_start_matches('/').to_owned())
        .collect();
    without_random(&texts.join(" "))
}

/// Puts `*` for every run of hexadecimal digits and dashes that is longer than a word.
fn without_random(text: &str) -> String {
    const LONGEST_WORD: usize = 12;
    let mut plain = String::new();
    let mut run = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_hexdigit() || c == '-' {
            run.push(c);
            continue;
        }
        plain.push_str(if run.len() > LONGEST_WORD { "*" } else { &run });
        run.clear();
        if c != '\n' {
            plain.push(c);
        }
    }
    plain
}

/// A process that was stopped at a system call, under strace: what it holds it keeps.
pub struct Stopped {
    strace: std::process::Child,
    pid: String,
    command: String,
}

/// Starts the program and stops it (SIGSTOP) right after the N-th of a system call on the log of its database.
pub fn stopped_at(place: &Place, syscall: &str, n: usize, arguments: &[String]) -> Result<Stopped, Failure> {
    let log = place.root().with_file_name("stopped.log");
    let mut command = Command::new(strace().ok_or("strace is missing: apt-get install strace")?);
    command.args(["-f", "-s", "0", "-o"]).arg(&log).arg("-e").arg(format!("trace={syscall}"));
    command.arg("-e").arg(format!("inject={syscall}:signal=STOP:when={n}"));
    command.arg("-P").arg(place.state().join("parole.db-wal")).arg(parole_binary()?).args(arguments);
    place.surround(&mut command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let shown = format!("{command:?}");
    let strace = command.spawn().map_err(because(&shown))?;
    let mut stopped = Stopped { strace, pid: String::new(), command: shown };
    let until = Instant::now() + LIMIT;
    loop {
        let text = fs::read_to_string(&log).unwrap_or_default();
        if let Some(line) = text.lines().find(|line| line.contains("--- stopped by SIGSTOP ---")) {
            // Any of its threads stands for the process.
            stopped.pid = line.split_whitespace().next().unwrap_or_default().into();
            return Ok(stopped);
        }
        let ended = stopped.strace.try_wait().map_err(because(&stopped.command))?;
        ensure!(
            ended.is_none() && Instant::now() < until,
            "it was not stopped ({ended:?}): {}\n{text}",
            stopped.command
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Stopped {
    /// Lets it run to its end.
    pub fn goes_on(mut self) -> Result<Ran, Failure> {
        self.signal("-CONT")
    }

    /// Kills it where it stands.
    pub fn is_killed(mut self) -> Result<Ran, Failure> {
        self.signal("-KILL")
    }

    fn signal(&mut self, signal: &str) -> Result<Ran, Failure> {
        let start = Instant::now();
        Command::new("/bin/kill").args([signal, &self.pid]).status().map_err(because("kill"))?;
        loop {
            if let Some(status) = self.strace.try_wait().map_err(because(&self.command))? {
                let command = self.command.clone();
                return Ok(Ran {
                    command,
                    status,
                    stdout: Vec::new(),
                    stderr: Vec::new(),
                    took: start.elapsed(),
                    peak: 0,
                });
            }
            ensure!(start.elapsed() < LIMIT, "it does not end: {}", self.command);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if self.strace.try_wait().is_ok_and(|ended| ended.is_none()) {
            drop(Command::new("/bin/kill").args(["-KILL", &self.pid]).status());
            drop((self.strace.kill(), self.strace.wait()));
        }
    }
}
