//! What SQLite is trusted with: damage, versions, permissions, locks, full disks, size.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::too_many_lines,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use common::*;
use parole_durable::owner::Owners;
use parole_durable::sqlite::SqliteStore;
use parole_durable::state_dir::StateDir;
use parole_durable::store::{INLINE_LIMIT, Lease, PromiseFilter, Refusal, Usage};
use parole_durable::{
    Completion, Digest, EffectClass, ExecutionId, Fence, OwnerId, PromiseId, PromiseState, StepResult, Store,
    StoreError, Value, Write, Written,
};
use uuid::Uuid;

const NOW: u64 = 1_700_000_000_000;
const HOUR: u64 = 3_600_000;

fn id(n: u128) -> ExecutionId {
    ExecutionId(Uuid::from_u128(n))
}

fn settled(answer: Result<Written, Refusal>) -> (PromiseState, Option<String>, bool) {
    match answer {
        Ok(Written::Settled { record, won }) => (record.state, record.value.data, won),
        other => panic!("not settled: {other:?}"),
    }
}

fn suspended(store: &mut dyn Store, n: u128, timeout_at: u64) -> PromiseId {
    let (first, promise) = parked(id(n), owner(1), timeout_at, NOW);
    one(store, write(first)).unwrap();
    promise
}

fn cancel(n: u128, now: u64) -> Write {
    Write::Cancel { execution: id(n), outcome: "\"canceled\"".into(), now }
}

#[test]
fn d05_d06_the_first_answer_stays() {
    both(|store| {
        let promise = suspended(store, 1, FOREVER);
        let first = settled(one(store, resolve(&promise, "1", NOW + 1)));
        assert_eq!(first, (PromiseState::Resolved, Some("1".into()), true));
        for data in ["1", "2"] {
            let again = settled(one(store, resolve(&promise, data, NOW + 2)));
            assert_eq!(again, (PromiseState::Resolved, Some("1".into()), false));
        }
    });
}

