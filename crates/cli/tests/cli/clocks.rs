//! Times that a wrong clock stored. The clock of the program is put forward by a library that is loaded before it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::scratch::{Ran, Scratch, guest};

/// The clock of the wall, a year ahead.
const AHEAD: &str = "
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, \"clock_gettime\");
    int result = real(id, now);
    if (id == CLOCK_REALTIME) now->tv_sec += 365L * 86400;
    return result;
}
";

/// Runs the program with that clock.
fn ahead(scratch: &Scratch, words: &[&str]) -> Ran {
    let (source, library) = (scratch.file("ahead.c", AHEAD), scratch.path("ahead.so"));
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    assert!(cc.status().unwrap().success(), "a C compiler builds this program too");
    let mut command = scratch.command(words);
    command.env("LD_PRELOAD", &library);
    Ran::of(&command.output().unwrap())
}

fn pending(scratch: &Scratch) -> Value {
    scratch.parole(&["promises", "--pending", "--json"]).code(0).json()
}

#[test]
fn a_timer_that_a_wrong_clock_stored_ends_after_its_time() {
    let scratch = Scratch::new();
    let made = ahead(&scratch, &["run", &guest("sleeper.wasm"), "--detach", "--json"]).code(75).json();
    let execution = made["execution"].as_str().unwrap();
    let began = Instant::now();
    let mut watcher = scratch.command(["resume", "--all", "--watch", "--quiet"]).stderr(Stdio::null()).spawn().unwrap();
    let outcome = || scratch.parole(&["show", execution, "--json"]).code(0).json()["outcome"].clone();
    while outcome() != "completed" {
        assert!(began.elapsed() < Duration::from_secs(20), "it sleeps for a year: {}", pending(&scratch));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(Command::new("kill").args(["-TERM", &watcher.id().to_string()]).status().unwrap().success());
    assert!(watcher.wait().unwrap().success());
}

#[test]
fn a_question_that_a_wrong_clock_stored_expires_after_its_time_and_others_are_left_alone() {
    let scratch = Scratch::new();
    let made = ahead(&scratch, &["run", &guest("greet.wasm"), "--detach", "--json"]).code(75).json();
    let wrong = made["pending"][0]["id"].as_str().unwrap();
    let before = made["pending"][0]["timeoutAt"].as_u64().unwrap();
    let (_, right) = scratch.waiting();
    let list = pending(&scratch);
    let timeout = |id: &str| {
        let one = list.as_array().unwrap().iter().find(|one| one["id"] == id).unwrap();
        one["timeoutAt"].as_u64().unwrap()
    };
    // Five minutes for each, from now on.
    assert!(timeout(wrong).abs_diff(timeout(&right)) < 60_000 && timeout(wrong) < before, "{list}");
    let again = pending(&scratch);
    assert_eq!(again, list, "once");
}

#[test]
fn a_schedule_that_a_wrong_clock_moved_on_runs_at_its_time() {
    let scratch = Scratch::new();
    let words = ["run", &guest("hello.wat"), "--every", "* * * * *", "--json"];
    let id = scratch.parole(&words).code(0).json()["schedule"].as_str().unwrap().to_owned();
    let shown = || scratch.parole(&["schedule", "show", &id, "--json"]).code(0).json();
    let right = shown()["next_at"].as_u64().unwrap();
    ahead(&scratch, &["resume", "--all", "--quiet"]).code(0);
    assert!(shown()["next_at"].as_u64().unwrap() > right + 300 * 86_400_000);
    scratch.parole(&["resume", "--all"]).code(0).says("later than its rule allows");
    assert!(shown()["next_at"].as_u64().unwrap() < right + 300_000, "{}", shown());
}
