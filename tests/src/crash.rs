//! What the crash tests share: a place with a state directory, the words of the program as a user says them, and
//! the one check that everything has to pass in the end.
//!
//! A [`Place`] is driven by killing or failing the program somewhere, and then finished by a [`User`] who knows
//! nothing of that: lists what is there, answers what is asked, resumes what is suspended. The user keeps book of
//! every acknowledgement, and [`User::settle_up`] compares the book with the journal, the promises and the files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use parole_durable::sqlite::open_reader;
use parole_durable::state_dir::StateDir;
use serde_json::Value;
use tempfile::TempDir;

use crate::ensure;
use crate::fixture::{Failure, Ran, because, parole_binary};

/// How long one run of the program may take; a hang is a failure.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Set to leave nothing out of what is sampled by default, and to hold the lock of the store for 30 s.
pub const EXHAUSTIVE: &str = "PAROLE_EXHAUSTIVE";

/// A variable that whoever runs the tests has set.
#[expect(clippy::disallowed_methods, reason = "a test is told by its environment how far it goes")]
#[must_use]
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Exit codes of the program (design section 7).
pub mod exit {
    /// Completed, or done.
    pub const DONE: i32 = 0;
    /// The guest failed; of `promise resolve`: another settlement stands.
    pub const FAILED: i32 = 1;
    /// Usage: also an id that does not exist.
    pub const USAGE: i32 = 2;
    /// The host or the store failed.
    pub const INTERNAL: i32 = 70;
    /// Resume refused.
    pub const REFUSED: i32 = 73;
    /// Suspended.
    pub const SUSPENDED: i32 = 75;
    /// Canceled.
    pub const CANCELED: i32 = 76;
}

/// A directory with a state directory and everything else that a scenario needs, at a path that stays the same when
/// it is put back to how it was.
pub struct Place {
    _temporary: TempDir,
    root: PathBuf,
}

impl Place {
    /// An empty one.
    pub fn new() -> Result<Self, Failure> {
        let temporary = tempfile::Builder::new().prefix("parole-crash-").tempdir().map_err(because("a directory"))?;
        let base = temporary.path().canonicalize().map_err(because("a directory"))?;
        let root = base.join("now");
        fs::create_dir(&root).map_err(because(root.display()))?;
        Ok(Place { _temporary: temporary, root })
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The place itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Remembers how it is now, under a name. No process may be at work in it.
    pub fn save(&self, name: &str) -> Result<(), Failure> {
        let saved = self.saved(name);
        if saved.exists() {
            fs::remove_dir_all(&saved).map_err(because(saved.display()))?;
        }
        copy(&self.root, &saved)
    }

    /// Puts it back to how it was: the same ids and secrets, so the same names for everything that is derived from them.
    pub fn restore(&self, name: &str) -> Result<(), Failure> {
        fs::remove_dir_all(&self.root).map_err(because("putting the place back"))?;
        copy(&self.saved(name), &self.root)
    }

    /// Where it is remembered.
    #[must_use]
    pub fn saved(&self, name: &str) -> PathBuf {
        self.root.with_file_name(format!("saved-{name}"))
    }

    /// The program, with nothing of our environment.
    pub fn parole<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Result<Command, Failure> {
        let mut command = Command::new(parole_binary()?);
        self.surround(&mut command).args(arguments);
        Ok(command)
    }

    /// Gives a command the environment of the program.
    pub fn surround<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env_clear().current_dir(&self.root);
        command.env("HOME", self.path("home")).env("PAROLE_STATE", self.state())
    }

