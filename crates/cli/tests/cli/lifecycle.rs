//! From a question to an answer, over several processes.

use serde_json::json;

use crate::scratch::{Scratch, guest};

#[test]
fn a_guest_asks_is_answered_and_goes_on() {
    let scratch = Scratch::new();
    let report = scratch.parole(&["run", &guest("greet.wasm"), "--detach", "--json"]).code(75).json();
    assert_eq!(report["outcome"], "suspended");
    assert_eq!(report["output"], "");
    assert_eq!(report["pending"][0]["capability"], "input");
    assert_eq!(report["pending"][0]["summary"], "What is your name?");
    let (execution, id) = (report["execution"].as_str().unwrap(), report["pending"][0]["id"].as_str().unwrap());

    let promises = scratch.parole(&["promises", "--pending", "--json"]).code(0).json();
    assert_eq!(promises[0]["id"], id);
    assert_eq!(promises[0]["capability"], "input");
    assert_eq!(promises[0]["execution"], execution);
    assert_eq!(promises[0]["state"], "pending");
    assert_eq!(promises[0]["tags"]["resonate:external"], "true");

    scratch.parole(&["promise", "resolve", id, "--data", "Ada"]).code(0).prints("").says("resolved");
    scratch.parole(&["resume", execution]).code(0).prints("Hello, Ada!\n");
    // An ended execution repeats its outcome, not its output.
    scratch.parole(&["resume", execution]).code(0).prints("");
    let again = scratch.parole(&["resume", execution, "--json"]).code(0).json();
    let shown = scratch.parole(&["show", execution, "--json"]).code(0).json();
    assert_eq!(again, shown);
    assert_eq!(shown["outcome"], "completed");
    assert_eq!(shown["output"], "Hello, Ada!\n");
}

#[test]
fn the_first_settlement_stands() {
    let scratch = Scratch::new();
    let (_, id) = scratch.waiting();
    let won = scratch.parole(&["promise", "resolve", &id, "--data", "Ada", "--json"]).code(0).json();
    assert_eq!(won["state"], "resolved");
    assert_eq!(won["value"]["data"], "\"Ada\"");
    let by = won["value"]["headers"]["parole:by"].as_str().unwrap();
    assert!(by.starts_with("uid ") && by.ends_with("without a terminal"), "{by}");
    for late in [&["resolve", &id, "--data", "Bob"][..], &["reject", &id, "--data", "no"], &["cancel", &id]] {
        let words: Vec<&str> = ["promise"].iter().chain(late).copied().collect();
        let lost = scratch.parole(&words).code(1).says("settled before");
        assert!(lost.out.contains("\"Ada\""), "{}", lost.out);
        let words: Vec<&str> = words.into_iter().chain(["--json"]).collect();
        assert_eq!(scratch.parole(&words).code(1).json(), won);
    }
}

#[test]
fn a_rejection_and_a_cancel_reach_the_guest() {
    for (verb, text) in [("reject", "not today"), ("cancel", "canceled")] {
        let scratch = Scratch::new();
        let (execution, id) = scratch.waiting();
        let mut words = vec!["promise", verb, &id];
        if verb == "reject" {
            words.extend(["--data", "not today"]);
        }
        scratch.parole(&words).code(0).says("rejected");
        scratch.parole(&["resume", &execution]).code(1).says(text);
    }
}

