//! Nothing stored can change unnoticed: every field of every row is under a checksum or a reference.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, missing_docs, reason = "tests")]

mod common;

use common::*;
use parole_durable::store::{Damaged, INLINE_LIMIT, PromiseFilter, Refusal};
use parole_durable::{Digest, ExecutionId, Fence, ScheduleId, Stage, Store, StoreError, Write, Written};
use rusqlite::types::Value as Cell;
use uuid::Uuid;

const NOW: u64 = 1_700_000_000_000;

fn id(n: u128) -> ExecutionId {
    ExecutionId(Uuid::from_u128(n))
}

/// A row of each kind that there is, and the schedule.
fn filled(place: &Place) -> ScheduleId {
    let mut store = place.store();
    let (mut first, _) = parked(id(1), owner(1), FOREVER, NOW);
    first.lease = parole_durable::store::Lease::Keep;
    let mut asked = read_step(1, b"x".to_vec(), NOW);
    (asked.completion, asked.delivered, asked.stage) = (None, false, Stage::Asked);
    asked.notes = b"[1]".to_vec();
    let mut doubtful = read_step(2, b"x".to_vec(), NOW);
    doubtful.stage = Stage::InDoubt;
    doubtful.notes = vec![b' '; INLINE_LIMIT + 1];
    first.steps.extend([asked, doubtful, read_step(3, b"x".to_vec(), NOW)]);
    let schedule = schedule(ScheduleId(Uuid::from_u128(9)), Some(NOW), NOW);
    let mut fired = fire(schedule.id, 0, Some(NOW), NOW);
    fired.execution = id(2);
    let id_of_schedule = schedule.id;
    let batch = [
        write(first),
        grant(id(1), 1, NOW),
        grant(id(1), 2, NOW),
        Write::Schedule(Box::new(schedule)),
        Write::Fire(Box::new(fired)),
    ];
    assert!(store.write(&batch).unwrap().iter().all(Result::is_ok));
    id_of_schedule
}

fn changed(cell: &Cell, column: &str, kind: &str) -> Cell {
    match cell {
        // Only whether it is 0 matters there.
        Cell::Integer(n) if matches!(column, "delivered" | "paused") => Cell::Integer(1 - n),
        Cell::Integer(n) => Cell::Integer(n ^ 1),
        Cell::Text(text) => Cell::Text(format!("{text} ")),
        Cell::Blob(bytes) if bytes.is_empty() => Cell::Blob(vec![0]),
        Cell::Blob(bytes) => {
            let mut bytes = bytes.clone();
            *bytes.last_mut().unwrap() ^= 1;
            Cell::Blob(bytes)
        }
        Cell::Null if kind == "INTEGER" => Cell::Integer(0),
        Cell::Null if kind == "TEXT" => Cell::Text(String::new()),
        Cell::Null => Cell::Blob(vec![0; 16]),
        Cell::Real(_) => panic!("no such column"),
    }
}

