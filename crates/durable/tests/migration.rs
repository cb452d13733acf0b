//! A database of an older schema version becomes one of the present version, whatever happens on the way.

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

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use common::*;
use parole_durable::sqlite::SqliteStore;
use parole_durable::state_dir::StateDir;
use parole_durable::store::{Refusal, Usage};
use parole_durable::{
    Completion, EffectClass, ExecutionId, Fence, PromiseState, ScheduleId, Stage, StepResult, Store, StoreError, Write,
    Written,
};
use rusqlite::{Connection, params};
use uuid::Uuid;

const NOW: u64 = 1_700_000_000_000;
/// Bytes of the head of the log, and of each of its frames.
const LOG_HEAD: usize = 32;
const FRAME: usize = 24 + 8192;

fn id(n: u128) -> ExecutionId {
    ExecutionId(Uuid::from_u128(n))
}

/// The schema version of this program.
const PRESENT: i64 = 4;
/// What a program of version 1 left, one of version 2, and one of version 3.
const DUMPS: [(i64, &str); 3] =
    [(1, include_str!("data/0001.sql")), (2, include_str!("data/0002.sql")), (3, include_str!("data/0003.sql"))];

/// A state directory as a program of schema version 1 left it.
fn old() -> Place {
    left_by(DUMPS[0])
}

fn left_by((version, dump): (i64, &str)) -> Place {
    let place = Place::new();
    std::fs::DirBuilder::new().mode(0o700).create(&place.path).unwrap();
    let raw = place.raw();
    raw.execute_batch("PRAGMA page_size = 8192; PRAGMA journal_mode = WAL;").unwrap();
    raw.execute_batch(dump).unwrap();
    raw.pragma_update(None, "user_version", version).unwrap();
    drop(raw);
    close(&place.path);
    place
}

