//! What a durable commit costs, and what the hub makes of it.
//!
//! `cargo run --release -p parole-durable --example commit_rate -- …`
//!
//! * `[DIRECTORY]`: medians, side by side.
//! * `burst DIRECTORY`: 64 at once only, to count the syncs.
//! * `cold DIRECTORY`, `ahead DIRECTORY`: opens, commits once, closes; the second opens in the background.
//! * `notice DIRECTORY`: how long until a settlement by another hub wakes.
//! * `idle COUNT`: processor time of so many waiters.
//! * `steps`: steps of 1 KiB, written and read.
//! * `generation`: what each call pays to know under which policy it is decided.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that measures")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::*;
use parole_durable::hub::Seen;
use parole_durable::sqlite::SqliteStore;
use parole_durable::state_dir::StateDir;
use parole_durable::store::{Lease, Store as _};
use parole_durable::{Digest, ExecutionId, Fence, Hub, PromiseState, Write, Written};

/// Every measurement is made once in each round, so that what else the machine does meets all of them alike.
const ROUNDS: usize = 600;
/// Executions at once, and cycles of each in a burst.
const AT_ONCE: u32 = 64;
const BURST: u32 = 4;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["cold", dir] => cold(Path::new(dir), Duration::ZERO),
        ["ahead", dir] => cold(Path::new(dir), Duration::from_millis(3)),
        ["notice", dir] => notice(Path::new(dir)),
        ["burst", dir] => burst(Path::new(dir)),
        ["idle", count] => idle(count.parse().unwrap()),
        ["steps"] => steps(),
        ["generation"] => generation(),
        [dir] => all(Path::new(dir)),
        _ => all(tempfile::tempdir().unwrap().path()),
    }
}

/// The median of what `work` takes, in microseconds, over the same rounds as all others.
struct Measure<'a> {
    name: &'static str,
    work: Box<dyn FnMut() -> Duration + 'a>,
    samples: Vec<Duration>,
}

impl<'a> Measure<'a> {
    fn new(name: &'static str, work: impl FnMut() -> Duration + 'a) -> Self {
        Self { name, work: Box::new(work), samples: Vec::new() }
    }

