//! Where executions and promises are kept, and the runtime over it.

use std::path::{Path, PathBuf};

use parole_runtime::{Compiler, ExecutionId, Runtime, Sink};

use crate::fail::{Failure, Result};
use crate::shell;

/// The hidden word by which the program calls itself to compile a guest under bounds.
pub const COMPILE: &str = "__compile";

#[derive(clap::Args, Clone, Debug, Default)]
pub struct StateArgs {
    /// Where executions and promises are kept
    ///
    /// A directory on a local disk that nobody else may enter. Without it: $PAROLE_STATE, else
    /// $XDG_STATE_HOME/parole, else ~/.local/state/parole.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

// One execution, and where it is kept. (No doc comment: it would become the help of the word.)
#[derive(clap::Args, Clone, Debug)]
pub struct OneArgs {
    /// The id of the execution, as `parole ps` lists it
    #[arg(value_name = "EXECUTION", value_parser = execution)]
    pub execution: ExecutionId,

    #[command(flatten)]
    pub state: StateArgs,
}

/// An id as it was typed, or pasted with what stood around it.
pub fn execution(text: &str) -> std::result::Result<ExecutionId, String> {
    text.trim().parse().map_err(|_| {
        format!("expected an execution id, a UUID such as 01927b3e-… (`{}` lists them)", shell::command("ps"))
    })
}

/// The id of a promise as it was typed, or pasted with what stood around it.
#[allow(clippy::unnecessary_wraps, reason = "a parser of clap")]
pub fn promise(text: &str) -> std::result::Result<String, String> {
    Ok(text.trim().to_owned())
}

impl StateArgs {
    /// The state directory, absolute.
    pub fn dir(&self) -> Result<PathBuf> {
        let dir = match &self.state {
            Some(dir) if dir.as_os_str().is_empty() => {
                return Err(Failure::usage("--state is empty: expected a directory"));
            }
            Some(dir) => dir.clone(),
            None => from_environment()?,
        };
        std::path::absolute(&dir).map_err(|error| Failure::usage(format!("{}: {error}", dir.display())))
    }

    /// Opens the runtime over the state.
    pub fn open(&self, sink: impl Sink + 'static, policy_file: Option<&Path>) -> Result<Runtime> {
        let mut builder = Runtime::builder().state_dir(self.dir()?).sink(sink).compiler(compiler()?);
        builder = builder.protect("the program", program()?).variables(environment);
        if let Some(file) = policy_file {
            builder = builder.protect("the policy file", file);
        }
        Ok(builder.open()?)
    }

    /// Opens the runtime for a word that runs no guest.
    pub fn look(&self) -> Result<Runtime> {
        self.open(parole_capabilities::sink::Quiet, None)
    }
}

/// For the URLs of databases that a policy names by a variable; guests see none of it.
#[expect(clippy::disallowed_methods, reason = "a policy names the variable")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[expect(clippy::disallowed_methods, reason = "where the state is kept is said by the environment")]
fn from_environment() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // A relative path in the XDG variables is to be ignored, says their specification.
    let base = |name: &str| variable(name).filter(|path| path.is_absolute());
    variable("PAROLE_STATE")
        .or_else(|| base("XDG_STATE_HOME").map(|base| base.join("parole")))
        .or_else(|| base("HOME").map(|home| home.join(".local/state/parole")))
        .ok_or_else(|| {
            Failure::usage("there is no place for executions and promises: HOME is not set")
                .hint("say where with --state DIR or PAROLE_STATE=DIR")
        })
}

/// Guests are compiled in a child process, so that one made against the compiler fells only that.
pub fn compiler() -> Result<Compiler> {
    Ok(Compiler::Child { program: itself()?, arguments: vec![COMPILE.into()] })
}

/// This very program, also where another one has taken its place on the disk meanwhile: a
/// compiler of another version would make code that this one does not load.
pub fn itself() -> Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { program() }
}

fn program() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| Failure::internal(format!("this program cannot find itself: {error}")))
}