#[test]
fn lines_of_a_pipe_answer_inputs_and_nothing_else() {
    let scratch = Scratch::new();
    scratch.piped(&["run", &guest("greet.wasm"), "--stdin", "-"], b"Ada\n").code(0).prints("Hello, Ada!\n");
    let lines = scratch.file("lines", "Grace\nunused\n");
    scratch.parole(&["run", &guest("greet.wasm"), "--stdin", &lines]).code(0).prints("Hello, Grace!\n");
    // The end of the file: suspended, and a resume with more lines goes on.
    let report = scratch.piped(&["run", &guest("greet.wasm"), "--stdin", "-", "--json"], b"").code(75).json();
    assert_eq!(report["outcome"], "suspended");
    let execution = report["execution"].as_str().unwrap();
    scratch.piped(&["resume", execution, "--stdin", "-"], b"Edsger").code(0).prints("Hello, Edsger!\n");
    // `everything` asks for an approval after its input.
    let everything = scratch.piped(&["run", &guest("everything.wasm"), "--stdin", "-", "--json"], b"Ada\nyes\nyes\n");
    let report = everything.code(75).json();
    assert_eq!(report["pending"][0]["capability"], "approve");
    scratch.piped(&["run", &guest("greet.wasm"), "--stdin", "-"], b"\xff\n").code(75).says("not UTF-8");
}

#[test]
fn without_a_terminal_a_run_waits_for_timers_and_not_for_people() {
    let scratch = Scratch::new();
    scratch.parole(&["run", &guest("sleeper.wasm")]).code(0).prints("before\nafter\n");
    let asked = scratch.parole(&["run", &guest("greet.wasm")]).code(75).prints("");
    let asked = asked.says("parole promise resolve input:").says("--data TEXT").says("go on: parole resume ");
    assert!(asked.err.contains("What is your name?"));
    let quiet = scratch.parole(&["run", &guest("greet.wasm"), "--quiet"]).code(75);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
}

#[test]
fn a_call_is_invoked_and_its_result_printed() {
    let scratch = Scratch::new();
    scratch.parole(&["run", &guest("add.wat"), "--invoke", "add(2, 3)"]).code(0).prints("5\n");
    let report = scratch.parole(&["run", &guest("add.wat"), "--invoke", "add(2, 3)", "--json"]).code(0).json();
    assert_eq!(report["result"], "5");
}

#[test]
fn a_refusal_lists_every_import_before_anything_runs() {
    let scratch = Scratch::new();
    let files = guest("files.wasm");
    let refused = scratch.parole(&["run", &files, "--level", "sandbox"]).code(77).prints("");
    let refused = refused.says("parole:capabilities/read-file@0.1.0").says("parole:capabilities/write-file@0.1.0");
    let refused = refused.says("--level restricted").says("--level standard");
    assert!(refused.err.contains("was not started"));
    let report = scratch.parole(&["run", &files, "--block", "write_file,print", "--json"]).code(77).json();
    assert_eq!(report["denied"].as_array().unwrap().len(), 2);
    assert!(report["denied"].as_array().unwrap().iter().all(|denied| denied["at"] == "link"));
}

#[test]
fn an_empty_scope_is_announced_and_a_denied_call_has_a_remedy() {
    let scratch = Scratch::new();
    let files = guest("files.wasm");
    let ran = scratch.parole(&["run", &files]).code(1).says("`read_file` is linked but may reach nothing");
    let ran = ran.says("to allow it: --allow-read /data=DIR");
    assert!(ran.err.contains("the guest failed"));
    scratch.file("data/in.txt", "abc");
    scratch.dir("out");
    scratch.parole(&["run", &files, "--allow-read", "data", "--allow-write", "/out=./out"]).code(0);
    assert_eq!(std::fs::read_to_string(scratch.path("out/out.txt")).unwrap(), "ABC");
}

#[test]
fn several_resumes_give_an_array_and_the_worst_code() {
    let scratch = Scratch::new();
    let (one, first) = scratch.waiting();
    let (two, _) = scratch.waiting();
    scratch.parole(&["promise", "resolve", &first, "--data", "Ada"]).code(0);
    let reports = scratch.parole(&["resume", &one, &two, "--json"]).code(75).json();
    assert_eq!(reports[0]["outcome"], "completed");
    assert_eq!(reports[1]["outcome"], "suspended");
    let unknown = "01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44";
    let reports = scratch.parole(&["resume", &one, unknown, "--json"]).code(2).json();
    assert_eq!(reports[1]["execution"], unknown);
    assert!(reports[1]["error"].as_str().unwrap().contains("no execution"));
}

