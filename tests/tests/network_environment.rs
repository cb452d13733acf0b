//! What the host has beside the policy (T5 to T7): its environment, its home directory and its own files lead a guest
//! nowhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use parole_tests::ensure;
use parole_tests::fixture::network::Network;
use parole_tests::fixture::{Failure, Ran, TIMEOUT, World, because, play};

/// Variables that other clients obey.
const VARIABLES: [&str; 13] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "ws_proxy",
    "WS_PROXY",
    "socks_proxy",
    "SOCKS_PROXY",
    "ftp_proxy",
    "CGI_HTTP_PROXY",
    "REQUEST_METHOD",
];

#[test]
fn t6_no_proxy_is_used() -> Result<(), Failure> {
    let network = Network::plant(
        r#"
level = "trusted"

[grant.fetch]
origins = ["http://{{listed}}", "http://localhost:{{listed:port}}"]
methods = ["GET", "POST"]
private = ["127.0.0.0/8"]

[grant.websocket]
origins = ["ws://{{listed}}"]
"#,
    )?;
    let calls = r#"send-all([("GET", "http://{{listed}}/ok", [], none), ("POST", "http://{{listed}}/ok", [], some("a")),
        ("GET", "http://localhost:{{listed:port}}/ok", [], none)])"#;
    let proxy = network.servers.fill_in("http://user:password@{{canary}}");
    for (guest, invoke, output) in [
        ("fetch-listed", calls, "200 ok from listed\n".repeat(3)),
        ("socket-listed", r#"listen("ws://{{listed}}/a")"#, "{{listed}} {{listed}} /a\n".to_owned()),
    ] {
        let (path, invoke) = (play::guest(guest), network.servers.fill_in(invoke));
        let mut command = network.world.parole()?;
        command.arg("run").arg(path).args([
            "--policy",
            "policy.toml",
            "--json",
            "--state",
            "state",
            "--invoke",
            &invoke,
        ]);
        command.envs(VARIABLES.map(|name| (name, proxy.as_str())));
        let ran = Ran::new(&mut command, None, TIMEOUT)?;
        let json = ran.exits(0)?.json()?;
        ensure!(json["output"] == network.servers.fill_in(&output), "it went elsewhere\n{}", ran.report());
    }
    network.had(4)
}

/// `.netrc` lies in the home directory of each world, with the canary; here it is one that would be used.
#[test]
fn t7_no_netrc_is_used() -> Result<(), Failure> {
    let network = Network::plant("level = \"standard\"\n\n[grant.fetch]\norigins = [\"http://{{listed}}\"]\n")?;
    let secret = network.world.canary.text();
    let netrc = format!("machine 127.0.0.1 login user password {secret}\ndefault login user password {secret}\n");
    for name in [".netrc", "_netrc"] {
        fs::write(network.world.path("home").join(name), &netrc).map_err(because(name))?;
    }
    let calls = r#"get-all(["http://{{listed}}/private", "http://{{listed}}/echo"])"#;
    network.run("fetch-listed", calls)?.exits(0)?;
    network.had(2)?;
    let sent = network.servers.listed().log().hits;
    ensure!(sent.iter().all(|hit| hit.header("authorization").is_empty()), "it was used: {sent:?}");
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(because(dir.display()))? {
        let path = entry.map_err(because(dir.display()))?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// A guest that could write the host's own files would be its host; reading them is no better.
#[test]
fn t5_no_file_of_the_host_is_a_database() -> Result<(), Failure> {
    let world = World::plant()?;
    world.plant_databases()?;
    let select = r#"query("inventory", "SELECT count(*) FROM item", [])"#;
    let run = |path: &str, mode: &str| {
        let entry = format!("inventory = {{ sqlite = \"{path}\", mode = \"{mode}\" }}");
        world.write_policy(&format!("level = \"trusted\"\n\n[grant.query.databases]\n{entry}\n"))?;
        world.invoke("query-select", select)
    };
    run("./data/inventory.db", "ro")?.exits(0)?;
    symlink("../state", world.path("data/state")).map_err(because("a link"))?;
    let mut paths: Vec<String> = Vec::new();
    for file in files(&world.path("state"))? {
        let below = file.strip_prefix(world.path("state")).map_err(because("a path"))?.display().to_string();
        paths.extend([format!("./state/{below}"), format!("./G/../state/./{below}"), format!("./data/state/{below}")]);
        paths.push(file.display().to_string());
    }
    ensure!(paths.len() >= 8, "the state has too few files: {paths:?}");
    symlink("../policy.toml", world.path("data/policy.db")).map_err(because("a link"))?;
    paths.extend(["./policy.toml".to_owned(), "./data/policy.db".to_owned()]);
    for path in &paths {
        for mode in ["ro", "rw"] {
            let ran = run(path, mode)?;
            ran.exits(2)?;
            let said = ran.err();
            let named = said.contains("state") || said.contains("policy file") || said.contains("link");
            ensure!(named, "it does not say why\n{}", ran.report());
        }
    }
    Ok(())
}

/// The password of a database comes from a variable, and goes to the database alone.
#[test]
fn t7_no_password_is_shown() -> Result<(), Failure> {
    let world = World::plant()?;
    world.write_policy("level = \"trusted\"\n\n[grant.query.databases]\ninventory = { url_env = \"ORDERS\" }\n")?;
    let secret = world.canary.text();
    // What no server can be reached by is told to the guest, what is no such URL to the operator before the start.
    let (guests, operators) = (0, 2);
    for (url, code) in [
        (format!("postgres://user:{secret}@127.0.0.1:1/orders"), guests),
        (format!("postgres://{secret}:{secret}@127.0.0.1:1/{secret}"), guests),
        (format!("postgres://user:{secret}@/orders"), operators),
        (format!("mysql://user:{secret}@127.0.0.1/orders"), operators),
        (format!("postgres://user:{secret}@127.0.0.1:99999/orders"), operators),
        (format!("postgres://user@127.0.0.1:1/orders?password={secret}"), operators),
        (secret.to_owned(), operators),
    ] {
        let guest = play::guest("query-select");
        let mut command = world.parole()?;
        command.arg("run").arg(guest).args(["--policy", "policy.toml", "--json", "--state", "state"]);
        command.args(["--invoke", r#"query("inventory", "SELECT 1", [])"#]).env("ORDERS", &url);
        let ran = Ran::new(&mut command, None, TIMEOUT)?;
        for bytes in [&ran.stdout, &ran.stderr] {
            ensure!(!world.canary.is_in(bytes), "{url} is shown\n{}", ran.report());
        }
        let json = ran.exits(code)?.json()?;
        let failed = json["output"] == "failed\n" || code == operators;
        ensure!(failed, "{url}: it did something else\n{}", ran.report());
    }
    world.state_is_clean()
}
