//! The worker of `resume --all --watch`: resumes whatever becomes ready, each as soon as it is.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parole_durable::StoreError;
use parole_durable::hub::now;
use parole_durable::ids::{OwnerId, UnixMs};
use parole_durable::promise::AHEAD_MS;
use parole_runtime::schedules::{Fired, MISSED_MAX};
use parole_runtime::standing::Standing;
use parole_runtime::{Error, ExecutionId, Report, ResumeOptions, Runtime, Wait};
use tokio::task::JoinSet;

use crate::fail::{Failure, Result};
use crate::session::{STOP_WITHIN, Session};
use crate::supervisor::Line;
use crate::{output, shell, times};

/// What a question to the library comes to.
type Asked<T> = std::result::Result<T, Error>;

/// How soon a change by another process is seen.
const WATCH: Duration = Duration::from_millis(25);
/// How soon a change of a schedule by another process is seen.
const PLAN: Duration = Duration::from_millis(250);
/// How soon the end of another process is seen that runs something.
const HOLDERS: Duration = Duration::from_millis(500);
/// When an execution that could not be resumed is tried again: another process may have held it.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the others wait at most for one that was running in a process that fell once. One that has been there
/// oftener has all the time that it wants.
const ALONE: Duration = Duration::from_secs(30);
/// How long one that is to be tried alone waits for the others, before this process makes room for a new one.
const ROOM: Duration = Duration::from_secs(10);
/// The pauses after the store has failed.
const TROUBLE: Duration = Duration::from_millis(250);
const TROUBLE_MAX: Duration = Duration::from_secs(5);

/// Makes the executions of the schedules that are due, and says so. Gives whether there were any.
pub async fn fire(session: &Session) -> Asked<bool> {
    let all = session.runtime.fire_due().await?;
    for fired in &all {
        session.console.notice(&format!("parole: schedule {}", told_of_firing(fired)));
    }
    Ok(!all.is_empty())
}

/// What came of the time of a schedule, in words.
fn told_of_firing(fired: &Fired) -> String {
    let id = fired.schedule;
    let next = fired.next_at.map_or_else(|| "never again".into(), times::point);
    if let Some(ahead) = fired.ahead {
        let ahead = times::point(ahead);
        return format!("{id} was to run next at {ahead}, later than its rule allows: a clock was wrong; next: {next}");
    }
    if let Some((last, skipped)) = fired.overlaps {
        let what = match skipped {
            1 => "one time of it is left out".into(),
            count if count >= MISSED_MAX => format!("{count} or more of its times are left out"),
            count => format!("{count} of its times are left out"),
        };
        return format!("{id} skips, for its last run {last} has not ended: {what}; next: {next}");
    }
    let missed = match fired.missed {
        0 => String::new(),
        1 => ", one time of it was missed".into(),
        count if count >= MISSED_MAX => format!(", {count} or more of its times were missed"),
        count => format!(", {count} of its times were missed"),
    };
    let what = fired.execution.map_or_else(|| "skips".into(), |execution| format!("makes execution {execution}"));
    format!("{id} {what}{missed}; next: {next}")
}

/// When the next schedule is due, as far as it has been looked at.
#[derive(Default)]
struct Plan {
    next: Option<UnixMs>,
    looked: Option<Instant>,
}

impl Plan {
    /// Whether something is due. What other processes have changed is seen after a while: every commit to the
    /// store may be such a change, and most are none.
    fn is_due(&mut self, changed: &mut bool, runtime: &Runtime) -> Asked<bool> {
        if self.looked.is_none() || (*changed && self.looked.is_some_and(|looked| looked.elapsed() >= PLAN)) {
            self.next = runtime.next_due()?;
            self.looked = Some(Instant::now());
            *changed = false;
        }
        Ok(self.next.is_some_and(|next| next <= now()))
    }

    /// Looks again at once.
    fn again(&mut self) {
        self.looked = None;
    }
}

