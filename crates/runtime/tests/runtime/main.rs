//! The runtime as an embedder uses it. The tests of design section 11 carry its names.
#![expect(clippy::unwrap_used, reason = "tests")]

mod authority;
mod exported;
mod hosted;
mod left;
mod long;
mod outside;
mod stop;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use parole_policy::Then;
use parole_runtime::{
    Call, Denied, Error, Event, Guest, Level, Outcome, PromiseFilter, Report, ResumeOptions, RunOptions, Runtime,
    SecurityPolicy, Validator, Wait,
};
use serde_json::json;

fn guest(name: &str) -> Guest {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-examples/");
    Guest::from_file(format!("{dir}{name}").as_ref()).unwrap()
}

fn greet() -> Guest {
    guest("prebuilt/greet.wasm")
}

fn hello() -> Guest {
    guest("wat/hello.wat")
}

fn runtime() -> Runtime {
    Runtime::builder().open().unwrap()
}

fn at(level: Level) -> SecurityPolicy {
    SecurityPolicy::new(level)
}

fn suspended(report: &Report) -> String {
    assert_eq!(report.outcome, Outcome::Suspended, "{report:?}");
    report.pending[0].id.clone()
}

// Any context: none of these may panic, and all give the same.

#[test]
fn capability_from_sync_context() {
    let report = runtime().blocking().run(hello(), at(Level::Sandbox), RunOptions::default()).unwrap();
    assert_eq!((report.outcome, report.output.as_str()), (Outcome::Completed, "Hello from WAT\n"));
}

#[tokio::test]
async fn capability_from_async_context() {
    let report = runtime().run(hello(), at(Level::Sandbox), RunOptions::default()).await.unwrap();
    assert_eq!((report.outcome, report.output.as_str()), (Outcome::Completed, "Hello from WAT\n"));
}

