//! What users do, each to be harmed at every durable call.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::crash::{Listed, Place, Resolved, Story, User, data, exit, fixture_guest, prebuilt};
use crate::crash_points::{Scenario, has_printed};
use crate::crash_trace::{Call, STDOUT};
use crate::ensure;
use crate::fixture::{Failure, Ran, because};

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

pub(crate) fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
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

    /// Two threads make and open the database at once, and one of them commits to it later.
    fn is_hidden(&self, call: &Call) -> bool {
        matches!(&*call.path, "state" | "state/parole.db" | "state/parole.db-wal") || hidden_in_the_cache(call)
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

/// Compiled guests, and the key of the cache, are written to files of random names, by threads that have woken others
/// before: neither a path nor a number can be aimed at. It is a cache, and what is half written there is thrown away.
fn hidden_in_the_cache(call: &Call) -> bool {
    call.path.starts_with("state/cache/")
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
            let there =
                created.iter().any(|one| *execution == one.id.as_str()) && promises.iter().any(|p| p["id"] == *promise);
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
            Resolved::Won if acknowledged => {
                return Err("an acknowledged resolution was lost: another one won after it".into());
            }
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
        let resolved =
            record["state"] == "resolved" && data(record).as_ref() == Some(&self.value) && record["settledAt"].is_u64();
        ensure!(
            resolved || (pending && !done),
            "after the resolution (done: {done}) it is {record}\n{}",
            victim.report()
        );
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
        ensure!(
            found == "one" || (found == OLD && !done),
            "the file holds {found:?} (done: {done})\n{}",
            victim.report()
        );
        let pending = User::promises(place, true)?.len();
        ensure!(
            pending <= 1 && (pending == 1 || !done),
            "{pending} promises are pending (done: {done})\n{}",
            victim.report()
        );
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
            ensure!(
                (1..=2).contains(&times) || mute,
                "{line:?} was shown {times} times: {shown:?}\n{}",
                victim.report()
            );
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
        sleep(Duration::from_millis(320));
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