#[test]
fn d08_d12_guessed_ids_are_not_found_and_make_no_row() {
    both(|store| {
        let promise = suspended(store, 1, FOREVER);
        let mut guesses = Vec::new();
        for n in 0..20_000_u128 {
            let uuid = Uuid::from_u128(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            guesses.push(resolve(&PromiseId::from(format!("input:{}:{uuid}", id(1)).as_str()), "1", NOW));
        }
        // Neighbours of the true one, and its uuid with another label or execution.
        let (rest, uuid) = promise.as_str().rsplit_once(':').unwrap();
        let uuid = Uuid::parse_str(uuid).unwrap().as_u128();
        for bit in 0..128 {
            guesses.push(resolve(&format!("{rest}:{}", Uuid::from_u128(uuid ^ (1 << bit))).as_str().into(), "1", NOW));
        }
        let uuid = Uuid::from_u128(uuid);
        guesses.push(resolve(&format!("approve:{}:{uuid}", id(1)).as_str().into(), "1", NOW));
        guesses.push(resolve(&format!("input:{}:{uuid}", id(2)).as_str().into(), "1", NOW));
        guesses.push(resolve(&promise.as_str().to_uppercase().as_str().into(), "1", NOW));
        for answer in store.write(&guesses).unwrap() {
            assert!(matches!(answer, Err(Refusal::NoPromise(_))), "{answer:?}");
        }
        assert_eq!(store.reader().unwrap().promises(&PromiseFilter::default()).unwrap().whole.len(), 1);
        assert!(settled(one(store, resolve(&promise, "1", NOW))).2);
    });
}

#[test]
fn d10_nothing_is_settled_after_cancel_or_timeout() {
    both(|store| {
        let canceled = suspended(store, 1, FOREVER);
        one(store, cancel(1, NOW + 1)).unwrap();
        assert_eq!(settled(one(store, resolve(&canceled, "1", NOW + 2))).0, PromiseState::RejectedCanceled);
        let late = suspended(store, 2, NOW + HOUR);
        let answer = one(store, resolve(&late, "1", NOW + HOUR));
        let Ok(Written::Settled { record, won: false }) = answer else { panic!("{answer:?}") };
        assert_eq!((record.state, record.settled_at), (PromiseState::RejectedTimedout, Some(NOW + HOUR)));
        let in_time = suspended(store, 3, NOW + HOUR);
        assert!(settled(one(store, resolve(&in_time, "1", NOW + HOUR - 1))).2);
    });
}

#[test]
fn d14_keys_live_inside_an_execution() {
    both(|store| {
        let (one_id, other) = (suspended(store, 1, FOREVER), suspended(store, 2, FOREVER));
        assert_ne!(one_id, other, "the ids name their executions even with the same secret");
        assert!(settled(one(store, resolve(&one_id, "1", NOW))).2);
        assert_eq!(store.reader().unwrap().promise(&other).unwrap().unwrap().state, PromiseState::Pending);
    });
}

#[test]
fn c04_c05_of_two_that_race_the_first_wins_and_both_learn() {
    both(|store| {
        let promise = suspended(store, 1, FOREVER);
        let answers = store.write(&[resolve(&promise, "1", NOW), cancel(1, NOW)]).unwrap();
        assert_eq!(answers[1], Ok(Written::Canceled));
        assert!(settled(answers[0].clone()).2);
        assert_eq!(store.reader().unwrap().promise(&promise).unwrap().unwrap().state, PromiseState::Resolved);

        let promise = suspended(store, 2, FOREVER);
        let answers = store.write(&[cancel(2, NOW), resolve(&promise, "1", NOW), cancel(2, NOW)]).unwrap();
        assert_eq!(settled(answers[1].clone()), (PromiseState::RejectedCanceled, None, false));
        assert_eq!(answers[2], Err(Refusal::Ended(id(2))));

        let promise = suspended(store, 3, NOW + 5);
        let answers = store.write(&[Write::Expire { now: NOW + 5 }, resolve(&promise, "1", NOW + 4)]).unwrap();
        assert_eq!(answers[0], Ok(Written::Expired(1)));
        assert_eq!(settled(answers[1].clone()).0, PromiseState::RejectedTimedout);
    });
}

#[test]
fn a_refusal_changes_nothing_and_disturbs_nobody() {
    both(|store| {
        let promise = suspended(store, 1, FOREVER);
        let mut fenced = commit(id(1), Fence(7), NOW);
        fenced.steps.push(read_step(1, vec![1], NOW));
        fenced.payloads.push((Digest::of(b"x"), b"x".as_slice().into()));
        let answers = store.write(&[write(fenced), resolve(&promise, "1", NOW)]).unwrap();
        assert!(matches!(answers[0], Err(Refusal::Fenced { held: Fence(7), found: Fence(1), .. })));
        assert!(answers[1].is_ok());
        let reader = store.reader().unwrap();
        assert_eq!(reader.steps(id(1), 0, 9).unwrap().len(), 1);
        assert_eq!(reader.payload(&Digest::of(b"x")).unwrap(), None);
    });
}

#[test]
fn long_parts_are_stored_once_and_collected() {
    let place = Place::new();
    let mut store = place.store();
    let long = vec![5; INLINE_LIMIT + 1];
    for n in 1..=3 {
        let mut first = create(id(n), owner(1), NOW);
        first.steps = vec![read_step(0, long.clone(), NOW), read_step(1, vec![6; INLINE_LIMIT], NOW)];
        first.lease = if n == 3 { Lease::Keep } else { Lease::End("0".into()) };
        one(&mut store, write(first)).unwrap();
    }
    let count = |table: &str| -> i64 {
        place.raw().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count("payloads"), 2, "the setup and one long result");
    assert_eq!(collect(&mut store, NOW + 1), 2);
    assert_eq!((count("payloads"), count("steps"), count("executions")), (2, 2, 1));
    let reader = store.reader().unwrap();
    assert_eq!(reader.steps(id(3), 0, 9).unwrap()[0].size(), 20 + long.len() as u64);
    one(&mut store, cancel(3, NOW)).unwrap();
    assert_eq!(collect(&mut store, NOW + 1), 1);
    assert_eq!((count("payloads"), count("steps"), count("executions")), (0, 0, 0));
}

#[test]
fn d16_a_flipped_bit_is_named_and_others_go_on() {
    let place = Place::new();
    let mut store = place.store();
    for n in 1..=2 {
        let (mut first, _) = parked(id(n), owner(1), FOREVER, NOW);
        first.lease = Lease::Keep;
        for number in 1..30 {
            first.steps.push(read_step(number, vec![1; 40], NOW));
        }
        first.steps.push(read_step(30, vec![n as u8; INLINE_LIMIT + 9], NOW));
        one(&mut store, write(first)).unwrap();
    }
    assert_eq!(store.reader().unwrap().check().unwrap(), [""; 0]);
    let of = |n: u128| id(n).0.as_bytes().to_vec();
    let raw = place.raw();
    let mut bytes = vec![1_u8; 40];
    bytes[20] ^= 0b100;
    let flip = "UPDATE steps SET result = ? WHERE execution = ? AND number = 17";
    assert_eq!(raw.execute(flip, (bytes, of(1))).unwrap(), 1);
    let reader = store.reader().unwrap();
    let text = format!("damaged: steps row 17 of execution {}", id(1));
    assert_eq!(reader.steps(id(1), 0, 99).unwrap_err().to_string(), text);
    assert_eq!(reader.steps(id(1), 0, 17).unwrap().len(), 17, "what lies before it can be read");
    assert_eq!(reader.steps(id(2), 0, 99).unwrap().len(), 31);

    // One field of every kind, in every table.
    for change in [
        "UPDATE steps SET delivered = 0 WHERE execution = ? AND number = 3",
        "UPDATE steps SET completed_at = completed_at + 1 WHERE execution = ? AND number = 4",
        "UPDATE promises SET timeout_at = timeout_at - 1 WHERE execution = ?",
        "UPDATE executions SET fence = 2 WHERE id = ?",
        "DELETE FROM steps WHERE execution = ? AND number = 9",
    ] {
        assert_eq!(raw.execute(change, [of(1)]).unwrap(), 1, "{change}");
    }
    let long = Digest::of(&vec![1; INLINE_LIMIT + 9]);
    raw.execute("UPDATE payloads SET bytes = zeroblob(9) WHERE digest = ?", [long.0]).unwrap();
    let promise = secret(7).promise_id("input", id(1), 0);
    assert_eq!(
        reader.check().unwrap(),
        [
            format!("executions row {}", id(1)),
            format!("steps row 3 of execution {}", id(1)),
            format!("steps row 4 of execution {}", id(1)),
            format!("steps row 10 of execution {}: the step before it is missing", id(1)),
            format!("steps row 17 of execution {}", id(1)),
            format!("promises row {promise}"),
            format!("payloads row {long}"),
        ]
    );
    // Writes that need a damaged row are refused; the rest of the batch is not.
    let other = secret(7).promise_id("input", id(2), 0);
    let answers = store
        .write(&[write(commit(id(1), Fence::FIRST, NOW)), resolve(&promise, "1", NOW), resolve(&other, "1", NOW)])
        .unwrap();
    assert_eq!(answers[0], Err(Refusal::Damaged(format!("executions row {}", id(1)).into())));
    assert_eq!(answers[1], Err(Refusal::Damaged(format!("promises row {promise}").into())));
    assert!(settled(answers[2].clone()).2);
}

#[test]
fn what_is_no_database_and_what_is_too_new_is_refused() {
    let place = Place::new();
    drop(place.store());
    place.raw().pragma_update(None, "user_version", 99).unwrap();
    let dir = StateDir::open(&place.path).unwrap();
    assert_eq!(SqliteStore::open(&dir).err(), Some(StoreError::Version { found: 99, known: 4 }));
    place.raw().pragma_update(None, "user_version", 4).unwrap();
    drop(place.store());
    for name in ["parole.db-wal", "parole.db-shm"] {
        std::fs::remove_file(place.path.join(name)).unwrap();
    }
    std::fs::write(place.path.join("parole.db"), vec![b'x'; 9000]).unwrap();
    assert!(matches!(SqliteStore::open(&dir), Err(StoreError::Damaged(_))));
}

#[test]
fn only_the_owner_gets_in() {
    let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    let set = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let unfit = |result: Result<SqliteStore, StoreError>| match result {
        Err(StoreError::Unfit(text)) => text.to_string(),
        other => panic!("{other:?}"),
    };
    let place = Place::new();
    let open = |path: &Path| StateDir::open(path).and_then(|dir| SqliteStore::open(&dir));
    let owner = Owners::in_directory(&StateDir::open(&place.path).unwrap()).unwrap().create().unwrap();
    drop(open(&place.path).unwrap());
    assert_eq!((mode(&place.path), mode(&place.path.join("owners"))), (0o700, 0o700));
    for name in ["parole.db", "parole.db-wal", "parole.db-shm"] {
        assert_eq!(mode(&place.path.join(name)), 0o600, "{name}");
        set(&place.path.join(name), 0o640);
        let text = unfit(open(&place.path));
        assert!(text.contains(name) && text.contains("chmod 600"), "{text}");
        set(&place.path.join(name), 0o600);
    }
    assert_eq!(mode(&place.path.join("owners").join(owner.id().0.to_string())), 0o600);
    drop(open(&place.path).unwrap());
    for wrong in [0o710, 0o701, 0o755] {
        set(&place.path, wrong);
        let text = unfit(open(&place.path));
        assert!(text.contains("chmod 700"), "{text}");
    }
    set(&place.path, 0o700);
    drop(open(&place.path).unwrap());

    let link = place.path.with_file_name("link");
    symlink(&place.path, &link).unwrap();
    assert!(unfit(open(&link)).contains("symbolic links"));
    for name in ["parole.db", "parole.db-wal", "parole.db-shm"] {
        let (file, moved) = (place.path.join(name), place.path.join("moved"));
        std::fs::rename(&file, &moved).unwrap();
        symlink(&moved, &file).unwrap();
        assert!(unfit(open(&place.path)).contains("symbolic links"), "{name}");
        std::fs::rename(&moved, &file).unwrap();
        drop(open(&place.path).unwrap());
    }
    let file = place.path.with_file_name("file");
    std::fs::write(&file, "").unwrap();
    assert!(unfit(open(&file)).contains("not a directory"));
}

#[test]
fn d19_a_store_waits_for_another_process_that_holds_the_lock() {
    let place = Place::new();
    let mut store = place.store();
    let promise = suspended(&mut store, 1, FOREVER);
    let raw = place.raw();
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    let started = Instant::now();
    let holder = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        raw.execute_batch("ROLLBACK").unwrap();
    });
    assert!(settled(one(&mut store, resolve(&promise, "1", NOW))).2);
    assert!(started.elapsed() >= Duration::from_millis(600));
    holder.join().unwrap();
}

