//! The hub: from every kind of thread, between processes, under failures, and at its end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use common::*;
use parole_durable::hub::{Backend, Receipt, Waiter};
use parole_durable::memory::MemoryStore;
use parole_durable::owner::Owners;
use parole_durable::state_dir::StateDir;
use parole_durable::store::{Lease, PromiseFilter, Refusal};
use parole_durable::{
    ExecutionId, Fence, Hub, PromiseId, PromiseState, Reader, Store, StoreError, Write, WriteError, Written,
};

/// Long enough for a machine that is busy with something else; no test waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs something that must end; a test that hangs says so.
fn must_end<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || drop(sender.send(work())));
    match receiver.recv_timeout(PATIENCE) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            thread.join().unwrap();
            unreachable!()
        }
    }
}

/// An execution that has suspended upon a promise and is still held.
fn suspended(hub: &Hub, timeout_at: u64) -> (ExecutionId, PromiseId) {
    let id = ExecutionId::generate();
    let (mut first, promise) = parked(id, hub.owner().unwrap(), timeout_at, hub.now());
    first.lease = Lease::Keep;
    hub.write(write(first)).wait().unwrap();
    (id, promise)
}

fn state(hub: &Hub, id: &PromiseId) -> PromiseState {
    hub.promise(id).unwrap().unwrap().state
}

/// Waits the way it is documented: register, look, wait.
fn wait_settled(hub: &Hub, id: &PromiseId, deadline: u64) -> PromiseState {
    loop {
        let waiter = hub.settled(id, deadline);
        match state(hub, id) {
            PromiseState::Pending => waiter.wait(),
            state => return state,
        }
    }
}

fn settle(hub: &Hub, id: &PromiseId) -> bool {
    match hub.write(resolve(id, "1", hub.now())).wait().unwrap() {
        Written::Settled { won, .. } => won,
        other => panic!("{other:?}"),
    }
}

