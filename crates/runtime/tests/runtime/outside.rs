//! The outside world, rules and decisions, as an embedder uses them: against a real server on loopback.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use parole_durable::{PromiseState, hub::now};
use parole_policy::Flags;
use parole_runtime::audit::AuditEvent;
use parole_runtime::question::{Decision, Question};
use parole_runtime::{
    CATALOGUE, Call, Error, ExecutionId, Outcome, Report, ResumeOptions, RunOptions, Runtime, SecurityPolicy,
    Validator, Wait,
};
use serde_json::{Value, json};

use super::{guest, runtime, suspended};

/// What a server answers to the head of a request, of which it has seen so many before; nothing: it hangs up.
type Answers = dyn Fn(&str, usize) -> Option<String> + Send + Sync;

/// Answers requests and remembers them: the head in one string.
pub struct Server {
    pub origin: String,
    seen: Arc<Mutex<Vec<String>>>,
}

fn ok(_: &str, _: usize) -> Option<String> {
    Some("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into())
}

impl Server {
    pub fn start() -> Self {
        Self::with(ok)
    }

    fn with(answers: impl Fn(&str, usize) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answers): (_, Arc<Answers>) = (Arc::clone(&seen), Arc::new(answers));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, answers) = (Arc::clone(&log), Arc::clone(&answers));
                std::thread::spawn(move || serve(stream.unwrap(), &log, &*answers));
            }
        });
        Self { origin, seen }
    }

    /// The first lines of what came.
    pub fn seen(&self) -> Vec<String> {
        self.heads().iter().map(|head| head.lines().next().unwrap_or_default().to_owned()).collect()
    }

    fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut stream: std::net::TcpStream, log: &Mutex<Vec<String>>, answers: &Answers) {
    let mut head = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&head).into_owned();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut body).unwrap();
            let before = {
                let mut log = log.lock().unwrap();
                log.push(text.clone());
                log.len() - 1
            };
            let Some(answer) = answers(&text, before) else { return };
            stream.write_all(answer.as_bytes()).unwrap();
            head.clear();
        }
    }
}

fn policy(text: &str) -> SecurityPolicy {
    SecurityPolicy::parse(text, Path::new("/"), &CATALOGUE).unwrap()
}

fn asking(origin: &str) -> SecurityPolicy {
    policy(&format!(
        "[grant.fetch]\norigins = [\"{origin}\"]\nmethods = [\"GET\", \"POST\"]\n\
         [[rule]]\nname = \"posts\"\ncapability = \"fetch\"\nwhen = 'request.method != \"GET\"'\nthen = \"ask\"\n"
    ))
}

fn post(server: &Server) -> RunOptions {
    RunOptions { invoke: Some(format!("send(\"POST\", \"{}/x\", \"b\")", server.origin)), ..RunOptions::default() }
}

fn question(runtime: &Runtime, id: &str) -> Question {
    Question::of(&runtime.promises().get(id).unwrap().record).unwrap()
}

fn resume(runtime: &Runtime, id: ExecutionId) -> Report {
    runtime.blocking().resume(id, ResumeOptions::default()).unwrap()
}

fn verdicts(runtime: &Runtime, id: ExecutionId, capability: &str) -> Vec<(AuditEvent, u64)> {
    let mut all = Vec::new();
    runtime.audit(id, |record| all.push(record)).unwrap();
    all.iter()
        .filter(|record| record.capability == capability)
        .map(|record| (record.note.verdict, record.note.generation))
        .collect()
}

