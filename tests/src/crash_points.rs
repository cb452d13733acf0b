//! The machine that harms each durable call of a [`Scenario`] in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::index;

use crate::crash::{EXHAUSTIVE, Place, exit, setting};
use crate::crash_trace::{Aim, Call, Harm, STDOUT, Seen, Traced, WRITE, trace_more};
use crate::ensure;
use crate::fixture::{Failure, Ran, because};

/// One thing that a user does, in a place where everything is ready for it.
pub trait Scenario: Sized {
    /// A word for reports.
    const NAME: &'static str;

    /// Whether the victim prints when it is done and not before.
    const PRINTS_AT_THE_END: bool = true;

    /// How many calls, chosen at random, are harmed unless all are asked for; see `PAROLE_EXHAUSTIVE`, `PAROLE_SEED`.
    const SAMPLE: Option<usize> = None;

    /// System calls at which it is killed as well, though they change nothing on the disk.
    const ALSO: &'static [&'static str] = &[];

    /// For a victim that does not end by itself: when it is asked to.
    const STAYS: Option<Duration> = None;

    /// Brings a fresh place to the point right before.
    fn prepare(place: &Place) -> Result<Self, Failure>;

    /// Brings what is outside of the place to the point right before: each time, before the victim.
    fn begin(&self, _: &Place) -> Result<(), Failure> {
        Ok(())
    }

    /// The arguments of the program that is harmed.
    fn victim(&self) -> Vec<String>;

    /// Exit codes of the victim that say: done.
    fn claims(&self) -> &'static [i32];

    /// Whether a call is one that another thread of this scenario hides, so that no number hits it. It has to be
    /// harmed in another scenario.
    fn is_hidden(&self, _: &Call) -> bool {
        false
    }

    /// Whether a call that fails is none of Parole's own: then its guest may be told so, and all is well otherwise.
    fn is_told(&self, _: &Call) -> bool {
        false
    }

    /// What has to hold right after the victim, before anybody else has been there; `done` if it has said so.
    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure>;

    /// What the user does then, up to the end, and what has to hold there.
    fn finish(&self, place: &Place, victim: &Ran) -> Result<(), Failure>;
}

/// What was gone through, for the report of a test.
#[derive(Debug, Default)]
pub struct Coverage {
    /// Durable calls of an undisturbed run.
    pub calls: usize,
    /// Of these: not harmed unless asked for; see `PAROLE_EXHAUSTIVE`.
    pub skipped: usize,
    /// Of these: not to be hit here; see [`Scenario::is_hidden`].
    pub hidden: usize,
    /// Runs that were harmed.
    pub points: usize,
    /// How the harmed runs ended, by exit code or `killed`, and how often.
    pub ends: BTreeMap<String, usize>,
}

/// Set to list every call and every run.
const LIST: &str = "PAROLE_CRASH_LIST";

/// How often a call is aimed at until it is hit: the threads of a run do not share the work in the same way each time.
const ATTEMPTS: usize = 5;

/// The same for a call that may be hidden.
const ATTEMPTS_IF_HIDDEN: usize = 2;

/// What came of aiming at a call.
#[derive(PartialEq)]
enum Try {
    Hit,
    /// A run to which nothing was done made it, and was not hit.
    Missed,
    /// No run to which nothing was done made it: two lines of output go out in one write or in two, by the turn of
    /// threads.
    Absent,
}

/// The state of one way through a scenario.
struct Tour<'p, S> {
    place: &'p Place,
    scenario: S,
    harm: Harm,
    hit: BTreeSet<(Call, usize)>,
    coverage: Coverage,
}

