//! Acts on the outside world, killed at every durable call (and at every call on a connection): a POST, an approval
//! that is used, a write of a query, a schedule whose time has come, grants that change while an execution is parked.
//! Nothing is lost, nothing is doubled, and what nobody can know is in doubt.
//!
//! They need strace. By default a few calls of each are harmed, chosen at random (`PAROLE_SEED=…` repeats the choice);
//! `PAROLE_EXHAUSTIVE=1` harms all of them. `PAROLE_CRASH_LIST=1` lists every harmed run.

use std::io::Write as _;

use parole_tests::crash::{EXHAUSTIVE, setting};
use parole_tests::crash_acts::{Post, Postgres, Sqlite, WriteFile};
use parole_tests::crash_fire::under_fire;
use parole_tests::crash_grants::{GrantDir, ResumeRevoked, RevokeAll, RevokeDir};
use parole_tests::crash_held::{held, no_grant};
use parole_tests::crash_outside::{Approved, Approving, Asking, Fresh, Waited};
use parole_tests::crash_points::every_point;
use parole_tests::crash_schedules::{FireAt, FireEvery, FireWatch, Plan, watched_by_three};
use parole_tests::crash_trace::Harm;
use parole_tests::crash_twice::{Again, BothOfTwo, OnceOfTwo, again_and_again};
use parole_tests::fixture::{Failure, because};

macro_rules! killed {
    ($($(#[$attribute:meta])* $module:ident: $scenario:ty;)+) => {$(
        #[test]
        $(#[$attribute])*
        fn $module() -> Result<(), Failure> {
            every_point::<$scenario>(Harm::Kill).map(drop)
        }
    )+};
}

macro_rules! harmed {
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

harmed! {
    post: Waited<Post<false>>;
    post_idempotent: Waited<Post<true>>;
    query: Waited<Sqlite<false>>;
    query_idempotent: Waited<Sqlite<true>>;
    approved_post: Approved<Post<false>>;
    approved_write: Approved<WriteFile>;
    fire_at: FireAt;
    grant: GrantDir;
    revoke: RevokeDir;
}

killed! {
    post_fresh: Fresh<Post<false>>;
    post_fresh_idempotent: Fresh<Post<true>>;
    post_again: Again<Post<false>>;
    query_fresh: Fresh<Sqlite<false>>;
    query_again: Again<Sqlite<false>>;
    postgres: Waited<Postgres<false>>;
    postgres_idempotent: Waited<Postgres<true>>;
    asking: Asking<Post<false>>;
    approving: Approving<Post<false>>;
    approved_post_idempotent: Approved<Post<true>>;
    approved_query: Approved<Sqlite<false>>;
    one_approval_of_two: OnceOfTwo;
    one_approval_for_both: BothOfTwo;
    schedule_is_made: Plan;
    fire_every: FireEvery;
    fire_watch: FireWatch;
    revoke_capability: RevokeAll;
    resume_after_revoke: ResumeRevoked;
}

fn told(what: &str, (kills, agains): (usize, usize)) {
    drop(writeln!(std::io::stderr(), "{what}: killed {kills} times, done again by a person {agains} times"));
}

#[test]
fn post_again_and_again() -> Result<(), Failure> {
    told("POST", again_and_again::<Post<false>>()?);
    told("POST, idempotent", again_and_again::<Post<true>>()?);
    Ok(())
}

#[test]
fn query_again_and_again() -> Result<(), Failure> {
    told("INSERT", again_and_again::<Sqlite<false>>()?);
    told("INSERT, idempotent", again_and_again::<Sqlite<true>>()?);
    Ok(())
}

/// Killed while the other side has the request and has not answered.
#[test]
fn held_post() -> Result<(), Failure> {
    held::<false>()
}

#[test]
fn held_post_idempotent() -> Result<(), Failure> {
    held::<true>()
}

#[test]
fn an_approval_is_no_grant() -> Result<(), Failure> {
    no_grant()
}

#[test]
fn schedules_watched_by_three() -> Result<(), Failure> {
    const SCHEDULES: usize = 12;
    let kills = watched_by_three(SCHEDULES)?;
    drop(writeln!(std::io::stderr(), "{SCHEDULES} schedules, {kills} processes killed"));
    Ok(())
}

/// Killed at random while many executions are approved, and done again where that is in doubt. `PAROLE_SEED=…` repeats
/// the choices, not the schedule of the machine.
#[test]
fn approved_under_fire() -> Result<(), Failure> {
    const EXECUTIONS: usize = 10;
    let seed = match setting("PAROLE_SEED") {
        Some(text) => text.parse().map_err(because(format!("PAROLE_SEED={text}")))?,
        None => rand::random::<u64>() >> 8,
    };
    drop(writeln!(std::io::stderr(), "PAROLE_SEED={seed}"));
    let rounds = if setting(EXHAUSTIVE).is_some() { 20 } else { 1 };
    for round in 0..rounds {
        let summary = under_fire(seed + round, EXECUTIONS)?;
        drop(writeln!(std::io::stderr(), "{summary:?}"));
    }
    Ok(())
}
