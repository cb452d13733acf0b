//! What counts as a decision of a person, and what does not: at a real terminal.

use std::time::Duration;

use serde_json::{Value, json};

use crate::decisions::{Answer, Server, audit, posts};
use crate::pty::Pty;
use crate::scratch::{PAROLE, Scratch, guest};

const ASKED: &str = "once, execution or deny> ";

/// Longer than the time in which a word does not count.
fn read() {
    std::thread::sleep(Duration::from_millis(800));
}

/// `files` under a policy that asks before it writes.
fn writes(scratch: &Scratch) -> Pty {
    Pty::start(scratch, &["run", &guest("files.wasm"), "--policy", &scratch.asks_before("write_file")])
}

fn written(scratch: &Scratch) -> bool {
    scratch.path("out/out.txt").exists()
}

/// `web`, which asks for one URL after the other, under a policy that asks about each request.
fn web(scratch: &Scratch, server: &Server) -> Pty {
    let policy = scratch.file("p.toml", posts(&server.origin, "then = \"ask\""));
    Pty::start(scratch, &["run", &guest("web.wasm"), "--policy", &policy])
}

fn url(pty: &mut Pty, server: &Server, path: &str) {
    pty.sees("│ URL?");
    pty.sees("> ");
    pty.types(format!("{}{path}\n", server.origin));
}

#[test]
fn a_word_that_comes_before_the_question_can_be_read_does_not_count() {
    let scratch = Scratch::new();
    let mut pty = writes(&scratch);
    pty.sees(ASKED);
    pty.types("once");
    std::thread::sleep(Duration::from_millis(50));
    pty.types("\n");
    pty.sees("does not count");
    pty.sees(ASKED);
    read();
    assert!(!written(&scratch), "{}", pty.screen());
    pty.decides("once");
    let (code, screen) = pty.ends();
    assert!(code == 0 && written(&scratch), "{screen}");
}

#[test]
fn a_word_that_is_pasted_with_its_line_end_does_not_count() {
    let scratch = Scratch::new();
    let mut pty = writes(&scratch);
    for paste in ["once\n", "once\r", "execution\nonce\n", "\u{1b}[200~once\n\u{1b}[201~", "x\nonce\n"] {
        pty.sees(ASKED);
        read();
        pty.types(paste);
        pty.sees("decides nothing");
        assert!(!written(&scratch), "{paste:?}: {}", pty.screen());
    }
    // Pasted without its line end it is looked at before Enter.
    pty.sees(ASKED);
    pty.decides("once");
    let (code, screen) = pty.ends();
    assert!(code == 0 && written(&scratch), "{screen}");
}

#[test]
fn a_word_that_is_pasted_byte_by_byte_does_not_count() {
    // On a slow machine the pauses between the bytes may become those of a person, but not each time.
    let refused = (0..3).any(|_| {
        let scratch = Scratch::new();
        let mut pty = writes(&scratch);
        pty.sees(ASKED);
        read();
        for byte in b"execution\n" {
            pty.types([*byte]);
            std::thread::sleep(Duration::from_millis(3));
        }
        read();
        !written(&scratch) && pty.screen().contains("decides nothing")
    });
    assert!(refused);
}

#[test]
fn every_word_that_decides_is_guarded_and_a_text_may_be_pasted() {
    let scratch = Scratch::new();
    let mut pty = Pty::start(&scratch, &["run", &guest("everything.wasm")]);
    pty.sees("> ");
    pty.types("Ada\n");
    for (prompt, paste, word) in [("yes or no> ", "yes\n", "no"), ("accept, edit or refuse> ", "accept\n", "refuse")] {
        pty.sees(prompt);
        pty.types(paste);
        pty.sees("does not count");
        pty.sees(prompt);
        read();
        pty.types(paste);
        pty.sees("decides nothing");
        pty.sees(prompt);
        pty.decides(word);
    }
    pty.sees("comment (may be empty)> ");
    pty.types("pasted\n");
    pty.sees("accepted false");
    let screen = pty.ends().1;
    assert!(screen.contains("approve: false") && screen.contains("pasted"), "{screen}");
}

