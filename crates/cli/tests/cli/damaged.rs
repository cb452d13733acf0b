//! What is damaged of one execution concerns no other, is said where it is listed, and can be set aside.

use rusqlite::Connection;

use crate::pty::Pty;
use crate::scratch::{Scratch, guest};

/// Changes what is stored of an execution, behind the back of its checksum.
fn damage(scratch: &Scratch, sql: &str, execution: &str) {
    let hex = execution.replace('-', "");
    let sql = sql.replace('?', &format!("x'{hex}'"));
    let raw = Connection::open(scratch.path("state").join("parole.db")).unwrap();
    assert_eq!(raw.execute(&sql, []).unwrap(), 1, "{sql}");
}

/// The row of an execution in the table of `ps`.
fn row(scratch: &Scratch, words: &[&str], execution: &str) -> String {
    let table = scratch.parole(words).code(0).out;
    table.lines().find(|row| row.starts_with(execution)).unwrap_or_else(|| panic!("{table}")).to_owned()
}

/// What is changed, what lists say of it, and what is said before it is set aside.
const KINDS: [(&str, &str, &str); 3] = [
    ("UPDATE executions SET cpu_us = cpu_us + 1 WHERE id = ?", "executions row", "executions row"),
    ("UPDATE promises SET created_at = 0 WHERE execution = ?", "promises row", "promises row"),
    (
        "UPDATE payloads SET bytes = x'00' WHERE digest = (SELECT setup FROM executions WHERE id = ?)",
        "payloads row",
        "its setup is damaged",
    ),
];

#[test]
fn one_damaged_row_stops_nobody() {
    for (sql, what, fault) in KINDS {
        let scratch = Scratch::new();
        // Another policy, so that the two share no set-up.
        let words = ["run", &guest("greet.wasm"), "--detach", "--json", "--timeout", "input=9m"];
        let (bad, _) = scratch.left_at(&words);
        let (good, promise) = scratch.waiting();
        damage(&scratch, sql, &bad);
        let (damaged, whole) = (row(&scratch, &["ps"], &bad), row(&scratch, &["ps"], &good));
        assert!(damaged.contains("damaged") && damaged.contains(what), "{damaged}");
        assert!(whole.contains("suspended") && whole.contains("input"), "{whole}");
        let list = scratch.parole(&["ps", "--json"]).code(0).json();
        let entry = list.as_array().unwrap().iter().find(|entry| entry["execution"] == bad.as_str()).unwrap();
        assert!(entry["state"] == "damaged" && entry["damage"].as_str().unwrap().contains(what), "{list}");
        let promises = scratch.parole(&["promises", "--pending"]).code(0).out;
        assert!(promises.contains(&promise), "{promises}");
        if what == "promises row" {
            assert!(promises.contains("damaged: promises row"), "{promises}");
            let list = scratch.parole(&["promises", "--json"]).code(0).json();
            assert!(list.as_array().unwrap().iter().any(|entry| entry["state"] == "damaged"), "{list}");
        }
        scratch.parole(&["promise", "resolve", &promise, "--data", "Ada"]).code(0);
        assert!(scratch.parole(&["resume", "--all"]).out.contains("Hello, Ada!"));

        // Nobody does it in silence, and nothing that is whole is lost.
        scratch.parole(&["gc", "--damaged", &bad]).code(2).says(fault).says("--yes");
        assert!(row(&scratch, &["ps"], &bad).contains("damaged"));
        scratch.parole(&["gc", "--damaged", &good, "--yes"]).code(73);
        let (other, _) = scratch.waiting();
        scratch.parole(&["gc", "--damaged", &other, "--yes"]).code(73).says("nothing of the execution");
        scratch.parole(&["gc", "--damaged", &bad, "--yes"]).code(0).says("is set aside");
        assert!(!scratch.parole(&["ps"]).code(0).out.contains(&bad));
        let kept = row(&scratch, &["ps", "--all"], &bad);
        assert!(kept.contains("canceled") && kept.contains("set aside: "), "{kept}");
        let left = scratch.parole(&["promises", "--pending", "--json"]).code(0).json();
        assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
        scratch.parole(&["gc", "--damaged", &bad, "--yes"]).code(73).says("has ended");
        assert!(scratch.parole(&["show", &bad]).code(0).out.contains("set aside as damaged, by "));
        scratch.parole(&["gc", "--older-than", "0"]).code(0);
    }
}

#[test]
fn at_a_terminal_it_is_asked_about() {
    let scratch = Scratch::new();
    let (bad, _) = scratch.waiting();
    damage(&scratch, KINDS[0].0, &bad);
    for (answer, text) in [("no", "nothing was changed"), ("yes", "is set aside")] {
        let mut pty = Pty::start(&scratch, &["gc", "--damaged", &bad]);
        let shown = pty.sees("yes or no> ");
        assert!(shown.contains("executions row"), "{shown}");
        pty.decides(answer);
        pty.sees(text);
    }
    assert!(row(&scratch, &["ps", "--all"], &bad).contains("set aside"));
}

/// Whoever goes on with all says it, once, and goes on.
#[test]
fn those_that_resume_all_say_what_is_damaged_and_go_on() {
    let scratch = Scratch::new();
    let (bad, _) = scratch.waiting();
    damage(&scratch, KINDS[0].0, &bad);
    let (first, promise) = scratch.waiting();
    scratch.parole(&["promise", "resolve", &promise, "--data", "Ada"]).code(0);
    let ran = scratch.parole(&["resume", "--all"]).code(73).prints("Hello, Ada!\n");
    ran.says(&format!("{bad} is damaged")).says(&format!("gc --damaged {bad}"));
    assert!(row(&scratch, &["ps", "--all"], &first).contains("completed"));
    let all = scratch.parole(&["resume", "--all", "--json"]).code(73).json();
    assert_eq!((all.as_array().unwrap().len(), &all[0]["execution"]), (1, &bad.as_str().into()));

    let watcher = scratch.command(["resume", "--all", "--watch"]).spawn().unwrap();
    for name in ["Ada", "Grace"] {
        let (next, promise) = scratch.waiting();
        scratch.parole(&["promise", "resolve", &promise, "--data", name]).code(0);
        while !row(&scratch, &["ps", "--all"], &next).contains("completed") {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    let pid = watcher.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ran = crate::scratch::Ran::of(&watcher.wait_with_output().unwrap()).code(0);
    assert_eq!(ran.err.matches("is damaged").count(), 1, "{}", ran.err);
}
