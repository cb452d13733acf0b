//! Attacks on what is kept: settling twice, settling what is not there, damaged and exchanged files, and the
//! end of the process at a bad moment (cases D01 to D16).

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::Duration;

use parole_tests::ensure;
use parole_tests::fixture::play::{Waiting, eventually, guest};
use parole_tests::fixture::{Failure, World};

const POLICY: &str = "level = \"restricted\"\n";

fn io(error: std::io::Error) -> Failure {
    error.to_string().into()
}

fn world() -> Result<World, Failure> {
    let world = World::plant()?;
    world.write_policy(POLICY)?;
    Ok(world)
}

fn asks(world: &World) -> Result<Waiting, Failure> {
    world.waits("waits", "ask(\"name?\")")
}

fn kill(mut child: Child) -> Result<(), Failure> {
    child.kill().map_err(io)?;
    child.wait().map_err(io)?;
    Ok(())
}

#[test]
fn d01_killed_while_suspended() -> Result<(), Failure> {
    let world = world()?;
    // Answered after the restart.
    let waiting = asks(&world)?;
    let watcher = world.start(&["resume", "--all", "--watch"])?;
    thread::sleep(Duration::from_millis(300));
    kill(watcher)?;
    world.resolve(&waiting.promise, "\"Ada\"")?.exits(0)?;
    world.completes(&waiting.execution, "Ada\n")?;

    // Answered before it.
    let waiting = asks(&world)?;
    world.resolve(&waiting.promise, "\"Grace\"")?.exits(0)?;
    world.completes(&waiting.execution, "Grace\n")?;

    // Answered while somebody watches.
    let waiting = asks(&world)?;
    let watcher = world.start(&["resume", "--all", "--watch"])?;
    thread::sleep(Duration::from_millis(300));
    world.resolve(&waiting.promise, "\"Edsger\"")?.exits(0)?;
    let ended = || Ok(world.run(&["show", &waiting.execution, "--json"])?.json()?["outcome"] == "completed");
    let done = eventually("the end of the execution", ended);
    kill(watcher)?;
    done?;
    world.completes(&waiting.execution, "Edsger\n")
}

#[test]
fn d01_killed_while_it_sleeps() -> Result<(), Failure> {
    let world = world()?;
    let guest = guest("waits");
    let sleeper = world.start(&[
        "run",
        &guest.to_string_lossy(),
        "--policy",
        "policy.toml",
        "--json",
        "--invoke",
        "sleep(1500, 2)",
    ])?;
    thread::sleep(Duration::from_millis(700));
    kill(sleeper)?;
    let listed = world.run(&["ps", "--all", "--json"])?;
    let json = listed.exits(0)?.json()?;
    let execution = json[0]["execution"].as_str().ok_or_else(|| format!("no execution\n{}", listed.report()))?;
    world.completes(execution, "slept\n")
}

/// Killed at some moment after the answer is in: whatever had been done, it is done once.
#[test]
fn d02_killed_while_resuming() -> Result<(), Failure> {
    let world = world()?;
    for round in 0..20 {
        let waiting = world.waits("waits", "approve(\"go on?\")")?;
        world.resolve(&waiting.promise, "true")?.exits(0)?;
        let resumer = world.start(&["resume", &waiting.execution, "--json"])?;
        thread::sleep(Duration::from_millis(round * 2));
        kill(resumer)?;
        world.completes(&waiting.execution, "true\n")?;
    }
    Ok(())
}

/// Acknowledged is durable; what was not acknowledged is pending or resolved, never half.
#[test]
fn d03_killed_while_resolving() -> Result<(), Failure> {
    let world = world()?;
    for round in 0..20 {
        let waiting = world.waits("waits", "approve(\"go on?\")")?;
        let mut resolver = world.start(&["promise", "resolve", &waiting.promise, "--value", "true"])?;
        thread::sleep(Duration::from_millis(round));
        resolver.kill().map_err(io)?;
        let acknowledged = resolver.wait().map_err(io)?.success();
        match world.promise_state(&waiting.promise)?.as_str() {
            "pending" => {
                ensure!(!acknowledged, "an acknowledged settlement is lost");
                world.resolve(&waiting.promise, "true")?.exits(0)?;
            }
            state => ensure!(state == "resolved", "the promise is {state}"),
        }
        world.completes(&waiting.execution, "true\n")?;
    }
    Ok(())
}

