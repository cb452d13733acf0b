//! What an execution has of its own: time, random bytes and the calendar. Whoever goes on with it sees the same again.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;
use std::time::Instant;

use parole_tests::ensure;
use parole_tests::fixture::play::{eventually, guest};
use parole_tests::fixture::{Failure, World};
use serde_json::Value;

fn world() -> Result<World, Failure> {
    let world = World::plant()?;
    world.write_policy("level = \"restricted\"\n")?;
    Ok(world)
}

fn almanac() -> String {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-examples/prebuilt/almanac.wasm");
    guest.to_string_lossy().into_owned()
}

fn start(world: &World, call: &str) -> Result<Child, Failure> {
    world.start(&["run", &almanac(), "--policy", "policy.toml", "--invoke", call])
}

/// Runs to the end: the report.
fn run(world: &World, call: &str) -> Result<Value, Failure> {
    let ran = world.run(&["run", &almanac(), "--policy", "policy.toml", "--json", "--invoke", call])?;
    ran.exits(0)?.json()
}

/// The next line that a process shows.
fn line(child: &mut Child) -> Result<String, Failure> {
    let mut line = String::new();
    let stdout = child.stdout.as_mut().ok_or("it has no stdout")?;
    BufReader::with_capacity(1, stdout).read_line(&mut line).map_err(|error| error.to_string())?;
    Ok(line)
}

fn kill(mut child: Child) -> Result<(), Failure> {
    child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
    Ok(())
}

fn only_execution(world: &World) -> Result<String, Failure> {
    let listed = world.run(&["ps", "--all", "--json"])?.exits(0)?.json()?;
    Ok(listed[0]["execution"].as_str().ok_or("there is no execution")?.to_owned())
}

/// From the journal alone, without effects, it comes to the same end.
fn replays(world: &World, execution: &str) -> Result<(), Failure> {
    let ran = world.run(&["replay", execution, "--json"])?;
    let report = ran.exits(0)?.json()?;
    ensure!(report["outcome"] == "completed", "{report}");
    Ok(())
}

#[test]
fn killed_again_and_again_it_sees_the_same_time_and_the_same_bytes() -> Result<(), Failure> {
    let world = world()?;
    let mut first = start(&world, "again(1200, 3)")?;
    let shown = line(&mut first)?;
    kill(first)?;
    let execution = only_execution(&world)?;
    // A process that is killed may not have noted what it had shown: then the first line comes once more.
    let mut second = world.start(&["resume", &execution])?;
    let mut next = line(&mut second)?;
    if next == shown {
        next = line(&mut second)?;
    }
    kill(second)?;
    let report = world.resume(&execution)?.exits(0)?.json()?;
    let output = report["output"].as_str().ok_or("no output")?;
    ensure!(output.starts_with(&format!("{shown}{next}")), "{shown}{next} is not the start of {output}");
    let lines: Vec<(&str, &str)> = output.lines().filter_map(|line| line.split_once(' ')).collect();
    let times: Vec<&str> = lines.iter().map(|(time, _)| *time).collect();
    let tokens: BTreeSet<&str> = lines.iter().map(|(_, token)| *token).collect();
    ensure!(times.len() == 3 && times.is_sorted() && tokens.len() == 3, "{output}");
    replays(&world, &execution)
}

#[test]
fn a_millisecond_takes_one_row() -> Result<(), Failure> {
    let world = world()?;
    let begun = Instant::now();
    let report = run(&world, "times(100000)")?;
    let elapsed = begun.elapsed().as_millis();
    let execution = report["execution"].as_str().ok_or("no execution")?;
    let seen: u128 = report["result"].as_str().and_then(|result| result.parse().ok()).ok_or("no result")?;
    let journal = world.run(&["journal", execution, "--json"])?.exits(0)?.json()?;
    let rows = journal.as_array().ok_or("no rows")?.iter().filter(|row| row["function"] == "clock").count() as u128;
    ensure!(rows == seen && rows > 0 && rows <= elapsed + 1, "{rows} rows, {seen} times seen in {elapsed} ms");
    replays(&world, execution)
}

#[test]
fn random_bytes_leave_no_row_and_are_others_in_each_execution() -> Result<(), Failure> {
    let world = world()?;
    let mut outputs = BTreeSet::new();
    for _ in 0..3 {
        let report = run(&world, "bytes(32)")?;
        let output = report["output"].as_str().ok_or("no output")?.to_owned();
        ensure!(output.len() == 65, "{output}");
        let journal = world.run(&["journal", report["execution"].as_str().unwrap_or_default(), "--json"])?;
        let journal = journal.exits(0)?.json()?;
        ensure!(journal.as_array().is_some_and(|rows| rows.len() == 1), "{journal}");
        outputs.insert(output);
    }
    ensure!(outputs.len() == 3, "{outputs:?}");
    Ok(())
}

