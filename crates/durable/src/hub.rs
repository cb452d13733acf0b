//! The hub: commits the work of all executions of a process as a group, and wakes those that wait.
//!
//! `writer` is the queue and its thread, `watch` the register of waiters and its thread,
//! `generation` what each call asks about grants.
//! Nothing here needs an async runtime, and everything works inside of one: receipts and
//! waiters are plain futures, and can be waited for on any thread.

mod collect;
mod future;
mod generation;
mod running;
mod watch;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use generation::Seen;
pub use running::{Acquired, Running};
pub use watch::{POLL, Waiter};
pub use writer::{BATCH_LIMIT, Receipt};

use crate::ids::{Digest, ExecutionId, OwnerId, PromiseId, ScheduleId, UnixMs};
use crate::memory::MemoryStore;
use crate::owner::{Owner, Owners};
use crate::promise::{PromiseRecord, PromiseState};
use crate::schedule::ScheduleRecord;
use crate::sqlite::{self, SqliteStore};
use crate::state_dir::StateDir;
use crate::step::Step;
use crate::store::Claim;
use crate::store::{ExecutionRecord, GrantRecord, Listing, PromiseFilter, Reader, Refusal, Store, StoreError, Write};
use generation::Grants;
use watch::Watch;
use writer::Queue;

/// Readers that are kept open when nobody uses them.
const IDLE_READERS: usize = 4;

/// Unix milliseconds by some clock. It must not call the hub.
pub type Clock = Arc<dyn Fn() -> UnixMs + Send + Sync>;

/// Unix milliseconds by the wall clock of the operating system; 0 before 1970.
#[must_use]
pub fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(UnixMs::MAX)
}

/// Why a write did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The store works, and says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed: nothing may be taken to have happened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a hub is built upon: a store that several threads can open.
pub trait Backend: Send + Sync + 'static {
    /// Opens the writing side. Called again after a failure of the one before.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn open_store(&self) -> Result<Box<dyn Store>, StoreError>;

    /// Opens a reader.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn open_reader(&self) -> Result<Box<dyn Reader>, StoreError>;

    /// What makes the owner of this process, and knows whether others live.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn owners(&self) -> Result<Owners, StoreError>;
}

impl Backend for StateDir {
    fn open_store(&self) -> Result<Box<dyn Store>, StoreError> {
        Ok(Box::new(SqliteStore::open(self)?))
    }

    fn open_reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        sqlite::open_reader(self)
    }

    fn owners(&self) -> Result<Owners, StoreError> {
        Owners::in_directory(self)
    }
}

impl Backend for MemoryStore {
    fn open_store(&self) -> Result<Box<dyn Store>, StoreError> {
        Ok(Box::new(self.clone()))
    }

    fn open_reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        Ok(Box::new(self.clone()))
    }

    fn owners(&self) -> Result<Owners, StoreError> {
        Ok(Owners::in_memory())
    }
}

/// The one door to the store of a process. Clones are the same hub; dropping the last one
/// waits until everything queued is durable.
#[derive(Clone)]
pub struct Hub(Arc<Handle>);

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("queued", &self.queued()).field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

/// Owned by the clones of the hub and by nobody else: when it goes, the threads are told to end.
struct Handle {
    shared: Arc<Shared>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// What the threads own as well.
struct Shared {
    backend: Box<dyn Backend>,
    clock: Clock,
    queue: Queue,
    watch: Arc<Watch>,
    readers: Mutex<Vec<Box<dyn Reader>>>,
    grants: Grants,
    owner: Mutex<Option<Owner>>,
    running: running::Set,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// A hub over the database in a state directory; both are made if they are missing.
    ///
    /// # Errors
    /// As for [`StateDir::open`] and [`SqliteStore::open`].
    pub fn sqlite(dir: &Path) -> Result<Self, StoreError> {
        Self::over(StateDir::open(dir)?, Arc::new(now))
    }

    /// Like [`Hub::sqlite`], but the database is opened by the thread of the writer while the
    /// caller does something else, such as loading a guest. What is wrong with the database is
    /// said by the first write or read, or by [`Hub::ready`].
    ///
    /// # Errors
    /// As for [`StateDir::open`].
    pub fn sqlite_ahead(dir: &Path) -> Result<Self, StoreError> {
        let hub = Self::build(None, Box::new(StateDir::open(dir)?), Arc::new(now));
        hub.0.shared.queue.start(|| start_writer(&hub.0.shared, &hub.0.threads))?;
        Ok(hub)
    }

