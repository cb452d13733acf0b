//! Two processes watch one state directory, and bad things happen to them: they are killed at any moment, and the disk of
//! one fails or is full for a while. Meanwhile schedules come due, people answer, and things are sent that must be sent once.
//!
//! After some kills nothing more is done to them, and whatever can go on has to be at its end soon: nothing waits for an
//! owner who is dead or has forgotten it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::crash::{Place, Resolved, User, exit, has_ended};
use crate::crash_acts::{Act as _, Post};
use crate::crash_outside::{id_of, run_arguments, settled};
use crate::ensure;
use crate::fixture::{Failure, Ran, because, parole_binary, strace};

/// After so many kills it is quiet until everything that can has ended.
const ROUND: usize = 8;
/// Executions that are begun in a round.
const BEGUN: usize = 8;
/// How long a request that was sent may take to be counted.
const ARRIVES: Duration = Duration::from_millis(150);
/// A quiet time may take this long, however slow the machine is.
const LIMIT: Duration = Duration::from_secs(60);

/// What is done to the disk of a process: the system call, the error, and at which of its calls it begins.
const FAULTS: [(&str, &str); 3] = [("fdatasync", "EIO"), ("pwrite64", "ENOSPC"), ("pwrite64", "EIO")];

/// A process that watches.
struct Watch {
    child: Child,
    log: PathBuf,
    /// What strace says of its disk, if that may fail.
    disk: Option<PathBuf>,
}

impl Watch {
    fn start(place: &Place, number: usize, fault: Option<String>) -> Result<Self, Failure> {
        let log = place.root().with_file_name(format!("watch-{number}.log"));
        let file = File::create(&log).map_err(because(log.display()))?;
        let second = file.try_clone().map_err(because(log.display()))?;
        let disk = fault.is_some().then(|| log.with_extension("disk"));
        let mut command = match (fault, &disk) {
            (Some(fault), Some(disk)) => {
                let mut command = Command::new(strace().ok_or("strace is missing: apt-get install strace")?);
                command.args(["-f", "-ttt", "-qq", "-s", "0", "-e", "signal=none", "-e", "trace=fdatasync,pwrite64"]);
                command.arg("-e").arg(fault).arg("-o").arg(disk).arg(parole_binary()?);
                command
            }
            _ => Command::new(parole_binary()?),
        };
        place.surround(command.args(["resume", "--all", "--watch"]));
        command.stdin(Stdio::null()).stdout(file).stderr(second).process_group(0);
        let child = command.spawn().map_err(because("starting the program"))?;
        Ok(Self { child, log, disk })
    }

    /// It does not end by itself, whatever its disk does.
    fn is_alive(&mut self) -> Result<(), Failure> {
        let state = self.child.try_wait().map_err(because("waiting"))?;
        let said = || fs::read_to_string(&self.log).unwrap_or_default();
        ensure!(state.is_none(), "a process that watches has ended by itself: {state:?}\n{}", said());
        Ok(())
    }

    /// How long ago its disk failed last.
    fn well_for(&self) -> Result<Duration, Failure> {
        let Some(disk) = &self.disk else { return Ok(Duration::MAX) };
        let said = fs::read_to_string(disk).unwrap_or_default();
        let last = said.lines().rev().find(|line| line.contains("(INJECTED)"));
        let Some(at) = last.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()) else {
            return Ok(Duration::MAX);
        };
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_err(because("the time"))?;
        Ok(now.saturating_sub(Duration::from_secs_f64(at)))
    }

    /// The program and those that it has started, the program first.
    fn processes(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = all.get(next).copied() {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            for task in tasks {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
            next += 1;
        }
        if self.disk.is_some() {
            all.remove(0);
        }
        all
    }

    /// Kills one of its processes. Says whether all of it is gone by that.
    fn kill_one(&self, random: &mut StdRng) -> Result<bool, Failure> {
        let all = self.processes();
        ensure!(!all.is_empty(), "strace traces nothing");
        let one = random.random_range(0..all.len());
        let killed = Command::new("/bin/kill").args(["-KILL", &all[one].to_string()]).stderr(Stdio::null()).status();
        killed.map_err(because("kill"))?;
        Ok(one == 0)
    }
}

