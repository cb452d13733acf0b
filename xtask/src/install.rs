//! What the tests use beside Rust, installed where it is missing and can be.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

/// By the program that is looked for and its Debian package.
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

/// Installs what is missing.
pub(crate) fn programs() -> Result<()> {
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !found(program)).map(|(_, package)| *package).collect();
    if !found_postgresql() {
        missing.push(POSTGRESQL);
    }
    if missing.is_empty() {
        return Ok(());
    }
    if !missing.contains(&POSTGRESQL) || !found("apt-get") {
        return packages(&missing);
    }
    // No server is made or started by the package.
    let setting = Path::new(CLUSTERS).join("parole-tests.conf");
    std::fs::create_dir_all(CLUSTERS)?;
    std::fs::write(&setting, "create_main_cluster = false\n")?;
    let installed = packages(&missing);
    std::fs::remove_file(&setting)?;
    installed
}

/// Installs packages of Debian.
pub(crate) fn packages(missing: &[&str]) -> Result<()> {
    if !found("apt-get") {
        bail!("the tests need {}: please install them", missing.join(", "));
    }
    println!("installing {}", missing.join(", "));
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