    /// Resolves when the database is open and can be written.
    ///
    /// # Errors
    /// As for [`SqliteStore::open`].
    pub async fn ready(&self) -> Result<(), WriteError> {
        // A batch of nothing that changes anything opens the store and writes nothing.
        self.write(Write::Expire { now: 0 }).await.map(drop)
    }

    /// A hub over a store in memory, which goes with it.
    #[must_use]
    pub fn memory() -> Self {
        let store = MemoryStore::new();
        Self::build(Some(Box::new(store.clone())), Box::new(store), Arc::new(now))
    }

    /// A hub over any store, with any clock.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub fn over(backend: impl Backend, clock: Clock) -> Result<Self, StoreError> {
        let store = backend.open_store()?;
        Ok(Self::build(Some(store), Box::new(backend), clock))
    }

    fn build(store: Option<Box<dyn Store>>, backend: Box<dyn Backend>, clock: Clock) -> Self {
        let shared = Shared {
            backend,
            clock,
            queue: Queue::new(store),
            watch: Arc::default(),
            readers: Mutex::default(),
            grants: Grants::default(),
            owner: Mutex::default(),
            running: running::Set::default(),
        };
        Self(Arc::new(Handle { shared: Arc::new(shared), threads: Arc::default() }))
    }

    /// The clock of the hub.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        (self.0.shared.clock)()
    }

    /// The owner that this process is; made when it is first asked for.
    ///
    /// # Errors
    /// The lock file cannot be made.
    pub fn owner(&self) -> Result<OwnerId, StoreError> {
        let mut owner = lock(&self.0.shared.owner);
        if let Some(owner) = &*owner {
            return Ok(owner.id());
        }
        let made = self.0.shared.backend.owners()?.create()?;
        Ok(owner.insert(made).id())
    }

    /// Enters the queue and returns at once. The receipt resolves when the write is durable;
    /// writes become durable in the order in which they entered.
    pub fn write(&self, write: Write) -> Receipt {
        self.0.push(write)
    }

    /// How many writes wait to be taken up by the writer. The queue has no bound of its own: an
    /// execution waits for its commit before it goes on, and a request for its answer, so there
    /// are no more than executions and requests in flight. Whoever lets them in may look here.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.shared.queue.len()
    }

    /// How many waiters are registered.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.shared.watch.len()
    }

    /// Resolves when a promise may have been settled: by this process, by another one
    /// (noticed within 50 ms), or because `deadline` (its `timeoutAt`) has passed, which has
    /// been made durable by then.
    ///
    /// A wake-up is a hint, the row is the truth. Register first, then look at the promise,
    /// then wait: so nothing falls in between.
    ///
    /// The deadline is one of the wall clock: setting the clock past it ends the wait, setting
    /// it back makes it longer.
    pub fn settled(&self, id: &PromiseId, deadline: UnixMs) -> Waiter {
        self.0.shared.watch.register(id, deadline, || self.0.start_watch())
    }

    /// Resolves when an execution may have ended or changed hands while it is held here: the
    /// owner of a running guest learns by it that another process has canceled it (within 50 ms).
    ///
    /// A hint, like [`Hub::settled`]: look at the fence of the row after registering and after each wake-up.
    pub fn fenced(&self, id: ExecutionId) -> Waiter {
        self.0.shared.watch.register(&id, UnixMs::MAX, || self.0.start_watch())
    }

    /// Whether the execution of a record is held by another process that lives, or run by this one.
    ///
    /// # Errors
    /// The lock files cannot be looked at.
    pub fn is_held(&self, record: &ExecutionRecord) -> Result<bool, StoreError> {
        let Some(holder) = record.owner else { return Ok(false) };
        if lock(&self.0.shared.owner).as_ref().is_some_and(|own| own.id() == holder) {
            return Ok(lock(&self.0.shared.running).contains(&record.id));
        }
        self.0.shared.backend.owners()?.is_alive(holder)
    }

    /// Whether the process of an owner lives.
    ///
    /// # Errors
    /// The lock files cannot be looked at.
    pub fn is_alive(&self, owner: OwnerId) -> Result<bool, StoreError> {
        self.0.shared.backend.owners()?.is_alive(owner)
    }

    /// Ends the hub for all its clones. When this returns everything queued is durable, no write is taken any more,
    /// the threads have ended, and what this process still held is free. It can still be read.
    pub fn close(&self) {
        self.0.close(None);
        drop(lock(&self.0.shared.owner).take());
    }

    /// [`Hub::close`], but a store that cannot be written, because another program holds a lock on it, is not waited
    /// for longer than that: says whether all is durable and free. What is not has not been acknowledged either.
    #[must_use]
    pub fn close_by(&self, until: Instant) -> bool {
        let closed = self.0.close(Some(until));
        if closed {
            drop(lock(&self.0.shared.owner).take());
        }
        closed
    }

    /// Resolves when everything that is queued now has been decided. Whether it was taken is
    /// said by the receipts.
    pub fn flush(&self) -> Receipt {
        self.0.shared.queue.flush()
    }

    /// One execution.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn execution(&self, id: ExecutionId) -> Result<Option<ExecutionRecord>, StoreError> {
        self.0.shared.read(|reader| reader.execution(id))
    }

    /// Executions by id (that is by age), without the ended ones unless asked for.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn executions(&self, with_ended: bool) -> Result<Listing<ExecutionRecord>, StoreError> {
        self.0.shared.read(|reader| reader.executions(with_ended))
    }

    /// At most `limit` steps of an execution with a number of at least `from`, in order.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn steps(&self, id: ExecutionId, from: u64, limit: usize) -> Result<Vec<Step>, StoreError> {
        self.0.shared.read(|reader| reader.steps(id, from, limit))
    }

    /// One promise. If its time has come that is made durable first, which blocks for a commit: up to
    /// [`BUSY_LIMIT`](crate::sqlite::BUSY_LIMIT) where another process holds the database.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn promise(&self, id: &PromiseId) -> Result<Option<PromiseRecord>, StoreError> {
        future::block_on(self.promise_async(id))
    }

    /// [`Hub::promise`] for async callers: a commit holds up no thread.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn promise_async(&self, id: &PromiseId) -> Result<Option<PromiseRecord>, StoreError> {
        let record = self.0.shared.read(|reader| reader.promise(id))?;
        match record {
            Some(record) if record.state == PromiseState::Pending && record.timeout_at <= self.now() => {
                self.expire().await?;
                self.0.shared.read(|reader| reader.promise(id))
            }
            Some(record) if record.is_ahead(self.now()) => {
                self.recompute().await?;
                self.0.shared.read(|reader| reader.promise(id))
            }
            record => Ok(record),
        }
    }

    /// Promises by creation time, then id. If the time of any has come that is made durable
    /// first, which blocks for a commit.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn promises(&self, filter: &PromiseFilter) -> Result<Listing<PromiseRecord>, StoreError> {
        future::block_on(self.promises_async(filter))
    }

    /// [`Hub::promises`] for async callers: a commit holds up no thread.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn promises_async(&self, filter: &PromiseFilter) -> Result<Listing<PromiseRecord>, StoreError> {
        if self.0.shared.read(|reader| reader.next_deadline())?.is_some_and(|at| at <= self.now()) {
            self.expire().await?;
        }
        let found = self.0.shared.read(|reader| reader.promises(filter))?;
        let now = self.now();
        if !found.whole.iter().any(|record| record.is_ahead(now)) {
            return Ok(found);
        }
        self.recompute().await?;
        self.0.shared.read(|reader| reader.promises(filter))
    }

    /// The claims of workers to promises that are pending.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn claims(&self) -> Result<Vec<Claim>, StoreError> {
        self.0.shared.read(|reader| reader.claims())
    }

    /// A number that changes whenever another process has committed. Cheap: no rows are read.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn version(&self) -> Result<u64, StoreError> {
        self.0.shared.read(|reader| reader.version())
    }

    /// A payload by its digest.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn payload(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.shared.read(|reader| reader.payload(digest))
    }

    /// The grants of an execution, in order: the first has generation 1.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn grants(&self, id: ExecutionId) -> Result<Vec<GrantRecord>, StoreError> {
        self.0.shared.read(|reader| reader.grants(id))
    }

    /// The schedules that are whole, by id (that is by age).
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn schedules(&self) -> Result<Vec<ScheduleRecord>, StoreError> {
        Ok(self.schedule_listing()?.whole)
    }

    /// The schedules, and those that are damaged.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn schedule_listing(&self) -> Result<Listing<ScheduleRecord>, StoreError> {
        self.0.shared.read(|reader| reader.schedules())
    }

    /// One schedule.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn schedule(&self, id: ScheduleId) -> Result<Option<ScheduleRecord>, StoreError> {
        self.0.shared.read(|reader| reader.schedule(id))
    }

    /// What is damaged of one execution. Each text names one fault.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn damage(&self, id: ExecutionId) -> Result<Vec<String>, StoreError> {
        self.0.shared.read(|reader| reader.damage(id))
    }

    /// Checks the whole store. Each text names one fault.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn check(&self) -> Result<Vec<String>, StoreError> {
        self.0.shared.read(|reader| reader.check())
    }

    async fn expire(&self) -> Result<(), StoreError> {
        self.done(Write::Expire { now: self.now() }).await
    }

    async fn recompute(&self) -> Result<(), StoreError> {
        self.done(Write::Recompute { now: self.now() }).await
    }

    async fn done(&self, write: Write) -> Result<(), StoreError> {
        match self.write(write).await {
            Ok(_) | Err(WriteError::Refused(_)) => Ok(()),
            Err(WriteError::Store(error)) => Err(error),
        }
    }
}

