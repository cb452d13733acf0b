//! The example of a capability that a user defines does what its README says: every command in it is run for real, with
//! the program that was built and its worker in Python.

#![allow(clippy::unwrap_used, reason = "tests")]

use parole_tests::readme::{Place, Step, compare, read, root};

#[test]
fn a_newcomer_can_follow_the_readme() {
    let text = std::fs::read_to_string(root().join("examples/crm/README.md")).unwrap();
    let (steps, _) = read(&text);
    let place = Place::new(&["examples/crm", "guest-examples/prebuilt/crm.wasm"], ("", ""));
    let mut settled = Vec::new();
    for step in &steps {
        let words: Vec<&str> = step.command.split(' ').collect();
        match words.as_slice() {
            ["parole", "promise", how, id, ..] => {
                let pending = place.shell("parole promises --pending --json").output().unwrap();
                let pending: serde_json::Value = serde_json::from_slice(&pending.stdout).unwrap();
                let own = pending[0]["id"].as_str().unwrap();
                assert_eq!(pending.as_array().unwrap().len(), 1, "{pending}");
                shown(&place, &Step { command: step.command.replace(id, own), expected: step.expected.clone() });
                settled.push((*how).to_owned());
            }
            ["parole", "answer"] => {
                let mut terminal = place.terminal(&step.command);
                terminal.type_at("once, execution or deny", "once");
                terminal.wait_for("Ctrl-C leaves it suspended");
                terminal.interrupt();
                let (code, shown) = terminal.end();
                assert_eq!(code, Some(130), "{shown}");
                compare(step, &shown);
            }
            _ => shown(&place, step),
        }
    }
    assert_eq!(settled, ["reject"]);
}

/// Runs a command without a terminal, and compares what it says.
fn shown(place: &Place, step: &Step) {
    let ran = place.shell(&format!("{{ {}; }} 2>&1", step.command)).output().unwrap();
    compare(step, &String::from_utf8(ran.stdout).unwrap());
}
