//! Schedules whose time comes, killed at every durable call: each time makes one execution, which runs once.

use std::cell::Cell;
use std::time::{Duration, Instant};

use parole_durable::sqlite::{SqliteStore, open_reader};
use parole_durable::state_dir::StateDir;
use parole_durable::{Store as _, Write, hub};
use serde_json::Value;

use crate::crash::{Listed, Place, User, exit, has_ended};
use crate::crash_acts::{Act as _, Sqlite};
use crate::crash_fire::Watcher;
use crate::crash_outside::{output, run_arguments, settled};
use crate::crash_points::Scenario;
use crate::crash_trace::Call;
use crate::ensure;
use crate::fixture::{Failure, Ran, because};

/// What each execution does: whoever does it twice makes two rows.
type Insert = Sqlite<true>;

const MINUTE: u64 = 60_000;

/// A schedule that is due.
struct Due {
    act: Insert,
    again: bool,
    began: Cell<u64>,
    /// Whether something was harmed already: the first time nothing is.
    harmed: Cell<bool>,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Due {
    fn prepare(place: &Place, again: bool) -> Result<Self, Failure> {
        let act = Insert::prepare(place)?;
        let mut run = run_arguments(place, &act.grants(), &act.call(false))?;
        run.extend(if again { words(&["--every", "* * * * *"]) } else { words(&["--at", "+1h"]) });
        place.run(&run)?.exits(exit::DONE)?;
        is_due(place)?;
        Ok(Self { act, again, began: Cell::new(0), harmed: Cell::new(false) })
    }

    /// How many times have come by now, at the most.
    fn most(&self) -> u64 {
        let minutes = hub::now() / MINUTE - self.began.get() / MINUTE;
        if self.again { 1 + minutes } else { 1 }
    }

    /// Every execution is one that the schedule knows of, and none has done its work twice.
    fn look(&self, place: &Place) -> Result<(Vec<Listed>, Value), Failure> {
        let schedule = schedules(place)?.pop().ok_or("the schedule is gone")?;
        let all = User::list(place)?;
        let (fired, count) = (schedule["fired"].as_u64(), all.len() as u64);
        ensure!(fired == Some(count), "{count} executions, and the schedule is {schedule}");
        ensure!(count <= self.most(), "{count} executions of {} times", self.most());
        let due = schedule["next_at"].as_u64();
        let moved_on = if self.again { due > Some(self.began.get()) } else { due.is_none() };
        ensure!((count > 0) == moved_on, "{count} executions, and the schedule is {schedule}");
        let newest = all.last().map(|one| one.id.clone());
        ensure!(schedule["last"].as_str() == newest.as_deref(), "the last of {all:?} is {schedule}");
        let times = self.act.times(place)?;
        ensure!(times <= all.len(), "{} executions have done it {times} times", all.len());
        Ok((all, schedule))
    }

    fn right_after(&self, place: &Place, done: bool) -> Result<(), Failure> {
        let (all, _) = self.look(place)?;
        let over = !all.is_empty() && all.iter().all(|one| has_ended(&one.state));
        ensure!(over || !done, "it said that it is done, and there is {all:?}");
        Ok(())
    }

    fn finish(&self, place: &Place, victim: &Ran) -> Result<(), Failure> {
        const ROUNDS: usize = 4;
        let may_fail = self.harmed.replace(true) && victim.status.code().is_some();
        for _ in 0..ROUNDS {
            place.run(&["resume", "--all", "--json"])?.exits(exit::DONE)?;
            let (all, _) = self.look(place)?;
            if all.iter().all(|one| has_ended(&one.state)) {
                ensure!(!all.is_empty(), "its time is lost");
                let mut done = 0;
                for one in &all {
                    let report = User::show(place, &one.id)?;
                    // Only if an error was put into the act's own files.
                    let failed = may_fail && output(&report).starts_with("failed\n");
                    settled(place, &one.id, if failed { output(&report) } else { Insert::SAYS })?;
                    done += usize::from(!failed);
                }
                let times = self.act.times(place)?;
                ensure!(times == done, "{done} executions say that they did it, it has happened {times} times");
                return Ok(());
            }
        }
        Err("it does not come to an end".into())
    }
}

fn schedules(place: &Place) -> Result<Vec<Value>, Failure> {
    match place.run(&["schedules", "--json"])?.exits(exit::DONE)?.json()? {
        Value::Array(all) => Ok(all),
        other => Err(format!("`schedules --json` prints no array: {other}").into()),
    }
}

/// Moves the time of all schedules back, so that nobody has to wait for it.
fn is_due(place: &Place) -> Result<(), Failure> {
    let failed = because("the store");
    let dir = StateDir::open(&place.state()).map_err(because("the state directory"))?;
    let records = open_reader(&dir).and_then(|reader| reader.schedules()?.all()).map_err(failed)?;
    let now = hub::now();
    let earlier = |record: &parole_durable::ScheduleRecord| Write::Reschedule {
        id: record.id,
        revision: record.revision,
        paused: false,
        next_at: Some((now / MINUTE - 1) * MINUTE),
        now,
    };
    let writes: Vec<Write> = records.iter().map(earlier).collect();
    let written = SqliteStore::open(&dir).and_then(|mut store| store.write(&writes)).map_err(because("the store"))?;
    ensure!(!written.is_empty() && written.iter().all(Result::is_ok), "not moved: {written:?}");
    Ok(())
}

macro_rules! due {
    () => {
        const PRINTS_AT_THE_END: bool = false;
        const SAMPLE: Option<usize> = Some(3);

        fn begin(&self, _: &Place) -> Result<(), Failure> {
            self.0.began.set(hub::now());
            Ok(())
        }

        fn claims(&self) -> &'static [i32] {
            &[exit::DONE]
        }

        fn is_told(&self, call: &Call) -> bool {
            Insert::is_told(call)
        }

        fn finish(&self, place: &Place, victim: &Ran) -> Result<(), Failure> {
            self.0.finish(place, victim)
        }
    };
}