#[test]
fn d05_resolved_twice_the_same() -> Result<(), Failure> {
    let world = world()?;
    let waiting = asks(&world)?;
    world.resolve(&waiting.promise, "\"Ada\"")?.exits(0)?;
    let again = world.resolve(&waiting.promise, "\"Ada\"")?;
    ensure!(matches!(again.status.code(), Some(0 | 1)), "neither done nor a conflict\n{}", again.report());
    ensure!(
        again.err().contains("resolved") || again.out().contains("resolved"),
        "it does not say that it is resolved\n{}",
        again.report()
    );
    world.completes(&waiting.execution, "Ada\n")?;
    // A second resume repeats the outcome, and nothing else.
    world.completes(&waiting.execution, "Ada\n")?;
    world.resolve(&waiting.promise, "\"Ada\"")?;
    world.completes(&waiting.execution, "Ada\n")
}

#[test]
fn d06_resolved_twice_differently() -> Result<(), Failure> {
    let world = world()?;
    let waiting = asks(&world)?;
    world.resolve(&waiting.promise, "\"Ada\"")?.exits(0)?;
    world.resolve(&waiting.promise, "\"Mallory\"")?.exits(1)?;
    world.run(&["promise", "reject", &waiting.promise, "--data", "no"])?.exits(1)?;
    world.run(&["promise", "cancel", &waiting.promise])?.exits(1)?;
    ensure!(world.promise_state(&waiting.promise)? == "resolved", "it is not resolved any more");
    world.completes(&waiting.execution, "Ada\n")
}

