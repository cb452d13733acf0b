//! What a durable commit costs, and what the hub makes of it.
//!
//! `cargo run --release -p parole-durable --example commit_rate [-- DIRECTORY]`
//! `cargo run --release -p parole-durable --example commit_rate -- cold DIRECTORY`: opens, commits once, closes.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that measures")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::*;
use parole_durable::sqlite::SqliteStore;
use parole_durable::state_dir::StateDir;
use parole_durable::store::{Lease, Store as _};
use parole_durable::{ExecutionId, Fence, Hub, PromiseState, Write, Written};

const ROUND: Duration = Duration::from_millis(1500);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["cold", dir] => cold(Path::new(dir)),
        ["idle", count] => idle(count.parse().unwrap()),
        ["steps"] => steps(),
        [dir] => all(Path::new(dir)),
        _ => all(tempfile::tempdir().unwrap().path()),
    }
}

/// Runs `work` for a while; microseconds each.
fn measure(mut work: impl FnMut()) -> f64 {
    for _ in 0..20 {
        work();
    }
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < ROUND {
        work();
        count += 1;
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}

/// One row a commit in a table of its own, with the settings of the store.
fn raw(dir: &Path) -> f64 {
    let connection = rusqlite::Connection::open(dir.join("raw.db")).unwrap();
    connection
        .execute_batch(
            "PRAGMA page_size=8192; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; \
             CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, v BLOB);",
        )
        .unwrap();
    measure(|| {
        connection.prepare_cached("INSERT INTO t(v) VALUES (?)").unwrap().execute([[7_u8; 256]]).unwrap();
    })
}

fn all(dir: &Path) {
    let state = dir.join("state");
    println!("raw SQLite, one row a commit          {:8.1} us", raw(dir));
    let mut store = SqliteStore::open(&StateDir::open(&state).unwrap()).unwrap();
    let own = owner(1);
    let one = measure(|| {
        let (first, _) = parked(ExecutionId::generate(), own, FOREVER, parole_durable::hub::now());
        store.write(&[write(first)]).unwrap()[0].as_ref().unwrap();
    });
    println!("the store, one park a commit          {one:8.1} us");
    drop(store);
    let hub = Hub::sqlite(&state).unwrap();
    let owner = hub.owner().unwrap();
    let lone = measure(|| {
        let (first, _) = parked(ExecutionId::generate(), owner, FOREVER, hub.now());
        hub.write(write(first)).wait().unwrap();
    });
    println!("the hub, one park at a time           {lone:8.1} us   {:.2} x", lone / one);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let cycle = measure(|| runtime.block_on(async { tokio::spawn(cycle(hub.clone())).await.unwrap() }));
    println!("suspend, resolve, resume, one at once {cycle:8.1} us   {:.2} x a commit (limit 2.5)", cycle / one);
    let many = measure(|| {
        runtime.block_on(async {
            let tasks: Vec<_> = (0..64).map(|_| tokio::spawn(cycles(hub.clone(), 8))).collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
    }) / (64.0 * 8.0);
    println!("the same, 64 at once, each            {many:8.1} us   {:.1} x the rate (limit 15)", cycle / many);
}

async fn cycles(hub: Hub, count: usize) {
    for _ in 0..count {
        cycle(hub.clone()).await;
    }
}

/// An execution that suspends upon a promise, is answered by another task, and goes on.
async fn cycle(hub: Hub) {
    let (mut first, id) = parked(ExecutionId::generate(), hub.owner().unwrap(), FOREVER, hub.now());
    first.lease = Lease::Keep;
    hub.write(write(first)).await.unwrap();
    let resolver = hub.clone();
    let answer = tokio::spawn({
        let id = id.clone();
        async move {
            let now = resolver.now();
            let answer = resolver.write(resolve(&id, "1", now)).await.unwrap();
            assert!(matches!(answer, Written::Settled { won: true, .. }));
        }
    });
    // A wake-up is a hint.
    loop {
        let waiter = hub.settled(&id, FOREVER);
        if hub.promise(&id).unwrap().unwrap().state == PromiseState::Resolved {
            break;
        }
        waiter.await;
    }
    answer.await.unwrap();
}

/// What a cold run does with the store.
fn cold(dir: &Path) {
    let start = Instant::now();
    let hub = Hub::sqlite(dir).unwrap();
    let opened = start.elapsed();
    let id = ExecutionId::generate();
    let mut first = create(id, hub.owner().unwrap(), hub.now());
    first.lease = Lease::End("0".to_owned());
    let owned = start.elapsed();
    hub.write(write(first)).wait().unwrap();
    let committed = start.elapsed();
    drop(hub);
    println!("opened {opened:?}, owner {owned:?}, committed {committed:?}, closed {:?}", start.elapsed());
}

/// Sleeps with waiters; compare the time of the process with the clock.
fn idle(count: u64) {
    let temporary = tempfile::tempdir().unwrap();
    let hub = Hub::sqlite(&temporary.path().join("state")).unwrap();
    let execution = ExecutionId::generate();
    let now = hub.now();
    let waiters: Vec<_> =
        (0..count).map(|n| hub.settled(&secret(7).promise_id("input", execution, n), now + 3_600_000 + n)).collect();
    std::thread::sleep(Duration::from_secs(1));
    let usage = |_: ()| {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<u64> = text.split(' ').skip(13).take(2).map(|f| f.parse().unwrap()).collect();
        (fields[0] + fields[1]) * 10
    };
    let before = usage(());
    std::thread::sleep(Duration::from_secs(10));
    println!("{count} waiters: {} ms of processor in 10 s", usage(()) - before);
    drop(waiters);
}

/// Steps of 1 KiB, 64 a commit; and what it takes to read them.
fn steps() {
    let temporary = tempfile::tempdir().unwrap();
    let hub = Hub::sqlite(&temporary.path().join("state")).unwrap();
    let id = ExecutionId::generate();
    hub.write(write(create(id, hub.owner().unwrap(), hub.now()))).wait().unwrap();
    let (start, count) = (Instant::now(), 100_000_u64);
    for from in (0..count).step_by(256) {
        let mut next = commit(id, Fence::FIRST, hub.now());
        next.steps = (from..from + 256)
            .map(|n| {
                let mut bytes = vec![7; 1024];
                bytes[..8].copy_from_slice(&n.to_le_bytes());
                read_step(n, bytes, hub.now())
            })
            .collect();
        hub.write(Write::Commit(Box::new(next))).wait().unwrap();
    }
    println!("steps of 1 KiB, 256 a commit: {:.0} a second", 1e5 / start.elapsed().as_secs_f64());
    let (start, mut from) = (Instant::now(), 0);
    while from < count {
        from += hub.steps(id, from, 1024).unwrap().len() as u64;
    }
    println!("read again: {:.0} a second", 1e5 / start.elapsed().as_secs_f64());
}
