//! The flags for the network and databases: without a policy file they are the policy, over one they only narrow (P03).

use parole_tests::ensure;
use parole_tests::fixture::network::Network;
use parole_tests::fixture::play::guest;
use parole_tests::fixture::{Failure, Ran};

const POLICY: &str = r#"
level = "trusted"

[grant.fetch]
origins = ["http://{{listed}}", "http://{{second}}"]
methods = ["GET", "POST"]

[grant.query.databases]
inventory = { sqlite = "./data/inventory.db" }
"#;

fn run(network: &Network, fixture: &str, flags: &[&str], invoke: &str) -> Result<Ran, Failure> {
    let guest = guest(fixture).display().to_string();
    let flags: Vec<String> = flags.iter().map(|flag| network.servers.fill_in(flag)).collect();
    let invoke = network.servers.fill_in(invoke);
    let mut arguments = vec!["run", &guest, "--json", "--invoke", &invoke];
    arguments.extend(flags.iter().map(String::as_str));
    network.world.run(&arguments)
}

fn says(network: &Network, fixture: &str, flags: &[&str], invoke: &str, output: &str) -> Result<(), Failure> {
    let ran = run(network, fixture, flags, invoke)?;
    let json = ran.exits(0)?.json()?;
    ensure!(json["output"] == network.servers.fill_in(output), "it is not {output:?}\n{}", ran.report());
    Ok(())
}

const BOTH: &str = r#"get-all(["http://{{listed}}/ok", "http://{{second}}/ok", "http://{{canary}}/"])"#;

#[test]
fn flags_are_the_policy() -> Result<(), Failure> {
    let network = Network::plant(POLICY)?;
    let (ok, second, no) = ("200 ok from listed\n", "200 ok from second\n", "denied\n");
    let gets = |flags: &[&str], output: &[&str]| says(&network, "fetch-listed", flags, BOTH, &output.concat());
    gets(&[], &[no, no, no])?;
    gets(&["--allow-net", "http://{{listed}}"], &[ok, no, no])?;
    gets(&["--allow-net", "http://{{listed}},http://{{second}}"], &[ok, second, no])?;
    gets(&["--allow-net", "http://{{listed}}", "--allow-net", "http://{{second}}"], &[ok, second, no])?;
    gets(&["--allow-net", "http://{{listed}}", "--level", "trusted"], &[ok, no, no])?;
    let post = r#"send("POST", "http://{{listed}}/ok", [], none)"#;
    says(&network, "fetch-listed", &["--allow-net", "http://{{listed}}"], post, no)?;
    network.servers.check(true)
}

#[test]
fn flags_only_narrow_a_policy() -> Result<(), Failure> {
    let network = Network::plant(POLICY)?;
    network.world.plant_databases()?;
    let (ok, no) = ("200 ok from listed\n", "denied\n");
    let file = ["--policy", "policy.toml"];
    let with = |flags: &[&'static str]| [&file[..], flags].concat();
    let narrow = with(&["--allow-net", "http://{{listed}}"]);
    says(&network, "fetch-listed", &narrow, BOTH, &[ok, no, no].concat())?;
    for flags in [
        &["--allow-net", "http://{{canary}}"][..],
        &["--allow-net", "http://{{listed}},http://{{canary}}"],
        &["--allow-net", "https://{{listed}}"],
        &["--allow-net", "http://127.0.0.1"],
        &["--allow-net", "ws://{{listed}}"],
        &["--level", "unrestricted"],
        &["--database", "other=sqlite:data/inventory.db"],
        &["--database", "inventory=sqlite:outside/secret.db"],
        &["--database", "inventory=sqlite:data/inventory.db?mode=rw"],
    ] {
        run(&network, "fetch-listed", &with(flags), BOTH)?.exits(2)?;
    }
    network.servers.check(true)
}

#[test]
fn flags_that_cannot_be_read() -> Result<(), Failure> {
    let network = Network::plant(POLICY)?;
    for origin in [
        "",
        ",",
        "http://{{listed}},",
        "{{listed}}",
        "127.0.0.1",
        "*",
        "http://*",
        "http://{{listed}}/ok",
        "http://{{listed}}/",
        "http://user:password@{{listed}}",
        "http://{{listed}}?a",
        "http://{{listed}}#a",
        "ftp://{{listed}}",
        "http://",
        "http://127.0.0.1:0",
        "http://127.0.0.1:65536",
        "http://2130706433",
        "http://[::1",
        "http://a b",
        "file:///etc/passwd",
    ] {
        run(&network, "fetch-listed", &["--allow-net", origin], BOTH)?.exits(2)?;
    }
    for database in [
        "",
        "inventory",
        "=sqlite:data/inventory.db",
        "inventory=",
        "inventory=sqlite:",
        "inventory=data/inventory.db",
        "inventory=mysql://user@localhost/db",
        "inventory=postgres://user:secret@localhost/db",
        "inventory=postgres://user@localhost/db?password=secret",
        "inventory=sqlite:data/inventory.db?mode=rwx",
        "inventory=sqlite:data/inventory.db?mod=rw",
        "inventory=sqlite:data/inventory.db?mode=ro&mode=rw",
        "inventory=env:",
        "a b=sqlite:data/inventory.db",
    ] {
        let select = r#"query("inventory", "SELECT 1", [])"#;
        let ran = run(&network, "query-select", &["--level", "trusted", "--database", database], select)?;
        ran.exits(2)?;
    }
    network.servers.check(true)
}

#[test]
fn databases_by_flags() -> Result<(), Failure> {
    let network = Network::plant(POLICY)?;
    network.world.plant_databases()?;
    let select = r#"query("inventory", "SELECT count FROM item WHERE id = 1", [])"#;
    let update = r#"query("inventory", "UPDATE item SET count = 4 WHERE id = 1", [])"#;
    let read = ["--level", "trusted", "--database", "inventory=sqlite:data/inventory.db"];
    let write = ["--level", "trusted", "--database", "inventory=sqlite:data/inventory.db?mode=rw"];
    says(&network, "query-select", &read, select, "count|\n3|\n")?;
    says(&network, "query-select", &read, update, "denied\n")?;
    says(&network, "query-select", &write, update, "\n")?;
    says(&network, "query-select", &read, select, "count|\n4|\n")?;
    // At the usual level it cannot be granted.
    run(&network, "query-select", &read[2..], select)?.exits(2)?;
    Ok(())
}
