//! Grants: one generation after the other, and the next call sees the last one, in whatever process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::*;
use parole_durable::hub::Seen;
use parole_durable::store::{Lease, Refusal};
use parole_durable::{
    Digest, ExecutionId, Fence, GrantRecord, Hub, PromiseState, Stage, StoreError, Write, WriteError, Written,
};
use uuid::Uuid;

const NOW: u64 = 1_700_000_000_000;

fn id(n: u128) -> ExecutionId {
    ExecutionId(Uuid::from_u128(n))
}

fn end(execution: ExecutionId) -> Write {
    write(parole_durable::Commit { lease: Lease::End("0".into()), ..commit(execution, Fence::FIRST, NOW + 9) })
}

#[test]
fn each_generation_follows_the_one_before() {
    both(|store| {
        one(store, write(create(id(1), owner(1), NOW))).unwrap();
        assert_eq!(store.reader().unwrap().execution(id(1)).unwrap().unwrap().generation, 0);
        for wrong in [0, 2, u64::MAX] {
            let stale = Refusal::Stale { execution: id(1), found: 0 };
            assert_eq!(one(store, grant(id(1), wrong, NOW)), Err(stale));
        }
        // Of two that were decided upon the same policy one is told to look again.
        let answers =
            store.write(&[grant(id(1), 1, NOW + 1), grant(id(1), 1, NOW + 2), grant(id(1), 2, NOW + 3)]).unwrap();
        let stale = Refusal::Stale { execution: id(1), found: 1 };
        assert_eq!(answers, [Ok(Written::Granted(1)), Err(stale), Ok(Written::Granted(2))]);

        // Neither does it disturb the owner, nor the owner it.
        one(store, write(commit(id(1), Fence::FIRST, NOW + 4))).unwrap();
        let reader = store.reader().unwrap();
        let record = reader.execution(id(1)).unwrap().unwrap();
        assert_eq!((record.generation, record.fence, record.owner), (2, Fence::FIRST, Some(owner(1))));
        let expected: Vec<GrantRecord> = [(1, NOW + 1), (2, NOW + 3)]
            .map(|(generation, at)| GrantRecord {
                execution: id(1),
                generation,
                policy: Digest::of(format!("policy {generation} of {}", id(1)).as_bytes()),
                by: "ada".into(),
                change: format!("{{\"n\":{generation}}}"),
                at,
            })
            .to_vec();
        assert_eq!(reader.grants(id(1)).unwrap(), expected);
        assert!(reader.payload(&expected[1].policy).unwrap().is_some());
        assert_eq!((reader.grants(id(2)).unwrap(), reader.granted().unwrap()), (Vec::new(), 2));

        assert_eq!(one(store, grant(id(2), 1, NOW)), Err(Refusal::NoExecution(id(2))));
        one(store, end(id(1))).unwrap();
        assert_eq!(one(store, grant(id(1), 3, NOW)), Err(Refusal::Ended(id(1))));
        assert_eq!(store.reader().unwrap().check().unwrap(), [""; 0]);
    });
}

#[test]
fn policies_of_grants_stay_as_long_as_their_execution() {
    both(|store| {
        for n in 1..=2 {
            one(store, write(create(id(n), owner(1), NOW))).unwrap();
            one(store, grant(id(n), 1, NOW)).unwrap();
        }
        one(store, end(id(1))).unwrap();
        let policy = |n| Digest::of(format!("policy 1 of {}", id(n)).as_bytes());
        assert_eq!(collect(store, NOW + 99), 1);
        let reader = store.reader().unwrap();
        assert_eq!((reader.grants(id(1)).unwrap().len(), reader.grants(id(2)).unwrap().len()), (0, 1));
        assert_eq!(reader.payload(&policy(1)).unwrap(), None);
        assert!(reader.payload(&policy(2)).unwrap().is_some());
        assert_eq!(reader.check().unwrap(), [""; 0]);
    });
}

