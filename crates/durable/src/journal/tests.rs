//! Replay, told as stories.

use uuid::Uuid;

use super::*;

const LIMITS: JournalLimits = JournalLimits { journal: 1000, output: 100, promises: 1 };

fn journal() -> Journal {
    Journal::new(ExecutionId(Uuid::nil()), Secret([7; 32]), LIMITS)
}

fn replaying(steps: &[Step]) -> Journal {
    let mut journal = Journal::resume(ExecutionId(Uuid::nil()), Secret([7; 32]), LIMITS);
    journal.feed(steps.to_vec(), true).unwrap();
    journal
}

fn open(next: Next) -> Open {
    match next {
        Next::Open(open) => open,
        Next::Replayed { result, .. } => panic!("replayed {result:?}"),
    }
}

/// Two prints, a read, a print: the story that the other tests replay.
fn story() -> Vec<Step> {
    let mut journal = journal();
    journal.send(0, b"", b"one", 0).unwrap();
    journal.send(0, b"", b"two", 0).unwrap();
    let call = open(journal.call("read_file", EffectClass::Read, b"/a").unwrap());
    assert_eq!(call.number, 2);
    journal.complete(call, None, StepResult::Ok(b"data".to_vec()), 5).unwrap();
    journal.send(1, b"w", b"arn", 0).unwrap();
    journal.take_unsaved().steps
}

#[test]
fn a_run_of_sends_is_one_step() {
    let steps = story();
    assert_eq!(steps.iter().map(|s| (s.number, s.calls)).collect::<Vec<_>>(), [(0, 2), (2, 1), (3, 1)]);
    assert_eq!(frames(&steps[0].arguments).collect::<Vec<_>>(), [(0, &b"one"[..]), (0, b"two")]);
    assert_eq!(frames(&steps[2].arguments).collect::<Vec<_>>(), [(1, &b"warn"[..])]);
}

#[test]
fn replay_answers_from_the_record_and_then_goes_live() {
    let mut journal = replaying(&story());
    journal.send(0, b"o", b"ne", 0).unwrap();
    journal.send(0, b"", b"two", 0).unwrap();
    let Next::Replayed { result, notes, promise } = journal.call("read_file", EffectClass::Read, b"/a").unwrap() else {
        panic!()
    };
    assert_eq!((result, notes, promise), (StepResult::Ok(b"data".to_vec()), Vec::new(), None));
    assert!(!journal.is_live());
    journal.send(1, b"", b"warn", 0).unwrap();
    assert!(journal.is_live());
    assert_eq!(journal.take_unsaved().steps, []);
    assert_eq!(open(journal.call("sleep", EffectClass::Await, b"1").unwrap()).number, 4);
}

#[test]
fn a_flush_in_the_middle_of_a_run_changes_nothing_for_the_replay() {
    let mut live = journal();
    live.send(0, b"", b"a", 0).unwrap();
    let mut steps = live.take_unsaved().steps;
    live.send(0, b"", b"b", 0).unwrap();
    steps.extend(live.take_unsaved().steps);
    assert_eq!(steps.len(), 2);
    let mut journal = replaying(&steps);
    journal.send(0, b"", b"a", 0).unwrap();
    journal.send(0, b"", b"b", 0).unwrap();
    assert!(journal.is_live());
}

#[test]
fn another_order_is_a_mismatch_that_names_both() {
    let check = |act: &dyn Fn(&mut Journal) -> Fault, step: u64| {
        let Fault::Mismatch { step: at, recorded, asked } = act(&mut replaying(&story())) else { panic!() };
        assert_eq!(at, step);
        assert_ne!(recorded, asked);
    };
    check(&|j| j.send(0, b"", b"two", 0).unwrap_err(), 0);
    check(&|j| j.send(1, b"", b"one", 0).unwrap_err(), 0);
    check(&|j| j.send(0, b"", b"on", 0).unwrap_err(), 0);
    check(&|j| j.call("read_file", EffectClass::Read, b"/a").unwrap_err(), 0);
    let past_output = |j: &mut Journal| {
        j.send(0, b"", b"one", 0).unwrap();
        j.send(0, b"", b"two", 0).unwrap();
    };
    check(
        &|j| {
            past_output(j);
            j.call("read_file", EffectClass::Read, b"/b").unwrap_err()
        },
        2,
    );
    check(
        &|j| {
            past_output(j);
            j.call("write_file", EffectClass::Read, b"/a").unwrap_err()
        },
        2,
    );
    check(
        &|j| {
            past_output(j);
            j.send(0, b"", b"three", 0).unwrap_err()
        },
        2,
    );
    // One of two sends, then a call: the run is not over.
    check(
        &|j| {
            j.send(0, b"", b"one", 0).unwrap();
            j.call("read_file", EffectClass::Read, b"/a").unwrap_err()
        },
        1,
    );
}

#[test]
fn a_missing_step_is_noticed() {
    let mut steps = story();
    steps.remove(1);
    let mut journal = Journal::resume(ExecutionId(Uuid::nil()), Secret([7; 32]), LIMITS);
    assert_eq!(journal.feed(steps, true), Err(Fault::Gap { expected: 2, found: 3 }));
}

