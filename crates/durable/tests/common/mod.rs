//! What the tests of the stores share.
#![allow(dead_code, missing_docs, clippy::unwrap_used, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parole_durable::ids::NEVER;
use parole_durable::memory::MemoryStore;
use parole_durable::promise::{TAG_CAPABILITY, TAG_COMPONENT, TAG_EXECUTION, TAG_EXTERNAL, TAG_STEP, TAG_TIMER};
use parole_durable::schedule::{Fire, NewSchedule};
use parole_durable::sqlite::SqliteStore;
use parole_durable::state_dir::StateDir;
use parole_durable::store::{Lease, Mark, NewExecution, Refusal, Usage};
use parole_durable::{
    Commit, Completion, Digest, EffectClass, ExecutionId, Fence, Hub, OwnerId, PromiseId, PromiseRecord, PromiseState,
    ScheduleId, Secret, Stage, Step, StepResult, Store, UnixMs, Value, Write, Written,
};
use rusqlite::Connection;
use uuid::Uuid;

/// A state directory that goes with it.
pub struct Place {
    _temporary: tempfile::TempDir,
    pub path: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("state");
        Self { _temporary: temporary, path }
    }

    pub fn store(&self) -> SqliteStore {
        SqliteStore::open(&StateDir::open(&self.path).unwrap()).unwrap()
    }

    pub fn hub(&self) -> Hub {
        Hub::sqlite(&self.path).unwrap()
    }

    pub fn raw(&self) -> Connection {
        Connection::open(self.path.join("parole.db")).unwrap()
    }
}

/// The model and SQLite: what follows must hold for both.
pub fn both(test: impl Fn(&mut dyn Store)) {
    test(&mut MemoryStore::new());
    let place = Place::new();
    test(&mut place.store());
}

pub fn one(store: &mut dyn Store, write: Write) -> Result<Written, Refusal> {
    store.write(&[write]).unwrap().remove(0)
}

/// The digest of some bytes, and the bytes.
pub fn payload(bytes: impl AsRef<[u8]>) -> (Digest, Arc<[u8]>) {
    (Digest::of(bytes.as_ref()), bytes.as_ref().into())
}

pub fn grant(execution: ExecutionId, generation: u64, now: UnixMs) -> Write {
    let policy = payload(format!("policy {generation} of {execution}"));
    Write::Grant { execution, generation, policy, by: "ada".into(), change: format!("{{\"n\":{generation}}}"), now }
}

/// A schedule that is due at a time.
pub fn schedule(id: ScheduleId, next_at: Option<UnixMs>, now: UnixMs) -> NewSchedule {
    NewSchedule {
        id,
        spec: r#"{"every":"*/5 * * * *"}"#.into(),
        component: Digest::of(COMPONENT),
        setup: Digest::of(SETUP),
        next_at,
        paused: false,
        payloads: vec![payload(COMPONENT), payload(SETUP)],
        now,
    }
}

pub fn fire(schedule: ScheduleId, revision: u64, next_at: Option<UnixMs>, now: UnixMs) -> Fire {
    Fire { schedule, revision, execution: ExecutionId::generate(), secret: secret(8), next_at, now }
}

pub const SETUP: &[u8] = br#"{"guest":"agent","policy":"restricted"}"#;
pub const COMPONENT: &[u8] = b"the bytes of a component";

pub fn owner(n: u128) -> OwnerId {
    OwnerId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n))
}

pub fn secret(n: u8) -> Secret {
    Secret([n; 32])
}

/// A commit that changes nothing but the time.
pub fn commit(execution: ExecutionId, fence: Fence, now: UnixMs) -> Commit {
    Commit {
        execution,
        fence,
        create: None,
        payloads: Vec::new(),
        steps: Vec::new(),
        promises: Vec::new(),
        usage: Usage::default(),
        lease: Lease::Keep,
        admits: None,
        now,
    }
}

