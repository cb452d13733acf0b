//! Schedules: made, listed, paused, deleted, fired in time and once, and what becomes of missed times.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use parole_durable::hub::now;
use parole_durable::{Hub, ScheduleId, Write};
use serde_json::Value;

use crate::scratch::{Ran, Scratch, guest};

const PATIENCE: Duration = Duration::from_secs(20);
const UNKNOWN: &str = "01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44";

fn plan(scratch: &Scratch, words: &[&str]) -> Value {
    let hello = guest("hello.wat");
    let words: Vec<&str> = ["run", &hello].iter().chain(words).copied().chain(["--json"]).collect();
    scratch.parole(&words).code(0).json()
}

fn id_of(schedule: &Value) -> String {
    schedule["schedule"].as_str().unwrap().to_owned()
}

fn shown(scratch: &Scratch, id: &str) -> Value {
    scratch.parole(&["schedule", "show", id, "--json"]).code(0).json()
}

fn executions(scratch: &Scratch) -> Vec<Value> {
    scratch.parole(&["ps", "--all", "--json"]).code(0).json().as_array().unwrap().clone()
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "never {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// As if it had been due then, and nobody had watched.
fn make_due(scratch: &Scratch, id: &str, ago_ms: u64) {
    let hub = Hub::sqlite(&scratch.path("state")).unwrap();
    let id: ScheduleId = id.parse().unwrap();
    let record = hub.schedule(id).unwrap().unwrap();
    let next_at = Some(now() - ago_ms);
    let write =
        Write::Reschedule { id, revision: record.revision, paused: record.paused, next_at, now: record.updated_at };
    hub.write(write).wait().unwrap();
}

fn watcher(scratch: &Scratch) -> Child {
    let mut child = scratch.command(["resume", "--all", "--watch", "--quiet"]).spawn().unwrap();
    for stream in [child.stdout.take().map(reader), child.stderr.take().map(reader)].into_iter().flatten() {
        drop(stream);
    }
    child
}

fn reader(stream: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut stream = stream;
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap_or(0)
    })
}

