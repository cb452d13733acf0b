//! Calls that are asked about, and calls that are in doubt, with a crash between any two barriers.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use super::*;
use crate::promise::{PromiseState, Value};

const ID: ExecutionId = ExecutionId(Uuid::nil());
const LIMITS: JournalLimits = JournalLimits { journal: 10_000, output: 100, promises: 1 };

/// What has become durable.
#[derive(Default)]
struct Saved {
    steps: BTreeMap<u64, Step>,
    promises: Vec<PromiseId>,
}

impl Saved {
    fn barrier(&mut self, journal: &mut Journal) {
        let unsaved = journal.take_unsaved();
        self.promises.extend(unsaved.promises.into_iter().map(|record| record.id));
        self.steps.extend(unsaved.steps.into_iter().map(|step| (step.number, step)));
    }

    fn resume(&self) -> Journal {
        let mut journal = Journal::resume(ID, Secret([7; 32]), LIMITS);
        journal.feed(self.steps.values().cloned().collect(), true).unwrap();
        journal
    }
}

fn pending(id: PromiseId) -> PromiseRecord {
    PromiseRecord {
        id,
        state: PromiseState::Pending,
        param: Value::default(),
        value: Value::default(),
        tags: BTreeMap::new(),
        timeout_at: crate::ids::NEVER,
        created_at: 1,
        settled_at: None,
    }
}

/// What a person says of a call in doubt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Again,
    Done,
}

/// A driver as plain as can be: one call of `fetch` that a rule asks about and a person approves.
struct Driver {
    saved: Saved,
    /// How often the effect has happened.
    effects: u32,
    fate: Fate,
    clock: UnixMs,
}

impl Driver {
    fn new(fate: Fate) -> Self {
        Self { saved: Saved::default(), effects: 0, fate, clock: 0 }
    }

    /// Runs until it has crossed so many barriers, and dies there; or to the end.
    fn attempt(&mut self, mut barriers: u32) -> Option<StepResult> {
        let mut journal = self.saved.resume();
        let mut call = match journal.call("fetch", EffectClass::Once, b"POST /x").unwrap() {
            Next::Replayed { result, notes, promise } => {
                assert_eq!((notes.is_empty(), promise.is_some()), (false, true));
                return Some(result);
            }
            Next::Open(call) => call,
        };
        let mut stage = call.earlier.as_ref().map(|earlier| earlier.stage);
        let mut named = call.earlier.as_ref().and_then(|earlier| earlier.promise.clone());
        let mut admitted_here = false;
        loop {
            self.clock += 1;
            match stage {
                None => {
                    let id = journal.promise_id(&call, "ask", 0);
                    call.notes.push(b'a');
                    journal.record(&call, Stage::Asked, Some(pending(id.clone())), None, self.clock).unwrap();
                    (stage, named) = (Some(Stage::Asked), Some(id));
                }
                // It is approved: using that and taking the call on are one record.
                Some(Stage::Asked) => {
                    assert_eq!(named, Some(journal.promise_id(&call, "ask", 0)));
                    call.notes.push(b'y');
                    journal.record(&call, Stage::Admitted, None, named.clone(), self.clock).unwrap();
                    stage = Some(Stage::Admitted);
                    admitted_here = true;
                }
                Some(Stage::Admitted) if !admitted_here => {
                    let round = u32::try_from(call.notes.iter().filter(|note| **note == b'd').count()).unwrap();
                    let id = journal.promise_id(&call, "doubt", round);
                    assert!(!self.saved.promises.contains(&id), "each round has its own promise");
                    call.notes.push(b'd');
                    journal.record(&call, Stage::InDoubt, Some(pending(id.clone())), None, self.clock).unwrap();
                    (stage, named) = (Some(Stage::InDoubt), Some(id));
                }
                Some(Stage::InDoubt) if self.fate == Fate::Again => {
                    journal.record(&call, Stage::Admitted, None, named.clone(), self.clock).unwrap();
                    stage = Some(Stage::Admitted);
                    admitted_here = true;
                }
                Some(Stage::Admitted | Stage::InDoubt) => {
                    let result = StepResult::Ok(b"200".to_vec());
                    if stage == Some(Stage::Admitted) {
                        let row = &self.saved.steps[&0];
                        assert_eq!((row.stage, &row.completion), (Stage::Admitted, &None), "durable before the effect");
                        self.effects += 1;
                    }
                    journal.complete(call, named, result.clone(), self.clock).unwrap();
                    if barriers == 0 {
                        return None;
                    }
                    self.saved.barrier(&mut journal);
                    return Some(result);
                }
            }
            if barriers == 0 {
                return None;
            }
            barriers -= 1;
            self.saved.barrier(&mut journal);
        }
    }
}

