//! Calls that are taken on under the grants of the moment, and timers that are ended by hand.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod common;

use common::*;
use parole_durable::store::{Admission, Refusal};
use parole_durable::{EffectClass, ExecutionId, Fence, PromiseState, Step, Value, Write, Written};
use uuid::Uuid;

const NOW: u64 = 1_700_000_000_000;
const HOUR: u64 = 3_600_000;

fn id(n: u128) -> ExecutionId {
    ExecutionId(Uuid::from_u128(n))
}

/// How a promise stands, and whether this write settled it.
fn settled(answer: Result<Written, Refusal>) -> (PromiseState, bool) {
    let Ok(Written::Settled { record, won }) = answer else { panic!("{answer:?}") };
    (record.state, won)
}

#[test]
fn a_call_that_was_decided_under_other_grants_is_withheld_from_its_commit() {
    both(|store| {
        one(store, write(create(id(1), owner(1), NOW))).unwrap();
        let mut next = commit(id(1), Fence(1), NOW);
        let mut admitted = read_step(1, Vec::new(), NOW);
        (admitted.completion, admitted.delivered, admitted.effect) = (None, false, EffectClass::Once);
        next.steps = vec![read_step(0, Vec::new(), NOW), admitted.clone()];
        next.admits = Some(Admission { step: 1, generation: 0 });
        let promise_id = |step| secret(7).promise_id("a:b/c", id(1), step);
        let made = |step| promise(promise_id(step), tags("a:b/c", id(1), step, false), NOW + HOUR, NOW);
        next.steps[1].promise = Some(promise_id(1));
        next.promises = vec![made(0), made(1)];
        // The grant is acknowledged before the commit is made.
        one(store, grant(id(1), 1, NOW)).unwrap();
        assert_eq!(one(store, write(next)), Ok(Written::Withheld(1)));
        let reader = store.reader().unwrap();
        assert_eq!(reader.steps(id(1), 0, 9).unwrap().len(), 1, "what came before it is durable");
        assert_eq!(reader.execution(id(1)).unwrap().unwrap().calls, Some(1));
        assert!(
            reader.promise(&promise_id(1)).unwrap().is_none(),
            "nobody sees the promise of a call that is not made"
        );
        assert!(reader.promise(&promise_id(0)).unwrap().is_some());
        // Decided again, it is taken.
        let mut next = commit(id(1), Fence(1), NOW);
        next.steps = vec![Step { promise: Some(promise_id(1)), ..admitted }];
        next.promises = vec![made(1)];
        next.admits = Some(Admission { step: 1, generation: 1 });
        assert_eq!(one(store, write(next)), Ok(Written::Committed));
        let reader = store.reader().unwrap();
        assert_eq!(reader.execution(id(1)).unwrap().unwrap().calls, Some(2));
        assert!(reader.promise(&promise_id(1)).unwrap().is_some());
    });
}

#[test]
fn a_timer_is_ended_or_canceled_and_never_refused() {
    both(|store| {
        for (n, state) in
            [(1, PromiseState::Resolved), (2, PromiseState::RejectedCanceled), (3, PromiseState::Rejected)]
        {
            let mut first = create(id(n), owner(1), NOW);
            let timer = secret(7).promise_id("sleep", id(n), 0);
            first.promises.push(promise(timer.clone(), tags("sleep", id(n), 0, true), NOW + HOUR, NOW));
            one(store, write(first)).unwrap();
            let value = Value { headers: [("parole:by".into(), "ada".into())].into(), data: None };
            let settle = |now| Write::Settle { id: timer.clone(), state, value: value.clone(), claim: None, now };
            let answer = one(store, settle(NOW + 1));
            if state == PromiseState::Rejected {
                assert_eq!(answer, Err(Refusal::Timer(timer.clone())));
                // Its time ends it as ever.
                assert_eq!(settled(one(store, settle(NOW + HOUR))), (PromiseState::Resolved, false));
                continue;
            }
            let Ok(Written::Settled { record, won: true }) = answer else { panic!("{answer:?}") };
            assert_eq!((record.state, record.settled_at, &record.value), (state, Some(NOW + 1), &value));
            // Nothing ends it again.
            assert_eq!(one(store, Write::Expire { now: NOW + HOUR }), Ok(Written::Expired(0)));
            assert!(!settled(one(store, settle(NOW + 2))).1);
        }
    });
}
