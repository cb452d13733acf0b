//! Calls that a person decides about: `ask` and `doubt`, at a terminal and without one.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::pty::Pty;
use crate::scratch::{Scratch, guest};

const PATIENCE: Duration = Duration::from_secs(20);

/// The policy under which `files` reads at once and asks before it writes.
fn asks_to_write(scratch: &Scratch) -> String {
    scratch.file("data/in.txt", "abc");
    scratch.dir("out");
    scratch.file(
        "asks.toml",
        "[grant.read_file]\ndirs = { \"/data\" = \"./data\" }\n[grant.write_file]\ndirs = { \"/out\" = \"./out\" }\n\
         [[rule]]\nname = \"writes\"\ncapability = \"write_file\"\nthen = \"ask\"\n",
    )
}

fn run(scratch: &Scratch) -> Pty {
    Pty::start(scratch, &["run", &guest("files.wasm"), "--policy", &asks_to_write(scratch)])
}

fn written(scratch: &Scratch) -> Option<String> {
    std::fs::read_to_string(scratch.path("out/out.txt")).ok()
}

/// Leaves `files` at its question. Gives the ids of execution and promise, and the digest.
fn asked(scratch: &Scratch) -> (String, String, String) {
    let policy = asks_to_write(scratch);
    let (execution, id) = scratch.left_at(&["run", &guest("files.wasm"), "--policy", &policy, "--json"]);
    let digest = question(scratch, &id)["digest"].as_str().unwrap().to_owned();
    (execution, id, digest)
}

fn question(scratch: &Scratch, id: &str) -> Value {
    let record = scratch.parole(&["promise", "get", id, "--json"]).code(0).json();
    serde_json::from_str(record["param"]["data"].as_str().unwrap()).unwrap()
}

