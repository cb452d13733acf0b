//! Flags about the network and databases, and what they grant to and revoke from an execution.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod common;

use std::path::Path;

use common::{CATALOGUE, names, policy};
use parole_policy::{FlagError, Flags, Level, SecurityPolicy, Then};

/// Flags from words: `level=X block=X read=X write=X net=X db=X timeout=X`; other words name capabilities.
fn flags(words: &str) -> (Flags, Vec<String>) {
    let (mut flags, mut names) = (Flags::default(), Vec::new());
    for word in words.split_whitespace() {
        let Some((name, value)) = word.split_once('=') else {
            names.push(word.to_owned());
            continue;
        };
        let value = value.to_owned();
        match name {
            "level" => flags.level = Some(value.parse().unwrap()),
            "block" => flags.block.push(value),
            "read" => flags.allow_read.push(value),
            "write" => flags.allow_write.push(value),
            "net" => flags.allow_net.push(value),
            "db" => flags.databases.push(value),
            "timeout" => flags.timeouts.push(value),
            _ => panic!("{name}"),
        }
    }
    (flags, names)
}

fn say(result: Result<SecurityPolicy, FlagError>) -> String {
    let policy = match result {
        Err(error) => return error.to_string(),
        Ok(policy) => policy,
    };
    assert_eq!(policy.validate(&CATALOGUE), Ok(()));
    assert_eq!(SecurityPolicy::from_json(&policy.to_json().unwrap()).unwrap(), policy);
    let mut words: Vec<String> = Vec::new();
    for (name, grant) in &policy.grants {
        words.extend(grant.dirs.iter().map(|dir| format!("{name}:{}={}", dir.guest, dir.host.display())));
        words.extend(grant.origins.iter().map(|origin| format!("{name}:{origin}")));
        words.extend(grant.databases.iter().map(|(own, database)| format!("{name}:{own}={database}")));
    }
    words.extend(policy.revoked.iter().map(|name| format!("-{name}")));
    words.join(", ")
}

#[test]
fn flags_are_the_policy() {
    let alone = |words: &str| say(SecurityPolicy::from_flags(&flags(words).0, Path::new("/cwd"), &CATALOGUE));
    for (words, expect) in [
        ("net=https://a.test", "fetch:https://a.test"),
        ("net=https://a.test,http://127.0.0.1:8080", "fetch:https://a.test, fetch:http://127.0.0.1:8080"),
        ("net=https://a.test net=https://*.b.test:81", "fetch:https://a.test, fetch:https://*.b.test:81"),
        ("level=trusted net=wss://a.test,https://a.test", "fetch:https://a.test, websocket:wss://a.test"),
        ("net=wss://a.test", "--allow-net wss://a.test: `websocket` needs level `trusted`; this policy has `standard`"),
        (
            "level=restricted net=https://a.test",
            "--allow-net https://a.test: `fetch` needs level `standard`; this policy has `restricted`",
        ),
        ("block=fetch net=https://a.test", "--allow-net https://a.test: `fetch` is in the block list of this policy"),
        ("net=a.test", "--allow-net a.test: `a.test` names no scheme"),
        ("net=https://a.test/", "--allow-net https://a.test/: an origin has no path"),
        ("net=https://a.test,", "--allow-net : `` names no scheme"),
        ("net=https://a.test,https://a.test", "--allow-net https://a.test: origin `https://a.test` is granted twice"),
        ("level=trusted db=inv=sqlite:./inv.db", "query:inv=sqlite:/cwd/inv.db (ro)"),
        ("level=trusted db=inv=sqlite:/inv.db?mode=rw", "query:inv=sqlite:/inv.db (rw)"),
        ("level=trusted db=inv=sqlite:a=b.db?mode=ro", "query:inv=sqlite:/cwd/a=b.db (ro)"),
        ("level=trusted db=o=postgres://u@h/d", "query:o=postgres://u@h/d (ro)"),
        ("level=trusted db=o=postgres://u@h/d?mode=rw", "query:o=postgres://u@h/d (rw)"),
        (
            "level=trusted db=o=postgres://u@h/d?sslmode=require&mode=rw",
            "query:o=postgres://u@h/d?sslmode=require (rw)",
        ),
        ("level=trusted db=o=env:ORDERS?mode=rw", "query:o=env:ORDERS (rw)"),
        ("level=trusted db=o=env:A db=p=env:B", "query:o=env:A (ro), query:p=env:B (ro)"),
        ("db=o=env:A", "--database o: `query` needs level `trusted`; this policy has `standard`"),
        ("level=trusted db=o=env:A db=o=env:B", "--database o: a database of that name is granted already"),
        ("level=trusted db=oenv:A", "--database : there is no `=` in it"),
        (
            "level=trusted db=O=env:A",
            "--database O: `O` is not a name for a database: 1 to 64 of a-z, 0-9, `_` and `-`",
        ),
        ("level=trusted db=o=A", "--database o: it is not known what kind of database this is"),
        ("level=trusted db=o=env:A-B", "--database o: `A-B` is not the name of an environment variable"),
        ("level=trusted db=o=env:A?mode=w", "--database o: unknown mode `w`"),
        ("level=trusted db=o=env:A?mode=rw&mode=ro", "--database o: the mode stands twice"),
        ("level=trusted db=o=sqlite:a?b", "--database o: `?` says something unknown"),
        ("level=trusted db=o=sqlite:", "--database o: the host path is empty"),
        ("level=trusted db=o=postgres://u:s3cret@h/d", "--database o: the URL holds a password"),
        (
            "level=trusted db=o=postgres://u@h/d?password=s3cret",
            "--database o: the URL has an unknown parameter `password`",
        ),
    ] {
        assert_eq!(alone(words), expect, "{words}");
    }
}