#[test]
fn asked_approved_admitted_completed() {
    let mut driver = Driver::new(Fate::Again);
    assert_eq!(driver.attempt(9), Some(StepResult::Ok(b"200".to_vec())));
    assert_eq!((driver.effects, driver.saved.promises.len()), (1, 1));
    let row = driver.saved.steps[&0].clone();
    assert_eq!((row.stage, row.promise.as_ref()), (Stage::Admitted, driver.saved.promises.first()));
    assert_eq!((row.notes.as_slice(), row.admitted_at, row.completion.unwrap().at), (&b"ay"[..], 2, 3));
    assert_eq!(driver.attempt(9), Some(StepResult::Ok(b"200".to_vec())));
    assert_eq!(driver.effects, 1);
}

#[test]
fn a_crash_between_any_two_barriers_loses_nothing_and_doubles_nothing() {
    // The first attempt dies after 0 to 3 barriers, the second after 0 to 3 more, the third goes to the end.
    for (first, second) in (0..4).flat_map(|first| (0..4).map(move |second| (first, second))) {
        for fate in [Fate::Again, Fate::Done] {
            let mut driver = Driver::new(fate);
            let mut lives = Vec::new();
            for barriers in [first, second, 9] {
                driver.attempt(barriers);
                lives.push(driver.saved.steps.get(&0).map(|row| (row.stage, row.completion.is_some())));
            }
            let expected =
                [None, Some((Stage::Asked, false)), Some((Stage::Admitted, false)), Some((Stage::Admitted, true))];
            assert_eq!(lives[0], expected[first as usize]);
            assert!(matches!(lives[2], Some((_, true))), "{first} {second} {fate:?}: {lives:?}");
            let row = &driver.saved.steps[&0];
            let doubts = row.notes.iter().filter(|note| **note == b'd').count();
            assert_eq!(row.notes.iter().filter(|note| **note == b'a').count(), 1, "asked once");
            assert_eq!(row.notes.iter().filter(|note| **note == b'y').count(), 1, "approved once");
            assert_eq!(driver.saved.promises.len(), 1 + doubts);
            // Repeated only where a person has said so.
            let again = if fate == Fate::Again { doubts as u32 } else { 0 };
            assert!(driver.effects <= 1 + again, "{first} {second} {fate:?}: {} effects", driver.effects);
            if doubts == 0 {
                assert_eq!((driver.effects, row.stage), (1, Stage::Admitted));
            }
            if doubts > 0 && fate == Fate::Done {
                assert_eq!(row.stage, Stage::InDoubt, "what a person said stands");
            }
        }
    }
}

#[test]
fn one_call_may_be_in_doubt_again_and_again() {
    let mut driver = Driver::new(Fate::Again);
    // Asked, admitted; then each life turns it into doubt, admits it again, and dies.
    assert_eq!(driver.attempt(2), None);
    for lives in 1..6 {
        assert_eq!(driver.attempt(2), None);
        assert_eq!(driver.effects, 1 + lives, "performed, and lost before its record");
    }
    assert!(driver.attempt(9).is_some());
    assert_eq!((driver.effects, driver.saved.promises.len()), (6 + 1, 1 + 6));
}

#[test]
fn a_denied_call_was_never_admitted() {
    let mut journal = Journal::new(ID, Secret([7; 32]), LIMITS);
    let mut saved = Saved::default();
    let Next::Open(call) = journal.call("fetch", EffectClass::Once, b"POST /x").unwrap() else { panic!() };
    let id = journal.promise_id(&call, "ask", 0);
    journal.record(&call, Stage::Asked, Some(pending(id.clone())), None, 5).unwrap();
    saved.barrier(&mut journal);
    drop((journal, call));

    let mut journal = saved.resume();
    let Next::Open(mut call) = journal.call("fetch", EffectClass::Once, b"POST /x").unwrap() else { panic!() };
    let earlier = Earlier { stage: Stage::Asked, at: 5, promise: Some(id.clone()), notes: Vec::new() };
    assert_eq!(call.earlier, Some(earlier));
    call.notes = b"no".to_vec();
    journal.complete(call, Some(id.clone()), StepResult::Denied(b"why".to_vec()), 9).unwrap();
    saved.barrier(&mut journal);
    let row = &saved.steps[&0];
    assert_eq!((row.stage, row.admitted_at, row.promise.as_ref()), (Stage::Asked, 5, Some(&id)));

    let mut journal = saved.resume();
    let Next::Replayed { result, notes, promise } = journal.call("fetch", EffectClass::Once, b"POST /x").unwrap()
    else {
        panic!()
    };
    assert_eq!((result, notes, promise), (StepResult::Denied(b"why".to_vec()), b"no".to_vec(), Some(id)));
    // Never asked at all, and refused: as it always was.
    let Next::Open(call) = journal.call("fetch", EffectClass::Once, b"POST /y").unwrap() else { panic!() };
    journal.complete(call, None, StepResult::Denied(b"why".to_vec()), 9).unwrap();
    assert_eq!(journal.take_unsaved().steps[0].stage, Stage::Admitted);
}

