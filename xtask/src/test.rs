//! `cargo xtask test`: everything that must hold, on a machine that has a Rust toolchain and little else.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// What the tests use beside Rust, by the program that is looked for and its Debian package.
const PROGRAMS: [(&str, &str); 6] = [
    ("strace", "strace"),
    ("script", "bsdutils"),
    ("cc", "gcc"),
    ("openssl", "openssl"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
];

/// A real server for the tests of `query`; they start their own.
const POSTGRESQL: &str = "postgresql";
/// Where Debian's packages look for settings of the server that they would make and start themselves.
const CLUSTERS: &str = "/etc/postgresql-common/createcluster.d";

/// Formats, builds, tests; with `quick` the tests that inject faults or take long are left out.
pub(crate) fn test(root: &Path, quick: bool) -> Result<()> {
    install()?;
    step(root, "cargo", &["fmt", "--all", "--check"])?;
    // The tests run the program itself, so it must be there and be the newest.
    step(root, "cargo", &["build", "--release", "--locked", "--workspace", "--all-targets"])?;
    let filter = ["-E", "not (binary(/^crash/) | binary(spec) | binary(/^fixtures_(artefacts|paths|races)/))"];
    if works("cargo", &["nextest", "--version"]) {
        let run = ["nextest", "run", "--release", "--locked", "--workspace", "--no-fail-fast"];
        let all = if quick { [&run[..], &filter].concat() } else { run.to_vec() };
        step(root, "cargo", &all)?;
    } else {
        step(root, "cargo", &["test", "--release", "--locked", "--workspace", "--no-fail-fast"])?;
    }
    if !quick {
        step(root, "cargo", &["test", "--release", "--locked", "--workspace", "--doc"])?;
    }
    Ok(())
}

fn install() -> Result<()> {
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !found(program)).map(|(_, package)| *package).collect();
    if !found_postgresql() {
        missing.push(POSTGRESQL);
    }
    if missing.is_empty() {
        return Ok(());
    }
    if !found("apt-get") {
        bail!("the tests need {}: please install them", missing.join(", "));
    }
    println!("installing {}", missing.join(", "));
    if !missing.contains(&POSTGRESQL) {
        return install_packages(&missing);
    }
    // No server is made or started by the package.
    let setting = Path::new(CLUSTERS).join("parole-tests.conf");
    std::fs::create_dir_all(CLUSTERS)?;
    std::fs::write(&setting, "create_main_cluster = false\n")?;
    let installed = install_packages(&missing);
    std::fs::remove_file(&setting)?;
    installed
}

fn install_packages(missing: &[&str]) -> Result<()> {
    let install = |missing: &[&str]| {
        let arguments = [&["install", "--yes", "--no-install-recommends"], missing].concat();
        Command::new("apt-get").args(arguments).status()
    };
    if !install(missing)?.success() {
        // The lists may be old or missing.
        Command::new("apt-get").arg("update").status()?;
        if !install(missing)?.success() {
            bail!("cannot install {}: please do, and start again", missing.join(", "));
        }
    }
    Ok(())
}

fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Debian keeps the programs of the server out of the path.
fn found_postgresql() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    found("initdb") || versions.flatten().any(|version| version.path().join("bin/initdb").is_file())
}

fn works(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

fn step(root: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    let started = Instant::now();
    let line = format!("{program} {}", arguments.join(" "));
    println!("\n$ {line}");
    let status = Command::new(program).args(arguments).current_dir(root).status().with_context(|| line.clone())?;
    println!("({} s)", started.elapsed().as_secs());
    if status.success() { Ok(()) } else { bail!("`{line}` failed") }
}
