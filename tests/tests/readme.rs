//! The README is true: every command in it does, typed at the root of the repository, what stands below it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use parole_tests::readme::{Place, Step, compare, read, root};

/// What is typed where the README shows an answer, by the command that asks: the prompt, and the line.
const ANSWERS: [(&str, &str, &str); 1] = [("parole run guest-examples/prebuilt/greet.wasm", "> ", "Ada")];
/// The directory of the repository, as the README has it.
const HERE: &str = "/parole";

/// The exit code that a comment of the command says, or 0.
fn code(command: &str) -> i32 {
    command.rsplit_once("exit ").map_or(0, |(_, code)| code.chars().take(2).collect::<String>().parse().unwrap())
}

/// The ids in a text, each once, in order.
fn ids(text: &str) -> Vec<String> {
    let is_id = |word: &&str| word.len() == 36 && word.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    let mut ids = Vec::new();
    for word in text.split(|c: char| !c.is_ascii_hexdigit() && c != '-').filter(is_id) {
        if !ids.iter().any(|id| id == word) {
            ids.push(word.to_owned());
        }
    }
    ids
}

/// What has to be there before: looked at, not run, because it is what has built this test.
fn is_known(command: &str) -> bool {
    let xtask = std::fs::read_to_string(root().join("xtask/src/main.rs")).unwrap();
    match command.split(" #").next().unwrap().trim_end() {
        "cargo build --release" | "export PATH=$PWD/target/release:$PATH" => true,
        "cargo xtask test" => xtask.contains("[\"test\"]") && xtask.contains("[\"test\", \"--quick\"]"),
        _ => false,
    }
}

#[test]
fn every_command_of_the_readme_does_what_it_says() {
    let (steps, _) = read(&std::fs::read_to_string(root().join("README.md")).unwrap());
    let place = Place::new(&["examples", "guest-examples/prebuilt", "guest-examples/wat"], ("", ""));
    let here = place.root().canonicalize().unwrap().to_str().unwrap().to_owned();
    let (mut known, mut last, mut run) = (BTreeMap::<String, String>::new(), 0, 0);
    let mut steps = steps.into_iter().peekable();
    while let Some(step) = steps.next() {
        if is_known(&step.command) {
            continue;
        }
        if step.command == "echo $?" {
            assert_eq!(step.expected, [last.to_string()], "after the command before it");
            continue;
        }
        let mut command = step.command.clone();
        for id in ids(&step.command) {
            let own = known.get(&id).unwrap_or_else(|| panic!("nothing has shown {id}: {command}"));
            command = command.replace(&id, own);
        }
        let mut terminal = place.terminal(&command);
        for (_, prompt, line) in ANSWERS.iter().filter(|(asks, ..)| *asks == command) {
            terminal.type_at(prompt, line);
        }
        let (found, shown) = terminal.end();
        let shown = shown.replace(&here, HERE);
        last = found.unwrap();
        let asked = steps.peek().is_some_and(|next| next.command == "echo $?");
        assert!(asked || last == code(&command), "$ {command}\nended with {last}\n{shown}");
        known.extend(ids(&step.expected.join("\n")).into_iter().zip(ids(&shown)));
        compare(&Step { command, expected: step.expected }, &shown);
        run += 1;
    }
    assert!(run >= 12, "{run} commands are few");
}

#[test]
fn every_policy_of_the_readme_is_a_part_of_one_that_is_there() {
    let (_, blocks) = read(&std::fs::read_to_string(root().join("README.md")).unwrap());
    let place = Place::new(&["examples"], ("", ""));
    let policies: Vec<_> = blocks.iter().filter(|(kind, _)| kind == "toml").collect();
    assert_eq!(policies.len(), 2);
    let bare = |line: &str| line.split("  #").next().unwrap().trim_end().to_owned();
    for (_, block) in policies {
        let name = block[0].strip_prefix("# ").unwrap();
        let file = std::fs::read_to_string(place.root().join(name)).unwrap();
        let lines: Vec<String> = file.lines().map(bare).collect();
        for line in block[1..].iter().map(|line| bare(line)) {
            assert!(lines.contains(&line), "{name} has no line {line:?}");
        }
        // Where it says that it is: its directories are beside it.
        std::fs::write(place.root().join(name), block.join("\n")).unwrap();
        let checked = place.shell(&format!("parole policy check {name} 2>&1")).output().unwrap();
        assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stdout));
    }
}
