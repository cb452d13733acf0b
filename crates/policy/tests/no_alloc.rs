//! An allowed call allocates nothing, unless a condition has to be evaluated.
#![allow(unsafe_code, reason = "a global allocator that counts")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use common::{Arguments, FetchArguments, capability, path, target};
use parole_policy::{
    Database, Fact, Headers, Level, Looks, Mode, QueryValue, SecurityPolicy, Source, Then, Verdict, decide,
};

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
    let source = Source::Sqlite("/srv/inventory.db".into());
    let policy = SecurityPolicy::new(Level::Trusted)
        .block("display")
        .block("sleep")
        .allow_write("/out", "/srv/out")
        .allow_net("wss://socket.example.com")
        .allow_net("https://*.cdn.example.com")
        .allow_net("https://api.example.com")
        .allow_net("http://127.0.0.1:8080")
        .allow_net("http://[::1]:8080")
        .allow_database("inventory", Database { source, mode: Mode::Rw })
        .grant("fetch", |grant| grant.methods.extend(["GET".to_owned(), "POST".to_owned()]));
    common::resolved((0..8).fold(policy, |policy, n| policy.allow_read(&format!("/data/{n}"), format!("/srv/{n}"))))
}

/// Every kind of call that [`rich`] allows.
fn each_call(run: impl Fn(&str, &Arguments<'_>)) {
    run("print", &Arguments::None);
    run("print", &Arguments::Fields(&[("text", Fact::Text("hello"))]));
    run("input", &Arguments::None);
    run("read_file", &Arguments::Read { path: &path("/data/7/a/../b/./c.txt") });
    run("write_file", &Arguments::Write { path: &path("out//x"), contents: &[0; 64] });
    let headers = common::headers(&[("accept", "*/*")]);
    for text in [
        "https://api.example.com/v1/things?x=1",
        "https://a.cdn.example.com/",
        "http://127.0.0.1:8080/x",
        "http://[::1]:8080/",
    ] {
        let url = target(text);
        let request = FetchArguments { method: "POST", url: &url, headers: &headers, body: Some(b"x") };
        run("fetch", &Arguments::Fetch(&request));
    }
    let url = target("wss://socket.example.com/chat");
    run("websocket", &Arguments::Connect { url: &url });
    let parameters = [QueryValue::Text("x".to_owned())];
    run("query", &Arguments::Query { database: "inventory", sql: "select 1", parameters: &parameters });
}

#[test]
fn an_allowed_call_allocates_nothing() {
    let allows_without_allocation = |policy: &SecurityPolicy| {
        each_call(|name, arguments| {
            let capability = capability(name);
            let decide = || assert!(matches!(black_box(decide(policy, 0, capability, arguments)), Verdict::Allow(_)));
            assert_eq!(allocations(decide), 0, "{name}");
        });
    };
    allows_without_allocation(&rich());
    // Rules without a condition, and rules for other capabilities, cost nothing either.
    let ruled = (0..20).fold(rich(), |policy, n| policy.rule(&format!("r{n}"), "approve", Some("true"), Then::Deny));
    allows_without_allocation(&common::resolved(ruled.rule("all", "fetch", None, Then::Allow)));
    let policy = rich();
    let asked = common::resolved(policy.clone().rule("ask", "fetch", None, Then::Ask));
    let (url, headers) = (target("https://api.example.com/"), common::headers(&[]));
    let request = FetchArguments { method: "GET", url: &url, headers: &headers, body: None };
    let arguments = Arguments::Fetch(&request);
    let ask = || assert!(matches!(black_box(decide(&asked, 0, capability("fetch"), &arguments)), Verdict::Ask(_)));
    assert_eq!(allocations(ask), 0);
    // The counter does count: a denial has text, a condition has values.
    let denied = allocations(|| drop(black_box(decide(&policy, 0, capability("display"), &Arguments::None))));
    assert!(denied > 0);
}

/// A condition builds what it looks at and no more: a large body costs nothing that isn't read.
#[test]
fn a_condition_allocates_little() {
    let url = target("https://api.example.com/v1/things");
    let (names, value) = ((0..100).map(|n| format!("X-{n}")).collect::<Vec<_>>(), "v".repeat(100));
    let headers = Headers::read(names.iter().map(|name| (name.as_str(), value.as_str())), Looks::ALL).unwrap();
    let body = vec![b'x'; 1 << 20];
    let request = FetchArguments { method: "POST", url: &url, headers: &headers, body: Some(&body) };
    for (when, most) in [
        ("request.method == \"DELETE\"", 8),
        ("target.path.startsWith(\"/admin\")", 10),
        ("target.path.matches(\"^/admin\")", 10),
        ("request.body == null || size(request.body) > 9999999", 20),
        ("request.method in [\"DELETE\", \"PUT\"]", 12),
    ] {
        let policy = common::resolved(rich().rule("r", "fetch", Some(when), Then::Deny));
        let arguments = Arguments::Fetch(&request);
        let call =
            || assert!(matches!(black_box(decide(&policy, 0, capability("fetch"), &arguments)), Verdict::Allow(_)));
        call();
        let made = allocations(call);
        assert!(made <= most, "{when}: {made}");
    }
}