#[test]
fn ids_differ_by_label_and_round_and_never_by_attempt() {
    let mut journal = Journal::new(ID, Secret([7; 32]), LIMITS);
    let Next::Open(call) = journal.call("fetch", EffectClass::Once, b"").unwrap() else { panic!() };
    let ids: Vec<PromiseId> = [("fetch", 0), ("ask", 0), ("ask", 1), ("doubt", 0), ("doubt", 1), ("doubt", u32::MAX)]
        .map(|(label, round)| journal.promise_id(&call, label, round))
        .to_vec();
    let different: std::collections::BTreeSet<_> =
        ids.iter().map(|id| id.as_str().rsplit_once(':').unwrap().1).collect();
    assert_eq!(different.len(), ids.len());
    assert_eq!(ids[0], Secret([7; 32]).promise_id("fetch", ID, 0));
    assert!(ids[1].as_str().starts_with("ask:"));
    assert_eq!(journal.promise_id(&call, "doubt", 1), ids[4]);
}

#[test]
fn what_is_pending_is_counted_through_all_stages_and_on_replay() {
    let mut journal = Journal::new(ID, Secret([7; 32]), LIMITS);
    let mut saved = Saved::default();
    let Next::Open(asked) = journal.call("input", EffectClass::Await, b"1").unwrap() else { panic!() };
    let Next::Open(other) = journal.call("input", EffectClass::Await, b"2").unwrap() else { panic!() };
    // After each record: whether the other call may wait, here and in a journal that goes on from what is durable.
    let mut check = |journal: &mut Journal, may: bool, asked_is_open: bool| {
        saved.barrier(journal);
        let expected = if may { Ok(()) } else { Err(1) };
        assert_eq!(journal.may_wait(&other), expected);
        let mut again = saved.resume();
        let next = again.call("input", EffectClass::Await, b"1").unwrap();
        assert_eq!(matches!(next, Next::Open(_)), asked_is_open);
        if let Next::Open(asked) = &next {
            assert_eq!(again.may_wait(asked), Ok(()), "its own promise is no hindrance to its next one");
        }
        let Next::Open(other) = again.call("input", EffectClass::Await, b"2").unwrap() else { panic!() };
        assert_eq!(again.may_wait(&other), expected);
    };
    let ask = journal.promise_id(&asked, "ask", 0);
    journal.record(&asked, Stage::Asked, Some(pending(ask)), None, 1).unwrap();
    check(&mut journal, false, true);
    let own = journal.promise_id(&asked, "input", 0);
    journal.record(&asked, Stage::Admitted, Some(pending(own.clone())), None, 2).unwrap();
    check(&mut journal, false, true);
    journal.complete(asked, Some(own), StepResult::Ok(Vec::new()), 3).unwrap();
    check(&mut journal, true, false);

    let mut journal = Journal::new(ID, Secret([7; 32]), LIMITS);
    let mut saved = Saved::default();
    let Next::Open(asked) = journal.call("fetch", EffectClass::Once, b"1").unwrap() else { panic!() };
    let Next::Open(other) = journal.call("input", EffectClass::Await, b"2").unwrap() else { panic!() };
    let mut check = |journal: &mut Journal, may: bool| {
        saved.barrier(journal);
        let expected = if may { Ok(()) } else { Err(1) };
        assert_eq!(journal.may_wait(&other), expected);
        let mut again = saved.resume();
        again.call("fetch", EffectClass::Once, b"1").unwrap();
        let Next::Open(other) = again.call("input", EffectClass::Await, b"2").unwrap() else { panic!() };
        assert_eq!(again.may_wait(&other), expected);
    };
    for round in 0..3 {
        let (stage, label) = if round == 0 { (Stage::Asked, "ask") } else { (Stage::InDoubt, "doubt") };
        let id = journal.promise_id(&asked, label, round);
        journal.record(&asked, stage, Some(pending(id.clone())), None, 1).unwrap();
        check(&mut journal, false);
        // What it keeps is settled.
        journal.record(&asked, Stage::Admitted, None, Some(id), 2).unwrap();
        check(&mut journal, true);
    }
    journal.complete(asked, None, StepResult::Ok(Vec::new()), 3).unwrap();
    check(&mut journal, true);
}