#[test]
fn d07_of_a_hundred_resolvers_exactly_one_wins() {
    let place = Place::new();
    // Two processes as far as the store can tell.
    let hubs = [place.hub(), place.hub()];
    let (_, promise) = suspended(&hubs[0], FOREVER);
    let wins: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..100)
            .map(|n| {
                let (hub, promise) = (hubs[n % 2].clone(), promise.clone());
                scope.spawn(move || match hub.write(resolve(&promise, &n.to_string(), hub.now())).wait().unwrap() {
                    Written::Settled { record, won } => (won.then_some(n), record.value.data),
                    other => panic!("{other:?}"),
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let winners: Vec<usize> = wins.iter().filter_map(|(winner, _)| *winner).collect();
    assert_eq!(winners.len(), 1);
    let told = Some(winners[0].to_string());
    assert!(wins.iter().all(|(_, value)| *value == told), "every loser is told the value of the winner");
}

#[test]
fn a_settlement_by_another_process_wakes() {
    let place = Place::new();
    let (here, there) = (place.hub(), place.hub());
    for _ in 0..20 {
        let (_, promise) = suspended(&here, FOREVER);
        let waiting = {
            let (hub, promise) = (here.clone(), promise.clone());
            std::thread::spawn(move || wait_settled(&hub, &promise, FOREVER))
        };
        assert!(settle(&there, &promise));
        assert_eq!(must_end(move || waiting.join().unwrap()), PromiseState::Resolved);
    }
}

#[test]
fn a_cancel_by_another_process_wakes_the_owner_and_those_that_wait() {
    let place = Place::new();
    let (here, there) = (place.hub(), place.hub());
    let (id, promise) = suspended(&here, FOREVER);
    let fence = here.execution(id).unwrap().unwrap().fence;
    let owner = {
        let here = here.clone();
        std::thread::spawn(move || {
            loop {
                let waiter = here.fenced(id);
                if here.execution(id).unwrap().unwrap().fence != fence {
                    return;
                }
                waiter.wait();
            }
        })
    };
    let waiting = {
        let (hub, promise) = (here.clone(), promise.clone());
        std::thread::spawn(move || wait_settled(&hub, &promise, FOREVER))
    };
    there.write(Write::Cancel { execution: id, outcome: "\"canceled\"".into(), now: there.now() }).wait().unwrap();
    must_end(move || owner.join().unwrap());
    assert_eq!(must_end(move || waiting.join().unwrap()), PromiseState::RejectedCanceled);
    let late = here.write(write(commit(id, fence, here.now()))).wait();
    assert_eq!(late, Err(WriteError::Refused(Refusal::Ended(id))));
}

#[test]
fn timers_fire_and_are_durable_by_then() {
    let place = Place::new();
    let hub = place.hub();
    let deadline = hub.now() + 120;
    let (_, promise) = suspended(&hub, deadline);
    let found = must_end(move || {
        let state = wait_settled(&hub, &promise, deadline);
        assert!(hub.now() >= deadline, "never early");
        state
    });
    assert_eq!(found, PromiseState::RejectedTimedout);
}

/// A clock that a test sets.
fn hand_clock(start: u64) -> (Arc<AtomicU64>, Arc<dyn Fn() -> u64 + Send + Sync>) {
    let hand = Arc::new(AtomicU64::new(start));
    let read = hand.clone();
    (hand, Arc::new(move || read.load(Ordering::Relaxed)))
}

#[test]
fn d18_the_clock_jumps_a_day_back_and_forth() {
    const DAY: u64 = 86_400_000;
    const HOUR: u64 = 3_600_000;
    let start = 1_700_000_000_000;
    let (hand, clock) = hand_clock(start);
    let hub = Hub::over(MemoryStore::new(), clock).unwrap();
    let (_, promise) = suspended(&hub, start + HOUR);
    let waiter = hub.settled(&promise, start + HOUR);
    // The first look wakes everybody; from then on nothing does.
    std::thread::sleep(Duration::from_millis(100));
    drop(waiter);
    let mut waiter = hub.settled(&promise, start + HOUR);
    hand.store(start - DAY, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!ready(&mut waiter), "set back: it waits on");
    hand.store(start + HOUR - 1, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!ready(&mut waiter), "one millisecond early is early");
    assert_eq!(state(&hub, &promise), PromiseState::Pending);
    hand.store(start + DAY, Ordering::Relaxed);
    must_end(move || waiter.wait());
    hand.store(start, Ordering::Relaxed);
    let record = hub.promise(&promise).unwrap().unwrap();
    assert_eq!((record.state, record.settled_at), (PromiseState::RejectedTimedout, Some(start + HOUR)));
}

/// A clock was a year ahead when a promise was made: it keeps its span, from when somebody looks.
#[test]
fn a_time_that_a_wrong_clock_stored_is_computed_anew() {
    const YEAR: u64 = 365 * 86_400_000;
    let start = 1_700_000_000_000;
    let (hand, clock) = hand_clock(start + YEAR);
    let hub = Hub::over(MemoryStore::new(), clock).unwrap();
    let (_, wrong) = suspended(&hub, start + YEAR + 5_000);
    hand.store(start, Ordering::Relaxed);
    let (_, right) = suspended(&hub, start + 7_000);
    let times = |id: &PromiseId| {
        let record = hub.promise(id).unwrap().unwrap();
        (record.state, record.created_at, record.timeout_at)
    };
    // Whoever waits for it takes up the new deadline.
    let waiter = hub.settled(&wrong, start + YEAR + 5_000);
    assert_eq!(times(&wrong), (PromiseState::Pending, start, start + 5_000));
    must_end(move || waiter.wait());
    assert_eq!(times(&right), (PromiseState::Pending, start, start + 7_000));
    hand.store(start + 4_999, Ordering::Relaxed);
    assert_eq!(times(&wrong).0, PromiseState::Pending);
    hand.store(start + 5_000, Ordering::Relaxed);
    assert_eq!(times(&wrong), (PromiseState::RejectedTimedout, start, start + 5_000));
    // By a list as well; a second is no wrong clock.
    let (_, third) = suspended(&hub, start + 9_000);
    hand.store(start + 4_000, Ordering::Relaxed);
    let listed = |id: &PromiseId| {
        let all = hub.promises(&PromiseFilter { pending: true, ..PromiseFilter::default() }).unwrap();
        all.whole.iter().find(|record| record.id == *id).unwrap().timeout_at
    };
    assert_eq!(listed(&third), start + 9_000);
    hand.store(start + 1_000, Ordering::Relaxed);
    assert_eq!(listed(&third), start + 5_000);
}

struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn ready(waiter: &mut Waiter) -> bool {
    let waker = Waker::from(Arc::new(Counter(AtomicUsize::new(0))));
    Pin::new(waiter).poll(&mut Context::from_waker(&waker)).is_ready()
}

#[test]
fn reads_apply_timeouts_first() {
    let (hand, clock) = hand_clock(1000);
    let hub = Hub::over(MemoryStore::new(), clock).unwrap();
    let (_, first) = suspended(&hub, 2000);
    let (_, second) = suspended(&hub, 2000);
    hand.store(2000, Ordering::Relaxed);
    assert_eq!(state(&hub, &first), PromiseState::RejectedTimedout);
    let pending = PromiseFilter { pending: true, ..PromiseFilter::default() };
    assert_eq!(hub.promises(&pending).unwrap().whole, []);
    let (_, third) = suspended(&hub, 3000);
    hand.store(3000, Ordering::Relaxed);
    assert_eq!(hub.promises(&pending).unwrap().whole, []);
    assert_eq!(hub.promise(&third).unwrap().unwrap().settled_at, Some(3000));
    assert_eq!(hub.promise(&second).unwrap().unwrap().settled_at, Some(2000));
}

#[test]
fn it_works_from_every_kind_of_thread() {
    let place = Place::new();
    let hub = place.hub();
    let one = |hub: &Hub| {
        let (_, promise) = suspended(hub, FOREVER);
        assert!(settle(hub, &promise));
        assert_eq!(wait_settled(hub, &promise, FOREVER), PromiseState::Resolved);
    };
    one(&hub);
    for workers in [1, 2] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).build().unwrap();
        let (inside, blocking, waiting) = (hub.clone(), hub.clone(), hub.clone());
        runtime.block_on(async move {
            // Blocking waits inside a worker, in a blocking thread, and the async way.
            tokio::spawn(async move { one(&inside) }).await.unwrap();
            tokio::task::spawn_blocking(move || one(&blocking)).await.unwrap();
            tokio::spawn(async move {
                let (_, promise) = suspended(&waiting, FOREVER);
                let other = waiting.clone();
                let waiter = waiting.settled(&promise, FOREVER);
                let id = promise.clone();
                tokio::spawn(async move { other.write(resolve(&id, "1", other.now())).await.unwrap() }).await.unwrap();
                waiter.await;
                assert_eq!(state(&waiting, &promise), PromiseState::Resolved);
            })
            .await
            .unwrap();
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { one(&hub) });
}

#[test]
fn dropping_the_last_hub_makes_everything_durable_wherever_it_happens() {
    let place = Place::new();
    let queue = |hub: &Hub| -> Vec<Receipt> {
        let owner = hub.owner().unwrap();
        (0..50).map(|_| hub.write(write(create(ExecutionId::generate(), owner, hub.now())))).collect()
    };
    let count = || place.hub().executions(true).unwrap().whole.len();

    let hub = place.hub();
    let (receipts, waiter) = (queue(&hub), hub.settled(&PromiseId::from("x"), FOREVER));
    must_end(move || drop(hub));
    assert!(receipts.into_iter().all(|receipt| receipt.wait().is_ok()));
    must_end(move || waiter.wait());
    assert_eq!(count(), 50);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let hub = place.hub();
    let receipts = queue(&hub);
    runtime.block_on(async move { tokio::spawn(async move { drop(hub) }).await.unwrap() });
    assert!(receipts.into_iter().all(|receipt| receipt.wait().is_ok()));
    assert_eq!(count(), 100);

    // On the thread of the writer itself: a waker that owns the last hub.
    struct Last(Mutex<Option<Hub>>);
    impl Wake for Last {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
        }
    }
    let hub = place.hub();
    let mut receipt = hub.write(write(create(ExecutionId::generate(), hub.owner().unwrap(), hub.now())));
    let waker = Waker::from(Arc::new(Last(Mutex::new(Some(hub)))));
    let mut answer = Pin::new(&mut receipt).poll(&mut Context::from_waker(&waker));
    drop(waker);
    let started = Instant::now();
    while answer.is_pending() {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
        answer = pin!(&mut receipt).poll(&mut Context::from_waker(Waker::noop()));
    }
    assert_eq!(answer, Poll::Ready(Ok(Written::Committed)));
    assert_eq!(count(), 101);
}

#[test]
fn a_waiter_that_is_dropped_is_gone() {
    let hub = Hub::memory();
    let waiters: Vec<Waiter> =
        (0..100_000).map(|n: u64| hub.settled(&PromiseId::from(format!("p{n}").as_str()), u64::MAX - n)).collect();
    drop(waiters);
    assert_eq!(hub.waiting(), 0);
}

#[test]
fn an_execution_has_one_owner_until_that_is_dead() {
    let place = Place::new();
    let (here, there) = (place.hub(), place.hub());
    let (id, promise) = suspended(&here, FOREVER);
    let running = here.run(id).unwrap();
    assert_eq!(there.acquire(id).unwrap_err(), WriteError::Refused(Refusal::Held(id)));
    assert_eq!(here.acquire(id).unwrap_err(), WriteError::Refused(Refusal::Held(id)));
    drop(running);
    let mut release = commit(id, Fence::FIRST, here.now());
    release.lease = Lease::Release;
    here.write(write(release)).wait().unwrap();
    assert_eq!(here.acquire(id).unwrap().fence, Fence(2));
    // Its process ends while it holds it.
    drop(here);
    assert_eq!(there.acquire(id).unwrap().fence, Fence(3));
    let stale = there.write(write(commit(id, Fence(2), there.now()))).wait();
    assert!(matches!(stale, Err(WriteError::Refused(Refusal::Fenced { .. }))));
    assert!(settle(&there, &promise));
    let unknown = ExecutionId::generate();
    assert_eq!(there.acquire(unknown).unwrap_err(), WriteError::Refused(Refusal::NoExecution(unknown)));
    let mut end = commit(id, Fence(3), there.now());
    end.lease = Lease::End("0".into());
    there.write(write(end)).wait().unwrap();
    assert_eq!(there.acquire(id).unwrap_err(), WriteError::Refused(Refusal::Ended(id)));
    assert_eq!(there.collect(u64::MAX >> 1).unwrap(), 1);
    assert_eq!(there.check().unwrap(), [""; 0]);
}

#[test]
fn many_that_acquire_at_once_get_one_owner() {
    let place = Place::new();
    let hubs: Vec<Hub> = (0..4).map(|_| place.hub()).collect();
    let first = place.hub();
    let (id, _) = suspended(&first, FOREVER);
    drop(first);
    let got: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = hubs.iter().map(|hub| scope.spawn(move || hub.acquire(id))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(got.iter().filter(|answer| answer.is_ok()).count(), 1, "{got:?}");
}

#[test]
fn what_a_process_holds_and_does_not_run_is_free() {
    let place = Place::new();
    let (here, there) = (place.hub(), place.hub());
    let (id, _) = suspended(&here, FOREVER);
    let held = || here.is_held(&here.execution(id).unwrap().unwrap()).unwrap();
    // Nobody runs it here: an attempt has gone, and could not give the lease back. For others it is taken.
    assert!(!held() && there.is_held(&there.execution(id).unwrap().unwrap()).unwrap());
    let taken = here.acquire(id).unwrap();
    assert!(taken.fence == Fence(2) && held() && here.run(id).is_none());
    assert_eq!(here.acquire(id).unwrap_err(), WriteError::Refused(Refusal::Held(id)));
    // However the attempt goes, by a panic too.
    assert!(
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| -> () { panic!("{:?}", { taken }.fence) })).is_err()
    );
    assert!(!held());
    // An acquire that is given up on the way: its write happens, and it is free all the same.
    let mut given_up = Box::pin(here.acquire_async(id));
    let mut context = Context::from_waker(Waker::noop());
    assert!(given_up.as_mut().poll(&mut context).is_pending());
    assert_eq!(here.acquire(id).unwrap_err(), WriteError::Refused(Refusal::Held(id)));
    drop(given_up);
    assert_eq!(must_end(move || here.acquire(id)).unwrap().fence, Fence(4));
}

/// Takes the lock of the database from the side for as long as it lives.
fn locked(place: &Place) -> rusqlite::Connection {
    let raw = place.raw();
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    raw
}

#[test]
fn a_lock_of_another_process_holds_up_no_async_thread() {
    let place = Place::new();
    let hub = place.hub();
    let (id, promise) = suspended(&hub, hub.now() + 1);
    let (_, other) = suspended(&hub, FOREVER);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    std::thread::sleep(Duration::from_millis(5));
    let lock = locked(&place);
    runtime.block_on(async {
        // Each of them needs a commit; all wait on the one thread, and the last one gives the lock back.
        let filter = PromiseFilter::default();
        let (one, all, taken, claim, ()) = tokio::join!(
            hub.promise_async(&promise),
            hub.promises_async(&filter),
            hub.acquire_async(id),
            hub.claim(other.as_str().split(':').nth(1).unwrap().parse().unwrap()),
            async {
                tokio::task::yield_now().await;
                drop(lock);
            }
        );
        assert_eq!(one.unwrap().unwrap().state, PromiseState::RejectedTimedout);
        assert_eq!(all.unwrap().whole.len(), 2);
        assert_eq!(taken.unwrap().fence, Fence(2));
        assert!(matches!(claim.unwrap_err(), WriteError::Refused(Refusal::NotEnded(_))));
    });
}

#[test]
fn of_many_that_come_upon_an_end_one_shows_what_is_left() {
    let place = Place::new();
    let hubs: Vec<Hub> = (0..4).map(|_| place.hub()).collect();
    let first = place.hub();
    let (id, _) = suspended(&first, FOREVER);
    let running = first.run(id);
    let mut end = commit(id, Fence::FIRST, first.now());
    end.lease = Lease::End("0".into());
    first.write(write(end)).wait().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    // Whoever ended it is about to show it.
    assert!(runtime.block_on(first.claim(id)).unwrap().is_none());
    assert!(hubs.iter().all(|hub| runtime.block_on(hub.claim(id)).unwrap().is_none()));
    drop((running, first));
    let got: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = hubs
            .iter()
            .map(|hub| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                scope.spawn(move || runtime.block_on(hub.claim(id)).unwrap())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(got.iter().flatten().count(), 1);
}

/// A store that fails as told.
#[derive(Clone)]
struct Failing {
    inner: MemoryStore,
    orders: Arc<Mutex<Vec<Order>>>,
}

#[derive(Clone, Copy)]
enum Order {
    Panic,
    Full,
    NoStore,
}

impl Store for Failing {
    fn write(&mut self, batch: &[Write]) -> Result<Vec<Result<Written, Refusal>>, StoreError> {
        let order = self.orders.lock().unwrap().pop();
        match order {
            Some(Order::Panic) => panic!("as told"),
            Some(_) => Err(StoreError::Full),
            None => self.inner.write(batch),
        }
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        self.inner.reader()
    }
}

impl Backend for Failing {
    fn open_store(&self) -> Result<Box<dyn Store>, StoreError> {
        let mut orders = self.orders.lock().unwrap();
        if matches!(orders.last(), Some(Order::NoStore)) {
            orders.pop();
            return Err(StoreError::Io("as told".into()));
        }
        Ok(Box::new(self.clone()))
    }

    fn open_reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        self.inner.reader()
    }

    fn owners(&self) -> Result<Owners, StoreError> {
        Ok(Owners::in_memory())
    }
}

#[test]
fn failures_reach_every_caller_and_do_not_last() {
    let orders = Arc::new(Mutex::new(Vec::new()));
    let store = Failing { inner: MemoryStore::new(), orders: orders.clone() };
    let hub = Hub::over(store, Arc::new(parole_durable::hub::now)).unwrap();
    let owner = hub.owner().unwrap();
    let first = |hub: &Hub| hub.write(write(create(ExecutionId::generate(), owner, hub.now())));
    first(&hub).wait().unwrap();
    orders.lock().unwrap().push(Order::Full);
    assert_eq!(first(&hub).wait(), Err(WriteError::Store(StoreError::Full)));
    first(&hub).wait().unwrap();
    // A panic, and then the store does not open at once.
    orders.lock().unwrap().extend([Order::NoStore, Order::Panic]);
    assert_eq!(first(&hub).wait(), Err(WriteError::Store(StoreError::Closed)));
    assert_eq!(first(&hub).wait(), Err(WriteError::Store(StoreError::Io("as told".into()))));
    first(&hub).wait().unwrap();
    assert_eq!(hub.executions(false).unwrap().whole.len(), 3);
    hub.flush().wait().unwrap();
    assert_eq!(hub.queued(), 0);
}

#[test]
fn a_database_that_is_opened_ahead_says_what_is_wrong_with_it() {
    let place = Place::new();
    drop(place.hub());
    let hub = Hub::sqlite_ahead(&place.path).unwrap();
    let (_, promise) = suspended(&hub, FOREVER);
    assert!(settle(&hub, &promise));
    drop(hub);
    let raw = rusqlite::Connection::open(place.path.join("parole.db")).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    let version = StoreError::Version { found: 99, known: 4 };
    assert_eq!(Hub::sqlite(&place.path).err(), Some(version.clone()));
    let hub = Hub::sqlite_ahead(&place.path).unwrap();
    let ready = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(hub.ready());
    assert_eq!(ready, Err(WriteError::Store(version.clone())));
    assert_eq!(hub.executions(true).err(), Some(version));
    // Nothing yet: the reader makes it as well.
    let empty = Place::new();
    let hub = Hub::sqlite_ahead(&empty.path).unwrap();
    assert_eq!(hub.executions(true).unwrap().whole, []);
    drop(StateDir::open(&empty.path).unwrap());
}
