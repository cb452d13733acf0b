//! What is recorded, what was acknowledged while it was, and what has to hold after the power is back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use parole_durable::sqlite::open_reader;
use parole_durable::state_dir::StateDir;
use parole_durable::store::{PromiseFilter, Reader};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::crash::{Place, User, data, exit, prebuilt};
use crate::crash_acts::{Act as _, Counter, Post};
use crate::crash_outside::{ask_rule, decision, id_of, run_arguments};
use crate::crash_trace::{Aim, Harm, trace};
use crate::ensure;
use crate::fixture::{Failure, because};
use crate::powercut::{Disk, Loss};
use crate::powercut_trace::{Did, Ended, Event, Recorder};

/// Something that somebody was told, or could see: it is so for ever.
#[derive(Clone, Debug)]
enum Fact {
    /// There is this execution.
    Execution(String),
    /// A promise has this answer.
    Resolved(String, Value),
    /// So many executions have ended.
    Ended(usize),
    /// This one has.
    HasEnded(String),
    /// There are so many schedules.
    Planned(usize),
    /// From here on schedules that will never run again may be gone.
    CleansUp,
}

/// Which of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Short runs whose output is shown, some of them beside each other; one begins with output that was never shown.
    Runs,
    /// Input, answer, resume, by two persons at once.
    Answers,
    /// What must be sent once, with and without a question before.
    Once,
    /// Schedules that come due while two processes watch, and others fold and clean up.
    Schedules,
}

/// What was recorded.
pub struct Story {
    scenario: Scenario,
    place: Place,
    events: Vec<Event>,
    book: Vec<Fact>,
    server: Counter,
    /// What is sent, each at most once.
    things: Vec<String>,
}

/// While it is recorded.
struct Recording<'p> {
    place: &'p Place,
    recorder: Recorder,
    book: Mutex<Vec<Fact>>,
    ended: Mutex<usize>,
}

impl Recording<'_> {
    fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Result<Ended, Failure> {
        self.recorder.run(self.place, arguments)
    }

    fn says(&self, at: u64, fact: Fact) -> Result<(), Failure> {
        let mut book = self.book.lock().map_err(because("the book"))?;
        book.push(fact);
        self.recorder.says(at, book.len() - 1);
        Ok(())
    }

    /// Runs a guest to its end.
    fn to_the_end<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Result<(), Failure> {
        let ended = self.run(arguments)?.exits(exit::DONE)?;
        let mut count = self.ended.lock().map_err(because("counting"))?;
        *count += 1;
        self.says(ended.at, Fact::Ended(*count))
    }

    /// Runs a guest up to its next wait. Gives the execution and what it waits for.
    fn to_a_wait<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Result<(String, String), Failure> {
        let ended = self.run(arguments)?.exits(exit::SUSPENDED)?;
        let report: Value = serde_json::from_str(&ended.stdout).map_err(because(&ended.stdout))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (execution, promise) = (text(&report["execution"]), text(&report["pending"][0]["id"]));
        self.says(ended.at, Fact::Execution(execution.clone()))?;
        Ok((execution, promise))
    }

    fn resolve(&self, promise: &str, value: &Value) -> Result<(), Failure> {
        let ended = self.run(&User::resolution(promise, value))?.exits(exit::DONE)?;
        self.says(ended.at, Fact::Resolved(promise.into(), value.clone()))
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn hello() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-examples/wat/hello.wat")
}

fn run_hello() -> Vec<String> {
    texts(&["run", &hello().to_string_lossy()])
}