pub fn audit(scratch: &Scratch, execution: &str) -> Vec<Value> {
    let lines = scratch.parole(&["journal", execution, "--audit"]).code(0).out;
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_person_sees_the_very_call_and_allows_it_once() {
    let scratch = Scratch::new();
    let mut pty = run(&scratch);
    let shown = pty.sees("once, execution or deny> ");
    for text in [
        "files.wasm (sha256:",
        "wants to call write_file  [ask]",
        "The rule `writes` of its policy says: ask.",
        "expires in 6 d 23 h",
        "├ path\r\n│ /out/out.txt",
        "├ contents, 3 bytes\r\n│ ABC",
    ] {
        assert!(shown.contains(text), "{text:?} in {shown}");
    }
    assert_eq!(written(&scratch), None);
    for no_word in ["y", "yes", "o", "", "s"] {
        pty.decides(no_word);
        pty.sees("Type the whole word");
        pty.sees("once, execution or deny> ");
    }
    pty.decides("Once");
    let (code, screen) = pty.ends();
    assert_eq!((code, written(&scratch).as_deref()), (0, Some("ABC")), "{screen}");
    let execution = &scratch.parole(&["ps", "--all", "--json"]).code(0).json()[0]["execution"];
    let decisions: Vec<Value> = audit(&scratch, execution.as_str().unwrap())
        .into_iter()
        .filter(|record| record["capability"] == "write_file")
        .collect();
    let verdicts: Vec<&str> = decisions.iter().map(|record| record["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["ask", "approve", "allow"]);
    assert_eq!(decisions[0]["rule"], "writes");
    assert!(decisions[1]["by"].as_str().unwrap().contains(" at /dev/pts/"), "{decisions:?}");
    assert!(!decisions.iter().any(|record| record.to_string().contains("ABC")));
}

#[test]
fn nothing_typed_ahead_decides() {
    let scratch = Scratch::new();
    let policy = scratch.file(
        "p.toml",
        "[grant.fetch]\norigins = [\"http://127.0.0.1:9\"]\n[[rule]]\nname = \"all\"\ncapability = \"fetch\"\nthen = \"ask\"\n",
    );
    let mut pty = Pty::start(&scratch, &["run", &guest("web.wasm"), "--policy", &policy]);
    pty.sees("│ URL?");
    pty.types("http://127.0.0.1:9/x\nonce\nexecution\n");
    pty.sees("│ GET http://127.0.0.1:9/x");
    pty.sees("once, execution or deny> ");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(pty.screen().matches("│ URL?").count(), 1, "{}", pty.screen());
    pty.decides("deny");
    pty.sees("why, for the guest (may be empty)> ");
    pty.types("not today\n");
    pty.sees("denied");
    pty.sees("│ URL?");
    pty.types("\n");
    assert_eq!(pty.ends().0, 0);
}

#[test]
fn an_approval_for_the_execution_covers_the_same_call_only() {
    let scratch = Scratch::new();
    let server = Server::start(Answer::Ok);
    let policy = scratch.file("p.toml", posts(&server.origin, "then = \"ask\""));
    let mut pty = Pty::start(&scratch, &["run", &guest("web.wasm"), "--policy", &policy]);
    let types = |pty: &mut Pty, path: &str| {
        pty.sees("│ URL?");
        pty.sees("> ");
        pty.types(format!("{}{path}\n", server.origin));
    };
    types(&mut pty, "/a");
    pty.sees("once, execution or deny> ");
    pty.decides("execution");
    pty.sees("done: 200");
    types(&mut pty, "/a");
    pty.sees("done: 200");
    types(&mut pty, "/b");
    pty.sees("once, execution or deny> ");
    pty.decides("deny");
    pty.sees("(may be empty)> ");
    pty.types("\n");
    pty.sees("│ URL?");
    pty.types("\n");
    assert_eq!(pty.ends().0, 0);
    assert_eq!(server.seen(), ["GET /a HTTP/1.1", "GET /a HTTP/1.1"]);
}

#[test]
fn a_decision_from_elsewhere_comes_first() {
    let scratch = Scratch::new();
    let mut pty = run(&scratch);
    pty.sees("once, execution or deny> ");
    let pending = scratch.parole(&["promises", "--pending", "--capability", "ask", "--json"]).code(0).json();
    let id = pending[0]["id"].as_str().unwrap();
    scratch.parole(&["promise", "reject", id, "--data", "no"]).code(0);
    pty.sees("(settled elsewhere)");
    let (code, screen) = pty.ends();
    assert_eq!((code, written(&scratch)), (1, None), "{screen}");
    assert!(screen.contains("denied"), "{screen}");
}

#[test]
fn without_a_terminal_nobody_is_asked_and_nothing_is_answered() {
    let scratch = Scratch::new();
    let policy = asks_to_write(&scratch);
    let words = ["run", &guest("files.wasm"), "--policy", &policy];
    let left = scratch.parole(&words).code(75).says("waits for ask “write_file /out/out.txt (rule `writes`)”");
    let left = left.says("see and answer it: parole promise get ask:").says("or at a terminal: parole answer");
    assert!(left.err.contains("expires in 6 d 23 h"), "{}", left.err);
    // Lines of a pipe answer inputs and nothing else.
    let words: Vec<&str> = words.iter().copied().chain(["--stdin", "-", "--json"]).collect();
    let report = scratch.piped(&words, b"once\nexecution\nyes\n").code(75).json();
    assert_eq!(report["pending"][0]["capability"], "ask");
    assert_eq!(written(&scratch), None);
    scratch.parole(&["resume", report["execution"].as_str().unwrap()]).code(75);
    let listed = scratch.parole(&["promises", "--pending"]).code(0).out;
    assert!(listed.contains("write_file /out/out.txt (rule `writes`)"), "{listed}");
}

#[test]
fn a_decision_from_any_process_needs_the_digest_of_the_question() {
    let scratch = Scratch::new();
    let (execution, id, digest) = asked(&scratch);
    let got = scratch.parole(&["promise", "get", &id]).code(0).out;
    for text in ["rule       writes", &digest, "│ /out/out.txt", "│ ABC", "--value '{\"decision\":\"once\",\"digest\":"]
    {
        assert!(got.contains(text), "{text:?} in {got}");
    }
    let resolve = |value: &str| scratch.parole(&["promise", "resolve", &id, "--value", value]);
    for wrong in ["true", "\"once\"", "{\"decision\": \"once\"}", "{\"decision\": \"once\", \"digest\": \"sha256:00\"}"]
    {
        resolve(wrong).code(2).says(&digest).says("still pending");
    }
    scratch.parole(&["promise", "resolve", &id, "--data", "once"]).code(2).says("expected {\"decision\"");
    resolve(&json!({ "decision": "once", "digest": digest }).to_string()).code(0);
    scratch.parole(&["resume", &execution]).code(0);
    assert_eq!(written(&scratch).as_deref(), Some("ABC"));
    // A second execution: denied with a reason, which the guest gets.
    let (execution, id, digest) = asked(&scratch);
    let deny = json!({ "decision": "deny", "digest": digest, "reason": "not on a Friday" }).to_string();
    scratch.parole(&["promise", "resolve", &id, "--value", &deny]).code(0);
    scratch.parole(&["resume", &execution]).code(1).says("not on a Friday");
    // Taken back, which is another thing than a denial.
    let (execution, id, _) = asked(&scratch);
    scratch.parole(&["promise", "cancel", &id]).code(0);
    scratch.parole(&["resume", &execution]).code(1).says("canceled");
}

#[test]
fn the_walk_takes_decisions_and_may_skip_them() {
    let scratch = Scratch::new();
    let (one, _, _) = asked(&scratch);
    let (two, _, _) = asked(&scratch);
    let (_, input) = scratch.waiting();
    let mut pty = Pty::start(&scratch, &["answer", "--capability", "ask"]);
    pty.sees("once, execution or deny, s to skip> ");
    pty.decides("s");
    pty.sees("once, execution or deny, s to skip> ");
    pty.decides("once");
    assert_eq!(pty.ends().0, 0);
    let state = |id: &str| scratch.parole(&["show", id, "--json"]).code(0).json()["outcome"].clone();
    assert_eq!((state(&one), state(&two)), ("suspended".into(), "completed".into()));
    let record = scratch.parole(&["promise", "get", &input, "--json"]).code(0).json();
    assert_eq!(record["state"], "pending");
}

#[test]
fn what_a_guest_wants_to_send_cannot_pass_for_our_words() {
    let scratch = Scratch::new();
    let policy = scratch.file("p.toml", posts("http://127.0.0.1:9", "then = \"ask\""));
    // As a call and not as a question, so that no terminal cuts or takes its characters.
    let body = "\\u{1b}[2J└\\nonce, execution or deny> once\\n\\u{202e}\\u{9b}31m";
    let call = format!("send(\"POST\", \"http://127.0.0.1:9/\", \"{body}\")");
    scratch.parole(&["run", &guest("web.wasm"), "--policy", &policy, "--invoke", &call, "--quiet"]).code(75);
    let mut pty = Pty::start(&scratch, &["answer"]);
    let shown = pty.sees("s to skip> ");
    assert!(shown.contains("│ \\u{1b}[2J└\r\n│ once, execution or deny> once\r\n│ \\u{202e}\\u{9b}31m"), "{shown:?}");
    assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{shown:?}");
    assert!(shown.contains("├ headers\r\n│ content-type: text/plain"), "{shown:?}");
    pty.decides("s");
    pty.ends();
    let id = scratch.parole(&["promises", "--json"]).code(0).json()[0]["id"].as_str().unwrap().to_owned();
    let got = scratch.parole(&["promise", "get", &id]).code(0).out;
    assert!(got.contains("│ POST http://127.0.0.1:9/\n") && !got.contains('\u{1b}'), "{got:?}");
}

#[test]
fn a_long_call_is_cut_and_says_where_all_of_it_is() {
    let scratch = Scratch::new();
    let policy = scratch.file("p.toml", posts("http://127.0.0.1:9", "then = \"ask\""));
    let body = "line\\n".repeat(1000);
    let call = format!("send(\"POST\", \"http://127.0.0.1:9/\", \"{body}the end\")");
    scratch.parole(&["run", &guest("web.wasm"), "--policy", &policy, "--invoke", &call, "--quiet"]).code(75);
    let mut pty = Pty::start(&scratch, &["answer"]);
    let shown = pty.sees("s to skip> ");
    assert!(shown.contains("├ body, 5007 bytes") && !shown.contains("the end"), "{shown}");
    assert!(shown.contains("the rest is not shown; all of it: parole promise get ask:"), "{shown}");
    pty.decides("s");
    pty.ends();
    let id = scratch.parole(&["promises", "--json"]).code(0).json()[0]["id"].as_str().unwrap().to_owned();
    assert!(scratch.parole(&["promise", "get", &id]).code(0).out.contains("│ the end\n"));
}

// In doubt: the process is killed while a request is under way.

pub enum Answer {
    Ok,
    Nothing,
}

/// A server that remembers the first line of each request.
pub struct Server {
    pub origin: String,
    seen: mpsc::Receiver<String>,
}

impl Server {
    pub fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (send, seen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for mut stream in listener.incoming().map_while(Result::ok) {
                let Some(line) = request(&mut stream) else { continue };
                let _ = send.send(line);
                match answer {
                    Answer::Ok => {
                        let _ =
                            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
                    }
                    Answer::Nothing => open.push(stream),
                }
            }
        });
        Self { origin, seen }
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.try_iter().collect()
    }
}

fn request(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).lines().next()?.to_owned())
}

