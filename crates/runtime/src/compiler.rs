//! From the bytes of a guest to machine code, within bounds of time and memory.
//!
//! To the engine's authors a guest that takes for ever to compile is no fault of the engine, so
//! the bounds are ours: a child process with limits of its own, that can be killed.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use parole_policy::{Limits, size_text};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use wasmparser::{Parser, Payload};
use wasmtime::Engine;

use parole_capabilities::clock;
use parole_capabilities::lack::{self, THREADS, lack};

use crate::engine;
use crate::error::Error;
use crate::report::{TEXT_MAX, cut};
use crate::surface;

/// The largest guest that is read, in bytes.
pub const GUEST_MAX: u64 = 64 << 20;
/// Processor time that compiling any guest may take, in milliseconds, and so much more for each MiB of code. It is the
/// bound that counts, because it is the same for a guest whatever else the machine does meanwhile.
const CPU_MS: u64 = 20_000;
const CPU_MS_A_MIB: u64 = 4_000;
/// Address space, likewise: it bounds what a compilation puts out as well.
const MEMORY: u64 = 1 << 30;
const MEMORY_A_MIB: u64 = 64 << 20;
/// How much longer than its processor time a compilation may take by the clock on the wall: for one that does not even
/// compute.
const WALL_MS: u64 = 60_000;

/// What a compilation may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    cpu_ms: u64,
    memory: u64,
}

impl Bounds {
    /// Those of a policy, for a guest with so many bytes of code.
    pub(crate) fn of(limits: &Limits, code: u64) -> Self {
        let by_size = |base: u64, each: u64| base.saturating_add(code.saturating_mul(each) >> 20);
        let of = |limit: u64, by_size: u64| if limit == 0 { by_size } else { limit };
        Self {
            cpu_ms: of(limits.compile_cpu_ms, by_size(CPU_MS, CPU_MS_A_MIB)),
            memory: of(limits.compile_memory, by_size(MEMORY, MEMORY_A_MIB).div_ceil(1 << 20).saturating_mul(1 << 20)),
        }
    }

    /// What the child is told before the guest.
    fn header(self) -> [u8; 16] {
        let mut header = [0; 16];
        header[..8].copy_from_slice(&self.cpu_ms.to_le_bytes());
        header[8..].copy_from_slice(&self.memory.to_le_bytes());
        header
    }

    fn read(header: [u8; 16]) -> Self {
        let (cpu, memory) = header.split_at(8);
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        Self { cpu_ms: number(cpu), memory: number(memory) }
    }

    /// Whole seconds of processor time, as the system counts it.
    fn cpu_seconds(self) -> u64 {
        self.cpu_ms.div_ceil(1_000)
    }

    fn cpu_met(self) -> Error {
        let limit = format!("{} ms", self.cpu_ms);
        Error::Limit { name: "compile_cpu_ms", limit, what: "compiling the guest takes more processor time" }
    }

    fn memory_met(self) -> Error {
        let what = "compiling the guest takes more memory, or breaks the compiler";
        Error::Limit { name: "compile_memory", limit: size_text(self.memory), what }
    }
}

/// Between the signal that says so and the one that cannot be ignored, in seconds.
const LAST_WORDS: u64 = 5;

/// Who compiles.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// This process. The size of a guest is bounded, time and memory are not: for guests
    /// that the embedder trusts not to be made against the compiler.
    InProcess,
    /// A child process that calls [`serve`], bounded by the limits `compile_cpu_ms` and `compile_memory` of the
    /// policy. These limits are all that stands around it: it has the user, the files and
    /// the network of this process, so a guest that could make the compiler run code of its choice
    /// would run it as this user. What the child puts out is loaded as it is.
    Child {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
    },
}

impl Compiler {
    /// Machine code for `engine`.
    pub(crate) fn compile(&self, engine: &Engine, guest: &[u8], bounds: Bounds) -> Result<Vec<u8>, Error> {
        match self {
            Compiler::InProcess => compile(engine, guest).map_err(Error::NotAGuest),
            Compiler::Child { program, arguments } => {
                let mut command = Command::new(program);
                command.args(arguments).env_clear();
                compile_in(command, guest, bounds)
            }
        }
    }
}

fn compile(engine: &Engine, guest: &[u8]) -> Result<Vec<u8>, String> {
    let guest = surface::component(guest)?;
    nesting(&guest)?;
    engine.precompile_component(&guest).map_err(|error| cut(format!("{error:#}"), TEXT_MAX))
}

/// Components nested in components cost the compiler stack: no tool makes more than a few.
fn nesting(guest: &[u8]) -> Result<(), String> {
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(guest) {
        match payload.map_err(|error| cut(error.to_string(), TEXT_MAX))? {
            Payload::ComponentSection { .. } | Payload::ModuleSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return Err(format!("its components are nested more than {NESTING_MAX} deep"));
        }
    }
    Ok(())
}

