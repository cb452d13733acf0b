//! Check-then-use and other races, for as long as a test run can afford (cases C01 to C10).

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parole_tests::ensure;
use parole_tests::fixture::play::{eventually, guest};
use parole_tests::fixture::{Failure, World, strace};

/// How often a guest reads while links are swapped.
const READS: u32 = 100_000;
/// The same, where each read has to go part by part.
const READS_TRACED: u32 = 3_000;

fn io(error: std::io::Error) -> Failure {
    error.to_string().into()
}

const POLICY: &str = r#"
level = "trusted"

[limits]
journal = "1GiB"

[grant.read_file]
dirs = { "/data" = "./G" }

[grant.write_file]
dirs = { "/out" = "./out" }
quota = "1GiB"
max_files = 1000000
"#;

/// How long each of two states lasts: a walk over a path part by part takes some of that.
const PAUSE: Duration = Duration::from_micros(50);

/// Runs `work` while another thread does `swap` again and again.
fn while_swapping(
    swap: impl Fn() -> std::io::Result<()> + Sync,
    work: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let swapper = scope.spawn(|| -> std::io::Result<()> {
            while !stop.load(Ordering::Relaxed) {
                swap()?;
            }
            Ok(())
        });
        let worked = work();
        stop.store(true, Ordering::Relaxed);
        swapper.join().map_err(|_| Failure::from("the swapper panicked"))?.map_err(io)?;
        worked
    })
}

/// One name is in turn a file and a link that leads out.
fn swapped_file(world: &World, reads: u32) -> Result<(), Failure> {
    world.write_policy(POLICY)?;
    let (name, next) = (world.path("G/swap"), world.path("G/next"));
    let swap = || {
        fs::write(&next, "hello from G")?;
        fs::rename(&next, &name)?;
        thread::sleep(PAUSE);
        symlink("../outside/secret.txt", &next)?;
        fs::rename(&next, &name)
    };
    while_swapping(swap, || hunts(world, "/data/swap", reads))?;
    world.state_is_clean()
}

/// One directory is in turn a directory and a link that leads out.
fn swapped_directory(world: &World, reads: u32) -> Result<(), Failure> {
    world.write_policy(POLICY)?;
    for place in ["G", "out"] {
        fs::create_dir(world.path(place).join("real")).map_err(io)?;
        fs::write(world.path(place).join("real/secret.txt"), "hello from G").map_err(io)?;
    }
    let before = world.tree(&[world.path("G"), world.path("out")])?;
    let swap = || {
        for place in ["G", "out"] {
            let dir = world.path(place);
            let (real, name, next) = (dir.join("real"), dir.join("swap"), dir.join("next"));
            fs::rename(&real, &name)?;
            thread::sleep(PAUSE);
            fs::rename(&name, &real)?;
            symlink("../outside", &next)?;
            fs::rename(&next, &name)?;
            fs::remove_file(&name)?;
        }
        Ok(())
    };
    while_swapping(swap, || {
        hunts(world, "/data/swap/secret.txt", reads)?;
        let ran = world.invoke("read-granted", &format!("hunt-write(\"/out/swap/secret.txt\", {})", reads / 10))?;
        ran.exits(0)?;
        Ok(())
    })?;
    if let Some(change) = world.tree(&[world.path("G"), world.path("out")])?.difference(&before) {
        return Err(format!("ESCAPE: {change}").into());
    }
    world.state_is_clean()
}

/// Reads a path again and again: nothing that it gives may start like the canary, and some of it has to be right.
fn hunts(world: &World, path: &str, reads: u32) -> Result<(), Failure> {
    let ran = world.invoke("read-granted", &format!("hunt(\"{path}\", {reads})"))?;
    let json = ran.exits(0)?.json()?;
    ensure!(json["output"] == "0\nfound\n", "ESCAPE, or it never found the file\n{}", ran.report());
    Ok(())
}

#[test]
fn c01_swapped_file() -> Result<(), Failure> {
    swapped_file(&World::plant()?, READS)
}

#[test]
fn c01_swapped_file_without_openat2() -> Result<(), Failure> {
    ensure!(strace().is_some(), "strace is missing: nothing can run without openat2");
    let mut world = World::plant()?;
    world.no_openat2 = true;
    swapped_file(&world, READS_TRACED)
}

#[test]
fn c02_swapped_directory() -> Result<(), Failure> {
    swapped_directory(&World::plant()?, READS)
}

#[test]
fn c02_swapped_directory_without_openat2() -> Result<(), Failure> {
    ensure!(strace().is_some(), "strace is missing: nothing can run without openat2");
    let mut world = World::plant()?;
    world.no_openat2 = true;
    swapped_directory(&world, READS_TRACED)
}

