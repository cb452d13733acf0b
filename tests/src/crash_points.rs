//! Scenarios, and the machine that harms each of their durable calls in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::crash::{Listed, Place, Resolved, Story, User, data, exit, fixture_guest, prebuilt};
use crate::crash_trace::{Aim, Call, Harm, STDOUT, Seen, Traced, WRITE, trace};
use crate::ensure;
use crate::fixture::{Failure, Ran, because};

/// One thing that a user does, in a place where everything is ready for it.
pub trait Scenario: Sized {
    /// A word for reports.
    const NAME: &'static str;

    /// Whether the victim prints when it is done and not before.
    const PRINTS_AT_THE_END: bool = true;

    /// Brings a fresh place to the point right before.
    fn prepare(place: &Place) -> Result<Self, Failure>;

    /// The arguments of the program that is harmed.
    fn victim(&self) -> Vec<String>;

    /// Exit codes of the victim that say: done.
    fn claims(&self) -> &'static [i32];

    /// Whether a call is one that another thread of this scenario hides, so that no number hits it. It has to be
    /// harmed in another scenario.
    fn is_hidden(&self, _: &Call) -> bool {
        false
    }

    /// What has to hold right after the victim, before anybody else has been there; `done` if it has said so.
    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure>;

    /// What the user does then, up to the end, and what has to hold there.
    fn finish(&self, place: &Place, victim: &Ran) -> Result<(), Failure>;
}

/// What a person answers, by what is asked.
pub fn answer(promise: &Value) -> Value {
    let asked = promise["param"]["data"].as_str().unwrap_or_default();
    [("first?", "one"), ("second?", "two"), ("name", "Ada")]
        .into_iter()
        .find(|(part, _)| asked.contains(part))
        .map_or(json!(true), |(_, text)| text.into())
}

/// What the program says when its output goes nowhere: the journal has it, and nothing else can be asked for.
const MUTE: &str = "stdout could not be written";

/// Whether it was killed only after it had printed.
fn has_printed(victim: &Ran) -> bool {
    victim.status.code().is_none() && !victim.stdout.is_empty()
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(Into::into).to_vec()
}

fn path_text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(Into::into).ok_or_else(|| Failure::from(format!("{} is not UTF-8", path.display())))
}

/// `run --detach` of `greet`, in a state directory that does not exist yet.
pub struct CreateFresh(CreateAndWait);

/// `run --detach` of `greet`, in a state directory that is there and has never seen a guest.
pub struct CreateFirst(CreateAndWait);

/// `run --detach` of `greet`, in a state directory that has seen it before.
pub struct CreateAndWait {
    guest: String,
    /// What was there before.
    before: usize,
}

impl CreateAndWait {
    fn created(&self, place: &Place) -> Result<Vec<Listed>, Failure> {
        Ok(User::list(place)?.split_off(self.before))
    }
}

impl Scenario for CreateFresh {
    const NAME: &'static str = "create and wait, first use";

    fn prepare(_: &Place) -> Result<Self, Failure> {
        Ok(Self(CreateAndWait { guest: path_text(&prebuilt("greet")?)?, before: 0 }))
    }

    fn victim(&self) -> Vec<String> {
        self.0.victim()
    }

    fn claims(&self) -> &'static [i32] {
        self.0.claims()
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        self.0.right_after(place, victim, done)
    }

    fn finish(&self, place: &Place, victim: &Ran) -> Result<(), Failure> {
        self.0.finish(place, victim)
    }

    /// The thread that makes the database writes to it as well as the one that commits, and earlier.
    fn is_hidden(&self, call: &Call) -> bool {
        matches!(&*call.path, "state/parole.db" | "state/parole.db-wal") || hidden_in_the_cache(call)
    }
}

impl Scenario for CreateFirst {
    const NAME: &'static str = "create and wait, first run of a guest";

    fn prepare(place: &Place) -> Result<Self, Failure> {
        place.run(&["ps"])?.exits(exit::DONE)?;
        CreateFresh::prepare(place).map(|CreateFresh(create)| Self(create))
    }

    fn is_hidden(&self, call: &Call) -> bool {
        hidden_in_the_cache(call)
    }

    fn victim(&self) -> Vec<String> {
        self.0.victim()
    }