#[tokio::test]
async fn from_inside_spawn_blocking() {
    let runtime = runtime();
    let run = move || runtime.blocking().run(hello(), at(Level::Sandbox), RunOptions::default());
    let report = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocking_and_dropping_inside_an_async_function() {
    let runtime = runtime();
    let report = runtime.blocking().run(hello(), at(Level::Sandbox), RunOptions::default()).unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
    drop(runtime);
}

#[test]
fn a_future_that_is_awaited_without_any_async_runtime() {
    struct Nothing;
    impl std::task::Wake for Nothing {
        fn wake(self: Arc<Self>) {}
    }
    let waker = Arc::new(Nothing).into();
    let mut context = std::task::Context::from_waker(&waker);
    let runtime = runtime();
    let mut run = std::pin::pin!(runtime.run(hello(), at(Level::Sandbox), RunOptions::default()));
    for _ in 0..10_000 {
        if let std::task::Poll::Ready(report) = run.as_mut().poll(&mut context) {
            assert_eq!(report.unwrap().outcome, Outcome::Completed);
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it never became ready");
}

// Injection time.

#[test]
fn denied_at_link() {
    let runtime = runtime();
    let report = runtime.blocking().run(greet(), at(Level::Sandbox), RunOptions::default()).unwrap();
    assert_eq!(report.outcome, Outcome::Denied);
    let [Denied { import, capability, remedy, .. }] = &report.denied[..] else { panic!("{:?}", report.denied) };
    assert_eq!(import.as_deref(), Some("parole:capabilities/input@0.1.0"));
    assert_eq!(capability, "input");
    assert!(remedy.contains("restricted"), "{remedy}");
    assert_eq!(runtime.promises().list(&PromiseFilter::default()).unwrap(), []);
    assert_eq!(runtime.show(report.execution).unwrap(), report);
    // The twin: the level that the remedy names.
    let report = runtime.blocking().run(greet(), at(Level::Restricted), RunOptions::default()).unwrap();
    suspended(&report);
}

/// Authority is what is linked: whatever the guest does inside, what is blocked is not there, and nothing runs.
#[test]
fn security_bypass_prevention() {
    let runtime = runtime();
    let everything = || guest("prebuilt/everything.wasm");
    let that_uses = |capability: &str| match capability {
        "clock" | "random" | "schedule" => guest("prebuilt/almanac.wasm"),
        "fetch" => guest("prebuilt/web.wasm"),
        "query" => guest("prebuilt/sql.wasm"),
        "websocket" => guest("prebuilt/talk.wasm"),
        _ => everything(),
    };
    for capability in parole_runtime::CATALOGUE.names() {
        let policy = at(Level::Unrestricted).block(capability);
        let report = runtime.blocking().run(that_uses(capability), policy, RunOptions::default()).unwrap();
        assert_eq!((report.outcome, report.output.as_str()), (Outcome::Denied, ""), "{capability}");
        let denied: Vec<&str> = report.denied.iter().map(|denied| denied.capability.as_str()).collect();
        assert_eq!(denied, [capability]);
    }
    assert_eq!(runtime.promises().list(&PromiseFilter::default()).unwrap(), []);
    // The twin.
    suspended(&runtime.blocking().run(everything(), at(Level::Unrestricted), RunOptions::default()).unwrap());
}

// Waiting.

#[test]
fn ask_answer_and_go_on() {
    let runtime = runtime();
    let report = runtime.blocking().run(greet(), at(Level::Standard), RunOptions::default()).unwrap();
    let id = suspended(&report);
    assert!(matches!(runtime.blocking().resolve(&id, &json!(7), "test"), Err(Error::BadAnswer { .. })));
    assert!(runtime.blocking().resolve(&id, &json!("Ada"), "test").unwrap().won);
    let again = runtime.blocking().resolve(&id, &json!("Eve"), "test").unwrap();
    assert_eq!((again.won, again.promise.record.value.data.as_deref()), (false, Some("\"Ada\"")));
    let report = runtime.blocking().resume(report.execution, ResumeOptions::default()).unwrap();
    assert_eq!((report.outcome, report.output.as_str()), (Outcome::Completed, "Hello, Ada!\n"));
    assert_eq!(runtime.show(report.execution).unwrap(), report);
    // An ended execution repeats its outcome.
    assert_eq!(runtime.blocking().resume(report.execution, ResumeOptions::default()).unwrap(), report);
}

#[tokio::test]
async fn an_answer_reaches_a_guest_that_waits_in_memory_and_one_that_was_parked() {
    for park_after_ms in [60_000, 0] {
        let waiting = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&waiting);
        let runtime = Runtime::builder()
            .sink(move |_, event: Event<'_>| {
                if let Event::Waiting(record) = event {
                    seen.lock().unwrap().push(record.id.to_string());
                }
            })
            .open()
            .unwrap();
        let granted = tempfile::tempdir().unwrap();
        let host = granted.path().canonicalize().unwrap();
        let policy = at(Level::Standard).allow_read("/data", &host);
        let policy = policy.limits(|limits| limits.park_after_ms = park_after_ms);
        let options = RunOptions { wait: Wait::All, ..RunOptions::default() };
        let is_open = || {
            let open = std::fs::read_dir("/proc/self/fd").unwrap();
            open.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok()).any(|path| path == host)
        };
        let answer = async {
            while waiting.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
            // Of one that is parked there are rows, and nothing else.
            assert_eq!(is_open(), park_after_ms > 0);
            let id = waiting.lock().unwrap()[0].clone();
            runtime.promises().resolve(&id, &json!("Ada"), "test").await.unwrap()
        };
        let (report, answered) = tokio::join!(runtime.run(greet(), policy, options), answer);
        assert!(answered.won);
        assert_eq!(report.unwrap().output, "Hello, Ada!\n");
    }
}

/// A policy that is put together in Rust does not know the declarations: whoever takes one adds what they say.
#[tokio::test]
async fn a_policy_of_rust_is_as_good_as_one_of_a_file() {
    let runtime = runtime();
    let granted = tempfile::tempdir().unwrap();
    let host = granted.path().canonicalize().unwrap();
    let built = || at(Level::Standard).allow_read("/data", &host).rule("r", "print", Some("text == ''"), Then::Deny);
    let inspected = runtime.inspect(guest("prebuilt/files.wasm"), built()).await.unwrap();
    assert!(inspected.denied.is_empty(), "{:?}", inspected.denied);
    let report = runtime.run(greet(), built(), RunOptions::default()).await.unwrap();
    let id = suspended(&report);
    let more = |policy: &SecurityPolicy| Ok(policy.clone().allow_write("/out", &host));
    assert_eq!(runtime.regrant(report.execution, more, "grant", "test").await.unwrap(), 1);
    runtime.promises().resolve(&id, &json!("Ada"), "test").await.unwrap();
    let report = runtime.resume(report.execution, ResumeOptions::default()).await.unwrap();
    assert_eq!((report.outcome, report.output.as_str()), (Outcome::Completed, "Hello, Ada!\n"));
}

#[tokio::test]
async fn concurrent_capability_calls() {
    let runtime = runtime();
    let mut asked = Vec::new();
    for n in 0..20 {
        let report = runtime.run(greet(), at(Level::Standard), RunOptions::default()).await.unwrap();
        asked.push((n, report.execution, suspended(&report)));
    }
    for (n, _, id) in asked.iter().rev() {
        runtime.promises().resolve(id, &json!(format!("number {n}")), "test").await.unwrap();
    }
    for (n, execution, _) in asked {
        let report = runtime.resume(execution, ResumeOptions::default()).await.unwrap();
        assert_eq!(report.output, format!("Hello, number {n}!\n"));
    }
}

