//! The outside world, rules and decisions, as an embedder uses them: against a real server on loopback.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use parole_durable::{PromiseState, hub::now};
use parole_policy::Flags;
use parole_runtime::audit::Verdict;
use parole_runtime::question::{Decision, Question};
use parole_runtime::{
    CATALOGUE, Error, ExecutionId, Outcome, Report, ResumeOptions, RunOptions, Runtime, SecurityPolicy, Wait,
};
use serde_json::{Value, json};

use super::{guest, runtime, suspended};

/// Answers every request with `ok` and remembers its first line.
pub struct Server {
    pub origin: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let log = Arc::clone(&log);
                std::thread::spawn(move || serve(stream.unwrap(), &log));
            }
        });
        Self { origin, seen }
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut stream: std::net::TcpStream, log: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&head).into_owned();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut body).unwrap();
            log.lock().unwrap().push(text.lines().next().unwrap_or_default().to_owned());
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
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

fn verdicts(runtime: &Runtime, id: ExecutionId, capability: &str) -> Vec<(Verdict, u64)> {
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
    assert_eq!(audit, [(Verdict::Ask, 0), (Verdict::Approve, 0), (Verdict::Allow, 0)]);
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
    let (allowed, refused): (Vec<_>, Vec<_>) = fetched.iter().partition(|(verdict, _)| *verdict == Verdict::Allow);
    assert_eq!(fetched.len(), 4, "{fetched:?}");
    assert!(allowed.iter().all(|(_, generation)| *generation == 1), "{fetched:?}");
    assert!(refused.iter().all(|(_, generation)| *generation != 1) && refused.len() >= 1, "{fetched:?}");
    assert_eq!(fetched.last(), Some(&(Verdict::Deny, 2)));
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