    fn claims(&self) -> &'static [i32] {
        self.0.claims()
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        self.0.right_after(place, victim, done)
    }

    fn finish(&self, place: &Place, victim: &Ran) -> Result<(), Failure> {
        self.0.finish(place, victim)
    }
}

/// Compiled guests are written to files of random names by a thread that has woken others before: neither a path nor
/// a number can be aimed at. It is a cache, and what is half written there is thrown away.
fn hidden_in_the_cache(call: &Call) -> bool {
    call.syscall == WRITE && call.path.starts_with("state/cache/")
}

impl Scenario for CreateAndWait {
    const NAME: &'static str = "create and wait";

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let guest = path_text(&prebuilt("greet")?)?;
        let mut user = User::default();
        User::start(place, &[&guest])?;
        user.finish(place, answer)?;
        Ok(Self { guest, before: 1 })
    }

    fn victim(&self) -> Vec<String> {
        strings(["run", &self.guest, "--detach", "--json"])
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::SUSPENDED]
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        let created = self.created(place)?;
        ensure!(created.len() <= 1, "one run made {} executions", created.len());
        let promises = User::promises(place, true)?;
        // One commit makes both, or neither is there.
        ensure!(promises.len() == created.len(), "executions {created:?}, promises {promises:?}");
        // It may have been unable to print.
        if done && !victim.stdout.is_empty() {
            let report = victim.json()?;
            let (execution, promise) = (&report["execution"], &report["pending"][0]["id"]);
            let there = created.iter().any(|one| *execution == one.id.as_str()) && promises.iter().any(|p| p["id"] == *promise);
            ensure!(there, "it was said to wait, and is not there\n{}", victim.report());
        }
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        let mut user = User::default();
        if self.created(place)?.is_empty() {
            // Nothing was acknowledged: the user runs it again.
            User::start(place, &[&self.guest])?;
        }
        user.finish(place, answer)?;
        let all = User::list(place)?;
        ensure!(all.len() == self.before + 1, "one thing was started, there are {all:?}");
        // The first one was answered before this user came.
        for record in User::promises(place, false)? {
            let id = record["id"].as_str().unwrap_or_default();
            user.tried.entry(id.into()).or_default().push(json!("Ada"));
        }
        user.settle_up(place, |_| (Story::Greet, None))
    }
}

/// `promise resolve` from another process.
pub struct Resolve {
    promise: String,
    value: Value,
    other: Value,
    story: Story,
}

impl Resolve {
    /// Both the value of the victim and that of the user who comes after it.
    fn settle(&self, place: &Place, victim: &Ran) -> Result<(), Failure> {
        let mut user = User::default();
        user.note(&self.promise, &self.value, victim)?;
        let acknowledged = victim.status.code() == Some(exit::DONE) || has_printed(victim);
        match user.resolve(place, &self.promise, &self.other)? {
            Resolved::Won if acknowledged => return Err("an acknowledged resolution was lost: another one won after it".into()),
            _ => {}
        }
        user.finish(place, answer)?;
        let story = self.story;
        user.settle_up(place, |_| (story, None))
    }
}

impl Scenario for Resolve {
    const NAME: &'static str = "resolve from another process";

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let (_, promise) = User::start(place, &[prebuilt("greet")?])?;
        Ok(Self { promise, value: json!("Ada"), other: json!("Grace"), story: Story::Greet })
    }

    fn victim(&self) -> Vec<String> {
        let mut arguments = User::resolution(&self.promise, &self.value);
        arguments.push("--json".into());
        arguments
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        let promises = User::promises(place, false)?;
        ensure!(promises.len() == 1, "not one promise: {promises:?}");
        let record = &promises[0];
        // Never half.
        let pending = record["state"] == "pending" && data(record).is_none() && record["settledAt"].is_null();
        let resolved = record["state"] == "resolved" && data(record).as_ref() == Some(&self.value) && record["settledAt"].is_u64();
        ensure!(resolved || (pending && !done), "after the resolution (done: {done}) it is {record}\n{}", victim.report());
        Ok(())
    }

    fn finish(&self, place: &Place, victim: &Ran) -> Result<(), Failure> {
        self.settle(place, victim)
    }
}

/// The same for an approval: D03.
pub struct ResolveApproval(Resolve);

