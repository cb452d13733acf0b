//! Schedules: fired once each time, whoever tries, and the execution is there to be resumed.

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

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use common::*;
use parole_durable::hub::WriteError;
use parole_durable::store::{Lease, Refusal, Usage};
use parole_durable::{Digest, ExecutionId, Fence, Hub, ScheduleId, Write, Written};

const NOW: u64 = 1_700_000_000_000;
const MINUTE: u64 = 60_000;

fn put(fire: parole_durable::schedule::Fire) -> Write {
    Write::Fire(Box::new(fire))
}

#[test]
fn a_schedule_from_its_start_to_its_end() {
    both(|store| {
        let id = ScheduleId::generate();
        let new = schedule(id, Some(NOW + MINUTE), NOW);
        assert_eq!(one(store, Write::Schedule(Box::new(new.clone()))), Ok(Written::Scheduled(0)));
        assert_eq!(one(store, Write::Schedule(Box::new(new))), Err(Refusal::ScheduleExists(id)));
        let first = fire(id, 0, Some(NOW + 2 * MINUTE), NOW + MINUTE + 3);
        assert_eq!(one(store, put(first.clone())), Ok(Written::Fired(1)));

        // The execution is whole, and nobody's.
        let record = store.reader().unwrap().execution(first.execution).unwrap().unwrap();
        assert_eq!((record.schedule, record.owner, record.fence), (Some(id), None, Fence::FIRST));
        assert_eq!((record.component, record.setup), (Digest::of(COMPONENT), Digest::of(SETUP)));
        assert_eq!((record.secret, record.created_at, record.updated_at), (secret(8), first.now, first.now));
        assert_eq!((record.outcome, record.usage, record.generation), (None, Usage::default(), 0));
        let early = commit(first.execution, Fence::FIRST, NOW);
        assert!(
            matches!(one(store, write(early)), Err(Refusal::Fenced { .. })),
            "who has not acquired it may not write"
        );
        let acquire = Write::Acquire { execution: first.execution, owner: owner(3), void: None };
        assert_eq!(one(store, acquire), Ok(Written::Acquired(Fence(2))));
        let mut end = commit(first.execution, Fence(2), NOW + 2 * MINUTE);
        end.lease = Lease::End("0".into());
        one(store, write(end)).unwrap();
        assert_eq!(store.reader().unwrap().execution(first.execution).unwrap().unwrap().schedule, Some(id));

        // The same decision again, and one about what is not so any more.
        let now = NOW + 2 * MINUTE;
        assert_eq!(one(store, put(first.clone())), Err(Refusal::Changed(id)));
        assert_eq!(one(store, put(fire(id, 2, None, now))), Err(Refusal::Changed(id)));
        let same = parole_durable::schedule::Fire { revision: 1, ..first.clone() };
        assert_eq!(one(store, put(same)), Err(Refusal::Exists(first.execution)));

        let pause = |revision, paused| Write::Reschedule { id, revision, paused, next_at: Some(now + 5), now };
        assert_eq!(one(store, pause(0, true)), Err(Refusal::Changed(id)));
        assert_eq!(one(store, pause(1, true)), Ok(Written::Scheduled(2)));
        assert_eq!(one(store, put(fire(id, 2, None, now))), Err(Refusal::Changed(id)), "it is paused");
        assert_eq!(one(store, pause(2, false)), Ok(Written::Scheduled(3)));
        let last = fire(id, 3, None, now + 6);
        assert_eq!(one(store, put(last.clone())), Ok(Written::Fired(4)));
        assert_eq!(one(store, put(fire(id, 4, None, now))), Err(Refusal::Changed(id)), "it is due no more");
        let record = store.reader().unwrap().schedule(id).unwrap().unwrap();
        assert_eq!((record.fired, record.last, record.last_at), (2, Some(last.execution), Some(now + 6)));
        assert_eq!((record.next_at, record.paused, record.revision), (None, false, 4));
        assert_eq!((record.created_at, record.updated_at), (NOW, now + 6));
        assert_eq!(store.reader().unwrap().schedules().unwrap().whole, [record]);
        assert_eq!(store.reader().unwrap().check().unwrap(), [""; 0]);

        assert_eq!(one(store, Write::Unschedule { id }), Ok(Written::Unscheduled));
        assert_eq!(one(store, Write::Unschedule { id }), Err(Refusal::NoSchedule(id)));
        assert_eq!(one(store, put(fire(id, 4, None, now))), Err(Refusal::NoSchedule(id)));
        assert_eq!(one(store, pause(4, true)), Err(Refusal::NoSchedule(id)));
        let reader = store.reader().unwrap();
        assert_eq!((reader.schedules().unwrap().whole, reader.schedule(id).unwrap()), (Vec::new(), None));
        assert!(reader.execution(last.execution).unwrap().is_some(), "what it made stays");
        assert_eq!(reader.check().unwrap(), [""; 0]);
    });
}

