//! `resume --all --watch` is two processes: one that stays, and a worker that runs the guests.
//!
//! A guest that finds a fault of the engine can fell the process that runs it. So that one is a child of a process that
//! loads no guest and starts it again; what was running in a child that fell is noted in the store (see
//! [`parole_runtime::felled`]), and tried alone by the next one.
//!
//! The two are joined by a socket, which is the worker's stdin. On it the worker says under which id it holds
//! executions, and the supervisor that it is to end. That is not told by a signal: Ctrl-C at a terminal reaches both,
//! and a second signal to the worker would be one too many. The socket also ends with the supervisor, and so does the
//! worker; where the system can do that (Linux) it is killed with it at once.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use parole_durable::Hub;
use parole_durable::ids::OwnerId;
use parole_runtime::felled::{self, Felled};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{SignalKind, signal};

use crate::fail::{Failure, Kind, Result};
use crate::session::{Signals, block_on};
use crate::{output, state};

/// The pause before a worker that fell is started again; each that falls soon makes the next pause longer.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A worker that has lived for so long did not fall soon.
const WELL: Duration = Duration::from_secs(60);
/// So many workers in a row that did not come up are enough.
const STARTS_MAX: u32 = 10;
/// How long a worker that was told twice to end has for it.
const LAST: Duration = Duration::from_secs(2);
/// The exit code of a failure of the host.
const INTERNAL: u8 = 70;

/// The signals that point at a fault of the engine, and their names. One that was killed, by a person or by the system
/// for want of memory, has done nothing.
const FELLING: [(Signal, &str); 4] =
    [(Signal::SEGV, "SIGSEGV"), (Signal::BUS, "SIGBUS"), (Signal::ILL, "SIGILL"), (Signal::ABORT, "SIGABRT")];

/// What is started again and again.
pub struct Service {
    /// The words of the worker, but for the one that makes it one.
    pub words: Vec<OsString>,
    /// The state directory.
    pub state: PathBuf,
    /// Whether nothing is to be said but errors.
    pub quiet: bool,
}

impl Service {
    /// Runs it until it is told to end.
    pub fn run(&self) -> Result<u8> {
        block_on(async {
            // Before there is a child of which the end could be missed.
            let children = signal(SignalKind::child()).map_err(Failure::internal)?;
            let signals = Signals::new()?;
            Supervisor { service: self, signals, children, told: 0, up: false, failures: 0, pause: PAUSE }.run().await
        })
    }

    fn notice(&self, text: &str) {
        if !self.quiet {
            output::err(text);
        }
    }
}

struct Supervisor<'s> {
    service: &'s Service,
    signals: Signals,
    children: tokio::signal::unix::Signal,
    /// How often we were told to end.
    told: u32,
    /// Whether a worker has come up yet.
    up: bool,
    /// How many in a row have not.
    failures: u32,
    pause: Duration,
}

/// A worker, from its start to its end.
struct Worker {
    process: Child,
    says: tokio::io::Lines<BufReader<OwnedReadHalf>>,
    line: OwnedWriteHalf,
    /// The id under which it holds executions; it has come up once it says it.
    owner: Option<OwnerId>,
    /// Whether it has asked to be followed by a new one.
    again: bool,
    /// Whether it may say more.
    open: bool,
}

impl Supervisor<'_> {
    async fn run(&mut self) -> Result<u8> {
        loop {
            let began = Instant::now();
            let mut worker = self.start()?;
            let status = self.attend(&mut worker).await?;
            if let Some(code) = self.ended(&worker, status).await {
                return Ok(code);
            }
            if worker.again {
                continue;
            }
            if began.elapsed() >= WELL {
                self.pause = PAUSE;
            }
            tokio::select! {
                () = tokio::time::sleep(self.pause) => {}
                () = self.signals.next() => return Ok(0),
            }
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
    }

    fn start(&self) -> Result<Worker> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(Failure::internal)?;
        ours.set_nonblocking(true).map_err(Failure::internal)?;
        let (read, line) = UnixStream::from_std(ours).map_err(Failure::internal)?.into_split();
        let mut command = Command::new(state::itself()?);
        command.args(&self.service.words).arg("--worker").arg(std::process::id().to_string());
        command.arg0("parole").stdin(Stdio::from(OwnedFd::from(theirs)));
        let process = command.spawn().map_err(|error| Failure::internal(format!("starting a worker: {error}")))?;
        Ok(Worker { process, says: BufReader::new(read).lines(), line, owner: None, again: false, open: true })
    }

    /// Until the worker has ended.
    async fn attend(&mut self, worker: &mut Worker) -> Result<ExitStatus> {
        let mut kill_at: Option<tokio::time::Instant> = None;
        loop {
            if let Some(status) = worker.process.try_wait().map_err(Failure::internal)? {
                worker.hear_out().await;
                self.came_up(worker);
                return Ok(status);
            }
            tokio::select! {
                biased;
                () = self.signals.next() => {
                    self.told += 1;
                    // One that has just gone needs not be told.
                    let _ = worker.line.write_all(b".").await;
                    if self.told > 1 {
                        kill_at.get_or_insert_with(|| tokio::time::Instant::now() + LAST);
                    }
                }
                _ = self.children.recv() => {}
                () = worker.hear(), if worker.open => self.came_up(worker),
                () = tokio::time::sleep_until(kill_at.unwrap_or_else(tokio::time::Instant::now)), if kill_at.is_some() => {
                    let _ = worker.process.kill();
                    kill_at = None;
                }
            }
        }
    }

    fn came_up(&mut self, worker: &Worker) {
        if worker.owner.is_some() {
            self.failures = 0;
            if !std::mem::replace(&mut self.up, true) {
                self.service.notice("parole: watching; Ctrl-C ends it");
            }
        }
    }

    /// What a worker has come to: the exit code where that is the end.
    async fn ended(&mut self, worker: &Worker, status: ExitStatus) -> Option<u8> {
        if let Some(signal) = status.signal() {
            self.fell(worker, signal).await;
        }
        if self.told > 0 {
            return Some(match (status.code(), self.told) {
                (Some(code), 1) => exit_code(code),
                (None, 1) => INTERNAL,
                _ => Kind::Interrupted.exit_code(),
            });
        }
        if worker.again {
            return None;
        }
        if worker.owner.is_none() {
            self.failures += 1;
        }
        if self.failures >= STARTS_MAX {
            output::err(&format!("parole: {STARTS_MAX} workers in a row have not come up"));
            return Some(status.code().map_or(INTERNAL, exit_code));
        }
        match status.code() {
            None => None,
            // A failure of the host: the store may be out of reach for a while. What never worked is not tried again.
            Some(code) if code == i32::from(INTERNAL) && self.up => {
                self.service.notice("parole: the worker has failed; another one is started");
                None
            }
            Some(code) => Some(exit_code(code)),
        }
    }

    /// A worker was ended by a signal.
    async fn fell(&self, worker: &Worker, signal: i32) {
        let Some((_, name)) = FELLING.into_iter().find(|(felling, _)| felling.as_raw() == signal) else {
            self.service.notice(&format!("parole: the worker was ended by signal {signal}; another one is started"));
            return;
        };
        self.service.notice(&format!("parole: the worker was ended by {name}; another one is started"));
        let Some(owner) = worker.owner else { return };
        match self.note(owner, name).await {
            Ok(all) => {
                for Felled { execution, times, set_aside } in all {
                    self.service.notice(&match set_aside {
                        false => format!("parole: {execution} was running; that makes {times}"),
                        true => format!("parole: {execution} was running alone; that makes {times}: it is set aside"),
                    });
                }
            }
            Err(failure) => output::err(&format!("parole: what was running is not noted: {}", failure.message)),
        }
    }

    async fn note(&self, owner: OwnerId, name: &str) -> Result<Vec<Felled>> {
        let hub = Hub::sqlite(&self.service.state).map_err(parole_runtime::Error::from)?;
        Ok(felled::note(&hub, owner, name).await?)
    }
}

