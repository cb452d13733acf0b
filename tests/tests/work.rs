//! Workers: who answers the calls of capabilities that users define, with real processes that are killed for real.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use parole_tests::ensure;
use parole_tests::fixture::play::eventually;
use parole_tests::fixture::{Failure, Ran, World, because};
use serde_json::{Value, json};

const CRM: &str = "acme:crm/customers@1.0.0";

fn guest() -> String {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-examples/prebuilt/crm.wasm");
    guest.to_string_lossy().into_owned()
}

/// A world with the WIT of the example, and a policy in which all three effects stand. Nobody is asked.
fn world() -> Result<World, Failure> {
    let world = World::plant()?;
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/crm/crm.wit");
    fs::copy(wit, world.path("crm.wit")).map_err(because("crm.wit"))?;
    world.write_policy(&format!(
        "[capability.\"{CRM}\"]\nwit = \"crm.wit\"\nvia = \"worker\"\nlevel = \"standard\"\n\
         func.lookup.effect = \"read\"\nfunc.update.effect = \"idempotent\"\nfunc.delete.effect = \"once\"\n"
    ))?;
    Ok(world)
}

/// Starts an execution that waits for a worker: its id.
fn waiting(world: &World, call: &str) -> Result<String, Failure> {
    let ran = world.run(&["run", &guest(), "--policy", "policy.toml", "--json", "--invoke", call])?;
    let report = ran.exits(75)?.json()?;
    ensure!(report["pending"][0]["capability"] == CRM, "{report}");
    Ok(report["execution"].as_str().ok_or("no execution")?.to_owned())
}

/// A program for workers.
fn program(world: &World, name: &str, text: &str) -> Result<String, Failure> {
    let path: PathBuf = world.path(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).map_err(because(name))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(because(name))?;
    Ok(path.to_string_lossy().into_owned())
}

const ADA: &str = "echo '{\"id\":\"1\",\"name\":\"Ada\",\"email\":null,\"orders\":1}'";

/// Works until nothing is pending.
fn drain(world: &World, program: &str, more: &[&str]) -> Result<Ran, Failure> {
    let words = [&["work", CRM, "--drain", "--backoff", "10ms"], more, &["--", program]].concat();
    world.run(&words)
}

fn pending(world: &World) -> Result<Vec<Value>, Failure> {
    let all = world.run(&["promises", "--pending", "--json"])?.exits(0)?.json()?;
    Ok(all.as_array().ok_or("no list")?.clone())
}

fn outcome(world: &World, execution: &str) -> Result<Value, Failure> {
    world.run(&["resume", execution, "--json"])?.json()
}

#[test]
fn a_call_is_answered_by_a_program() -> Result<(), Failure> {
    let world = world()?;
    let execution = waiting(&world, "name-of(\"1\")")?;
    // What it gets is the promise as it is listed, and nothing of it is in its arguments or its environment.
    let look = program(&world, "look", &format!("cat > got.json; env > env.txt; echo \"$@\" > args.txt; {ADA}"))?;
    drain(&world, &look, &[])?.exits(0)?;
    let read = |name: &str| fs::read_to_string(world.path(name)).map_err(because(name.to_owned()));
    let got: Value = serde_json::from_str(&read("got.json")?).map_err(because("got.json"))?;
    ensure!(got["capability"] == CRM && got["tags"]["parole:function"] == "lookup", "{got}");
    ensure!(got["param"]["data"] == "{\"id\":\"1\"}" && got["work"]["claimed"] == true, "{got}");
    ensure!(!read("env.txt")?.contains(&execution) && read("args.txt")?.trim().is_empty(), "{}", read("env.txt")?);
    let report = outcome(&world, &execution)?;
    ensure!(report["outcome"] == "completed" && report["result"] == "\"Ada\"", "{report}");
    // A worker settles, and no more; it is done for good.
    drain(&world, &look, &[])?.exits(0)?;
    ensure!(pending(&world)?.is_empty());
    Ok(())
}

