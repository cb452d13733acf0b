//! From the bytes of a guest to machine code, within bounds of time and memory.
//!
//! To the engine's authors a guest that takes for ever to compile is no fault of the engine, so
//! the bounds are ours: a child process with limits of its own, that can be killed.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

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
/// How long a compilation may take on a machine that has nothing else to do.
const COMPILE_TIME: Duration = Duration::from_secs(10);
/// On how many cores that is reckoned: the compiler uses all there are.
const COMPILE_CORES: u64 = 2;
/// Processor time that a compilation may use. It is the bound that counts, because it is the
/// same for a guest whatever else the machine does meanwhile.
pub const COMPILE_CPU: Duration = Duration::from_secs(COMPILE_TIME.as_secs() * COMPILE_CORES);
/// How long a compilation may take by the clock on the wall: for one that does not even compute.
pub const COMPILE_WALL: Duration = Duration::from_secs(60);
/// Address space that a compilation may use, in bytes. It bounds what it puts out as well.
pub const COMPILE_MEMORY: u64 = 1 << 30;
/// Between the signal that says so and the one that cannot be ignored, in seconds.
const LAST_WORDS: u64 = 5;

/// Who compiles.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// This process. The size of a guest is bounded, time and memory are not: for guests
    /// that the embedder trusts not to be made against the compiler.
    InProcess,
    /// A child process that calls [`serve`], bounded by [`COMPILE_CPU`], [`COMPILE_WALL`] and
    /// [`COMPILE_MEMORY`]. These limits are all that stands around it: it has the user, the files and
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
    pub(crate) fn compile(&self, engine: &Engine, guest: &[u8]) -> Result<Vec<u8>, Error> {
        match self {
            Compiler::InProcess => compile(engine, guest).map_err(Error::NotAGuest),
            Compiler::Child { program, arguments } => {
                let mut command = Command::new(program);
                command.args(arguments).env_clear();
                compile_in(command, guest)
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

fn compile_in(mut command: Command, guest: &[u8]) -> Result<Vec<u8>, Error> {
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
            let _ = stdin.map(|mut stdin| stdin.write_all(guest));
        });
        let message = scope.spawn(move || {
            let mut message = Vec::new();
            let _ = stderr.map(|stderr| stderr.take(TEXT_MAX as u64).read_to_end(&mut message));
            message
        });
        let code = scope.spawn(move || {
            let mut code = Vec::new();
            let _ = stdout.map(|stdout| stdout.take(COMPILE_MEMORY).read_to_end(&mut code));
            code
        });
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if clock::now().saturating_duration_since(started) < COMPILE_WALL => {
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
        None => Err(Error::NotAGuest(format!("it takes more than {} s to compile", COMPILE_WALL.as_secs()))),
        Some(status) if status.success() => Ok(code),
        Some(status) if status.code() == Some(i32::from(REFUSED)) => {
            Err(Error::NotAGuest(String::from_utf8_lossy(&message).trim_end().into()))
        }
        Some(status) if status.code() == Some(i32::from(LACKS)) => Err(Error::Lack(lack::MEMORY)),
        Some(status) if is_short(status) => Err(Error::Lack(lack::MEMORY)),
        Some(status) => Err(Error::NotAGuest(felled(status))),
    }
}

/// Whether a child was felled by what the machine has, and not by its own bounds: by the system, which kills what
/// it has no memory for, or by a limit that this process was started under.
fn is_short(status: ExitStatus) -> bool {
    let Some(signal) = status.signal() else { return false };
    let limit = getrlimit(Resource::As);
    let narrow = limit.current.or(limit.maximum).is_some_and(|most| most < COMPILE_MEMORY);
    signal == Signal::KILL.as_raw() || (narrow && signal != Signal::XCPU.as_raw())
}

/// Why a child ended that did not say so itself.
fn felled(status: ExitStatus) -> String {
    let (seconds, mebibytes) = (COMPILE_CPU.as_secs(), COMPILE_MEMORY >> 20);
    let is = |signal: Signal| status.signal() == Some(signal.as_raw());
    if is(Signal::XCPU) {
        format!("it takes more than {seconds} s of processor time to compile")
    } else {
        format!("compiling it takes more than {mebibytes} MiB of memory, or breaks the compiler")
    }
}

/// Components and modules that may stand inside one another.
const NESTING_MAX: usize = 100;
/// The child refuses the guest, and says why.
const REFUSED: u8 = 65;
/// The child lacks something of the machine.
const LACKS: u8 = 71;

/// The compiling child: reads a guest from standard input, writes machine code to standard
/// output. It bounds its own memory and processor time before it reads a byte.
#[must_use]
pub fn serve() -> ExitCode {
    // A limit that is lower already stays: it cannot be raised.
    let bound = |resource: Resource, soft: u64, hard: u64| {
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        setrlimit(resource, Rlimit { current: Some(soft.min(most)), maximum: Some(hard.min(most)) })
    };
    let seconds = COMPILE_CPU.as_secs();
    let bounded = bound(Resource::As, COMPILE_MEMORY, COMPILE_MEMORY)
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
        compile_in(command, b"guest").unwrap_err().to_string()
    }

    #[test]
    fn a_child_that_was_felled_is_told_apart() {
        let text = shell("ulimit -S -t 1; while :; do :; done");
        assert!(text.contains("s of processor time to compile"), "{text}");
        assert!(shell("kill -XCPU $$").contains("s of processor time to compile"));
        assert!(shell("kill -KILL $$").contains("the host is short of memory"));
        assert!(shell("exit 71").contains("the host is short of memory"));
        assert!(shell("kill -ABRT $$").contains("MiB of memory"));
        assert!(shell("echo why >&2; exit 65").ends_with("why"));
    }

    #[test]
    fn a_child_that_says_too_much_is_cut() {
        let text = shell("yes | head -c 100000 >&2; exit 65");
        assert!(text.len() <= TEXT_MAX + 100, "{}", text.len());
    }
}