/// The limit on file sizes makes writes to the log fail in this process, so the test runs itself again in another.
#[test]
fn an_io_error_at_a_commit_acknowledges_nothing_and_the_store_goes_on() {
    const VARIABLE: &str = "PAROLE_TEST_IO_ERROR";
    let Ok(path) = std::env::var(VARIABLE) else {
        let place = Place::new();
        drop(place.store());
        // 2048 blocks of 512 bytes; the signal that comes with it is ignored.
        let script = r#"trap '' XFSZ; ulimit -S -f 2048; exec "$0" --exact "$1" --nocapture"#;
        let status = std::process::Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .arg("an_io_error_at_a_commit_acknowledges_nothing_and_the_store_goes_on")
            .env(VARIABLE, &place.path)
            .status()
            .unwrap();
        assert!(status.success());
        let store = place.store();
        let reader = store.reader().unwrap();
        assert_eq!(reader.check().unwrap(), [""; 0]);
        assert_eq!(reader.executions(true).unwrap().whole.len(), 2);
        return;
    };
    let mut store = SqliteStore::open(&StateDir::open(Path::new(&path)).unwrap()).unwrap();
    suspended(&mut store, 1, FOREVER);
    let mut large = create(id(2), owner(1), NOW);
    large.payloads.push((Digest::of(b"?"), vec![9; 3 << 20].into()));
    let error = store.write(&[write(large)]).unwrap_err();
    assert!(matches!(error, StoreError::Io(_) | StoreError::Full), "{error:?}");
    assert_eq!(store.reader().unwrap().execution(id(2)).unwrap(), None);
    suspended(&mut store, 3, FOREVER);
}

