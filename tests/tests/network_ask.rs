//! Questions about calls: what was shown is what is done, once, and only a person's yes counts (C06, C07, U01, U04).

use parole_tests::ensure;
use parole_tests::fixture::network::{Network, one_pending};
use parole_tests::fixture::play::eventually;
use parole_tests::fixture::{Failure, because};
use serde_json::{Value, json};

const GUEST: &str = "fetch-listed";
const POST: &str = r#"send("POST", "http://{{listed}}/echo?q=1", [("X-A", "1"), ("X-A", "2")], some("hello"))"#;
const ASKS: &str = r#"
level = "standard"

[grant.fetch]
origins = ["http://{{listed}}"]
methods = ["GET", "POST"]
timeout_ms = 30_000

[[rule]]
name = "posts"
capability = "fetch"
when = 'request.method != "GET"'
then = "ask"
"#;

/// A guest that waits for a decision.
fn asks() -> Result<(Network, String, String), Failure> {
    let network = Network::plant(ASKS)?;
    let asked = one_pending(&network.run(GUEST, POST)?, "ask")?;
    let execution = network.execution()?;
    Ok((network, execution, asked))
}

#[test]
fn c07_what_was_shown_is_what_is_sent() -> Result<(), Failure> {
    let (network, execution, asked) = asks()?;
    let question = network.question(&asked)?;
    let url = network.servers.fill_in("http://{{listed}}/echo?q=1");
    let headers = json!([{ "name": "x-a", "value": "1" }, { "name": "x-a", "value": "2" }]);
    let shown = json!({ "request": { "method": "POST", "url": url, "headers": headers, "body": "aGVsbG8=" } });
    ensure!(question["arguments"] == shown, "what is shown is {question}");
    ensure!(question["rule"] == "posts" && question["capability"] == "fetch", "what is shown is {question}");
    network.had(0)?;
    network.decide(&asked, "once")?.exits(0)?;
    network.had(0)?;
    network.world.resume(&execution)?.exits(0)?;
    network.had(1)?;
    let hits = network.servers.listed().log().hits;
    let right = hits[0].method == "POST" && hits[0].target == "/echo?q=1" && hits[0].body == b"hello";
    ensure!(right && hits[0].all("x-a").eq(["1", "2"]), "what was sent is {:?}", hits[0]);
    Ok(())
}

#[test]
fn endings_are_different_to_the_guest() -> Result<(), Failure> {
    let (network, execution, asked) = asks()?;
    network.world.run(&["promise", "cancel", &asked])?.exits(0)?;
    network.world.completes(&execution, "canceled\n")?;
    network.had(0)?;

    let (network, execution, asked) = asks()?;
    network.decide(&asked, "deny")?.exits(0)?;
    network.world.completes(&execution, "denied\n")?;
    network.had(0)?;

    let (network, execution, asked) = asks()?;
    network.world.run(&["promise", "reject", &asked, "--data", "no"])?.exits(0)?;
    network.world.completes(&execution, "denied\n")?;
    network.had(0)?;

    // It expires while no process runs; a yes after that is none.
    let network = Network::plant(&format!("{ASKS}timeout_ms = 1_000\n"))?;
    let asked = one_pending(&network.run(GUEST, POST)?, "ask")?;
    let execution = network.execution()?;
    eventually("the end of its time", || Ok(network.world.promise_state(&asked)? == "rejected_timedout"))?;
    network.decide(&asked, "once")?.exits(1)?;
    network.world.completes(&execution, "expired\n")?;
    network.had(0)
}

#[test]
fn only_an_answer_to_this_very_call_counts() -> Result<(), Failure> {
    let (network, execution, asked) = asks()?;
    let digest = network.question(&asked)?["digest"].clone();
    let zeros = format!("sha256:{}", "0".repeat(64));
    let wrong = [
        json!(true),
        json!("once"),
        json!(null),
        json!({ "decision": "once" }),
        json!({ "decision": "once", "digest": zeros }),
        json!({ "decision": "once", "digest": "" }),
        json!({ "decision": "always", "digest": digest }),
        json!({ "decision": ["once"], "digest": digest }),
        json!({ "decision": "once", "digest": digest, "more": 1 }),
        json!(["once", digest]),
    ];
    for wrong in wrong {
        let ran = network.world.resolve(&asked, &wrong.to_string())?;
        ensure!(ran.status.code() != Some(0), "{wrong} was taken\n{}", ran.report());
    }
    ensure!(network.world.promise_state(&asked)? == "pending", "a wrong answer settled it");
    network.had(0)?;
    // The same guest again: its question is another one, and the answer to the first is none to it.
    let other = one_pending(&network.run(GUEST, POST)?, "ask")?;
    let answer = json!({ "decision": "once", "digest": digest });
    let ran = network.world.resolve(&other, &answer.to_string())?;
    ensure!(ran.status.code() != Some(0), "the answer to another execution was taken\n{}", ran.report());
    network.stops(&execution, "ask")?;
    network.had(0)
}

