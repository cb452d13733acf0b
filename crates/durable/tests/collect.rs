//! What is not needed is removed while others commit, and nothing that is.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::*;
use parole_durable::hub::Receipt;
use parole_durable::store::{INLINE_LIMIT, Lease, Mark};
use parole_durable::{Digest, ExecutionId, Fence, Store, Write, Written};
use uuid::Uuid;

const NOW: u64 = 1_700_000_000_000;

fn id(n: u128) -> ExecutionId {
    ExecutionId(Uuid::from_u128(n))
}

fn cancel(n: u128, now: u64) -> Write {
    Write::Cancel { execution: id(n), outcome: "0".into(), now }
}

#[test]
fn a_payload_that_is_named_again_while_it_is_looked_for_stays() {
    both(|store| {
        let long = vec![7; INLINE_LIMIT + 1];
        let digest = Digest::of(&long);
        let with_it = |n| {
            let mut first = create(id(n), owner(1), NOW);
            first.steps.push(read_step(0, long.clone(), NOW));
            write(first)
        };
        one(store, with_it(1)).unwrap();
        one(store, cancel(1, NOW)).unwrap();
        one(store, Write::Collect { executions: vec![id(1)], before: NOW + 1 }).unwrap();
        let unnamed = |store: &dyn Store| -> Vec<Digest> {
            store.reader().unwrap().unnamed().unwrap().into_iter().map(|(digest, _)| digest).collect()
        };
        let found = unnamed(store);
        assert!(found.contains(&digest));
        // Two look at the same time; one of them notes it after it has been named again.
        let marks = [Mark::generate(), Mark::generate()];
        let doom = |n: usize| Write::Doom { digests: found.clone(), mark: marks[n] };
        let sweep = |n: usize| Write::Sweep { digests: found.clone(), mark: marks[n] };
        one(store, doom(0)).unwrap();
        one(store, with_it(2)).unwrap();
        one(store, doom(1)).unwrap();
        assert_eq!(one(store, sweep(0)), Ok(Written::Swept(0)));
        assert_eq!(unnamed(store), []);
        assert_eq!(store.reader().unwrap().steps(id(2), 0, 9).unwrap().len(), 1);
        // What nothing has named again goes, once.
        one(store, cancel(2, NOW)).unwrap();
        assert_eq!(collect(store, NOW + 1), 1);
        assert_eq!((unnamed(store), one(store, sweep(1))), (Vec::new(), Ok(Written::Swept(0))));
    });
}

#[test]
fn others_commit_while_a_large_store_is_collected() {
    let place = Place::new();
    let (here, there) = (place.hub(), place.hub());
    let many: Vec<Receipt> = (0..20_000_u32)
        .map(|n| {
            let id = ExecutionId::generate();
            let mut first = create(id, there.owner().unwrap(), 1);
            // One in four has a payload of its own.
            let size = if n % 4 == 0 { 5000 } else { 50 };
            first.steps.push(read_step(0, n.to_le_bytes().repeat(size / 4), 1));
            first.lease = Lease::End("0".into());
            there.write(write(first))
        })
        .collect();
    many.into_iter().for_each(|receipt| drop(receipt.wait().unwrap()));
    let id = ExecutionId::generate();
    here.write(write(create(id, here.owner().unwrap(), here.now()))).wait().unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let collecting = {
        let done = done.clone();
        std::thread::spawn(move || {
            let removed = there.collect(2).unwrap();
            done.store(1, Ordering::SeqCst);
            removed
        })
    };
    // Another process commits all the while: far more often than a collection in one transaction would let it.
    let mut commits = 0;
    while done.load(Ordering::SeqCst) == 0 {
        here.write(write(commit(id, Fence::FIRST, here.now()))).wait().unwrap();
        commits += 1;
    }
    assert_eq!(collecting.join().unwrap(), 20_000);
    assert!(commits > 20, "{commits} commits");
    assert_eq!(here.check().unwrap(), [""; 0]);
    assert_eq!(here.executions(true).unwrap().all().unwrap().len(), 1);
    assert_eq!(here.collect(2).unwrap(), 0);
}