#[test]
fn an_asked_call_is_done_once_when_a_person_says_so() {
    let (runtime, server) = (runtime(), Server::start());
    let report = runtime.blocking().run(guest("prebuilt/web.wasm"), asking(&server.origin), post(&server)).unwrap();
    let id = suspended(&report);
    let asked = question(&runtime, &id);
    assert_eq!((asked.capability.as_str(), asked.rule.as_deref()), ("fetch", Some("posts")));
    assert_eq!(asked.arguments["request"]["body"], "Yg==");
    assert_eq!(server.seen(), [""; 0]);
    // The answer to another question, and what is no answer, settle nothing.
    for wrong in [json!({ "decision": "once", "digest": "sha256:00" }), json!({ "decision": "once" }), json!(true)] {
        assert!(matches!(runtime.blocking().resolve(&id, &wrong, "me"), Err(Error::BadAnswer { .. })), "{wrong}");
    }
    let value = json!({ "decision": Decision::Once, "digest": asked.digest });
    assert!(runtime.blocking().resolve(&id, &value, "me").unwrap().won);
    let report = resume(&runtime, report.execution);
    assert_eq!((report.outcome, server.seen()), (Outcome::Completed, vec!["POST /x HTTP/1.1".to_owned()]));
    assert!(report.output.contains("200"), "{}", report.output);
    let audit = verdicts(&runtime, report.execution, "fetch");
    assert_eq!(audit, [(AuditEvent::Ask, 0), (AuditEvent::Approve, 0), (AuditEvent::Allow, 0)]);
    // A replay does nothing, and asks nobody.
    let replayed = runtime.blocking().replay(report.execution).unwrap();
    assert_eq!((replayed.outcome, server.seen().len()), (Some(Outcome::Completed), 1));
}

#[test]
fn denied_expired_and_canceled_are_different_to_the_guest() {
    let (runtime, server) = (runtime(), Server::start());
    let start = || {
        let report = runtime.blocking().run(guest("prebuilt/web.wasm"), asking(&server.origin), post(&server)).unwrap();
        (report.execution, suspended(&report))
    };
    let (execution, id) = start();
    let digest = question(&runtime, &id).digest;
    let no = json!({ "decision": "deny", "digest": digest, "reason": "not today" });
    runtime.blocking().resolve(&id, &no, "me").unwrap();
    let denied = resume(&runtime, execution);
    assert!(denied.output.contains("denied") && denied.output.contains("not today"), "{}", denied.output);
    assert_eq!(denied.denied.len(), 1);
    let (execution, id) = start();
    runtime.blocking().cancel_promise(&id, "me").unwrap();
    let canceled = resume(&runtime, execution).output;
    assert_ne!(canceled, denied.output);
    assert_eq!(runtime.promises().get(&id).unwrap().record.state, PromiseState::RejectedCanceled);
    assert_eq!(server.seen(), [""; 0]);
}

