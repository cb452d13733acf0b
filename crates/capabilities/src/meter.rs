//! Guest time: what `cpu_ms` and `wall_ms` are measured by.
//!
//! The driver brackets each poll of the guest with [`Meter::enter`] and [`Meter::leave`];
//! processor time is that of the thread in between, so it holds for start functions, bulk
//! memory operations and host calls alike and does not depend on the load of the machine.
//! Wall time runs from the start of an attempt, but for the waits on promises and the time in which this process stood
//! still ([`clock`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parole_durable::store::Usage;
use rustix::time::{ClockId, clock_gettime};

use crate::clock;

/// The clocks of one execution. Used by one thread at a time.
#[derive(Debug)]
pub struct Meter {
    base: Instant,
    cpu_us: AtomicU64,
    entered: AtomicU64,
    inside: AtomicBool,
    wall_us: AtomicU64,
    since: AtomicU64,
    paused: AtomicBool,
}

impl Meter {
    /// Clocks that go on from what was used before.
    #[must_use]
    pub fn new(used: Usage) -> Self {
        Self {
            base: clock::now(),
            cpu_us: AtomicU64::new(used.cpu_us),
            entered: AtomicU64::new(0),
            inside: AtomicBool::new(false),
            wall_us: AtomicU64::new(used.wall_us),
            since: AtomicU64::new(0),
            paused: AtomicBool::new(false),
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(clock::now().saturating_duration_since(self.base).as_micros()).unwrap_or(u64::MAX)
    }

    /// The guest is about to run on this thread.
    pub fn enter(&self) {
        self.entered.store(thread_cpu_us(), Relaxed);
        self.inside.store(true, Relaxed);
    }

    /// The guest has given this thread back.
    pub fn leave(&self) {
        self.inside.store(false, Relaxed);
        self.cpu_us.fetch_add(thread_cpu_us().saturating_sub(self.entered.load(Relaxed)), Relaxed);
    }

    /// Processor time since [`Meter::enter`], in microseconds.
    #[must_use]
    pub fn inside_us(&self) -> u64 {
        thread_cpu_us().saturating_sub(self.entered.load(Relaxed))
    }

    /// A wait on a promise begins: wall time stands still.
    pub fn pause(&self) {
        self.wall_us.fetch_add(self.now_us().saturating_sub(self.since.load(Relaxed)), Relaxed);
        self.paused.store(true, Relaxed);
    }

    /// The wait is over.
    pub fn resume(&self) {
        self.since.store(self.now_us(), Relaxed);
        self.paused.store(false, Relaxed);
    }

    /// Guest time so far, in microseconds: processor, wall.
    #[must_use]
    pub fn used_us(&self) -> (u64, u64) {
        let (mut cpu, mut wall) = (self.cpu_us.load(Relaxed), self.wall_us.load(Relaxed));
        if self.inside.load(Relaxed) {
            cpu += thread_cpu_us().saturating_sub(self.entered.load(Relaxed));
        }
        if !self.paused.load(Relaxed) {
            wall += self.now_us().saturating_sub(self.since.load(Relaxed));
        }
        (cpu, wall)
    }

    /// Starts again from `used`: a replay has come to its head, and only live running counts.
    pub fn restart(&self, used: Usage) {
        self.cpu_us.store(used.cpu_us, Relaxed);
        self.entered.store(thread_cpu_us(), Relaxed);
        self.wall_us.store(used.wall_us, Relaxed);
        self.since.store(self.now_us(), Relaxed);
    }
}

fn thread_cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000
}