impl Scenario for ResolveApproval {
    const NAME: &'static str = "resolve an approval (D03)";

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let guest = path_text(&fixture_guest("waits")?)?;
        let (_, promise) = User::start(place, &[&guest, "--invoke", "approve(\"go on?\")"])?;
        Ok(Self(Resolve { promise, value: json!(false), other: json!(true), story: Story::Approve }))
    }

    fn victim(&self) -> Vec<String> {
        self.0.victim()
    }

    fn claims(&self) -> &'static [i32] {
        self.0.claims()
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        self.0.right_after(place, victim, done)
    }

    fn finish(&self, place: &Place, victim: &Ran) -> Result<(), Failure> {
        self.0.finish(place, victim)
    }
}

/// `resume` of `greet`, answered, to its end.
pub struct Resume {
    execution: String,
    promise: String,
}

impl Scenario for Resume {
    const NAME: &'static str = "resume";
    const PRINTS_AT_THE_END: bool = false;

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let (execution, promise) = User::start(place, &[prebuilt("greet")?])?;
        User::default().resolve(place, &promise, &json!("Ada"))?;
        Ok(Self { execution, promise })
    }

    fn victim(&self) -> Vec<String> {
        strings(["resume", &self.execution])
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        shown_is_recorded(place, &self.execution, victim, done.then_some("completed"))
    }

    fn finish(&self, place: &Place, victim: &Ran) -> Result<(), Failure> {
        let mut user = User::default();
        user.acknowledged.insert(self.promise.clone(), json!("Ada"));
        // A terminal is a view: a crash may repeat the last flush there, never lose it.
        let again = place.run(&["resume", &self.execution])?;
        let shown = victim.out() + &again.out();
        let line = "Hello, Ada!\n";
        let repeats = victim.status.code() == Some(exit::DONE);
        let wanted = if repeats { vec![line.to_owned()] } else { vec![line.to_owned(), line.repeat(2)] };
        // An execution that has ended repeats its outcome; whether it repeats its output as well is its own affair.
        let mute = victim.err().contains(MUTE);
        ensure!(
            wanted.contains(&shown) || shown == line.repeat(2) || mute,
            "shown in all: {shown:?}\n{}\n{}",
            victim.report(),
            again.report()
        );
        user.finish(place, answer)?;
        user.settle_up(place, |_| (Story::Greet, None))
    }
}

/// What has been shown is in the journal; `outcome` is what the victim said.
fn shown_is_recorded(place: &Place, execution: &str, victim: &Ran, outcome: Option<&str>) -> Result<(), Failure> {
    let report = User::show(place, execution)?;
    let output = report["output"].as_str().unwrap_or_default();
    ensure!(output.starts_with(&victim.out()), "shown before it was recorded as {output:?}\n{}", victim.report());
    if let Some(outcome) = outcome {
        ensure!(report["outcome"] == outcome, "it said {outcome}, stored is {report}\n{}", victim.report());
    }
    Ok(())
}

/// `resume` of `two-waits`, answered once: writes a file and waits again.
pub struct WriteBetweenWaits {
    execution: String,
    first: String,
}

const OLD: &str = "what was there before, longer than what replaces it";

impl Scenario for WriteBetweenWaits {
    const NAME: &'static str = "write_file between two waits";

    fn prepare(place: &Place) -> Result<Self, Failure> {
        fs::create_dir(place.path("out")).map_err(because("out"))?;
        fs::write(place.path("out/first.txt"), OLD).map_err(because("out/first.txt"))?;
        let guest = path_text(&prebuilt("two-waits")?)?;
        let grant = format!("--allow-write=/out={}", path_text(&place.path("out"))?);
        let (execution, first) = User::start(place, &[&guest, &grant])?;
        User::default().resolve(place, &first, &json!("one"))?;
        Ok(Self { execution, first })
    }

    fn victim(&self) -> Vec<String> {
        strings(["resume", &self.execution, "--json"])
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::SUSPENDED]
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        let path = place.path("out/first.txt");
        let found = fs::read_to_string(&path).map_err(because(path.display()))?;
        ensure!(found == "one" || (found == OLD && !done), "the file holds {found:?} (done: {done})\n{}", victim.report());
        let pending = User::promises(place, true)?.len();
        ensure!(pending <= 1 && (pending == 1 || !done), "{pending} promises are pending (done: {done})\n{}", victim.report());
        // The second question is asked only when the file is there.
        ensure!(pending == 0 || found == "one", "it asks on, and the file is the old one");
        Ok(())
    }

    fn finish(&self, place: &Place, victim: &Ran) -> Result<(), Failure> {
        let mut user = User::default();
        user.acknowledged.insert(self.first.clone(), json!("one"));
        if victim.status.code() == Some(exit::FAILED) {
            // The guest was told that the write failed, and ended of it: an end, and recorded as such.
            return self.failed(place, victim);
        }
        user.finish(place, answer)?;
        user.settle_up(place, |_| (Story::TwoWaits, Some("out".into())))
    }
}