pub fn posts(origin: &str, then: &str) -> String {
    format!(
        "[grant.fetch]\norigins = [\"{origin}\"]\nmethods = [\"GET\", \"POST\"]\ntimeout_ms = 60_000\n\
         [[rule]]\nname = \"all\"\ncapability = \"fetch\"\n{then}\n"
    )
}

/// A POST whose process dies while the server has it. Gives the ids of execution and promise.
fn in_doubt(scratch: &Scratch) -> (String, String, Server) {
    let server = Server::start(Answer::Nothing);
    let policy = scratch.file("p.toml", posts(&server.origin, "then = \"allow\""));
    let call = format!("send(\"POST\", \"{}/x\", \"b\")", server.origin);
    let mut child =
        scratch.command(["run", &guest("web.wasm"), "--policy", &policy, "--invoke", &call]).spawn().unwrap();
    assert_eq!(server.seen.recv_timeout(PATIENCE).unwrap(), "POST /x HTTP/1.1");
    child.kill().unwrap();
    child.wait().unwrap();
    let execution = scratch.parole(&["ps", "--json"]).code(0).json()[0]["execution"].as_str().unwrap().to_owned();
    let report = scratch.parole(&["resume", &execution, "--json"]).code(75).json();
    let pending = &report["pending"][0];
    assert_eq!(pending["capability"], "doubt");
    assert_eq!(server.seen(), [""; 0], "nothing is sent again in silence");
    (execution, pending["id"].as_str().unwrap().to_owned(), server)
}

