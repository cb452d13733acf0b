//! The example of a capability that a user defines does what its README says: every command in it is run for real, with
//! the program that was built and its worker in Python.

use parole_tests::readme::{Place, Step, answered, compare, plain, read, root};

const ASKED: &str = "once, execution or deny";

#[test]
fn a_newcomer_can_follow_the_readme() {
    let text = std::fs::read_to_string(root().join("examples/crm/README.md")).unwrap();
    let (steps, _) = read(&text);
    let place = Place::new(&["examples/crm", "guest-examples/prebuilt/crm.wasm"], ("", ""));
    let mut promise = String::new();
    for step in &steps {
        let words: Vec<&str> = step.command.split(' ').collect();
        match words.as_slice() {
            ["parole", "answer"] => answered(&place, step, &[(ASKED, "once")], 0),
            ["parole", "promise", "reject", id, ..] => {
                let step = Step { command: step.command.replace(id, &promise), expected: step.expected.clone() };
                shown(&place, &step);
            }
            _ => {
                let shown = shown(&place, step);
                // The id of the promise that is rejected later.
                let ids = shown.lines().filter(|line| line.starts_with("acme-crm-"));
                promise = ids.filter_map(|line| line.split(' ').next()).last().map_or(promise, str::to_owned);
            }
        }
    }
    assert!(plain(&promise).contains("ID:ID"), "{promise}");
}

/// Runs a command without a terminal, and compares what it says.
fn shown(place: &Place, step: &Step) -> String {
    let ran = place.shell(&format!("{{ {}; }} 2>&1", step.command)).output().unwrap();
    let shown = String::from_utf8(ran.stdout).unwrap();
    compare(step, &shown);
    shown
}