#[test]
fn every_field_of_every_row_is_checked() {
    let place = Place::new();
    filled(&place);
    let store = place.store();
    let reader = store.reader().unwrap();
    assert_eq!(reader.check().unwrap(), [""; 0]);
    let raw = place.raw();
    let mut looked = 0;
    for (table, key) in [
        ("executions", "id"),
        ("steps", "execution, number"),
        ("promises", "execution, id"),
        ("grants", "execution, generation"),
        ("schedules", "id"),
    ] {
        let columns: Vec<(String, String)> = raw
            .prepare(&format!("SELECT name, type FROM pragma_table_info('{table}')"))
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let count: i64 = raw.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert!(count > 0);
        for row in 0..count {
            for (column, kind) in &columns {
                let all = format!("SELECT * FROM {table} ORDER BY {key} LIMIT 1 OFFSET {row}");
                let before: Vec<Cell> =
                    raw.query_row(&all, [], |found| (0..columns.len()).map(|n| found.get(n)).collect()).unwrap();
                let place = columns.iter().position(|(name, _)| name == column).unwrap();
                let mut after = before.clone();
                after[place] = changed(&before[place], column, kind);
                let exchange = |from: &[Cell], to: &[Cell]| {
                    let keys: Vec<&str> = key.split(", ").collect();
                    let at = |name: &str| columns.iter().position(|(own, _)| own == name).unwrap();
                    let condition: Vec<String> = keys.iter().map(|name| format!("{name} IS ?")).collect();
                    let values = keys.iter().map(|name| from[at(name)].clone());
                    let sql = format!("DELETE FROM {table} WHERE {}", condition.join(" AND "));
                    assert_eq!(raw.execute(&sql, rusqlite::params_from_iter(values)).unwrap(), 1);
                    let marks = vec!["?"; columns.len()].join(",");
                    let sql = format!("INSERT INTO {table} VALUES ({marks})");
                    raw.execute(&sql, rusqlite::params_from_iter(to.iter().cloned())).unwrap();
                };
                // A key that is taken already cannot be written: no damage of this kind.
                let taken = key.contains(column.as_str()) && matches!(before[place], Cell::Integer(_));
                if taken {
                    continue;
                }
                exchange(&before, &after);
                assert_ne!(reader.check().unwrap(), [""; 0], "{table}.{column} of row {row}: {:?}", after[place]);
                exchange(&after, &before);
                looked += 1;
            }
        }
    }
    assert_eq!(reader.check().unwrap(), [""; 0]);
    assert!(looked > 120, "{looked}");
}

#[test]
fn what_is_missing_or_changed_is_named_and_others_go_on() {
    let place = Place::new();
    let schedule_id = filled(&place);
    let mut store = place.store();
    let raw = place.raw();
    let of = |n: u128| id(n).0.as_bytes().to_vec();
    let change = |sql: &str, values: &[&dyn rusqlite::ToSql]| assert_eq!(raw.execute(sql, values).unwrap(), 1, "{sql}");

    // The stage is in a number beside others; notes in a row, and in a payload.
    change("UPDATE steps SET stored = 16 WHERE execution = ? AND number = 1", &[&of(1)]);
    let step = StoreError::Damaged(format!("steps row 1 of execution {}", id(1)).into());
    assert_eq!(store.reader().unwrap().steps(id(1), 1, 1), Err(step.clone()));
    change("UPDATE steps SET stored = 8, notes = NULL WHERE execution = ? AND number = 1", &[&of(1)]);
    assert_eq!(store.reader().unwrap().steps(id(1), 1, 1), Err(step));
    let long = Digest::of(&[b' '; INLINE_LIMIT + 1]);
    change("DELETE FROM payloads WHERE digest = ?", &[&long.0]);
    let fault = StoreError::Damaged(format!("steps row 2 of execution {}: its payload is missing", id(1)).into());
    assert_eq!(store.reader().unwrap().steps(id(1), 2, 1), Err(fault));
    assert_eq!(store.reader().unwrap().steps(id(1), 3, 1).unwrap().len(), 1);

    let policy = Digest::of(format!("policy 2 of {}", id(1)).as_bytes());
    change("DELETE FROM payloads WHERE digest = ?", &[&policy.0]);
    change("UPDATE grants SET author = 'eve' WHERE execution = ? AND generation = 1", &[&of(1)]);
    change("DELETE FROM payloads WHERE digest = ?", &[&Digest::of(COMPONENT).0]);
    let reader = store.reader().unwrap();
    assert_eq!(
        reader.check().unwrap(),
        [
            format!("steps row 1 of execution {}", id(1)),
            format!("steps row 2 of execution {}: its payload is missing", id(1)),
            format!("grants row 1 of execution {}", id(1)),
            format!("grants row 2 of execution {}: its policy is missing", id(1)),
            format!("schedules row {schedule_id}: its component is missing"),
        ]
    );
    let fault = StoreError::Damaged(format!("grants row 1 of execution {}", id(1)).into());
    assert_eq!(reader.grants(id(1)), Err(fault));

    change("DELETE FROM grants WHERE execution = ? AND generation = 1", &[&of(1)]);
    change("UPDATE schedules SET next_at = next_at - 1 WHERE id = ?", &[&schedule_id.0.as_bytes()]);
    let faults = reader.check().unwrap();
    assert!(faults.contains(&format!("grants row 2 of execution {}: the grant before it is missing", id(1))));
    assert!(faults.contains(&format!("schedules row {schedule_id}")));
    change("DELETE FROM grants WHERE execution = ? AND generation = 2", &[&of(1)]);
    let faults = reader.check().unwrap();
    assert!(faults.contains(&format!("executions row {}: its grant 2 is missing", id(1))));

    // Writes that need a damaged row are refused; the rest of the batch is not.
    let damaged = Refusal::Damaged(format!("schedules row {schedule_id}").into());
    let text = format!("schedules row {schedule_id}");
    assert_eq!(reader.schedule(schedule_id), Err(StoreError::Damaged(text.as_str().into())));
    let attempt = Write::Fire(Box::new(fire(schedule_id, 1, None, NOW)));
    let answers = store.write(&[attempt, grant(id(2), 1, NOW), Write::Unschedule { id: schedule_id }]).unwrap();
    assert_eq!(answers[0], Err(damaged));
    assert!(answers[1].is_ok() && answers[2].is_ok(), "{answers:?}");
    assert_eq!(store.reader().unwrap().schedules().unwrap().whole, []);
}