fn compile_in(mut command: Command, guest: &[u8], bounds: Bounds) -> Result<Vec<u8>, Error> {
    let wall = Duration::from_millis(bounds.cpu_ms.saturating_add(WALL_MS));
    let internal = |error: std::io::Error| match lack(&error) {
        Some(what) => Error::Lack(what),
        None if error.kind() == std::io::ErrorKind::WouldBlock => Error::Lack(THREADS),
        None => Error::Internal(format!("the compiler cannot be started: {error}")),
    };
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(internal)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let started = clock::now();
    let (code, message, status) = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A child that dies early closes its end: it then says why on stderr.
            let _ = stdin.map(|mut stdin| stdin.write_all(&bounds.header()).and_then(|()| stdin.write_all(guest)));
        });
        let message = scope.spawn(move || {
            let mut message = Vec::new();
            let _ = stderr.map(|stderr| stderr.take(TEXT_MAX as u64).read_to_end(&mut message));
            message
        });
        let code = scope.spawn(move || {
            let mut code = Vec::new();
            let _ = stdout.map(|stdout| stdout.take(bounds.memory).read_to_end(&mut code));
            code
        });
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if clock::now().saturating_duration_since(started) < wall => {
                    std::thread::sleep(Duration::from_millis(2))
                }
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
            }
        };
        (code.join().unwrap_or_default(), message.join().unwrap_or_default(), status)
    });
    match status {
        None => Err(bounds.cpu_met()),
        Some(status) if status.success() => Ok(code),
        Some(status) if status.code() == Some(i32::from(REFUSED)) => {
            Err(Error::NotAGuest(String::from_utf8_lossy(&message).trim_end().into()))
        }
        Some(status) if status.code() == Some(i32::from(LACKS)) => Err(Error::Lack(lack::MEMORY)),
        Some(status) if is_short(status, bounds) => Err(Error::Lack(lack::MEMORY)),
        Some(status) if status.signal() == Some(Signal::XCPU.as_raw()) => Err(bounds.cpu_met()),
        Some(_) => Err(bounds.memory_met()),
    }
}

/// Whether a child was felled by what the machine has, and not by its own bounds: by the system, which kills what
/// it has no memory for, or by a limit that this process was started under.
fn is_short(status: ExitStatus, bounds: Bounds) -> bool {
    let Some(signal) = status.signal() else { return false };
    let limit = getrlimit(Resource::As);
    let narrow = limit.current.or(limit.maximum).is_some_and(|most| most < bounds.memory);
    signal == Signal::KILL.as_raw() || (narrow && signal != Signal::XCPU.as_raw())
}

/// Components and modules that may stand inside one another.
const NESTING_MAX: usize = 100;
/// The child refuses the guest, and says why.
const REFUSED: u8 = 65;
/// The child lacks something of the machine.
const LACKS: u8 = 71;

/// The compiling child: reads a guest from standard input, writes machine code to standard
/// output. It is told first how much memory and processor time it has, and bounds itself before it reads a byte of the guest.
#[must_use]
pub fn serve() -> ExitCode {
    // A limit that is lower already stays: it cannot be raised.
    let bound = |resource: Resource, soft: u64, hard: u64| {
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        setrlimit(resource, Rlimit { current: Some(soft.min(most)), maximum: Some(hard.min(most)) })
    };
    let mut header = [0; 16];
    if std::io::stdin().lock().read_exact(&mut header).is_err() {
        return ExitCode::from(LACKS);
    }
    let bounds = Bounds::read(header);
    let seconds = bounds.cpu_seconds();
    let bounded = bound(Resource::As, bounds.memory, bounds.memory)
        .and_then(|()| bound(Resource::Core, 0, 0))
        .and_then(|()| bound(Resource::Cpu, seconds, seconds + LAST_WORDS));
    let mut guest = Vec::new();
    if bounded.is_err() || std::io::stdin().lock().take(GUEST_MAX + 1).read_to_end(&mut guest).is_err() {
        return ExitCode::from(LACKS);
    }
    let Ok(engine) = engine::config().and_then(|config| Engine::new(&config)) else { return ExitCode::from(LACKS) };
    match compile(&engine, &guest) {
        Ok(code) => match std::io::stdout().lock().write_all(&code) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(message) => {
            let _ = std::io::stderr().lock().write_all(cut(message, TEXT_MAX).as_bytes());
            ExitCode::from(REFUSED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> String {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let bounds = Bounds { cpu_ms: 7_000, memory: 1 << 40 };
        compile_in(command, b"guest", bounds).unwrap_err().to_string()
    }

    #[test]
    fn a_child_that_was_felled_is_told_apart() {
        let text = shell("ulimit -S -t 1; while :; do :; done");
        assert!(text.starts_with("the compile_cpu_ms limit of 7000 ms is reached"), "{text}");
        assert!(shell("kill -XCPU $$").starts_with("the compile_cpu_ms limit"));
        assert!(shell("kill -KILL $$").contains("the host is short of memory"));
        assert!(shell("exit 71").contains("the host is short of memory"));
        assert!(shell("kill -ABRT $$").starts_with("the compile_memory limit of 1024GiB"));
        assert!(shell("echo why >&2; exit 65").ends_with("why"));
    }

    #[test]
    fn the_bounds_grow_with_the_code() {
        let limits = Limits::of(parole_policy::Level::Standard);
        assert_eq!(Bounds::of(&limits, 0), Bounds { cpu_ms: 20_000, memory: 1 << 30 });
        assert_eq!(Bounds::of(&limits, 10 << 20), Bounds { cpu_ms: 60_000, memory: (1 << 30) + (640 << 20) });
        let own = Limits { compile_cpu_ms: 5, compile_memory: 7, ..limits };
        let bounds = Bounds::of(&own, u64::MAX);
        assert_eq!((bounds.cpu_ms, bounds.memory, bounds.cpu_seconds()), (5, 7, 1));
        assert_eq!(Bounds::read(bounds.header()), bounds);
    }

    #[test]
    fn a_child_that_says_too_much_is_cut() {
        let text = shell("yes | head -c 100000 >&2; exit 65");
        assert!(text.len() <= TEXT_MAX + 100, "{}", text.len());
    }
}
