//! The same random operations over the model and over SQLite: every answer is compared, and
//! from time to time everything that can be seen. `PAROLE_SEED` repeats a run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::too_many_lines,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests"
)]

#[path = "common/answers.rs"]
mod answers;
mod common;
#[path = "common/search.rs"]
mod search;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use answers::ANSWERS;
use common::*;
use parole_durable::ids::NEVER;
use parole_durable::memory::MemoryStore;
use parole_durable::promise::{TAG_CAPABILITY, TAG_TIMER};
use parole_durable::schedule::{Fire, NewSchedule};
use parole_durable::sqlite::SqliteStore;
use parole_durable::state_dir::StateDir;
use parole_durable::store::Release;
use parole_durable::store::{Admission, Lease, PromiseFilter, Refusal, Usage};
use parole_durable::{
    Completion, Digest, EffectClass, ExecutionId, Fence, OwnerId, PromiseId, PromiseState, Reader, ScheduleId, Stage,
    Step, StepResult, Store, Value, Write, Written,
};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use uuid::Uuid;

/// Operations that a run makes at least.
const OPERATIONS: usize = 20_000;
/// A run that has not seen every answer by then fails.
const LIMIT: Duration = Duration::from_secs(120);
struct World {
    random: StdRng,
    now: u64,
    /// Every execution that was ever made, with what its owner believes.
    executions: Vec<Known>,
    promises: Vec<PromiseId>,
    /// The promise that a worker had to do with last.
    worked: Option<PromiseId>,
    digests: BTreeSet<Digest>,
    /// Schedules, some of which are gone, with the revision that they had last.
    schedules: Vec<(ScheduleId, u64)>,
}

struct Known {
    id: ExecutionId,
    fence: Fence,
    generation: u64,
    next: u64,
    last: Option<Step>,
}

impl World {
    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn owner(&mut self) -> OwnerId {
        owner(self.random.random_range(0..3))
    }