#[test]
fn questions_and_doubts_are_canceled_with_their_execution() {
    both(|store| {
        for (n, canceled) in [(1, true), (2, false)] {
            let mut first = create(id(n), owner(1), NOW);
            let mut ids = Vec::new();
            for (number, (label, stage)) in [("ask", Stage::Asked), ("doubt", Stage::InDoubt)].into_iter().enumerate() {
                let number = number as u64;
                let mut step = read_step(number, Vec::new(), NOW);
                let asked = secret(7).promise_id_of_round(label, id(n), number, 2);
                (step.completion, step.delivered, step.stage) = (None, false, stage);
                step.promise = Some(asked.clone());
                step.notes = b"[{\"verdict\":\"ask\"}]".to_vec();
                first.steps.push(step);
                first.promises.push(promise(asked.clone(), tags(label, id(n), number, false), FOREVER, NOW));
                ids.push(asked);
            }
            let steps = first.steps.clone();
            one(store, write(first)).unwrap();
            assert_eq!(store.reader().unwrap().steps(id(n), 0, 9).unwrap(), steps);
            let cancel = Write::Cancel { execution: id(n), outcome: "\"canceled\"".into(), now: NOW + 9 };
            one(store, if canceled { cancel } else { end(id(n)) }).unwrap();
            for asked in ids {
                let record = store.reader().unwrap().promise(&asked).unwrap().unwrap();
                assert_eq!((record.state, record.settled_at), (PromiseState::RejectedCanceled, Some(NOW + 9)));
            }
        }
    });
}

fn held(hub: &Hub) -> ExecutionId {
    let id = ExecutionId::generate();
    hub.write(write(create(id, hub.owner().unwrap(), hub.now()))).wait().unwrap();
    id
}

fn give(hub: &Hub, id: ExecutionId, generation: u64) -> Result<Written, WriteError> {
    hub.write(grant(id, generation, hub.now())).wait()
}

#[test]
fn an_acknowledged_grant_is_seen_by_the_next_call() {
    let place = Place::new();
    let (here, there) = (place.hub(), place.hub());
    let (one, other) = (held(&here), held(&here));
    let (mut seen, mut of_other) = (Seen::default(), Seen::default());
    assert_eq!(here.generation(ExecutionId::generate(), &mut Seen::default()), Ok(0), "it has no row yet");
    for generation in 1..=200 {
        let hub = if generation % 3 == 0 { &here } else { &there };
        give(hub, one, generation).unwrap();
        assert_eq!(here.generation(one, &mut seen), Ok(generation));
        assert_eq!(here.generation(one, &mut seen), Ok(generation));
        assert_eq!(here.generation(other, &mut of_other), Ok(0));
        // One that was kept for another execution misleads nobody.
        assert_eq!(here.generation(other, &mut seen.clone()), Ok(0));
        if generation % 7 == 0 {
            // Another execution of this process has looked first.
            assert_eq!(here.generation(one, &mut Seen::default()), Ok(generation));
        }
    }
    assert_eq!(here.grants(one).unwrap().len(), 200);
    assert_eq!(here.execution(one).unwrap().unwrap().generation, 200);
    assert_eq!(here.check().unwrap(), [""; 0]);
}

#[test]
fn it_is_seen_in_memory_as_well() {
    let hub = Hub::memory();
    let (id, mut seen) = (held(&hub), Seen::default());
    for generation in 1..=20 {
        give(&hub, id, generation).unwrap();
        assert_eq!(hub.generation(id, &mut seen), Ok(generation));
    }
}