fn exit_code(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(INTERNAL)
}

impl Worker {
    /// Takes the next thing that it says.
    async fn hear(&mut self) {
        match self.says.next_line().await {
            Ok(Some(line)) => match line.strip_prefix("owner ") {
                Some(id) => self.owner = uuid::Uuid::try_parse(id).ok().map(OwnerId),
                None => self.again |= line == "again",
            },
            Ok(None) | Err(_) => self.open = false,
        }
    }

    /// Takes what it said last. It is gone, and so is its end of the socket.
    async fn hear_out(&mut self) {
        let all = async {
            while self.open {
                self.hear().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), all).await;
    }
}

/// The worker's side.
pub struct Line {
    says: Option<OwnedWriteHalf>,
    hears: Option<OwnedReadHalf>,
    signals: Signals,
    /// How often one has told us to end.
    signaled: u32,
    /// How often the supervisor has.
    told: u32,
}

impl Line {
    /// The line to the supervisor, which is the process of this number: 0 if there is none. From here on this
    /// process does not outlive it.
    pub fn of(supervisor: u32) -> Result<Self> {
        if supervisor == 0 {
            return Ok(Self { says: None, hears: None, signals: Signals::new()?, signaled: 0, told: 0 });
        }
        end_with(supervisor)?;
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(Failure::internal)?;
        let stream = std::os::unix::net::UnixStream::from(stdin);
        stream.set_nonblocking(true).map_err(Failure::internal)?;
        let (hears, says) = UnixStream::from_std(stream).map_err(Failure::internal)?.into_split();
        Ok(Self { says: Some(says), hears: Some(hears), signals: Signals::new()?, signaled: 0, told: 0 })
    }

    /// Says under which id executions are held. Nothing may be held before.
    pub async fn up(&mut self, owner: OwnerId) -> Result<()> {
        self.say(&format!("owner {}\n", owner.0.as_hyphenated())).await
    }

    /// Asks for a new worker after this one.
    pub async fn again(&mut self) -> Result<()> {
        self.say("again\n").await
    }

    async fn say(&mut self, text: &str) -> Result<()> {
        match &mut self.says {
            Some(says) => says.write_all(text.as_bytes()).await.map_err(Failure::internal),
            None => Ok(()),
        }
    }

    /// Resolves when this process is told to end once more: by a signal to it, or by its supervisor. Ctrl-C at a
    /// terminal does both, and is one.
    pub async fn stop(&mut self) {
        let before = self.signaled.max(self.told);
        while self.signaled.max(self.told) == before {
            tokio::select! {
                () = self.signals.next() => self.signaled += 1,
                gone = heard(&mut self.hears) => {
                    self.told += 1;
                    if gone {
                        self.hears = None;
                    }
                }
            }
        }
    }
}

/// A byte from the supervisor, or its end: says which.
async fn heard(hears: &mut Option<OwnedReadHalf>) -> bool {
    let Some(hears) = hears else { return std::future::pending().await };
    loop {
        match hears.read_u8().await {
            Ok(_) => return false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}

/// Has this process killed when its parent ends, if that is still the one that it was.
fn end_with(supervisor: u32) -> Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(Failure::internal)?;
    // It may have ended before that was said.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    if parent == Some(supervisor) { Ok(()) } else { Err(Failure::internal("the supervisor has ended")) }
}