    /// Runs the program to its end.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Result<Ran, Failure> {
        Ran::new(&mut self.parole(arguments)?, None, LIMIT)
    }

    /// Checks the whole store, if there is one: structure, checksums, references.
    pub fn check(&self) -> Result<(), Failure> {
        if !self.state().join("parole.db").exists() {
            return Ok(());
        }
        let dir = StateDir::open(&self.state()).map_err(because("the state directory"))?;
        let reader = open_reader(&dir).map_err(because("the store cannot be read"))?;
        let faults = reader.check().map_err(because("the store cannot be checked"))?;
        ensure!(faults.is_empty(), "the store is damaged:\n{}", faults.join("\n"));
        Ok(())
    }

    /// What lies in a directory, hidden files too.
    pub fn names(&self, directory: &str) -> Result<Vec<String>, Failure> {
        let path = self.path(directory);
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(because(path.display()))? {
            names.push(entry.map_err(because(path.display()))?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

/// Copies a directory with all that is in it.
pub fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |path: &Path| because(format!("copying {}", path.display()));
    fs::create_dir(to).map_err(failed(to))?;
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let entry = entry.map_err(failed(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(failed(&source))?.is_dir() {
            copy(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(failed(&source))?;
        }
    }
    // Last: the mode may forbid to write into it.
    let mode = fs::metadata(from).map_err(failed(from))?.permissions();
    fs::set_permissions(to, mode).map_err(failed(to))
}

/// A guest that was built before.
pub fn prebuilt(name: &str) -> Result<PathBuf, Failure> {
    below_the_workspace("guest-examples/prebuilt", &format!("{name}.wasm"))
}

/// A guest of the fixtures.
pub fn fixture_guest(name: &str) -> Result<PathBuf, Failure> {
    below_the_workspace("tests/fixtures", &format!("{name}/guest.wat"))
}

/// The guest of the tests that kill what acts on the outside: `crash_guest.wat`.
pub fn acting_guest() -> Result<PathBuf, Failure> {
    below_the_workspace("tests/src", "crash_guest.wat")
}

fn below_the_workspace(directory: &str, name: &str) -> Result<PathBuf, Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let path = root.join(directory).join(name);
    ensure!(path.is_file(), "{} is missing", path.display());
    Ok(path)
}

/// What a guest asks and does, as far as the check at the end needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// `greet.wasm`: one input, one line.
    Greet,
    /// `two-waits.wasm`: an input, a file, an input, a file, two lines.
    TwoWaits,
    /// `sleeper.wasm`: a line, a timer, a line.
    Sleeper,
    /// `approve("…")` of the fixture `waits`: one approval, one line.
    Approve,
}

impl Story {
    /// The steps of the journal when it is over, runs of output merged.
    fn steps(self) -> &'static [&'static str] {
        match self {
            Story::Greet => &["input", "output"],
            Story::TwoWaits => &["input", "write_file", "input", "write_file", "output"],
            Story::Sleeper => &["output", "sleep", "output"],
            Story::Approve => &["approve", "output"],
        }
    }

    /// The output for the answers that it got.
    fn output(self, answers: &[Value]) -> String {
        let text = |n: usize| answers.get(n).and_then(Value::as_str).unwrap_or("?").to_owned();
        match self {
            Story::Greet => format!("Hello, {}!\n", text(0)),
            Story::TwoWaits => format!("{}\n{}\n", text(0), text(1)),
            Story::Sleeper => "before\nafter\n".into(),
            Story::Approve => format!("{}\n", answers.first().unwrap_or(&Value::Null)),
        }
    }

    /// How many promises it makes.
    fn promises(self) -> usize {
        match self {
            Story::TwoWaits => 2,
            _ => 1,
        }
    }
}

/// One execution as `ps --all --json` lists it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// `running`, `suspended`, or its outcome.
    pub state: String,
    /// The name of the guest.
    pub guest: String,
}

/// A person with the program and a good memory.
#[derive(Debug, Default)]
pub struct User {
    /// By promise: the value that was acknowledged.
    pub acknowledged: BTreeMap<String, Value>,
    /// By promise: values whose resolution was killed or failed, of which one may stand.
    pub tried: BTreeMap<String, Vec<Value>>,
}

/// What a `promise resolve` came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// Exit 0: it stands.
    Won,
    /// Exit 1: another one stands.
    Lost,
    /// It was killed, or said that it failed.
    Unknown,
}

impl User {
    /// Everything that there is.
    pub fn list(place: &Place) -> Result<Vec<Listed>, Failure> {
        let ran = place.run(&["ps", "--all", "--json"])?;
        let all = ran.exits(exit::DONE)?.json()?;
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let rows = all.as_array().ok_or_else(|| format!("`ps --json` prints no array\n{}", ran.report()))?;
        let row =
            |row: &Value| Listed { id: text(row, "execution"), state: text(row, "state"), guest: text(row, "guest") };
        Ok(rows.iter().map(row).collect())
    }

    /// The promises, all or the pending ones.
    pub fn promises(place: &Place, pending: bool) -> Result<Vec<Value>, Failure> {
        let arguments: &[&str] = if pending { &["promises", "--pending", "--json"] } else { &["promises", "--json"] };
        match place.run(arguments)?.exits(exit::DONE)?.json()? {
            Value::Array(promises) => Ok(promises),
            other => Err(format!("`promises --json` prints no array: {other}").into()),
        }
    }