/// Columns: what the program does, how often it is tried, what the guest is told.
#[test]
fn the_exit_code_says_what_comes_of_it() -> Result<(), Failure> {
    let count = "echo x >> tries; ";
    let rows = [
        ("echo 'nothing found' >&2; echo 'no such customer' >&2; exit 65", 1, "denied: no such customer"),
        ("echo '{\"unknown\": \"1\"}' >&2; exit 65", 1, "there is no customer 1"),
        (
            "test $(wc -l < tries) -gt 2 || exit 75; echo '{\"unknown\": \"1\"}' >&2; exit 65",
            3,
            "there is no customer 1",
        ),
        ("echo broken >&2; exit 3", 4, "denied: exit 3: broken"),
        ("kill -SEGV $$", 4, "denied: ended by signal 11"),
        ("echo '{\"id\": 1}'", 4, "denied: its stdout is no answer: `id`: expected a JSON string"),
        ("echo '{\"id\": '", 4, "denied: its stdout is no answer: JSON:"),
        ("printf '\\377'", 4, "denied: its stdout is not UTF-8 text"),
        ("head -c 9000000 /dev/zero", 4, "denied: its stdout is longer than 8388608 bytes"),
    ];
    for (text, tries, told) in rows {
        let world = world()?;
        let execution = waiting(&world, "name-of(\"1\")")?;
        let program = program(&world, "answer", &format!("{count}{text}"))?;
        drain(&world, &program, &[])?.exits(0)?;
        let tried = fs::read_to_string(world.path("tries")).map_err(because("tries"))?.lines().count();
        ensure!(tried == tries, "{text}: tried {tried} times");
        let report = outcome(&world, &execution)?;
        let error = report["error"].as_str().unwrap_or_default();
        ensure!(report["outcome"] == "failed" && error.starts_with(told), "{text}: {report}");
    }
    Ok(())
}

/// A program that does not do what it is to says so, with its place, while there are attempts left.
#[test]
fn a_bad_answer_is_an_error_with_its_place() -> Result<(), Failure> {
    let world = world()?;
    waiting(&world, "name-of(\"1\")")?;
    let program =
        program(&world, "answer", "echo '{\"id\": \"1\", \"name\": \"Ada\", \"email\": null, \"orders\": -1}'")?;
    let ran = drain(&world, &program, &["--attempts", "2"])?;
    ran.exits(0)?;
    let said = ran.err();
    ensure!(said.contains("`orders`: expected a whole number from 0 to 4294967295"), "{said}");
    ensure!(said.contains("tried again in 10ms") && said.contains("failed 2 times and is rejected"), "{said}");
    Ok(())
}

#[test]
fn what_cannot_be_started_is_a_usage_error_and_gives_the_promise_back() -> Result<(), Failure> {
    let world = world()?;
    let execution = waiting(&world, "name-of(\"1\")")?;
    let ran = drain(&world, "/no/such/program", &[])?;
    ran.exits(2)?;
    ensure!(ran.err().contains("/no/such/program cannot be started"), "{}", ran.err());
    let ada = program(&world, "ada", ADA)?;
    drain(&world, &ada, &[])?.exits(0)?;
    ensure!(outcome(&world, &execution)?["outcome"] == "completed");
    let person = world.run(&["work", "input", "--", "/bin/true"])?;
    ensure!(person.exits(2)?.err().contains("not answered by workers"), "{}", person.err());
    Ok(())
}

