//! From the bytes of a guest to machine code, within bounds of time and memory.
//!
//! To the engine's authors a guest that takes for ever to compile is no fault of the engine, so
//! the bounds are ours: a child process with limits of its own, that can be killed.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};
use wasmtime::{Engine, Precompiled};

use crate::engine;
use crate::error::Error;

/// The largest guest that is read, in bytes.
pub const GUEST_MAX: u64 = 64 << 20;
/// How long a compilation may take.
pub const COMPILE_TIME: Duration = Duration::from_secs(10);
/// Address space that a compilation may use, in bytes.
pub const COMPILE_MEMORY: u64 = 1 << 30;
/// The longest message that is taken over from a compilation.
const MESSAGE_MAX: usize = 2_000;

/// Who compiles.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// This process. The size of a guest is bounded, time and memory are not: for guests
    /// that the embedder trusts not to be made against the compiler.
    InProcess,
    /// A child process that calls [`serve`], bounded by [`COMPILE_TIME`] and [`COMPILE_MEMORY`].
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
    match Engine::detect_precompiled(guest) {
        None => {}
        Some(Precompiled::Module | Precompiled::Component) => {
            return Err("it is precompiled machine code, which is never taken from outside".into());
        }
    }
    match guest {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            return Err("it is a core module; expected a component (wrap it with `wasm-tools component new`)".into());
        }
        [0, b'a', b's', b'm', ..] => {}
        text if std::str::from_utf8(text).is_ok_and(|text| text.contains('(')) => {}
        _ => return Err("it is neither a WebAssembly component nor its text form".into()),
    }
    engine.precompile_component(guest).map_err(|error| format!("{error:#}"))
}

fn compile_in(mut command: Command, guest: &[u8]) -> Result<Vec<u8>, Error> {
    let internal = |error: std::io::Error| Error::Internal(format!("the compiler cannot be started: {error}"));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(internal)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let started = Instant::now();
    let (code, message, status) = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A child that dies early closes its end: it then says why on stderr.
            let _ = stdin.map(|mut stdin| stdin.write_all(guest));
        });
        let message = scope.spawn(move || {
            let mut message = Vec::new();
            let _ = stderr.map(|stderr| stderr.take(MESSAGE_MAX as u64).read_to_end(&mut message));
            message
        });
        let code = scope.spawn(move || {
            let mut code = Vec::new();
            let _ = stdout.map(|mut stdout| stdout.read_to_end(&mut code));
            code
        });
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if started.elapsed() < COMPILE_TIME => std::thread::sleep(Duration::from_millis(2)),
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
        None => Err(Error::NotAGuest(format!("it takes more than {} s to compile", COMPILE_TIME.as_secs()))),
        Some(status) if status.success() => Ok(code),
        Some(status) if status.code() == Some(i32::from(REFUSED)) => {
            Err(Error::NotAGuest(String::from_utf8_lossy(&message).trim_end().into()))
        }
        Some(_) => Err(Error::NotAGuest(format!(
            "compiling it takes more than {} MiB of memory, or breaks the compiler",
            COMPILE_MEMORY >> 20
        ))),
    }
}

const REFUSED: u8 = 65;

/// The compiling child: reads a guest from standard input, writes machine code to standard
/// output. It bounds its own memory and processor time before it reads a byte.
#[must_use]
pub fn serve() -> ExitCode {
    let bound = |limit: u64| Rlimit { current: Some(limit), maximum: Some(limit) };
    let bounded = setrlimit(Resource::As, bound(COMPILE_MEMORY))
        .and_then(|()| setrlimit(Resource::Core, bound(0)))
        .and_then(|()| setrlimit(Resource::Cpu, bound(4 * COMPILE_TIME.as_secs())));
    let mut guest = Vec::new();
    let result = match bounded {
        Err(error) => Err(format!("the compiler cannot bound itself: {error}")),
        Ok(()) => std::io::stdin()
            .lock()
            .take(GUEST_MAX + 1)
            .read_to_end(&mut guest)
            .map_err(|error| error.to_string())
            .and_then(|_| engine::config().and_then(|config| Engine::new(&config)).map_err(|error| error.to_string()))
            .and_then(|engine| compile(&engine, &guest)),
    };
    match result {
        Ok(code) => match std::io::stdout().lock().write_all(&code) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(message) => {
            let end = message.floor_char_boundary(MESSAGE_MAX);
            let _ = std::io::stderr().lock().write_all(&message.as_bytes()[..end]);
            ExitCode::from(REFUSED)
        }
    }
}