#[test]
fn a_person_says_what_came_of_a_call_in_doubt() {
    let scratch = Scratch::new();
    let (execution, id, server) = in_doubt(&scratch);
    let summary = scratch.parole(&["promises", "--pending"]).code(0).out;
    assert!(summary.contains("(it may or may not have happened)") && summary.contains("never"), "{summary}");
    let mut pty = Pty::start(&scratch, &["resume", &execution]);
    let shown = pty.sees("done, again or fail> ");
    for text in ["called fetch when its process died: did it happen?", "expires never", "│ POST http://127.0.0.1:"] {
        assert!(shown.contains(text), "{text:?} in {shown}");
    }
    pty.decides("yes");
    pty.sees("Type the whole word");
    pty.sees("done, again or fail> ");
    pty.decides("done");
    pty.sees("answer> ");
    for (wrong, says) in [
        ("{", "this is no JSON"),
        ("{\"status\": 201}", "expected"),
        ("{\"status\": 201, \"headers\": [], \"body\": 5}", "expected"),
        ("{\"status\": 201, \"status\": 200, \"headers\": [], \"body\": \"\"}", "twice"),
    ] {
        pty.types(format!("{wrong}\n"));
        pty.sees(says);
        pty.sees("answer> ");
    }
    // Back, and once more.
    pty.types("\n");
    pty.sees("done, again or fail> ");
    pty.decides("done");
    pty.sees("answer> ");
    pty.types("{\"status\": 201, \"headers\": [], \"body\": \"b2s=\"}\n");
    pty.sees("done: 201 2 bytes");
    assert_eq!(pty.ends().0, 0);
    assert_eq!(server.seen(), [""; 0]);
    let verdicts: Vec<Value> =
        audit(&scratch, &execution).into_iter().map(|record| record["verdict"].clone()).collect();
    assert!(verdicts.contains(&"doubt".into()) && verdicts.contains(&"done".into()), "{verdicts:?}");
    let settled = scratch.parole(&["promise", "get", &id, "--json"]).code(0).json();
    assert!(settled["value"]["data"].as_str().unwrap().starts_with("{\"done\":"), "{settled}");
}

