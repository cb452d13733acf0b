//! A denial is never shown as a success: what the guest is told, what the run reports and what the audit says agree.

use std::collections::BTreeMap;

use parole_tests::ensure;
use parole_tests::fixture::Failure;
use parole_tests::fixture::because;
use parole_tests::fixture::network::Network;
use parole_tests::netns_world::{file, wave};
use serde_json::Value;

/// Runs a guest and compares: so many lines of its output say `denied`, so many denials are reported, so many calls
/// were denied at last by the audit.
fn agrees(policy: &str, guest: &str, invoke: &str, denied: usize) -> Result<(), Failure> {
    let network = Network::plant(policy)?;
    network.world.plant_databases()?;
    let ran = network.run(guest, invoke)?;
    let json = ran.exits(0)?.json()?;
    let told = json["output"].as_str().unwrap_or_default().lines().filter(|line| *line == "denied").count();
    ensure!(told == denied, "the guest was told of {told} denials, not {denied}\n{}", ran.report());
    let reported = json["denied"].as_array().map_or(0, Vec::len);
    let audit = network.world.run(&["journal", &network.execution()?, "--audit"])?;
    let text = audit.exits(0)?.out();
    let mut last = BTreeMap::new();
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).map_err(because(format!("a line of the audit: {line}")))?;
        let (refused, told) =
            (record["verdict"] == "deny", |key: &str| record[key].as_str().is_some_and(|t| !t.is_empty()));
        ensure!(!refused || (told("reason") && told("argument")), "a denial without its reason or argument: {line}");
        last.insert(record["step"].as_u64(), refused);
    }
    let audited = last.values().filter(|denied| **denied).count();
    ensure!(
        reported == denied && audited == denied,
        "{denied} denials: {reported} are reported, {audited} are in the audit\n{}\n{text}",
        ran.report()
    );
    Ok(())
}

const NET: &str = r#"
level = "trusted"

[grant.fetch]
origins = ["http://{{listed}}", "http://localhost:{{listed:port}}"]

[grant.websocket]
origins = ["ws://localhost:{{listed:port}}"]
"#;
const DATABASE: &str = r#"
level = "trusted"

[grant.query.databases]
inventory = { sqlite = "./data/inventory.db", mode = "ro" }
"#;

#[test]
fn audit_of_an_origin() -> Result<(), Failure> {
    agrees(NET, "fetch-listed", r#"get-all(["http://{{listed}}/ok", "http://{{canary}}/", "ftp://a/"])"#, 2)
}

#[test]
fn audit_of_an_address() -> Result<(), Failure> {
    agrees(NET, "fetch-listed", r#"get("http://localhost:{{listed:port}}/ok")"#, 1)?;
    agrees(NET, "socket-listed", r#"listen("ws://localhost:{{listed:port}}/ok")"#, 1)
}

/// A rule that allows the call says nothing about where its name leads.
#[test]
fn audit_of_an_address_under_a_rule() -> Result<(), Failure> {
    let rules = ["fetch", "websocket"]
        .map(|name| format!("\n[[rule]]\nname = \"{name}\"\ncapability = \"{name}\"\nthen = \"allow\"\n"));
    let policy = format!("{NET}{}", rules.concat());
    agrees(&policy, "fetch-listed", r#"get("http://localhost:{{listed:port}}/ok")"#, 1)?;
    agrees(&policy, "socket-listed", r#"listen("ws://localhost:{{listed:port}}/ok")"#, 1)
}

#[test]
fn audit_of_a_redirect() -> Result<(), Failure> {
    agrees(NET, "fetch-listed", r#"get("http://{{listed}}/redirect/302?http://{{canary}}/")"#, 1)
}

#[test]
fn audit_of_a_redirect_to_an_address() -> Result<(), Failure> {
    agrees(NET, "fetch-listed", r#"get("http://{{listed}}/redirect/302?http://localhost:{{listed:port}}/ok")"#, 1)
}

#[test]
fn audit_of_a_database() -> Result<(), Failure> {
    agrees(DATABASE, "query-select", r#"query("other", "SELECT 1", [])"#, 1)
}

#[test]
fn audit_of_a_statement() -> Result<(), Failure> {
    agrees(
        DATABASE,
        "query-select",
        r#"query-all("inventory", ["SELECT 1", "DELETE FROM item", "ATTACH 'x' AS y"])"#,
        2,
    )
}

/// What `policy explain` says is what a guest gets: a part of the URL corpus, and the methods.
#[test]
fn explain_says_the_same() -> Result<(), Failure> {
    let network = Network::plant(&file("public.toml")?)?;
    let rows = file("public.tsv")?;
    let mut tried = 0;
    for line in rows.lines().filter(|line| !line.starts_with('#')).step_by(7) {
        let (wanted, url) = line.split_once('\t').ok_or("two columns")?;
        let url: String = serde_json::from_str(url).map_err(because(line))?;
        // An argument of a process holds no NUL; where names lead `explain` does not know.
        if url.contains('\0') || url.to_lowercase().contains("localhost") {
            continue;
        }
        let ran =
            network.world.parole()?.args(["policy", "explain", "policy.toml", "fetch", "GET", &url, "--json"]).output();
        let ran = ran.map_err(because("explain"))?;
        let json: Value = serde_json::from_slice(&ran.stdout).map_err(because(format!("explain {url:?}")))?;
        let verdict = if matches!(wanted, "denied" | "invalid") { "deny" } else { "allow" };
        ensure!(json["verdict"] == verdict, "{} is {wanted} in the corpus: {json}", wave(&url));
        tried += 1;
    }
    ensure!(tried > 40, "only {tried} rows were tried");
    Ok(())
}