#[test]
fn notes_count_and_what_does_not_fit_is_not_recorded() {
    let limits = JournalLimits { journal: 200, ..LIMITS };
    let mut journal = Journal::new(ID, Secret([7; 32]), limits);
    let Next::Open(mut call) = journal.call("fetch", EffectClass::Once, &[b'x'; 36]).unwrap() else { panic!() };
    assert_eq!(journal.size(), 100);
    call.notes = vec![b'n'; 100];
    journal.record(&call, Stage::Admitted, None, None, 1).unwrap();
    assert_eq!(journal.size(), 200);
    call.notes.push(b'n');
    let limit = Fault::Limit { name: "journal", limit: 200 };
    assert_eq!(journal.record(&call, Stage::InDoubt, None, None, 2), Err(limit.clone()));
    let unsaved = journal.take_unsaved();
    assert_eq!((unsaved.steps.len(), unsaved.steps[0].stage, journal.size()), (1, Stage::Admitted, 200));
    // Shorter notes make room, for a result too.
    call.notes.truncate(40);
    journal.record(&call, Stage::InDoubt, None, None, 3).unwrap();
    assert_eq!(journal.size(), 140);
    call.notes.truncate(30);
    journal.complete(call, None, StepResult::Ok(vec![0; 70]), 4).unwrap();
    assert_eq!(journal.size(), 200);
    let row = journal.take_unsaved().steps.remove(0);
    assert_eq!((row.admitted_at, row.size() + STEP_COST as u64), (3, 200));
    assert!(matches!(journal.call("f", EffectClass::Read, b""), Err(fault) if fault == limit));
}

#[test]
fn the_size_is_the_same_on_replay_at_every_point() {
    let mut random = StdRng::seed_from_u64(3);
    for _ in 0..200 {
        let mut journal = Journal::new(ID, Secret([7; 32]), JournalLimits { journal: 100_000, ..LIMITS });
        let mut saved = Saved::default();
        for number in 0..5_u8 {
            let Next::Open(mut call) = journal.call("fetch", EffectClass::Once, &[number; 9]).unwrap() else {
                panic!()
            };
            for _ in 0..random.random_range(0..4) {
                call.notes = vec![b'n'; random.random_range(0..50)];
                let stage = [Stage::Asked, Stage::Admitted, Stage::InDoubt][random.random_range(0..3)];
                journal.record(&call, stage, None, None, 1).unwrap();
                saved.barrier(&mut journal);
                let mut again = saved.resume();
                for before in 0..=number {
                    again.call("fetch", EffectClass::Once, &[before; 9]).unwrap();
                }
                assert_eq!(again.size(), journal.size());
            }
            call.notes = vec![b'n'; random.random_range(0..50)];
            let result = StepResult::Ok(vec![0; random.random_range(0..50)]);
            journal.complete(call, None, result, 2).unwrap();
        }
        saved.barrier(&mut journal);
        let mut again = saved.resume();
        for number in 0..5_u8 {
            again.call("fetch", EffectClass::Once, &[number; 9]).unwrap();
        }
        assert_eq!(again.size(), journal.size());
    }
}

#[test]
fn a_result_that_was_not_delivered_keeps_its_notes() {
    let mut driver = Driver::new(Fate::Again);
    driver.attempt(9);
    if let Some(row) = driver.saved.steps.get_mut(&0) {
        row.delivered = false;
    }
    let mut journal = driver.saved.resume();
    let Next::Replayed { notes, .. } = journal.call("fetch", EffectClass::Once, b"POST /x").unwrap() else { panic!() };
    let step = journal.take_unsaved().steps.remove(0);
    assert_eq!((step.delivered, step.notes, notes), (true, b"ay".to_vec(), b"ay".to_vec()));
}