/// With whatever it has started.
impl Drop for Watch {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        drop(Command::new("/bin/kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status());
        drop((self.child.kill(), self.child.wait()));
    }
}

/// How it went.
#[derive(Debug, Default)]
pub struct Summary {
    /// Processes that were killed.
    pub kills: usize,
    /// Watchers whose disk failed for a while.
    pub faults: usize,
    /// Things that were sent, each once.
    pub sent: usize,
    /// Calls that were in doubt.
    pub doubts: usize,
    /// The longest that anything took to its end in a quiet time, the 80 ms of its request among it.
    pub longest: Duration,
}

struct Chaos<'p> {
    place: &'p Place,
    post: &'p Post<false>,
    random: StdRng,
    watches: Vec<Watch>,
    started: usize,
    /// The things that somebody has asked for and was told that they will be.
    things: Vec<String>,
    summary: Summary,
}

/// Kills so many processes.
pub fn chaos(seed: u64, kills: usize, patience: Duration) -> Result<Summary, Failure> {
    let place = Place::new()?;
    let post = <Post<false>>::prepare(&place)?;
    post.server.think(80);
    // So that it is compiled.
    place.run(&run_arguments(&place, "", "look(\"/none\", 1)")?)?.exits(exit::DONE)?;
    let random = StdRng::seed_from_u64(seed);
    let (watches, things) = (Vec::new(), Vec::new());
    let mut chaos =
        Chaos { place: &place, post: &post, random, watches, started: 0, things, summary: Summary::default() };
    for _ in 0..2 {
        let watch = chaos.watch(false)?;
        chaos.watches.push(watch);
    }
    while chaos.summary.kills < kills {
        chaos.round(kills)?;
        chaos.quiet(patience)?;
    }
    let Chaos { summary, watches, things, .. } = chaos;
    drop(watches);
    place.check()?;
    for thing in &things {
        let times = post.server.count(thing);
        ensure!(times == 1, "{thing}: sent {times} times");
    }
    // The first one has sent nothing.
    for one in User::list(&place)?.iter().skip(1) {
        ensure!(one.state == "completed", "it ended otherwise: {one:?}");
        let output = User::show(&place, &one.id)?["output"].as_str().unwrap_or_default().to_owned();
        ensure!(output == "taken\n" || output == "told\n", "{}: its output is {output:?}", one.id);
        settled(&place, &one.id, &output)?;
    }
    Ok(Summary { sent: things.len(), ..summary })
}