#[test]
fn the_slow_tail_of_a_paste_decides_nothing() {
    let scratch = Scratch::new();
    let server = Server::start(Answer::Ok);
    let mut pty = web(&scratch, &server);
    pty.sees("│ URL?");
    pty.sees("> ");
    let mut paste = format!("{}/x\n", server.origin).into_bytes();
    paste.extend("a line of what was copied as well\n".repeat(60).bytes());
    paste.extend("once\n".repeat(20).bytes());
    for piece in paste.chunks(40) {
        pty.types(piece);
        std::thread::sleep(Duration::from_millis(15));
    }
    pty.sees(ASKED);
    read();
    assert_eq!(server.seen(), [""; 0], "{}", pty.screen());
    pty.types("\u{3}");
    assert_eq!(pty.ends().0, 75);
    assert_eq!(server.seen(), [""; 0]);
}

#[test]
fn a_word_for_one_question_is_no_answer_to_the_next() {
    let scratch = Scratch::new();
    let mut pty = Pty::start(&scratch, &["run", &guest("everything.wasm")]);
    pty.sees("> ");
    pty.types("Ada\n");
    pty.sees("yes or no> ");
    read();
    pty.types("accept");
    pty.sees("accept");
    let pending = scratch.pending();
    scratch.parole(&["promise", "resolve", pending[0]["id"].as_str().unwrap(), "--value", "false"]).code(0);
    // The person finishes the word while the next question comes up.
    pty.sees("(settled elsewhere)");
    pty.types("\n");
    pty.sees("accept, edit or refuse> ");
    pty.types("\n");
    read();
    assert!(!pty.screen().contains("comment"), "{}", pty.screen());
    let pending = scratch.pending();
    assert_eq!(pending[0]["capability"], "review");
}

#[test]
fn what_was_typed_for_a_question_that_was_withdrawn_is_no_text_for_the_next() {
    let scratch = Scratch::new();
    let waits = format!("{}/../../tests/fixtures/waits/guest.wat", env!("CARGO_MANIFEST_DIR"));
    let mut pty = Pty::start(&scratch, &["run", &waits, "--invoke", "ask-both(\"one?\", \"two?\")"]);
    pty.sees("> ");
    pty.types("for the fir");
    pty.sees("for the fir");
    let pending = scratch.pending();
    scratch.parole(&["promise", "resolve", pending[0]["id"].as_str().unwrap(), "--data", "elsewhere"]).code(0);
    pty.sees("(settled elsewhere)");
    pty.sees("> ");
    pty.types("st question\n");
    // Where the machine was slow it is still that question which gets it.
    pty.sees_one_of(&["does not count", "that stands"]);
    pty.sees("> ");
    read();
    pty.types("for the second\n");
    let (code, screen) = pty.ends();
    assert_eq!(code, 0, "{screen}");
    let all = scratch.parole(&["promises", "--json"]).code(0).json();
    let given: Vec<&str> = all.as_array().unwrap().iter().filter_map(|p| p["value"]["data"].as_str()).collect();
    assert!(given.contains(&"\"for the second\"") && !given.iter().any(|text| text.contains("st q")), "{given:?}");
}

