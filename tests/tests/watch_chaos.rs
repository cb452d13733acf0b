//! Two watchers on one state directory, killed at random under schedules, requests and answers, one of them with a disk
//! that fails or is full for a while: nothing is lost, nothing is doubled, everything ends, and nothing waits for an owner
//! who is dead or has forgotten it.
//!
//! `PAROLE_CHAOS_KILLS=500` for a long run, which holds what waits to 2 s; `PAROLE_SEED=…` repeats the choices (not the
//! schedule of the machine).

use std::io::Write as _;
use std::time::Duration;

use parole_tests::crash::setting;
use parole_tests::fixture::{Failure, because};
use parole_tests::watch_chaos::chaos;

/// What a short run kills.
const KILLS: u64 = 16;
/// What may wait, and where other tests take the processors.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));

fn number(variable: &str) -> Result<Option<u64>, Failure> {
    setting(variable).map(|text| text.parse().map_err(because(format!("{variable}={text}")))).transpose()
}

#[test]
fn two_watchers_killed_at_random() -> Result<(), Failure> {
    let seed = number("PAROLE_SEED")?.unwrap_or_else(rand::random);
    let wanted = number("PAROLE_CHAOS_KILLS")?;
    let kills = usize::try_from(wanted.unwrap_or(KILLS)).map_err(because("kills"))?;
    let patience = if wanted.is_some() { PATIENCE.0 } else { PATIENCE.1 };
    let told = format!("PAROLE_SEED={seed} PAROLE_CHAOS_KILLS={kills}");
    let summary = chaos(seed, kills, patience).map_err(because(&told))?;
    drop(writeln!(std::io::stderr(), "{told}: {summary:?}"));
    Ok(())
}
