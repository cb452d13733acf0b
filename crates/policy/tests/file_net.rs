//! The keys of `[grant.fetch]`, `[grant.websocket]` and `[grant.query]`: a wrong value with its message, place and
//! help; the right one beside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod common;

use common::{Arguments, FetchArguments, capability, faults, headers, policy, target};
use parole_policy::{
    Database, GrantEffect, Host, MAX_DATABASES, MAX_METHODS, MAX_ORIGINS, Mode, Origin, Retry, Scheme, Source, Timeout,
    Verdict, decide,
};

fn check(toml: &str, expect: &[&str]) {
    assert_eq!(faults(toml), expect, "\n--- file:\n{toml}");
}

/// One origin of `fetch`; the faults without their place and key.
fn origin(text: &str) -> Vec<String> {
    let found = faults(&format!("[grant.fetch]\norigins = [\"{text}\"]"));
    found.into_iter().map(|fault| fault.replacen("grant.fetch.origins: ", "", 1)).collect()
}

#[test]
fn origins() {
    let list = |inside: &str| format!("[grant.fetch]\norigins = {inside}");
    check(&list("\"https://a.test\""), &["2:11 `grant.fetch.origins` must be a list, found text"]);
    check(&list("[1]"), &["2:12 `grant.fetch.origins` must be text in quotes, found an integer"]);
    check(&list("[]"), &[]);
    check(
        &list("[\"https://a.test\", \"https://A.test:443\"]"),
        &["2:30 grant.fetch.origins: origin `https://a.test` is granted twice"],
    );
    let many = |count: usize| {
        let all: Vec<String> = (0..count).map(|n| format!("\"https://h{n}.test\"")).collect();
        list(&format!("[{}]", all.join(", ")))
    };
    check(&many(MAX_ORIGINS), &[]);
    assert!(faults(&many(MAX_ORIGINS + 1))[0].ends_with("a grant may have 64 origins at most"));
    for good in [
        "http://a.test",
        "https://api.example.com",
        "https://api.example.com:8443",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
        "https://[2606:4700::1111]",
        "https://*.example.com",
        "https://*.a.example.com:444",
        "http://localhost",
        "https://B\u{dc}CHER.example",
        "https://xn--bcher-kva.example",
        "HTTPS://API.EXAMPLE.COM",
        "https://_x.example.com",
    ] {
        assert_eq!(origin(good), Vec::<String>::new(), "{good}");
    }
    let mut wrong = Vec::new();
    for (text, expect) in [
        ("", "2:13 `` names no scheme | write https://"),
        ("api.example.com", "2:13 `api.example.com` names no scheme | write https://api.example.com"),
        ("//api.example.com", "2:13 `//api.example.com` names no scheme | write https://api.example.com"),
        ("*", "2:13 `*` names no scheme | write https://*"),
        ("htps://a.test", "2:13 scheme `htps` is not known | did you mean `https`?"),
        ("ftp://a.test", "2:13 scheme `ftp` is not known | http, https, ws or wss"),
        ("file:///etc", "2:13 scheme `file` is not known | http, https, ws or wss"),
        ("wss://a.test", "2:12 the schemes of `fetch` are http and https, not `wss`"),
        ("https://a.test/", "2:27 an origin has no path | write https://a.test"),
        ("https://a.test/v1", "2:27 an origin has no path | write https://a.test"),
        ("https://a.test?x", "2:27 an origin has no query | write https://a.test"),
        ("https://a.test#x", "2:27 an origin has no fragment | write https://a.test"),
        (
            "https://u:p@a.test",
            "2:21 an origin holds no user or password | remove it: credentials have no place in a policy",
        ),
        (
            "https://@a.test",
            "2:21 an origin holds no user or password | remove it: credentials have no place in a policy",
        ),
        ("https://", "2:21 empty host"),
        ("https://:443", "2:21 empty host"),
        ("https://a.test:", "2:21 there is no port after the colon"),
        ("https://[::1]:", "2:21 there is no port after the colon"),
        ("https://a.test:0", "2:21 port 0 is not a port"),
        ("https://a.test:x", "2:21 invalid port number"),
        ("https://a.test:65536", "2:21 invalid port number"),
        ("https://a test", "2:22 an origin holds no ` `"),
        (" https://a.test", "2:13 an origin holds no ` `"),
        ("https://a.test\\n", "2:27 an origin holds no `\\n`"),
        ("https:\\\\\\\\a.test", "2:19 an origin holds no `\\\\`"),
        ("https://a.test.", "2:21 `a.test.` has an empty label | write https://a.test"),
        ("https://.a.test", "2:21 `.a.test` has an empty label | write https://.a.test"),
        ("https://a..test", "2:21 `a..test` has an empty label | write https://a..test"),
        ("https://a%2etest", "2:21 an origin holds no percent signs"),
        ("https://*", "2:21 `*` stands for one label, the first: `*.example.com`"),
        ("https://*.*.a.test", "2:23 `*` stands for one label, the first: `*.example.com`"),
        ("https://a.*.test", "2:21 `*` stands for one label, the first: `*.example.com`"),
        ("https://a*.test", "2:21 `*` stands for one label, the first: `*.example.com`"),
        (
            "https://*.com",
            "2:23 `*.com` would hold a whole top-level domain | a wildcard needs two labels after it: `*.example.com`",
        ),
        ("https://*.127.0.0.1", "2:23 a wildcard stands before a name, not before an address"),
        ("https://*.", "2:23 empty host"),
        ("http://127.1", "2:20 `127.1` is an odd spelling of 127.0.0.1 | write http://127.0.0.1"),
        ("http://2130706433:81", "2:20 `2130706433` is an odd spelling of 127.0.0.1 | write http://127.0.0.1:81"),
        ("http://0x7f.0.0.1", "2:20 `0x7f.0.0.1` is an odd spelling of 127.0.0.1 | write http://127.0.0.1"),
        ("http://[0:0::1]", "2:20 `[0:0::1]` is an odd spelling of [::1] | write http://[::1]"),
        ("http://[::ffff:127.0.0.1]", "2:20 this is a form of an IPv4 address | write http://127.0.0.1"),
        ("http://1.2.3.4.5", "2:20 invalid IPv4 address"),
        ("http://[::1", "2:20 invalid IPv6 address"),
        ("http://[fe80::1%25lo]", "2:20 an origin holds no percent signs"),
    ] {
        let found = origin(text);
        if !(found.len() == 1 && found[0].starts_with(expect)) {
            wrong.push(format!("{text}: {found:?}, not {expect}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(origin(&format!("https://{}", "a".repeat(600)))[0].ends_with("an origin is 512 bytes long at most"));
    let label = format!("https://{}.test", "a".repeat(64));
    assert!(origin(&label)[0].contains("253 characters at most, a label 63"), "{:?}", origin(&label));
    let policy = policy(&list("[\"https://B\u{fc}cher.example:443\", \"http://[::1]:80\", \"http://*.a.test:81\"]"));
    let origins: Vec<String> = policy.grants["fetch"].origins.iter().map(ToString::to_string).collect();
    assert_eq!(origins, ["https://xn--bcher-kva.example", "http://[::1]", "http://*.a.test:81"]);
    let host = Host::Wildcard("a.test".to_owned());
    assert_eq!(policy.grants["fetch"].origins[2], Origin { scheme: Scheme::Http, host, port: 81 });
}

/// N14: an entry is for `fetch` or for `websocket`, never for both.
#[test]
fn origins_of_websockets() {
    let file = |origin: &str| format!("level = \"trusted\"\n[grant.websocket]\norigins = [\"{origin}\"]");
    check(&file("wss://a.test"), &[]);
    check(&file("ws://127.0.0.1:9000"), &[]);
    check(
        &file("https://a.test"),
        &["3:12 grant.websocket.origins: the schemes of `websocket` are ws and wss, not `https`"],
    );
    check(
        "level = \"trusted\"\n[grant.websocket]\nmethods = [\"GET\"]",
        &["3:1 unknown key `grant.websocket.methods` | valid: origins, private, max_bytes, timeout_ms, ca"],
    );
}

#[test]
fn methods() {
    let file = |inside: &str| format!("[grant.fetch]\nmethods = {inside}");
    check(&file("[\"GET\", \"POST\", \"PATCH\", \"X-MINE\"]"), &[]);
    check(&file("\"GET\""), &["2:11 `grant.fetch.methods` must be a list, found text"]);
    check(
        &file("[]"),
        &[
            "2:11 `grant.fetch.methods` is empty | leave the key out for GET and HEAD; with no method nothing could be sent",
        ],
    );
    check(&file("[\"get\"]"), &["2:12 grant.fetch.methods: method `get` is not in capitals | write \"GET\""]);
    check(&file("[\"GET\", \"GET\"]"), &["2:19 grant.fetch.methods: method `GET` stands twice"]);
    for never in ["CONNECT", "TRACE", "TRACK", "connect", "Trace"] {
        check(
            &file(&format!("[\"{never}\"]")),
            &[&format!("2:12 grant.fetch.methods: method `{never}` is never allowed")],
        );
    }
    for bad in ["", " ", "GET ", "G ET", "GET,POST", "*", "G\u{c9}T", "GET\\n", "A/B", &"A".repeat(33)] {
        let found = faults(&file(&format!("[\"{bad}\"]")));
        // `*` is a token of HTTP, and a method of nobody.
        assert!(bad == "*" || found[0].contains("is not a method"), "{bad}: {found:?}");
    }
    let many = |count: usize| (0..count).map(|n| format!("\"M{n}\"")).collect::<Vec<_>>().join(", ");
    check(&file(&format!("[{}]", many(MAX_METHODS))), &[]);
    assert!(faults(&file(&format!("[{}]", many(MAX_METHODS + 1))))[0].ends_with("16 methods at most"));
}

/// N09: methods are compared exactly; none given are GET and HEAD; three are never allowed.
#[test]
fn methods_of_calls() {
    let said = |methods: &str, method: &str| {
        let policy = policy(&format!("[grant.fetch]\norigins = [\"https://a.test\"]\n{methods}"));
        let (url, none) = (target("https://a.test/"), headers(&[]));
        let request = FetchArguments { method, url: &url, headers: &none, body: None };
        match decide(&policy, 0, capability("fetch"), &Arguments::Fetch(&request)) {
            Verdict::Allow(_) => "allow".to_owned(),
            Verdict::Deny(denial) => format!("{:?}: {}", denial.kind, denial.remedy),
            Verdict::Ask(asked) => panic!("{asked:?}"),
        }
    };
    let own = "methods = [\"POST\"]";
    for (methods, method, expect) in [
        ("", "GET", "allow"),
        ("", "HEAD", "allow"),
        ("", "POST", "Denied: in the policy file: [grant.fetch] methods = [\"GET\", \"HEAD\", \"POST\"]"),
        ("", "get", "Denied: none: methods are spelled in capitals, and the guest has to spell it so"),
        ("", "CONNECT", "Denied: none: no policy allows this method"),
        ("", "TRACE", "Denied: none: no policy allows this method"),
        ("", "trace", "Denied: none: no policy allows this method"),
        ("", "TRACK", "Denied: none: no policy allows this method"),
        ("", "", "Invalid: none: no policy allows such a method"),
        ("", "GET ", "Invalid: none: no policy allows such a method"),
        ("", "GET\r\nX: y", "Invalid: none: no policy allows such a method"),
        ("", "GET /", "Invalid: none: no policy allows such a method"),
        (own, "POST", "allow"),
        (own, "GET", "Denied: in the policy file: [grant.fetch] methods = [\"POST\", \"GET\"]"),
        (own, "HEAD", "Denied: in the policy file: [grant.fetch] methods = [\"POST\", \"HEAD\"]"),
        (own, "post", "Denied: none: methods are spelled in capitals, and the guest has to spell it so"),
        (own, "OPTIONS", "Denied: in the policy file: [grant.fetch] methods = [\"POST\", \"OPTIONS\"]"),
    ] {
        assert_eq!(said(methods, method), expect, "{methods} {method}");
    }
    assert_eq!(said("", &"A".repeat(33)), "Invalid: none: no policy allows such a method");
}

#[test]
fn effect_retry_and_sizes() {
    let fetch = |line: &str| format!("[grant.fetch]\n{line}");
    check(&fetch("effect = \"once\""), &[]);
    check(&fetch("effect = \"idempotent\""), &[]);
    check(&fetch("effect = \"twice\""), &["2:10 grant.fetch.effect: unknown effect `twice` | valid: once, idempotent"]);
    check(&fetch("effect = true"), &["2:10 `grant.fetch.effect` must be text in quotes, found true or false"]);
    check(&fetch("retry = {}"), &[]);
    check(&fetch("retry = 3"), &["2:9 `grant.fetch.retry` must be a table, found an integer"]);
    check(
        &fetch("retry = { tries = 3 }"),
        &["2:11 unknown key `grant.fetch.retry.tries` | valid: attempts, backoff_ms, max_backoff_ms, jitter"],
    );
    check(
        &fetch("retry = { attempts = 0 }"),
        &["2:22 `grant.fetch.retry.attempts` is too small: 1 at least | 1 to 10"],
    );
    check(
        &fetch("retry = { attempts = 11 }"),
        &["2:22 `grant.fetch.retry.attempts` is too large: 10 at most | 1 to 10"],
    );
    check(
        &fetch("retry = { backoff_ms = 86_400_001 }"),
        &["2:24 `grant.fetch.retry.backoff_ms` is too large: 86400000 ms at most | 0 ms to 86400000 ms"],
    );
    check(
        &fetch("retry = { backoff_ms = 9, max_backoff_ms = 8 }"),
        &["2:9 grant.fetch.retry: `max_backoff_ms` is less than `backoff_ms`"],
    );
    check(
        &fetch("retry = { jitter = 1 }"),
        &["2:20 `grant.fetch.retry.jitter` must be true or false, found an integer"],
    );
    check(&fetch("via = \"worker\""), &["2:1 key `grant.fetch.via` is not known to this version of Parole yet"]);
    check(
        &fetch("allowed_hosts = []"),
        &[
            "2:1 unknown key `grant.fetch.allowed_hosts` | valid: origins, methods, private, max_bytes, timeout_ms, effect, retry, ca",
        ],
    );
    let file =
        policy("[grant.fetch]\nretry = { attempts = 5, backoff_ms = 60_000, jitter = false }\neffect = \"idempotent\"");
    let grant = &file.grants["fetch"];
    let retry = Retry { attempts: 5, backoff_ms: 60_000, max_backoff_ms: 60_000, jitter: false };
    assert_eq!((grant.retry, grant.effect), (Some(retry), GrantEffect::Idempotent));
    assert_eq!((grant.max_bytes, grant.timeout), (Some(4 << 20), Timeout::After(10_000)));
    let plain = policy("level = \"trusted\"\n[grant.fetch]\n[grant.query]\n[grant.websocket]");
    assert_eq!((plain.grants["fetch"].retry, plain.grants["fetch"].effect), (None, GrantEffect::Once));
    assert_eq!((plain.grants["query"].max_rows, plain.grants["fetch"].max_rows), (Some(10_000), None));
    assert_eq!(policy("[grant.fetch]\nretry = {}").grants["fetch"].retry, Some(Retry::default()));
    check(
        "level = \"trusted\"\n[grant.query]\nmax_rows = 10_000_001",
        &["3:12 `grant.query.max_rows` is too large: 10000000 at most | 0 to 10000000"],
    );
}

/// One database; the faults without their key.
fn database(inside: &str) -> Vec<String> {
    let found = faults(&format!("level = \"trusted\"\n[grant.query.databases]\ndb = {inside}"));
    found.into_iter().map(|fault| fault.replace("grant.query.databases", "…")).collect()
}

#[test]
fn databases() {
    for good in [
        "{ sqlite = \"./inventory.db\" }",
        "{ sqlite = \"/srv/inventory.db\", mode = \"ro\" }",
        "{ sqlite = \"a.db\", mode = \"rw\" }",
        "{ postgres = \"postgres://user@host:5432/db\", mode = \"rw\" }",
        "{ postgres = \"postgresql://host/db?sslmode=require&connect_timeout=3&application_name=x\" }",
        "{ postgres = \"postgres://user@127.0.0.1/db\" }",
        "{ postgres = \"postgres://user@[::1]:5432/db\" }",
        "{ url_env = \"ORDERS_URL\", mode = \"rw\" }",
    ] {
        assert_eq!(database(good), Vec::<String>::new(), "{good}");
    }
    let places = "one of sqlite = \"FILE\", postgres = \"URL\", url_env = \"VARIABLE\"";
    let shape = "write postgres://USER@HOST:PORT/NAME";
    let options = "valid: application_name, channel_binding, client_encoding, connect_timeout, fallback_application_name, \
                   gssencmode, keepalives, keepalives_count, keepalives_idle, keepalives_interval, load_balance_hosts, \
                   sslmode, sslnegotiation, sslrootcert, target_session_attrs, tcp_user_timeout";
    for (inside, expect) in [
        ("\"a.db\"", "3:6 `….db` must be a table, found text".to_owned()),
        ("{}", format!("3:1 `….db` has 0 places | {places}")),
        ("{ mode = \"rw\" }", format!("3:1 `….db` has 0 places | {places}")),
        ("{ sqlite = \"a\", url_env = \"B\" }", format!("3:1 `….db` has 2 places | {places}")),
        ("{ sqlit = \"a\" }", "3:8 unknown key `….db.sqlit` | did you mean `sqlite`?".to_owned()),
        ("{ sqlite = \"a\", mode = \"RW\" }", "3:29 ….db.mode: unknown mode `RW` | did you mean `rw`?".to_owned()),
        ("{ sqlite = \"a\", mode = \"write\" }", "3:29 ….db.mode: unknown mode `write` | valid: ro, rw".to_owned()),
        ("{ sqlite = 1 }", "3:17 `….db.sqlite` must be text in quotes, found an integer".to_owned()),
        ("{ sqlite = \"\" }", "3:17 ….db.sqlite: the host path is empty".to_owned()),
        ("{ sqlite = \":memory:\" }", "3:17 ….db.sqlite: `:memory:` is not a path: a database is a plain file".to_owned()),
        (
            "{ sqlite = \"file:a?mode=rwc\" }",
            "3:17 ….db.sqlite: `file:a?mode=rwc` is not a path: a database is a plain file".to_owned(),
        ),
        ("{ sqlite = \"dir/\" }", "3:17 ….db.sqlite: `dir/` is not a plain file".to_owned()),
        ("{ sqlite = \"a\\u0000\" }", "3:17 ….db.sqlite: host path `a\\0` holds a NUL character".to_owned()),
        ("{ url_env = \"A-B\" }", "3:18 ….db.url_env: `A-B` is not the name of an environment variable".to_owned()),
        ("{ url_env = \"\" }", "3:18 ….db.url_env: `` is not the name of an environment variable".to_owned()),
        ("{ url_env = \"1A\" }", "3:18 ….db.url_env: `1A` is not the name of an environment variable".to_owned()),
        (
            "{ postgres = \"postgres://u:s3cret@h/db\" }",
            "3:19 ….db.postgres: the URL holds a password | take it out, and name the URL by its environment variable: url_env = \"NAME\"".to_owned(),
        ),
        (
            "{ postgres = \"postgres://u@h/db?password=s3cret\" }",
            format!("3:19 ….db.postgres: the URL has an unknown parameter `password` | {options}"),
        ),
        (
            "{ postgres = \"postgres://u@h/db?sslmod=x\" }",
            "3:19 ….db.postgres: the URL has an unknown parameter `sslmod` | did you mean `sslmode`?".to_owned(),
        ),
        (
            "{ postgres = \"postgres://u@h/db?sslmode=never\" }",
            "3:19 ….db.postgres: the URL's `sslmode` has a value that is not taken | valid: disable, prefer, require, verify-full"
                .to_owned(),
        ),
        ("{ sqlite = \"a\", ca = [\"b\"] }", "3:27 ….db: `ca` is about a server, and this is a file".to_owned()),
        ("{ postgres = \"mysql://h/db\" }", format!("3:19 ….db.postgres: the URL of a database starts with `postgres://` | {shape}")),
        ("{ postgres = \"h/db\" }", format!("3:19 ….db.postgres: this is not a URL | {shape}")),
        ("{ postgres = \"postgres:///db\" }", format!("3:19 ….db.postgres: the URL of a database has a host and no fragment | {shape}")),
        ("{ postgres = \"postgres://h\" }", format!("3:19 ….db.postgres: the URL names no database | {shape}")),
        ("{ postgres = \"postgres://h/a/b\" }", format!("3:19 ….db.postgres: the URL names no database | {shape}")),
        (
            "{ postgres = \"postgres://h/a b\" }",
            format!("3:19 ….db.postgres: the URL holds characters that no URL has, or is too long | {shape}"),
        ),
    ] {
        assert_eq!(database(inside), [expect], "{inside}");
    }
    let named = |name: &str| {
        faults(&format!("level = \"trusted\"\n[grant.query.databases]\n\"{name}\" = {{ sqlite = \"a\" }}"))
    };
    for good in ["a", "my-db_2", &"n".repeat(64)] {
        assert!(named(good).is_empty(), "{good}");
    }
    for bad in ["", "A", "a.b", "a b", "a/b", "\u{e9}", &"n".repeat(65)] {
        assert!(named(bad)[0].contains("is not a name for a database: 1 to 64 of a-z"), "{bad}");
    }
    let many = |count: usize| {
        let lines: String = (0..count).map(|n| format!("d{n} = {{ sqlite = \"a\" }}\n")).collect();
        faults(&format!("level = \"trusted\"\n[grant.query.databases]\n{lines}"))
    };
    assert_eq!(many(MAX_DATABASES), Vec::<String>::new());
    assert!(many(MAX_DATABASES + 1)[0].ends_with("a grant may have 64 databases at most"));
    let policy =
        policy("level = \"trusted\"\n[grant.query.databases]\ninventory = { sqlite = \"./x/../inventory.db\" }");
    let source = Source::Sqlite("/p/inventory.db".into());
    assert_eq!(policy.grants["query"].databases["inventory"], Database { source, mode: Mode::Ro });
}

#[test]
fn queries_by_name() {
    let policy =
        policy("level = \"trusted\"\n[grant.query.databases]\norders = { url_env = \"ORDERS\", mode = \"rw\" }");
    let said = |database: &str| match decide(
        &policy,
        0,
        capability("query"),
        &Arguments::Query { database, sql: "select 1", parameters: &[] },
    ) {
        Verdict::Allow(permit) => format!("allow {}", permit.database.unwrap()),
        Verdict::Deny(denial) => format!("{} | {}", denial.reason, denial.remedy),
        Verdict::Ask(asked) => panic!("{asked:?}"),
    };
    assert_eq!(said("orders"), "allow env:ORDERS (rw)");
    assert_eq!(
        said("others"),
        "`query` has no database `others` | --database others=URL, or in the policy file: [grant.query.databases] others = { sqlite = \"FILE\" }"
    );
    assert_eq!(said("Orders"), "`query` has no database `Orders` | none: no policy can name this database");
    assert_eq!(said(""), "`query` has no database `` | none: no policy can name this database");
    let explain = |database| {
        let arguments = Arguments::Query { database, sql: "", parameters: &[] };
        policy.explain(capability("query"), &arguments).text
    };
    assert_eq!(explain("orders"), "allow query: env:ORDERS (rw) is granted as `orders` (line 3)");
    assert_eq!(explain("x"), "deny query: `query` has no database `x` (line 2)");
}

/// The files are read by whoever has hands for that, and what is wrong with one has its place.
#[test]
fn authorities() {
    use std::path::Path;

    use parole_policy::{Certificates, MAX_AUTHORITIES};

    let read = |path: &Path| match path.to_str() {
        Some("/srv/policies/ca.pem" | "/etc/other.pem") => {
            Ok(Certificates { digest: "sha256:00".into(), pem: path.display().to_string() })
        }
        _ => Err("it holds no certificate".to_owned()),
    };
    let parse = |toml: &str| {
        let parsed = parole_policy::SecurityPolicy::parse_with(
            toml,
            Path::new("/srv/policies"),
            &common::CATALOGUE,
            &parole_policy::Files { authority: &read, wit: &|_| Err("no".into()) },
        );
        parsed.map_err(|errors| {
            let text =
                |error: &parole_policy::PolicyError| format!("{}:{} {}", error.line, error.column, error.message);
            errors.iter().map(text).collect::<Vec<_>>()
        })
    };
    let good = "level = \"trusted\"\n[grant.fetch]\norigins = [\"https://a.test\"]\nca = [\"ca.pem\", \"/etc/other.pem\"]\n\
                [grant.websocket]\nca = [\"./ca.pem\"]\n[grant.query.databases]\n\
                main = { url_env = \"MAIN\", ca = [\"ca.pem\"] }\nplain = { url_env = \"PLAIN\", ca = [] }\n";
    let policy = parse(good).unwrap();
    let files = |name: &str| {
        let grant = &policy.grants[name];
        let all = grant.ca.iter().chain(grant.database_ca.values().flatten());
        all.map(|one| (one.file.display().to_string(), one.read.clone().unwrap().pem)).collect::<Vec<_>>()
    };
    let own = ("/srv/policies/ca.pem".to_owned(), "/srv/policies/ca.pem".to_owned());
    assert_eq!(files("fetch"), [own.clone(), ("/etc/other.pem".to_owned(), "/etc/other.pem".to_owned())]);
    assert_eq!((files("websocket"), files("query")), (vec![own.clone()], vec![own]));
    assert_eq!(policy.grants["query"].database_ca.len(), 1);
    // What is pinned is what was read, and a policy without says nothing of it.
    let pinned = policy.to_json().unwrap();
    assert_eq!(parole_policy::SecurityPolicy::from_json(&pinned).unwrap(), policy);
    let without = parse("[grant.fetch]\norigins = [\"https://a.test\"]").unwrap().to_json().unwrap();
    assert!(pinned.contains("sha256:00") && !without.contains("ca\"") && !without.contains("database_ca"), "{without}");

    let fetch = |list: &str| parse(&format!("[grant.fetch]\nca = {list}")).unwrap_err();
    assert_eq!(fetch("[\"ca.pem\", \"none.pem\"]"), ["2:17 grant.fetch.ca: it holds no certificate"]);
    assert_eq!(fetch("\"ca.pem\""), ["2:6 `grant.fetch.ca` must be a list, found text"]);
    assert_eq!(fetch("[\"\"]"), ["2:7 grant.fetch.ca: the host path is empty"]);
    assert_eq!(
        fetch("[\"ca.pem\", \"./ca.pem\"]"),
        ["2:17 grant.fetch.ca: the file `/srv/policies/ca.pem` stands twice"]
    );
    let many = |count: usize| {
        let all: Vec<String> = (0..count).map(|n| format!("\"{n}.pem\"")).collect();
        faults(&format!("[grant.fetch]\nca = [{}]", all.join(", ")))
    };
    assert_eq!(many(MAX_AUTHORITIES), Vec::<String>::new());
    assert!(many(MAX_AUTHORITIES + 1)[0].contains("there may be 16 files of authorities at most"));
    assert!(faults("[grant.read_file]\nca = []")[0].contains("unknown key `grant.read_file.ca`"));
}