impl Scenario {
    /// Records it.
    pub fn record(self) -> Result<Story, Failure> {
        let place = Place::new()?;
        place.run(&run_hello())?.exits(exit::DONE)?;
        let post = <Post<false>>::prepare(&place)?;
        let mut ended = Vec::new();
        match self {
            Scenario::Runs => ended.extend(never_shown(&place)?),
            Scenario::Answers => {
                let mut run = two_waits(&place, "warm")?;
                run.push("--json".into());
                place.run(&run)?.exits(exit::SUSPENDED)?;
            }
            // So that it is compiled, and to have something that can be cleaned up.
            Scenario::Once | Scenario::Schedules => {
                place.run(&run_arguments(&place, "", "look(\"/none\", 1)")?)?.exits(exit::DONE)?;
            }
        }
        place.save("base")?;
        let recording =
            Recording { place: &place, recorder: Recorder::default(), book: Mutex::default(), ended: Mutex::default() };
        let things = match self {
            Scenario::Runs => runs(&recording, &ended).map(|()| Vec::new()),
            Scenario::Answers => answers(&recording).map(|()| Vec::new()),
            Scenario::Once => once(&recording, &post),
            Scenario::Schedules => schedules(&recording, &post),
        }?;
        let Recording { recorder, book, .. } = recording;
        let book = book.into_inner().map_err(because("the book"))?;
        Ok(Story { scenario: self, place, events: recorder.events(), book, server: post.server, things })
    }
}

/// Leaves two executions that have ended, by processes that were killed before anybody saw their output, and a long log
/// that begins with a note that output was shown. Gives them.
///
/// Whoever shows the output of the first folds the log, and what it then notes starts it again: nothing but notes follows,
/// over frames that are whole transactions of the old log, if they are still there and the new head is not.
fn never_shown(place: &Place) -> Result<[String; 2], Failure> {
    fs::create_dir(place.path("data")).map_err(because("data"))?;
    fs::write(place.path("data/small.bin"), [7; 1024]).map_err(because("data"))?;
    let guest = prebuilt("read-loop")?;
    let run = texts(&["run", &guest.to_string_lossy(), "--allow-read=/data=data"]);
    place.run(&run)?.exits(exit::DONE)?;
    let aim = Aim { syscall: "write".into(), n: 1, path: Some(crate::crash_trace::stdout(place)) };
    let killed = || -> Result<String, Failure> {
        let traced = trace(place, &run, Some((Harm::Kill, &aim)))?;
        ensure!(traced.ran.status.code().is_none(), "it was not killed before it spoke\n{}", traced.ran.report());
        // Not by the program, which would fold the log when it ends.
        let all = reader(place)?.executions(true).map_err(because("reading"))?;
        Ok(all.whole.last().ok_or("there is nothing")?.id.to_string())
    };
    let (first, second) = (killed()?, killed()?);
    place.run(&["resume", &first])?.exits(exit::DONE)?;
    Ok([second, killed()?])
}

fn runs(recording: &Recording<'_>, never_shown: &[String]) -> Result<(), Failure> {
    for execution in never_shown {
        recording.run(&["resume", execution])?.exits(exit::DONE)?;
    }
    recording.to_the_end(&run_hello())?;
    beside(2, |_| {
        recording.to_the_end(&run_hello())?;
        recording.to_the_end(&run_hello())
    })
}

/// Several at once.
fn beside(count: usize, act: impl Fn(usize) -> Result<(), Failure> + Sync) -> Result<(), Failure> {
    thread::scope(|scope| {
        let act = &act;
        let all: Vec<_> = (0..count).map(|number| scope.spawn(move || act(number))).collect();
        all.into_iter().try_for_each(|one| one.join().map_err(|_| "a thread has panicked")?)
    })
}

fn two_waits(place: &Place, out: &str) -> Result<Vec<String>, Failure> {
    fs::create_dir(place.path(out)).map_err(because(out))?;
    let guest = prebuilt("two-waits")?;
    let write = format!("--allow-write=/out={out}");
    Ok(texts(&["run", &guest.to_string_lossy(), "--detach", "--timeout=input=never", &write]))
}

