//! The words that only look.

use std::process::Command;

use crate::scratch::{Scratch, guest};

#[test]
fn ps_says_who_waits_for_what() {
    let scratch = Scratch::new();
    let (execution, _) = scratch.waiting();
    let table = scratch.parole(&["ps"]).code(0).out;
    let row = table.lines().nth(1).unwrap();
    assert!(row.starts_with(&execution), "{table}");
    for text in ["suspended", "greet.wasm", "input “What is your name?”"] {
        assert!(row.contains(text), "{text} in {table}");
    }
    let list = scratch.parole(&["ps", "--json"]).code(0).json();
    assert_eq!(list[0]["state"], "suspended");
    scratch.parole(&["cancel", &execution]).code(0);
    assert_eq!(scratch.parole(&["ps"]).code(0).out.lines().count(), 1);
    assert!(scratch.parole(&["ps", "--all"]).code(0).out.contains("canceled"));
}

#[test]
fn promises_show_their_deadline_and_can_be_narrowed() {
    let scratch = Scratch::new();
    let (execution, id) = scratch.waiting();
    let table = scratch.parole(&["promises", "--pending"]).code(0).out;
    let row = table.lines().nth(1).unwrap();
    assert!(row.starts_with(&id) && row.contains(" UTC") && row.contains("in 4 min"), "{table}");
    let count = |words: &[&str]| {
        let words: Vec<&str> = ["promises", "--json"].iter().chain(words).copied().collect();
        scratch.parole(&words).code(0).json().as_array().unwrap().len()
    };
    assert_eq!(count(&["--capability", "input"]), 1);
    assert_eq!(count(&["--capability", "approve"]), 0);
    assert_eq!(count(&["--execution", &execution]), 1);
    assert_eq!(count(&["--execution", "01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44"]), 0);
    scratch.parole(&["promise", "cancel", &id]).code(0);
    assert_eq!(count(&["--pending"]), 0);
    assert_eq!(count(&[]), 1);
}

#[test]
fn a_timeout_is_what_the_flag_says() {
    let scratch = Scratch::new();
    let (_, id) = scratch.left_at(&["run", &guest("greet.wasm"), "--detach", "--json", "--timeout", "input=never"]);
    assert!(scratch.parole(&["promises"]).code(0).out.contains("never"));
    let (execution, _) =
        scratch.left_at(&["run", &guest("greet.wasm"), "--detach", "--json", "--timeout", "input=500ms"]);
    std::thread::sleep(std::time::Duration::from_millis(600));
    scratch.parole(&["resume", &execution]).code(1).says("nobody answered in time");
    assert!(scratch.parole(&["promise", "get", &id]).code(0).out.contains("expires    never"));
}

#[test]
fn show_and_inspect() {
    let scratch = Scratch::new();
    let (execution, _) = scratch.waiting();
    let shown = scratch.parole(&["show", &execution]).code(0).out;
    assert!(shown.contains("outcome    suspended") && shown.contains("What is your name?"), "{shown}");
    let inspected = scratch.parole(&["inspect", &guest("files.wasm"), "--json"]).code(0).json();
    assert_eq!(inspected["level"], "standard");
    assert_eq!(inspected["denied"].as_array().unwrap().len(), 0);
    let refused = scratch.parole(&["inspect", &guest("files.wasm"), "--level", "restricted"]).code(77).out;
    assert!(refused.contains("write_file, refused") && refused.contains("--level standard"), "{refused}");
}

#[test]
fn the_wit_is_one_valid_package() {
    let scratch = Scratch::new();
    let wit = scratch.parole(&["wit"]).code(0).out;
    assert_eq!(wit.matches("package parole:capabilities").count(), 1);
    for interface in [
        "types",
        "print",
        "log",
        "display",
        "input",
        "approve",
        "review",
        "sleep",
        "read-file",
        "write-file",
        "fetch",
        "websocket",
        "query",
    ] {
        assert!(wit.contains(&format!("interface {interface} {{")), "{interface}");
    }
    let one = scratch.parole(&["wit", "read_file"]).code(0).out;
    assert!(one.contains("interface read-file {") && !one.contains("interface sleep {"));
    // Where the tool is at hand it has the last word.
    let file = scratch.file("parole.wit", &wit);
    if let Ok(output) = Command::new("wasm-tools").args(["component", "wit", &file]).output() {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