impl WriteBetweenWaits {
    fn failed(&self, place: &Place, victim: &Ran) -> Result<(), Failure> {
        place.check()?;
        let report = User::show(place, &self.execution)?;
        ensure!(report["outcome"] == "failed" && !report["error"].is_null(), "{report}\n{}", victim.report());
        let names = place.names("out")?;
        ensure!(names == ["first.txt"], "after a write that failed there is {names:?}\n{}", victim.report());
        // Another execution can write there.
        let guest = path_text(&prebuilt("two-waits")?)?;
        let grant = format!("--allow-write=/out={}", path_text(&place.path("out"))?);
        let mut user = User::default();
        User::start(place, &[&guest, &grant])?;
        user.finish(place, answer)?;
        let names = place.names("out")?;
        ensure!(names == ["first.txt", "second.txt"], "afterwards there is {names:?}");
        Ok(())
    }
}

/// `run` of `sleeper` from its start to its end, over a timer.
pub struct Sleep {
    guest: String,
    policy: String,
}

/// A run that cannot make its timer durable tries on until it would give up its memory: here soon.
const SLEEP_POLICY: &str = "level = \"restricted\"\n[limits]\npark_after_ms = 900\n";

impl Scenario for Sleep {
    const NAME: &'static str = "sleep";
    const PRINTS_AT_THE_END: bool = false;

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let guest = path_text(&prebuilt("sleeper")?)?;
        // So that it is compiled.
        User::start(place, &[&guest])?;
        User::default().finish(place, answer)?;
        let policy = place.path("policy.toml");
        fs::write(&policy, SLEEP_POLICY).map_err(because(policy.display()))?;
        Ok(Self { guest, policy: path_text(&policy)? })
    }

    fn victim(&self) -> Vec<String> {
        strings(["run", &self.guest, "--policy", &self.policy])
    }

    /// It may be another thread that wakes up, and then its first line and its last have the same turn.
    fn is_hidden(&self, call: &Call) -> bool {
        call.path == STDOUT
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        let all = User::list(place)?;
        ensure!(all.len() <= 2, "one run made {} executions", all.len() - 1);
        match all.get(1) {
            Some(one) => shown_is_recorded(place, &one.id, victim, done.then_some("completed")),
            None => {
                ensure!(!done && victim.out().is_empty(), "it did something and is not there\n{}", victim.report());
                Ok(())
            }
        }
    }

    fn finish(&self, place: &Place, victim: &Ran) -> Result<(), Failure> {
        let mut user = User::default();
        let mut shown = victim.out();
        match User::list(place)?.get(1) {
            None => shown = place.run(&self.victim())?.exits(exit::DONE)?.out(),
            // Resuming waits for what is left of the time.
            Some(one) => shown += &place.run(&["resume", &one.id])?.exits(exit::DONE)?.out(),
        }
        for line in ["before\n", "after\n"] {
            let times = shown.matches(line).count();
            let mute = times == 0 && victim.err().contains(MUTE);
            ensure!((1..=2).contains(&times) || mute, "{line:?} was shown {times} times: {shown:?}\n{}", victim.report());
        }
        user.finish(place, answer)?;
        user.settle_up(place, |_| (Story::Sleeper, None))
    }
}

/// The second half of it: `resume` of a sleeper whose time has come.
pub struct Wake {
    execution: String,
}

impl Scenario for Wake {
    const NAME: &'static str = "wake up after a sleep";
    const PRINTS_AT_THE_END: bool = false;

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let (execution, _) = User::start(place, &[prebuilt("sleeper")?])?;
        std::thread::sleep(std::time::Duration::from_millis(320));
        Ok(Self { execution })
    }

    fn victim(&self) -> Vec<String> {
        strings(["resume", &self.execution])
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        let report = User::show(place, &self.execution)?;
        let output = report["output"].as_str().unwrap_or_default();
        ensure!(output.ends_with(&victim.out()), "shown before it was recorded as {output:?}\n{}", victim.report());
        ensure!(!done || report["outcome"] == "completed", "it said completed, stored is {report}");
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        let mut user = User::default();
        user.finish(place, answer)?;
        user.settle_up(place, |_| (Story::Sleeper, None))
    }
}