    /// The report of an execution.
    pub fn show(place: &Place, id: &str) -> Result<Value, Failure> {
        let ran = place.run(&["show", id, "--json"])?;
        // Its exit code is that of the execution, or 0: not what is looked at here.
        ran.json()
    }

    /// Starts a guest and leaves it at its first wait. Gives the execution and the promise.
    pub fn start<S: AsRef<std::ffi::OsStr>>(place: &Place, guest: &[S]) -> Result<(String, String), Failure> {
        let mut arguments: Vec<&std::ffi::OsStr> = vec!["run".as_ref(), "--detach".as_ref(), "--json".as_ref()];
        arguments.extend(guest.iter().map(AsRef::as_ref));
        let ran = place.run(&arguments)?;
        let report = ran.exits(exit::SUSPENDED)?.json()?;
        match (report["execution"].as_str(), report["pending"][0]["id"].as_str()) {
            (Some(execution), Some(promise)) => Ok((execution.into(), promise.into())),
            _ => Err(format!("it waits for nothing\n{}", ran.report()).into()),
        }
    }

    /// The arguments of a resolution.
    #[must_use]
    pub fn resolution(promise: &str, value: &Value) -> Vec<String> {
        let (flag, text) = match value {
            Value::String(text) => ("--data", text.clone()),
            other => ("--value", other.to_string()),
        };
        ["promise", "resolve", promise, flag, &text].map(Into::into).to_vec()
    }

    /// Resolves a promise.
    pub fn resolve(&mut self, place: &Place, promise: &str, value: &Value) -> Result<Resolved, Failure> {
        let ran = place.run(&Self::resolution(promise, value))?;
        let resolved = self.note(promise, value, &ran)?;
        ensure!(resolved != Resolved::Unknown, "a resolution failed though nothing was wrong\n{}", ran.report());
        Ok(resolved)
    }

    /// Keeps book of a resolution.
    pub fn note(&mut self, promise: &str, value: &Value, ran: &Ran) -> Result<Resolved, Failure> {
        match ran.status.code() {
            Some(exit::DONE) => {
                if let Some(before) = self.acknowledged.insert(promise.into(), value.clone()) {
                    return Err(
                        format!("{promise} was acknowledged twice: {before} and {value}\n{}", ran.report()).into()
                    );
                }
                Ok(Resolved::Won)
            }
            Some(exit::FAILED) => Ok(Resolved::Lost),
            _ => {
                self.tried.entry(promise.into()).or_default().push(value.clone());
                Ok(Resolved::Unknown)
            }
        }
    }

    /// Answers and resumes until every execution has ended: what a person would do after a crash. `answer` gives the
    /// value for a promise record.
    pub fn finish(&mut self, place: &Place, mut answer: impl FnMut(&Value) -> Value) -> Result<(), Failure> {
        const ROUNDS: usize = 12;
        for _ in 0..ROUNDS {
            for promise in Self::promises(place, true)? {
                let timer = promise["tags"]["resonate:timer"] == "true";
                if let (false, Some(id)) = (timer, promise["id"].as_str()) {
                    let value = answer(&promise);
                    self.resolve(place, id, &value)?;
                }
            }
            let open: Vec<_> = Self::list(place)?.into_iter().filter(|one| !has_ended(&one.state)).collect();
            if open.is_empty() {
                return Ok(());
            }
            for one in open {
                let ran = place.run(&["resume", &one.id])?;
                let code = ran.status.code();
                ensure!(
                    matches!(code, Some(exit::DONE | exit::SUSPENDED | exit::FAILED | exit::CANCELED)),
                    "what was left after a crash cannot be resumed\n{}",
                    ran.report()
                );
            }
        }
        Err(format!("it does not come to an end in {ROUNDS} rounds: {:?}", Self::list(place)?).into())
    }