/// Two posts with the same body, one with another, and one more with the first.
const FOUR: &str = r#"send-all([("POST", "http://{{listed}}/ok", [], some("same")),
    ("POST", "http://{{listed}}/ok", [], some("same")), ("POST", "http://{{listed}}/ok", [], some("other")),
    ("POST", "http://{{listed}}/ok", [], some("same"))])"#;

#[test]
fn an_approval_for_the_execution_covers_identical_arguments_only() -> Result<(), Failure> {
    for (decision, questions) in [("execution", 2), ("once", 4)] {
        let network = Network::plant(ASKS)?;
        let mut asked = one_pending(&network.run(GUEST, FOUR)?, "ask")?;
        let execution = network.execution()?;
        for number in 1..=questions {
            network.decide(&asked, decision)?.exits(0)?;
            if number < questions {
                asked = network.stops(&execution, "ask")?;
            }
        }
        network.world.completes(&execution, &"200 ok from listed\n".repeat(4))?;
        network.had(4)?;
        let asks = network.world.promises()?.iter().filter(|promise| promise["capability"] == "ask").count();
        ensure!(asks == questions, "{decision}: {asks} questions, not {questions}");
    }
    Ok(())
}

/// A yes is no leave for what the policy no longer allows when it is used.
#[test]
fn what_was_approved_is_decided_again() -> Result<(), Failure> {
    let (network, execution, asked) = asks()?;
    network.decide(&asked, "once")?.exits(0)?;
    let origin = network.servers.fill_in("http://{{listed}}");
    network.world.run(&["revoke", &execution, "--allow-net", &origin])?.exits(0)?;
    network.world.completes(&execution, "denied\n")?;
    network.had(0)
}

/// Each call is decided under one generation: what is under way completes, the next call sees the change.
#[test]
fn c06_a_change_during_a_call() -> Result<(), Failure> {
    let network = Network::plant(ASKS)?;
    let calls = r#"send-all([("POST", "http://{{listed}}/ok", [], none), ("GET", "http://{{listed}}/hold", [], none),
        ("GET", "http://{{listed}}/ok", [], none), ("GET", "http://{{canary}}/", [], none)])"#;
    let asked = one_pending(&network.run(GUEST, calls)?, "ask")?;
    network.decide(&asked, "once")?.exits(0)?;
    let child = network.world.start(&["resume", &network.execution()?, "--json"])?;
    network.arrives(2)?;
    let execution = network.execution()?;
    network.world.run(&["revoke", &execution, "fetch"])?.exits(0)?;
    network.servers.listed().release();
    let ran = child.wait_with_output().map_err(because("waiting for it"))?;
    let json: Value = serde_json::from_slice(&ran.stdout).map_err(because("its output"))?;
    let wanted = "200 ok from listed\n200 GET /hold [accept-encoding: gzip; host: {{listed}}] \ndenied\ndenied\n";
    ensure!(json["output"] == network.servers.fill_in(wanted), "the output is {json}");
    network.had(2)?;
    let audit = network.world.run(&["journal", &execution, "--audit"])?;
    let mut generations = Vec::new();
    for line in audit.exits(0)?.out().lines() {
        let record: Value = serde_json::from_str(line).map_err(because(format!("a line of the audit: {line}")))?;
        if record["capability"] == "fetch" && record["site"] == "call" {
            generations.push((record["verdict"].clone(), record["generation"].as_u64().unwrap_or(0)));
        }
    }
    let (allow, deny) = ((json!("allow"), 0), (json!("deny"), 1));
    let wanted = [(json!("ask"), 0), (json!("approve"), 0), allow.clone(), allow, deny.clone(), deny];
    ensure!(generations == wanted, "the audit has {generations:?}");
    Ok(())
}