/// Several workers with several jobs each: every promise is worked on once.
#[test]
fn two_workers_never_answer_one_promise() -> Result<(), Failure> {
    let world = world()?;
    let all: Vec<String> = (0..24).map(|_| waiting(&world, "name-of(\"1\")")).collect::<Result<_, _>>()?;
    let text = format!("cat >> ids; {ADA}");
    let program = program(&world, "answer", &text)?;
    let words = ["work", CRM, "--drain", "--jobs", "4", "--", &program];
    let workers = [world.start(&words)?, world.start(&words)?, world.start(&words)?];
    for mut worker in workers {
        ensure!(worker.wait().map_err(because("wait"))?.success());
    }
    let ids = fs::read_to_string(world.path("ids")).map_err(because("ids"))?;
    let mut often: BTreeMap<String, usize> = BTreeMap::new();
    for line in ids.lines() {
        let promise: Value = serde_json::from_str(line).map_err(because("a promise"))?;
        *often.entry(promise["id"].to_string()).or_default() += 1;
    }
    ensure!(often.len() == all.len() && often.values().all(|times| *times == 1), "{often:?}");
    for execution in all {
        ensure!(outcome(&world, &execution)?["outcome"] == "completed");
    }
    Ok(())
}

/// Kills a worker while its program is at it.
fn kill_at_work(world: &World, text: &str) -> Result<(), Failure> {
    let slow = program(world, "slow", &format!("{text}; echo $$ > begun; exec sleep 60"))?;
    let mut worker = world.start(&["work", CRM, "--", &slow])?;
    eventually(
        "the program runs",
        || Ok(fs::read_to_string(world.path("begun")).is_ok_and(|pid| pid.ends_with('\n'))),
    )?;
    worker.kill().and_then(|()| worker.wait()).map_err(because("kill"))?;
    let pid = fs::read_to_string(world.path("begun")).map_err(because("begun"))?;
    let ended = std::process::Command::new("kill").args(["-9", pid.trim()]).status().map_err(because("kill"))?;
    ensure!(ended.success());
    fs::remove_file(world.path("begun")).map_err(because("begun"))?;
    Ok(())
}

#[test]
fn a_worker_that_is_killed_loses_nothing() -> Result<(), Failure> {
    let world = world()?;
    let execution = waiting(&world, "name-of(\"1\")")?;
    for _ in 0..2 {
        kill_at_work(&world, ":")?;
    }
    ensure!(pending(&world)?[0]["work"]["claimed"] == true);
    let ada = program(&world, "ada", ADA)?;
    drain(&world, &ada, &[])?.exits(0)?;
    ensure!(outcome(&world, &execution)?["result"] == "\"Ada\"");
    Ok(())
}

/// What must not be done twice is in doubt when its worker dies: nobody takes it again, and whoever knows settles it.
#[test]
fn a_call_that_is_once_is_never_claimed_again() -> Result<(), Failure> {
    let world = world()?;
    let execution = waiting(&world, "remove(\"1\")")?;
    kill_at_work(&world, "echo x >> done")?;
    let again = program(&world, "again", "echo x >> done")?;
    for _ in 0..2 {
        drain(&world, &again, &[])?.exits(0)?;
    }
    let done = fs::read_to_string(world.path("done")).map_err(because("done"))?;
    ensure!(done.lines().count() == 1, "{done}");
    let promise = pending(&world)?.remove(0);
    ensure!(promise["work"]["doubt"] == true, "{promise}");
    let listed = world.run(&["promises", "--pending"])?;
    ensure!(listed.out().contains("doubt: delete(id: \"1\")"), "{}", listed.out());
    ensure!(outcome(&world, &execution)?["outcome"] == "suspended");
    let id = promise["id"].as_str().ok_or("no id")?;
    world.run(&["promise", "resolve", id, "--value", "null"])?.exits(0)?;
    ensure!(outcome(&world, &execution)?["outcome"] == "completed");
    Ok(())
}

/// The same where the program itself ends in a way that says nothing.
#[test]
fn a_program_that_fails_at_a_once_leaves_a_doubt() -> Result<(), Failure> {
    for text in ["exit 1", "kill -9 $$", "echo '{}'"] {
        let world = world()?;
        waiting(&world, "remove(\"1\")")?;
        let program = program(&world, "answer", &format!("echo x >> done; {text}"))?;
        for _ in 0..2 {
            drain(&world, &program, &[])?.exits(0)?;
        }
        let done = fs::read_to_string(world.path("done")).map_err(because("done"))?;
        ensure!(done.lines().count() == 1 && pending(&world)?[0]["work"]["doubt"] == true, "{text}: {done}");
    }
    Ok(())
}