/// An execution with everything that one can have, parked; `n` tells it from others.
fn rich(store: &mut dyn Store, n: u128) {
    let (mut first, _) = parked(id(n), owner(1), FOREVER, NOW);
    first.steps.push(read_step(1, vec![n.to_le_bytes()[0]; INLINE_LIMIT + 1], NOW));
    for write in [write(first), grant(id(n), 1, NOW)] {
        assert!(one(store, write).is_ok());
    }
}

fn aside(n: u128) -> Write {
    Write::SetAside { execution: id(n), outcome: "\"aside\"".into(), now: NOW + 5 }
}

#[test]
fn a_damaged_row_stands_in_lists_beside_the_others() {
    let place = Place::new();
    let mut store = place.store();
    (1..=3).for_each(|n| rich(&mut store, n));
    let schedules = [4_u128, 5].map(|n| ScheduleId(Uuid::from_u128(n)));
    for id in schedules {
        one(&mut store, Write::Schedule(Box::new(schedule(id, Some(NOW), NOW)))).unwrap();
    }
    let raw = place.raw();
    let change = |sql: &str, key: &Uuid| assert_eq!(raw.execute(sql, [key.as_bytes()]).unwrap(), 1, "{sql}");
    change("UPDATE executions SET fence = fence + 1 WHERE id = ?", &id(1).0);
    change("UPDATE promises SET created_at = 0 WHERE execution = ?", &id(2).0);
    change("UPDATE schedules SET fired = 9 WHERE id = ?", &schedules[0].0);
    let reader = store.reader().unwrap();
    let executions = reader.executions(false).unwrap();
    assert_eq!(executions.whole.iter().map(|e| e.id).collect::<Vec<_>>(), [id(2), id(3)]);
    let what = format!("executions row {}", id(1));
    assert_eq!(executions.damaged, [Damaged { execution: Some(id(1)), what: what.as_str().into() }]);
    assert_eq!(executions.all(), Err(StoreError::Damaged(what.into())));
    for pending in [true, false] {
        let filter = PromiseFilter { pending, ..PromiseFilter::default() };
        let promises = reader.promises(&filter).unwrap();
        assert_eq!(promises.whole.len(), 2);
        assert_eq!(promises.damaged[0].execution, Some(id(2)));
        // Others are not concerned.
        let filter = PromiseFilter { execution: Some(id(3)), ..filter };
        assert_eq!(reader.promises(&filter).unwrap().all().unwrap().len(), 1);
    }
    let listed = reader.schedules().unwrap();
    assert_eq!((listed.whole.len(), listed.damaged.len()), (1, 1));
}