impl Shared {
    /// Lends a reader. One that has failed is not kept.
    fn read<T>(&self, ask: impl FnOnce(&dyn Reader) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = lock(&self.readers).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => self.backend.open_reader()?,
        };
        let answer = ask(reader.as_ref())?;
        let mut readers = lock(&self.readers);
        if readers.len() < IDLE_READERS {
            readers.push(reader);
        }
        Ok(answer)
    }
}

impl Handle {
    fn push(&self, write: Write) -> Receipt {
        push(&self.shared, &self.threads, write)
    }

    fn start_watch(&self) -> Result<(), StoreError> {
        let (shared, threads) = (self.shared.clone(), self.threads.clone());
        spawn(&self.threads, "parole-watch", move || {
            let expire = |now| push(&shared, &threads, Write::Expire { now });
            shared.watch.run(shared.backend.as_ref(), shared.clock.as_ref(), &expire);
        })
    }
}

fn push(shared: &Arc<Shared>, threads: &Arc<Mutex<Vec<JoinHandle<()>>>>, write: Write) -> Receipt {
    shared.queue.push(write, || start_writer(shared, threads))
}

fn start_writer(shared: &Arc<Shared>, threads: &Mutex<Vec<JoinHandle<()>>>) -> Result<(), StoreError> {
    let shared = shared.clone();
    spawn(threads, "parole-writer", move || {
        shared.queue.run(shared.backend.as_ref(), shared.watch.as_ref());
    })
}