/// An orderly stop waits for what is under way.
#[test]
fn an_orderly_stop_waits_for_the_program() -> Result<(), Failure> {
    let world = world()?;
    let execution = waiting(&world, "remove(\"1\")")?;
    let program = program(&world, "answer", "echo > begun; sleep 1; echo > ended")?;
    let mut worker = world.start(&["work", CRM, "--", &program])?;
    eventually("the program runs", || Ok(world.path("begun").exists()))?;
    let term = std::process::Command::new("kill").args(["-TERM", &worker.id().to_string()]).status();
    ensure!(term.map_err(because("kill"))?.success());
    ensure!(worker.wait().map_err(because("wait"))?.success());
    ensure!(world.path("ended").exists());
    ensure!(outcome(&world, &execution)?["outcome"] == "completed");
    Ok(())
}

/// A service of one's own polls and settles, without `work`: the first settlement stands.
#[test]
fn a_service_that_only_polls_and_settles_works_as_well() -> Result<(), Failure> {
    let world = world()?;
    let execution = waiting(&world, "name-of(\"1\")")?;
    let promise = pending(&world)?.remove(0);
    let arguments: Value = serde_json::from_str(promise["param"]["data"].as_str().unwrap_or_default())
        .map_err(because("the arguments"))?;
    let id = promise["id"].as_str().ok_or("no id")?;
    let answer = |name: &str| json!({ "id": arguments["id"], "name": name, "email": null, "orders": 0 }).to_string();
    let resolve = |value: &str| world.run(&["promise", "resolve", id, "--value", value]);
    ensure!(resolve("{\"id\": \"1\"}")?.exits(2)?.err().contains("`name`: missing"));
    ensure!(pending(&world)?.len() == 1);
    resolve(&answer("Ada"))?.exits(0)?;
    resolve(&answer("Eve"))?.exits(1)?;
    ensure!(outcome(&world, &execution)?["result"] == "\"Ada\"");
    Ok(())
}

/// An answer that comes after the deadline, or after somebody else's, changes nothing.
#[test]
fn an_answer_that_comes_too_late_is_said_to_be() -> Result<(), Failure> {
    let world = world()?;
    waiting(&world, "name-of(\"1\")")?;
    let id = pending(&world)?[0]["id"].as_str().ok_or("no id")?.to_owned();
    let program = program(&world, "answer", &format!("echo > begun; sleep 1; {ADA}"))?;
    let worker = world.start(&["work", CRM, "--drain", "--", &program])?;
    eventually("the program runs", || Ok(world.path("begun").exists()))?;
    world.run(&["promise", "cancel", &id])?.exits(0)?;
    let ended = worker.wait_with_output().map_err(because("wait"))?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{said}");
    ensure!(said.contains("came too late") || said.contains("is not pending any more: ended"), "{said}");
    Ok(())
}

/// Nobody waits for a promise that was canceled: its program is ended, and makes room.
#[test]
fn the_program_of_a_canceled_promise_is_ended() -> Result<(), Failure> {
    let world = world()?;
    waiting(&world, "name-of(\"1\")")?;
    let id = pending(&world)?[0]["id"].as_str().ok_or("no id")?.to_owned();
    let program = program(&world, "answer", "echo > begun; sleep 600 & echo $! > left; wait")?;
    let worker = world.start(&["work", CRM, "--drain", "--", &program])?;
    eventually("the program runs", || Ok(world.path("left").exists()))?;
    world.run(&["promise", "cancel", &id])?.exits(0)?;
    let ended = worker.wait_with_output().map_err(because("wait"))?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success() && said.contains("lookup(id: \"1\") is not pending any more: ended"), "{said}");
    let left = fs::read_to_string(world.path("left")).map_err(because("left"))?;
    eventually("what it had started is ended as well", || Ok(!Path::new("/proc").join(left.trim()).exists()))?;
    Ok(())
}