    fn median(&mut self) -> f64 {
        self.samples.sort_unstable();
        self.samples[self.samples.len() / 2].as_secs_f64() * 1e6
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn all(dir: &Path) {
    let raw = rusqlite::Connection::open(dir.join("raw.db")).unwrap();
    raw.execute_batch(
        "PRAGMA page_size=8192; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; \
         CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, v BLOB);",
    )
    .unwrap();
    let store = SqliteStore::open(&StateDir::open(&dir.join("store")).unwrap()).unwrap();
    let store = std::cell::RefCell::new(store);
    let park = || {
        let (first, id) = parked(ExecutionId::generate(), owner(1), FOREVER, parole_durable::hub::now());
        let time = timed(|| drop(store.borrow_mut().write(&[write(first)]).unwrap()[0].as_ref().unwrap().clone()));
        (time, id)
    };
    let hub = Hub::sqlite(&dir.join("hub")).unwrap();
    let own = hub.owner().unwrap();
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let single = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut measures = [
        Measure::new("raw SQLite, one row a commit", || {
            timed(|| {
                raw.prepare_cached("INSERT INTO t(v) VALUES (?)").unwrap().execute([[7_u8; 256]]).unwrap();
            })
        }),
        Measure::new("the store, one park a commit", || park().0),
        Measure::new("the store, one settlement a commit", || {
            let settle = resolve(&park().1, "1", parole_durable::hub::now());
            timed(|| drop(store.borrow_mut().write(&[settle]).unwrap()))
        }),
        Measure::new("the hub, one park at a time", || {
            let (first, _) = parked(ExecutionId::generate(), own, FOREVER, hub.now());
            timed(|| drop(hub.write(write(first)).wait().unwrap()))
        }),
        Measure::new("suspend, resolve, resume, one at once", || {
            timed(|| many.block_on(async { tokio::spawn(cycle(hub.clone())).await.unwrap() }))
        }),
        Measure::new("the same on a runtime of one thread", || timed(|| single.block_on(cycle(hub.clone())))),
        Measure::new("the same, 64 at once, each", || {
            timed(|| {
                many.block_on(async {
                    let tasks: Vec<_> = (0..AT_ONCE).map(|_| tokio::spawn(cycles(hub.clone(), BURST))).collect();
                    for task in tasks {
                        task.await.unwrap();
                    }
                });
            }) / (AT_ONCE * BURST)
        }),
    ];
    for _ in 0..ROUNDS {
        for measure in &mut measures {
            let sample = (measure.work)();
            measure.samples.push(sample);
        }
    }
    let medians: Vec<f64> = measures.iter_mut().map(Measure::median).collect();
    let commit = medians[1];
    for (measure, median) in measures.iter().zip(&medians) {
        println!("{:38} {median:8.1} us   {:5.2} x a commit of the store", measure.name, median / commit);
    }
    println!("64 at once: {:.1} x the rate of one at a time", medians[4] / medians[6]);
}

async fn cycles(hub: Hub, count: u32) {
    for _ in 0..count {
        cycle(hub.clone()).await;
    }
}

/// An execution that suspends upon a promise, is answered by another task, and goes on.
async fn cycle(hub: Hub) {
    let (mut first, id) = parked(ExecutionId::generate(), hub.owner().unwrap(), FOREVER, hub.now());
    first.lease = Lease::Keep;
    // Registered before there is anything to settle, so it need not look before it waits.
    let mut waiter = hub.settled(&id, FOREVER);
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
        waiter.await;
        waiter = hub.settled(&id, FOREVER);
        if hub.promise(&id).unwrap().unwrap().state == PromiseState::Resolved {
            break;
        }
    }
    answer.await.unwrap();
}

/// 64 at once and nothing else: under `strace -c -f -e trace=fsync,fdatasync` it tells the syncs of a cycle.
fn burst(dir: &Path) {
    let hub = Hub::sqlite(dir).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let count = 100;
    let time = timed(|| {
        runtime.block_on(async {
            let tasks: Vec<_> = (0..AT_ONCE).map(|_| tokio::spawn(cycles(hub.clone(), count))).collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
    println!("{} cycles, {:.1} us each", AT_ONCE * count, time.as_secs_f64() * 1e6 / f64::from(AT_ONCE * count));
}

/// From the request in one hub to the wake-up in another.
fn notice(dir: &Path) {
    let (here, there) = (Hub::sqlite(dir).unwrap(), Hub::sqlite(dir).unwrap());
    let own = here.owner().unwrap();
    here.settled(&"x".into(), FOREVER).wait();
    let mut times: Vec<Duration> = (0..200)
        .map(|n| {
            let (first, id) = parked(ExecutionId::generate(), own, FOREVER, here.now());
            let waiter = here.settled(&id, FOREVER);
            here.write(write(first)).wait().unwrap();
            std::thread::sleep(Duration::from_micros(n * 97 % 20_000));
            timed(|| {
                drop(there.write(resolve(&id, "1", there.now())));
                waiter.wait();
            })
        })
        .collect();
    times.sort_unstable();
    println!("noticed after {:?} (median), {:?} (longest of {})", times[100], times[199], times.len());
}

/// What a cold run does with the store. With other work to do first, the database is opened meanwhile.
fn cold(dir: &Path, other_work: Duration) {
    let start = Instant::now();
    let hub = if other_work.is_zero() { Hub::sqlite(dir) } else { Hub::sqlite_ahead(dir) }.unwrap();
    let opened = start.elapsed();
    std::thread::sleep(other_work);
    let start = start + other_work;
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

/// The medians of many lots: nothing committed in between, something else committed, a grant.
fn generation() {
    const LOT: u32 = 1000;
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("state");
    let (here, there) = (Hub::sqlite(&dir).unwrap(), Hub::sqlite(&dir).unwrap());
    let own = there.owner().unwrap();
    // A database that is not tiny.
    for _ in 0..20 {
        let receipts: Vec<_> = (0..500)
            .map(|_| there.write(write(parked(ExecutionId::generate(), own, FOREVER, there.now()).0)))
            .collect();
        receipts.into_iter().for_each(|receipt| drop(receipt.wait().unwrap()));
    }
    let id = ExecutionId::generate();
    there.write(write(create(id, own, there.now()))).wait().unwrap();
    let mut seen = Seen::default();
    here.generation(id, &mut seen).unwrap();
    let mut lots: Vec<Duration> = (0..200)
        .map(|_| {
            timed(|| {
                for _ in 0..LOT {
                    assert_eq!(here.generation(id, &mut seen).unwrap(), 0);
                }
            }) / LOT
        })
        .collect();
    let median = |what: &str, times: &mut Vec<Duration>| {
        times.sort_unstable();
        println!("{what:32} {:7.2} us", times[times.len() / 2].as_secs_f64() * 1e6);
    };
    median("nothing was committed", &mut lots);
    let mut others: Vec<Duration> = (0..1000)
        .map(|_| {
            there.write(write(create(ExecutionId::generate(), own, there.now()))).wait().unwrap();
            timed(|| assert_eq!(here.generation(id, &mut seen).unwrap(), 0))
        })
        .collect();
    median("another execution committed", &mut others);
    let mut grants: Vec<Duration> = (1..=500)
        .map(|generation| {
            let policy: std::sync::Arc<[u8]> = generation.to_string().into_bytes().into();
            let (by, change) = ("me".to_owned(), "{}".to_owned());
            let policy = (Digest::of(&policy), policy);
            let now = there.now();
            there.write(Write::Grant { execution: id, generation, policy, by, change, now }).wait().unwrap();
            timed(|| assert_eq!(here.generation(id, &mut seen).unwrap(), generation))
        })
        .collect();
    median("it was granted something", &mut grants);
}