/// It takes up to a minute: the calendar knows no shorter time.
#[test]
fn a_killed_wait_ends_at_its_minute() -> Result<(), Failure> {
    let world = world()?;
    let mut waiting = start(&world, "wait(\"* * * * *\", \"Asia/Kathmandu\")")?;
    let pending = eventually("the promise", || Ok(!world.promises()?.is_empty()));
    let early = waiting.try_wait().map_err(|error| error.to_string())?;
    kill(waiting)?;
    pending?;
    ensure!(early.is_none(), "it did not wait");
    let promise = world.promises()?.remove(0);
    let due = promise["timeoutAt"].as_u64().ok_or("no timeout")?;
    ensure!(due % 60_000 == 0 && promise["id"].as_str().is_some_and(|id| id.starts_with("schedule:")), "{promise}");
    let report = world.resume(&only_execution(&world)?)?.exits(0)?.json()?;
    let waited: u64 = report["result"].as_str().and_then(|result| result.parse().ok()).ok_or("no result")?;
    ensure!(report["outcome"] == "completed" && waited <= 60_000, "{report}");
    Ok(())
}

/// Whoever runs the host may end a timer before its time, or cancel it.
#[test]
fn an_operator_ends_a_wait() -> Result<(), Failure> {
    for (verb, output) in [("resolve", "due\n"), ("cancel", "canceled\n")] {
        let world = world()?;
        let guest = guest("schedules");
        let call = "wait(\"0 0 1 1 *\", \"Europe/Berlin\")";
        let waiting = world.start(&["run", &guest.to_string_lossy(), "--policy", "policy.toml", "--invoke", call])?;
        let pending = eventually("the promise", || Ok(!world.promises()?.is_empty()));
        kill(waiting)?;
        pending?;
        let promise = world.promises()?.remove(0)["id"].as_str().ok_or("no id")?.to_owned();
        world.run(&["promise", verb, &promise])?.exits(0)?;
        world.completes(&only_execution(&world)?, output)?;
    }
    Ok(())
}

/// What is taken while a guest waits is taken from its next call on, and noted; what is given back is there again.
#[test]
fn a_revoke_while_it_waits_is_seen_by_the_next_call() -> Result<(), Failure> {
    for (given_back, code) in [(false, 77), (true, 0)] {
        let world = world()?;
        // A rule that the later generations of its grants have, too.
        let rule = "[[rule]]\nname = \"few\"\ncapability = \"random\"\nwhen = \"length > 8\"\nthen = \"deny\"\n";
        world.write_policy(&format!("level = \"restricted\"\n{rule}"))?;
        let mut running = start(&world, "again(2000, 2)")?;
        line(&mut running)?;
        let execution = only_execution(&world)?;
        world.run(&["revoke", &execution, "clock"])?.exits(0)?;
        if given_back {
            world.run(&["grant", &execution, "clock"])?.exits(0)?;
        }
        let ended = running.wait().map_err(|error| error.to_string())?;
        ensure!(ended.code() == Some(code), "given back: {given_back}, it ended with {ended}");
        let audit = world.run(&["journal", &execution, "--audit"])?;
        let audit = audit.exits(0)?.report();
        let denied = audit.lines().any(|line| line.contains("\"clock\"") && line.contains("\"deny\""));
        ensure!(denied != given_back, "{audit}");
        // A replay decides nothing: it comes to the same end.
        world.run(&["replay", &execution])?.exits(0)?;
    }
    Ok(())
}

/// The end of the journal is the end of a guest only if it had come to its end.
#[test]
fn a_replay_goes_no_further_than_the_journal() -> Result<(), Failure> {
    let world = world()?;
    // It has not much of its journal by then, and asks for the time again and again.
    let mut running = start(&world, "times(4000000000)")?;
    let there = eventually("the execution", || Ok(world.run(&["ps", "--json"])?.json()?[0]["execution"].is_string()));
    running.kill().and_then(|()| running.wait()).map_err(|error| error.to_string())?;
    there?;
    let replayed = world.run(&["replay", &only_execution(&world)?, "--json"])?;
    let report = replayed.exits(0)?.json()?;
    ensure!(report["outcome"] == "suspended" && report["calls"].as_u64() > Some(0), "{report}");
    Ok(())
}