#[test]
fn d07_a_hundred_resolvers() -> Result<(), Failure> {
    let world = world()?;
    let waiting = asks(&world)?;
    let resolver = |number: u32| -> Result<Option<u32>, Failure> {
        let ran = world.resolve(&waiting.promise, &format!("\"{number}\""))?;
        match ran.status.code() {
            Some(0) => Ok(Some(number)),
            Some(1) => Ok(None),
            _ => Err(format!("neither done nor a conflict\n{}", ran.report()).into()),
        }
    };
    let results: Vec<Result<Option<u32>, Failure>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..100).map(|number| scope.spawn(move || resolver(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    let results = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    let winners: Vec<u32> = results.into_iter().flatten().collect();
    let [winner] = winners[..] else {
        return Err(format!("{} of a hundred won: {winners:?}", winners.len()).into());
    };
    world.completes(&waiting.execution, &format!("{winner}\n"))
}

#[test]
fn d08_unknown_promise() -> Result<(), Failure> {
    let world = world()?;
    let waiting = asks(&world)?;
    let before = world.promises()?.len();
    let last = waiting.promise.chars().last().unwrap_or('0');
    let near = format!("{}{}", &waiting.promise[..waiting.promise.len() - 1], if last == '0' { '1' } else { '0' });
    let strange =
        ["", "input", "::", "input:0:0", "../secret.txt", "' OR 1=1 --", "%", "*", "input:%:%", near.as_str()];
    for id in strange {
        for verb in ["resolve", "reject", "cancel", "get"] {
            let mut arguments = vec!["promise", verb, id];
            arguments.extend((verb != "cancel" && verb != "get").then_some(["--data", "x"]).into_iter().flatten());
            let ran = world.run(&arguments)?;
            ensure!(matches!(ran.status.code(), Some(1 | 2)), "it took an unknown promise\n{}", ran.report());
        }
    }
    ensure!(world.promises()?.len() == before, "a promise was made by settling it");
    ensure!(world.promise_state(&waiting.promise)? == "pending", "another promise was settled");
    Ok(())
}

#[test]
fn d08_unknown_execution() -> Result<(), Failure> {
    let world = world()?;
    let waiting = asks(&world)?;
    for id in ["", "0", "../state", "%", "00000000-0000-7000-8000-000000000000", &waiting.execution[..8]] {
        for verb in ["resume", "show", "journal", "replay", "cancel"] {
            let ran = world.run(&[verb, id])?;
            ensure!(ran.status.code().is_some_and(|code| code != 0), "it took an unknown execution\n{}", ran.report());
        }
    }
    ensure!(world.promise_state(&waiting.promise)? == "pending", "another execution was touched");
    Ok(())
}

#[test]
fn d09_wrong_type() -> Result<(), Failure> {
    let world = world()?;
    let approve = world.waits("waits", "approve(\"go on?\")")?;
    let review = world.waits("waits", "review(\"title\", \"text\")")?;
    let ask = asks(&world)?;
    for value in [
        "\"true\"",
        "1",
        "0",
        "null",
        "[]",
        "{}",
        "[true]",
        "{\"ok\":true}",
        "tru",
        "true true",
        "",
        "\u{0}",
        "{\"decision\":\"once\"}",
    ]
    .iter()
    .filter(|value| !value.contains('\0'))
    {
        let ran = world.resolve(&approve.promise, value)?;
        ensure!(matches!(ran.status.code(), Some(1 | 2)), "{value} was taken for a bool\n{}", ran.report());
    }
    for value in [
        "true",
        "\"text\"",
        "{\"accepted\":true}",
        "{\"accepted\":\"true\",\"text\":\"\"}",
        "{\"accepted\":true,\"text\":1}",
        "{\"accepted\":true,\"text\":\"\",\"comment\":1}",
        "{\"accepted\":true,\"text\":\"\",\"comment\":null,\"more\":1}",
        "{\"accepted\":true,\"accepted\":false,\"text\":\"\"}",
        "[true,\"\",null]",
    ] {
        let ran = world.resolve(&review.promise, value)?;
        ensure!(matches!(ran.status.code(), Some(1 | 2)), "{value} was taken for a decision\n{}", ran.report());
    }
    let nested = "[".repeat(100_000);
    for value in ["1", "true", "[\"a\"]", "{\"input\":\"a\"}", "a", "'a'", "\"a", "\"\\ud800\"", nested.as_str()] {
        let ran = world.resolve(&ask.promise, value)?;
        ensure!(
            matches!(ran.status.code(), Some(1 | 2)),
            "{} was taken for a text\n{}",
            &value[..value.len().min(20)],
            ran.report()
        );
    }
    for waiting in [&approve, &review, &ask] {
        ensure!(world.promise_state(&waiting.promise)? == "pending", "it is not pending any more");
    }
    world.resolve(&approve.promise, "true")?.exits(0)?;
    world.completes(&approve.execution, "true\n")
}

#[test]
fn d10_after_cancel() -> Result<(), Failure> {
    let world = world()?;
    let waiting = asks(&world)?;
    world.run(&["cancel", &waiting.execution])?.exits(0)?;
    world.resolve(&waiting.promise, "\"late\"")?.exits(1)?;
    ensure!(world.promise_state(&waiting.promise)? == "rejected_canceled", "it is not canceled any more");
    let ran = world.resume(&waiting.execution)?;
    ensure!(ran.exits(76)?.json()?["outcome"] == "canceled", "it goes on after its end\n{}", ran.report());
    Ok(())
}

#[test]
fn d10_after_time_out() -> Result<(), Failure> {
    let world = world()?;
    world.write_policy("level = \"restricted\"\n\n[grant.input]\ntimeout_ms = 300\n")?;
    let waiting = asks(&world)?;
    thread::sleep(Duration::from_millis(500));
    world.resolve(&waiting.promise, "\"late\"")?.exits(1)?;
    ensure!(world.promise_state(&waiting.promise)? == "rejected_timedout", "it has not timed out");
    world.completes(&waiting.execution, "expired\n")
}

/// Ids hold 122 random bits: none of a thousand is like another, and none can be made from what is known.
#[test]
fn d12_ids_cannot_be_guessed() -> Result<(), Failure> {
    let world = world()?;
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let waiting = asks(&world)?;
        let parts: Vec<&str> = waiting.promise.split(':').collect();
        ensure!(
            parts.len() == 3 && parts[0] == "input" && parts[1] == waiting.execution,
            "{} has another form",
            waiting.promise
        );
        let digits: Vec<char> = parts[2].chars().filter(char::is_ascii_hexdigit).collect();
        ensure!(digits.len() == 32, "{} has no uuid", waiting.promise);
        // No part of it comes again: neither a counter nor a time.
        for (place, digits) in digits.chunks(8).enumerate() {
            ensure!(seen.insert((place, digits.to_vec())), "a part of {} was there before", waiting.promise);
        }
    }
    Ok(())
}

#[test]
fn d14_same_prompt_twice() -> Result<(), Failure> {
    let world = world()?;
    let (one, other) = (asks(&world)?, asks(&world)?);
    ensure!(one.promise != other.promise, "two executions share a promise");
    world.resolve(&one.promise, "\"Ada\"")?.exits(0)?;
    ensure!(world.promise_state(&other.promise)? == "pending", "the other one was answered, too");
    world.completes(&one.execution, "Ada\n")?;
    world.resume(&other.execution)?.exits(75)?;
    Ok(())
}

#[test]
fn d15_changed_component() -> Result<(), Failure> {
    let world = world()?;
    let file = world.path("guest.wat");
    let text = fs::read_to_string(guest("waits")).map_err(io)?;
    let changed = text.replace("false true  slept", "FALSE TRUE  SLEPT");
    ensure!(text != changed, "the guest is not what this test expects");
    let waits = || -> Result<Waiting, Failure> {
        fs::write(&file, &text).map_err(io)?;
        let ran =
            world.run(&["run", "guest.wat", "--policy", "policy.toml", "--json", "--invoke", "approve(\"go on?\")"])?;
        let json = ran.exits(75)?.json()?;
        let (execution, promise) =
            (json["execution"].as_str().unwrap_or_default(), json["pending"][0]["id"].as_str().unwrap_or_default());
        world.resolve(promise, "true")?.exits(0)?;
        Ok(Waiting { execution: execution.to_owned(), promise: promise.to_owned() })
    };

    let waiting = waits()?;
    fs::write(&file, &changed).map_err(io)?;
    let refused = world.resume(&waiting.execution)?;
    let said = format!("{}{}", refused.exits(73)?.out(), refused.err());
    let digests: BTreeSet<&str> =
        said.split(|c: char| !c.is_ascii_hexdigit()).filter(|part| part.len() == 64).collect();
    ensure!(digests.len() == 2, "it does not name both digests\n{}", refused.report());
    let pinned = world.run(&["resume", &waiting.execution, "--pinned", "--json"])?;
    ensure!(pinned.exits(0)?.json()?["output"] == "true\n", "it is not the stored one that ran\n{}", pinned.report());

    // Where there is nothing any more, or no guest, the stored one runs or it is refused; nothing else does.
    let waiting = waits()?;
    fs::remove_file(&file).map_err(io)?;
    world.completes(&waiting.execution, "true\n")?;
    let waiting = waits()?;
    fs::write(&file, "no guest at all").map_err(io)?;
    world.resume(&waiting.execution)?.exits(73)?;
    Ok(())
}

/// One bit of what is kept is flipped: that is noticed, and whoever it does not concern goes on.
#[test]
fn d16_damaged_journal() -> Result<(), Failure> {
    let marks = ["unique prompt of one", "unique prompt of two"];
    let world = world()?;
    let one = world.waits("waits", &format!("ask-both(\"first\", \"{}\")", marks[0]))?;
    let other = world.waits("waits", &format!("ask-both(\"first\", \"{}\")", marks[1]))?;
    // Both get as far as their second question, whose arguments are in the journal.
    let mut second = Vec::new();
    for waiting in [&one, &other] {
        world.resolve(&waiting.promise, "\"a unique first answer\"")?.exits(0)?;
        let ran = world.resume(&waiting.execution)?;
        let json = ran.exits(75)?.json()?;
        second.push(json["pending"][0]["id"].as_str().unwrap_or_default().to_owned());
    }
    // What lies in the log is guarded by the log's own checksums, which end it where one is wrong. A commit that makes the
    // log long has it folded into the database when its process ends, where the rows must guard themselves.
    world.waits("waits", &format!("ask-both(\"first\", \"{}\")", "x".repeat(120_000)))?;
    let flipped = flip(&world, marks[0].as_bytes())?;
    ensure!(flipped > 0, "the journal is not found in the state directory");

    let resolved = world.resolve(&second[0], "\"Ada\"")?;
    let resumed = world.resume(&one.execution)?;
    let code = resumed.status.code();
    let noticed = code == Some(73) || (code == Some(75) && resolved.status.code() != Some(0));
    ensure!(noticed, "the damage was not noticed\n{}", resumed.report());
    let said = format!("{}{}{}{}", resumed.out(), resumed.err(), resolved.out(), resolved.err());
    ensure!(
        said.contains("damage") || said.contains("journal"),
        "it does not say what is damaged\n{}",
        resumed.report()
    );

    world.resolve(&second[1], "\"Grace\"")?.exits(0)?;
    world.completes(&other.execution, "a unique first answer\nGrace\n")
}

/// Flips a bit in each place of the state directory where these bytes are.
fn flip(world: &World, mark: &[u8]) -> Result<usize, Failure> {
    let mut flipped = 0;
    let mut todo: Vec<PathBuf> = vec![world.path("state")];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).map_err(io)?.filter_map(Result::ok).map(|entry| entry.path()));
            continue;
        }
        let mut bytes = fs::read(&path).map_err(io)?;
        let places: Vec<usize> =
            bytes.windows(mark.len()).enumerate().filter(|(_, part)| *part == mark).map(|(at, _)| at).collect();
        for at in &places {
            bytes[at + mark.len() / 2] ^= 1;
        }
        if !places.is_empty() {
            fs::write(&path, &bytes).map_err(io)?;
            flipped += places.len();
        }
    }
    Ok(flipped)
}