fn answers(recording: &Recording<'_>) -> Result<(), Failure> {
    beside(2, |number| {
        let mut run = two_waits(recording.place, &format!("out-{number}"))?;
        run.push("--json".into());
        let (execution, first) = recording.to_a_wait(&run)?;
        recording.resolve(&first, &json!(format!("first {number}")))?;
        let (_, second) = recording.to_a_wait(&["resume", &execution, "--json"])?;
        recording.resolve(&second, &json!(format!("second {number}")))?;
        let ended = recording.run(&["resume", &execution])?.exits(exit::DONE)?;
        recording.says(ended.at, Fact::HasEnded(execution))
    })
}

fn once(recording: &Recording<'_>, post: &Post<false>) -> Result<Vec<String>, Failure> {
    let place = recording.place;
    let call = |thing: &str| post.call(false).replace("one thing", thing);
    let things: Vec<String> = (0..4).map(|number| format!("thing-{number}.")).collect();
    recording.to_the_end(&run_arguments(place, &post.grants(), &call(&things[0]))?)?;
    let mut asking = run_arguments(place, &(post.grants() + &ask_rule("fetch")), &call(&things[1]))?;
    asking.extend(texts(&["--detach", "--json"]));
    let (execution, ask) = recording.to_a_wait(&asking)?;
    let pending = recording.run(&["promises", "--pending", "--json"])?.exits(exit::DONE)?;
    let pending: Vec<Value> = serde_json::from_str(&pending.stdout).map_err(because("promises"))?;
    let promise = pending.iter().find(|promise| id_of(promise) == ask).ok_or("nobody is asked")?;
    recording.resolve(&ask, &decision(promise, "once")?)?;
    let ended = recording.run(&["resume", &execution])?.exits(exit::DONE)?;
    recording.says(ended.at, Fact::HasEnded(execution))?;
    let rest = run_arguments(place, &post.grants(), &call("THING"))?;
    let rest = |thing: &str| rest.iter().map(|part| part.replace("THING", thing)).collect::<Vec<_>>();
    beside(2, |number| recording.to_the_end(&rest(&things[2 + number])))?;
    Ok(things)
}

fn schedules(recording: &Recording<'_>, post: &Post<false>) -> Result<Vec<String>, Failure> {
    let place = recording.place;
    let things: Vec<String> = (0..5).map(|number| format!("thing-{number}.")).collect();
    let run = run_arguments(place, &post.grants(), &post.call(false).replace("one thing", "THING"))?;
    let watch = ["resume", "--all", "--watch"];
    recording.run(&["gc", "--older-than", "0"])?.exits(exit::DONE)?;
    let watchers = [recording.recorder.start(place, &watch)?, recording.recorder.start(place, &watch)?];
    for (number, thing) in things.iter().enumerate() {
        let mut run: Vec<String> = run.iter().map(|part| part.replace("THING", thing)).collect();
        run.extend(texts(&["--at", &format!("+{}ms", 200 + 150 * number)]));
        let planned = recording.run(&run)?.exits(exit::DONE)?;
        recording.says(planned.at, Fact::Planned(number + 1))?;
        recording.run(&run_hello())?.exits(exit::DONE)?;
    }
    thread::sleep(Duration::from_millis(1200));
    let micros = std::time::SystemTime::UNIX_EPOCH.elapsed().map_err(because("the time"))?.as_micros();
    recording.says(u64::try_from(micros).map_err(because("the time"))?, Fact::CleansUp)?;
    recording.run(&["gc", "--older-than", "1s", "--cache"])?.exits(exit::DONE)?;
    for watcher in watchers {
        watcher.signal("-TERM")?;
        recording.recorder.end(place, watcher)?;
    }
    Ok(things)
}

/// How many images were looked at, and how much there was to cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Images.
    pub images: usize,
    /// Moments at which something was not yet safe.
    pub moments: usize,
}

