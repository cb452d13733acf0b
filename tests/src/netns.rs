//! A test in a network of its own: a loopback device, on which every address of the internet is, and nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::ensure;
use crate::fixture::{Failure, because};

/// Says to the copy of a test that it is inside.
const INSIDE: &str = "PAROLE_TEST_NETWORK";
/// How a network is made in which each connection, to wherever, arrives here.
const SETUP: [&[&str]; 5] = [
    &["link", "set", "lo", "up"],
    &["address", "add", "93.184.216.34/32", "dev", "lo"],
    &["-6", "address", "add", "2606:2800:220:1::1/128", "dev", "lo", "nodad"],
    &["route", "add", "local", "0.0.0.0/0", "dev", "lo"],
    &["-6", "route", "add", "local", "::/0", "dev", "lo"],
];

/// Where a test finds itself.
#[derive(Debug)]
pub enum Place {
    /// In a network of its own, which lasts as long as this value.
    Inside(TempDir),
    /// Outside: a copy of the test went in, and all was well.
    Outside,
}

/// Sends a copy of the test with this name into a network of its own, or, in that copy, sets the network up.
///
/// `hosts` is its `/etc/hosts`, `resolver` what its `/etc/resolv.conf` has besides the name server. Where there can be
/// no such network the test fails: it must not look as if it had passed.
#[expect(clippy::disallowed_methods, reason = "a test finds out where it is")]
pub fn enter(test: &str, hosts: &str, resolver: &str) -> Result<Place, Failure> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(Place::Inside(set_up(hosts, resolver)?));
    }
    let mut unshare = unshare()?;
    let own = std::env::current_exe().map_err(because("the path of this test"))?;
    let copy = unshare.arg(own).args(["--exact", test, "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    let ran = copy.output().map_err(because("the copy of this test"))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (said(&ran.stdout), said(&ran.stderr));
    ensure!(ran.status.success(), "inside its own network it fails:\n{out}\n{err}");
    ensure!(out.contains("1 passed"), "the copy of this test did not run:\n{out}\n{err}");
    drop(std::io::Write::write_all(&mut std::io::stderr(), err.as_bytes()));
    Ok(Place::Outside)
}

/// What runs a program in a network of its own: as root just so, or in a user namespace.
fn unshare() -> Result<Command, Failure> {
    let mut why = Vec::new();
    for arguments in [&["--net", "--mount", "--"][..], &["--user", "--map-root-user", "--net", "--mount", "--"]] {
        let command = || {
            let mut command = Command::new("/usr/bin/unshare");
            command.args(arguments);
            command
        };
        let probe = command().arg("true").output().map_err(because("unshare, of the package util-linux"))?;
        if probe.status.success() {
            return Ok(command());
        }
        why.push(String::from_utf8_lossy(&probe.stderr).trim().to_owned());
    }
    let why = why.join("; ");
    Err(format!(
        "THE NETWORK IS NOT TESTED: this machine lets no process have a network of its own ({why}). Run the tests as \
         root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)."
    )
    .into())
}

fn set_up(hosts: &str, resolver: &str) -> Result<TempDir, Failure> {
    let links = run("ip", &["-oneline", "link"])?;
    ensure!(links.lines().count() == 1 && links.contains(" lo:"), "there is more than loopback here: {links}");
    for arguments in SETUP {
        run("ip", arguments)?;
    }
    let dir = tempfile::Builder::new().prefix("parole-network-").tempdir().map_err(because("a directory"))?;
    let nameserver = format!("nameserver 127.0.0.1\n{resolver}options timeout:2 attempts:1\n");
    for (name, text) in
        [("resolv.conf", nameserver.as_str()), ("hosts", hosts), ("nsswitch.conf", "hosts: files dns\n")]
    {
        let (own, etc) = (dir.path().join(name), Path::new("/etc").join(name));
        fs::write(&own, text).map_err(because(own.display()))?;
        if etc.exists() {
            run("mount", &["--bind", &own.to_string_lossy(), &etc.to_string_lossy()])?;
        } else {
            // Without it the system's resolver does the same by itself, or asks 127.0.0.1.
            ensure!(name != "hosts", "there is no /etc/hosts to put another one in the place of");
        }
    }
    Ok(dir)
}

fn run(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let shown = format!("{program} {}", arguments.join(" "));
    let paths = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(|dir| Path::new(dir).join(program));
    let found = paths.iter().find(|path| path.is_file());
    let found = found.ok_or_else(|| format!("{program} is missing: install iproute2 and util-linux"))?;
    let ran = Command::new(found).args(arguments).output().map_err(because(&shown))?;
    ensure!(ran.status.success(), "{shown}: {}", String::from_utf8_lossy(&ran.stderr).trim());
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}
