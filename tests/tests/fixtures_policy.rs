//! Ways around a policy that do not go through the guest: flags, other files, other places (cases P01 to P04, T5).

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::Command;

use parole_tests::ensure;
use parole_tests::fixture::play::guest;
use parole_tests::fixture::{Failure, Ran, World, parole_binary};

const POLICY: &str = r#"
level = "standard"

[grant.read_file]
dirs = { "/data" = "./G" }
"#;

fn io(error: std::io::Error) -> Failure {
    error.to_string().into()
}

/// Runs the guest that reads, with these flags.
fn reads(world: &World, path: &str, flags: &[&str]) -> Result<Ran, Failure> {
    let guest = guest("read-granted");
    let invoke = format!("read(\"{path}\")");
    let mut arguments = vec!["run", guest.to_str().unwrap_or_default(), "--json", "--invoke", &invoke];
    arguments.extend(flags);
    world.run(&arguments)
}

fn output(ran: &Ran) -> Result<String, Failure> {
    Ok(ran.exits(0)?.json()?["output"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn flags_do_not_widen() -> Result<(), Failure> {
    let world = World::plant()?;
    world.write_policy(POLICY)?;
    let widening: &[&[&str]] = &[
        &["--level", "trusted"],
        &["--level", "unrestricted"],
        &["--allow-read", "/data=outside"],
        &["--allow-read", "outside"],
        &["--allow-read", "/data=."],
        &["--allow-read", "/data=/"],
        &["--allow-read", "/data=G2"],
        &["--allow-read", "/data=G/../outside"],
        &["--allow-read", "/data=G/../G/../outside"],
        &["--allow-read", "/data=G/linkdir-out"],
        &["--allow-read", "/data=G/linkdir-up"],
        &["--allow-read", "/data=G/linkdir-root"],
        &["--allow-read", "/data=G/slash-chain"],
        &["--allow-read", "/data=G/sub/up-up"],
        &["--allow-read", "/data=G/proc-cwd"],
        &["--allow-read", "/data=G", "--allow-read", "/more=outside"],
        &["--allow-write", "/out=out"],
        &["--allow-write", "/data=G"],
        &["--timeout", "input=never"],
        &["--timeout", "input=1h"],
        &["--timeout", "read_file=1h"],
        &["--block", "nothing"],
        &["--level", "Standard"],
        &["--level", ""],
    ];
    for flags in widening {
        let mut all = vec!["--policy", "policy.toml"];
        all.extend(*flags);
        let ran = reads(&world, "/data/secret.txt", &all)?;
        ran.exits(2).map_err(|failure| format!("{flags:?}: {failure}"))?;
    }
    Ok(())
}

#[test]
fn flags_narrow() -> Result<(), Failure> {
    let world = World::plant()?;
    world.write_policy(POLICY)?;
    let narrowed = |path: &str, flags: &[&str]| reads(&world, path, &[&["--policy", "policy.toml"], flags].concat());
    ensure!(output(&narrowed("/data/hello.txt", &[])?)? == "hello from G\n", "it may not what it may");
    ensure!(output(&narrowed("/data/inner.txt", &["--allow-read", "/data=G/sub"])?)? == "inner text of G\n", "a part");
    ensure!(
        output(&narrowed("/data/inner.txt", &["--allow-read", "/data=G/linkdir-in"])?)? == "inner text of G\n",
        "a link"
    );
    ensure!(output(&narrowed("/data/hello.txt", &["--allow-read", "/data=G/sub"])?)? == "not-found\n", "the rest");
    ensure!(output(&narrowed("/data/../hello.txt", &["--allow-read", "/data=G/sub"])?)? == "denied\n", "above");
    narrowed("/data/hello.txt", &["--block", "read_file"])?.exits(77)?;
    narrowed("/data/hello.txt", &["--level", "sandbox"])?.exits(77)?;
    Ok(())
}

/// A policy is what was named, never what lies about.
#[test]
fn policies_are_not_discovered() -> Result<(), Failure> {
    let world = World::plant()?;
    let guest = world.path("guest.wat");
    fs::copy(self::guest("read-granted"), &guest).map_err(io)?;
    fs::create_dir_all(world.path("home/.config/parole")).map_err(io)?;
    fs::create_dir_all(world.path(".parole")).map_err(io)?;
    let wide = "level = \"unrestricted\"\n\n[grant.read_file]\ndirs = { \"/data\" = \"./outside\" }\n";
    let places = [
        "policy.toml",
        "parole.toml",
        ".parole.toml",
        "Parole.toml",
        "guest.toml",
        "guest.policy.toml",
        "guest.wat.toml",
        ".parole/policy.toml",
        "home/.parole.toml",
        "home/.config/parole/policy.toml",
        "home/.config/parole/config.toml",
    ];
    for place in places {
        fs::write(world.path(place), wide).map_err(io)?;
    }
    let mut command = world.parole()?;
    for (name, value) in [
        ("PAROLE_POLICY", "policy.toml"),
        ("PAROLE_LEVEL", "unrestricted"),
        ("PAROLE_ALLOW_READ", "/data=outside"),
        ("PAROLE_CONFIG", "policy.toml"),
    ] {
        command.env(name, value);
    }
    command.args(["run", "guest.wat", "--json", "--invoke", "read(\"/data/secret.txt\")", "--state"]);
    let ran = Ran::new(command.arg(world.path("state")), None, parole_tests::fixture::TIMEOUT)?;
    ensure!(output(&ran)? == "denied\n", "a policy was found that nobody named\n{}", ran.report());
    Ok(())
}

/// No grant covers what steers the host, in whatever words it is named.
#[test]
fn grants_do_not_cover_the_host() -> Result<(), Failure> {
    let world = World::plant()?;
    // The state directory has to be there for some of these.
    reads(&world, "/data/hello.txt", &["--allow-read", "/data=G"])?.exits(0)?;
    symlink("state", world.path("state-link")).map_err(io)?;
    let program = parole_binary()?.canonicalize().map_err(io)?;
    let beside = program.parent().ok_or("the program is in no directory")?.to_string_lossy().into_owned();
    let root = world.root().to_string_lossy().into_owned();
    let covering = [
        "/".to_owned(),
        ".".into(),
        root.clone(),
        format!("{root}/G/.."),
        format!("{root}/."),
        "state".into(),
        "state/".into(),
        "state-link".into(),
        "G/../state".into(),
        "G/linkdir-up".into(),
        "G/linkdir-root".into(),
        "/proc/self/cwd".into(),
        "/proc/self/root".into(),
        beside,
    ];
    for dir in &covering {
        for flag in ["--allow-read", "--allow-write"] {
            let ran = reads(&world, "/data/secret.txt", &[flag, &format!("/data={dir}")])?;
            ran.exits(2).map_err(|failure| format!("{flag} /data={dir}: {failure}"))?;
        }
    }
    // The other way round: the state in a grant.
    let guest = guest("read-granted");
    let mut command = world.parole()?;
    command.args(["run", guest.to_str().unwrap_or_default(), "--allow-write", "/out=out", "--state", "out/sub/state"]);
    command.args(["--invoke", "write(\"/out/x\", \"x\")"]);
    Ran::new(&mut command, None, parole_tests::fixture::TIMEOUT)?.exits(2)?;
    // A policy file in a directory that it lets a guest write.
    fs::write(
        world.path("out/policy.toml"),
        "level = \"standard\"\n\n[grant.write_file]\ndirs = { \"/out\" = \".\" }\n",
    )
    .map_err(io)?;
    reads(&world, "/data/hello.txt", &["--policy", "out/policy.toml"])?.exits(2)?;
    // The same through a link to it.
    symlink("out/policy.toml", world.path("linked.toml")).map_err(io)?;
    fs::write(
        world.path("out/policy.toml"),
        "level = \"standard\"\n\n[grant.write_file]\ndirs = { \"/out\" = \"./out\" }\n",
    )
    .map_err(io)?;
    reads(&world, "/data/hello.txt", &["--policy", "linked.toml"])?.exits(2)?;
    Ok(())
}

/// What is no policy file ends the run, and does not hold it up.
#[test]
fn policies_that_are_no_files() -> Result<(), Failure> {
    let world = World::plant()?;
    File::create(world.path("huge.toml")).map_err(io)?.set_len(1 << 30).map_err(io)?;
    fs::write(world.path("bytes.toml"), [0xff, 0xfe, 0]).map_err(io)?;
    fs::write(world.path("nul.toml"), "level = \"sandbox\"\0").map_err(io)?;
    fs::write(world.path("nested.toml"), format!("block = {}", "[".repeat(200_000))).map_err(io)?;
    fs::write(world.path("keys.toml"), format!("{}x = 1", "a.".repeat(200_000))).map_err(io)?;
    fs::write(world.path("tables.toml"), "[a]\n".repeat(200_000)).map_err(io)?;
    fs::write(world.path("dirs.toml"), many_dirs(100_000)).map_err(io)?;
    let no_files = [
        "nowhere.toml",
        "G",
        "G/pipe",
        "G/socket",
        "G/loop",
        "/dev/zero",
        "huge.toml",
        "bytes.toml",
        "nul.toml",
        "nested.toml",
        "keys.toml",
        "tables.toml",
        "dirs.toml",
        "",
    ];
    for file in no_files {
        let ran =
            reads(&world, "/data/hello.txt", &["--policy", file]).map_err(|failure| format!("{file}: {failure}"))?;
        ran.exits(2).map_err(|failure| format!("{file}: {failure}"))?;
        ensure!(ran.peak < 512 << 20, "{file}: it took too much memory\n{}", ran.report());
    }
    Ok(())
}

fn many_dirs(count: u32) -> String {
    let dirs: Vec<String> = (0..count).map(|number| format!("\"/d{number}\" = \"./G\"")).collect();
    format!("level = \"standard\"\n\n[grant.read_file]\ndirs = {{ {} }}\n", dirs.join(", "))
}

/// What is written with a guest's right is no program, and does not become one.
#[test]
fn written_files_are_plain() -> Result<(), Failure> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let world = World::plant()?;
    fs::set_permissions(world.path("out/old.txt"), fs::Permissions::from_mode(0o600)).map_err(io)?;
    // Another name for a file outside: what is replaced here stays what it was there.
    fs::hard_link(world.path("outside/secret.txt"), world.path("out/other-name")).map_err(io)?;
    let guest = guest("read-granted");
    let invoke = "write-all([\"/out/new.sh\", \"/out/old.txt\", \"/out/other-name\"], \"#!/bin/sh\")";
    let ran = world.run(&[
        "run",
        guest.to_str().unwrap_or_default(),
        "--json",
        "--allow-write",
        "/out=out",
        "--invoke",
        invoke,
    ])?;
    ensure!(output(&ran)? == "written\nwritten\nwritten\n", "it may not write\n{}", ran.report());
    let about = |name: &str| fs::metadata(world.path(name)).map_err(io);
    ensure!(about("out/new.sh")?.mode() & 0o7111 == 0, "a new file can be run: {:o}", about("out/new.sh")?.mode());
    ensure!(
        about("out/old.txt")?.mode() & 0o777 == 0o600,
        "a file is open to others now: {:o}",
        about("out/old.txt")?.mode()
    );
    let secret = fs::read_to_string(world.path("outside/secret.txt")).map_err(io)?;
    ensure!(secret.contains(world.canary.text()), "a file outside was changed through another name");
    // No temporary file is left.
    let left = fs::read_dir(world.path("out")).map_err(io)?.filter_map(Result::ok);
    let left: Vec<_> =
        left.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().contains("tmp")).collect();
    ensure!(left.is_empty(), "something is left: {left:?}");
    Ok(())
}

/// What the host has open and what it inherited is nothing to the guest.
#[test]
fn inherited_files() -> Result<(), Failure> {
    let world = World::plant()?;
    let guest = guest("read-granted");
    let binary = parole_binary()?;
    let script =
        "exec 5<outside/secret.txt; exec \"$0\" run \"$1\" --json --allow-read /fd=G --state state --invoke \"$2\"";
    let mut command = Command::new("/bin/sh");
    let invoke = "read-all([\"/fd/proc-fd/5\", \"/dev/fd/5\", \"/proc/self/fd/5\", \"/fd/5\"])";
    command.args(["-c", script]).arg(binary).arg(guest).arg(invoke);
    command.env_clear().env("HOME", world.path("home")).current_dir(world.root());
    let ran = Ran::new(&mut command, None, parole_tests::fixture::TIMEOUT)?;
    ensure!(output(&ran)? == "denied\ndenied\ndenied\nnot-found\n", "it got at an open file\n{}", ran.report());
    world.state_is_clean()
}