#[test]
fn a_call_in_doubt_is_done_again_or_fails_as_a_person_says() {
    let scratch = Scratch::new();
    let (execution, _, _server) = in_doubt(&scratch);
    let mut pty = Pty::start(&scratch, &["answer", "--capability", "doubt"]);
    pty.sees("done, again or fail, s to skip> ");
    pty.decides("fail");
    pty.sees("what the guest is told> ");
    pty.types("the line was cut\n");
    pty.sees("the line was cut");
    assert_eq!(pty.ends().0, 0);
    let shown = scratch.parole(&["show", &execution, "--json"]).code(0).json();
    assert!(shown["output"].as_str().unwrap().contains("the line was cut"), "{shown}");
    // Rejected is failed as well.
    let (execution, id, _server) = in_doubt(&scratch);
    scratch.parole(&["promise", "reject", &id, "--data", "no trace of it"]).code(0);
    let ended = scratch.parole(&["resume", &execution]).code(0);
    assert!(ended.out.contains("no trace of it"), "{ended:?}");
    // Again: the request goes out once more.
    let (execution, id, server) = in_doubt(&scratch);
    scratch.parole(&["promise", "resolve", &id, "--value", "5"]).code(2).says("{\"done\": OK-VALUE}");
    scratch.parole(&["promise", "resolve", &id, "--value", "\"again\""]).code(0);
    let mut child = scratch.command(["resume", &execution]).spawn().unwrap();
    assert_eq!(server.seen.recv_timeout(PATIENCE).unwrap(), "POST /x HTTP/1.1");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A person is shown the name that will be written; what is allowed for the whole execution is that call, however the
/// guest spells it, and no other.
#[test]
fn an_approval_for_the_execution_is_for_every_spelling() {
    let scratch = Scratch::new();
    let policy = asks_to_write(&scratch);
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/read-granted/guest.wat");
    let invoke =
        "write-all([\"/out/x/../new.txt\", \"/out/./new.txt\", \"out//new.txt\", \"/out/other.txt\"], \"new\")";
    let (execution, id) = scratch.left_at(&["run", guest, "--policy", &policy, "--json", "--invoke", invoke]);
    let asked = question(&scratch, &id);
    assert_eq!(asked["arguments"]["path"], "/out/new.txt");
    assert!(!scratch.path("out/new.txt").exists());
    let yes = json!({ "decision": "execution", "digest": asked["digest"] }).to_string();
    scratch.parole(&["promise", "resolve", &id, "--value", &yes]).code(0);
    // Three spellings are one call; the fourth path is another one, and asked about.
    let ran = scratch.parole(&["resume", &execution, "--json"]).code(75);
    assert_eq!(ran.json()["output"], "written\nwritten\nwritten\n");
    assert!(scratch.path("out/new.txt").exists() && !scratch.path("out/other.txt").exists());
    let other =
        scratch.parole(&["promises", "--pending", "--json"]).code(0).json()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(question(&scratch, &other)["arguments"]["path"], "/out/other.txt");
    let no = json!({ "decision": "deny", "digest": question(&scratch, &other)["digest"] }).to_string();
    scratch.parole(&["promise", "resolve", &other, "--value", &no]).code(0);
    assert_eq!(
        scratch.parole(&["resume", &execution, "--json"]).code(0).json()["output"],
        "written\nwritten\nwritten\ndenied\n"
    );
}

/// The audit of a denied call says why, and what it was about, in the form that was decided on.
#[test]
fn the_audit_of_a_denial_has_its_reason_and_argument() {
    let scratch = Scratch::new();
    scratch.dir("data");
    let rule = "[[rule]]\nname = \"no-private\"\ncapability = \"read_file\"\nwhen = 'path.startsWith(\"/data/private/\")'\nthen = \"deny\"\n";
    let policy = scratch.file("p.toml", format!("[grant.read_file]\ndirs = {{ \"/data\" = \"./data\" }}\n{rule}"));
    let run = |path: &str| {
        let invoke = format!("read(\"{path}\")");
        let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/read-granted/guest.wat");
        let ran = scratch.parole(&["run", guest, "--policy", &policy, "--json", "--invoke", &invoke]);
        let record = audit(&scratch, ran.json()["execution"].as_str().unwrap()).remove(0);
        let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
        (text("verdict"), text("rule"), text("reason"), text("argument"), text("arguments"))
    };
    let plain = run("/data/private/key");
    let (verdict, rule, reason, argument) = (&plain.0, &plain.1, &plain.2, &plain.3);
    assert_eq!((verdict.as_str(), rule.as_str(), argument.as_str()), ("deny", "no-private", "/data/private/key"));
    assert_eq!(reason, "a rule of the policy refuses this call of `read_file`");
    // Another spelling is the same call; the digest is that of its form.
    for path in ["data/private/key", "/data/./private/key", "/data/x/../private//key"] {
        assert_eq!(run(path), plain, "{path}");
    }
    let (verdict, _, reason, argument, _) = run("/data/x/");
    assert_eq!((verdict.as_str(), argument.as_str()), ("deny", "/data/x/"));
    assert!(reason.contains("is not a plain file"), "{reason}");
    assert_eq!(run("/data/none").2, "", "what is allowed has no reason");
}