impl Chaos<'_> {
    fn watch(&mut self, may_fail: bool) -> Result<Watch, Failure> {
        self.started += 1;
        let fault = may_fail.then(|| {
            let (syscall, error) = FAULTS[self.random.random_range(0..FAULTS.len())];
            let from = self.random.random_range(1..40);
            let to = from + self.random.random_range(0..12);
            format!("inject={syscall}:error={error}:when={from}..{to}")
        });
        self.summary.faults += usize::from(fault.is_some());
        Watch::start(self.place, self.started, fault)
    }

    /// Begins things, answers, and kills.
    fn round(&mut self, kills: usize) -> Result<(), Failure> {
        let mut begun = 0;
        for _ in 0..ROUND {
            if self.summary.kills == kills {
                break;
            }
            if begun < BEGUN {
                self.begin()?;
                begun += 1;
            }
            self.answer()?;
            thread::sleep(Duration::from_millis(self.random.random_range(0..120)));
            let one = self.random.random_range(0..self.watches.len());
            self.watches[one].is_alive()?;
            let gone = self.watches[one].kill_one(&mut self.random)?;
            self.summary.kills += 1;
            if gone {
                // The disk of the first is always well.
                let may_fail = one == 1 && self.random.random();
                let next = self.watch(may_fail)?;
                self.watches[one] = next;
            }
        }
        Ok(())
    }

    /// Something that is to be sent: soon, or when somebody has answered.
    fn begin(&mut self) -> Result<(), Failure> {
        let thing = format!("thing-{}.", self.things.len());
        let at_a_time: bool = self.random.random();
        let call = self.post.call(!at_a_time).replace("one thing", &thing).replace("/things", &format!("/{thing}"));
        let mut run = run_arguments(self.place, &self.post.grants(), &call)?;
        let code = if at_a_time {
            run.extend(["--at".to_owned(), format!("+{}ms", self.random.random_range(150..600))]);
            exit::DONE
        } else {
            run.push("--detach".to_owned());
            exit::SUSPENDED
        };
        let ran = self.place.run(&run)?;
        if at_a_time && ran.status.code() == Some(exit::USAGE) {
            // The machine is so slow that the time has come before the program has read it.
            return Ok(());
        }
        ran.exits(code)?;
        self.things.push(thing);
        Ok(())
    }

    /// Answers what is asked; of what is in doubt it says what the server knows. Gives how much there was.
    fn answer(&mut self) -> Result<usize, Failure> {
        let pending = User::promises(self.place, true)?;
        for promise in &pending {
            let id = id_of(promise);
            let value = if id.starts_with("doubt:") {
                thread::sleep(ARRIVES);
                let thing = self.thing_of(promise)?;
                self.summary.doubts += 1;
                if self.post.server.count(&thing) == 0 {
                    json!("again")
                } else {
                    json!({ "done": <Post<false>>::told() })
                }
            } else {
                json!("yes")
            };
            let resolved = User::default().resolve(self.place, &id, &value)?;
            ensure!(resolved == Resolved::Won, "nobody else answers, and {id} is settled");
        }
        Ok(pending.len())
    }

    /// The thing that the call of a promise sends.
    fn thing_of(&self, promise: &Value) -> Result<String, Failure> {
        let execution = promise["execution"].as_str().unwrap_or_default();
        let said = |ran: Ran| String::from_utf8_lossy(&ran.stdout).into_owned();
        let all = [
            promise.to_string(),
            said(self.place.run(&["journal", execution, "--json"])?),
            said(self.place.run(&["show", execution, "--json"])?),
        ];
        let mut found = self.things.iter().filter(|thing| all.iter().any(|text| text.contains(*thing)));
        found.next().cloned().ok_or_else(|| format!("what is sent cannot be seen: {all:?}").into())
    }

    /// The last that the watchers said.
    fn said(&self) -> String {
        let of = |watch: &Watch| {
            let all = fs::read_to_string(&watch.log).unwrap_or_default();
            let last: Vec<&str> = all.lines().rev().take(12).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            let fault = if watch.disk.is_some() { "its disk may fail" } else { "its disk is well" };
            format!("{:?} ({fault}):\n  {}\n", watch.log.file_name().unwrap_or_default(), last.join("\n  "))
        };
        self.watches.iter().map(of).collect()
    }

    /// Nobody is killed any more: whatever has nothing to wait for has to be at its end soon.
    fn quiet(&mut self, patience: Duration) -> Result<(), Failure> {
        let until = Instant::now() + LIMIT;
        // By execution: since when nothing has kept it from going on.
        let mut free: BTreeMap<String, Instant> = BTreeMap::new();
        loop {
            self.watches.iter_mut().try_for_each(Watch::is_alive)?;
            let answered = self.answer()?;
            let now = Instant::now();
            // Who has just failed for want of a disk is neither dead nor has forgotten anything.
            let well = self.watches.iter().map(Watch::well_for).collect::<Result<Vec<_>, _>>()?;
            let well = well.into_iter().min().unwrap_or(Duration::MAX);
            let open: Vec<_> =
                User::list(self.place)?.into_iter().filter(|one| !has_ended(&one.state)).map(|one| one.id).collect();
            if answered > 0 {
                free.clear();
            }
            free.retain(|id, _| open.contains(id));
            for id in &open {
                let waited = (now - *free.entry(id.clone()).or_insert(now)).min(well);
                self.summary.longest = self.summary.longest.max(waited);
                ensure!(
                    waited <= patience,
                    "{id} waits for nothing, and has not gone on for {waited:?}: {}\n{}",
                    User::show(self.place, id)?,
                    self.said()
                );
            }
            if open.is_empty() && self.things.iter().all(|thing| self.post.server.count(thing) > 0) {
                return Ok(());
            }
            ensure!(now < until, "it does not come to an end: {open:?}");
            thread::sleep(Duration::from_millis(40));
        }
    }
}