/// `cancel` of an execution that waits.
pub struct Cancel {
    execution: String,
    promise: String,
}

impl Scenario for Cancel {
    const NAME: &'static str = "cancel";

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let (execution, promise) = User::start(place, &[prebuilt("greet")?])?;
        Ok(Self { execution, promise })
    }

    fn victim(&self) -> Vec<String> {
        strings(["cancel", &self.execution, "--json"])
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        let outcome = User::show(place, &self.execution)?["outcome"].clone();
        let state = User::promises(place, false)?[0]["state"].clone();
        let canceled = outcome == "canceled" && state == "rejected_canceled";
        let waiting = outcome == "suspended" && state == "pending";
        ensure!(canceled || (waiting && !done), "it is {outcome}, and what it waits for {state}\n{}", victim.report());
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        let again = place.run(&self.victim())?.status.code();
        ensure!(matches!(again, Some(exit::DONE | exit::REFUSED)), "canceling again ends with {again:?}");
        place.run(&User::resolution(&self.promise, &json!("late")))?.exits(exit::FAILED)?;
        place.run(&["resume", &self.execution])?.exits(exit::CANCELED)?;
        place.check()
    }
}

/// Any word after the time of a promise has come: it is settled then, and durably.
pub struct TimeOut {
    execution: String,
}

impl Scenario for TimeOut {
    const NAME: &'static str = "time-out";

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let (execution, _) = User::start(place, &[prebuilt("greet")?.as_os_str(), "--timeout=input=400ms".as_ref()])?;
        std::thread::sleep(std::time::Duration::from_millis(420));
        Ok(Self { execution })
    }

    fn victim(&self) -> Vec<String> {
        strings(["promises", "--json"])
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn right_after(&self, _: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        if done {
            let state = &victim.json()?[0]["state"];
            ensure!(state == "rejected_timedout", "its time has come, and it is {state}");
        }
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        let record = User::promises(place, false)?.remove(0);
        let expired = record["state"] == "rejected_timedout" && record["settledAt"] == record["timeoutAt"];
        ensure!(expired, "its time has come, and it is {record}");
        let ran = place.run(&["resume", &self.execution, "--json"])?;
        ensure!(ran.exits(exit::FAILED)?.json()?["outcome"] == "failed", "{}", ran.report());
        place.check()
    }
}

/// `gc`: one execution has ended, one waits.
pub struct Retention {
    ended: String,
    waits: String,
}

