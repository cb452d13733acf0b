//! An allowed call allocates nothing, unless a condition has to be evaluated.
#![allow(unsafe_code, reason = "a global allocator that counts")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use common::capability;
use parole_policy::{Arguments, Level, SecurityPolicy, Verdict, decide};

struct Counting;

thread_local!(static ALLOCATIONS: Cell<u64> = const { Cell::new(0) });

fn count() {
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

fn rich() -> SecurityPolicy {
    let policy = SecurityPolicy::new(Level::Standard).block("display").block("sleep").allow_write("/out", "/srv/out");
    (0..8).fold(policy, |policy, n| policy.allow_read(&format!("/data/{n}"), format!("/srv/{n}")))
}

#[test]
fn an_allowed_call_allocates_nothing() {
    let policy = rich();
    let calls = [
        ("print", Arguments::None),
        ("input", Arguments::None),
        ("read_file", Arguments::Read { path: "/data/7/a/../b/./c.txt" }),
        ("write_file", Arguments::Write { path: "out//x", bytes: 1 << 20, contents: &[] }),
    ];
    for (name, arguments) in calls {
        let capability = capability(name);
        let made =
            allocations(|| assert!(matches!(black_box(decide(&policy, 0, capability, &arguments)), Verdict::Allow(_))));
        assert_eq!(made, 0, "{name}");
    }
    // The counter does count: a denial has text.
    let denied = allocations(|| drop(black_box(decide(&policy, 0, capability("display"), &Arguments::None))));
    assert!(denied > 0);
}
