//! The one engine, and the thread that ticks it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use parole_capabilities::clock;
use wasmtime::{Config, Engine, ModuleVersionStrategy, OptLevel};

/// How often a running guest is looked at: its limits are checked and its output is sent on.
pub const TICK: Duration = Duration::from_millis(10);
/// The stack that a guest may use, in bytes.
pub const STACK: usize = 512 << 10;
/// The stack with what host functions need on top of it.
const ASYNC_STACK: usize = STACK + (512 << 10);

/// What is switched on for guests, and what is not. Everything that is off here is refused
/// when a guest is validated. The reasons are in `docs/engine.md`.
///
/// # Errors
/// The engine does not know a setting.
pub fn config() -> wasmtime::Result<Config> {
    let mut config = Config::new();
    // Proposals in which most faults of recent engines sit, and that today's plain guests do not need.
    config.gc_support(false).wasm_gc(false).wasm_function_references(false).wasm_exceptions(false);
    config.wasm_threads(false).shared_memory(false).wasm_shared_everything_threads(false);
    config.wasm_memory64(false).wasm_stack_switching(false).wasm_custom_page_sizes(false);
    config.wasm_wide_arithmetic(false);
    // Sync guests need none of the machinery of async ones: calls are cheaper without.
    config.concurrency_support(false);
    // Determinism: the same guest computes the same on replay, on this machine and on the next.
    config.cranelift_nan_canonicalization(true).wasm_relaxed_simd(true).relaxed_simd_deterministic(true);
    config.cranelift_opt_level(OptLevel::Speed);
    // Time limits.
    config.epoch_interruption(true);
    config.max_wasm_stack(STACK).async_stack_size(ASYNC_STACK);
    // An artefact of another patch release may have been made by a compiler with a known fault.
    config.module_version(ModuleVersionStrategy::Custom(VERSION.into()))?;
    Ok(config)
}

/// Names the engine in cached artefacts.
pub(crate) const VERSION: &str = concat!("parole-", env!("CARGO_PKG_VERSION"), "+wasmtime-48.0.8");

/// Ticks the engine's epoch while at least one guest runs, and sleeps while none does.
pub(crate) struct Ticker {
    running: AtomicUsize,
    stopped: AtomicBool,
    thread: Thread,
    /// Until it is waited for.
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl Ticker {
    /// Starts the thread; it ends when the ticker is gone.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Arc<Self>> {
        let engine = engine.weak();
        let (hand, handed) = std::sync::mpsc::sync_channel::<Weak<Ticker>>(1);
        let thread = std::thread::Builder::new().name("parole-ticker".into()).spawn(move || {
            let Ok(ticker) = handed.recv() else { return };
            loop {
                match ticker.upgrade() {
                    None => return,
                    Some(ticker) if ticker.stopped.load(Ordering::SeqCst) => return,
                    Some(ticker) if ticker.running.load(Ordering::SeqCst) == 0 => {
                        drop(ticker);
                        std::thread::park();
                    }
                    Some(_) => {
                        std::thread::sleep(TICK);
                        // A guest that computes is measured: see there.
                        let _ = clock::now();
                        match engine.upgrade() {
                            Some(engine) => engine.increment_epoch(),
                            None => return,
                        }
                    }
                }
            }
        })?;
        let (running, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (handle, thread) = (thread.thread().clone(), Mutex::new(Some(thread)));
        let ticker = Arc::new(Self { running, stopped, thread: handle, handle: thread });
        let _ = hand.send(Arc::downgrade(&ticker));
        Ok(ticker)
    }

    /// Ends the thread, and waits for that. No guest may run any more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.thread.unpark();
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = handle.map(JoinHandle::join);
    }

    /// A guest runs on this thread until the guard is dropped.
    pub(crate) fn running(&self) -> Running<'_> {
        if self.running.fetch_add(1, Ordering::SeqCst) == 0 {
            self.thread.unpark();
        }
        Running(self)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.thread.unpark();
    }
}

/// See [`Ticker::running`].
pub(crate) struct Running<'t>(&'t Ticker);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_lock_file() {
        let lock = include_str!("../../../Cargo.lock");
        let package = lock.split("[[package]]").find(|package| package.contains("\nname = \"wasmtime\"\n")).unwrap();
        let version = package.lines().find_map(|line| line.strip_prefix("version = ")).unwrap().trim_matches('"');
        assert!(VERSION.ends_with(&format!("+wasmtime-{version}")), "{VERSION} names another engine than {version}");
    }
}