#[test]
fn many_that_grant_at_once_make_one_row_of_generations() {
    const EACH: u64 = 25;
    let place = Place::new();
    let hubs = [place.hub(), place.hub()];
    let id = held(&hubs[0]);
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (hub, acknowledged) = (&hubs[n % 2], &acknowledged);
            scope.spawn(move || {
                let (mut given, mut next) = (0, 1);
                while given < EACH {
                    match give(hub, id, next) {
                        Ok(Written::Granted(generation)) => {
                            acknowledged.fetch_max(generation, Ordering::SeqCst);
                            given += 1;
                            next = generation + 1;
                        }
                        Err(WriteError::Refused(Refusal::Stale { found, .. })) => next = found + 1,
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
        for hub in &hubs {
            let acknowledged = &acknowledged;
            scope.spawn(move || {
                let (mut seen, mut last, started) = (Seen::default(), 0, Instant::now());
                while last < 4 * EACH {
                    assert!(started.elapsed() < Duration::from_secs(20), "it hangs");
                    let before = acknowledged.load(Ordering::SeqCst);
                    let found = hub.generation(id, &mut seen).unwrap();
                    assert!(found >= before && found >= last, "{found} after {before} was acknowledged");
                    last = found;
                }
            });
        }
    });
    let grants = hubs[0].grants(id).unwrap();
    assert_eq!(grants.iter().map(|grant| grant.generation).collect::<Vec<_>>(), (1..=4 * EACH).collect::<Vec<_>>());
}

/// The child is this test again: it grants whenever it is told to, and says so once that is acknowledged.
#[test]
fn it_is_seen_across_processes() {
    const VARIABLE: &str = "PAROLE_TEST_GRANTS";
    if let Ok(text) = std::env::var(VARIABLE) {
        let (path, execution) = text.rsplit_once('=').unwrap();
        let (hub, id) = (Hub::sqlite(Path::new(path)).unwrap(), execution.parse().unwrap());
        for (line, generation) in std::io::stdin().lines().zip(1..) {
            line.unwrap();
            give(&hub, id, generation).unwrap();
            println!("granted {generation}");
        }
        return;
    }
    let place = Place::new();
    let hub = place.hub();
    let (id, mut seen) = (held(&hub), Seen::default());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "it_is_seen_across_processes", "--nocapture"])
        .env(VARIABLE, format!("{}={id}", place.path.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut orders = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for generation in 1..=100 {
        assert_eq!(hub.generation(id, &mut seen), Ok(generation - 1));
        writeln!(orders, "go").unwrap();
        while answers.next().unwrap().unwrap() != format!("granted {generation}") {}
        assert_eq!(hub.generation(id, &mut seen), Ok(generation));
    }
    drop(orders);
    assert!(child.wait().unwrap().success());
}

#[test]
fn damage_is_said_and_others_go_on() {
    let place = Place::new();
    let hub = place.hub();
    let (damaged, whole) = (held(&hub), held(&hub));
    let (mut seen, mut of_whole) = (Seen::default(), Seen::default());
    give(&hub, damaged, 1).unwrap();
    assert_eq!(hub.generation(damaged, &mut seen), Ok(1));
    place.raw().execute("UPDATE executions SET generation = 0 WHERE id = ?", [damaged.0.as_bytes()]).unwrap();
    give(&hub, whole, 1).unwrap();
    let fault = StoreError::Damaged(format!("executions row {damaged}").into());
    assert_eq!(hub.generation(damaged, &mut seen), Err(fault), "a grant is not forgotten in silence");
    assert_eq!(hub.generation(whole, &mut of_whole), Ok(1));
    place.raw().execute("DELETE FROM numbers WHERE name = 'granted'", []).unwrap();
    let fault = StoreError::Damaged("numbers row granted".into());
    assert_eq!(hub.generation(whole, &mut of_whole), Err(fault.clone()));
    assert_eq!(hub.generation(whole, &mut of_whole), Err(fault), "nor at the second look");
    let refused = WriteError::Refused(Refusal::Damaged("numbers row granted".into()));
    assert_eq!(give(&hub, whole, 2), Err(refused));
    assert_eq!(hub.grants(whole).unwrap().len(), 1);
    assert!(hub.check().unwrap().contains(&"numbers row granted".to_owned()));
}