    /// Holds the book against what is stored, once everything has ended: nothing lost, nothing doubled. `story` says
    /// what the guest of that name does, and where it writes.
    pub fn settle_up(&self, place: &Place, story: impl Fn(&Listed) -> (Story, Option<String>)) -> Result<(), Failure> {
        place.check()?;
        let promises = Self::promises(place, false)?;
        for (id, value) in &self.acknowledged {
            let record = promises.iter().find(|record| record["id"] == id.as_str());
            let record = record.ok_or_else(|| format!("{id} was acknowledged and is gone"))?;
            ensure!(data(record) == Some(value.clone()), "{id} was acknowledged as {value}, stored is {record}");
        }
        let all = Self::list(place)?;
        for one in &all {
            let (story, out) = story(one);
            let own: Vec<&Value> = promises.iter().filter(|record| record["execution"] == one.id.as_str()).collect();
            self.settle_one(place, one, story, &own)
                .map_err(because(format!("execution {} ({})", one.id, one.guest)))?;
            if let Some(out) = out {
                let contents = |n: usize| data(own[n]).and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
                let wanted = [("first.txt", contents(0)), ("second.txt", contents(1))];
                files(place, &out, &wanted).map_err(because(format!("execution {} ({})", one.id, one.guest)))?;
            }
        }
        let strangers: Vec<_> =
            promises.iter().filter(|p| !all.iter().any(|one| p["execution"] == one.id.as_str())).collect();
        ensure!(strangers.is_empty(), "promises of executions that do not exist: {strangers:?}");
        Ok(())
    }

    fn settle_one(&self, place: &Place, one: &Listed, story: Story, promises: &[&Value]) -> Result<(), Failure> {
        let wanted = story.promises();
        ensure!(promises.len() == wanted, "{} promises, not {wanted}: {promises:?}", promises.len());
        let mut answers = Vec::new();
        for record in promises {
            let id = record["id"].as_str().unwrap_or_default();
            ensure!(record["state"] == "resolved", "a promise is not resolved: {record}");
            if record["tags"]["resonate:timer"] == "true" {
                ensure!(record["settledAt"] == record["timeoutAt"], "a timer was not settled by its time: {record}");
                continue;
            }
            let value = data(record).ok_or_else(|| format!("an answer is not JSON: {record}"))?;
            let known =
                self.acknowledged.get(id) == Some(&value) || self.tried.get(id).is_some_and(|all| all.contains(&value));
            ensure!(known, "nobody ever gave that answer: {record}");
            answers.push(value);
        }
        let output = story.output(&answers);
        let shown = Self::show(place, &one.id)?;
        ensure!(shown["outcome"] == "completed", "it ended otherwise: {shown}");
        ensure!(shown["output"] == output.as_str(), "its output is {}, not {output:?}", shown["output"]);
        ensure!(shown["pending"] == Value::Array(Vec::new()), "it ended and waits: {shown}");
        self.settle_journal(place, &one.id, story, &output)
    }

    fn settle_journal(&self, place: &Place, id: &str, story: Story, output: &str) -> Result<(), Failure> {
        let ran = place.run(&["journal", id, "--json"])?;
        let journal = ran.exits(exit::DONE)?.json()?;
        let mut functions: Vec<&str> = Vec::new();
        for step in journal.as_array().map(Vec::as_slice).unwrap_or_default() {
            let function = step["function"].as_str().unwrap_or_default();
            if function != "output" || functions.last() != Some(&"output") {
                functions.push(function);
            }
            ensure!(step["state"] == "delivered", "a step of an ended execution was not delivered: {step}");
        }
        ensure!(functions == story.steps(), "its steps are {functions:?}, not {:?}\n{journal}", story.steps());
        // What has ended repeats its outcome, and its journal gives the same once more.
        let again = place.run(&["resume", id, "--json"])?;
        let report = again.exits(exit::DONE)?.json()?;
        ensure!(report["output"] == output, "resumed after its end it says {report}");
        place.run(&["replay", id])?.exits(exit::DONE)?;
        Ok(())
    }
}

/// Whether a state of `ps` is an end.
#[must_use]
pub fn has_ended(state: &str) -> bool {
    !matches!(state, "running" | "suspended")
}

/// The answer in a promise record.
#[must_use]
pub fn data(record: &Value) -> Option<Value> {
    record["value"]["data"].as_str().and_then(|text| serde_json::from_str(text).ok())
}

/// A directory holds these files and nothing else: no half ones, no temporary ones.
pub fn files(place: &Place, directory: &str, wanted: &[(&str, String)]) -> Result<(), Failure> {
    let names = place.names(directory)?;
    let expected: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
    ensure!(names == expected, "{directory} holds {names:?}, not {expected:?}");
    for (name, text) in wanted {
        let path = place.path(directory).join(name);
        let found = fs::read_to_string(&path).map_err(because(path.display()))?;
        ensure!(found == *text, "{} holds {found:?}, not {text:?}", path.display());
    }
    Ok(())
}
