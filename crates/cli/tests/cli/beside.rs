//! `resume --all`: what is due goes on side by side.

use std::io::{BufRead as _, BufReader};
use std::process::Command;
use std::time::Duration;

use crate::scratch::{Ran, Scratch, guest};

/// Sleeps for as long as it is told to.
fn waits() -> String {
    guest("../../tests/fixtures/waits/guest.wat")
}

fn in_a_second(scratch: &Scratch, words: &[&str]) {
    let words: Vec<&str> = ["run"].iter().chain(words).chain(&["--at", "+1s", "--quiet"]).copied().collect();
    scratch.parole(&words).code(0);
}

#[test]
fn an_hour_of_sleep_holds_up_nobody_and_what_is_left_is_reported() {
    for json in [false, true] {
        let scratch = Scratch::new();
        in_a_second(&scratch, &[&waits(), "--invoke", "sleep(3600000, 1)"]);
        in_a_second(&scratch, &[&guest("hello.wat")]);
        std::thread::sleep(Duration::from_millis(1100));
        let words = if json { ["resume", "--all", "--json"] } else { ["resume", "--all", "--quiet"] };
        let mut child = scratch.command(words).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        if json {
            let completed = || scratch.parole(&["ps", "--all", "--json"]).code(0).out.contains("completed");
            while !completed() {
                std::thread::sleep(Duration::from_millis(20));
            }
            // Its report is taken up a moment later.
            std::thread::sleep(Duration::from_millis(500));
        } else {
            stdout.read_line(&mut line).unwrap();
            assert_eq!(line, "Hello from WAT\n");
        }
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut rest).unwrap();
        let _ = Ran::of(&child.wait_with_output().unwrap()).code(75);
        if json {
            let all: serde_json::Value = serde_json::from_str(&rest).unwrap_or_else(|_| panic!("{rest}"));
            let mut outcomes: Vec<&str> =
                all.as_array().unwrap().iter().map(|one| one["outcome"].as_str().unwrap()).collect();
            outcomes.sort_unstable();
            assert_eq!(outcomes, ["completed", "suspended"]);
        }
    }
}

#[test]
fn the_output_of_several_does_not_mix_within_a_line() {
    const LINES: usize = 50;
    const LENGTH: usize = 20_000;
    let scratch = Scratch::new();
    let hello = std::fs::read_to_string(guest("hello.wat")).unwrap();
    let letters = ['a', 'b', 'c', 'd', 'e', 'f'];
    for letter in letters {
        let print = "(call $print (i32.const 16) (i32.const 14))";
        let loops = format!(
            "(local $n i32) (memory.fill (i32.const 1024) (i32.const {}) (i32.const {LENGTH})) \
             (loop $more (call $print (i32.const 1024) (i32.const {LENGTH})) \
             (local.set $n (i32.add (local.get $n) (i32.const 1))) \
             (br_if $more (i32.lt_u (local.get $n) (i32.const {LINES}))))",
            u32::from(letter)
        );
        let import = r#"(func $print (param i32 i32)))"#;
        let given = r#"(with "host""#;
        let talks = hello.replace(print, &loops);
        let talks = talks.replace(import, &format!(r#"{import} (import "memory" "memory" (memory 1))"#));
        let talks = talks.replace(given, &format!(r#"(with "memory" (instance $memory)) {given}"#));
        in_a_second(&scratch, &[&scratch.file(&format!("{letter}.wat"), talks)]);
    }
    std::thread::sleep(Duration::from_millis(1100));
    let ran = scratch.parole(&["resume", "--all", "--quiet"]).code(0);
    for line in ran.out.lines() {
        let first = line.chars().next().unwrap();
        assert!(line.len() == LENGTH && line.chars().all(|c| c == first), "{} bytes from {first}", line.len());
    }
    for letter in letters {
        assert_eq!(ran.out.lines().filter(|line| line.starts_with(letter)).count(), LINES);
    }
}

#[test]
fn the_worst_exit_code_counts_and_each_is_named() {
    let scratch = Scratch::new();
    let hello = std::fs::read_to_string(guest("hello.wat")).unwrap();
    let traps = hello.replace("(call $print (i32.const 16) (i32.const 14))", "unreachable");
    in_a_second(&scratch, &[&scratch.file("traps.wat", traps)]);
    in_a_second(&scratch, &[&guest("hello.wat")]);
    in_a_second(&scratch, &[&guest("greet.wasm")]);
    std::thread::sleep(Duration::from_millis(1100));
    let ran = scratch.parole(&["resume", "--all"]).code(134).prints("Hello from WAT\n");
    ran.says("the guest trapped").says("is suspended");
}