const FILE: &str = "level = \"trusted\"
[grant.read_file]
dirs = { \"/data\" = \"data\", \"/in\" = \"/srv/in\" }
[grant.fetch]
origins = [\"https://a.test\", \"https://*.b.test\", \"http://127.0.0.1:8080\"]
methods = [\"GET\", \"POST\"]
[grant.websocket]
origins = [\"wss://a.test\"]
[grant.query.databases]
inv = { sqlite = \"inv.db\" }
orders = { url_env = \"ORDERS\", mode = \"rw\" }
[[rule]]
name = \"posts\"
capability = \"fetch\"
when = 'request.method == \"POST\"'
then = \"ask\"
";
const DIRS: &str = "read_file:/data=/p/data, read_file:/in=/srv/in";
const NET: &str = "fetch:https://a.test, fetch:https://*.b.test, fetch:http://127.0.0.1:8080";
const QUERY: &str = "query:inv=sqlite:/p/inv.db (ro), query:orders=env:ORDERS (rw)";
const SOCKET: &str = "websocket:wss://a.test";

#[test]
fn flags_narrow_a_file() {
    let narrow = |words: &str| say(policy(FILE).narrow(&flags(words).0, Path::new("/p"), &CATALOGUE));
    let net = "`https://a.test`, `https://*.b.test`, `http://127.0.0.1:8080` for `fetch`";
    for (words, expect) in [
        ("", format!("{NET}, {QUERY}, {DIRS}, {SOCKET}")),
        // Asking for less of the network asks for less of all of it.
        ("net=https://a.test", format!("fetch:https://a.test, {QUERY}, {DIRS}")),
        ("net=https://x.b.test", format!("fetch:https://x.b.test, {QUERY}, {DIRS}")),
        ("net=https://*.b.test,wss://a.test", format!("fetch:https://*.b.test, {QUERY}, {DIRS}, {SOCKET}")),
        ("net=wss://a.test", format!("{QUERY}, {DIRS}, {SOCKET}")),
        ("net=https://c.test", format!("--allow-net https://c.test: the policy file has {net}")),
        ("net=https://b.test", format!("--allow-net https://b.test: the policy file has {net}")),
        ("net=https://y.x.b.test", format!("--allow-net https://y.x.b.test: the policy file has {net}")),
        ("net=https://*.x.b.test", format!("--allow-net https://*.x.b.test: the policy file has {net}")),
        ("net=https://*.a.test", format!("--allow-net https://*.a.test: the policy file has {net}")),
        ("net=http://a.test", format!("--allow-net http://a.test: the policy file has {net}")),
        ("net=https://a.test:444", format!("--allow-net https://a.test:444: the policy file has {net}")),
        ("net=https://a.test,https://c.test", format!("--allow-net https://c.test: the policy file has {net}")),
        ("net=wss://b.test", "--allow-net wss://b.test: the policy file has `wss://a.test` for `websocket`".to_owned()),
        ("db=inv=sqlite:inv.db", format!("{NET}, query:inv=sqlite:/p/inv.db (ro), {DIRS}, {SOCKET}")),
        ("db=orders=env:ORDERS", format!("{NET}, query:orders=env:ORDERS (ro), {DIRS}, {SOCKET}")),
        ("db=orders=env:ORDERS?mode=rw", format!("{NET}, query:orders=env:ORDERS (rw), {DIRS}, {SOCKET}")),
        (
            "db=inv=sqlite:inv.db?mode=rw",
            "--database inv: the policy file has `inv` as sqlite:/p/inv.db (ro)".to_owned(),
        ),
        ("db=inv=sqlite:other.db", "--database inv: the policy file has `inv` as sqlite:/p/inv.db (ro)".to_owned()),
        ("db=orders=env:OTHER", "--database orders: the policy file has `orders` as env:ORDERS (rw)".to_owned()),
        ("db=new=env:ORDERS", "--database new: the policy file has `inv`, `orders`".to_owned()),
        ("level=standard", format!("{NET}, {DIRS}")),
        ("block=fetch", format!("{QUERY}, {DIRS}, {SOCKET}")),
        (
            "level=standard db=inv=sqlite:inv.db",
            "--database inv: `query` needs level `trusted`; this policy has `standard`".to_owned(),
        ),
    ] {
        assert_eq!(narrow(words), expect, "{words}");
    }
    let empty = policy("level = \"trusted\"").narrow(&flags("net=https://a.test").0, Path::new("/p"), &CATALOGUE);
    assert_eq!(say(empty), "--allow-net https://a.test: the policy file has no origins for `fetch`");
    let empty = policy("level = \"trusted\"").narrow(&flags("db=a=env:A").0, Path::new("/p"), &CATALOGUE);
    assert_eq!(say(empty), "--database a: the policy file has no databases");
    let kept = policy(FILE).narrow(&flags("net=https://a.test").0, Path::new("/p"), &CATALOGUE).unwrap();
    assert_eq!(kept.rules, policy(FILE).rules);
    assert_eq!(kept.grants["fetch"].methods.len(), 2);
}

#[test]
fn granting_adds() {
    let granted = |policy: &SecurityPolicy, words: &str| {
        let (flags, names) = flags(words);
        policy.granted(&flags, &names, Path::new("/cwd"), &CATALOGUE)
    };
    let file = policy(FILE);
    let all = format!("{NET}, {QUERY}, {DIRS}, {SOCKET}");
    for (words, expect) in [
        ("", all.clone()),
        ("net=https://c.test", format!("{NET}, fetch:https://c.test, {QUERY}, {DIRS}, {SOCKET}")),
        // Again the same is no error: whoever asks twice has it.
        ("net=https://a.test", all.clone()),
        ("net=ws://127.0.0.1:9000", format!("{all}, websocket:ws://127.0.0.1:9000")),
        ("read=/new=new", format!("{NET}, {QUERY}, {DIRS}, read_file:/new=/cwd/new, {SOCKET}")),
        ("read=/data=/p/data", all.clone()),
        ("read=/data=/elsewhere", "--allow-read /data=/elsewhere: guest path `/data` is granted twice".to_owned()),
        ("write=/out=/o", format!("{all}, write_file:/out=/o")),
        ("db=x=env:X", format!("{NET}, {QUERY}, query:x=env:X (ro), {DIRS}, {SOCKET}")),
        ("db=orders=env:ORDERS?mode=rw", all.clone()),
        ("db=inv=sqlite:/p/inv.db?mode=rw", "--database inv: a database of that name is granted already".to_owned()),
        ("fetch", all.clone()),
        ("fetsh", "grant fetsh: unknown capability `fetsh`".to_owned()),
        ("level=unrestricted", "--level unrestricted: the level of an execution cannot be changed".to_owned()),
        ("block=print", "--block print: the block list of an execution cannot be changed".to_owned()),
        ("timeout=input=1s", "--timeout input=1s: the timeouts of an execution cannot be changed".to_owned()),
    ] {
        assert_eq!(say(granted(&file, words)), expect, "{words}");
    }
    // Level and block list stay.
    let standard = SecurityPolicy::new(Level::Standard).block("write_file");
    for (words, expect) in [
        ("net=wss://a.test", "--allow-net wss://a.test: `websocket` needs level `trusted`; this policy has `standard`"),
        ("db=a=env:A", "--database a: `query` needs level `trusted`; this policy has `standard`"),
        ("query", "grant query: `query` needs level `trusted`; this policy has `standard`"),
        ("write=/o=/o", "--allow-write /o=/o: `write_file` is in the block list of this policy"),
        ("write_file", "grant write_file: `write_file` is in the block list of this policy"),
        ("net=https://a.test", "fetch:https://a.test"),
    ] {
        assert_eq!(say(granted(&standard, words)), expect, "{words}");
    }
    // What is granted is not revoked any more.
    let (none, names) = flags("fetch query read_file");
    let revoked = file.revoked_by(&none, &names, Path::new("/cwd"), &CATALOGUE).unwrap();
    for (words, left) in [
        ("fetch", "-query, -read_file"),
        ("fetch,query", "-read_file"),
        ("fetch query read_file", ""),
        ("net=https://a.test", "-query, -read_file"),
        ("db=orders=env:ORDERS?mode=rw", "-fetch, -read_file"),
        ("read=/in=/srv/in", "-fetch, -query"),
    ] {
        let left = if left.is_empty() { all.clone() } else { format!("{all}, {left}") };
        assert_eq!(say(granted(&revoked, words)), left, "{words}");
    }
}

#[test]
fn revoking_takes_away() {
    let file = policy(FILE);
    let revoked = |words: &str| {
        let (flags, names) = flags(words);
        file.revoked_by(&flags, &names, Path::new("/cwd"), &CATALOGUE)
    };
    let all = format!("{NET}, {QUERY}, {DIRS}, {SOCKET}");
    let nothing = "there is no such thing to revoke";
    let has = "`https://a.test`, `https://*.b.test`, `http://127.0.0.1:8080`";
    for (words, expect) in [
        ("", all.clone()),
        ("fetch", format!("{all}, -fetch")),
        ("fetch,websocket query", format!("{all}, -fetch, -query, -websocket")),
        ("print", format!("{all}, -print")),
        ("fetch fetch", "revoke fetch: `fetch` is revoked already".to_owned()),
        ("fetsh", "revoke fetsh: unknown capability `fetsh`".to_owned()),
        (
            "net=https://a.test",
            format!("fetch:https://*.b.test, fetch:http://127.0.0.1:8080, {QUERY}, {DIRS}, {SOCKET}"),
        ),
        ("net=https://*.b.test,http://127.0.0.1:8080", format!("fetch:https://a.test, {QUERY}, {DIRS}, {SOCKET}")),
        ("net=wss://a.test", format!("{NET}, {QUERY}, {DIRS}")),
        ("net=https://x.b.test", format!("--allow-net https://x.b.test: {nothing}: `fetch` has {has}")),
        ("net=https://c.test", format!("--allow-net https://c.test: {nothing}: `fetch` has {has}")),
        ("net=wss://c.test", format!("--allow-net wss://c.test: {nothing}: `websocket` has `wss://a.test`")),
        ("db=inv", format!("{NET}, query:orders=env:ORDERS (rw), {DIRS}, {SOCKET}")),
        ("db=inv=anything", format!("{NET}, query:orders=env:ORDERS (rw), {DIRS}, {SOCKET}")),
        ("db=x", format!("--database x: {nothing}: `query` has `inv`, `orders`")),
        ("read=/in", format!("{NET}, {QUERY}, read_file:/data=/p/data, {SOCKET}")),
        ("read=in", format!("{NET}, {QUERY}, read_file:/data=/p/data, {SOCKET}")),
        ("read=/in/", format!("{NET}, {QUERY}, read_file:/data=/p/data, {SOCKET}")),
        ("read=/in=/srv/in", format!("{NET}, {QUERY}, read_file:/data=/p/data, {SOCKET}")),
        ("read=/in=/srv/other", format!("--allow-read /in=/srv/other: {nothing}: `read_file` has `/data`, `/in`")),
        ("read=/other", format!("--allow-read /other: {nothing}: `read_file` has `/data`, `/in`")),
        ("write=/in", format!("--allow-write /in: {nothing}: `write_file` has no directories")),
        ("level=sandbox", "--level sandbox: the level of an execution cannot be changed".to_owned()),
        ("block=print", "--block print: the block list of an execution cannot be changed".to_owned()),
    ] {
        let words: Vec<&str> = words.split_whitespace().collect();
        // A database is named without `=` here, so it is no flag of the helper above.
        let (flag, rest): (Vec<&str>, Vec<&str>) =
            words.iter().partition(|word| **word == "db=inv" || **word == "db=x");
        let (mut given, names) = flags(&rest.join(" "));
        given.databases.extend(flag.iter().map(|word| word.trim_start_matches("db=").to_owned()));
        let result = file.revoked_by(&given, &names, Path::new("/cwd"), &CATALOGUE);
        assert_eq!(say(result), expect, "{words:?}");
    }
    let sandbox = SecurityPolicy::new(Level::Sandbox);
    let (none, asked) = flags("fetch");
    let error = sandbox.revoked_by(&none, &asked, Path::new("/cwd"), &CATALOGUE);
    assert_eq!(say(error), "revoke fetch: `fetch` needs level `standard`; this policy has `sandbox`");
    // All of it can be taken away, and given back.
    let bare = revoked("net=https://a.test,https://*.b.test,http://127.0.0.1:8080 read=/in read=/data").unwrap();
    assert_eq!(names(bare.empty_scopes(&CATALOGUE)), ["read_file", "write_file", "fetch"]);
    let (back, _) = flags("net=https://a.test");
    assert!(bare.granted(&back, &[], Path::new("/cwd"), &CATALOGUE).is_ok());
    assert_eq!(bare.rules[0].then, Then::Ask);
}

/// A database file counts as a place that a guest may reach.
#[test]
fn databases_may_not_overlap_what_is_protected() {
    let protected: [(&str, &Path); 1] = [("the state directory", Path::new("/p/state"))];
    for (file, expect) in [
        ("state/parole.db", true),
        ("state", true),
        ("state2/x.db", false),
        ("x.db", false),
        ("/p/state/../x.db", false),
        ("/p/y/../state/x.db", true),
    ] {
        let policy = policy(&format!("level = \"trusted\"\n[grant.query.databases]\ninv = {{ sqlite = \"{file}\" }}"));
        let overlap = policy.overlap(&protected);
        assert_eq!(overlap.is_some(), expect, "{file}");
        if let Some(overlap) = overlap {
            assert_eq!((overlap.capability.as_str(), overlap.dir.guest.as_str()), ("query", "inv"));
        }
    }
}
