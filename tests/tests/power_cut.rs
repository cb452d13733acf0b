//! Power cuts: what the program writes is recorded, and the state directory rebuilt as a disk may hold it that lost power
//! at any moment: unsynced writes missing, reordered, torn at 512 bytes. Each image opens whole, has every fact that was
//! acknowledged, sends nothing twice, and goes on to the end.
//!
//! `PAROLE_POWER_CUTS=5000` for so many images in all; `PAROLE_SEED=…` repeats the choices (not the recording).
//! `PAROLE_KEEP_IMAGE=1` leaves each image in the directory for temporary files until the next one is made.

use std::io::Write as _;
use std::time::{Duration, Instant};

use parole_tests::crash::setting;
use parole_tests::fixture::{Failure, because};
use parole_tests::powercut_scenarios::Scenario;

/// Without a number: how long one scenario goes on.
const SAMPLE: Duration = Duration::from_secs(4);
/// The least number of images of a sample.
const FEWEST: usize = 5;
const SCENARIOS: u64 = 4;

fn number(variable: &str) -> Result<Option<u64>, Failure> {
    setting(variable).map(|text| text.parse().map_err(because(format!("{variable}={text}")))).transpose()
}

fn power_cuts(scenario: Scenario) -> Result<(), Failure> {
    let seed = number("PAROLE_SEED")?.unwrap_or_else(rand::random);
    let wanted = number("PAROLE_POWER_CUTS")?.map(|all| all.div_ceil(SCENARIOS));
    let story = scenario.record()?;
    let until = Instant::now() + SAMPLE;
    let goes_on = |images: usize| match wanted {
        Some(wanted) => (images as u64) < wanted,
        None => images < FEWEST || Instant::now() < until,
    };
    let told = format!("PAROLE_SEED={seed}");
    let summary = story.cut(seed, goes_on).map_err(because(&told))?;
    drop(writeln!(std::io::stderr(), "{told} {scenario:?}: {summary:?}"));
    Ok(())
}

#[test]
fn short_runs() -> Result<(), Failure> {
    power_cuts(Scenario::Runs)
}

#[test]
fn questions_answers_and_resumes() -> Result<(), Failure> {
    power_cuts(Scenario::Answers)
}

#[test]
fn what_is_sent_once() -> Result<(), Failure> {
    power_cuts(Scenario::Once)
}

#[test]
fn schedules_watchers_and_gc() -> Result<(), Failure> {
    power_cuts(Scenario::Schedules)
}