fn ends(mut child: Child) {
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn one_is_made_listed_paused_and_deleted_and_nothing_runs() {
    let scratch = Scratch::new();
    let made = scratch.parole(&["run", &guest("hello.wat"), "--at", "+1h"]).code(0).says("nothing has run yet");
    assert!(made.out.starts_with("schedule   0") && made.out.contains("next       in 59 min"), "{}", made.out);
    let every = plan(&scratch, &["--every", "30 9 * * mon-fri", "--zone", "Europe/Berlin", "--missed", "skip"]);
    assert_eq!(every["when"]["every"]["zone"], "Europe/Berlin");
    assert_eq!((&every["if_missed"], &every["paused"], &every["fired"]), (&"skip".into(), &false.into(), &0.into()));
    let id = id_of(&every);
    let table = scratch.parole(&["schedules"]).code(0).out;
    assert!(table.contains(&id) && table.contains("every '30 9 * * mon-fri' Europe/Berlin"), "{table}");
    let listed = scratch.parole(&["schedules", "--json"]).code(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[1], every);
    let text = scratch.parole(&["schedule", "show", &id]).code(0).out;
    assert!(text.contains("09:30:00 CE"), "by the clock of the zone: {text}");

    let paused = scratch.parole(&["schedule", "pause", &id, "--json"]).code(0).json();
    assert_eq!(paused["paused"], true);
    assert!(scratch.parole(&["schedules"]).code(0).out.contains("paused"));
    make_due(&scratch, &id, 3_600_000);
    scratch.parole(&["resume", "--all"]).code(0).prints("");
    let resumed = scratch.parole(&["schedule", "resume", &id, "--json"]).code(0).json();
    assert!(resumed["next_at"].as_u64().unwrap() > now(), "{resumed}");
    assert_eq!(resumed["paused"], false);
    scratch.parole(&["schedule", "delete", &id]).code(0).says("is deleted");
    for verb in ["show", "pause", "resume", "delete"] {
        scratch.parole(&["schedule", verb, &id]).code(2).says("there is no schedule");
    }
    assert_eq!(scratch.parole(&["schedules", "--json"]).code(0).json().as_array().unwrap().len(), 1);
    assert_eq!(executions(&scratch), [Value::Null; 0]);
}

#[test]
fn with_two_watchers_it_fires_in_time_and_once() {
    let scratch = Scratch::new();
    plan(&scratch, &["--at", "+1h"]);
    let watchers = [watcher(&scratch), watcher(&scratch)];
    let schedules: Vec<Value> = (0..5).map(|_| plan(&scratch, &["--at", "+1s"])).collect();
    until("run", || executions(&scratch).iter().filter(|execution| execution["state"] == "completed").count() == 5);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(executions(&scratch).len(), 5);
    for schedule in schedules {
        let after = shown(&scratch, &id_of(&schedule));
        let late = after["last_at"].as_u64().unwrap() - schedule["next_at"].as_u64().unwrap();
        // The figure is 1 s; a busy machine gets more before this counts as broken.
        assert!(late < 5_000, "{late} ms late");
        assert_eq!((&after["fired"], &after["next_at"]), (&1.into(), &Value::Null));
        let report = scratch.parole(&["show", after["last"].as_str().unwrap(), "--json"]).code(0).json();
        assert_eq!(report["output"], "Hello from WAT\n");
    }
    watchers.into_iter().for_each(ends);
}

#[test]
fn it_fires_however_often_its_watchers_are_killed() {
    let scratch = Scratch::new();
    let id = id_of(&plan(&scratch, &["--every", "0 0 1 1 *"]));
    for round in 1..=8u64 {
        make_due(&scratch, &id, 1);
        let mut child = watcher(&scratch);
        // At any point of it: before the commit, after it, while the guest runs.
        std::thread::sleep(Duration::from_millis(3 * round * round));
        child.kill().unwrap();
        child.wait().unwrap();
        scratch.parole(&["resume", "--all", "--quiet"]).code(0);
        assert_eq!(shown(&scratch, &id)["fired"], round);
        let all = executions(&scratch);
        assert_eq!(all.len() as u64, round);
        assert!(all.iter().all(|execution| execution["state"] == "completed"), "{all:?}");
    }
}

#[test]
fn missed_times_run_once_or_are_skipped_and_both_are_told() {
    let scratch = Scratch::new();
    let run = id_of(&plan(&scratch, &["--every", "*/10 * * * *"]));
    let skip = id_of(&plan(&scratch, &["--every", "0 0 1 1 *", "--missed", "skip"]));
    let once = id_of(&plan(&scratch, &["--at", "+1h", "--missed", "skip"]));
    for id in [&run, &skip, &once] {
        make_due(&scratch, id, 2 * 3_600_000);
    }
    let missed = shown(&scratch, &run)["missed"].as_u64().unwrap();
    assert!((12..=13).contains(&missed), "{missed}");
    assert_eq!(shown(&scratch, &skip)["missed"], 1);
    let fired = scratch.parole(&["resume", "--all"]).code(0).prints("Hello from WAT\n");
    let fired =
        fired.says(&format!("schedule {run} makes execution ")).says(&format!("{missed} of its times were missed"));
    let fired = fired.says(&format!("schedule {skip} skips, one time of it was missed"));
    fired.says(&format!("schedule {once} skips, one time of it was missed; next: never again"));
    assert_eq!(executions(&scratch).len(), 1);
    assert!(shown(&scratch, &run)["next_at"].as_u64().unwrap() > now());
    assert_eq!(shown(&scratch, &once)["missed"], 1);
    scratch.parole(&["resume", "--all"]).code(0).prints("");
    // What will never run again goes with the next collection, the rest stays.
    let collected = scratch.parole(&["gc", "--older-than", "0", "--json"]).code(0).json();
    assert_eq!((&collected["executions"], &collected["schedules"]), (&1.into(), &1.into()));
    make_due(&scratch, &run, 5);
    scratch.parole(&["resume", "--all", "--quiet"]).code(0).prints("Hello from WAT\n");
}

/// A schedule of the guest that asks for a name, which has fired once: that run waits.
fn waits_for_a_name(scratch: &Scratch, rule: &[&str]) -> (String, String) {
    let words: Vec<&str> = ["--every", "0 0 1 1 *"].iter().chain(rule).copied().collect();
    let greet = guest("greet.wasm");
    let words: Vec<&str> = ["run", &greet].iter().chain(&words).copied().chain(["--json"]).collect();
    let id = id_of(&scratch.parole(&words).code(0).json());
    make_due(scratch, &id, 0);
    scratch.parole(&["resume", "--all", "--quiet"]).code(75);
    let last = shown(scratch, &id)["last"].as_str().unwrap().to_owned();
    (id, last)
}

fn answer_all(scratch: &Scratch) {
    let pending = scratch.parole(&["promises", "--pending", "--json"]).code(0).json();
    for promise in pending.as_array().unwrap() {
        scratch.parole(&["promise", "resolve", promise["id"].as_str().unwrap(), "--data", "Ada"]).code(0);
    }
}

#[test]
fn a_time_that_comes_while_the_last_run_waits_is_skipped_unless_something_else_was_said() {
    let scratch = Scratch::new();
    let (id, last) = waits_for_a_name(&scratch, &[]);
    assert_eq!(shown(&scratch, &id)["overlap"], "skip");
    make_due(&scratch, &id, 0);
    let skipped = scratch.parole(&["resume", "--all"]).code(0).prints("");
    skipped.says(&format!("schedule {id} skips, for its last run {last} has not ended: one time of it is left out"));
    assert_eq!(shown(&scratch, &id)["fired"], 1);
    assert!(scratch.parole(&["schedules"]).code(0).out.contains("  skip  "));
    answer_all(&scratch);
    scratch.parole(&["resume", "--all", "--quiet"]).code(0).prints("Hello, Ada!\n");
    make_due(&scratch, &id, 0);
    scratch.parole(&["resume", "--all", "--quiet"]).code(75);
    assert_eq!(shown(&scratch, &id)["fired"], 2);
}

#[test]
fn with_overlap_all_it_runs_beside_the_last_one() {
    let scratch = Scratch::new();
    let (id, _) = waits_for_a_name(&scratch, &["--overlap", "all"]);
    make_due(&scratch, &id, 0);
    scratch.parole(&["resume", "--all", "--quiet"]).code(75);
    assert_eq!((&shown(&scratch, &id)["fired"], executions(&scratch).len()), (&2.into(), 2));
}

#[test]
fn with_overlap_queue_one_waits_for_its_turn_whoever_watches() {
    let scratch = Scratch::new();
    let (id, last) = waits_for_a_name(&scratch, &["--overlap", "queue", "--missed", "skip"]);
    // Hours ago, and again since: one of them waits.
    make_due(&scratch, &id, 3 * 3_600_000);
    let watchers = [watcher(&scratch), watcher(&scratch)];
    std::thread::sleep(Duration::from_secs(1));
    let waits = shown(&scratch, &id);
    assert_eq!((&waits["fired"], &waits["queued"]), (&1.into(), &true.into()));
    assert!(scratch.parole(&["schedules"]).code(0).out.contains("when its last run has ended"));
    answer_all(&scratch);
    until("fired", || shown(&scratch, &id)["fired"] == 2);
    assert_eq!(scratch.parole(&["show", &last, "--json"]).code(0).json()["outcome"], "completed");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((&shown(&scratch, &id)["fired"], executions(&scratch).len()), (&2.into(), 2));
    watchers.into_iter().for_each(ends);
}

#[test]
fn a_time_that_a_wrong_clock_stored_is_computed_anew() {
    let scratch = Scratch::new();
    let id = id_of(&plan(&scratch, &["--every", "0 0 1 1 *"]));
    let right = shown(&scratch, &id)["next_at"].clone();
    let put_off = || {
        let hub = Hub::sqlite(&scratch.path("state")).unwrap();
        let id: ScheduleId = id.parse().unwrap();
        let record = hub.schedule(id).unwrap().unwrap();
        let next_at = Some(now() + 30 * 365 * 86_400_000);
        let write = Write::Reschedule { id, revision: record.revision, paused: false, next_at, now: now() };
        hub.write(write).wait().unwrap();
    };
    put_off();
    let told = scratch.parole(&["resume", "--all"]).code(0).prints("");
    told.says(&format!("schedule {id} was to run next at 2056-")).says("later than its rule allows");
    assert_eq!((&shown(&scratch, &id)["next_at"], &shown(&scratch, &id)["fired"]), (&right, &0.into()));
    // A process that watches all the while sees to it as well.
    let watcher = watcher(&scratch);
    std::thread::sleep(Duration::from_millis(500));
    put_off();
    until("right again", || shown(&scratch, &id)["next_at"] == right);
    ends(watcher);
}

#[test]
fn what_is_scheduled_is_pinned() {
    let scratch = Scratch::new();
    let file = scratch.file("g.wasm", std::fs::read(guest("greet.wasm")).unwrap());
    let id = id_of(&scratch.parole(&["run", &file, "--at", "+1h", "--timeout", "input=1m", "--json"]).code(0).json());
    std::fs::remove_file(&file).unwrap();
    make_due(&scratch, &id, 0);
    let all = scratch.parole(&["resume", "--all", "--json"]).code(75).json();
    assert_eq!(all[0]["pending"][0]["capability"], "input");
    let promise = all[0]["pending"][0]["id"].as_str().unwrap();
    scratch.parole(&["promise", "resolve", promise, "--data", "Ada"]).code(0);
    scratch.parole(&["resume", all[0]["execution"].as_str().unwrap()]).code(0).prints("Hello, Ada!\n");
}

#[test]
fn what_cannot_run_is_refused_when_it_is_made() {
    let scratch = Scratch::new();
    let hello = guest("hello.wat");
    let run = |words: &[&str]| -> Ran {
        let words: Vec<&str> = ["run", &hello].iter().chain(words).copied().collect();
        scratch.parole(&words)
    };
    run(&["--at", "+1h", "--block", "print"]).code(77).prints("").says("no schedule was made");
    let denied = run(&["--at", "+1h", "--block", "print", "--json"]).code(77).json();
    assert_eq!((&denied["schedule"], &denied["denied"][0]["at"]), (&Value::Null, &"link".into()));
    run(&["--at", "+1h", "--invoke", "nothing()"]).code(2).says("it has: run");
    run(&["--at", "+1h", "--allow-read", "missing"]).code(2).says("cannot be opened");
    for (words, says) in [
        (&["--at", "yesterday"][..], "expected 2026-12-01T09:00"),
        (&["--at", ""], "expected 2026-12-01T09:00"),
        (&["--at", "+"], "such as +30s"),
        (&["--at", "+never"], "such as +30s"),
        (&["--at", "2020-01-01T00:00"], "has passed"),
        (&["--at", "2027-03-28T02:30", "--zone", "Europe/Berlin"], "does not exist in Europe/Berlin"),
        (&["--at", "2027-10-31T02:30", "--zone", "Europe/Berlin"], "comes twice"),
        (&["--at", "+1h", "--zone", "Berlin", "--every", "* * * * *"], "cannot be used with"),
        (&["--every", "* * * *"], "five fields"),
        (&["--every", "* * * * * *"], "five fields"),
        (&["--every", "61 * * * *"], "five fields"),
        (&["--every", "0 0 31 2 *"], "no calendar has"),
        (&["--every", "* * * * *", "--zone", "Berlin"], "Europe/Berlin or UTC"),
        (&["--every", "* * * * *", "--missed", "later"], "possible values"),
        (&["--zone", "UTC"], "there is neither"),
        (&["--missed", "run"], "there is neither"),
        (&["--overlap", "all"], "--every"),
        (&["--at", "+1h", "--overlap", "all"], "--every"),
        (&["--every", "* * * * *", "--overlap", "never"], "possible values"),
        (&["--at", "+1h", "--detach"], "made now"),
        (&["--at", "+1h", "--stdin", "-"], "made now"),
    ] {
        run(words).code(2).prints("").says(says);
    }
    scratch.parole(&["schedule", "show", UNKNOWN]).code(2).says("there is no schedule");
    scratch.parole(&["schedule", "show", "x"]).code(2).says("expected a schedule id");
    assert_eq!(scratch.parole(&["schedules", "--json"]).code(0).json(), serde_json::json!([]));
}
