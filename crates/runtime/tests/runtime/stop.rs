//! The orderly end of a runtime, by its owner and by the last handle that goes.

use std::path::Path;
use std::time::{Duration, Instant};

use parole_runtime::{Error, ExecutionId, Level, Outcome, PromiseFilter, ResumeOptions, RunOptions, Runtime, Wait};
use serde_json::json;

use super::{at, greet, guest, hello};

const PATIENCE: Duration = Duration::from_secs(30);

fn on(dir: &Path) -> Runtime {
    Runtime::builder().state_dir(dir.join("state")).open().unwrap()
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "never {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Threads that bear a name of ours. The compiler's pool, which stays for the life of the process, has inherited it.
fn threads() -> Vec<String> {
    let names = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).filter(|name| name.starts_with("parole-")).collect()
}

/// Starts the compiler's pool, and gives the threads that are there without any runtime of ours.
fn before() -> usize {
    let runtime = super::runtime();
    runtime.blocking().run(hello(), at(Level::Sandbox), RunOptions::default()).unwrap();
    assert!(runtime.blocking().shutdown(PATIENCE).unwrap());
    let mut count = threads().len();
    // The thread that said so may be on its way out still.
    while threads().iter().any(|name| name == "parole-stop") {
        std::thread::sleep(Duration::from_millis(1));
        count = threads().len();
    }
    count
}

fn pending(runtime: &Runtime) -> Vec<String> {
    let filter = PromiseFilter { pending: true, ..PromiseFilter::default() };
    runtime.promises().list(&filter).unwrap().iter().map(|listed| listed.record.id.as_str().to_owned()).collect()
}

fn options(id: ExecutionId) -> RunOptions {
    RunOptions { id: Some(id), wait: Wait::All, ..RunOptions::default() }
}

/// Another runtime on the same state can go on with it at once.
fn goes_on(dir: &Path, id: ExecutionId) {
    let other = on(dir);
    let promise = pending(&other).pop().unwrap();
    other.blocking().resolve(&promise, &json!("Ada"), "test").unwrap();
    let report = other.blocking().resume(id, ResumeOptions::default()).unwrap();
    assert_eq!((report.outcome, report.output.as_str()), (Outcome::Completed, "Hello, Ada!\n"));
}

#[test]
fn shutdown_parks_what_waits_and_leaves_nothing_behind() {
    let before = before();
    let dir = tempfile::tempdir().unwrap();
    let runtime = on(dir.path());
    let id = ExecutionId::generate();
    let runner = runtime.clone();
    let waits = std::thread::spawn(move || runner.blocking().run(greet(), at(Level::Standard), options(id)));
    until("asked", || pending(&runtime).len() == 1);
    assert!(runtime.blocking().shutdown(Duration::from_secs(20)).unwrap());
    let report = waits.join().unwrap().unwrap();
    assert_eq!((report.outcome, report.pending.len()), (Outcome::Suspended, 1));
    until("joined", || threads().len() <= before);
    // Nothing is taken on any more, but what is stored can be looked at.
    let refused = runtime.blocking().run(hello(), at(Level::Standard), RunOptions::default());
    assert!(matches!(refused, Err(Error::Stopped)), "{refused:?}");
    assert_eq!(runtime.show(id).unwrap().outcome, Outcome::Suspended);
    goes_on(dir.path(), id);
    // Once more is no harm.
    assert!(runtime.blocking().shutdown(Duration::ZERO).unwrap());
}

#[test]
fn a_guest_that_computes_is_left_where_it_is() {
    let before = before();
    let dir = tempfile::tempdir().unwrap();
    let runtime = on(dir.path());
    let text = std::fs::read_to_string(guest("wat/hello.wat").path.unwrap()).unwrap();
    let spins = text.replace("(i32.const 14))", "(i32.const 14)) (loop $for_ever (br $for_ever))");
    let spins = parole_runtime::Guest::from_bytes("spins", spins.into_bytes()).unwrap();
    let id = ExecutionId::generate();
    let runner = runtime.clone();
    let spins = std::thread::spawn(move || runner.blocking().run(spins, at(Level::Standard), options(id)));
    until("known", || runtime.show(id).is_ok_and(|report| !report.output.is_empty()));
    assert!(runtime.blocking().shutdown(Duration::from_secs(20)).unwrap());
    let report = spins.join().unwrap().unwrap();
    assert_eq!((report.outcome, report.output.as_str()), (Outcome::Suspended, "Hello from WAT\n"));
    until("joined", || threads().len() <= before);
}

#[test]
fn dropping_every_handle_ends_what_waits() {
    let before = before();
    let dir = tempfile::tempdir().unwrap();
    let runtime = on(dir.path());
    let id = ExecutionId::generate();
    {
        // Looked at once, and given up: that does not stop the execution.
        let mut run = std::pin::pin!(runtime.run(greet(), at(Level::Standard), options(id)));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(run.as_mut().poll(&mut context).is_pending());
    }
    until("asked", || pending(&runtime).len() == 1);
    drop(runtime);
    until("ended", || threads().len() <= before);
    goes_on(dir.path(), id);
}

#[tokio::test]
async fn shutdown_and_drop_inside_an_async_context() {
    let runtime = super::runtime();
    let report = runtime.run(hello(), at(Level::Sandbox), RunOptions::default()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
    assert!(runtime.shutdown(Duration::from_secs(20)).await.unwrap());
    drop(runtime);
    let dropped = super::runtime();
    let run = dropped.run(greet(), at(Level::Standard), options(ExecutionId::generate()));
    assert!(tokio::time::timeout(Duration::from_millis(300), run).await.is_err());
    drop(dropped);
}
