//! Requests and the end of the process that sends them (D04): what was sent is never sent again in silence.

use std::time::{Duration, Instant};

use parole_tests::ensure;
use parole_tests::fixture::network::{Network, one_pending};
use parole_tests::fixture::{Failure, because};
use serde_json::json;

const GUEST: &str = "fetch-listed";
/// An execution is on record from its first effect on, so that there is one here before the GET.
const GET: &str =
    r#"send-all([("POST", "http://{{listed}}/ok", [], none), ("GET", "http://{{listed}}/hold", [], none)])"#;
const POST: &str = r#"send("POST", "http://{{listed}}/hold", [("X-A", "1")], some("hello"))"#;
const ECHO: &str = "200 POST /hold [accept-encoding: gzip; content-length: 5; host: {{listed}}; x-a: 1] hello\n";

const POLICY: &str = r#"
level = "standard"

[grant.fetch]
origins = ["http://{{listed}}"]
methods = ["GET", "POST"]
timeout_ms = 30_000
"#;

fn plant(more: &str) -> Result<Network, Failure> {
    Network::plant(&format!("{POLICY}{more}"))
}

/// A POST whose process died while the server had it.
fn in_doubt(more: &str) -> Result<(Network, String), Failure> {
    let network = plant(more)?;
    let child = network.start(GUEST, POST)?;
    let execution = network.kill_at(child, 1)?;
    Ok((network, execution))
}

#[test]
fn d04_a_post_in_doubt_that_happened() -> Result<(), Failure> {
    let (network, execution) = in_doubt("")?;
    let doubt = network.stops(&execution, "doubt")?;
    network.had(1)?;
    // What cannot be its answer is refused, and it waits on.
    let wrong = [
        json!("yes"),
        json!(null),
        json!({}),
        json!({ "done": 5 }),
        json!({ "done": null }),
        json!({ "done": { "status": 70000, "headers": [], "body": "" } }),
        json!({ "done": { "status": 200, "headers": [], "body": "not base64" } }),
        json!({ "done": { "status": 200, "headers": [], "body": "" }, "fail": "x" }),
    ];
    for wrong in wrong {
        let ran = network.world.resolve(&doubt, &wrong.to_string())?;
        ensure!(ran.status.code() != Some(0), "{wrong} was taken\n{}", ran.report());
    }
    ensure!(network.world.promise_state(&doubt)? == "pending", "a wrong answer settled it");
    let done = json!({ "done": { "status": 201, "headers": [], "body": "ZG9uZQ==" } });
    network.world.resolve(&doubt, &done.to_string())?.exits(0)?;
    network.world.completes(&execution, "201 done\n")?;
    network.had(1)
}

#[test]
fn d04_a_post_in_doubt_that_is_done_again() -> Result<(), Failure> {
    let (network, execution) = in_doubt("")?;
    let doubt = network.stops(&execution, "doubt")?;
    network.servers.listed().release();
    // Nothing answers it by default, however often it is resumed.
    network.stops(&execution, "doubt")?;
    network.had(1)?;
    network.world.resolve(&doubt, "\"again\"")?.exits(0)?;
    network.world.completes(&execution, &network.servers.fill_in(ECHO))?;
    network.had(2)
}

