//! Guests that run for long: what counts as their time, and what a replay of them may take.

use std::time::Instant;

use parole_runtime::{Guest, Level, Outcome, Report, ResumeOptions, RunOptions, Runtime, SecurityPolicy, Wait};

use super::{at, runtime};

fn long() -> Guest {
    Guest::from_bytes("long.wat", include_bytes!("long.wat").as_slice()).unwrap()
}

fn call(runtime: &Runtime, policy: SecurityPolicy, invoke: &str, wait: Wait) -> Report {
    let options = RunOptions { invoke: Some(invoke.into()), wait, ..RunOptions::default() };
    runtime.blocking().run(long(), policy, options).unwrap()
}

/// The milliseconds that the guest takes to burn so many times, on this machine and under its load now.
fn measured(runtime: &Runtime, times: u32) -> u64 {
    let started = Instant::now();
    let report = call(runtime, at(Level::Restricted), &format!("burn({times})"), Wait::All);
    assert_eq!(report.outcome, Outcome::Completed);
    u64::try_from(started.elapsed().as_millis()).unwrap().max(20)
}

#[test]
fn a_long_execution_is_replayed_when_it_has_ended() {
    let runtime = runtime();
    let report = call(&runtime, at(Level::Restricted), "burn-sleep(60)", Wait::All);
    assert_eq!(report.outcome, Outcome::Completed);
    let replayed = runtime.blocking().replay(report.execution).unwrap();
    assert_eq!((replayed.outcome, replayed.output.as_str()), (Some(Outcome::Completed), "line\n"));
}

/// What a replay does again has been counted before: an execution that has used most of its time goes on.
#[test]
fn a_replay_does_not_count() {
    let runtime = runtime();
    let limit = measured(&runtime, 60) * 8 / 5;
    let policy = at(Level::Restricted).limits(|limits| limits.cpu_ms = limit);
    let mut report = call(&runtime, policy, "burn-sleep(60)", Wait::Detach);
    let mut resumes = 0;
    while report.outcome == Outcome::Suspended && resumes < 100 {
        report = runtime.blocking().resume(report.execution, ResumeOptions::default()).unwrap();
        resumes += 1;
    }
    assert_eq!(report.outcome, Outcome::Completed, "{report:?}");
}

/// The twin: what is done after each wait counts, though the guest is parked at every one.
#[test]
fn work_after_a_resume_counts() {
    let runtime = runtime();
    let limit = measured(&runtime, 20) * 3;
    let policy = at(Level::Restricted).limits(|limits| limits.cpu_ms = limit);
    let mut report = call(&runtime, policy, "sleep-burn(40, 20)", Wait::Detach);
    let options = ResumeOptions { wait: Wait::Detach, ..ResumeOptions::default() };
    for _ in 0..60 {
        if report.outcome != Outcome::Suspended {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(3));
        report = runtime.blocking().resume(report.execution, options).unwrap();
    }
    assert_eq!((report.outcome, report.limit.as_deref()), (Outcome::Exhausted, Some("cpu_ms")), "{report:?}");
}

/// A call without a payload has a price, or the journal would grow without end.
#[test]
fn nothing_printed_for_ever_is_too_much_output() {
    let policy = at(Level::Restricted).limits(|limits| limits.output = 1000);
    let report = call(&runtime(), policy, "print-nothing()", Wait::All);
    assert_eq!((report.outcome, report.limit.as_deref()), (Outcome::Exhausted, Some("output")), "{report:?}");
    assert_eq!(report.output.matches('\n').count(), 1001, "1000 empty lines and the mark");
}