/// What a person has allowed is done once, whatever doing it again would mean.
#[test]
fn what_a_person_has_allowed_is_once() -> Result<(), Failure> {
    let world = world()?;
    let policy = fs::read_to_string(world.path("policy.toml")).map_err(because("policy.toml"))?;
    world.write_policy(&format!(
        "{policy}[[rule]]\nname = \"looks\"\ncapability = \"acme:crm/customers.lookup\"\nthen = \"ask\"\n"
    ))?;
    let ran = world.run(&["run", &guest(), "--policy", "policy.toml", "--json", "--invoke", "name-of(\"1\")"])?;
    let execution = ran.exits(75)?.json()?["execution"].as_str().ok_or("no execution")?.to_owned();
    let asked = pending(&world)?.remove(0);
    ensure!(asked["capability"] == "ask", "{asked}");
    let question: Value =
        serde_json::from_str(asked["param"]["data"].as_str().unwrap_or_default()).map_err(because("the question"))?;
    let decision = json!({ "decision": "once", "digest": question["digest"] }).to_string();
    let id = asked["id"].as_str().ok_or("no id")?;
    world.run(&["promise", "resolve", id, "--value", &decision])?.exits(0)?;
    ensure!(outcome(&world, &execution)?["outcome"] == "suspended");
    ensure!(pending(&world)?[0]["tags"]["parole:effect"] == "once", "{:?}", pending(&world)?);
    kill_at_work(&world, ":")?;
    let again = program(&world, "again", "echo > done")?;
    drain(&world, &again, &[])?.exits(0)?;
    ensure!(!world.path("done").exists() && pending(&world)?[0]["work"]["doubt"] == true);
    Ok(())
}

/// Arguments are as long as a guest makes them, and so is the error that a program gives: what is printed of them is not.
#[test]
fn what_a_guest_makes_long_is_printed_short() -> Result<(), Failure> {
    let world = world()?;
    let execution = waiting(&world, &format!("name-of(\"{}\")", "\\u{1}".repeat(20_000)))?;
    let fails = program(&world, "fails", "exit 3")?;
    let ran = drain(&world, &fails, &["--attempts", "2"])?;
    ran.exits(0)?;
    ensure!(ran.err().len() < 4_000 && ran.err().contains("failed 2 times"), "{} bytes", ran.err().len());
    ensure!(outcome(&world, &execution)?["outcome"] == "failed");
    // The guest gets the error of the function whole.
    let execution = waiting(&world, "name-of(\"1\")")?;
    let no = program(
        &world,
        "no",
        "printf '{\"unknown\": \"' >&2; head -c 10000 /dev/zero | tr '\\0' x >&2; echo '\"}' >&2; exit 65",
    )?;
    let ran = drain(&world, &no, &[])?;
    ran.exits(0)?;
    ensure!(ran.err().len() < 4_000, "{} bytes", ran.err().len());
    let report = outcome(&world, &execution)?;
    let error = report["error"].as_str().unwrap_or_default();
    ensure!(error.starts_with("there is no customer xxx"), "{error}");
    Ok(())
}

#[test]
fn a_name_that_nobody_waits_for_is_said() -> Result<(), Failure> {
    let world = world()?;
    waiting(&world, "name-of(\"1\")")?;
    let ada = program(&world, "ada", ADA)?;
    let work = |name: &str| world.run(&["work", name, "--drain", "--", &ada]);
    let said = format!("nothing waits for acme:crm/customer; calls wait for {CRM}");
    ensure!(work("acme:crm/customer")?.exits(0)?.err().contains(&said));
    ensure!(!work("acme:crm/customers")?.exits(0)?.err().contains("nothing waits"));
    Ok(())
}