#[test]
fn a_lost_tail_is_noticed_before_the_guest_could_make_its_calls_again() {
    let mut steps = story();
    let resumed = |calls| Journal::resume(ExecutionId(Uuid::nil()), Secret([7; 32]), LIMITS).expecting(calls);
    assert_eq!(resumed(Some(4)).feed(steps.clone(), true), Ok(()));
    // Of an execution that an older program made the number is not known; one that runs elsewhere may be further.
    assert_eq!(resumed(None).feed(steps.clone(), true), Ok(()));
    assert_eq!(resumed(Some(3)).feed(steps.clone(), true), Ok(()));
    steps.pop();
    let mut journal = resumed(Some(4));
    assert_eq!(journal.feed(steps, false), Ok(()), "there may be more");
    assert_eq!(journal.feed(Vec::new(), true), Err(Fault::Tail { expected: 4, found: 3 }));
    assert_eq!(resumed(Some(4)).feed(Vec::new(), true), Err(Fault::Tail { expected: 4, found: 0 }));
}

#[test]
fn an_admitted_call_comes_back_open_with_the_same_promise() {
    let mut live = journal();
    let call = open(live.call("input", EffectClass::Await, b"name?").unwrap());
    let id = live.promise_id(&call, "input", 0);
    let record = PromiseRecord {
        id: id.clone(),
        state: crate::PromiseState::Pending,
        param: crate::Value::default(),
        value: crate::Value::default(),
        tags: std::collections::BTreeMap::new(),
        timeout_at: 9,
        created_at: 1,
        settled_at: None,
    };
    assert_eq!(live.may_wait(&call), Ok(()));
    live.record(&call, Stage::Admitted, Some(record), None, 1).unwrap();
    let other = open(live.call("sleep", EffectClass::Await, b"1").unwrap());
    assert_eq!(live.may_wait(&other), Err(1));
    let steps = live.take_unsaved().steps;
    let mut journal = replaying(&steps);
    let again = open(journal.call("input", EffectClass::Await, b"name?").unwrap());
    let earlier = Earlier { stage: Stage::Admitted, at: 1, promise: Some(id.clone()), notes: Vec::new() };
    assert_eq!(again.earlier, Some(earlier));
    assert_eq!(journal.promise_id(&again, "input", 0), id);
    journal.complete(again, Some(id), StepResult::Ok(b"Ada".to_vec()), 3).unwrap();
    let steps = journal.take_unsaved().steps;
    assert_eq!((steps.len(), steps[0].admitted_at, steps[0].delivered), (1, 1, true));
}

#[test]
fn limits_hold_at_one_past_and_not_before() {
    let mut journal = journal();
    journal.send(0, b"", &[b'x'; 99], 0).unwrap();
    assert_eq!(journal.output_left(), 0);
    assert_eq!(journal.send(0, b"", b"", 0), Err(Fault::Limit { name: "output", limit: 100 }));
    let call = open(journal.call("f", EffectClass::Read, &[0; 500]).unwrap());
    let left = 1000 - 500 - STEP_COST - FRAME_HEAD;
    journal.complete(call, None, StepResult::Ok(vec![0; left]), 0).unwrap();
    let Err(Fault::Limit { name: "journal", .. }) = journal.call("f", EffectClass::Read, b"") else { panic!() };
}

#[test]
fn without_effects_the_head_is_the_end() {
    let mut journal = replaying(&story()[..1]).without_effects(false);
    journal.send(0, b"", b"one", 0).unwrap();
    journal.send(0, b"", b"two", 0).unwrap();
    assert_eq!(journal.call("read_file", EffectClass::Read, b"/a").unwrap_err(), Fault::Head(2));
}

#[test]
fn the_recorded_effect_class_is_the_one_that_counts() {
    let mut steps = story();
    steps[1].completion = None;
    let mut journal = replaying(&steps[..2]);
    journal.send(0, b"", b"one", 0).unwrap();
    journal.send(0, b"", b"two", 0).unwrap();
    let call = open(journal.call("read_file", EffectClass::Once, b"/a").unwrap());
    assert_eq!(call.effect, EffectClass::Read);
    let mut journal = replaying(&story());
    journal.send(0, b"", b"one", 0).unwrap();
    journal.send(0, b"", b"two", 0).unwrap();
    let Next::Replayed { .. } = journal.call("read_file", EffectClass::Once, b"/a").unwrap() else { panic!() };
}

#[test]
fn a_guest_that_ends_before_its_journal_is_a_mismatch() {
    let mut journal = replaying(&story());
    journal.send(0, b"", b"one", 0).unwrap();
    let Err(Fault::Mismatch { step: 1, asked, .. }) = journal.end() else { panic!() };
    assert!(asked.contains("the end of the guest"));
    journal.send(0, b"", b"two", 0).unwrap();
    journal.call("read_file", EffectClass::Read, b"/a").unwrap();
    journal.send(1, b"", b"warn", 0).unwrap();
    assert_eq!(journal.end(), Ok(()));
}

#[test]
fn a_call_without_a_payload_has_a_price() {
    let mut journal = journal();
    for _ in 0..100 {
        journal.send(0, b"", b"", 0).unwrap();
    }
    assert_eq!(journal.send(0, b"", b"", 0), Err(Fault::Limit { name: "output", limit: 100 }));
    journal.mark(3).unwrap();
}
