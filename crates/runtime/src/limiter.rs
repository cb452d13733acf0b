//! Memory, tables and instances of one guest: limits on the sum over all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parole_policy::Limits;
use wasmtime::ResourceLimiter;

/// Core instances, memories and tables that one guest may have: each costs the host some
/// kilobytes of bookkeeping and several mappings, whatever its size.
pub const INSTANCES: usize = 1_000;

/// The host could not give what the limits allow: the attempt ends, the execution does not.
#[derive(Debug)]
pub(crate) struct HostOutOfMemory;

impl std::fmt::Display for HostOutOfMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the host is out of memory")
    }
}

/// Which limit the guest has met, for the report: growth that fails is not an error to the engine.
#[derive(Debug, Default)]
pub(crate) struct Met(AtomicU8);

impl Met {
    pub(crate) fn name(&self) -> Option<&'static str> {
        match self.0.load(Ordering::Relaxed) {
            1 => Some("memory"),
            2 => Some("tables"),
            3 => Some("instances"),
            _ => None,
        }
    }

    fn set(&self, value: u8) {
        self.0.store(value, Ordering::Relaxed);
    }
}

pub(crate) struct Limiter {
    memory: u64,
    memory_max: u64,
    tables: u64,
    tables_max: u64,
    pub(crate) met: Arc<Met>,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { memory: 0, memory_max: limits.memory, tables: 0, tables_max: limits.tables, met: Arc::default() }
    }
}

fn grow(sum: &mut u64, most: u64, current: usize, desired: usize) -> bool {
    let after = sum.saturating_add(desired.saturating_sub(current) as u64);
    let fits = after <= most;
    if fits {
        *sum = after;
    }
    fits
}

/// A growth past what the type itself allows is -1 at every run. Any other failure is the
/// host's own lack of memory, which ends the attempt: a guest that were told of it would go
/// another way than on a replay. The engine tells them apart by text alone.
fn grow_failed(error: wasmtime::Error) -> wasmtime::Result<()> {
    let text = error.to_string();
    if text.contains("exceeds memory type's limits") || text.contains("maximum size exceeded") {
        return Ok(());
    }
    Err(error.context(HostOutOfMemory))
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let fits = grow(&mut self.memory, self.memory_max, current, desired);
        self.met.set(if fits { 0 } else { 1 });
        Ok(fits)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        grow_failed(error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let fits = grow(&mut self.tables, self.tables_max, current, desired);
        self.met.set(if fits { 0 } else { 2 });
        Ok(fits)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        grow_failed(error)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        INSTANCES
    }

    fn memories(&self) -> usize {
        INSTANCES
    }
}
