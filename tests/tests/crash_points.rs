//! Crash tests on the real program: SIGKILL, EIO and ENOSPC at every durable system call, one at a time, and then a
//! user who goes on: no acknowledged resolution lost, no promise doubled, no line of output doubled or lost in the
//! journal, no file half written or left over, the store whole each time.
//!
//! They need strace (`apt-get install strace`) and the release binary. Each test says how many calls there are, how
//! many of them were harmed and how the runs ended. `PAROLE_EXHAUSTIVE=1` leaves none out, `PAROLE_CRASH_LIST=1` lists
//! every harmed run.

use parole_tests::crash::{Place, exit, prebuilt};
use parole_tests::crash_ends::{Cancel, Retention, TimeOut};
use parole_tests::crash_points::every_point;
use parole_tests::crash_scenarios::{
    CreateAndWait, CreateFirst, CreateFresh, Resolve, ResolveApproval, Resume, Sleep, Wake, WriteBetweenWaits,
};
use parole_tests::crash_trace::{Aim, Harm, STDOUT, trace};
use parole_tests::crash_work::{Answered, WaitForWorker, Work};
use parole_tests::ensure;
use parole_tests::fixture::Failure;

macro_rules! scenarios {
    ($($module:ident: $scenario:ty;)+) => {$(
        mod $module {
            use super::*;

            #[test]
            fn killed() -> Result<(), Failure> {
                every_point::<$scenario>(Harm::Kill).map(drop)
            }

            #[test]
            fn io_error() -> Result<(), Failure> {
                every_point::<$scenario>(Harm::Eio).map(drop)
            }

            #[test]
            fn disk_full() -> Result<(), Failure> {
                every_point::<$scenario>(Harm::Enospc).map(drop)
            }
        }
    )+};
}

scenarios! {
    create_first_use: CreateFresh;
    create_first_run: CreateFirst;
    create_and_wait: CreateAndWait;
    resolve: Resolve;
    resume: Resume;
    d04_write_between_waits: WriteBetweenWaits;
    sleep: Sleep;
    wake: Wake;
    cancel: Cancel;
    time_out: TimeOut;
    retention: Retention;
    work: Work<false>;
    work_once: Work<true>;
    wait_for_worker: WaitForWorker;
    resume_after_worker: Answered;
}

/// Errors are for `resolve`, which takes the same way.
#[test]
fn d03_resolve_approval_killed() -> Result<(), Failure> {
    every_point::<ResolveApproval>(Harm::Kill).map(drop)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Traces the first run of a guest, and looks for a sync of the directory of the database after a call and before the
/// program says that the guest waits.
fn directory_is_synced_after(place: &Place, call: Option<&str>) -> Result<(), Failure> {
    let guest = prebuilt("greet")?.to_string_lossy().into_owned();
    let run = trace(place, &words(&["run", &guest, "--detach", "--json"]), None)?;
    run.ran.exits(exit::SUSPENDED)?;
    let names: Vec<String> = run.calls.iter().map(|seen| seen.call.to_string()).collect();
    let from = match call {
        None => 0,
        Some(call) => {
            names.iter().position(|name| name == call).ok_or_else(|| format!("there is no {call}: {names:?}"))?
        }
    };
    let says = run.calls.iter().position(|seen| seen.call.path == STDOUT).unwrap_or(names.len());
    ensure!(
        names[from..says].iter().any(|name| name == "fsync(state)"),
        "acknowledged before the directory was synced: {}",
        names.join(" ")
    );
    place.check()
}

/// Whoever makes the files of the database syncs the directory that names them, or they are gone after a power cut, with
/// all that was acknowledged. If the maker is killed before that, somebody else has to.
#[test]
fn names_are_durable_though_their_maker_was_killed() -> Result<(), Failure> {
    let place = Place::new()?;
    let aim = Aim { syscall: "fsync".into(), n: 1, path: Some(place.state()) };
    let killed = trace(&place, &words(&["ps"]), Some((Harm::Kill, &aim)))?;
    ensure!(killed.ran.status.code().is_none(), "no directory was synced\n{}", killed.ran.report());
    directory_is_synced_after(&place, None)
}

/// The same if that sync fails: whoever tries again may not take it for done.
#[test]
fn names_are_durable_though_their_sync_failed() -> Result<(), Failure> {
    let place = Place::new()?;
    let aim = Aim { syscall: "fsync".into(), n: 1, path: Some(place.state()) };
    let failed = trace(&place, &words(&["ps"]), Some((Harm::Eio, &aim)))?;
    let harmed = *failed.harmed.first().ok_or_else(|| format!("no directory was synced\n{}", failed.ran.report()))?;
    let again = failed.calls.iter().enumerate().skip(harmed + 1);
    if again.into_iter().any(|(index, seen)| seen.call.path == "state" && !failed.harmed.contains(&index)) {
        return place.check();
    }
    directory_is_synced_after(&place, None)
}

/// The change to the write-ahead log goes through a rollback journal. Were that there again after a power cut, SQLite
/// would roll back to the empty database, and then remove the log with all that was acknowledged: so that it is gone is
/// made durable before anything is acknowledged.
#[test]
fn the_rollback_journal_does_not_come_back() -> Result<(), Failure> {
    let place = Place::new()?;
    directory_is_synced_after(&place, Some("unlink(state/parole.db-journal)"))
}