#[test]
fn c03_own_directories() -> Result<(), Failure> {
    let world = World::plant()?;
    let numbers: Vec<u32> = (0..20).collect();
    for number in &numbers {
        fs::create_dir(world.path(&format!("own-{number}"))).map_err(io)?;
        fs::write(world.path(&format!("own-{number}/mine")), format!("number {number}")).map_err(io)?;
    }
    let guest = guest("read-granted");
    let one = |number: &u32| -> Result<(), Failure> {
        let own = format!("own-{number}");
        let grants = [format!("/own={own}"), format!("/own={own}")];
        let run = |invoke: &str| {
            world.run(&[
                "run",
                &guest.to_string_lossy(),
                "--allow-read",
                &grants[0],
                "--allow-write",
                &grants[1],
                "--json",
                "--invoke",
                invoke,
            ])
        };
        let ran = run("read(\"/own/mine\")")?;
        ensure!(ran.exits(0)?.json()?["output"] == format!("number {number}\n"), "it is another's\n{}", ran.report());
        run(&format!("write(\"/own/same\", \"from {number}\")"))?.exits(0)?;
        let ran = run("read(\"/own/same\")")?;
        ensure!(ran.exits(0)?.json()?["output"] == format!("from {number}\n"), "it is another's\n{}", ran.report());
        Ok(())
    };
    let results: Vec<Result<(), Failure>> = thread::scope(|scope| {
        let threads: Vec<_> = numbers.iter().map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    results.into_iter().collect()
}

#[test]
fn c04_resolve_races_cancel() -> Result<(), Failure> {
    let world = World::plant()?;
    world.write_policy("level = \"restricted\"\n")?;
    for _ in 0..20 {
        let waiting = world.waits("waits", "ask(\"name?\")")?;
        let (resolved, canceled) = thread::scope(|scope| {
            let canceler = scope.spawn(|| world.run(&["promise", "cancel", &waiting.promise]));
            let resolved = world.resolve(&waiting.promise, "\"Ada\"");
            (resolved, canceler.join().unwrap_or_else(|_| Err("a thread panicked".into())))
        });
        let (resolved, canceled) = (resolved?, canceled?);
        let (state, output) = match (resolved.status.code(), canceled.status.code()) {
            (Some(0), Some(1)) => ("resolved", "Ada\n"),
            (Some(1), Some(0)) => ("rejected_canceled", "canceled\n"),
            _ => return Err(format!("not exactly one won\n{}\n{}", resolved.report(), canceled.report()).into()),
        };
        ensure!(world.promise_state(&waiting.promise)? == state, "the loser has changed it");
        world.completes(&waiting.execution, output)?;
    }
    Ok(())
}

#[test]
fn c04_resolve_races_cancel_of_the_execution() -> Result<(), Failure> {
    let world = World::plant()?;
    world.write_policy("level = \"restricted\"\n")?;
    for _ in 0..20 {
        let waiting = world.waits("waits", "ask(\"name?\")")?;
        let (resolved, canceled) = thread::scope(|scope| {
            let canceler = scope.spawn(|| world.run(&["cancel", &waiting.execution]));
            let resolved = world.resolve(&waiting.promise, "\"Ada\"");
            (resolved, canceler.join().unwrap_or_else(|_| Err("a thread panicked".into())))
        });
        let (resolved, canceled) = (resolved?, canceled?);
        canceled.exits(0)?;
        let state = world.promise_state(&waiting.promise)?;
        let wanted = if resolved.status.code() == Some(0) { "resolved" } else { "rejected_canceled" };
        ensure!(state == wanted, "the promise is {state}, not {wanted}\n{}\n{}", resolved.report(), canceled.report());
        world.resume(&waiting.execution)?.exits(76)?;
    }
    Ok(())
}

#[test]
fn c05_resolve_races_time_out() -> Result<(), Failure> {
    let world = World::plant()?;
    world.write_policy("level = \"restricted\"\n\n[grant.input]\ntimeout_ms = 150\n")?;
    for round in 0..20 {
        let waiting = world.waits("waits", "ask(\"name?\")")?;
        thread::sleep(Duration::from_millis(60 + round * 5));
        let resolved = world.resolve(&waiting.promise, "\"Ada\"")?;
        let (state, output) = match resolved.status.code() {
            Some(0) => ("resolved", "Ada\n"),
            Some(1) => ("rejected_timedout", "expired\n"),
            _ => return Err(format!("neither done nor a conflict\n{}", resolved.report()).into()),
        };
        ensure!(world.promise_state(&waiting.promise)? == state, "it is not {state}\n{}", resolved.report());
        world.completes(&waiting.execution, output)?;
    }
    Ok(())
}

/// Two resolvers, of which one is killed: one settlement stands, and none is lost.
#[test]
fn c09_resolvers_and_a_kill() -> Result<(), Failure> {
    let world = World::plant()?;
    world.write_policy("level = \"restricted\"\n")?;
    for round in 0..20 {
        let waiting = world.waits("waits", "ask(\"name?\")")?;
        let mut killed = world.start(&["promise", "resolve", &waiting.promise, "--value", "\"killed\""])?;
        let (survivor, killed) = thread::scope(|scope| {
            let survivor = scope.spawn(|| world.resolve(&waiting.promise, "\"survivor\""));
            thread::sleep(Duration::from_millis(round));
            let killed = killed.kill().and_then(|()| killed.wait());
            (survivor.join().unwrap_or_else(|_| Err("a thread panicked".into())), killed)
        });
        let survived = survivor?.status.code() == Some(0);
        let acknowledged = killed.map_err(io)?.success();
        ensure!(!(survived && acknowledged), "both were told that they won");
        let ran = world.resume(&waiting.execution)?;
        let json = ran.exits(0)?.json()?;
        let wanted = if survived { "survivor\n" } else { "killed\n" };
        ensure!(json["output"] == wanted, "it is not {wanted:?}\n{}", ran.report());
    }
    Ok(())
}

/// Two processes resume one execution: one of them does, the other one is told or sees the same end.
#[test]
fn two_resume_one() -> Result<(), Failure> {
    let world = World::plant()?;
    world.write_policy("level = \"restricted\"\n")?;
    for _ in 0..10 {
        let waiting = world.waits("waits", "ask-both(\"name?\", \"age?\")")?;
        world.resolve(&waiting.promise, "\"Ada\"")?.exits(0)?;
        let (one, other) = thread::scope(|scope| {
            let other = scope.spawn(|| world.resume(&waiting.execution));
            (world.resume(&waiting.execution), other.join().unwrap_or_else(|_| Err("a thread panicked".into())))
        });
        for ran in [one?, other?] {
            ensure!(
                matches!(ran.status.code(), Some(73 | 75)),
                "neither held elsewhere nor suspended\n{}",
                ran.report()
            );
        }
        let pending = world
            .promises()?
            .into_iter()
            .filter(|promise| promise["execution"] == *waiting.execution && promise["state"] == "pending");
        ensure!(pending.count() == 1, "the second question was asked more than once");
    }
    Ok(())
}

#[test]
fn c10_terminated_while_sleeping() -> Result<(), Failure> {
    let world = World::plant()?;
    world.write_policy("level = \"restricted\"\n")?;
    let guest = guest("waits");
    for signal in ["-TERM", "-INT", "-HUP"] {
        let arguments =
            ["run", &guest.to_string_lossy(), "--policy", "policy.toml", "--json", "--invoke", "sleep(1500, 1)"];
        let mut sleeper = world.start(&arguments)?;
        thread::sleep(Duration::from_millis(500));
        Command::new("/bin/kill").args([signal, &sleeper.id().to_string()]).status().map_err(io)?;
        sleeper.wait().map_err(io)?;
        let listed = world.run(&["ps", "--all", "--json"])?;
        let json = listed.exits(0)?.json()?;
        let executions = json.as_array().map(Vec::as_slice).unwrap_or_default();
        let waiting = executions.iter().find(|execution| execution["outcome"] != "completed");
        let execution = waiting.and_then(|execution| execution["execution"].as_str());
        let execution =
            execution.ok_or_else(|| format!("nothing is left to resume after {signal}\n{}", listed.report()))?;
        world.completes(execution, "slept\n")?;
    }
    Ok(())
}

/// A grant means the directory that was there when the guest was started, whatever has its name later.
#[test]
fn granted_directory_is_moved() -> Result<(), Failure> {
    let world = World::plant()?;
    world.write_policy(POLICY)?;
    let secret = world.path("outside/secret.txt");
    fs::copy(&secret, world.path("outside/hello.txt")).map_err(io)?;
    let guest = guest("read-granted");
    let invoke = format!("hunt(\"/data/hello.txt\", {READS})");
    let running =
        world.start(&["run", &guest.to_string_lossy(), "--policy", "policy.toml", "--json", "--invoke", &invoke])?;
    let (dir, moved) = (world.path("G"), world.path("moved"));
    let opened = format!("/proc/{}/fd", running.id());
    let is_open = || {
        let files = fs::read_dir(&opened).map_err(io)?;
        Ok(files.filter_map(Result::ok).any(|file| fs::read_link(file.path()).is_ok_and(|path| path == dir)))
    };
    eventually("the opening of the directory", is_open)?;
    fs::rename(&dir, &moved).map_err(io)?;
    symlink("outside", &dir).map_err(io)?;
    let ended = running.wait_with_output().map_err(io)?;
    let out = String::from_utf8_lossy(&ended.stdout);
    ensure!(out.contains("\"0\\nfound\\n\""), "ESCAPE, or it lost the directory: {out}");
    world.state_is_clean()
}