impl Story {
    /// Cuts the power at random moments until `goes_on` says no.
    pub fn cut(&self, seed: u64, mut goes_on: impl FnMut(usize) -> bool) -> Result<Summary, Failure> {
        let moments = self.moments()?;
        let mut random = StdRng::seed_from_u64(seed);
        let mut summary = Summary { images: 0, moments: moments.iter().map(Vec::len).sum() };
        ensure!(!moments.is_empty(), "nothing was ever unsafe: was anything recorded?");
        while goes_on(summary.images) {
            // A stretch between two syncs first: a long one is no likelier than a short one.
            let stretch = &moments[random.random_range(0..moments.len())];
            let moment = match random.random_range(0..3) {
                0 => stretch[stretch.len() - 1],
                _ => stretch[random.random_range(0..stretch.len())],
            };
            let loss = Loss::ALL[random.random_range(0..Loss::ALL.len())];
            let number = summary.images;
            self.image(moment, loss, &mut random).map_err(because(format!(
                "image {number} of {:?}: power cut before event {moment} of {}, lost: {loss:?}, after\n{}",
                self.scenario,
                self.events.len(),
                self.before(moment)
            )))?;
            summary.images += 1;
        }
        Ok(summary)
    }

    /// What was done last.
    fn before(&self, moment: usize) -> String {
        const SHOWN: usize = 60;
        let last = &self.events[moment.saturating_sub(SHOWN)..moment];
        last.iter().map(|event| format!("  {} {}\n", event.at, event.did)).collect()
    }

    /// The base with everything on it that was done before an event.
    fn disk(&self, moment: usize) -> Result<Disk, Failure> {
        let mut disk = self.base()?;
        self.events[..moment].iter().try_for_each(|event| disk.apply(&event.did))?;
        Ok(disk)
    }

    fn base(&self) -> Result<Disk, Failure> {
        Disk::of(&self.place.saved("base").join("state"), &self.place.state())
    }

    /// The moments at which something was not yet safe, by stretches in which nothing became so.
    fn moments(&self) -> Result<Vec<Vec<usize>>, Failure> {
        let mut disk = self.base()?;
        let mut stretches = vec![Vec::new()];
        for (number, event) in self.events.iter().enumerate() {
            disk.apply(&event.did)?;
            if matches!(event.did, Did::SyncEnds(_)) {
                stretches.push(Vec::new());
            }
            if let (false, Some(stretch)) = (disk.is_safe(), stretches.last_mut()) {
                stretch.push(number + 1);
            }
        }
        stretches.retain(|stretch| !stretch.is_empty());
        Ok(stretches)
    }

    /// Makes one image, and looks whether everything that was said is so, and whether it goes on to the end.
    fn image(&self, moment: usize, loss: Loss, random: &mut StdRng) -> Result<(), Failure> {
        let state = self.place.state();
        if state.exists() {
            fs::remove_dir_all(&state).map_err(because(state.display()))?;
        }
        self.disk(moment)?.cut(loss, random, &state)?;
        self.keep_aside()?;
        self.place.check()?;
        let reader = reader(&self.place)?;
        let said = self.events[..moment].iter().filter_map(|event| match event.did {
            Did::Says(number) => Some(&self.book[number]),
            _ => None,
        });
        let said: Vec<&Fact> = said.collect();
        let cleaned = said.iter().any(|fact| matches!(fact, Fact::CleansUp));
        for fact in said.iter().filter(|fact| !cleaned || !matches!(fact, Fact::Planned(_))) {
            self.holds(&*reader, fact)?;
        }
        drop(reader);
        self.server.forget();
        self.goes_on()?;
        self.place.check().map_err(because("after it went on"))?;
        self.counts(moment)
    }

    /// The image as it was found, for whoever looks into a failure.
    fn keep_aside(&self) -> Result<(), Failure> {
        if crate::crash::setting("PAROLE_KEEP_IMAGE").is_some() {
            self.place.save("image")?;
            let kept = std::env::temp_dir().join("parole-power-cut-image");
            drop(fs::remove_dir_all(&kept));
            crate::crash::copy(&self.place.saved("image"), &kept)?;
        }
        Ok(())
    }

