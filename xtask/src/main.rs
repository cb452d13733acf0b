//! Repository tasks: `cargo xtask`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task says at the terminal what it does")]
#![allow(clippy::disallowed_methods, reason = "a task is told by its environment where things are")]

mod clang;
mod command;
mod component;
mod deny;
mod guests;
mod install;
mod paths;
mod rust;
mod test;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

const HELP: &str = "\
Tasks of this repository.

Usage: cargo xtask TASK

Tasks:
  test            Install what the tests need (Debian), check the format, lints, licences
                  and sources of dependencies, build, test; says how long each took
  test --quick    The same without the tests that take long: for every day
  guests          Rebuild guest-examples/prebuilt from the guests in Rust and C
  guests --check  Rebuild them elsewhere, and fail unless the committed ones have the
                  same imports and exports (the bytes depend on the compiler)

`guests` uses the installed Rust target wasm32-unknown-unknown. Without it, on Debian, it
unpacks Debian's rustc-web into .tools/, installing nothing. For C it uses a clang that
knows wasm32, and installs one with apt-get if there is none and it may.
";

fn main() -> ExitCode {
    match task() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn task() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        ["test"] => test::test(&root()?, false),
        ["test", "--quick"] => test::test(&root()?, true),
        ["guests"] => guests::rebuild(&root()?),
        ["guests", "--check"] => guests::check(&root()?),
        _ => bail!("unknown task `{}`\n\n{HELP}", arguments.join(" ")),
    }
}

/// The directory of the repository. Asked when it runs, so that a moved checkout still works.
fn root() -> Result<PathBuf> {
    let here = env::var_os("CARGO_MANIFEST_DIR").context("start it as `cargo xtask`")?;
    let root = PathBuf::from(here).join("..");
    root.canonicalize().with_context(|| format!("cannot find {}", root.display()))
}