#[test]
fn a_parked_execution_takes_two_kib_at_most() {
    const COUNT: i64 = 1000;
    let place = Place::new();
    let mut store = place.store();
    // Ids as they are made, arguments of a usual length, and all tags.
    let batch: Vec<Write> = (0..COUNT)
        .map(|_| {
            let (mut first, _) = parked(ExecutionId::generate(), owner(1), NOW + HOUR, NOW);
            first.steps[0].arguments = vec![b'a'; 200];
            first.promises[0].param = Value::json("a".repeat(200));
            write(first)
        })
        .collect();
    for part in batch.chunks(10) {
        assert!(store.write(part).unwrap().iter().all(Result::is_ok));
    }
    let raw = place.raw();
    let mut statement = raw.prepare("SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC").unwrap();
    let sizes = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let sizes: Vec<(String, i64)> = sizes.map(Result::unwrap).collect();
    let total: i64 = sizes.iter().map(|(_, size)| size).sum();
    println!("{} bytes for each parked execution: {sizes:?}", total / COUNT);
    assert!(total / COUNT <= 2048, "{sizes:?}");
}

#[test]
fn the_log_stays_short_and_survives() {
    let place = Place::new();
    for n in 1..200 {
        let mut store = place.store();
        suspended(&mut store, n, FOREVER);
        drop(store);
        let length = std::fs::metadata(place.path.join("parole.db-wal")).unwrap().len();
        assert!(length <= 64 * 8216, "short runs leave {length} bytes of log");
    }
    let mut store = place.store();
    for n in 200..2200 {
        suspended(&mut store, n, FOREVER);
    }
    let length = std::fs::metadata(place.path.join("parole.db-wal")).unwrap().len();
    assert!(length <= 1100 * 8216, "a long run leaves {length} bytes of log");
    drop(store);
    assert_eq!(place.store().reader().unwrap().executions(false).unwrap().whole.len(), 2199);
}