#[test]
fn whatever_is_damaged_of_an_execution_it_can_be_set_aside() {
    let long = |n: u8| Digest::of(&vec![n; INLINE_LIMIT + 1]).0.to_vec();
    let policy = |n: u128| Digest::of(format!("policy 1 of {}", id(n)).as_bytes()).0.to_vec();
    let key = |n: u128| id(n).0.as_bytes().to_vec();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("UPDATE executions SET journal = 99 WHERE id = ?", key(1), "executions row"),
        ("DELETE FROM executions WHERE id = ?", key(1), "is missing"),
        ("UPDATE executions SET setup = x'00' WHERE id = ?", key(1), "executions row"),
        ("UPDATE steps SET effect = 4 WHERE number = 1 AND execution = ?", key(1), "steps row 1"),
        ("DELETE FROM steps WHERE number = 0 AND execution = ?", key(1), "steps row 1"),
        ("DELETE FROM steps WHERE number = 1 AND execution = ?", key(1), "the steps of the calls 1 to 1 are missing"),
        ("UPDATE payloads SET bytes = x'00' WHERE digest = ?", long(1), "its payload is damaged"),
        ("DELETE FROM payloads WHERE digest = ?", long(1), "its payload is missing"),
        ("UPDATE promises SET state = 1 WHERE execution = ?", key(1), "promises row"),
        ("DELETE FROM promises WHERE execution = ?", key(1), "its promise is missing"),
        ("UPDATE grants SET author = 'eve' WHERE execution = ?", key(1), "grants row 1"),
        ("DELETE FROM grants WHERE execution = ?", key(1), "its grant 1 is missing"),
        ("DELETE FROM payloads WHERE digest = ?", policy(1), "its policy is missing"),
    ];
    for (sql, values, what) in cases {
        let place = Place::new();
        let mut store = place.store();
        (1..=2).for_each(|n| rich(&mut store, n));
        // Of what is whole nothing is lost.
        assert_eq!(one(&mut store, aside(1)), Err(Refusal::Whole(id(1))));
        assert_eq!(one(&mut store, aside(3)), Err(Refusal::NoExecution(id(3))));
        assert_eq!(place.raw().execute(sql, [&values]).unwrap(), 1, "{sql}");
        let faults = store.reader().unwrap().damage(id(1)).unwrap();
        assert!(faults.iter().any(|fault| fault.contains(what)), "{sql}: {faults:?}");
        assert_eq!(store.reader().unwrap().damage(id(2)).unwrap(), [""; 0]);

        assert_eq!(one(&mut store, aside(1)), Ok(Written::SetAside), "{sql}");
        assert_eq!(one(&mut store, aside(1)), Err(Refusal::Ended(id(1))));
        drop(store);
        let store = place.store();
        let reader = store.reader().unwrap();
        let record = reader.execution(id(1)).unwrap().unwrap();
        assert_eq!((record.outcome.as_deref(), record.owner), (Some("\"aside\""), None), "{sql}");
        assert!(record.aside.is_some_and(|text| text.contains(what)), "{sql}");
        assert_eq!(reader.executions(false).unwrap().all().unwrap().len(), 1);
        let pending = PromiseFilter { pending: true, ..PromiseFilter::default() };
        assert_eq!(reader.promises(&pending).unwrap().all().unwrap().len(), 1, "{sql}");
        assert!(reader.steps(id(1), 0, 9).is_ok() && reader.grants(id(1)).is_ok());
        assert_eq!(reader.check().unwrap(), [""; 0], "{sql}");
    }
}

#[test]
fn who_has_lost_the_row_of_an_execution_does_not_go_on_with_it() {
    let place = Place::new();
    let mut store = place.store();
    one(&mut store, write(create(id(1), owner(1), NOW))).unwrap();
    assert_eq!(place.raw().execute("UPDATE executions SET cpu_us = 1", []).unwrap(), 1);
    one(&mut store, aside(1)).unwrap();
    assert_eq!(one(&mut store, write(commit(id(1), Fence(1), NOW))), Err(Refusal::Ended(id(1))));
}
