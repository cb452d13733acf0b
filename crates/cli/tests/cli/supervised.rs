//! `resume --all --watch` is a supervisor and a worker: real processes, felled by real signals.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::scratch::Scratch;
use crate::signals::spinning;

const PATIENCE: Duration = Duration::from_secs(60);

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Watch {
    supervisor: Child,
    said: Arc<Mutex<String>>,
}

impl Watch {
    fn start(scratch: &Scratch) -> Self {
        let mut supervisor = scratch.command(["resume", "--all", "--watch"]).stdout(Stdio::null()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(supervisor.stderr.take().unwrap()).lines();
        let notes = Arc::clone(&said);
        std::thread::spawn(move || {
            while let Some(Ok(line)) = lines.next() {
                let mut said = notes.lock().unwrap();
                said.push_str(&line);
                said.push('\n');
            }
        });
        let watch = Self { supervisor, said };
        watch.says("watching");
        watch
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn says(&self, text: &str) {
        until(&format!("said {text:?}: {}", self.said()), || self.said().contains(text).then_some(()));
    }

    /// The process that runs the guests.
    fn worker(&self) -> u32 {
        until("a worker", || children(self.supervisor.id()).first().copied())
    }

    fn ends(mut self, signal: &str) -> ExitStatus {
        kill(self.supervisor.id(), signal);
        self.supervisor.wait().unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop((self.supervisor.kill(), self.supervisor.wait()));
    }
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn kill(pid: u32, signal: &str) {
    // It may have ended just now.
    let _ = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status().unwrap();
}

fn is_there(pid: u32) -> bool {
    // One that nobody has waited for yet is no more than an entry.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

/// Fells a process by a signal. A handler for faults of guests may take the first one.
fn fell(pid: u32, signal: &str) {
    until("felled", || {
        kill(pid, signal);
        std::thread::sleep(Duration::from_millis(20));
        (!is_there(pid)).then_some(())
    });
}

fn state_of(scratch: &Scratch, id: &str) -> String {
    let all = scratch.parole(&["ps", "--all", "--json"]).code(0).json();
    let one = all.as_array().unwrap().iter().find(|one| one["execution"] == id).unwrap();
    one["state"].as_str().unwrap().to_owned()
}

fn running(scratch: &Scratch) -> Vec<String> {
    let all = scratch.parole(&["ps", "--json"]).code(0).json();
    let all = all.as_array().unwrap().iter().filter(|one| one["state"] == "running");
    all.map(|one| one["execution"].as_str().unwrap().to_owned()).collect()
}

/// Executions of a guest that computes for ever once its question is answered, which it is.
fn spinners(scratch: &Scratch, count: usize) -> Vec<String> {
    let file = spinning(scratch);
    let make = |_| {
        let made: Value = scratch.parole(&["run", &file, "--at", "+1s", "--json"]).code(0).json();
        made["schedule"].as_str().unwrap().to_owned()
    };
    let schedules: Vec<String> = (0..count).map(make).collect();
    std::thread::sleep(Duration::from_millis(1100));
    schedules
}

fn executions_of(scratch: &Scratch, schedules: &[String]) -> Vec<String> {
    let last = |id: &String| {
        until("fired", || {
            let shown = scratch.parole(&["schedule", "show", id, "--json"]).code(0).json();
            shown["last"].as_str().map(str::to_owned)
        })
    };
    schedules.iter().map(last).collect()
}

#[test]
fn what_fells_the_worker_three_times_is_set_aside_and_the_others_go_on() {
    let scratch = Scratch::new();
    let (waiting, promise) = scratch.waiting();
    let schedules = spinners(&scratch, 1);
    let watch = Watch::start(&scratch);
    let spinner = executions_of(&scratch, &schedules).remove(0);
    for (number, signal) in ["-SEGV", "-ABRT", "-SEGV"].into_iter().enumerate() {
        until("running", || (running(&scratch) == [spinner.as_str()]).then_some(()));
        // What is printed is durable: it does not come further after that.
        until("printed", || (!scratch.parole(&["journal", &spinner]).code(0).out.is_empty()).then_some(()));
        std::thread::sleep(Duration::from_millis(300));
        let worker = watch.worker();
        fell(worker, signal);
        watch.says(&format!("that makes {}", number + 1));
        until("a new worker", || (number == 2 || watch.worker() != worker).then_some(()));
    }
    watch.says("it is set aside");
    let report = scratch.parole(&["show", &spinner, "--json"]).code(0).json();
    assert_eq!(report["outcome"], "trapped");
    assert!(report["error"].as_str().unwrap().contains("felled the process that ran it 3 times"), "{report}");
    // The one that waited was not at it.
    scratch.parole(&["promise", "resolve", &promise, "--data", "Ada"]).code(0);
    until("completed", || (state_of(&scratch, &waiting) == "completed").then_some(()));
    assert_eq!(watch.ends("-TERM").code(), Some(0));
}

#[test]
fn of_several_that_were_running_each_is_tried_alone_before_one_is_set_aside() {
    let scratch = Scratch::new();
    let schedules = spinners(&scratch, 2);
    let watch = Watch::start(&scratch);
    let both = executions_of(&scratch, &schedules);
    until("both running", || (running(&scratch).len() == 2).then_some(()));
    let mut ended = 0;
    for felled in 1..=5 {
        let here = until("running", || Some(running(&scratch)).filter(|here| !here.is_empty()));
        until("printed", || {
            let all = here.iter().all(|id| !scratch.parole(&["journal", id]).code(0).out.is_empty());
            all.then_some(())
        });
        std::thread::sleep(Duration::from_millis(300));
        let here = running(&scratch);
        assert_eq!(here.len(), if felled == 1 { 2 } else { 1 }, "after {felled}: {here:?}");
        let worker = watch.worker();
        fell(worker, "-ABRT");
        until("the next", || (felled == 5 || watch.worker() != worker).then_some(()));
        until("noted", || {
            ended = both.iter().filter(|id| state_of(&scratch, id) == "trapped").count();
            (felled < 3 || ended == (felled - 1) / 2).then_some(())
        });
    }
    assert_eq!(ended, 2);
    assert_eq!(watch.ends("-INT").code(), Some(0));
}

#[test]
fn what_is_killed_or_comes_further_has_felled_nothing() {
    let scratch = Scratch::new();
    let schedules = spinners(&scratch, 1);
    let watch = Watch::start(&scratch);
    let spinner = executions_of(&scratch, &schedules).remove(0);
    for _ in 0..4 {
        until("running", || (running(&scratch) == [spinner.as_str()]).then_some(()));
        let worker = watch.worker();
        kill(worker, "-KILL");
        until("a new worker", || (watch.worker() != worker).then_some(()));
    }
    until("running", || (running(&scratch) == [spinner.as_str()]).then_some(()));
    assert!(!watch.said().contains("was running"), "{}", watch.said());
    scratch.parole(&["cancel", &spinner]).code(0);
    assert_eq!(watch.ends("-HUP").code(), Some(0));
}

#[test]
fn the_marks_outlast_the_whole_service() {
    let scratch = Scratch::new();
    let schedules = spinners(&scratch, 1);
    let mut spinner = String::new();
    for round in 0..3 {
        let mut watch = Watch::start(&scratch);
        spinner = executions_of(&scratch, &schedules).remove(0);
        until("running", || (running(&scratch) == [spinner.as_str()]).then_some(()));
        until("printed", || (!scratch.parole(&["journal", &spinner]).code(0).out.is_empty()).then_some(()));
        std::thread::sleep(Duration::from_millis(300));
        fell(watch.worker(), "-BUS");
        watch.says(&format!("was running{}; that makes {}", if round < 2 { "" } else { " alone" }, round + 1));
        if round < 2 {
            kill(watch.supervisor.id(), "-KILL");
            watch.supervisor.wait().unwrap();
        } else {
            watch.says("it is set aside");
        }
    }
    assert_eq!(state_of(&scratch, &spinner), "trapped");
}

#[test]
fn a_worker_does_not_outlive_its_supervisor() {
    let scratch = Scratch::new();
    let (execution, promise) = scratch.waiting();
    for round in 0..6u64 {
        let mut watch = Watch::start(&scratch);
        let worker = watch.worker();
        std::thread::sleep(Duration::from_millis(7 * round));
        kill(watch.supervisor.id(), "-KILL");
        watch.supervisor.wait().unwrap();
        until("gone", || (!is_there(worker)).then_some(()));
    }
    // At any point of its start, when it has not said yet who it is.
    for round in 0..12u64 {
        let mut supervisor = scratch.command(["resume", "--all", "--watch", "--quiet"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(2 * round));
        let workers = children(supervisor.id());
        kill(supervisor.id(), "-KILL");
        supervisor.wait().unwrap();
        for worker in workers {
            until("gone", || (!is_there(worker)).then_some(()));
        }
    }
    scratch.parole(&["promise", "resolve", &promise, "--data", "Ada"]).code(0);
    scratch.parole(&["resume", &execution]).code(0).prints("Hello, Ada!\n");
}

#[test]
fn what_a_dead_process_ran_is_taken_up_by_another_that_watches() {
    let scratch = Scratch::new();
    let schedules = spinners(&scratch, 1);
    let mut first = Watch::start(&scratch);
    let spinner = executions_of(&scratch, &schedules).remove(0);
    until("running", || (running(&scratch) == [spinner.as_str()]).then_some(()));
    let second = Watch::start(&scratch);
    std::thread::sleep(Duration::from_millis(500));
    assert!(!second.said().contains("goes on"), "{}", second.said());
    kill(first.supervisor.id(), "-KILL");
    first.supervisor.wait().unwrap();
    // Nothing is committed by that end: it is looked for.
    second.says(&format!("{spinner} goes on"));
    scratch.parole(&["cancel", &spinner]).code(0);
    assert_eq!(second.ends("-TERM").code(), Some(0));
}

#[test]
fn what_never_worked_is_not_tried_again() {
    let scratch = Scratch::new();
    scratch.file("state", "no directory");
    let ran = scratch.parole(&["resume", "--all", "--watch"]);
    assert!(ran.code != 0 && !ran.err.contains("another one"), "{ran:?}");
}

/// A store that fails for a while: here the worker can open no file, as where there are too many.
#[test]
fn a_store_that_fails_for_a_while_is_asked_again() {
    let scratch = Scratch::new();
    // Whether whoever runs it lives is looked at in a file.
    let schedules = spinners(&scratch, 1);
    let other = scratch.command(["resume", "--all", "--quiet"]).stderr(Stdio::null()).spawn().unwrap();
    let spinner = executions_of(&scratch, &schedules).remove(0);
    until("running", || (running(&scratch) == [spinner.as_str()]).then_some(()));
    let (waiting, promise) = scratch.waiting();
    let watch = Watch::start(&scratch);
    let worker = watch.worker();
    let files = |soft: &str| {
        let limit = format!("--nofile={soft}:");
        assert!(Command::new("prlimit").args(["--pid", &worker.to_string(), &limit]).status().unwrap().success());
    };
    std::thread::sleep(Duration::from_millis(500));
    files("3");
    scratch.parole(&["promise", "resolve", &promise, "--data", "Ada"]).code(0);
    watch.says("watching goes on");
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(watch.said().matches("watching goes on").count(), 1, "{}", watch.said());
    files("1024");
    watch.says("the store is well again");
    until("completed", || (state_of(&scratch, &waiting) == "completed").then_some(()));
    assert_eq!((watch.worker(), watch.said().matches("well again").count()), (worker, 1), "{}", watch.said());
    kill(other.id(), "-INT");
    other.wait_with_output().unwrap();
    scratch.parole(&["cancel", &spinner]).code(0);
    assert_eq!(watch.ends("-TERM").code(), Some(0));
}