impl Scenario for Retention {
    const NAME: &'static str = "retention";

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let (ended, _) = User::start(place, &[prebuilt("greet")?])?;
        User::default().finish(place, answer)?;
        let (waits, _) = User::start(place, &[prebuilt("greet")?])?;
        Ok(Self { ended, waits })
    }

    fn victim(&self) -> Vec<String> {
        strings(["gc", "--older-than", "0", "--json"])
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn right_after(&self, place: &Place, _: &Ran, done: bool) -> Result<(), Failure> {
        let all: Vec<String> = User::list(place)?.into_iter().map(|one| one.id).collect();
        ensure!(all.contains(&self.waits), "what waits was removed");
        ensure!(!done || !all.contains(&self.ended), "what has ended was not removed");
        let promises = User::promises(place, false)?.len();
        ensure!(promises == all.len(), "{promises} promises of {} executions", all.len());
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        place.run(&self.victim())?.exits(exit::DONE)?;
        ensure!(User::list(place)?.len() == 1, "what has ended is still there");
        // Nobody runs anything, so nobody owns anything.
        let owners = place.names("state/owners")?;
        ensure!(owners.is_empty(), "lock files of the dead: {owners:?}");
        // It needs the component that it shared with the other one.
        let mut user = User::default();
        user.finish(place, answer)?;
        user.settle_up(place, |_| (Story::Greet, None))
    }
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

/// Set to go through every call by default too: without it, of the calls that merely make room in the shared memory
/// of the database (eight writes of one byte, in each scenario) the first and the last are harmed.
const EXHAUSTIVE: &str = "PAROLE_EXHAUSTIVE";

/// How often a call is aimed at until it is hit: the threads of a run do not share the work in the same way each time.
const ATTEMPTS: usize = 6;

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
    place.save()?;
    let calm = trace(&place, &scenario.victim(), None)?;
    let mut tour = Tour { place: &place, scenario, harm, hit: BTreeSet::new(), coverage: Coverage::default() };
    tour.judge(&calm, "nothing")?;
    let all: Vec<(Call, usize)> = (0..calm.calls.len()).map(|index| calm.which(index)).collect();
    let (mut skipped, mut hidden, mut left) = (0, 0, Vec::new());
    for (seen, (call, k)) in calm.calls.iter().zip(&all) {
        let last = !all.contains(&(call.clone(), k + 1));
        if std::env::var_os(EXHAUSTIVE).is_none() && call.path.ends_with("parole.db-shm") && *k > 1 && !last {
            skipped += 1;
        } else if tour.harm_one(seen, call, *k)? {
        } else if tour.scenario.is_hidden(call) {
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
        "{}: {harm:?}: {calls} durable calls, {skipped} sampled out, {hidden} harmed elsewhere; {points} runs ended {ends:?}",
        S::NAME
    );
    drop(writeln!(std::io::stderr(), "{line}"));
    ensure!(left.is_empty(), "{line}\nnot harmed: {}", left.join(", "));
    Ok(tour.coverage)
}

impl<S: Scenario> Tour<'_, S> {
    /// Harms one call. Says whether it was hit.
    fn harm_one(&mut self, seen: &Seen, call: &Call, k: usize) -> Result<bool, Failure> {
        // An error is not for a `write` that wakes a thread: so these are aimed at by their path.
        let by_turn = seen.turn.filter(|_| self.harm == Harm::Kill || call.syscall != WRITE);
        let same_path = !call.path.contains('*') || call.path.starts_with("out");
        let by_path = seen.turn_on_path.filter(|_| same_path);
        let aim = |n, path| Aim { syscall: call.syscall.clone(), n, path };
        let mut aims: Vec<Aim> = by_turn.map(|n| aim(n, None)).into_iter().collect();
        aims.extend(by_path.map(|n| aim(n, Some(seen.path.clone()))));
        if aims.is_empty() && same_path {
            // Two threads took turns: perhaps it is one the next time.
            aims.push(aim(k, Some(seen.path.clone())));
        }
        for aim in aims.iter().cycle().take(if aims.is_empty() { 0 } else { ATTEMPTS }) {
            if self.hit.contains(&(call.clone(), k)) {
                return Ok(true);
            }
            self.place.restore()?;
            let traced = trace(self.place, &self.scenario.victim(), Some((self.harm, aim)))?;
            self.hit.extend(traced.harmed.iter().take(1).map(|index| traced.which(*index)));
            self.judge(&traced, &format!("{:?} at {aim}", self.harm))?;
        }
        Ok(self.hit.contains(&(call.clone(), k)))
    }

    fn judge(&mut self, traced: &Traced, what: &str) -> Result<(), Failure> {
        let victim = &traced.ran;
        if !traced.harmed.is_empty() {
            self.coverage.points += 1;
            let end = victim.status.code().map_or("killed".to_owned(), |code| code.to_string());
            if std::env::var_os(LIST).is_some() {
                drop(writeln!(std::io::stderr(), "  {what}: {end} after {:?}", victim.took));
            }
            *self.coverage.ends.entry(end).or_default() += 1;
        }
        self.verdict(traced).map_err(|failure| {
            let calls: Vec<String> = traced.calls.iter().map(|seen| seen.call.to_string()).collect();
            let harmed: Vec<String> = traced.harmed.iter().map(|index| format!("no. {} {}", index + 1, calls[*index])).collect();
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
                if let (true, Some(call)) = (done, traced.passed_over()) {
                    return Err(format!("a false success: {call} failed, and it ended with exit code {code}").into());
                }
                // Its output is lost: then it says so, and only the outcome of an execution may be its exit code.
                let mute = traced.harmed.iter().any(|index| traced.calls[*index].call.path == STDOUT);
                ensure!(!mute || (code != exit::DONE && victim.err().contains("stdout")), "its output is lost and it says nothing");
            }
        }
        place.check()?;
        self.scenario.right_after(place, victim, said)?;
        self.scenario.finish(place, victim)
    }
}