#[test]
fn resume_all_takes_what_is_ready() {
    let scratch = Scratch::new();
    assert_eq!(scratch.parole(&["resume", "--all", "--json"]).code(0).json(), json!([]));
    let (_, first) = scratch.waiting();
    let (waiting, _) = scratch.waiting();
    scratch.parole(&["promise", "resolve", &first, "--data", "Ada"]).code(0);
    let all = scratch.parole(&["resume", "--all"]).code(0).prints("Hello, Ada!\n");
    assert!(!all.err.contains(&waiting));
}

#[test]
fn a_cancel_ends_it_and_a_replay_changes_nothing() {
    let scratch = Scratch::new();
    let (execution, id) = scratch.waiting();
    scratch.parole(&["cancel", &execution]).code(0);
    scratch.parole(&["cancel", &execution]).code(73).says("has ended");
    scratch.parole(&["resume", &execution]).code(76);
    let promise = scratch.parole(&["promise", "get", &id, "--json"]).code(0).json();
    assert_eq!(promise["state"], "rejected_canceled");

    let (execution, id) = scratch.waiting();
    scratch.parole(&["promise", "resolve", &id, "--data", "Ada"]).code(0);
    scratch.parole(&["resume", &execution]).code(0);
    let journal = scratch.parole(&["journal", &execution, "--json"]).code(0).json();
    let replayed = scratch.parole(&["replay", &execution, "--json"]).code(0).json();
    assert_eq!(replayed["output"], "Hello, Ada!\n");
    assert_eq!(replayed["outcome"], "completed");
    assert_eq!(scratch.parole(&["journal", &execution, "--json"]).code(0).json(), journal);
    assert_eq!(journal[0]["function"], "input");
    assert_eq!(journal[0]["arguments"]["prompt"], "What is your name?");
}

#[test]
fn another_component_at_the_path_is_refused_with_both_digests() {
    let scratch = Scratch::new();
    let path = scratch.file("g.wasm", std::fs::read(guest("greet.wasm")).unwrap());
    let (execution, id) = scratch.left_at(&["run", &path, "--detach", "--json"]);
    scratch.parole(&["promise", "resolve", &id, "--data", "Ada"]).code(0);
    scratch.file("g.wasm", std::fs::read(guest("sleeper.wasm")).unwrap());
    let refused = scratch.parole(&["resume", &execution]).code(73).says("--pinned");
    assert_eq!(refused.err.matches("sha256:").count(), 2);
    scratch.parole(&["resume", &execution, "--pinned"]).code(0).prints("Hello, Ada!\n");
}

#[test]
fn guest_output_is_raw_in_a_pipe_and_json_is_inert() {
    let scratch = Scratch::new();
    let evil = "\u{1b}[2J\u{9b}2J\u{202e}";
    let line = format!("{evil}\n");
    let piped = scratch.piped(&["run", &guest("greet.wasm"), "--stdin", "-"], line.as_bytes());
    piped.code(0).prints(&format!("Hello, {evil}!\n"));
    let json = scratch.piped(&["run", &guest("greet.wasm"), "--stdin", "-", "--json"], line.as_bytes()).code(0);
    assert!(!json.out.trim_end().chars().any(|c| c.is_control() || c == '\u{202e}'), "{}", json.out);
    assert_eq!(json.json()["output"], format!("Hello, {evil}!\n"));
}

#[test]
fn gc_removes_what_has_ended_and_nothing_else() {
    let scratch = Scratch::new();
    let (waiting, _) = scratch.waiting();
    scratch.parole(&["run", &guest("hello.wat")]).code(0);
    scratch.parole(&["gc"]).code(0).prints("removed 0 ended executions\n");
    let all = scratch.parole(&["gc", "--older-than", "0", "--cache", "--json"]).code(0).json();
    assert_eq!(all["executions"], 1);
    assert!(all["cache_bytes"].as_u64().unwrap() > 0);
    let left = scratch.parole(&["ps", "--all", "--json"]).code(0).json();
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_eq!(left[0]["execution"], waiting.as_str());
}