    fn holds(&self, reader: &dyn Reader, fact: &Fact) -> Result<(), Failure> {
        let executions = reader.executions(true).map_err(because("reading"))?;
        let found = |id: &str| executions.whole.iter().find(|one| one.id.to_string() == id);
        let fine = match fact {
            Fact::Execution(id) => found(id).is_some(),
            Fact::HasEnded(id) => found(id).is_some_and(|one| one.outcome.is_some()),
            Fact::Ended(count) => {
                // Those of the base have ended too.
                executions.whole.iter().filter(|one| one.outcome.is_some()).count() >= *count
            }
            Fact::CleansUp => true,
            Fact::Planned(count) => reader.schedules().map_err(because("reading"))?.whole.len() >= *count,
            Fact::Resolved(id, value) => {
                let all = reader.promises(&PromiseFilter::default()).map_err(because("reading"))?;
                let promise = all.whole.iter().find(|promise| promise.id.to_string() == *id);
                let data = promise.and_then(|promise| promise.value.data.as_deref());
                data.and_then(|data| serde_json::from_str::<Value>(data).ok()).as_ref() == Some(value)
            }
        };
        ensure!(fine, "it was acknowledged and is lost: {fact:?}");
        Ok(())
    }

    /// What a person does then: answers what is asked, says of what is in doubt that it was done, resumes.
    fn goes_on(&self) -> Result<(), Failure> {
        const ROUNDS: usize = 6;
        for _ in 0..ROUNDS {
            let open = {
                let reader = reader(&self.place)?;
                let now = parole_durable::hub::now();
                let due = reader.schedules().map_err(because("reading"))?;
                let due = due.whole.iter().filter(|one| one.next_at.is_some_and(|at| at <= now)).count();
                due + reader.executions(false).map_err(because("reading"))?.whole.len()
            };
            if open == 0 {
                return Ok(());
            }
            for promise in User::promises(&self.place, true)? {
                let id = id_of(&promise);
                let value = match id.split(':').next() {
                    Some("doubt") => json!({ "done": <Post<false>>::told() }),
                    Some("ask") => decision(&promise, "once")?,
                    _ => json!("an answer"),
                };
                User::default().resolve(&self.place, &id, &value)?;
            }
            let ran = self.place.run(&["resume", "--all"])?;
            let fine = matches!(ran.status.code(), Some(exit::DONE | exit::SUSPENDED));
            ensure!(fine, "what was left after a power cut cannot be resumed\n{}", ran.report());
        }
        Err(format!("it does not come to an end: {:?}", User::list(&self.place)?).into())
    }

    /// Nothing was sent twice, nothing ended otherwise.
    fn counts(&self, moment: usize) -> Result<(), Failure> {
        self.server.all()?;
        let mut times: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for thing in &self.things {
            let sent = |event: &Event| match &event.did {
                Did::Sends(bytes) => bytes.windows(thing.len()).any(|part| part == thing.as_bytes()),
                _ => false,
            };
            let before = self.events[..moment].iter().filter(|event| sent(event)).count();
            times.insert(thing, (before, self.server.count(thing)));
        }
        for (thing, (before, after)) in &times {
            ensure!(before + after <= 1, "{thing}: sent {before} times before the power cut, {after} times after it");
        }
        for one in User::list(&self.place)? {
            ensure!(one.state == "completed", "it ended otherwise: {one:?}");
        }
        if self.scenario == Scenario::Answers {
            for promise in User::promises(&self.place, false)? {
                ensure!(data(&promise).is_some(), "a promise without an answer: {promise}");
            }
        }
        let reader = reader(&self.place)?;
        for schedule in reader.schedules().map_err(because("reading"))?.whole {
            ensure!(schedule.fired == 1 && schedule.next_at.is_none(), "it has fired otherwise: {schedule:?}");
        }
        Ok(())
    }
}

fn reader(place: &Place) -> Result<Box<dyn Reader>, Failure> {
    let dir = StateDir::open(&place.state()).map_err(because("the state directory"))?;
    open_reader(&dir).map_err(because("the store cannot be read"))
}