/// Harms every durable call of a scenario in turn, and finishes each time as a user would.
pub fn every_point<S: Scenario>(harm: Harm) -> Result<Coverage, Failure> {
    let place = Place::new()?;
    let scenario = S::prepare(&place)?;
    place.save(BEFORE)?;
    scenario.begin(&place)?;
    let calm = traced::<S>(&place, &scenario, harm, None)?;
    let mut tour = Tour { place: &place, scenario, harm, hit: BTreeSet::new(), coverage: Coverage::default() };
    tour.judge(&calm, "nothing")?;
    ensure!(
        !S::PRINTS_AT_THE_END || calm.is_synced(),
        "{}: it says that it is done before that is on the disk",
        S::NAME
    );
    let all: Vec<(Call, usize)> = (0..calm.calls.len()).map(|index| calm.which(index)).collect();
    // Of the calls that merely make room in the shared memory of the database (eight writes of one byte, in each
    // scenario) the first and the last do by default.
    let sampled = setting(EXHAUSTIVE).is_none();
    let makes_room = |(call, k): &(Call, usize)| {
        let last = !all.contains(&(call.clone(), k + 1));
        call.path.ends_with("parole.db-shm") && *k > 1 && !last
    };
    let mut chosen: Vec<usize> = (0..all.len()).filter(|at| !sampled || !makes_room(&all[*at])).collect();
    if let (true, Some(sample)) = (sampled, S::SAMPLE) {
        let seed = match setting("PAROLE_SEED") {
            Some(text) => text.parse().map_err(because(format!("PAROLE_SEED={text}")))?,
            None => rand::random(),
        };
        drop(writeln!(std::io::stderr(), "PAROLE_SEED={seed}"));
        let amount = sample.min(chosen.len());
        let among = index::sample(&mut StdRng::seed_from_u64(seed), chosen.len(), amount);
        chosen = among.into_iter().map(|at| chosen[at]).collect();
        chosen.sort_unstable();
    }
    let (skipped, mut hidden, mut absent, mut left) = (all.len() - chosen.len(), 0, 0, Vec::new());
    let mut failures = Vec::new();
    for at in chosen {
        let (seen, (call, k)) = (&calm.calls[at], &all[at]);
        match tour.harm_one(seen, call, *k) {
            Ok(Try::Hit) => continue,
            Ok(Try::Absent) => {
                absent += 1;
                continue;
            }
            Ok(Try::Missed) => {}
            // Who wants to know all goes through all.
            Err(failure) if !sampled => {
                failures.push(failure);
                continue;
            }
            Err(failure) => return Err(failure),
        }
        if tour.scenario.is_hidden(call) {
            hidden += 1;
        } else {
            left.push(format!("{call} no. {k}"));
        }
    }
    tour.coverage.calls = all.len();
    tour.coverage.hidden = hidden;
    tour.coverage.skipped = skipped;
    let Coverage { calls, points, ends, .. } = &tour.coverage;
    let line = format!(
        "{}: {harm:?}: {calls} durable calls, {skipped} sampled out, {hidden} harmed elsewhere, {absent} not made again; \
         {points} runs ended {ends:?}",
        S::NAME
    );
    drop(writeln!(std::io::stderr(), "{line}"));
    let count = failures.len();
    if let Some(first) = failures.into_iter().next() {
        return Err(format!("{line}\n{count} calls are not survived; the first: {first}").into());
    }
    // Threads of a victim take turns, so a call may be there and out of reach of every number. Going through all of
    // them finds that; a sample only has to hit something.
    let hit = left.is_empty() || (sampled && tour.coverage.points > 0);
    ensure!(hit, "{line}\nnot harmed: {}", left.join(", "));
    Ok(tour.coverage)
}

/// The name under which the place is saved.
const BEFORE: &str = "before";

fn traced<S: Scenario>(place: &Place, scenario: &S, harm: Harm, aim: Option<&Aim>) -> Result<Traced, Failure> {
    let also = if harm == Harm::Kill { S::ALSO } else { &[] };
    trace_more(place, &scenario.victim(), aim.map(|aim| (harm, aim)), also, S::STAYS)
}