#[test]
fn d04_a_post_in_doubt_that_fails() -> Result<(), Failure> {
    let (network, execution) = in_doubt("")?;
    let doubt = network.stops(&execution, "doubt")?;
    network.world.resolve(&doubt, r#"{"fail": "it is not known"}"#)?.exits(0)?;
    network.world.completes(&execution, "failed\n")?;
    network.had(1)
}

#[test]
fn d04_a_post_in_doubt_that_is_in_doubt_again() -> Result<(), Failure> {
    let (network, execution) = in_doubt("")?;
    let first = network.stops(&execution, "doubt")?;
    network.world.resolve(&first, "\"again\"")?.exits(0)?;
    let child = network.world.start(&["resume", &execution, "--json"])?;
    network.kill_at(child, 2)?;
    let second = network.stops(&execution, "doubt")?;
    ensure!(first != second, "the old answer would count for the new doubt");
    network.had(2)?;
    network.world.resolve(&second, r#"{"fail": "enough"}"#)?.exits(0)?;
    network.world.completes(&execution, "failed\n")?;
    network.had(2)
}

/// A rule may come between, or a grant be taken away: what a person has done again is decided again.
#[test]
fn d04_a_post_in_doubt_that_may_no_longer_be() -> Result<(), Failure> {
    let (network, execution) = in_doubt("")?;
    let doubt = network.stops(&execution, "doubt")?;
    network.world.run(&["revoke", &execution, "fetch"])?.exits(0)?;
    network.world.resolve(&doubt, "\"again\"")?.exits(0)?;
    network.world.completes(&execution, "denied\n")?;
    network.had(1)
}

#[test]
fn d04_a_get_is_sent_again() -> Result<(), Failure> {
    let network = plant("")?;
    let child = network.start(GUEST, GET)?;
    let execution = network.kill_at(child, 2)?;
    network.servers.listed().release();
    let output = "200 ok from listed\n200 GET /hold [accept-encoding: gzip; host: {{listed}}] \n";
    network.world.completes(&execution, &network.servers.fill_in(output))?;
    network.had(3)
}

#[test]
fn d04_an_idempotent_post_is_sent_again_with_its_key() -> Result<(), Failure> {
    let (network, execution) = in_doubt("effect = \"idempotent\"\n")?;
    network.servers.listed().release();
    network.world.resume(&execution)?.exits(0)?;
    network.had(2)?;
    let hits = network.servers.listed().log().hits;
    let keys: Vec<&str> = hits.iter().flat_map(|hit| hit.all("idempotency-key")).collect();
    ensure!(keys.len() == 2 && keys[0] == keys[1] && keys[0].len() > 30, "the keys are {keys:?}");
    Ok(())
}

#[test]
fn d04_an_approval_is_used_once() -> Result<(), Failure> {
    let rule =
        "[[rule]]\nname = \"posts\"\ncapability = \"fetch\"\nwhen = 'request.method != \"GET\"'\nthen = \"ask\"\n";
    for effect in ["", "effect = \"idempotent\"\n"] {
        let network = plant(&format!("{effect}{rule}"))?;
        let asked = one_pending(&network.run(GUEST, POST)?, "ask")?;
        network.had(0)?;
        network.decide(&asked, "once")?.exits(0)?;
        let execution = network.execution()?;
        let child = network.world.start(&["resume", &execution, "--json"])?;
        network.kill_at(child, 1)?;
        // It was sent: the approval is used up, and whether it happened nobody knows.
        let doubt = network.stops(&execution, "doubt")?;
        network.had(1)?;
        network.world.resolve(&doubt, "\"again\"")?.exits(0)?;
        network.servers.listed().release();
        network.world.resume(&execution)?.exits(0)?;
        network.had(2)?;
    }
    Ok(())
}

/// A replay performs nothing, and needs no server.
#[test]
fn a_replay_sends_nothing() -> Result<(), Failure> {
    let network = plant("")?;
    network.servers.listed().release();
    network.run(GUEST, POST)?.exits(0)?;
    let execution = network.execution()?;
    network.had(1)?;
    network.world.run(&["replay", &execution])?.exits(0)?;
    network.world.completes(&execution, &network.servers.fill_in(ECHO))?;
    network.had(1)?;
    let Network { world, servers } = network;
    drop(servers);
    world.run(&["replay", &execution])?.exits(0)?;
    Ok(())
}

/// The process ends with the request, whose time is bounded, and takes nothing back.
#[test]
fn canceling_during_a_request() -> Result<(), Failure> {
    let network = Network::plant(&POLICY.replace("30_000", "3_000"))?;
    let mut child = network.start(GUEST, POST)?;
    network.arrives(1)?;
    let execution = network.execution()?;
    network.world.run(&["cancel", &execution])?.exits(0)?;
    let since = Instant::now();
    let status = child.wait().map_err(because("waiting for it"))?;
    ensure!(status.code() == Some(76), "it ended with {status}");
    ensure!(since.elapsed() < Duration::from_secs(5), "it took {:?}", since.elapsed());
    network.had(1)
}
