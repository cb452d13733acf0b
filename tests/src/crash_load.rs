//! Load to be killed in: executions that are started and answered and resumed by many processes at once.
//!
//! A [`Herd`] knows every process that runs at the moment, so that somebody can pick one and kill it. What the others
//! see of it goes into the book of a [`User`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::crash::{Listed, Place, Story, User, exit, prebuilt};
use crate::ensure;
use crate::fixture::{Failure, Ran, because};

/// How long one process of the herd may take.
const LIMIT: Duration = Duration::from_secs(90);
/// Executions that are under way at once.
const EXECUTIONS: usize = 10;
/// Processes that answer at once.
const RESOLVERS: usize = 3;
/// The pause between two commands of one actor: two cores are not to be filled up.
const PAUSE: Duration = Duration::from_millis(8);

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `run --detach`.
    Run,
    /// `promises`, `promise resolve`.
    Resolver,
    /// `resume --all --watch`.
    Resumer,
}

type Member = (Kind, Arc<Mutex<Child>>);

/// The processes that run at the moment.
#[derive(Default)]
pub struct Herd {
    running: Mutex<BTreeMap<usize, Member>>,
    next: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Herd {
    /// Runs a command until it ends or is killed.
    pub fn run(&self, place: &Place, kind: Kind, mut command: Command) -> Result<Ran, Failure> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let shown = format!("{command:?}");
        let output = |name: &str| -> Result<(PathBuf, File), Failure> {
            let path = place.root().with_file_name(format!("{number}.{name}"));
            let file = File::create(&path).map_err(because(path.display()))?;
            Ok((path, file))
        };
        let ((out, stdout), (err, stderr)) = (output("out")?, output("err")?);
        let start = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().map_err(because(&shown))?;
        let child = Arc::new(Mutex::new(child));
        lock(&self.running).insert(number, (kind, Arc::clone(&child)));
        let status = loop {
            let ended = lock(&child).try_wait().map_err(because(&shown))?;
            match ended {
                Some(status) => break Ok(status),
                None if kind != Kind::Resumer && start.elapsed() > LIMIT => {
                    break Err(Failure::from(format!("it hangs: {shown}")));
                }
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        lock(&self.running).remove(&number);
        let read = |path: &PathBuf| fs::read(path).map_err(because(path.display()));
        let (stdout, stderr) = (read(&out)?, read(&err)?);
        drop((fs::remove_file(out), fs::remove_file(err)));
        let status = status.inspect_err(|_| drop(lock(&child).kill()))?;
        Ok(Ran { command: shown, status, stdout, stderr, took: start.elapsed(), peak: 0 })
    }

    /// Kills one process of a kind. Says whether there was one.
    pub fn kill_one(&self, kind: Kind, random: &mut StdRng) -> bool {
        let mut alive: Vec<_> =
            lock(&self.running).values().filter(|(k, _)| *k == kind).map(|(_, c)| Arc::clone(c)).collect();
        while !alive.is_empty() {
            let child = alive.swap_remove(random.random_range(0..alive.len()));
            let mut child = lock(&child);
            if matches!(child.try_wait(), Ok(None)) && child.kill().is_ok() {
                return true;
            }
        }
        false
    }
}

/// What all actors share.
struct Stage<'p> {
    place: &'p Place,
    herd: Herd,
    user: Mutex<User>,
    /// Executions that were acknowledged.
    started: Mutex<Vec<String>>,
    starts: AtomicUsize,
    over: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

/// How a load test went.
#[derive(Debug)]
pub struct Summary {
    /// By kind of process.
    pub kills: BTreeMap<Kind, usize>,
    /// Executions in the end.
    pub executions: usize,
    /// Acknowledged settlements.
    pub acknowledged: usize,
}

/// Kills `crashes` processes at random moments of a load, then drives everything to its end and holds it against the book.
pub fn under_load(seed: u64, crashes: usize) -> Result<Summary, Failure> {
    let place = Place::new()?;
    // So that the guests are compiled, and the load is one of commits.
    for guest in ["greet", "two-waits"] {
        place.run(&["inspect".into(), prebuilt(guest)?])?.exits(exit::DONE)?;
    }
    let stage = Stage {
        place: &place,
        herd: Herd::default(),
        user: Mutex::default(),
        started: Mutex::default(),
        starts: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        failure: Mutex::default(),
    };
    let kills = thread::scope(|scope| {
        for number in 0..RESOLVERS {
            let stage = &stage;
            scope.spawn(move || stage.act(|| stage.resolver(number, seed)));
        }
        scope.spawn(|| stage.act(|| stage.starter()));
        scope.spawn(|| stage.act(|| stage.resumer()));
        let kills = stage.killer(seed, crashes);
        stage.over.store(true, Ordering::SeqCst);
        // It does not end by itself.
        let mut random = StdRng::seed_from_u64(seed);
        while stage.herd.kill_one(Kind::Resumer, &mut random) {
            thread::sleep(PAUSE);
        }
        kills
    });
    if let Some(failure) = lock(&stage.failure).take() {
        return Err(failure);
    }
    let kills = kills?;
    place.check()?;
    let mut user = stage.user.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut last = 0;
    user.finish(&place, |_| {
        last += 1;
        json!(format!("last {last}"))
    })?;
    user.settle_up(&place, story)?;
    let all = User::list(&place)?;
    for id in &*lock(&stage.started) {
        ensure!(all.iter().any(|one| one.id == *id), "the execution {id} was acknowledged and is gone");
    }
    Ok(Summary { kills, executions: all.len(), acknowledged: user.acknowledged.len() })
}

/// What a guest does is in its name: `two-waits-7.wasm` writes to `out-7`.
fn story(one: &Listed) -> (Story, Option<String>) {
    match one.guest.strip_prefix("two-waits-") {
        Some(rest) => (Story::TwoWaits, Some(format!("out-{}", rest.trim_end_matches(".wasm")))),
        None => (Story::Greet, None),
    }
}

impl Stage<'_> {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn act(&self, actor: impl FnOnce() -> Result<(), Failure>) {
        if let Err(failure) = actor() {
            self.over.store(true, Ordering::SeqCst);
            lock(&self.failure).get_or_insert(failure);
        }
    }

