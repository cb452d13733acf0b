//! `cargo xtask test`: everything that must hold, on a machine that has a Rust toolchain and little else.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command::succeeds;
use crate::{deny, install};

/// What takes long: faults are injected at every place, and every artefact is looked through.
const SLOW: &str =
    "binary(/^(adding|crash|power_cut|watch_chaos)/) | binary(spec) | binary(/^fixtures_(artefacts|paths|races)/)";

/// Formats, lints, builds, tests; with `quick` the tests that inject faults or take long are left out.
pub(crate) fn test(root: &Path, quick: bool) -> Result<()> {
    let mut steps = Steps { root, taken: Vec::new() };
    let result = all(&mut steps, quick);
    steps.print();
    result
}

fn all(steps: &mut Steps<'_>, quick: bool) -> Result<()> {
    let root = steps.root;
    let tools = steps.time("install", || {
        install::programs()?;
        deny::provide(root)
    })?;
    steps.run("format", "cargo", &["fmt", "--all", "--check"])?;
    let deny = ["--locked", "--log-level", "error", "check", "bans", "licenses", "sources"];
    match tools {
        None => steps.run("deny", "cargo", &[&["deny"], &deny[..]].concat())?,
        Some(tools) => steps.run("deny", &tools.join("cargo-deny").to_string_lossy(), &deny)?,
    }
    // The tests run the program itself, so it must be there and be the newest.
    steps.run("build", "cargo", &["build", "--release", "--locked", "--workspace", "--all-targets"])?;
    // In the profile of the build: scripts and macros of dependencies are the same, only metadata is made anew.
    let clippy = ["clippy", "--release", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    steps.run("clippy", "cargo", &clippy)?;
    if succeeds(Command::new("cargo").args(["nextest", "--version"])) {
        let run = ["nextest", "run", "--release", "--locked", "--workspace", "--no-fail-fast"];
        let filter = format!("not ({SLOW})");
        let all = if quick { [&run[..], &["-E", &filter]].concat() } else { run.to_vec() };
        steps.run("test", "cargo", &all)?;
    } else {
        steps.run("test", "cargo", &["test", "--release", "--locked", "--workspace", "--no-fail-fast"])?;
    }
    if !quick {
        steps.run("doc tests", "cargo", &["test", "--release", "--locked", "--workspace", "--doc"])?;
    }
    Ok(())
}

/// What was done, and how long each took.
struct Steps<'r> {
    root: &'r Path,
    taken: Vec<(&'static str, Duration, bool)>,
}

impl Steps<'_> {
    fn time<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let result = step();
        self.taken.push((name, started.elapsed(), result.is_ok()));
        result
    }

    fn run(&mut self, name: &'static str, program: &str, arguments: &[&str]) -> Result<()> {
        let root = self.root;
        self.time(name, || {
            let line = format!("{program} {}", arguments.join(" "));
            println!("\n$ {line}");
            let status =
                Command::new(program).args(arguments).current_dir(root).status().with_context(|| line.clone())?;
            if status.success() { Ok(()) } else { bail!("`{line}` failed") }
        })
    }

    fn print(&self) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        println!("\n{:<10} {:>7}", "step", "seconds");
        for (name, taken, fine) in &self.taken {
            println!("{name:<10} {:>7.1}{}", taken.as_secs_f64(), if *fine { "" } else { "  FAILED" });
        }
        let all: Duration = self.taken.iter().map(|(_, taken, _)| *taken).sum();
        println!("{:<10} {:>7.1}  (cores: {cores})", "all", all.as_secs_f64());
    }
}