#[test]
fn a_sleeping_guest_that_was_parked_goes_on_after_its_time() {
    let runtime = runtime();
    let options = RunOptions { wait: Wait::Detach, ..RunOptions::default() };
    let report = runtime.blocking().run(guest("prebuilt/sleeper.wasm"), at(Level::Restricted), options).unwrap();
    let id = suspended(&report);
    assert_eq!(report.output, "before\n");
    // It has no value.
    assert!(matches!(runtime.blocking().resolve(&id, &json!("x"), "test"), Err(Error::BadAnswer { .. })));
    let report = runtime.blocking().resume(report.execution, ResumeOptions::default()).unwrap();
    assert_eq!((report.outcome, report.output.as_str()), (Outcome::Completed, "before\nafter\n"));
}

#[test]
fn cancel_ends_an_execution_and_its_promises() {
    let runtime = runtime();
    let report = runtime.blocking().run(greet(), at(Level::Standard), RunOptions::default()).unwrap();
    let id = suspended(&report);
    runtime.blocking().cancel(report.execution).unwrap();
    assert_eq!(runtime.show(report.execution).unwrap().outcome, Outcome::Canceled);
    assert!(!runtime.blocking().resolve(&id, &json!("late"), "test").unwrap().won);
    assert!(runtime.blocking().cancel(report.execution).is_err());
    let report = runtime.blocking().resume(report.execution, ResumeOptions::default()).unwrap();
    assert_eq!(report.outcome, Outcome::Canceled);
}

#[test]
fn a_canceled_or_refused_question_is_told_apart() {
    let runtime = runtime();
    let ask = || runtime.blocking().run(greet(), at(Level::Standard), RunOptions::default()).unwrap();
    let end = |report: &Report| {
        let report = runtime.blocking().resume(report.execution, ResumeOptions::default()).unwrap();
        assert_eq!(report.outcome, Outcome::Failed);
        report.error.unwrap()
    };
    let canceled = ask();
    runtime.blocking().cancel_promise(&suspended(&canceled), "test").unwrap();
    let refused = ask();
    runtime.blocking().reject(&suspended(&refused), Some("not today"), "test").unwrap();
    let (canceled, refused) = (end(&canceled), end(&refused));
    assert!(canceled.contains("cancel"), "{canceled}");
    assert!(refused.contains("not today"), "{refused}");
}

#[test]
fn replay_repeats_the_output_and_changes_nothing() {
    let runtime = runtime();
    let report = runtime.blocking().run(greet(), at(Level::Standard), RunOptions::default()).unwrap();
    let id = suspended(&report);
    let replayed = runtime.blocking().replay(report.execution).unwrap();
    assert_eq!(replayed.outcome, None);
    runtime.blocking().resolve(&id, &json!("Ada"), "test").unwrap();
    let report = runtime.blocking().resume(report.execution, ResumeOptions::default()).unwrap();
    let before = runtime.journal(report.execution).unwrap().len();
    let replayed = runtime.blocking().replay(report.execution).unwrap();
    assert_eq!((replayed.outcome, replayed.output), (Some(Outcome::Completed), report.output));
    assert_eq!(runtime.journal(report.execution).unwrap().len(), before);
}

// Validators.

fn judged(check: impl Fn(&Call) -> Result<(), String> + Send + Sync + 'static) -> Report {
    let runtime = Runtime::builder().validator(Validator::new("judge", "input", check)).open().unwrap();
    runtime.blocking().run(greet(), at(Level::Standard), RunOptions::default()).unwrap()
}