/// The files of a directory belong to their owner alone.
fn close(path: &Path) {
    for entry in std::fs::read_dir(path).unwrap() {
        std::fs::set_permissions(entry.unwrap().path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn version(place: &Place) -> i64 {
    place.raw().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

/// What the old program had written is there, whole and unchanged.
fn assert_whole(place: &Place, store: &SqliteStore) {
    assert_eq!(version(place), PRESENT);
    let reader = store.reader().unwrap();
    assert_eq!(reader.check().unwrap(), [""; 0]);
    let executions = reader.executions(true).unwrap().whole;
    assert_eq!(executions.iter().map(|e| e.id).collect::<Vec<_>>(), [id(1), id(2), id(3)]);
    assert!(executions.iter().all(|e| e.generation == 0 && e.schedule.is_none()));
    assert!(executions.iter().all(|e| e.calls.is_none() && e.felled == 0 && e.showing.is_none() && e.aside.is_none()));
    let usage = Usage { cpu_us: 11, wall_us: 12, output: 13, journal: 14, shown: 2 };
    assert_eq!((executions[0].usage, executions[0].owner, executions[0].outcome.as_ref()), (usage, None, None));
    assert_eq!(executions[1].outcome.as_deref(), Some("{\"outcome\":\"completed\"}"));
    assert_eq!(executions[2].owner, Some(owner(2)));
    let steps = [1, 2, 3].map(|n| reader.steps(id(n), 0, 99).unwrap());
    assert!(steps.iter().flatten().all(|step| step.stage == Stage::Admitted && step.notes.is_empty()));
    assert_eq!(steps.each_ref().map(Vec::len), [3, 3, 1]);
    assert_eq!((steps[0][0].calls, steps[0][0].arguments.as_slice()), (2, &b"\0\x02\0\0\0hi\0\x01\0\0\0!"[..]));
    assert_eq!(steps[0][1], read_step(2, b"contents".to_vec(), NOW + 1));
    assert_eq!(steps[0][2], wait(id(1), 3, NOW + 3_600_000, NOW + 2).0);
    assert_eq!(steps[1][1], read_step(1, vec![7; 5000], NOW + 7));
    assert_eq!((steps[2][0].effect, &steps[2][0].completion), (EffectClass::Idempotent, &None));
    let asked = steps[0][2].promise.as_ref().unwrap();
    assert_eq!(reader.promise(asked).unwrap().unwrap(), wait(id(1), 3, NOW + 3_600_000, NOW + 2).1);
    let answered = reader.promise(steps[1][2].promise.as_ref().unwrap()).unwrap().unwrap();
    assert_eq!((answered.state, answered.settled_at), (PromiseState::Resolved, Some(NOW + 9)));
    assert!(reader.promise(&"an-odd-one".into()).unwrap().is_some());
    assert_eq!((reader.cursor().unwrap(), reader.granted().unwrap()), (2, 0));
    assert_eq!((reader.schedules().unwrap().whole, reader.grants(id(1)).unwrap()), (Vec::new(), Vec::new()));
}

#[test]
fn an_old_database_is_taken_over_and_used() {
    let place = old();
    let mut store = place.store();
    assert_whole(&place, &store);
    drop(store);
    store = place.store();
    assert_whole(&place, &store);

    // Old rows go on as new ones.
    let asked = store.reader().unwrap().steps(id(1), 3, 1).unwrap()[0].promise.clone().unwrap();
    let mut written = store.reader().unwrap().steps(id(3), 0, 1).unwrap().remove(0);
    written.completion = Some(Completion { at: NOW + 99, result: StepResult::Ok(Vec::new()) });
    written.notes = b"[]".to_vec();
    written.stage = Stage::InDoubt;
    let mut next = commit(id(3), Fence(2), NOW + 99);
    next.steps.push(written.clone());
    let schedule = schedule(ScheduleId::generate(), Some(NOW), NOW);
    let fired = fire(schedule.id, 0, None, NOW);
    let made = fired.execution;
    let batch = [
        resolve(&asked, "\"Ada\"", NOW + 99),
        Write::Acquire { execution: id(3), owner: owner(5), void: Some(owner(2)) },
        grant(id(3), 1, NOW + 99),
        write(next),
        Write::Schedule(Box::new(schedule)),
        Write::Fire(Box::new(fired)),
        Write::Collect { executions: [1, 2, 3].map(id).to_vec(), before: NOW + 1000 },
    ];
    let answers = store.write(&batch).unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(answers[6], Ok(Written::Collected(1)));
    let reader = store.reader().unwrap();
    assert_eq!(reader.steps(id(3), 0, 9).unwrap(), [written]);
    let ids: Vec<ExecutionId> = reader.executions(true).unwrap().whole.iter().map(|e| e.id).collect();
    assert_eq!(ids, [id(1), id(3), made]);
    assert_eq!(reader.execution(id(3)).unwrap().unwrap().generation, 1);
    assert_eq!(reader.check().unwrap(), [""; 0]);
}

/// What a program of version 2 had written is there, whole and unchanged.
fn assert_whole_2(place: &Place, store: &SqliteStore) {
    assert_eq!(version(place), PRESENT);
    let reader = store.reader().unwrap();
    assert_eq!(reader.check().unwrap(), [""; 0]);
    let executions = reader.executions(true).unwrap().whole;
    assert_eq!(executions.iter().map(|e| e.id).collect::<Vec<_>>(), [1, 2, 3, 4, 5].map(id));
    assert!(executions.iter().all(|e| e.calls.is_none() && e.felled == 0 && e.showing.is_none() && e.aside.is_none()));
    let usage = Usage { cpu_us: 11, wall_us: 12, output: 13, journal: 14, shown: 2 };
    assert_eq!((executions[0].usage, executions[0].generation), (usage, 1));
    let schedule = reader.schedules().unwrap().whole.remove(0);
    assert_eq!((executions[3].schedule, schedule.last, schedule.revision), (Some(schedule.id), Some(id(4)), 1));
    assert_eq!(reader.grants(id(1)).unwrap()[0].by, "ada");
    assert_eq!(reader.granted().unwrap(), 1);
    let steps = [1, 2, 3, 4, 5].map(|n| reader.steps(id(n), 0, 99).unwrap());
    assert_eq!(steps.each_ref().map(Vec::len), [3, 2, 1, 0, 1]);
    assert_eq!((steps[0][1].notes.as_slice(), steps[1][1].notes.len(), steps[1][1].size()), (&b"[1]"[..], 4098, 8215));
    let timer = reader.promise(steps[4][0].promise.as_ref().unwrap()).unwrap().unwrap();
    assert!(timer.is_timer() && timer.state == PromiseState::Pending);
}

#[test]
fn a_database_of_version_2_is_taken_over_and_used() {
    let place = left_by(DUMPS[1]);
    let mut store = place.store();
    assert_whole_2(&place, &store);
    // How many calls an execution has is found out when it is taken, and kept from then on.
    for (n, void, calls) in [(1, None, 4), (3, Some(owner(2)), 1), (4, None, 0)] {
        one(&mut store, Write::Acquire { execution: id(n), owner: owner(5), void }).unwrap();
        assert_eq!(store.reader().unwrap().execution(id(n)).unwrap().unwrap().calls, Some(calls));
    }
    let mut next = commit(id(4), Fence(2), NOW + 99);
    next.steps.push(read_step(0, Vec::new(), NOW + 99));
    assert!(one(&mut store, write(next)).is_ok());
    assert_eq!(store.reader().unwrap().execution(id(4)).unwrap().unwrap().calls, Some(1));
    // Of one that had ended nobody is known to have shown the output.
    assert_eq!(
        one(&mut store, Write::Claim { execution: id(2), owner: Some(owner(5)), void: None }),
        Ok(Written::Claimed)
    );
    assert_eq!(store.reader().unwrap().check().unwrap(), [""; 0]);
}

/// What the program of version 3 had written is there.
fn assert_whole_3(place: &Place, store: &SqliteStore) {
    assert_eq!(version(place), PRESENT);
    let reader = store.reader().unwrap();
    assert_eq!(reader.check().unwrap(), [""; 0]);
    assert_eq!(reader.executions(true).unwrap().whole.len(), 6);
    let own = reader.executions(false).unwrap().whole.pop().unwrap();
    assert_eq!((own.calls, own.owner), (Some(1), None));
    assert_eq!(reader.claims().unwrap(), []);
}

/// A promise that an older program made can be claimed and settled by a worker.
#[test]
fn a_database_of_version_3_is_taken_over_and_used() {
    let place = left_by(DUMPS[2]);
    let mut store = place.store();
    assert_whole_3(&place, &store);
    let own = store.reader().unwrap().executions(false).unwrap().whole.pop().unwrap();
    let step = store.reader().unwrap().steps(own.id, 0, 1).unwrap().remove(0);
    let (id, now) = (step.promise.unwrap(), own.created_at + 1);
    let taken = one(&mut store, Write::Take { id: id.clone(), owner: owner(5), void: None, now }).unwrap();
    let Written::Taken(claim) = taken else { panic!("{taken:?}") };
    assert_eq!(store.reader().unwrap().claims().unwrap(), [*claim.clone()]);
    let (state, value) = (PromiseState::Resolved, parole_durable::Value::json("\"Ada\""));
    let settle = |claim| Write::Settle { id: id.clone(), state, value: value.clone(), claim, now };
    assert_eq!(one(&mut store, settle(Some((owner(6), claim.fence)))), Err(Refusal::Claimed(id.clone())));
    assert!(matches!(one(&mut store, settle(Some((owner(5), claim.fence)))), Ok(Written::Settled { won: true, .. })));
    assert_eq!(store.reader().unwrap().claims().unwrap(), []);
}

/// A crash leaves some beginning of the log: the upgrade is then made again, or it was finished.
#[test]
fn a_crash_at_any_point_of_the_upgrade_loses_nothing() {
    for dump in DUMPS {
        let place = left_by(dump);
        let database = std::fs::read(place.path.join("parole.db")).unwrap();
        drop(place.store());
        assert_eq!(std::fs::read(place.path.join("parole.db")).unwrap(), database, "all of it is in the log");
        let log = std::fs::read(place.path.join("parole.db-wal")).unwrap();
        let frames = (log.len() - LOG_HEAD) / FRAME;
        assert!(frames >= 2, "{} bytes of log", log.len());
        let ends = (0..=frames).map(|frame| LOG_HEAD + frame * FRAME);
        let cuts = ends.flat_map(|end| [end, end + 7, end + 24, end + 24 + 4096]).chain([0, 9]);
        let mut finished = 0;
        for cut in cuts.map(|cut| cut.min(log.len())) {
            let crashed = Place::new();
            std::fs::DirBuilder::new().mode(0o700).create(&crashed.path).unwrap();
            std::fs::write(crashed.path.join("parole.db"), &database).unwrap();
            std::fs::write(crashed.path.join("parole.db-wal"), &log[..cut]).unwrap();
            close(&crashed.path);
            let before = version(&crashed);
            close(&crashed.path);
            assert!(before == dump.0 || (before == PRESENT && cut == log.len()), "{before} after {cut} bytes");
            finished += usize::from(before == PRESENT);
            let store = crashed.store();
            match dump.0 {
                1 => assert_whole(&crashed, &store),
                2 => assert_whole_2(&crashed, &store),
                _ => assert_whole_3(&crashed, &store),
            }
        }
        assert!(finished > 0);
    }
}

#[test]
fn of_many_that_upgrade_at_once_one_does() {
    for _ in 0..20 {
        let place = old();
        let dir = StateDir::open(&place.path).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let dir = &dir;
                scope.spawn(move || SqliteStore::open(dir).unwrap().reader().unwrap().check().unwrap());
            }
        });
        assert_whole(&place, &place.store());
    }
}

/// The statements of a program of version 1 that has the database open meanwhile: it fails, and nothing is torn.
#[test]
fn a_program_of_version_1_that_is_still_there_can_do_no_harm() {
    let place = old();
    let running: Connection = place.raw();
    let mut kept = running.prepare("INSERT OR REPLACE INTO steps VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)").unwrap();
    let mut store = place.store();
    let none = None::<i64>;
    let error = kept.execute(params![id(1).0.as_bytes(), 4, 1, "f", 2, b"", none, 0, none, none, none, false, 0, 0]);
    assert!(error.unwrap_err().to_string().contains("14 values"));
    one(&mut store, grant(id(1), 1, NOW)).unwrap();
    assert_eq!(store.reader().unwrap().check().unwrap(), [""; 0]);
}

/// Its statements that change a row, as they were.
const OF_VERSION_2: &[&str] = &[
    "INSERT INTO executions VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    "UPDATE executions SET fence = ?, owner = ?, cpu_us = ?, wall_us = ?, output = ?, journal = ?, shown = ?, \
     updated_at = ?, outcome = ?, ended_seq = ?, crc = ?, generation = ? WHERE id = ?",
    "UPDATE promises SET state = ?, settled_at = ?, settled_seq = ?, value_headers = ?, value = ?, crc = ? \
     WHERE execution = ? AND id = ?",
    "UPDATE counters SET value = value + 1 WHERE name = 'granted'",
    // With these it began what writes to other tables.
    "SELECT id, component, setup, secret, fence, owner, cpu_us, wall_us, output, journal, shown, created_at, \
     updated_at, outcome, ended_seq, crc, generation, schedule FROM executions WHERE id = ?",
    "SELECT id, spec, component, setup, next_at, paused, fired, last, last_at, revision, created_at, updated_at, crc \
     FROM schedules WHERE id = ?",
    "UPDATE counters SET value = ?1 WHERE name = 'settled' AND value <> ?1",
];

#[test]
fn a_program_of_version_2_that_is_still_there_can_do_no_harm() {
    let place = left_by(DUMPS[1]);
    let running: Connection = place.raw();
    // They were right when they were prepared, and are looked at again once the schema is another one.
    let mut kept: Vec<_> = OF_VERSION_2.iter().map(|sql| running.prepare(sql).unwrap()).collect();
    drop(place.store());
    for statement in &mut kept {
        let sum = statement.parameter_count();
        let error = statement.raw_query().next().err().map(|error| error.to_string());
        assert!(
            error.as_ref().is_some_and(|text| text.contains("no such") || text.contains("18 values")),
            "{sum} {error:?}"
        );
    }
}

#[test]
fn a_program_that_is_overtaken_by_a_newer_one_writes_nothing_more() {
    let place = Place::new();
    let mut store = place.store();
    let hub = place.hub();
    one(&mut store, write(create(id(1), owner(1), NOW))).unwrap();
    assert!(hub.write(cancel_of(id(9))).wait().is_err_and(|error| error == Refusal::NoExecution(id(9)).into()));
    // What a newer program leaves: a version above ours.
    place.raw().pragma_update(None, "user_version", PRESENT + 1).unwrap();
    let error = StoreError::Version { found: PRESENT + 1, known: PRESENT };
    for _ in 0..2 {
        assert_eq!(store.write(&[write(commit(id(1), Fence(1), NOW + 1))]), Err(error.clone()));
        assert_eq!(hub.write(cancel_of(id(1))).wait(), Err(error.clone().into()));
    }
    let dir = StateDir::open(&place.path).unwrap();
    assert_eq!(SqliteStore::open(&dir).err(), Some(error));
    place.raw().pragma_update(None, "user_version", PRESENT).unwrap();
    assert_eq!(place.store().reader().unwrap().execution(id(1)).unwrap().unwrap().updated_at, NOW);
    assert_eq!(one(&mut store, write(commit(id(1), Fence(1), NOW + 1))), Ok(Written::Committed));
}

fn cancel_of(execution: ExecutionId) -> Write {
    Write::Cancel { execution, outcome: "0".into(), now: NOW }
}