/// What a hub does to collect, in one go. Gives how many executions went.
pub fn collect(store: &mut dyn Store, before: UnixMs) -> u64 {
    let reader = store.reader().unwrap();
    let executions = reader.ended(before).unwrap().into_iter().map(|(id, _)| id).collect();
    let Ok(Written::Collected(removed)) = one(store, Write::Collect { executions, before }) else { unreachable!() };
    let digests: Vec<Digest> = reader.unnamed().unwrap().into_iter().map(|(digest, _)| digest).collect();
    let mark = Mark::generate();
    one(store, Write::Doom { digests: digests.clone(), mark }).unwrap();
    one(store, Write::Sweep { digests, mark }).unwrap();
    removed
}

/// The first commit of an execution.
pub fn create(execution: ExecutionId, owner: OwnerId, now: UnixMs) -> Commit {
    Commit {
        create: Some(Box::new(NewExecution {
            component: Digest::of(COMPONENT),
            setup: Digest::of(SETUP),
            secret: secret(7),
            owner,
            created_at: now,
        })),
        payloads: vec![(Digest::of(SETUP), Arc::from(SETUP))],
        ..commit(execution, Fence::FIRST, now)
    }
}

pub fn tags(capability: &str, execution: ExecutionId, step: u64, timer: bool) -> BTreeMap<String, String> {
    let kind = if timer { TAG_TIMER } else { TAG_EXTERNAL };
    let component = Digest::of(COMPONENT).to_string();
    [
        (TAG_CAPABILITY, capability),
        (TAG_EXECUTION, &execution.to_string()),
        (TAG_STEP, &step.to_string()),
        (TAG_COMPONENT, &component),
        (kind, "true"),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect()
}

pub fn promise(id: PromiseId, tags: BTreeMap<String, String>, timeout_at: UnixMs, now: UnixMs) -> PromiseRecord {
    PromiseRecord {
        id,
        state: PromiseState::Pending,
        param: Value::json(r#"{"prompt":"Name?"}"#),
        value: Value::default(),
        tags,
        timeout_at,
        created_at: now,
        settled_at: None,
    }
}

/// The step of a wait and its promise.
pub fn wait(execution: ExecutionId, number: u64, timeout_at: UnixMs, now: UnixMs) -> (Step, PromiseRecord) {
    let id = secret(7).promise_id("input", execution, number);
    let step = Step {
        number,
        calls: 1,
        function: "input".into(),
        effect: EffectClass::Await,
        arguments: br#"{"prompt":"Name?"}"#.to_vec(),
        promise: Some(id.clone()),
        stage: Stage::Admitted,
        notes: Vec::new(),
        admitted_at: now,
        completion: None,
        delivered: false,
    };
    (step, promise(id, tags("input", execution, number, false), timeout_at, now))
}

/// A step that has completed.
pub fn read_step(number: u64, bytes: Vec<u8>, now: UnixMs) -> Step {
    Step {
        number,
        calls: 1,
        function: "read_file".into(),
        effect: EffectClass::Read,
        arguments: br#"{"path":"notes.txt"}"#.to_vec(),
        promise: None,
        stage: Stage::Admitted,
        notes: Vec::new(),
        admitted_at: now,
        completion: Some(Completion { at: now, result: StepResult::Ok(bytes) }),
        delivered: true,
    }
}

/// An execution that is parked upon a promise: its first and only commit.
pub fn parked(execution: ExecutionId, owner: OwnerId, timeout_at: UnixMs, now: UnixMs) -> (Commit, PromiseId) {
    let (step, promise) = wait(execution, 0, timeout_at, now);
    let id = promise.id.clone();
    let mut first = create(execution, owner, now);
    first.steps.push(step);
    first.promises.push(promise);
    first.lease = Lease::Release;
    (first, id)
}

pub fn write(commit: Commit) -> Write {
    Write::Commit(Box::new(commit))
}

pub fn resolve(id: &PromiseId, data: &str, now: UnixMs) -> Write {
    Write::Settle { id: id.clone(), state: PromiseState::Resolved, value: Value::json(data), claim: None, now }
}

pub const FOREVER: UnixMs = NEVER;