/// P05: a validator that panics or is too slow denies; its twin allows.
#[test]
fn validators_fail_closed() {
    suspended(&judged(|call| {
        assert_eq!(&*call.arguments, r#"{"prompt":"What is your name?"}"#);
        Ok(())
    }));
    let denied = |report: Report, reason: &str| {
        assert_eq!(report.outcome, Outcome::Failed);
        assert!(report.denied[0].reason.contains(reason), "{:?}", report.denied);
        assert_eq!(report.pending, []);
    };
    denied(judged(|_| Err("no names".into())), "no names");
    denied(judged(|_| panic!("a fault in the validator")), "the validator failed");
    denied(
        judged(|_| {
            std::thread::sleep(Duration::from_secs(3600));
            Ok(())
        }),
        "took too long",
    );
}

#[test]
fn a_denied_send_only_call_is_dropped_and_recorded() {
    let quiet = Validator::new("quiet", "print", |_: &Call| Err("quiet".into()));
    let runtime = Runtime::builder().validator(quiet).open().unwrap();
    let report = runtime.blocking().run(hello(), at(Level::Sandbox), RunOptions::default()).unwrap();
    assert_eq!((report.outcome, report.output.as_str()), (Outcome::Completed, ""));
    let journal = runtime.journal(report.execution).unwrap();
    assert_eq!(journal[0].arguments, json!([{ "print": "Hello from WAT", "denied": true }]));
    let replayed = runtime.blocking().replay(report.execution).unwrap();
    assert_eq!(replayed.output, "");
}

#[test]
fn a_process_that_lacks_a_validator_refuses_to_resume() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("state");
    let with = || {
        let allow = Validator::new("mine", "input", |_: &Call| Ok(()));
        Runtime::builder().state_dir(&dir).validator(allow).open().unwrap()
    };
    let report = with().blocking().run(greet(), at(Level::Standard), RunOptions::default()).unwrap();
    suspended(&report);
    let without = Runtime::builder().state_dir(&dir).open().unwrap();
    let error = without.blocking().resume(report.execution, ResumeOptions::default()).unwrap_err();
    assert!(error.to_string().contains("`input:mine`"), "{error}");
    suspended(&with().blocking().resume(report.execution, ResumeOptions::default()).unwrap());
}

// The state directory.

#[test]
fn an_execution_outlives_its_runtime() {
    let state = tempfile::tempdir().unwrap();
    let open = || Runtime::builder().state_dir(state.path().join("state")).open().unwrap();
    let report = open().blocking().run(greet(), at(Level::Standard), RunOptions::default()).unwrap();
    let id = suspended(&report);
    open().blocking().resolve(&id, &json!("Ada"), "test").unwrap();
    let runtime = open();
    assert_eq!(runtime.ready().unwrap(), [report.execution]);
    let report = runtime.blocking().resume(report.execution, ResumeOptions::default()).unwrap();
    assert_eq!(report.output, "Hello, Ada!\n");
    assert_eq!(runtime.check().unwrap(), Vec::<String>::new());
}

#[test]
fn a_grant_that_covers_the_state_directory_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let runtime = Runtime::builder().state_dir(place.path().join("state")).open().unwrap();
    let run = |dir: &str| {
        let policy = at(Level::Standard).allow_write("/out", place.path().join(dir));
        runtime.blocking().run(hello(), policy, RunOptions::default())
    };
    for dir in ["", "state", "state/cache"] {
        let error = run(dir).unwrap_err();
        assert!(error.to_string().contains("the state directory"), "{error}");
    }
    std::fs::create_dir(place.path().join("out")).unwrap();
    assert_eq!(run("out").unwrap().outcome, Outcome::Completed);
}

#[test]
fn two_runtimes_do_not_run_one_execution() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("state");
    let waits = Runtime::builder().state_dir(&dir).open().unwrap();
    let other = Runtime::builder().state_dir(&dir).open().unwrap();
    let options = RunOptions { wait: Wait::All, ..RunOptions::default() };
    let running = waits.clone();
    let run = std::thread::spawn(move || running.blocking().run(greet(), at(Level::Standard), options));
    let pending = loop {
        if let Some(promise) =
            other.promises().list(&PromiseFilter { pending: true, ..Default::default() }).unwrap().pop()
        {
            break promise;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let id = pending.execution.parse().unwrap();
    let error = other.blocking().resume(id, ResumeOptions::default()).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    other.blocking().resolve(pending.record.id.as_str(), &json!("Ada"), "test").unwrap();
    assert_eq!(run.join().unwrap().unwrap().output, "Hello, Ada!\n");
}

// Calls of any signature.

#[test]
fn any_signature_can_be_invoked() {
    let runtime = runtime();
    let call = |text: &str| {
        let options = RunOptions { invoke: Some(text.into()), ..RunOptions::default() };
        runtime.blocking().run(guest("wat/add.wat"), at(Level::Sandbox), options)
    };
    assert_eq!(call("add(40, 2)").unwrap().result.as_deref(), Some("42"));
    assert_eq!(call("greet(\"Ada\")").unwrap().result.as_deref(), Some("\"Hello, Ada!\""));
    for (bad, expect) in [
        ("add(1)", "add: func(a: u32, b: u32) -> u32"),
        ("add(1, \"x\")", "add: func"),
        ("add(1, 99999999999)", "add: func"),
        ("nope()", "it has: "),
        ("add(", "is not a call"),
        ("", "is not a call"),
    ] {
        let error = call(bad).unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{bad}: {error}");
        assert!(error.to_string().contains(expect), "{bad}: {error}");
    }
    let deep = format!("add({}1{})", "(".repeat(100_000), ")".repeat(100_000));
    assert!(call(&deep).unwrap_err().to_string().contains("nested deeper"));
}
