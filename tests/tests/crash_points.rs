//! Crash tests on the real program: SIGKILL, EIO and ENOSPC at every durable system call, one at a time, and then a
//! user who goes on: no acknowledged resolution lost, no promise doubled, no line of output doubled or lost in the
//! journal, no file half written or left over, the store whole each time.
//!
//! They need strace (`apt-get install strace`) and the release binary. Each test says how many calls there are, how
//! many of them were harmed and how the runs ended. `PAROLE_EXHAUSTIVE=1` leaves none out, `PAROLE_CRASH_LIST=1` lists
//! every harmed run.

use parole_tests::crash_points::every_point;
use parole_tests::crash_scenarios::{
    Cancel, CreateAndWait, CreateFirst, CreateFresh, Resolve, ResolveApproval, Resume, Retention, Sleep, TimeOut, Wake,
    WriteBetweenWaits,
};
use parole_tests::crash_trace::Harm;
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
}

/// Errors are for `resolve`, which takes the same way.
#[test]
fn d03_resolve_approval_killed() -> Result<(), Failure> {
    every_point::<ResolveApproval>(Harm::Kill).map(drop)
}