/// One guest, three generations: each call is decided under the one that stands when it is made.
#[tokio::test(flavor = "multi_thread")]
async fn grants_change_while_an_execution_waits() {
    let (runtime, server) = (runtime(), Server::start());
    let waiting = runtime.clone();
    let running = tokio::spawn(async move {
        let options = RunOptions { wait: Wait::All, ..RunOptions::default() };
        waiting.run(guest("prebuilt/web.wasm"), policy("level = \"standard\"\n"), options).await
    });
    let flags = Flags { allow_net: vec![server.origin.clone()], ..Flags::default() };
    let url = json!(format!("{}/a", server.origin));
    let next = async |answer: Value| {
        let until = now() + 20_000;
        loop {
            let pending =
                runtime.promises().list(&parole_runtime::PromiseFilter { pending: true, ..Default::default() });
            if let [promise] = &pending.unwrap()[..] {
                let id = promise.record.id.as_str().to_owned();
                runtime.promises().resolve(&id, &answer, "me").await.unwrap();
                return promise.record.execution().unwrap();
            }
            assert!(now() < until, "it asks nothing");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let id = next(url.clone()).await;
    let granted = runtime
        .regrant(id, |policy| change(policy.granted(&flags, &[], Path::new("/"), &CATALOGUE)), "grant", "me")
        .await
        .unwrap();
    assert_eq!(granted, 1);
    assert_eq!(next(url.clone()).await, id);
    next(url.clone()).await;
    let revoked = runtime
        .regrant(id, |policy| change(policy.revoked_by(&flags, &[], Path::new("/"), &CATALOGUE)), "revoke", "me")
        .await
        .unwrap();
    assert_eq!(revoked, 2);
    next(url).await;
    next(json!("")).await;
    let report = running.await.unwrap().unwrap();
    assert_eq!(report.outcome, Outcome::Completed, "{report:?}");
    let fetched = verdicts(&runtime, id, "fetch");
    // Where the first call fell is open: the grant may have come before it.
    let (allowed, refused): (Vec<_>, Vec<_>) = fetched.iter().partition(|(verdict, _)| *verdict == AuditEvent::Allow);
    assert_eq!(fetched.len(), 4, "{fetched:?}");
    assert!(allowed.iter().all(|(_, generation)| *generation == 1), "{fetched:?}");
    assert!(refused.iter().all(|(_, generation)| *generation != 1) && !refused.is_empty(), "{fetched:?}");
    assert_eq!(fetched.last(), Some(&(AuditEvent::Deny, 2)));
    assert_eq!(server.seen().len(), allowed.len());
    // What must stay stays.
    let wider = |policy: &SecurityPolicy| Ok(policy.clone().limits(|limits| limits.promises += 1));
    assert!(runtime.regrant(id, wider, "", "").await.is_err());
    let replayed = runtime.replay(id).await.unwrap();
    assert_eq!((replayed.outcome, server.seen().len()), (Some(Outcome::Completed), allowed.len()));
}

fn change(changed: Result<SecurityPolicy, parole_policy::FlagError>) -> Result<SecurityPolicy, Error> {
    changed.map_err(|error| Error::Usage(error.to_string()))
}

/// Every call of `get` and `many` is asked about.
fn asking_always(origin: &str, more: &str) -> SecurityPolicy {
    policy(&format!(
        "[grant.fetch]\norigins = [\"{origin}\", \"http://127.0.0.1:9\"]\n{more}\n\
         [[rule]]\nname = \"all\"\ncapability = \"fetch\"\nthen = \"ask\"\n"
    ))
}

fn decide(runtime: &Runtime, id: &str, decision: Decision) {
    let value = json!({ "decision": decision, "digest": question(runtime, id).digest });
    assert!(runtime.blocking().resolve(id, &value, "me").unwrap().won);
}

fn invoke(call: String) -> RunOptions {
    RunOptions { invoke: Some(call), ..RunOptions::default() }
}

/// A kept connection that dies under an approved request is no reason to send that again.
#[test]
fn an_approved_call_is_sent_on_a_connection_of_its_own() {
    let runtime = runtime();
    // Whatever comes second on a connection is read and not answered.
    let server = Server::with(|head, before| if before % 2 == 0 { ok(head, before) } else { None });
    let call = invoke(format!("many(\"{}/pay\", 2)", server.origin));
    let report = runtime.blocking().run(guest("prebuilt/web.wasm"), asking_always(&server.origin, ""), call).unwrap();
    decide(&runtime, &suspended(&report), Decision::Execution);
    resume(&runtime, report.execution);
    assert_eq!(server.seen(), ["GET /pay HTTP/1.1", "GET /pay HTTP/1.1"]);
}

/// An approval is for what was shown: no redirect is followed, and nothing that was sent is sent again.
#[test]
fn an_approved_call_goes_nowhere_else_and_is_not_retried() {
    let runtime = runtime();
    let server = Server::with(|_, _| {
        Some("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n".into())
    });
    let retry = "retry = { attempts = 4, backoff_ms = 1, max_backoff_ms = 1 }";
    let call = invoke(format!("get(\"{}/pay\")", server.origin));
    let report =
        runtime.blocking().run(guest("prebuilt/web.wasm"), asking_always(&server.origin, retry), call).unwrap();
    decide(&runtime, &suspended(&report), Decision::Once);
    let report = resume(&runtime, report.execution);
    assert_eq!(server.seen(), ["GET /pay HTTP/1.1"]);
    assert!(report.output.contains("302"), "{report:?}");
}

/// A hop is decided on what is sent there, and what may be a secret stays behind.
#[test]
fn a_redirect_to_another_origin_takes_nothing_along() {
    let (runtime, there) = (runtime(), Server::start());
    let to = there.origin.clone();
    let here =
        Server::with(move |_, _| Some(format!("HTTP/1.1 307 T\r\nlocation: {to}/x\r\ncontent-length: 0\r\n\r\n")));
    let policy = policy(&format!("[grant.fetch]\norigins = [\"{}\", \"{}\"]\n", here.origin, there.origin));
    let call = invoke(format!("send(\"GET\", \"{}/\", \"token=secret\")", here.origin));
    let report = runtime.blocking().run(guest("prebuilt/web.wasm"), policy, call).unwrap();
    assert_eq!(report.outcome, Outcome::Completed, "{report:?}");
    assert!(here.heads()[0].contains("content-length: 12"), "{:?}", here.heads());
    assert!(!there.heads()[0].contains("content-length: 12"), "{:?}", there.heads());
}

/// A guest that only prints never comes to the gate: what is taken from it is noticed none the less.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_print_is_dropped_from_a_guest_that_runs() {
    let component = r#"(component
        (import "parole:capabilities/print@0.1.0" (instance $p (export "print" (func (param "text" string)))))
        (core module $m
            (memory (export "memory") 1)
            (data (i32.const 0) "x"))
        (core instance $mem (instantiate $m))
        (core func $print (canon lower (func $p "print")
            (memory (core memory $mem "memory"))))
        (core module $r
            (import "h" "print" (func $print (param i32 i32)))
            (func (export "run") (local $i i32) (local $j i32)
                (loop $out
                    (call $print (i32.const 0) (i32.const 1))
                    (local.set $j (i32.const 0))
                    (loop $in
                        (local.set $j (i32.add (local.get $j) (i32.const 1)))
                        (br_if $in (i32.lt_u (local.get $j) (i32.const 2000000))))
                    (local.set $i (i32.add (local.get $i) (i32.const 1)))
                    (br_if $out (i32.lt_u (local.get $i) (i32.const 4000))))))
        (core instance $main (instantiate $r (with "h" (instance (export "print" (func $print))))))
        (func (export "run") (canon lift (core func $main "run"))))"#;
    let runtime = runtime();
    let id = ExecutionId::generate();
    let running = runtime.clone();
    let work = tokio::spawn(async move {
        let guest = parole_runtime::Guest::from_bytes("loop", component.as_bytes().to_vec()).unwrap();
        let policy = SecurityPolicy::new(parole_runtime::Level::Standard).limits(|limits| limits.cpu_ms = 60_000);
        running.run(guest, policy, RunOptions { id: Some(id), ..RunOptions::default() }).await
    });
    let revoke = |policy: &SecurityPolicy| {
        change(policy.revoked_by(&Flags::default(), &["print".to_owned()], Path::new("/"), &CATALOGUE))
    };
    let until = now() + 20_000;
    while let Err(error) = runtime.regrant(id, revoke, "revoke print", "me").await {
        assert!(now() < until && !work.is_finished(), "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let report = work.await.unwrap().unwrap();
    let lines = report.output.lines().count();
    assert!(lines < 3_000, "{lines} lines came after all");
    let audit = verdicts(&runtime, id, "print");
    assert!(audit.iter().any(|(verdict, _)| *verdict == AuditEvent::Deny));
}

/// A grant is taken away, and that is acknowledged, after a call was decided and before it is taken on.
#[test]
fn a_call_does_not_pass_a_revoke_that_came_before_it_was_taken_on() {
    let here: Arc<std::sync::OnceLock<(Runtime, ExecutionId, String)>> = Arc::default();
    let late = Arc::clone(&here);
    // A check runs between the two, which is where the revoke is wanted.
    let check = move |_: &parole_runtime::Call| {
        if let Some((runtime, id, origin)) = late.get() {
            let flags = Flags { allow_net: vec![origin.clone()], ..Flags::default() };
            let revoked = |policy: &SecurityPolicy| change(policy.revoked_by(&flags, &[], Path::new("/"), &CATALOGUE));
            // The second time there is nothing left to take.
            let _ = runtime.blocking().regrant(*id, revoked, "revoke", "me");
        }
        Ok(())
    };
    let validator = parole_runtime::Validator::new("late", "fetch", check);
    let (runtime, server) = (Runtime::builder().validator(validator).open().unwrap(), Server::start());
    let report = runtime.blocking().run(guest("prebuilt/web.wasm"), asking(&server.origin), post(&server)).unwrap();
    decide(&runtime, &suspended(&report), Decision::Once);
    here.set((runtime.clone(), report.execution, server.origin.clone())).ok().unwrap();
    let report = resume(&runtime, report.execution);
    assert_eq!((report.denied.len(), server.seen()), (1, Vec::new()), "{report:?}");
    let last = verdicts(&runtime, report.execution, "fetch").pop();
    assert_eq!(last, Some((AuditEvent::Deny, 1)));
}

/// Directories that stay granted stay the handles that they were, whatever becomes of their names.
#[tokio::test(flavor = "multi_thread")]
async fn another_grant_does_not_open_a_directory_again() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, secret) = (scratch.path().join("dir"), scratch.path().join("secret"));
    for (path, text) in [(&dir, "fine"), (&secret, "SECRET")] {
        std::fs::create_dir(path).unwrap();
        std::fs::write(path.join("in.txt"), text).unwrap();
    }
    let runtime = runtime();
    let id = ExecutionId::generate();
    let policy = SecurityPolicy::new(parole_runtime::Level::Standard).allow_read("/data", &dir);
    let options = RunOptions { id: Some(id), wait: Wait::All, ..RunOptions::default() };
    let running = runtime.clone();
    let work = tokio::spawn(async move { running.run(guest("prebuilt/everything.wasm"), policy, options).await });
    let mut moved = false;
    let until = now() + 20_000;
    while !work.is_finished() {
        assert!(now() < until);
        let filter = parole_runtime::PromiseFilter { pending: true, ..Default::default() };
        for promise in runtime.promises().list(&filter).unwrap() {
            if !moved {
                moved = true;
                std::fs::rename(&dir, scratch.path().join("old")).unwrap();
                std::os::unix::fs::symlink(&secret, &dir).unwrap();
                let flags = Flags { allow_read: vec![format!("/more={}", secret.display())], ..Flags::default() };
                let more = |policy: &SecurityPolicy| change(policy.granted(&flags, &[], Path::new("/"), &CATALOGUE));
                runtime.regrant(id, more, "grant", "me").await.unwrap();
            }
            let answer = match promise.capability.as_str() {
                "input" => json!("Ada"),
                "approve" => json!(true),
                "review" => json!({ "accepted": true, "text": "t", "comment": null }),
                _ => continue,
            };
            runtime.promises().resolve(promise.record.id.as_str(), &answer, "me").await.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let report = work.await.unwrap().unwrap();
    assert!(moved && report.output.contains("read_file: fine"), "{}", report.output);
}

/// The person sees what goes out, and that it was spelt otherwise.
#[test]
fn what_is_asked_about_is_what_is_sent() {
    let (runtime, server) = (runtime(), Server::start());
    let written = format!("{}/public/%2e%2e/x", server.origin.replace("127.0.0.1", "127.1"));
    let call = invoke(format!("send(\"POST\", \"{written}\", \"b\")"));
    let report = runtime.blocking().run(guest("prebuilt/web.wasm"), asking(&server.origin), call).unwrap();
    let id = suspended(&report);
    let asked = &question(&runtime, &id).arguments["request"];
    assert_eq!((&asked["url"], &asked["written"]), (&json!(format!("{}/x", server.origin)), &json!(written)));
    decide(&runtime, &id, Decision::Once);
    resume(&runtime, report.execution);
    assert_eq!(server.seen(), ["POST /x HTTP/1.1"]);
}

/// A question holds a body that the journal has by digest only: it has a limit of its own.
#[test]
fn questions_have_a_limit() {
    let (runtime, server) = (runtime(), Server::start());
    let with = |journal: u64, body: usize| {
        let policy = asking(&server.origin).limits(|limits| limits.journal = journal);
        let call = invoke(format!("send(\"POST\", \"{}/x\", \"{}\")", server.origin, "b".repeat(body)));
        runtime.blocking().run(guest("prebuilt/web.wasm"), policy, call).unwrap()
    };
    // The question of the twin says how large it is; a journal of one byte less has no room for it.
    let twin = with(64 << 10, 6_000);
    let size = runtime.promises().get(&suspended(&twin)).unwrap().record.param.data.unwrap().len() as u64;
    suspended(&with(size, 6_000));
    let refused = with(size - 1, 6_000);
    assert_eq!(refused.outcome, Outcome::Completed, "{refused:?}");
    assert!(refused.output.contains("questions"), "{refused:?}");
    let audit = verdicts(&runtime, refused.execution, "fetch");
    assert_eq!(audit, [(AuditEvent::Deny, 0)]);
    // A mebibyte of JSON at most, whatever the journal may be; the body is in it as base64.
    let refused = with(64 << 20, 800_000);
    assert_eq!(refused.outcome, Outcome::Completed, "{refused:?}");
    assert_eq!((refused.pending.len(), server.seen().len()), (0, 0));
}

/// What has happened is recorded, also when its answer does not fit.
#[test]
fn a_post_is_recorded_though_its_answer_does_not_fit() {
    let runtime = runtime();
    let server =
        Server::with(|_, _| Some(format!("HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n{}", "x".repeat(9_000))));
    let with = |journal: u64| {
        let text = format!("[grant.fetch]\norigins = [\"{}\"]\nmethods = [\"POST\"]\n", server.origin);
        let policy = policy(&text).limits(|limits| limits.journal = journal);
        runtime.blocking().run(guest("prebuilt/web.wasm"), policy, post(&server)).unwrap()
    };
    assert_eq!(with(64 << 10).outcome, Outcome::Completed);
    let report = with(4 << 10);
    assert_eq!(report.outcome, Outcome::Exhausted, "{report:?}");
    let steps = runtime.journal(report.execution).unwrap();
    let result = steps[0].result.as_ref().unwrap().to_string();
    assert!(result.contains("it happened"), "{result}");
    assert_eq!(server.seen().len(), 2);
}

/// A check in Rust is shown what is sent, in its one form, and where a redirect leads.
#[test]
fn a_check_is_shown_the_one_form_and_each_redirect() {
    let server = Server::with(|head, _| {
        let to = head.strip_prefix("GET /to/").and_then(|rest| rest.split(' ').next())?;
        let to = if to == "s" { "./%73ecret" } else { to };
        Some(format!("HTTP/1.1 302 Found\r\nlocation: /{to}\r\ncontent-length: 0\r\n\r\n"))
            .filter(|_| !to.is_empty())
            .or_else(|| ok("", 0))
    });
    let shown = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&shown);
    let check = move |call: &Call| {
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
        let url = arguments["request"]["url"].as_str().unwrap().to_owned();
        let secret = url.contains("secret");
        seen.lock().unwrap().push(url);
        if secret { Err("secret".into()) } else { Ok(()) }
    };
    let runtime = Runtime::builder().validator(Validator::new("judge", "fetch", check)).open().unwrap();
    let allowed = policy(&format!("[grant.fetch]\norigins = [\"{}\"]\n", server.origin));
    let run = |path: &str| {
        let invoke = Some(format!("send(\"GET\", \"{}{path}\", \"\")", server.origin));
        let options = RunOptions { invoke, ..RunOptions::default() };
        let report = runtime.blocking().run(guest("prebuilt/web.wasm"), allowed.clone(), options).unwrap();
        let urls: Vec<String> = shown.lock().unwrap().drain(..).collect();
        let urls = urls.iter().map(|url| url.replace(&server.origin, "")).collect::<Vec<_>>().join(" ");
        (urls, report.denied.iter().map(|denied| denied.argument.clone().unwrap_or_default()).collect::<Vec<_>>())
    };
    let denied = |path: &str| vec![format!("GET {}{path}", server.origin)];
    assert_eq!(run("/x/../%74o/"), ("/to/".into(), vec![]));
    assert_eq!(run("/x/%73ecret"), ("/x/secret".into(), denied("/x/secret")));
    // What has no one form is judged by nobody.
    assert_eq!(run("/x//secret"), (String::new(), vec![format!("{}/x//secret", server.origin)]));
    assert_eq!(run("/to/to/"), ("/to/to/ /to/".into(), vec![]));
    assert_eq!(run("/to/s"), ("/to/s /secret".into(), denied("/secret")));
    assert!(!server.seen().iter().any(|line| line.starts_with("GET /secret") || line.starts_with("GET /x")));
}