#[test]
fn what_was_not_all_shown_is_approved_after_the_rest_or_by_saying_so() {
    for unseen in [false, true] {
        let scratch = Scratch::new();
        let server = Server::start(Answer::Ok);
        let policy = scratch.file("p.toml", posts(&server.origin, "then = \"ask\""));
        let body = "line\\n".repeat(500);
        let call = format!("send(\"POST\", \"{}/\", \"{body}the end\")", server.origin);
        scratch.parole(&["run", &guest("web.wasm"), "--policy", &policy, "--invoke", &call, "--quiet"]).code(75);
        let mut pty = Pty::start(&scratch, &["answer"]);
        let shown = pty.sees("s to skip> ");
        assert!(shown.contains("the rest is not shown") && !shown.contains("│ the end"), "{shown}");
        pty.decides("once");
        pty.sees("Not all of it has been shown");
        assert_eq!(server.seen(), [""; 0]);
        pty.sees("s to skip> ");
        if unseen {
            pty.decides("once unseen");
        } else {
            pty.decides("more");
            assert!(!pty.sees("s to skip> ").contains("│ the end"));
            pty.decides("execution");
            pty.sees("Not all of it has been shown");
            pty.sees("s to skip> ");
            pty.decides("more");
            assert!(pty.sees("s to skip> ").contains("│ the end"));
            pty.decides("once");
        }
        assert_eq!(pty.ends().0, 0);
        assert_eq!(server.seen(), ["POST / HTTP/1.1"]);
    }
}

/// The URL does not scroll away: all that is asked about at once fits on the screen.
#[test]
fn what_has_scrolled_away_has_not_been_shown() {
    let scratch = Scratch::new();
    let policy = scratch.file("p.toml", posts("http://127.0.0.1:9", "then = \"ask\""));
    let headers: Vec<String> = (0..40).map(|number| format!("(\"x-{number}\", \"1\")")).collect();
    let guest = format!("{}/../../tests/fixtures/fetch-listed/guest.wat", env!("CARGO_MANIFEST_DIR"));
    let call = format!("send-all([(\"POST\", \"http://127.0.0.1:9/the-url\", [{}], none)])", headers.join(", "));
    let words = ["run", &guest, "--policy", &policy, "--invoke", &call];
    let words: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
    for (rows, whole) in [(24, false), (130, true)] {
        let line = format!("stty rows {rows} cols 80; exec '{PAROLE}' {}", words.join(" "));
        let mut pty = Pty::shell(&scratch, &line);
        let shown = pty.sees(ASKED);
        let from = shown.find("the-url").unwrap();
        assert!(shown[from..].lines().count() < rows, "{shown}");
        assert_eq!(!shown.contains("the rest is not shown"), whole, "{shown}");
        if !whole {
            pty.decides("once");
            pty.sees("Not all of it has been shown");
            pty.sees(ASKED);
        }
        pty.decides("deny");
        pty.sees("for the guest");
        pty.types("\n");
        assert_eq!(pty.ends().0, 0);
    }
}

#[test]
fn a_no_is_not_asked_for_again_and_may_be_for_the_rest() {
    let scratch = Scratch::new();
    let server = Server::start(Answer::Ok);
    let mut pty = web(&scratch, &server);
    url(&mut pty, &server, "/a");
    pty.sees(ASKED);
    pty.decides("deny");
    pty.sees("(may be empty)> ");
    pty.types("not this one\n");
    pty.sees("not this one");
    // The very same call: answered from the no. Another one is asked about.
    url(&mut pty, &server, "/a");
    assert!(!pty.sees("│ URL?").contains("wants to call"));
    pty.sees("> ");
    pty.types(format!("{}/b\n", server.origin));
    pty.sees(ASKED);
    pty.decides("deny all");
    pty.sees("(may be empty)> ");
    pty.types("none of them\n");
    for path in ["/b", "/c"] {
        url(&mut pty, &server, path);
    }
    pty.sees("│ URL?");
    pty.types("\n");
    let (code, screen) = pty.ends();
    assert_eq!(code, 0, "{screen}");
    assert_eq!(screen.matches("wants to call fetch  [ask]").count(), 2, "{screen}");
    assert_eq!(server.seen(), [""; 0]);
    let execution = scratch.parole(&["ps", "--all", "--json"]).code(0).json()[0]["execution"].clone();
    let execution = execution.as_str().unwrap();
    let denials: Vec<Value> =
        audit(&scratch, execution).into_iter().filter(|record| record["verdict"] == "deny").collect();
    assert_eq!(denials.len(), 5, "{denials:?}");
    let of = |name: &str| denials.iter().map(|record| record[name].clone()).collect::<Vec<_>>();
    let yes = Value::from(true);
    assert_eq!(of("standing"), [Value::Null, yes.clone(), Value::Null, yes.clone(), yes.clone()]);
    assert_eq!(of("rest"), [Value::Null, Value::Null, yes, Value::Null, Value::Null]);
    let promises = of("promise");
    assert!(promises[0] == promises[1] && promises[2] == promises[3] && promises[3] == promises[4], "{promises:?}");
    assert!(denials.iter().all(|record| record["by"].as_str().is_some_and(|by| by.contains(" at "))), "{denials:?}");
    scratch.parole(&["replay", execution]).code(0).says("completed");
}