/// The state directory is nobody else's, and not led elsewhere by a link.
#[test]
fn state_directory_is_private() -> Result<(), Failure> {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let world = world()?;
    asks(&world)?;
    let mut todo = vec![world.path("state")];
    while let Some(path) = todo.pop() {
        let about = fs::symlink_metadata(&path).map_err(io)?;
        let mode = about.permissions().mode() & 0o777;
        let wanted = if about.is_dir() { 0o700 } else { 0o600 };
        ensure!(mode & !wanted == 0, "{} has mode {mode:o}", path.display());
        if about.is_dir() {
            todo.extend(fs::read_dir(&path).map_err(io)?.filter_map(Result::ok).map(|entry| entry.path()));
        }
    }
    symlink("../outside", world.path("G/state")).map_err(io)?;
    let mut command = world.parole()?;
    command.args(["ps", "--state"]).arg(world.path("G/state"));
    let ran = parole_tests::fixture::Ran::new(&mut command, None, Duration::from_secs(10))?;
    ensure!(
        ran.status.code().is_some_and(|code| code != 0),
        "a link was taken for the state directory\n{}",
        ran.report()
    );
    Ok(())
}

/// A timer has no value and nothing that could be refused; whoever owns the state directory can end it, and cancel it.
#[test]
fn timers_are_ended_or_canceled_and_nothing_else() -> Result<(), Failure> {
    let world = world()?;
    let guest = guest("waits");
    let arguments = [
        "run",
        &guest.to_string_lossy(),
        "--policy",
        "policy.toml",
        "--json",
        "--detach",
        "--invoke",
        "sleep(600000, 1)",
    ];
    for (verb, output, verdict) in [("resolve", "slept\n", "done"), ("cancel", "canceled\n", "cancel")] {
        let ran = world.run(&arguments)?;
        let json = ran.exits(75)?.json()?;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).ok_or("no id");
        let (execution, promise) = (text(&json["execution"])?, text(&json["pending"][0]["id"])?);
        for arguments in [
            &["promise", "resolve", &promise, "--value", "true"][..],
            &["promise", "resolve", &promise, "--data", "x"],
            &["promise", "reject", &promise, "--data", "x"],
        ] {
            let ran = world.run(arguments)?;
            ensure!(ran.status.code() == Some(2), "a timer was settled\n{}", ran.report());
        }
        ensure!(world.promise_state(&promise)? == "pending", "the timer is not pending any more");
        world.run(&["promise", verb, &promise])?.exits(0)?;
        ensure!(world.run(&["promise", verb, &promise])?.status.code() == Some(1), "the timer was settled twice");
        world.completes(&execution, output)?;
        let audit = world.run(&["journal", &execution, "--audit"])?.out();
        let records: Vec<serde_json::Value> =
            audit.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let last = records.iter().rfind(|record| record["capability"] == "sleep").ok_or("no record of the timer")?;
        ensure!(
            last["verdict"] == verdict && last["by"].is_string() && last["promise"] == promise.as_str(),
            "who ended the timer is not in the audit:\n{audit}"
        );
    }
    Ok(())
}