/// The same on a connection: what it waits for still comes, and then it is gone with the right to it.
#[test]
fn c06_a_change_on_a_connection() -> Result<(), Failure> {
    let network = Network::plant("level = \"trusted\"\n\n[grant.websocket]\norigins = [\"ws://{{listed}}\"]\n")?;
    let child = network.start("socket-listed", r#"talk-times("ws://{{listed}}/slow-echo/1000", "hello", 2)"#)?;
    network.arrives(1)?;
    eventually("the execution", || Ok(network.execution().is_ok()))?;
    network.world.run(&["revoke", &network.execution()?, "websocket"])?.exits(0)?;
    let ran = child.wait_with_output().map_err(because("waiting for it"))?;
    let json: Value = serde_json::from_slice(&ran.stdout).map_err(because("its output"))?;
    ensure!(json["output"] == "hello\ndenied\nclosed\n", "the output is {json}");
    network.had(1)
}

/// What is granted to an execution that waits holds from its next call, and not for another execution.
#[test]
fn c06_a_grant_while_parked() -> Result<(), Failure> {
    let network = Network::plant(&format!("{ASKS}# {{{{canary}}}}\n"))?;
    let calls = r#"send-all([("POST", "http://{{listed}}/ok", [], none), ("GET", "http://{{canary}}/", [], none)])"#;
    let asked = one_pending(&network.run(GUEST, calls)?, "ask")?;
    let execution = network.execution()?;
    let canary = network.servers.fill_in("http://{{canary}}");
    network.world.run(&["grant", &execution, "--allow-net", &canary])?.exits(0)?;
    network.decide(&asked, "once")?.exits(0)?;
    network.world.completes(&execution, "200 ok from listed\n200 ok from the canary\n")?;
    let seen = network.servers.canary().log().hits.len();
    let other = network.run(GUEST, r#"get("http://{{canary}}/")"#)?;
    let json = other.exits(0)?.json()?;
    ensure!(json["output"] == "denied\n", "another execution has the grant, too\n{}", other.report());
    ensure!(network.servers.canary().log().hits.len() == seen, "the server was reached by another execution");
    Ok(())
}

/// Escapes, directions, line breaks and quotes in what a person is asked about: nowhere more than text.
#[test]
fn u04_what_is_asked_about_stays_text() -> Result<(), Failure> {
    let network = Network::plant(ASKS)?;
    let odd = "\\u{1b}[2J\\u{1b}]0;title\\u{7}\\u{9b}31m\\u{202e}\\r\\n\\\"}],\\\"outcome\\\":\\\"completed\\\"";
    let invoke = format!(r#"send("POST", "http://{{{{listed}}}}/echo", [("X-{odd}", "{odd}")], some("{odd}"))"#);
    let asked = one_pending(&network.run(GUEST, &invoke)?, "ask")?;
    let execution = network.execution()?;
    let body = network.question(&asked)?["arguments"]["request"]["headers"][0]["value"].clone();
    ensure!(body.as_str().is_some_and(|text| text.starts_with("\u{1b}[2J")), "it is not shown exactly: {body}");
    for arguments in [
        &["promises"][..],
        &["promises", "--pending"],
        &["promise", "get", &asked],
        &["show", &execution],
        &["journal", &execution],
        &["journal", &execution, "--audit"],
        &["ps", "--all"],
        &["answer", &execution],
    ] {
        let ran = network.world.run(arguments)?;
        for text in [ran.out(), ran.err()] {
            let odd = text.chars().find(|c| c.is_control() && *c != '\n' || matches!(c, '\u{202a}'..='\u{202e}'));
            ensure!(odd.is_none(), "{arguments:?} shows {odd:?}\n{}", ran.report());
        }
    }
    // Approved, it still cannot be sent.
    network.decide(&asked, "once")?.exits(0)?;
    network.world.completes(&execution, "invalid\n")?;
    network.had(0)
}

/// Nobody who is not a person answers: not stdin, not a pipe, not by default.
#[test]
fn nobody_answers_by_default() -> Result<(), Failure> {
    let (network, execution, asked) = asks()?;
    for input in ["once\n", "yes\ny\n", "approve\n", "1\n", "\n", ""] {
        let arguments = ["answer", &execution];
        let ran = network.world.run_with(&arguments, Some(input), parole_tests::fixture::TIMEOUT)?;
        ensure!(network.world.promise_state(&asked)? == "pending", "{input:?} answered it\n{}", ran.report());
    }
    network.stops(&execution, "ask")?;
    network.had(0)
}