#[test]
fn a_no_for_the_rest_is_given_from_any_process_and_survives_the_one_that_asked() {
    let scratch = Scratch::new();
    let server = Server::start(Answer::Ok);
    let policy = scratch.file("p.toml", posts(&server.origin, "then = \"ask\""));
    let run = ["run", &guest("web.wasm"), "--policy", &policy, "--json", "--stdin"];
    let lines = scratch.file("lines", format!("{}/a\n", server.origin));
    let words: Vec<&str> = run.iter().copied().chain([&*lines]).collect();
    let left = scratch.parole(&words).code(75).json();
    let (execution, id) = (left["execution"].as_str().unwrap(), left["pending"][0]["id"].as_str().unwrap());
    let got = scratch.parole(&["promise", "get", id]).code(0).out;
    assert!(got.contains("\"rest\":true"), "{got}");
    let digest = got.lines().find_map(|line| line.strip_prefix("digest")).unwrap().trim();
    let resolve = |value: Value| scratch.parole(&["promise", "resolve", id, "--value", &value.to_string()]);
    resolve(json!({ "decision": "once", "digest": digest, "rest": true })).code(2).says("goes with `deny`");
    resolve(json!({ "decision": "deny", "digest": "sha256:00", "rest": true })).code(2).says("another call");
    resolve(json!({ "decision": "deny", "digest": digest, "reason": "none", "rest": true })).code(0);
    let lines = scratch.file("more", format!("{0}/b\n{0}/a\n\n", server.origin));
    let ended = scratch.parole(&["resume", execution, "--stdin", &lines]).code(0);
    assert_eq!(ended.out.matches("none").count(), 3, "{}", ended.out);
    assert_eq!(server.seen(), [""; 0]);
}

#[test]
fn a_question_is_put_again_when_the_terminal_becomes_narrower() {
    let scratch = Scratch::new();
    let mut pty = writes(&scratch);
    pty.sees(ASKED);
    read();
    pty.types("onc");
    pty.sees("onc");
    // Guest text that was wrapped for another width could stand at the start of a line.
    let terminal = std::fs::read_link(format!("/proc/{}/fd/0", scratch.at_the_terminal())).unwrap();
    let resize = std::process::Command::new("/bin/stty").arg("-F").arg(terminal).args(["cols", "50"]).status();
    assert!(resize.unwrap().success());
    pty.sees("Here it is again");
    assert!(pty.sees(ASKED).contains("wants to call write_file"));
    pty.types("e\n");
    pty.sees("does not count");
    pty.sees(ASKED);
    pty.decides("once");
    assert!(pty.ends().0 == 0 && written(&scratch));
}

#[test]
fn a_question_is_put_again_after_the_terminal_was_away() {
    let scratch = Scratch::new();
    let mut pty = writes(&scratch);
    pty.sees(ASKED);
    read();
    pty.types("onc");
    pty.sees("onc");
    // A process whose group nobody minds is not stopped: it goes on at once.
    pty.types("\u{1a}");
    pty.sees("Here it is again");
    let again = pty.sees(ASKED);
    assert!(again.contains("wants to call write_file"), "{again}");
    pty.types("e\n");
    pty.sees("does not count");
    pty.sees(ASKED);
    pty.decides("deny");
    pty.sees("(may be empty)> ");
    pty.types("\n");
    assert_eq!((pty.ends().0, written(&scratch)), (1, false));
}