/// Approvals are not given by a pipe, whichever command it is put into.
#[test]
fn approvals_need_a_terminal() -> Result<(), Failure> {
    let world = world()?;
    let waiting = world.waits("waits", "approve(\"go on?\")")?;
    for arguments in [
        &["answer"][..],
        &["answer", &waiting.execution],
        &["answer", "--capability", "approve"],
        &["resume", &waiting.execution],
        &["resume", "--all"],
    ] {
        let ran = world.run_with(arguments, Some("yes\ny\ntrue\nyes\nyes\n"), Duration::from_secs(20))?;
        ensure!(world.promise_state(&waiting.promise)? == "pending", "a pipe has approved\n{}", ran.report());
    }
    Ok(())
}

/// The secret that ids are made of is in nothing that is shown.
#[test]
fn secrets_are_not_shown() -> Result<(), Failure> {
    let world = world()?;
    let waiting = asks(&world)?;
    for arguments in [
        &["show", &waiting.execution, "--json"][..],
        &["journal", &waiting.execution, "--json"],
        &["promises", "--json"],
        &["ps", "--all", "--json"],
    ] {
        let shown = world.run(arguments)?.exits(0)?.out().to_lowercase();
        ensure!(!shown.contains("secret") && !shown.contains("seed"), "{arguments:?} shows {shown}");
    }
    Ok(())
}