/// `resume --all` when the one time of a schedule has come.
pub struct FireAt(Due);

impl Scenario for FireAt {
    const NAME: &'static str = "a schedule fires, --at";
    due!();

    fn prepare(place: &Place) -> Result<Self, Failure> {
        Due::prepare(place, false).map(Self)
    }

    fn victim(&self) -> Vec<String> {
        words(&["resume", "--all"])
    }

    fn right_after(&self, place: &Place, _: &Ran, done: bool) -> Result<(), Failure> {
        self.0.right_after(place, done)
    }
}

/// The same for one of many times.
pub struct FireEvery(Due);

impl Scenario for FireEvery {
    const NAME: &'static str = "a schedule fires, --every";
    due!();

    fn prepare(place: &Place) -> Result<Self, Failure> {
        Due::prepare(place, true).map(Self)
    }

    fn victim(&self) -> Vec<String> {
        words(&["resume", "--all"])
    }

    fn right_after(&self, place: &Place, _: &Ran, done: bool) -> Result<(), Failure> {
        self.0.right_after(place, done)
    }
}

/// `resume --all --watch`, which stays.
pub struct FireWatch(Due);

impl Scenario for FireWatch {
    const NAME: &'static str = "a schedule fires, --watch";
    const STAYS: Option<Duration> = Some(Duration::from_millis(1500));
    due!();

    fn prepare(place: &Place) -> Result<Self, Failure> {
        Due::prepare(place, true).map(Self)
    }

    fn victim(&self) -> Vec<String> {
        // What is killed is not to be started again.
        words(&["resume", "--all", "--watch", "--worker", "0"])
    }

    /// On a machine that is busy it may be asked to end before it has fired.
    fn right_after(&self, place: &Place, _: &Ran, _: bool) -> Result<(), Failure> {
        self.0.right_after(place, false)
    }
}

/// `run --at`: the schedule is made, or it is not.
pub struct Plan {
    act: Insert,
    victim: Vec<String>,
}

impl Scenario for Plan {
    const NAME: &'static str = "a schedule is made";
    const SAMPLE: Option<usize> = Some(3);

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let act = Insert::prepare(place)?;
        // So that it is compiled.
        place.run(&run_arguments(place, "", "look(\"/none\", 1)")?)?.exits(exit::DONE)?;
        let mut victim = run_arguments(place, &act.grants(), &act.call(false))?;
        victim.extend(words(&["--at", "+1h"]));
        Ok(Self { act, victim })
    }

    fn victim(&self) -> Vec<String> {
        self.victim.clone()
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn right_after(&self, place: &Place, _: &Ran, done: bool) -> Result<(), Failure> {
        let all = schedules(place)?;
        ensure!(all.len() <= 1 && (all.len() == 1 || !done), "made (done: {done}): {all:?}");
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        if schedules(place)?.is_empty() {
            place.run(&self.victim)?.exits(exit::DONE)?;
        }
        is_due(place)?;
        place.run(&["resume", "--all", "--json"])?.exits(exit::DONE)?;
        let all = User::list(place)?;
        ensure!(all.len() == 2, "one thing was scheduled, there are {all:?}");
        settled(place, &all[1].id, Insert::SAYS)?;
        ensure!(self.act.times(place)? == 1, "it was done otherwise");
        Ok(())
    }
}

/// Many schedules come due under the eyes of three processes, of which one is killed every now and then. Gives how
/// many were killed.
pub fn watched_by_three(schedules: usize) -> Result<usize, Failure> {
    let place = Place::new()?;
    let act = Insert::prepare(&place)?;
    let run = run_arguments(&place, &act.grants(), &act.call(false))?;
    for number in 0..schedules {
        let mut run = run.clone();
        run.extend(words(&["--at", &format!("+{}ms", 1500 + 90 * number)]));
        place.run(&run)?.exits(exit::DONE)?;
    }
    let mut watchers = Vec::new();
    for number in 0..3 {
        watchers.push(Watcher::start(&place, number)?);
    }
    let (mut kills, until) = (0, Instant::now() + Duration::from_secs(60));
    loop {
        std::thread::sleep(Duration::from_millis(rand::random_range(20..250)));
        let all = User::list(&place)?;
        ensure!(all.len() <= schedules, "{schedules} schedules made {all:?}");
        if all.len() == schedules && all.iter().all(|one| has_ended(&one.state)) {
            break;
        }
        ensure!(Instant::now() < until, "it does not come to an end: {all:?}");
        let number = kills % 3;
        watchers[number].is_alive()?;
        watchers[number] = Watcher::start(&place, number)?;
        kills += 1;
    }
    drop(watchers);
    for schedule in self::schedules(&place)? {
        ensure!(schedule["fired"] == 1 && schedule["next_at"].is_null(), "it has fired otherwise: {schedule}");
    }
    for one in User::list(&place)? {
        settled(&place, &one.id, Insert::SAYS)?;
    }
    let times = act.times(&place)?;
    ensure!(times == schedules, "{schedules} executions have done it {times} times");
    Ok(kills)
}