    /// Mostly one that may still be alive.
    fn pick(&mut self) -> usize {
        let count = self.executions.len();
        if self.chance(80) {
            self.random.random_range(count.saturating_sub(8)..count)
        } else {
            self.random.random_range(0..count)
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let size = match self.random.random_range(0..10) {
            0 => self.random.random_range(4000..4200),
            1 => self.random.random_range(0..9000),
            _ => self.random.random_range(0..200),
        };
        // Few different ones, so that payloads are shared.
        let fill = self.random.random_range(0..6);
        let bytes = vec![fill; size];
        self.digests.insert(Digest::of(&bytes));
        bytes
    }

    fn steps(&mut self, known: usize) -> (Vec<Step>, Vec<parole_durable::PromiseRecord>) {
        let (mut steps, mut promises) = (Vec::new(), Vec::new());
        if let Some(mut last) = self.executions[known].last.clone()
            && self.chance(50)
        {
            let result = match self.random.random_range(0..3) {
                0 => StepResult::Ok(self.bytes()),
                1 => StepResult::Err(self.bytes()),
                _ => StepResult::Denied(self.bytes()),
            };
            last.completion = Some(Completion { at: self.now, result });
            last.delivered = self.chance(50);
            self.note(&mut last);
            steps.push(last);
        } else if let Some(mut last) = self.executions[known].last.clone()
            && last.completion.is_none()
        {
            // Further on, with another promise or none.
            self.note(&mut last);
            let promise = self.promise(self.executions[known].id, last.number);
            last.promise = self.chance(70).then(|| promise.id.clone());
            if last.promise.is_some() {
                self.promises.push(promise.id.clone());
                promises.push(promise);
            }
            steps.push(last);
        }
        for _ in 0..self.random.random_range(0..3) {
            let (id, number) = (self.executions[known].id, self.executions[known].next);
            use EffectClass::{Await, Idempotent, Once, Read, Send};
            let effects = [Send, Await, Read, Idempotent, Once];
            let mut step = read_step(number, self.bytes(), self.now);
            step.effect = effects[self.random.random_range(0..effects.len())];
            step.calls = if step.effect == EffectClass::Send { self.random.random_range(1..9) } else { 1 };
            step.arguments = self.bytes();
            if self.chance(40) {
                step.completion = None;
                step.delivered = false;
            }
            self.note(&mut step);
            if step.effect == EffectClass::Await {
                let promise = self.promise(id, number);
                step.promise = Some(promise.id.clone());
                self.promises.push(promise.id.clone());
                promises.push(promise);
            }
            self.executions[known].next += step.calls;
            steps.push(step);
        }
        self.executions[known].last = steps.last().cloned();
        (steps, promises)
    }

    /// Gives a step some stage and some notes, mostly none.
    fn note(&mut self, step: &mut Step) {
        step.stage = [Stage::Admitted, Stage::Admitted, Stage::Asked, Stage::InDoubt][self.random.random_range(0..4)];
        step.notes = if self.chance(30) { self.bytes() } else { Vec::new() };
    }

    /// A payload that is stored with what names it.
    fn payload(&mut self) -> (Digest, Arc<[u8]>) {
        let bytes = self.bytes();
        (Digest::of(&bytes), bytes.into())
    }

    /// A write of the kinds that change grants and schedules; ids and revisions are right most of the time.
    fn grant_or_schedule(&mut self, known: usize, id: ExecutionId) -> Write {
        let now = self.now;
        let some = |world: &mut Self| {
            let (id, revision) = match world.schedules.len() {
                0 => (ScheduleId::generate(), 0),
                count => world.schedules[world.random.random_range(count.saturating_sub(6)..count)],
            };
            let id = if world.chance(4) { ScheduleId::generate() } else { id };
            (id, if world.chance(10) { revision + 1 } else { revision })
        };
        let next_at = if self.chance(85) { Some(now + self.random.random_range(0..99)) } else { None };
        match self.random.random_range(0..10) {
            0..3 => {
                let present = self.executions[known].generation;
                let generation = match self.random.random_range(0..10) {
                    0 => present,
                    1 => present + 2,
                    2 => [0, u64::MAX][self.random.random_range(0..2)],
                    _ => present + 1,
                };
                let (policy, by) = (self.payload(), format!("user {}", self.random.random_range(0..3)));
                Write::Grant { execution: id, generation, policy, by, change: r#"{"ünï":1}"#.into(), now }
            }
            3..5 => {
                let again = self.chance(10).then(|| some(self).0);
                let new = match again {
                    Some(id) => id,
                    None => {
                        self.schedules.push((ScheduleId::generate(), 0));
                        self.schedules[self.schedules.len() - 1].0
                    }
                };
                let payloads = vec![self.payload(), self.payload()];
                let paused = self.chance(10);
                let (component, setup) = (payloads[0].0, payloads[1].0);
                let spec = format!(r#"{{"every":{now}}}"#);
                Write::Schedule(Box::new(NewSchedule {
                    id: new,
                    spec,
                    component,
                    setup,
                    next_at,
                    paused,
                    payloads,
                    now,
                }))
            }
            5..8 => {
                let (schedule, revision) = some(self);
                let execution = if self.chance(10) {
                    id
                } else {
                    let id = ExecutionId(Uuid::from_u128(self.random.random()));
                    self.executions.push(Known { id, fence: Fence::FIRST, generation: 0, next: 0, last: None });
                    id
                };
                Write::Fire(Box::new(Fire { schedule, revision, execution, secret: secret(3), next_at, now }))
            }
            8 => {
                let (id, revision) = some(self);
                Write::Reschedule { id, revision, paused: self.chance(20), next_at, now }
            }
            _ => Write::Unschedule { id: if self.chance(60) { ScheduleId::generate() } else { some(self).0 } },
        }
    }

    /// Mostly the usual form; sometimes everything about it is odd.
    fn promise(&mut self, execution: ExecutionId, step: u64) -> parole_durable::PromiseRecord {
        let capability = ["input", "approve", "mail.send", "Tool:X"][self.random.random_range(0..4)];
        let id = match self.random.random_range(0..10) {
            0 => PromiseId::from(format!("odd-{}", self.random.next_u64()).as_str()),
            1 => {
                PromiseId::from(format!("x:{execution}:{}", Uuid::from_u128(self.random.random()).as_simple()).as_str())
            }
            2 => secret(9).promise_id(capability, self.executions[0].id, self.random.next_u64()),
            3 if !self.promises.is_empty() => self.promises[self.random.random_range(0..self.promises.len())].clone(),
            _ => secret(7).promise_id(capability, execution, step),
        };
        let timer = self.chance(20);
        let mut tags = tags(capability, execution, step, timer);
        match self.random.random_range(0..12) {
            0 => drop(tags.remove(TAG_CAPABILITY)),
            1 => drop(tags.insert(TAG_TIMER.into(), "false".into())),
            2 => drop(tags.insert("more".into(), "ünïcode \"quoted\"".into())),
            3 => tags.clear(),
            4 => drop(tags.insert("parole:step".into(), "007".into())),
            5 => drop(tags.insert("parole:component".into(), "sha256:zz".into())),
            6..11 => drop(tags.insert("parole:effect".into(), "once".into())),
            _ => {}
        }
        let timeout = match self.random.random_range(0..6) {
            0 => NEVER,
            1 => self.now,
            _ => self.now + self.random.random_range(0..400),
        };
        let mut promise = promise(id, tags, timeout, self.now);
        if self.chance(10) {
            promise.param.headers.insert("h".into(), "1".into());
            promise.param.data = None;
        }
        if self.chance(5) {
            promise.state = PromiseState::Resolved;
            promise.value = Value::json("1");
            promise.settled_at = Some(self.now);
        }
        promise
    }

    /// What a worker does with one of the last promises.
    fn work(&mut self, id: ExecutionId) -> Write {
        let (now, count) = (self.now, self.promises.len());
        let id = match (self.random.random_range(0..100), &self.worked) {
            (0..3, _) => secret(1).promise_id("input", id, now),
            // What was worked on just now is worked on again.
            (3..70, Some(worked)) => worked.clone(),
            _ => self.promises[self.random.random_range(count.saturating_sub(4)..count)].clone(),
        };
        self.worked = Some(id.clone());
        if self.chance(70) {
            let void = self.chance(50).then(|| self.owner());
            return Write::Take { id, owner: self.owner(), void, now };
        }
        let how = [Release::Later, Release::Failed, Release::Doubt][self.random.random_range(0..3)];
        let claim = (self.owner(), self.random.random_range(1..3));
        Write::Release { id, claim, how, not_before: now + self.random.random_range(0..20) }
    }

    fn operation(&mut self) -> Write {
        // The clock may go back a little (D18).
        self.now = if self.chance(3) { self.now - 50 } else { self.now + self.random.random_range(0..4) };
        let now = self.now;
        if self.executions.is_empty() || self.chance(6) {
            let known = if self.chance(10) && !self.executions.is_empty() {
                self.pick()
            } else {
                let id = ExecutionId(Uuid::from_u128(self.random.random()));
                self.executions.push(Known { id, fence: Fence::FIRST, generation: 0, next: 0, last: None });
                self.executions.len() - 1
            };
            let owner = self.owner();
            let mut first = create(self.executions[known].id, owner, now);
            if self.executions[known].next == 0 {
                (first.steps, first.promises) = self.steps(known);
            }
            first.lease = if self.chance(30) { Lease::Release } else { Lease::Keep };
            return write(first);
        }
        let known = self.pick();
        let id =
            if self.chance(3) { ExecutionId(Uuid::from_u128(self.random.random())) } else { self.executions[known].id };
        if self.chance(12) {
            return self.grant_or_schedule(known, id);
        }
        if !self.promises.is_empty() && self.chance(8) {
            return self.work(id);
        }
        match self.random.random_range(0..100) {
            0..45 => {
                let fence =
                    if self.chance(10) { Fence(self.random.random_range(0..5)) } else { self.executions[known].fence };
                let mut next = commit(id, fence, now);
                // A stranger's steps are never seen, so only those that may be taken are made.
                if id == self.executions[known].id && fence == self.executions[known].fence {
                    (next.steps, next.promises) = self.steps(known);
                }
                if self.chance(30) {
                    let bytes = self.bytes();
                    next.payloads.push((Digest::of(&bytes), bytes.into()));
                }
                next.usage = Usage {
                    cpu_us: self.random.random(),
                    journal: now,
                    shown: self.random.random_range(0..9),
                    ..Usage::default()
                };
                if self.chance(20) {
                    let generation = self.executions[known].generation + u64::from(self.chance(25));
                    next.admits = next.steps.last().map(|last| Admission { step: last.number, generation });
                }
                next.lease = match self.random.random_range(0..20) {
                    0..4 => Lease::Release,
                    4 => Lease::End(format!("{{\"code\":{now}}}")),
                    _ => Lease::Keep,
                };
                write(next)
            }
            45..60 => {
                let void = self.chance(40).then(|| self.owner());
                Write::Acquire { execution: id, owner: self.owner(), void }
            }
            65..82 if !self.promises.is_empty() => {
                let count = self.promises.len();
                let from = if self.chance(80) { count.saturating_sub(12) } else { 0 };
                let id = match self.chance(3) {
                    true => secret(1).promise_id("input", id, now),
                    false => self.promises[self.random.random_range(from..count)].clone(),
                };
                let states = [PromiseState::Resolved, PromiseState::Rejected, PromiseState::RejectedCanceled];
                let state = match self.random.random_range(0..20) {
                    0 => PromiseState::Pending,
                    1 => PromiseState::RejectedTimedout,
                    _ => states[self.random.random_range(0..3)],
                };
                let mut value = Value::json(format!("{}", self.random.next_u32()));
                value.headers.insert("by".into(), "someone".into());
                let claim = self.chance(10).then(|| (self.owner(), self.random.random_range(1..3)));
                Write::Settle { id, state, value, claim, now }
            }
            60..62 => Write::Fell { execution: id, owner: self.owner() },
            62..65 => {
                let void = self.chance(40).then(|| self.owner());
                let owner = self.chance(75).then(|| self.owner());
                Write::Claim { execution: id, owner, void }
            }
            82..84 => Write::Shown { execution: id, upto: self.random.random_range(0..9) },
            84..88 => Write::Cancel { execution: id, outcome: r#""canceled""#.into(), now },
            88 => Write::Recompute { now: now.saturating_sub(self.random.random_range(0..20_000)) },
            89..95 => Write::Expire { now: if self.chance(10) { 0 } else { now } },
            95 => Write::SetAside { execution: id, outcome: "\"aside\"".into(), now },
            96 => Write::Collect {
                executions: self.executions.iter().map(|known| known.id).collect(),
                before: now.saturating_sub(self.random.random_range(0..3000)),
            },
            _ => Write::Acquire { execution: id, owner: self.owner(), void: None },
        }
    }

    /// Takes note of what was answered, and names the answer.
    fn learn(&mut self, write: &Write, answer: &Result<Written, Refusal>) -> String {
        let kind = match write {
            Write::Commit(_) => "commit",
            Write::Acquire { .. } => "acquire",
            Write::Settle { .. } => "settle",
            Write::Take { .. } => "take",
            Write::Release { .. } => "release",
            Write::Cancel { .. } => "cancel",
            Write::Shown { .. } => "shown",
            Write::Expire { .. } => "expire",
            Write::Recompute { .. } => "recompute",
            Write::Collect { .. } => "collect",
            Write::Doom { .. } => "doom",
            Write::Sweep { .. } => "sweep",
            Write::SetAside { .. } => "set aside",
            Write::Grant { .. } => "grant",
            Write::Schedule(_) => "schedule",
            Write::Fire(_) => "fire",
            Write::Reschedule { .. } => "reschedule",
            Write::Unschedule { .. } => "unschedule",
            Write::Fell { .. } => "fell",
            Write::Claim { .. } => "claim",
        };
        let revision = match (write, answer) {
            (Write::Schedule(new), Ok(Written::Scheduled(revision))) => Some((new.id, *revision)),
            (Write::Fire(fire), Ok(Written::Fired(revision))) => Some((fire.schedule, *revision)),
            (Write::Reschedule { id, .. }, Ok(Written::Scheduled(revision))) => Some((*id, *revision)),
            _ => None,
        };
        if let Some((id, revision)) = revision {
            self.schedules.iter_mut().filter(|(own, _)| *own == id).for_each(|(_, own)| *own = revision);
        }
        if let (Write::Grant { execution, .. }, Ok(Written::Granted(generation))) = (write, answer)
            && let Some(known) = self.executions.iter_mut().find(|known| known.id == *execution)
        {
            known.generation = *generation;
        }
        let how = match (write, answer) {
            (_, Err(refusal)) => {
                let text = format!("{refusal:?}");
                text.split(['(', ' ']).next().unwrap_or_default().to_owned()
            }
            (_, Ok(Written::Withheld(_))) => "withheld".into(),
            (Write::Commit(commit), Ok(_)) => match (&commit.create, &commit.lease) {
                (Some(_), _) => "created".into(),
                (_, Lease::Keep) => "kept".into(),
                (_, Lease::Release) => "released".into(),
                (_, Lease::End(_)) => "ended".into(),
            },
            (Write::Acquire { execution, void, .. }, Ok(Written::Acquired(fence))) => {
                if let Some(known) = self.executions.iter_mut().find(|known| known.id == *execution) {
                    known.fence = *fence;
                }
                if void.is_some() { "taken over".into() } else { "taken".into() }
            }
            (_, Ok(Written::Taken(claim))) => if claim.doubt { "in doubt" } else { "taken" }.into(),
            (_, Ok(Written::Settled { won: true, .. })) => "won".into(),
            (Write::Settle { .. }, Ok(Written::Settled { record, .. })) => match record.state {
                PromiseState::RejectedTimedout => "timed out".into(),
                _ => "lost".into(),
            },
            (_, Ok(Written::Expired(n) | Written::Recomputed(n) | Written::Collected(n) | Written::Swept(n))) => {
                if *n > 0 { "some" } else { "none" }.into()
            }
            (_, Ok(_)) => "done".into(),
        };
        format!("{kind} {how}")
    }
}

fn compare<T: PartialEq + std::fmt::Debug>(what: &str, model: T, sqlite: T) {
    assert_eq!(model, sqlite, "the model (left) and SQLite (right) differ in {what}");
}

/// Everything that can be seen of both.
fn compare_all(world: &mut World, model: &dyn Reader, sqlite: &dyn Reader) {
    let executions = model.executions(true).unwrap().whole;
    compare("executions", executions.clone(), sqlite.executions(true).unwrap().whole);
    compare("running", model.executions(false).unwrap(), sqlite.executions(false).unwrap());
    for execution in &executions {
        let steps = model.steps(execution.id, 0, usize::MAX).unwrap();
        compare("steps", steps.clone(), sqlite.steps(execution.id, 0, usize::MAX).unwrap());
        let (from, limit) = (world.random.random_range(0..5), world.random.random_range(0..5));
        compare(
            "some steps",
            model.steps(execution.id, from, limit).unwrap(),
            sqlite.steps(execution.id, from, limit).unwrap(),
        );
        compare("grants", model.grants(execution.id).unwrap(), sqlite.grants(execution.id).unwrap());
        compare("damage", model.damage(execution.id).unwrap(), sqlite.damage(execution.id).unwrap());
        compare("execution", model.execution(execution.id).unwrap(), sqlite.execution(execution.id).unwrap());
    }
    let some = (!executions.is_empty()).then(|| executions[world.random.random_range(0..executions.len())].id);
    for pending in [false, true] {
        for execution in [None, some] {
            for capability in [None, Some("mail.send".to_owned()), Some("input".to_owned())] {
                let filter = PromiseFilter { pending, execution, capability };
                compare("promises", model.promises(&filter).unwrap(), sqlite.promises(&filter).unwrap());
            }
        }
    }
    for id in &world.promises {
        compare("promise", model.promise(id).unwrap(), sqlite.promise(id).unwrap());
    }
    for digest in &world.digests {
        compare("payload", model.payload(digest).unwrap(), sqlite.payload(digest).unwrap());
    }
    compare("claims", model.claims().unwrap(), sqlite.claims().unwrap());
    compare("granted", model.granted().unwrap(), sqlite.granted().unwrap());
    compare("schedules", model.schedules().unwrap(), sqlite.schedules().unwrap());
    for (id, _) in &world.schedules {
        compare("schedule", model.schedule(*id).unwrap(), sqlite.schedule(*id).unwrap());
    }
    let cursor = model.cursor().unwrap();
    compare("cursor", cursor, sqlite.cursor().unwrap());
    for from in [0, cursor / 2, cursor.saturating_sub(5), cursor] {
        compare("changes", model.settled_since(from).unwrap(), sqlite.settled_since(from).unwrap());
    }
    compare("unnamed", model.unnamed().unwrap(), sqlite.unnamed().unwrap());
    compare("ended", model.ended(world.now - 500).unwrap(), sqlite.ended(world.now - 500).unwrap());
    compare("deadline", model.next_deadline().unwrap(), sqlite.next_deadline().unwrap());
    compare("faults", model.check().unwrap(), sqlite.check().unwrap());
}

#[test]
fn sqlite_does_what_the_model_does() {
    let seed = match std::env::var("PAROLE_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => rand::random(),
    };
    eprintln!("PAROLE_SEED={seed}");
    let mut world = World {
        random: StdRng::seed_from_u64(seed),
        now: 1_000_000,
        executions: Vec::new(),
        promises: Vec::new(),
        worked: None,
        digests: BTreeSet::new(),
        schedules: Vec::new(),
    };
    let temporary = tempfile::tempdir().unwrap();
    let dir = StateDir::open(&temporary.path().join("state")).unwrap();
    let mut model = MemoryStore::new();
    let mut sqlite = SqliteStore::open(&dir).unwrap();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let started = Instant::now();
    let mut done = 0;
    let mut searches = Vec::new();
    while done < OPERATIONS || !ANSWERS.iter().all(|answer| seen.contains(*answer)) {
        let missing: Vec<_> = ANSWERS.iter().filter(|answer| !seen.contains(**answer)).collect();
        assert!(started.elapsed() < LIMIT, "after {done} operations never seen: {missing:?}");
        let mut batch: Vec<Write> = (0..world.random.random_range(1..100)).map(|_| world.operation()).collect();
        search::step(&mut world.random, &mut searches, &mut batch, model.reader().unwrap().as_ref());
        let expected = model.write(&batch).unwrap();
        let found = sqlite.write(&batch).unwrap();
        for (write, (expected, found)) in batch.iter().zip(expected.iter().zip(&found)) {
            assert_eq!(expected, found, "the model (left) and SQLite (right) answer differently to {write:?}");
            seen.insert(world.learn(write, expected));
        }
        done += batch.len();
        if world.chance(3) {
            compare_all(&mut world, model.reader().unwrap().as_ref(), sqlite.reader().unwrap().as_ref());
        }
        if world.chance(5) {
            drop(sqlite);
            sqlite = SqliteStore::open(&dir).unwrap();
        }
        // What is gone for good is of no more interest; the lists would grow quadratically.
        if world.promises.len() > 300 {
            world.promises.drain(..200);
        }
        if world.executions.len() > 200 {
            world.executions.drain(..100);
        }
        if world.schedules.len() > 60 {
            world.schedules.drain(..30);
        }
    }
    compare_all(&mut world, model.reader().unwrap().as_ref(), sqlite.reader().unwrap().as_ref());
    eprintln!("{done} operations in {:?}", started.elapsed());
}