#[test]
fn an_owner_lives_as_long_as_its_lock() {
    let place = Place::new();
    let dir = StateDir::open(&place.path).unwrap();
    for owners in [Owners::in_directory(&dir).unwrap(), Owners::in_memory()] {
        let own = owners.create().unwrap();
        let id: OwnerId = own.id();
        assert!(owners.is_alive(id).unwrap());
        assert!(owners.is_alive(id).unwrap(), "asking changes nothing");
        assert_eq!(owners.sweep().unwrap(), 0);
        assert!(owners.is_alive(id).unwrap());
        drop(own);
        assert!(!owners.is_alive(id).unwrap());
    }
    // What a process leaves that was killed: a file without a lock.
    let owners = Owners::in_directory(&dir).unwrap();
    let dead = Uuid::now_v7();
    let file = place.path.join("owners").join(dead.to_string());
    std::fs::write(&file, "").unwrap();
    assert!(!owners.is_alive(OwnerId(dead)).unwrap());
    let living = owners.create().unwrap();
    assert_eq!(owners.sweep().unwrap(), 1);
    assert!(!file.exists() && owners.is_alive(living.id()).unwrap());
    assert!(!owners.is_alive(OwnerId(dead)).unwrap());
}

#[test]
fn a_late_attempt_does_not_forget_what_was_shown() {
    both(|store| {
        one(store, write(create(id(1), owner(1), NOW))).unwrap();
        one(store, Write::Shown { execution: id(1), upto: 5 }).unwrap();
        // The commit of somebody who has not heard of it, and notes that come in another order.
        let mut next = commit(id(1), Fence(1), NOW);
        next.usage = Usage { shown: 2, journal: 7, ..Usage::default() };
        one(store, write(next)).unwrap();
        one(store, Write::Shown { execution: id(1), upto: 3 }).unwrap();
        let usage = store.reader().unwrap().execution(id(1)).unwrap().unwrap().usage;
        assert_eq!((usage.shown, usage.journal), (5, 7));
    });
}