fn spawn(
    threads: &Mutex<Vec<JoinHandle<()>>>,
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<(), StoreError> {
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| StoreError::Io(format!("cannot start the thread {name}: {error}").into()))?;
    lock(threads).push(thread);
    Ok(())
}

/// How often it is looked at whether a thread has ended, where that is not waited for without a bound.
const LOOK_AT_END: Duration = Duration::from_millis(1);

impl Handle {
    /// Says whether the threads have ended, which is waited for, but not for longer than that.
    fn close(&self, until: Option<Instant>) -> bool {
        self.shared.queue.close();
        self.shared.watch.stop();
        let threads = std::mem::take(&mut *lock(&self.threads));
        let here = std::thread::current().id();
        // Waking a task may drop it, and it may own the last hub: then we are on a thread of the
        // hub, which ends by itself once it has done its work.
        if threads.iter().any(|thread| thread.thread().id() == here) {
            return true;
        }
        for thread in threads {
            while until.is_some_and(|until| !thread.is_finished() && Instant::now() < until) {
                std::thread::sleep(LOOK_AT_END);
            }
            if until.is_some() && !thread.is_finished() {
                return false;
            }
            if thread.join().is_err() {
                tracing::error!("a thread of the hub panicked");
            }
        }
        true
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close(None);
    }
}