/// A store that fails: said once, and asked again after a pause that grows.
#[derive(Default)]
struct Trouble {
    until: Option<Instant>,
    pause: Duration,
}

impl Trouble {
    /// Whether it is too early to ask again.
    fn waits(&self) -> bool {
        self.until.is_some_and(|until| until > Instant::now())
    }

    /// It has failed. What time does not mend is given back.
    fn met(&mut self, error: Error, session: &Session) -> Result<()> {
        if self.until.is_none() {
            say_trouble(error, session)?;
        }
        self.pause = (self.pause * 2).clamp(TROUBLE, TROUBLE_MAX);
        self.until = Some(Instant::now() + self.pause);
        Ok(())
    }

    /// It has answered. Gives whether that is news.
    fn over(&mut self, session: &Session) -> bool {
        let news = self.until.take().is_some();
        if news {
            self.pause = Duration::ZERO;
            session.console.notice(WELL);
        }
        news
    }
}

/// What is said once the store does what it is asked again.
const WELL: &str = "parole: the store is well again";

/// Says what is wrong with the store. What time does not mend is given back.
fn say_trouble(error: Error, session: &Session) -> Result<()> {
    if matches!(error, Error::Store(StoreError::Version { .. } | StoreError::Closed)) {
        return Err(error.into());
    }
    let message = Failure::from(error).message;
    session.console.notice(&format!("parole: {message}; watching goes on, and tries again until that is over"));
    Ok(())
}

/// Those that were running in a process that fell: each is tried while nothing else runs here.
#[derive(Default)]
struct Trials {
    queue: VecDeque<(ExecutionId, u64)>,
    /// The one that is being tried, in how many processes that fell it was, and since when it is.
    now: Option<(ExecutionId, u64, Instant)>,
    /// Those that were tried, and did not fell this process.
    passed: HashSet<ExecutionId>,
    /// Since when one waits for the others.
    waits: Option<Instant>,
    /// Whether others have been started by this process.
    others: bool,
}

impl Trials {
    /// Takes up those that are new. Gives those that have been tried: they are like any other.
    fn sort(&mut self, suspects: Vec<(ExecutionId, u64)>) -> Vec<ExecutionId> {
        self.queue.clear();
        let mut others = Vec::new();
        for (id, times) in suspects {
            if self.passed.contains(&id) {
                others.push(id);
            } else if self.now.is_none_or(|(now, ..)| now != id) {
                self.queue.push_back((id, times));
            }
        }
        others
    }

    /// Whether others have to wait: one has the process to itself, or has it before them.
    fn is_first(&self) -> bool {
        let under_way = self.now.is_some_and(|(_, times, since)| times > 1 || since.elapsed() < ALONE);
        under_way || (!self.others && !self.queue.is_empty())
    }

    fn ended(&mut self, id: ExecutionId) {
        if self.now.is_some_and(|(now, ..)| now == id) {
            self.now = None;
            self.passed.insert(id);
        }
    }

    /// Whether one has waited for its turn for so long that this process has to make room.
    fn wants_room(&mut self) -> bool {
        if self.queue.is_empty() || self.now.is_some() || !self.others {
            self.waits = None;
            return false;
        }
        self.waits.get_or_insert_with(Instant::now).elapsed() >= ROOM
    }
}

/// What a watching process has under way.
pub struct Watcher {
    pinned: bool,
    json: bool,
    running: JoinSet<(ExecutionId, Asked<Report>)>,
    /// What runs here, or could not be resumed and since when.
    busy: HashMap<ExecutionId, Option<Instant>>,
    /// What could not be resumed, and why.
    told_of: HashMap<ExecutionId, String>,
    plan: Plan,
    replan: bool,
    retry: bool,
    trouble: Trouble,
    /// Whether it was said that an execution could not go on because of the store.
    stuck: bool,
    /// What was said to be damaged.
    told_damaged: HashSet<Arc<str>>,
    trials: Trials,
    looked_at_trials: Instant,
    holders: BTreeSet<OwnerId>,
    looked_at_holders: Instant,
    /// What the clock said last.
    clock: UnixMs,
}