#[test]
fn the_last_output_is_shown_by_one() {
    both(|store| {
        let claim = |n, void: Option<u128>| {
            let owner_of = |n: u128| (n > 0).then(|| owner(n));
            Write::Claim { execution: id(1), owner: owner_of(n), void: void.and_then(owner_of) }
        };
        assert_eq!(one(store, claim(2, None)), Err(Refusal::NoExecution(id(1))));
        one(store, write(create(id(1), owner(1), NOW))).unwrap();
        assert_eq!(one(store, claim(2, None)), Err(Refusal::NotEnded(id(1))));
        let mut last = commit(id(1), Fence(1), NOW);
        last.lease = Lease::End("0".into());
        one(store, write(last)).unwrap();
        // Its owner is about to show it, and is taken for dead by two.
        assert_eq!(store.reader().unwrap().execution(id(1)).unwrap().unwrap().showing, Some(owner(1)));
        assert_eq!(one(store, claim(2, None)), Err(Refusal::Held(id(1))));
        let answers = store.write(&[claim(2, Some(1)), claim(3, Some(1))]).unwrap();
        assert_eq!(answers, [Ok(Written::Claimed), Err(Refusal::Held(id(1)))]);
        // It could not show it, and says so: whoever comes is welcome. Nobody else can say so for it.
        assert_eq!(one(store, claim(0, Some(1))), Err(Refusal::Held(id(1))));
        let answers = store.write(&[claim(0, Some(2)), claim(3, None), claim(4, None)]).unwrap();
        assert_eq!(answers, [Ok(Written::Claimed), Ok(Written::Claimed), Err(Refusal::Held(id(1)))]);
        assert_eq!(store.reader().unwrap().check().unwrap(), [""; 0]);
    });
}

#[test]
fn processes_felled_without_progress_are_counted_once_each() {
    both(|store| {
        let fell = |n| Write::Fell { execution: id(1), owner: owner(n) };
        let acquire = |n| Write::Acquire { execution: id(1), owner: owner(n), void: None };
        let felled = |store: &dyn Store| store.reader().unwrap().execution(id(1)).unwrap().unwrap().felled;
        let mut first = create(id(1), owner(1), NOW);
        first.steps.push(read_step(0, Vec::new(), NOW));
        one(store, write(first)).unwrap();
        assert_eq!(one(store, fell(2)), Err(Refusal::Held(id(1))));
        assert_eq!(one(store, fell(1)), Ok(Written::Felled(1)));
        // Whoever else saw the same end does not count it again, and the dead one writes no more.
        assert_eq!(one(store, fell(1)), Err(Refusal::Held(id(1))));
        assert!(matches!(one(store, write(commit(id(1), Fence(1), NOW))), Err(Refusal::Fenced { .. })));
        one(store, acquire(2)).unwrap();
        assert_eq!(one(store, fell(2)), Ok(Written::Felled(2)));
        one(store, acquire(3)).unwrap();

        // A barrier without anything new, and a call that is taken on once more, are no progress.
        let mut again = commit(id(1), Fence(3), NOW);
        let mut written = read_step(1, Vec::new(), NOW);
        (written.completion, written.delivered, written.effect) = (None, false, EffectClass::Idempotent);
        again.steps.push(written.clone());
        one(store, write(again.clone())).unwrap();
        assert_eq!(felled(store), 0, "the call is new");
        one(store, fell(3)).unwrap();
        one(store, acquire(4)).unwrap();
        again.fence = Fence(4);
        one(store, write(again.clone())).unwrap();
        one(store, write(commit(id(1), Fence(4), NOW))).unwrap();
        assert_eq!(felled(store), 1);
        // Its end is.
        written.completion = Some(Completion { at: NOW, result: StepResult::Ok(Vec::new()) });
        again.steps = vec![written];
        one(store, write(again)).unwrap();
        assert_eq!((felled(store), store.reader().unwrap().check().unwrap()), (0, Vec::new()));
    });
}

#[test]
fn the_number_of_calls_is_kept() {
    both(|store| {
        let calls = |store: &dyn Store| store.reader().unwrap().execution(id(1)).unwrap().unwrap().calls;
        one(store, write(create(id(1), owner(1), NOW))).unwrap();
        assert_eq!(calls(store), Some(0));
        let mut next = commit(id(1), Fence(1), NOW);
        let mut output = read_step(0, Vec::new(), NOW);
        (output.calls, output.effect) = (3, EffectClass::Send);
        next.steps = vec![output, read_step(3, Vec::new(), NOW)];
        one(store, write(next.clone())).unwrap();
        assert_eq!(calls(store), Some(4));
        // A record that replaces one adds nothing.
        next.steps.truncate(1);
        one(store, write(next)).unwrap();
        assert_eq!(calls(store), Some(4));
    });
}
