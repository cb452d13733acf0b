//! SIGKILL at random moments under load: ten executions, three resolvers, a resumer; one process of a random kind is
//! killed each time. In the end nothing is lost and nothing is doubled.
//!
//! `PAROLE_CRASHES=10000` for a long run; `PAROLE_SEED=…` repeats the choices (not the schedule of the machine).

use std::io::Write as _;

use parole_tests::crash::setting;
use parole_tests::crash_load::under_load;
use parole_tests::fixture::{Failure, because};

fn number(variable: &str) -> Result<Option<u64>, Failure> {
    setting(variable).map(|text| text.parse().map_err(because(format!("{variable}={text}")))).transpose()
}

#[test]
fn killed_at_random_under_load() -> Result<(), Failure> {
    const CRASHES: u64 = 200;
    let seed = number("PAROLE_SEED")?.unwrap_or_else(rand::random);
    let crashes = number("PAROLE_CRASHES")?.unwrap_or(CRASHES);
    drop(writeln!(std::io::stderr(), "PAROLE_SEED={seed} PAROLE_CRASHES={crashes}"));
    let summary = under_load(seed, usize::try_from(crashes).unwrap_or(usize::MAX))
        .map_err(because(format!("PAROLE_SEED={seed}")))?;
    drop(writeln!(std::io::stderr(), "{summary:?}"));
    Ok(())
}
