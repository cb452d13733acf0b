//! Signals to a guest that computes, and a program that is replaced while it runs.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::scratch::{PAROLE, Ran, Scratch, guest};

const PATIENCE: Duration = Duration::from_secs(20);

/// Prints a line and then computes for ever.
pub fn spinning(scratch: &Scratch) -> String {
    let hello = std::fs::read_to_string(guest("hello.wat")).unwrap();
    let spins = hello.replace("(i32.const 14))", "(i32.const 14)) (loop $for_ever (br $for_ever))");
    assert_ne!(spins, hello);
    scratch.file("spinning.wat", spins.replace("Hello from WAT", "begun         "))
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "never {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn an_interrupted_guest_is_suspended_and_runs_no_more() {
    let scratch = Scratch::new();
    let mut child = scratch.command(["run", &spinning(&scratch)]).spawn().unwrap();
    let mut execution = String::new();
    until("running", || {
        let ran = scratch.parole(&["ps", "--json"]);
        let list = if ran.code == 0 { ran.json() } else { serde_json::json!([]) };
        execution = list[0]["execution"].as_str().unwrap_or_default().to_owned();
        list[0]["state"] == "running"
    });
    let shown = scratch.parole(&["show", &execution]).code(0).out;
    assert!(shown.contains("outcome    none yet: it is running"), "{shown}");
    // What is recorded is shown a moment later.
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    interrupt(&child);
    let ran = Ran::of(&child.wait_with_output().unwrap()).code(75);
    let ran = ran.says("interrupted: the guest does not run on").says(&format!("parole resume {execution}"));
    std::io::Read::read_to_string(&mut stdout, &mut line).unwrap();
    assert_eq!((line.as_str(), ran.out.as_str()), ("begun         \n", ""));
    // Nobody holds it: at once.
    let list = scratch.parole(&["ps", "--json"]).code(0).json();
    assert_eq!(list[0]["state"], "suspended");
    assert!(scratch.parole(&["show", &execution]).code(0).out.contains("outcome    suspended"));
    scratch.parole(&["cancel", &execution]).code(0);
}

#[test]
fn interrupted_before_anything_is_recorded() {
    let scratch = Scratch::new();
    let silent =
        std::fs::read_to_string(spinning(&scratch)).unwrap().replace("(call $print (i32.const 16) (i32.const 14))", "");
    let child = scratch.command(["run", &scratch.file("silent.wat", silent)]).spawn().unwrap();
    // It is compiled, and runs.
    until("compiled", || std::fs::read_dir(scratch.path("state/cache")).is_ok_and(|cache| cache.count() > 1));
    interrupt(&child);
    let ran = Ran::of(&child.wait_with_output().unwrap());
    // A guest that has run for a while is recorded though it has said nothing.
    assert!([75, 130].contains(&ran.code), "{ran:?}");
    let left = scratch.parole(&["ps", "--json"]).code(0).json().as_array().unwrap().len();
    assert_eq!(left, usize::from(ran.code == 75), "{ran:?}");
}

/// The program is replaced on the disk by one of another version, while an old one runs and has to compile.
#[test]
fn an_upgrade_in_place_leaves_a_running_program_whole() {
    let scratch = Scratch::new();
    let (execution, id) = scratch.waiting();
    let program = scratch.path("parole");
    std::fs::copy(PAROLE, &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["resume", "--all", "--watch"]).env_clear().env("PAROLE_STATE", scratch.path("state"));
    let mut child = command.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().contains("watching"));
    let reader = std::thread::spawn(move || lines.count());
    std::fs::copy("/bin/false", scratch.path("other")).unwrap();
    std::fs::rename(scratch.path("other"), &program).unwrap();
    scratch.parole(&["gc", "--cache"]).code(0);
    scratch.parole(&["promise", "resolve", &id, "--data", "Ada"]).code(0);
    until("completed", || scratch.parole(&["show", &execution, "--json"]).code(0).json()["outcome"] == "completed");
    interrupt(&child);
    assert!(child.wait().unwrap().success());
    reader.join().unwrap();
}