impl Watcher {
    pub fn new(pinned: bool, json: bool) -> Self {
        Self {
            pinned,
            json,
            running: JoinSet::new(),
            busy: HashMap::new(),
            told_of: HashMap::new(),
            plan: Plan::default(),
            replan: true,
            retry: true,
            trouble: Trouble::default(),
            stuck: false,
            told_damaged: HashSet::new(),
            trials: Trials::default(),
            looked_at_trials: Instant::now(),
            holders: BTreeSet::new(),
            looked_at_holders: Instant::now(),
            clock: 0,
        }
    }

    /// Leaves everything in order: what is under way comes to its end within a bound, or until it is told again.
    async fn leave(&mut self, session: &mut Session, line: &mut Line) {
        let runtime = session.runtime.clone();
        let mut shutdown = std::pin::pin!(runtime.shutdown(STOP_WITHIN));
        loop {
            tokio::select! {
                biased;
                () = line.stop() => return session.console.stop(),
                Some(ended) = self.running.join_next() => {
                    if let Ok((_, Ok(report))) = ended {
                        told(&report, session, self.json);
                    }
                }
                _ = &mut shutdown => return,
            }
        }
    }

    /// Until it is told to end, or has to make room for a new process.
    pub async fn run(mut self, session: &mut Session, line: &mut Line) -> Result<u8> {
        let mut look = tokio::time::interval(WATCH);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = line.stop() => {
                    self.leave(session, line).await;
                    return Ok(0);
                }
                Some(_) = session.notes.recv() => {}
                Some(ended) = self.running.join_next() => {
                    let (id, result) = ended.map_err(Failure::internal)?;
                    self.ended(id, result, session)?;
                }
                _ = look.tick() => {
                    session.console.tick();
                    if self.trouble.waits() {
                        continue;
                    }
                    // A lock that another program holds on the database is no reason not to hear.
                    let looked = tokio::select! {
                        biased;
                        () = line.stop() => None,
                        looked = self.look(session) => Some(looked),
                    };
                    match looked {
                        None => {
                            self.leave(session, line).await;
                            return Ok(0);
                        }
                        Some(Err(error)) => self.trouble.met(error, session)?,
                        Some(Ok(())) => {}
                    }
                    if self.trials.wants_room() {
                        self.leave(session, line).await;
                        line.again().await?;
                        return Ok(0);
                    }
                }
            }
        }
    }

    fn ended(&mut self, id: ExecutionId, result: Asked<Report>, session: &Session) -> Result<()> {
        self.trials.ended(id);
        self.busy.insert(id, None);
        self.retry = true;
        match result {
            Ok(report) => {
                self.busy.remove(&id);
                self.told_of.remove(&id);
                if std::mem::take(&mut self.stuck) {
                    session.console.notice(WELL);
                }
                told(&report, session, self.json);
                return Ok(());
            }
            // The fault of the store is not one of this execution.
            Err(error @ Error::Store(_)) => {
                if !self.stuck {
                    say_trouble(error, session)?;
                }
                self.stuck = true;
            }
            // Once is enough: it is tried again in silence. The fault of one is not the end of all.
            Err(error) => {
                let message = Failure::from(error).message;
                if self.told_of.get(&id) != Some(&message) {
                    session.console.notice(&format!("parole: {id}: {message}"));
                    self.told_of.insert(id, message);
                }
            }
        }
        self.busy.insert(id, Some(Instant::now()));
        Ok(())
    }

    /// Looks whether there is something to do, and does it.
    async fn look(&mut self, session: &mut Session) -> Asked<()> {
        let deadline = session.changes.next_deadline();
        let due = self.busy.values().flatten().any(|since| since.elapsed() >= AGAIN);
        let changed = session.changes.seen(deadline);
        self.replan |= changed;
        // A clock that is set back leaves times behind that are to be computed anew.
        let time = now();
        if time.saturating_add(AHEAD_MS) < std::mem::replace(&mut self.clock, time) {
            (self.retry, self.replan) = (true, true);
            self.plan.again();
        }
        if self.trouble.until.is_some() {
            (self.retry, self.replan) = (true, true);
            self.plan.again();
        }
        if self.plan.is_due(&mut self.replan, &session.runtime)? {
            self.plan.again();
            self.retry |= fire(session).await?;
        }
        let freed = self.is_freed(session)?;
        // What is tried alone, or is to be, may have had its time.
        let trial =
            (self.trials.now.is_some() || !self.trials.queue.is_empty()) && self.looked_at_trials.elapsed() >= HOLDERS;
        if !changed && !self.retry && !due && !freed && !trial {
            return Ok(());
        }
        let standing = session.runtime.standing().await?;
        self.looked_at_trials = Instant::now();
        self.retry = self.trouble.over(session);
        self.busy.retain(|_, since| since.is_none_or(|since| since.elapsed() < AGAIN));
        self.start(standing, session);
        Ok(())
    }

    /// Whether another process that ran something has ended.
    fn is_freed(&mut self, session: &Session) -> Asked<bool> {
        if self.holders.is_empty() || self.looked_at_holders.elapsed() < HOLDERS {
            return Ok(false);
        }
        self.looked_at_holders = Instant::now();
        for holder in &self.holders {
            if !session.runtime.is_alive(*holder)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Starts what can go on.
    fn start(&mut self, standing: Standing, session: &Session) {
        self.holders = standing.holders;
        for (id, what) in standing.damaged {
            if self.told_damaged.insert(Arc::clone(&what)) {
                output::err(&format!("parole: {}; it is left as it is", damaged(id, &what)));
            }
        }
        let passed = self.trials.sort(standing.suspects);
        if let (true, true, Some((id, times))) =
            (self.running.is_empty(), self.trials.now.is_none(), self.trials.queue.front().copied())
            && !self.busy.contains_key(&id)
        {
            self.trials.queue.pop_front();
            self.trials.now = Some((id, times, Instant::now()));
            session.console.notice(&format!("parole: {id} was running in a worker that fell: it is tried alone"));
            // It is not to hold the others up by a wait.
            self.spawn(id, Wait::Detach, session);
        }
        if self.trials.is_first() {
            return;
        }
        for id in standing.ready.into_iter().chain(passed) {
            if !self.busy.contains_key(&id) {
                self.trials.others = true;
                self.spawn(id, Wait::Work, session);
            }
        }
    }

    fn spawn(&mut self, id: ExecutionId, wait: Wait, session: &Session) {
        self.busy.insert(id, None);
        if !self.told_of.contains_key(&id) {
            session.console.notice(&format!("parole: {id} goes on"));
        }
        let (runtime, pinned) = (session.runtime.clone(), self.pinned);
        self.running.spawn(async move { (id, runtime.resume(id, ResumeOptions { wait, pinned }).await) });
    }
}

/// What is damaged, and what can be done about it.
pub fn damaged(execution: Option<ExecutionId>, what: &str) -> String {
    match execution {
        Some(id) => {
            let gc = shell::command(&format!("gc --damaged {id}"));
            format!("{id} is damaged ({}); `{gc}` sets it aside", output::cell(what))
        }
        None => format!("damaged: {}", output::cell(what)),
    }
}

/// One line for each change.
fn told(report: &Report, session: &Session, json: bool) {
    if json {
        output::json(report);
    }
    let waits: Vec<&str> = report.pending.iter().map(|pending| pending.id.as_str()).collect();
    let why = match (&report.error, waits.is_empty()) {
        (Some(error), _) => format!(": {}", crate::table::cut(error)),
        (None, false) => format!(", waits for {}", waits.join(", ")),
        (None, true) => String::new(),
    };
    session.console.notice(&format!("parole: {} {}{}", report.execution, report.outcome.as_str(), output::cell(&why)));
}