impl<S: Scenario> Tour<'_, S> {
    /// Harms one call.
    fn harm_one(&mut self, seen: &Seen, call: &Call, k: usize) -> Result<Try, Failure> {
        // An error is not for a `write` that wakes a thread: so these are aimed at by their path.
        let by_turn = seen.turn.filter(|_| self.harm == Harm::Kill || call.syscall != WRITE);
        let same_path = !seen.is_socket && (!call.path.contains('*') || call.path.starts_with("out"));
        let by_path = seen.turn_on_path.filter(|_| same_path);
        let aim = |n, path| Aim { syscall: call.syscall.clone(), n, path };
        let mut aims: Vec<Aim> = by_turn.map(|n| aim(n, None)).into_iter().collect();
        aims.extend(by_path.map(|n| aim(n, Some(seen.path.clone()))));
        if aims.is_empty() && same_path {
            // Two threads took turns: perhaps it is one the next time.
            aims.push(aim(k, Some(seen.path.clone())));
        }
        let attempts = if self.scenario.is_hidden(call) { ATTEMPTS_IF_HIDDEN } else { ATTEMPTS };
        let which = (call.clone(), k);
        let (mut calm, mut made) = (0, 0);
        for aim in aims.iter().cycle().take(if aims.is_empty() { 0 } else { attempts }) {
            if self.hit.contains(&which) {
                return Ok(Try::Hit);
            }
            self.place.restore(BEFORE)?;
            self.scenario.begin(self.place)?;
            let traced = traced(self.place, &self.scenario, self.harm, Some(aim))?;
            self.hit.extend(traced.harmed.iter().take(1).map(|index| traced.which(*index)));
            if traced.harmed.is_empty() {
                calm += 1;
                made += usize::from((0..traced.calls.len()).any(|index| traced.which(index) == which));
            }
            self.judge(&traced, &format!("{:?} at {aim}", self.harm))?;
        }
        Ok(match self.hit.contains(&which) {
            true => Try::Hit,
            false if calm > 0 && made == 0 => Try::Absent,
            false => Try::Missed,
        })
    }

    fn judge(&mut self, traced: &Traced, what: &str) -> Result<(), Failure> {
        let victim = &traced.ran;
        if !traced.harmed.is_empty() {
            self.coverage.points += 1;
            let end = victim.status.code().map_or("killed".to_owned(), |code| code.to_string());
            if setting(LIST).is_some() {
                drop(writeln!(std::io::stderr(), "  {what}: {end} after {:?}", victim.took));
            }
            *self.coverage.ends.entry(end).or_default() += 1;
        }
        self.verdict(traced).map_err(|failure| {
            let calls: Vec<String> = traced.calls.iter().map(|seen| seen.call.to_string()).collect();
            let harmed: Vec<String> =
                traced.harmed.iter().map(|index| format!("no. {} {}", index + 1, calls[*index])).collect();
            Failure::from(format!(
                "{}: {what}: {failure}\n--- harmed: {}\n--- its durable calls: {}\n--- the victim\n{}",
                S::NAME,
                harmed.join(", "),
                calls.join(" "),
                victim.report()
            ))
        })
    }

    fn verdict(&self, traced: &Traced) -> Result<(), Failure> {
        let (place, victim) = (self.place, &traced.ran);
        let code = victim.status.code();
        let done = code.is_some_and(|code| self.scenario.claims().contains(&code));
        // What it has printed counts, though it was killed right after.
        let said = done || (S::PRINTS_AT_THE_END && has_printed(victim));
        match (self.harm, traced.harmed.is_empty(), code) {
            (_, true, _) => ensure!(done, "it did not end as it should, though nothing was done to it"),
            (Harm::Kill, false, _) => {}
            (_, false, None) => return Err("an error of a system call killed it".into()),
            (_, false, Some(code)) => {
                ensure!(done || !victim.stderr.is_empty(), "it failed with exit code {code} and said nothing");
                if let (true, Some(call)) = (done, traced.passed_over(|call| self.scenario.is_told(call))) {
                    return Err(format!("a false success: {call} failed, and it ended with exit code {code}").into());
                }
                // Its output is lost: then it says so, and only the outcome of an execution may be its exit code.
                let mute = traced.harmed.iter().any(|index| traced.calls[*index].call.path == STDOUT);
                ensure!(
                    !mute || (code != exit::DONE && victim.err().contains("stdout")),
                    "its output is lost and it says nothing"
                );
            }
        }
        place.check()?;
        self.scenario.right_after(place, victim, said)?;
        self.scenario.finish(place, victim)
    }
}

/// Whether it was killed only after it had printed.
#[must_use]
pub fn has_printed(victim: &Ran) -> bool {
    victim.status.code().is_none() && !victim.stdout.is_empty()
}
