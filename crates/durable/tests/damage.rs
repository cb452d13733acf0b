//! Nothing stored can change unnoticed: every field of every row is under a checksum or a reference.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, missing_docs, reason = "tests")]

mod common;

use common::*;
use parole_durable::store::{INLINE_LIMIT, Refusal};
use parole_durable::{Digest, ExecutionId, ScheduleId, Stage, Store, StoreError, Write};
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
    assert_eq!(store.reader().unwrap().schedules().unwrap(), []);
}