    /// Keeps ten executions under way.
    fn starter(&self) -> Result<(), Failure> {
        while !self.is_over() {
            thread::sleep(PAUSE);
            let listed = self.herd.run(self.place, Kind::Run, self.place.parole(&["ps", "--json"])?)?;
            if listed.status.code().is_none() {
                continue;
            }
            let open = listed.exits(exit::DONE)?.json()?.as_array().map_or(0, Vec::len);
            for _ in open..EXECUTIONS {
                self.start()?;
            }
        }
        Ok(())
    }

    fn start(&self) -> Result<(), Failure> {
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        let name = if number.is_multiple_of(2) { "greet" } else { "two-waits" };
        let guest = self.place.path(&format!("{name}-{number}.wasm"));
        fs::copy(prebuilt(name)?, &guest).map_err(because(guest.display()))?;
        let mut arguments =
            vec!["run".into(), guest.to_string_lossy().into_owned(), "--detach".into(), "--json".into()];
        // Not five minutes, should the machine be slow.
        arguments.push("--timeout=input=never".into());
        if name == "two-waits" {
            let out = format!("out-{number}");
            fs::create_dir(self.place.path(&out)).map_err(because(&out))?;
            arguments.push(format!("--allow-write=/out={out}"));
        }
        let ran = self.herd.run(self.place, Kind::Run, self.place.parole(&arguments)?)?;
        if ran.status.code().is_some() {
            let report = ran.exits(exit::SUSPENDED)?.json()?;
            let id = report["execution"].as_str().ok_or_else(|| format!("no execution\n{}", ran.report()))?;
            lock(&self.started).push(id.into());
        }
        Ok(())
    }

    /// Answers whatever is pending.
    fn resolver(&self, name: usize, seed: u64) -> Result<(), Failure> {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(1 + name as u64));
        let mut answers = 0;
        while !self.is_over() {
            thread::sleep(PAUSE);
            let listed =
                self.herd.run(self.place, Kind::Resolver, self.place.parole(&["promises", "--pending", "--json"])?)?;
            if listed.status.code().is_none() {
                continue;
            }
            let pending = listed.exits(exit::DONE)?.json()?;
            let Some(pending) = pending.as_array().filter(|pending| !pending.is_empty()) else { continue };
            let promise = pending[random.random_range(0..pending.len())]["id"].as_str().unwrap_or_default().to_owned();
            answers += 1;
            let value: Value = format!("answer {answers} of {name}").into();
            let command = self.place.parole(&User::resolution(&promise, &value))?;
            let ran = self.herd.run(self.place, Kind::Resolver, command)?;
            lock(&self.user).note(&promise, &value, &ran)?;
            ensure!(
                matches!(ran.status.code(), None | Some(exit::DONE | exit::FAILED)),
                "a resolver failed though it was not killed\n{}",
                ran.report()
            );
        }
        Ok(())
    }

    /// Resumes whatever becomes ready; started again when it is killed.
    fn resumer(&self) -> Result<(), Failure> {
        while !self.is_over() {
            let command = self.place.parole(&["resume", "--all", "--watch", "--quiet"])?;
            let ran = self.herd.run(self.place, Kind::Resumer, command)?;
            ensure!(ran.status.code().is_none(), "the resumer ended by itself\n{}", ran.report());
        }
        Ok(())
    }

    fn killer(&self, seed: u64, crashes: usize) -> Result<BTreeMap<Kind, usize>, Failure> {
        const ROUND: usize = 25;
        let mut random = StdRng::seed_from_u64(seed);
        let mut kills: BTreeMap<Kind, usize> = BTreeMap::new();
        let mut killed = 0;
        while killed < crashes && !self.is_over() {
            thread::sleep(Duration::from_micros(random.random_range(1_000..60_000)));
            let kind = [Kind::Run, Kind::Resolver, Kind::Resumer][random.random_range(0..3)];
            if self.herd.kill_one(kind, &mut random) {
                *kills.entry(kind).or_default() += 1;
                killed += 1;
                if killed % ROUND == 0 {
                    self.place.check().map_err(because(format!("after {killed} kills")))?;
                    drop(write!(std::io::stderr(), "{killed} "));
                }
            }
        }
        Ok(kills)
    }
}
