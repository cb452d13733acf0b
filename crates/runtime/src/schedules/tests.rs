//! Schedules over a store, with times put into the past by hand.

use std::path::Path;

use parole_policy::Level;

use super::*;
use crate::report::Outcome;
use crate::runtime::ResumeOptions;

const HOUR: u64 = 3_600_000;

fn runtime(dir: &Path) -> Runtime {
    Runtime::builder().state_dir(dir.join("state")).open().unwrap()
}

fn hello() -> Guest {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-examples/wat/hello.wat");
    Guest::from_file(Path::new(path)).unwrap()
}

fn made(runtime: &Runtime, when: When, missed: Missed) -> ScheduleId {
    let policy = SecurityPolicy::new(Level::Standard);
    match runtime.blocking().schedule(hello(), policy, None, Spec { when, missed, overlap: Overlap::All }).unwrap() {
        Planned::Made(schedule) => schedule.schedule,
        Planned::Denied(denied) => panic!("{denied:?}"),
    }
}

fn later() -> When {
    When::At(now() + HOUR)
}

fn every(cron: &str) -> When {
    When::every(cron, "UTC").unwrap()
}

/// As if it had been due then, and nobody had watched.
fn make_due(runtime: &Runtime, id: ScheduleId, at: UnixMs) {
    let record = runtime.schedule_record(id).unwrap();
    runtime.hub().write(reschedule(&record, record.paused, Some(at), now())).wait().unwrap();
}

fn fire(runtime: &Runtime) -> Vec<Fired> {
    runtime.blocking().fire_due().unwrap()
}

#[test]
fn one_time_makes_one_execution_that_runs_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime(dir.path());
    let id = made(&runtime, later(), Missed::Run);
    assert_eq!(fire(&runtime), []);
    assert!(runtime.next_due().unwrap().is_some_and(|at| at > now()));
    assert_eq!(runtime.executions(true).unwrap().len(), 0);

    make_due(&runtime, id, now() - 5);
    let fired = fire(&runtime);
    let execution = fired[0].execution.unwrap();
    assert_eq!((fired.len(), fired[0].missed, fired[0].next_at), (1, 0, None));
    assert_eq!(fire(&runtime), []);
    assert_eq!(runtime.next_due().unwrap(), None);
    assert_eq!(runtime.ready().unwrap(), [execution]);
    let report = runtime.blocking().resume(execution, ResumeOptions::default()).unwrap();
    assert_eq!((report.outcome, report.output.as_str()), (Outcome::Completed, "Hello from WAT\n"));
    let schedule = runtime.scheduled(id).unwrap();
    assert_eq!((schedule.fired, schedule.last, schedule.next_at, schedule.missed), (1, Some(execution), None, 0));
    assert_eq!(schedule.guest, "hello.wat");
    // It has had its time; the execution stays.
    assert_eq!(runtime.blocking().collect_schedules(now() + 1).unwrap(), 1);
    assert_eq!(runtime.schedules().unwrap().whole, []);
    assert_eq!(runtime.show(execution).unwrap().outcome, Outcome::Completed);
}

