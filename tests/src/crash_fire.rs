//! Approvals and doubts under load: a process that resumes whatever is ready is killed at random, while a person
//! approves what is asked and has done again what is in doubt.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use crate::crash::{Place, User, has_ended};
use crate::crash_acts::{Act as _, Post};
use crate::crash_outside::{ask_rule, audit, decision, id_of, pending, settled, start};
use crate::ensure;
use crate::fixture::{Failure, because};

/// `resume --all --watch`, which is killed when the test leaves it.
pub struct Watcher(Child);

impl Watcher {
    /// Starts one. What it says is in a file of that number.
    pub fn start(place: &Place, number: usize) -> Result<Self, Failure> {
        let name = place.root().with_file_name(format!("watcher-{number}"));
        let file = File::create(&name).map_err(because(name.display()))?;
        let second = file.try_clone().map_err(because(name.display()))?;
        let mut command = place.parole(&["resume", "--all", "--watch"])?;
        command.stdin(Stdio::null()).stdout(file).stderr(second);
        Ok(Self(command.spawn().map_err(because("starting the program"))?))
    }

    /// It does not end by itself.
    pub fn is_alive(&mut self) -> Result<(), Failure> {
        let state = self.0.try_wait().map_err(because("waiting"))?;
        ensure!(state.is_none(), "a process that watched has ended: {state:?}");
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

/// How it went.
#[derive(Debug)]
pub struct Summary {
    /// Processes that were killed.
    pub kills: usize,
    /// Requests that have arrived.
    pub requests: usize,
    /// How often a person had something done again.
    pub agains: usize,
}

/// So many executions send one thing each, about which a person is asked.
pub fn under_fire(seed: u64, executions: usize) -> Result<Summary, Failure> {
    let mut random = StdRng::seed_from_u64(seed);
    let place = Place::new()?;
    let act = <Post<false>>::prepare(&place)?;
    act.server.think(20);
    let mut things = BTreeMap::new();
    for number in 0..executions {
        let thing = format!("thing {number}");
        let call = act.call(false).replace("one thing", &thing);
        let (execution, _) = start(&place, &(act.grants() + &ask_rule("fetch")), &call)?;
        things.insert(execution, thing);
    }
    let mut agains: BTreeMap<String, usize> = BTreeMap::new();
    let (mut kills, until) = (0, Instant::now() + Duration::from_secs(60));
    loop {
        let mut watcher = Watcher::start(&place, 0)?;
        thread::sleep(Duration::from_millis(random.random_range(8..60)));
        // One at a time, so that there is always something to be killed in.
        if let Some(ask) = pending(&place, "ask:")?.first() {
            User::default().resolve(&place, &id_of(ask), &decision(ask, "once")?)?;
        }
        for doubt in pending(&place, "doubt:")? {
            let execution = doubt["execution"].as_str().unwrap_or_default().to_owned();
            User::default().resolve(&place, &id_of(&doubt), &json!("again"))?;
            *agains.entry(execution).or_default() += 1;
        }
        thread::sleep(Duration::from_millis(random.random_range(0..60)));
        watcher.is_alive()?;
        drop(watcher);
        kills += 1;
        place.check()?;
        if User::list(&place)?.iter().all(|one| has_ended(&one.state)) {
            break;
        }
        ensure!(Instant::now() < until, "it does not come to an end: {:?}", User::list(&place)?);
    }
    let requests = act.server.all()?.len();
    for (execution, thing) in &things {
        settled(&place, execution, "taken\n")?;
        let (times, more) = (act.server.count(thing), agains.get(execution).copied().unwrap_or(0));
        ensure!((1..=1 + more).contains(&times), "{thing}: sent {times} times, {more} times again");
        let audit = audit(&place, execution)?;
        let said = |verdict: &str| audit.iter().filter(|line| line["verdict"] == verdict).count();
        let counts = (said("ask"), said("approve"), said("doubt"), said("again"));
        ensure!(counts == (1, 1, more, more), "{thing}: asked, approved, in doubt, again: {counts:?}");
    }
    Ok(Summary { kills, requests, agains: agains.values().sum() })
}