#[test]
fn what_a_schedule_names_is_kept_as_long_as_it_is_there() {
    both(|store| {
        let id = ScheduleId::generate();
        one(store, Write::Schedule(Box::new(schedule(id, Some(NOW), NOW)))).unwrap();
        let fired = fire(id, 0, Some(NOW + 9), NOW);
        let execution = fired.execution;
        one(store, put(fired)).unwrap();
        one(store, Write::Cancel { execution, outcome: "0".into(), now: NOW }).unwrap();
        assert_eq!(collect(store, NOW + 1), 1);
        let stored = |store: &dyn parole_durable::Store, bytes: &[u8]| {
            store.reader().unwrap().payload(&Digest::of(bytes)).unwrap().is_some()
        };
        assert!(stored(store, COMPONENT) && stored(store, SETUP));
        assert_eq!(store.reader().unwrap().schedule(id).unwrap().unwrap().last, Some(execution), "though it is gone");
        assert_eq!(store.reader().unwrap().check().unwrap(), [""; 0]);
        one(store, Write::Unschedule { id }).unwrap();
        collect(store, NOW + 1);
        assert!(!stored(store, COMPONENT) && !stored(store, SETUP));
    });
}

/// Does what every process that watches schedules does, and gives the times at which it has won.
fn watch(hub: &Hub, id: ScheduleId, last: u64) -> Vec<u64> {
    let mut won = Vec::new();
    loop {
        let record = hub.schedule(id).unwrap().unwrap();
        let Some(due) = record.next_at else { return won };
        let next_at = (due < last).then_some(due + 1);
        let attempt = fire(id, record.revision, next_at, due);
        match hub.write(Write::Fire(Box::new(attempt))).wait() {
            Ok(Written::Fired(_)) => won.push(due),
            Err(WriteError::Refused(Refusal::Changed(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Three processes with two threads each; the children are this test again, and tell at what times they have won.
#[test]
fn of_many_that_fire_at_once_one_does_each_time() {
    const VARIABLE: &str = "PAROLE_TEST_SCHEDULE";
    const TIMES: u64 = 300;
    let two_threads = |hub: &Hub, id: ScheduleId| -> Vec<u64> {
        std::thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(|| watch(hub, id, TIMES)));
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        })
    };
    if let Ok(text) = std::env::var(VARIABLE) {
        let (path, id) = text.rsplit_once('=').unwrap();
        for due in two_threads(&Hub::sqlite(Path::new(path)).unwrap(), id.parse().unwrap()) {
            println!("won {due}");
        }
        return;
    }
    let place = Place::new();
    let hub = place.hub();
    let id = ScheduleId::generate();
    hub.write(Write::Schedule(Box::new(schedule(id, Some(1), NOW)))).wait().unwrap();
    let children: Vec<_> = (0..2)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "of_many_that_fire_at_once_one_does_each_time", "--nocapture"])
                .env(VARIABLE, format!("{}={id}", place.path.display()))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut won = two_threads(&hub, id);
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        won.extend(text.lines().filter_map(|line| line.strip_prefix("won ")).map(|due| due.parse::<u64>().unwrap()));
    }
    won.sort_unstable();
    assert_eq!(won, (1..=TIMES).collect::<Vec<_>>(), "each time once, none left out");
    let executions = hub.executions(true).unwrap().whole;
    let made: BTreeSet<ExecutionId> = executions.iter().filter(|e| e.schedule == Some(id)).map(|e| e.id).collect();
    let record = hub.schedule(id).unwrap().unwrap();
    assert_eq!((made.len() as u64, record.fired, record.revision), (TIMES, TIMES, TIMES));
    assert!(made.contains(&record.last.unwrap()));
    let times: BTreeSet<u64> = executions.iter().map(|e| e.created_at).collect();
    assert_eq!(times.len() as u64, TIMES);
    assert_eq!(hub.check().unwrap(), [""; 0]);
}