#[test]
fn however_many_watch_each_time_makes_one_execution() {
    const ROUNDS: u64 = 20;
    let dir = tempfile::tempdir().unwrap();
    let watchers: Vec<Runtime> = (0..4).map(|_| runtime(dir.path())).collect();
    let id = made(&watchers[0], every("0 0 1 1 *"), Missed::Run);
    let mut fired = 0;
    for _ in 0..ROUNDS {
        make_due(&watchers[0], id, now() - 1);
        let counts = std::thread::scope(|scope| {
            let threads: Vec<_> = watchers.iter().map(|watcher| scope.spawn(|| fire(watcher).len())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(counts, 1);
        fired += counts as u64;
    }
    assert_eq!(watchers[1].scheduled(id).unwrap().fired, fired);
    assert_eq!(watchers[2].executions(true).unwrap().len() as u64, ROUNDS);
}

#[test]
fn a_pause_holds_it_back_and_its_times_are_not_missed() {
    let runtime = Runtime::builder().open().unwrap();
    let id = made(&runtime, every("*/10 * * * *"), Missed::Run);
    assert!(runtime.blocking().pause(id, true).unwrap().paused);
    make_due(&runtime, id, now() - HOUR);
    assert_eq!((fire(&runtime), runtime.next_due().unwrap()), (vec![], None));
    assert_eq!(runtime.scheduled(id).unwrap().missed, 0);
    let resumed = runtime.blocking().pause(id, false).unwrap();
    assert!(!resumed.paused && resumed.next_at.is_some_and(|at| at > now()));
    assert_eq!(fire(&runtime), []);
    // Twice is once.
    assert_eq!(runtime.blocking().pause(id, false).unwrap(), resumed);
    // A single time that came in the pause is made up for, or left out.
    for (missed, runs) in [(Missed::Run, true), (Missed::Skip, false)] {
        let id = made(&runtime, later(), missed);
        runtime.blocking().pause(id, true).unwrap();
        make_due(&runtime, id, now() - HOUR);
        runtime.blocking().pause(id, false).unwrap();
        assert_eq!(fire(&runtime)[0].execution.is_some(), runs);
    }
    runtime.blocking().unschedule(id).unwrap();
    for gone in [runtime.blocking().unschedule(id), runtime.blocking().pause(id, true).map(drop)] {
        assert!(matches!(gone, Err(Error::Usage(text)) if text.contains("no schedule")));
    }
}

#[test]
fn missed_times_are_told_and_run_once_or_skipped() {
    let runtime = Runtime::builder().open().unwrap();
    let run = made(&runtime, every("0 * * * *"), Missed::Run);
    let skip = made(&runtime, every("30 12 1 1 *"), Missed::Skip);
    let once = made(&runtime, later(), Missed::Skip);
    let hours_ago = now() - now() % HOUR - 5 * HOUR;
    for id in [run, skip, once] {
        make_due(&runtime, id, hours_ago);
    }
    let listed = runtime.scheduled(run).unwrap().missed;
    // On the hour itself the last is only late.
    assert!((5..=6).contains(&listed), "{listed}");
    let fired = fire(&runtime);
    let of = |id| fired.iter().find(|fired| fired.schedule == id).unwrap();
    assert!(of(run).execution.is_some() && of(run).missed == listed);
    assert_eq!((of(skip).execution, of(skip).missed), (None, 1));
    assert_eq!((of(once).execution, of(once).missed, of(once).next_at), (None, 1, None));
    assert_eq!(runtime.executions(true).unwrap().len(), 1);
    assert!(fire(&runtime).is_empty());
    for (id, count) in [(run, 1), (skip, 0), (once, 0)] {
        assert_eq!(runtime.scheduled(id).unwrap().fired, count);
    }
    assert!(runtime.scheduled(skip).unwrap().next_at.is_some_and(|at| at > now()));
    // The one time of it that there was.
    assert_eq!(runtime.scheduled(once).unwrap().missed, 1);
}

/// As it stands in the store, whatever the present rule of making is.
fn stored(runtime: &Runtime, spec: &str, next_at: UnixMs) -> ScheduleId {
    let new = new(spec, next_at);
    let id = new.id;
    runtime.hub().write(Write::Schedule(Box::new(new))).wait().unwrap();
    id
}

fn cron_spec(rest: &str) -> String {
    format!(r#"{{"when":{{"every":{{"cron":"0 0 1 1 *","zone":"UTC"}}}}{rest}}}"#)
}

#[test]
fn a_run_that_has_not_ended_holds_the_next_one_up_as_its_rule_says() {
    let dir = tempfile::tempdir().unwrap();
    let watchers: Vec<Runtime> = (0..4).map(|_| runtime(dir.path())).collect();
    let runtime = &watchers[0];
    let all_fire = || {
        std::thread::scope(|scope| {
            let threads: Vec<_> = watchers.iter().map(|watcher| scope.spawn(|| fire(watcher))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        })
    };
    for (rest, runs) in [
        (r#","overlap":"skip""#, [1, 1, 2]),
        (r#","overlap":"queue""#, [1, 1, 2]),
        (r#","overlap":"all""#, [1, 2, 3]),
        // Made by a program that knew no rule.
        ("", [1, 2, 3]),
    ] {
        let id = stored(runtime, &cron_spec(rest), now());
        let first = all_fire()[0].execution.unwrap();
        assert_eq!(runtime.scheduled(id).unwrap().fired, runs[0]);
        make_due(runtime, id, now());
        let told = all_fire();
        let schedule = runtime.scheduled(id).unwrap();
        assert_eq!(schedule.fired, runs[1], "{rest}");
        match rest {
            r#","overlap":"skip""# => {
                assert_eq!((told.len(), told[0].overlaps, told[0].execution), (1, Some((first, 1)), None));
                assert!(schedule.next_at.is_some_and(|at| at > now()));
                make_due(runtime, id, now());
            }
            r#","overlap":"queue""# => {
                assert_eq!((told.len(), schedule.queued, schedule.missed), (0, true, 0));
                // It is not looked at again and again until then.
                assert_eq!(runtime.next_due().unwrap(), None);
            }
            _ => make_due(runtime, id, now()),
        }
        runtime.blocking().cancel(first).unwrap();
        assert!(runtime.next_due().unwrap().is_some_and(|at| at <= now()));
        all_fire();
        assert_eq!(runtime.scheduled(id).unwrap().fired, runs[2], "{rest}");
        runtime.blocking().unschedule(id).unwrap();
    }
}

#[test]
fn a_time_that_a_wrong_clock_stored_is_computed_anew() {
    let runtime = Runtime::builder().open().unwrap();
    let far = now() + 30 * 365 * 24 * HOUR;
    let id = stored(&runtime, &cron_spec(""), far);
    let once = stored(&runtime, &format!(r#"{{"when":{{"at":{far}}}}}"#), far);
    assert!(runtime.next_due().unwrap().is_some_and(|at| at <= now()));
    let told = fire(&runtime);
    assert_eq!((told.len(), told[0].schedule, told[0].ahead, told[0].execution), (1, id, Some(far), None));
    let right = every("0 0 1 1 *").next(now()).unwrap();
    assert_eq!(runtime.scheduled(id).unwrap().next_at, Some(right));
    assert_eq!(runtime.scheduled(once).unwrap().next_at, Some(far));
    assert_eq!((fire(&runtime), runtime.next_due().unwrap()), (vec![], Some(right)));
    // What was right once is looked at again when it has changed.
    make_due(&runtime, id, far);
    assert_eq!(fire(&runtime).len(), 1);
}

#[test]
fn what_is_stored_runs_whatever_becomes_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime(dir.path());
    let file = dir.path().join("guest.wat");
    std::fs::write(&file, &hello().bytes).unwrap();
    let guest = Guest::from_file(&file).unwrap();
    let spec = Spec { when: later(), missed: Missed::Run, overlap: Overlap::Skip };
    let planned = runtime.blocking().schedule(guest, SecurityPolicy::new(Level::Sandbox), None, spec).unwrap();
    let Planned::Made(schedule) = planned else { panic!("{planned:?}") };
    std::fs::write(&file, "(component)").unwrap();
    // Nothing that ended is needed by it, and what it needs stays.
    runtime.blocking().collect(now() + HOUR).unwrap();
    make_due(&runtime, schedule.schedule, now());
    let execution = fire(&runtime)[0].execution.unwrap();
    let report = runtime.blocking().resume(execution, ResumeOptions::default()).unwrap();
    assert_eq!(report.output, "Hello from WAT\n");
}

#[test]
fn what_cannot_run_is_refused_when_it_is_made() {
    let runtime = Runtime::builder().open().unwrap();
    let spec = || Spec { when: later(), missed: Missed::Run, overlap: Overlap::Skip };
    let policy = || SecurityPolicy::new(Level::Standard);
    let denied = runtime.blocking().schedule(hello(), policy().block("print"), None, spec()).unwrap();
    assert!(matches!(denied, Planned::Denied(denied) if denied.len() == 1));
    let usage = |invoke: Option<&str>, policy: SecurityPolicy, when: When| {
        let spec = Spec { when, missed: Missed::Run, overlap: Overlap::Skip };
        match runtime.blocking().schedule(hello(), policy, invoke.map(str::to_owned), spec) {
            Err(Error::Usage(text)) => text,
            other => panic!("{other:?}"),
        }
    };
    assert!(usage(Some("nothing()"), policy(), later()).contains("it has: run"));
    assert!(usage(None, policy().allow_read("/x", "/does/not/exist"), later()).contains("cannot be opened"));
    assert!(usage(None, policy(), When::At(now() - 1)).contains("has passed"));
    let odd = When::Every { cron: "x".into(), zone: "UTC".into() };
    assert!(usage(None, policy(), odd).contains("five fields"));
    assert_eq!(runtime.schedules().unwrap().whole, []);
    let text = Guest::from_bytes("text", *b"no guest").unwrap();
    assert!(matches!(runtime.blocking().schedule(text, policy(), None, spec()), Err(Error::NotAGuest(_))));
}

fn new(spec: &str, next_at: UnixMs) -> NewSchedule {
    let (component, setup) = (Digest::of(b"component"), Digest::of(b"setup"));
    NewSchedule {
        id: ScheduleId::generate(),
        spec: spec.into(),
        component,
        setup,
        next_at: Some(next_at),
        paused: false,
        payloads: vec![(component, b"component".to_vec().into()), (setup, b"setup".to_vec().into())],
        now: now(),
    }
}

#[test]
fn what_another_version_made_is_left_alone() {
    let runtime = Runtime::builder().open().unwrap();
    for spec in ["{\"when\":{\"moon\":\"full\"}}", "{\"when\":{\"every\":{\"cron\":\"x\",\"zone\":\"UTC\"}}}"] {
        runtime.hub().write(Write::Schedule(Box::new(new(spec, 5)))).wait().unwrap();
    }
    assert_eq!((fire(&runtime), runtime.next_due().unwrap()), (vec![], None));
    let schedules = runtime.schedules().unwrap().whole;
    assert_eq!((schedules.len(), schedules[0].when.clone(), schedules[0].missed), (2, None, 0));
    let id = made(&runtime, later(), Missed::Run);
    assert_eq!(runtime.next_due().unwrap(), runtime.scheduled(id).unwrap().next_at);
}

#[test]
fn there_is_a_limit() {
    let runtime = Runtime::builder().open().unwrap();
    let receipts: Vec<_> = (0..SCHEDULES_MAX)
        .map(|_| runtime.hub().write(Write::Schedule(Box::new(new("{\"when\":{\"at\":5}}", 5)))))
        .collect();
    for receipt in receipts {
        receipt.wait().unwrap();
    }
    let spec = Spec { when: later(), missed: Missed::Run, overlap: Overlap::Skip };
    let full = runtime.blocking().schedule(hello(), SecurityPolicy::new(Level::Standard), None, spec);
    assert!(matches!(full, Err(Error::Usage(text)) if text.contains("there are 10000 schedules")));
    // All at once, and each once.
    let fired = fire(&runtime);
    assert_eq!(fired.len(), SCHEDULES_MAX);
    assert_eq!(fire(&runtime), []);
}
