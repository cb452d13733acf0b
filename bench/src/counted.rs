//! What is counted: allocations of a thread, syncs of the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_int;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counted;

#[global_allocator]
static COUNTED: Counted = Counted;

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call goes to the allocator of the system as it is.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How often this thread has allocated.
pub fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

static SYNCS: AtomicU64 = AtomicU64::new(0);

/// Stands in for the function of the C library, which SQLite calls.
#[expect(unsafe_code, reason = "it takes the place of a function of the C library")]
#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: c_int) -> c_int {
    SYNCS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller has it open.
    let synced = rustix::fs::fdatasync(unsafe { BorrowedFd::borrow_raw(file) });
    synced.map_or(-1, |()| 0)
}

/// How often this process has synced a file.
pub fn syncs() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}
