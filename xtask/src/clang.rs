//! C guests: any clang that knows wasm32, and no C library.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{output, run, succeeds};

/// The version that the committed files were made with comes first.
const PREFERRED: u32 = 22;

/// Compiles one C file to a core module.
pub(crate) fn compile(clang: &str, source: &Path, module: &Path) -> Result<Vec<u8>> {
    run(Command::new(clang)
        .args(["--target=wasm32-unknown-unknown", "-std=c11", "-Os"])
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror"])
        // No C library, and no calls to one that the compiler thinks of by itself.
        .args(["-ffreestanding", "-fno-builtin", "-nostdlib"])
        .args(["-Wl,--no-entry", "-Wl,--strip-all", "-o"])
        .args([module, source]))?;
    fs::read(module).with_context(|| format!("cannot read {}", module.display()))
}

/// Finds a clang, and installs one if there is none.
pub(crate) fn find() -> Result<String> {
    if let Some(clang) = installed() {
        return Ok(clang);
    }
    println!("no clang that knows wasm32: trying to install one");
    install().context(
        "C guests need a clang that knows wasm32, with its linker wasm-ld: \
         install packages such as clang and lld",
    )?;
    installed().context("the clang that apt-get installed cannot make wasm32")
}

fn installed() -> Option<String> {
    let others = (11..40).rev().map(|version| format!("clang-{version}"));
    [format!("clang-{PREFERRED}"), "clang".to_owned()].into_iter().chain(others).find(|clang| knows_wasm(clang))
}

fn knows_wasm(clang: &str) -> bool {
    let knows_target =
        output(Command::new(clang).arg("--print-targets")).is_ok_and(|targets| targets.contains("wasm32"));
    // Clang says where its linker is, or repeats the bare name if it is not beside it.
    knows_target
        && output(Command::new(clang).arg("--print-prog-name=wasm-ld"))
            .is_ok_and(|linker| succeeds(Command::new(linker).arg("--version")))
}

fn install() -> Result<()> {
    if !succeeds(Command::new("apt-get").arg("--version")) {
        bail!("there is no apt-get here");
    }
    if output(Command::new("id").arg("-u"))? != "0" {
        bail!("only root may install packages");
    }
    let numbered = [format!("clang-{PREFERRED}"), format!("lld-{PREFERRED}")];
    let plain = ["clang".to_owned(), "lld".to_owned()];
    apt_get(&numbered).or_else(|_| apt_get(&plain))
}

fn apt_get(packages: &[String]) -> Result<()> {
    run(Command::new("apt-get")
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}
