//! One thing has one form, however it is spelt, and so one verdict: `spellings.txt`, and spellings by chance.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{Arguments, FetchArguments, capability, plain, policy};
use parole_policy::{Denial, DenialKind, GuestPath, Headers, Looks, SecurityPolicy, Target, Verdict, decide};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn word(denial: &Denial) -> String {
    assert!(!denial.reason.is_empty() && !denial.remedy.is_empty(), "{denial:?}");
    match denial.kind {
        DenialKind::Invalid => "invalid".to_owned(),
        DenialKind::Denied if denial.reason.contains("in several ways") => "odd".to_owned(),
        DenialKind::Denied => "denied".to_owned(),
        DenialKind::TooLarge(_) => panic!("{denial:?}"),
    }
}

/// The name of a header where a rule looks at another part of the request.
fn beside(name: &str, looks: Looks) -> Result<String, Denial> {
    Headers::read([(name, "1")], looks).map(|headers| headers[0].0.clone())
}

fn form(what: &str, text: &str) -> String {
    let found = match what {
        "path" => GuestPath::read(text).map(|path| path.as_str().to_owned()),
        "url" => Target::read(text, Looks::ALL).map(|target| target.url().to_string()),
        "plain" => Target::read(text, Looks::default()).map(|target| target.url().to_string()),
        "header" => Headers::read(text.split_once(": "), Looks::ALL).map(|headers| {
            let (name, value) = &headers[0];
            format!("{name}: {value}")
        }),
        "beside a method" => beside(text, Looks { method: true, ..Looks::default() }),
        "beside a path" => beside(text, Looks { path: true, ..Looks::default() }),
        _ => panic!("{what}"),
    };
    found.unwrap_or_else(|denial| word(&denial))
}

#[test]
fn every_row_of_the_table() {
    let lines = include_str!("spellings.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (mut rows, mut wrong) = (0, Vec::new());
    for line in lines {
        let (what, rest) = line.split_once(" | ").unwrap();
        let (spelling, expect) = rest.rsplit_once(" | ").unwrap();
        let (found, expect) = (form(what, &plain(spelling)), plain(expect));
        if found != expect {
            wrong.push(format!("{line}: {found:?}"));
        }
        // A form is its own form.
        if !matches!(expect.as_str(), "odd" | "invalid" | "denied") && form(what, &expect) != expect {
            wrong.push(format!("{line}: its form has another one, {:?}", form(what, &expect)));
        }
        rows += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows > 150, "{rows}");
}

const FILES: &str = r#"
level = "standard"
[grant.read_file]
dirs = { "/data" = "/h", "/data/in" = "/i", "/a" = "/j" }
[grant.write_file]
dirs = { "/" = "/h" }
[[rule]]
name = "private"
capability = "read_file"
when = 'path.startsWith("/data/private/")'
then = "deny"
[[rule]]
name = "keys"
capability = "read_file"
when = 'path.endsWith("/key") || path in ["/a/b", "/data/in/x"]'
then = "ask"
[[rule]]
name = "deep"
capability = "write_file"
when = 'path.matches("^/(data|a)/[^/]+/")'
then = "ask"
"#;

fn said(verdict: &Verdict<'_>) -> String {
    match verdict {
        Verdict::Allow(permit) => format!("allow {:?} {:?} {}", permit.rule, permit.dir, permit.relative),
        Verdict::Ask(asked) => format!("ask {} {:?} {}", asked.rule, asked.permit.dir, asked.permit.relative),
        Verdict::Deny(denial) => format!("deny {:?} {:?}", denial.kind, denial.rule),
    }
}

fn of_file(policy: &SecurityPolicy, name: &str, text: &str) -> String {
    let path = match GuestPath::read(text) {
        Ok(path) => path,
        Err(denial) => return format!("deny {:?} {:?}", denial.kind, denial.rule),
    };
    let arguments = match name {
        "read_file" => Arguments::Read { path: &path },
        _ => Arguments::Write { path: &path, contents: &[] },
    };
    said(&decide(policy, 0, capability(name), &arguments))
}

/// The names of a path, and what stands between them: detours that lead back.
fn path_and_spelling() -> impl Strategy<Value = (String, String)> {
    let name = select(vec!["data", "private", "key", "in", "x", "a", "b", "...", "..a", "%2e", "\u{e4}"]);
    let detour = select(vec!["", "/", "//", "/.", "/./", "/q/..", "/q/r/../..", "/./q/./..//"]);
    let start = select(vec!["/", "", "./", "//", "/../", "../", "/q/../"]);
    (start, vec((name, detour), 1..6)).prop_map(|(start, parts)| {
        let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
        let mut spelling = start.to_owned();
        for (place, (name, detour)) in parts.iter().enumerate() {
            if place > 0 {
                spelling.push_str(detour);
                spelling.push('/');
            }
            spelling.push_str(name);
        }
        (format!("/{}", names.join("/")), spelling)
    })
}

const URLS: &str = r#"
level = "trusted"
[grant.fetch]
origins = ["https://a.test", "http://127.0.0.1:8080"]
methods = ["GET", "POST"]
[grant.websocket]
origins = ["wss://a.test"]
[[rule]]
name = "admin"
capability = "fetch"
when = 'target.path == "/admin" || target.path.startsWith("/admin/") || request.url.contains("secret")'
then = "deny"
[[rule]]
name = "token"
capability = "fetch"
when = 'target.query.contains("token=") && request.method == "GET"'
then = "ask"
[[rule]]
name = "header"
capability = "fetch"
when = 'request.headers.exists(h, h.name == "x-admin" && h.value == "yes")'
then = "deny"
[[rule]]
name = "socket"
capability = "websocket"
when = 'url.startsWith("wss://a.test/admin")'
then = "deny"
"#;

fn of_request(policy: &SecurityPolicy, name: &str, url: &str, headers: &[(String, String)]) -> String {
    let looks = policy.looks(capability(name));
    let refused = |denial: Denial| format!("deny {:?} {:?} {}", denial.kind, denial.rule, word(&denial));
    let url = match Target::read(url, looks) {
        Ok(url) => url,
        Err(denial) => return refused(denial),
    };
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let headers = match Headers::read(pairs, looks) {
        Ok(headers) => headers,
        Err(denial) => return refused(denial),
    };
    let request = FetchArguments { method: "GET", url: &url, headers: &headers, body: None };
    let arguments = match name {
        "fetch" => Arguments::Fetch(&request),
        _ => Arguments::Connect { url: &url },
    };
    format!("{} {}", said(&decide(policy, 0, capability(name), &arguments)), url.url())
}

/// Text of a URL, and a spelling of it in which any letter may be escaped.
fn part_and_spelling(letters: &'static str, most: usize) -> impl Strategy<Value = (String, String)> {
    let letter = select(letters.chars().collect::<Vec<_>>());
    vec((letter, 0..4_u8), 0..most).prop_map(|letters| {
        let plain: String = letters.iter().map(|(letter, _)| *letter).collect();
        let spell = |(letter, how): &(char, u8)| match how {
            1 => format!("%{:02x}", u32::from(*letter)),
            2 => format!("%{:02X}", u32::from(*letter)),
            _ => letter.to_string(),
        };
        (plain, letters.iter().map(spell).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the spelling of a path, it has the verdict of its name, and that name is what is opened.
    #[test]
    fn a_path_has_one_verdict((name, spelling) in path_and_spelling()) {
        let policy = policy(FILES);
        prop_assert_eq!(form("path", &spelling), name.as_str());
        for capability in ["read_file", "write_file"] {
            prop_assert_eq!(of_file(&policy, capability, &spelling), of_file(&policy, capability, &name));
        }
    }

    /// A path comes out without what could be read in two ways, or not at all.
    #[test]
    fn a_path_is_plain(spelling in "[/.a\\\\%\\x00-]{0,24}") {
        if let Ok(path) = GuestPath::read(&spelling) {
            let path = path.as_str();
            prop_assert!(path.starts_with('/') && !path.contains("//"));
            prop_assert!(path.split('/').all(|name| name != "." && name != ".."));
            prop_assert_eq!(form("path", path), path);
            prop_assert_eq!(form("path", &format!("q/../{spelling}")), path);
        }
    }

    /// Whatever the spelling of a URL, it has the verdict of its plain form, and that form is what is sent.
    #[test]
    fn a_url_has_one_verdict(
        first in select(vec!["admin", "x", "secret", "public"]),
        (name, spelt) in part_and_spelling("admin-._~@:$", 6),
        (key, spelt_key) in part_and_spelling("token/:@?", 8),
        detour in select(vec!["/", "/./", "/q/../", "/%2e/", "/q/%2E%2e/", "/../"]),
        host in select(vec!["https://a.test", "HTTPS://A.Test:443", "https://%61.test"]),
        header in select(vec!["X-Admin", "x-admin", "X-ADMIN"]),
        value in select(vec!["yes", " yes", "yes\t ", " no"]),
    ) {
        prop_assume!(name != "." && name != "..");
        let policy = policy(URLS);
        let plain = format!("https://a.test/{first}/{name}?{key}=1");
        let spelling = format!("{host}{detour}{first}/{spelt}?{spelt_key}=%31");
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        prop_assert_eq!(
            of_request(&policy, "fetch", &spelling, &pair(header, value)),
            of_request(&policy, "fetch", &plain, &pair("x-admin", value.trim())),
            "{}", spelling
        );
        let socket = |text: &str| text.replacen("https", "wss", 1).replacen("HTTPS", "WSS", 1);
        prop_assert_eq!(
            of_request(&policy, "websocket", &socket(&spelling), &[]),
            of_request(&policy, "websocket", &socket(&plain), &[]),
            "{}", spelling
        );
    }

    /// What a rule is shown of any URL at all holds none of the tricks.
    #[test]
    fn a_url_is_plain_or_refused(tail in "[/.a%25fFcCeE0;+\\[?&=]{0,20}") {
        if let Ok(target) = Target::read(&format!("https://a.test/{tail}"), Looks::ALL) {
            let path = target.url().path();
            let (low, odd) = (path.to_ascii_lowercase(), ["//", ";", "%2f", "%5c", "%2e", "%00", "%61", "%c0"]);
            prop_assert!(!odd.iter().any(|odd| low.contains(odd)), "{}", path);
            prop_assert!(path.split('/').all(|name| name != "." && name != ".."), "{}", path);
            let twice = Target::read(target.url().as_str(), Looks::ALL).unwrap();
            prop_assert_eq!(twice.url(), target.url());
        }
    }
}

/// Arguments that were read for a policy without rules are no way past one that has some.
#[test]
fn what_was_read_for_another_policy_is_denied() {
    let (ruled, none) = (policy(URLS), Headers::read([("x_a", "1")], Looks::default()).unwrap());
    let bare = Target::read("https://a.test//admin", Looks::default()).unwrap();
    let request = FetchArguments { method: "GET", url: &bare, headers: &none, body: None };
    match decide(&ruled, 0, capability("fetch"), &Arguments::Fetch(&request)) {
        Verdict::Deny(denial) => assert!(denial.remedy.contains("fault of the host"), "{denial:?}"),
        other => panic!("{other:?}"),
    }
    let url = Target::read("https://a.test/x", Looks::ALL).unwrap();
    let request = FetchArguments { url: &url, ..request };
    assert!(matches!(decide(&ruled, 0, capability("fetch"), &Arguments::Fetch(&request)), Verdict::Deny(_)));
    let headers = Headers::read([("x-a", "1")], Looks::ALL).unwrap();
    let request = FetchArguments { headers: &headers, ..request };
    assert!(matches!(decide(&ruled, 0, capability("fetch"), &Arguments::Fetch(&request)), Verdict::Allow(_)));
}

/// Which parts a condition looks at is told from its text; in doubt, at all of them.
#[test]
fn what_a_condition_looks_at() {
    let none = Looks::default();
    let (path, query) = (Looks { path: true, ..none }, Looks { query: true, ..none });
    for (name, when, expect) in [
        ("fetch", "target.host == \"a.test\" && target.port == 443 && target.scheme == \"https\"", none),
        ("fetch", "request.body == null", none),
        ("fetch", "true", none),
        ("fetch", "target.path == \"/x\"", path),
        ("fetch", "target.query == \"\"", query),
        ("fetch", "target.host == \"b.test\" || target.query == \"\"", query),
        ("fetch", "request.url.contains(\"x\")", path.and(query)),
        ("fetch", "request.method == \"GET\"", Looks { method: true, ..none }),
        ("fetch", "request.headers.exists(h, h.name == \"x\")", Looks { headers: true, ..none }),
        ("fetch", "[target].exists(t, t.path == \"/x\")", path.and(query)),
        ("fetch", "(true ? target : target).host == \"x\"", path.and(query)),
        ("fetch", "[request].exists(r, r.body == null)", Looks::ALL),
        ("fetch", "false && target.path == \"/x\"", path),
        ("websocket", "url == \"x\"", path.and(query)),
        ("websocket", "target.host == \"x\"", none),
        ("read_file", "path == \"/x\"", path),
        ("write_file", "size(contents) > 3", none),
        ("write_file", "size(contents) > 3 && path != \"/x\"", path),
        ("query", "sql == \"\"", none),
    ] {
        let file = |then: &str| {
            format!(
                "level = \"trusted\"\n[[rule]]\nname = \"r\"\ncapability = \"{name}\"\nwhen = '{when}'\nthen = \"{then}\""
            )
        };
        assert_eq!(policy(&file("deny")).looks(capability(name)), expect, "{when}");
        // Who is asked about a file looks at its name.
        let expect = if name.ends_with("_file") { expect.and(path) } else { expect };
        assert_eq!(policy(&file("ask")).looks(capability(name)), expect, "{when}");
        assert_eq!(policy(&file("deny")).looks(capability("print")), none);
    }
}

/// A rule that is spelt as no path is would never hold: the file that has it is refused, with the right spelling.
#[test]
fn a_rule_that_never_holds_is_refused() {
    let file = |name: &str, when: &str| {
        format!(
            "level = \"trusted\"\n[[rule]]\nname = \"r\"\ncapability = \"{name}\"\nwhen = '{when}'\nthen = \"deny\""
        )
    };
    for (name, when, help) in [
        ("read_file", "path == \"/data/./x\"", "write \"/data/x\""),
        ("read_file", "path != \"data/x\"", "write \"/data/x\""),
        ("read_file", "\"/data/x/\" == path", ""),
        ("read_file", "path in [\"/a\", \"/data/../x\"]", "write \"/x\""),
        ("write_file", "size(contents) > 3 && path.startsWith(\"data/\")", "write \"/data/\""),
        ("write_file", "path.startsWith(\"/data//private\")", "write \"/data/private\""),
        ("write_file", "path.endsWith(\"/x/\")", ""),
        ("write_file", "path.contains(\"/../\")", ""),
        ("fetch", "target.path == \"admin\"", ""),
        ("fetch", "target.path == \"/%61dmin\"", ""),
        ("fetch", "target.path == \"/x%2fy\"", ""),
        ("fetch", "target.path == \"/a/../b\"", ""),
        ("fetch", "target.path.startsWith(\"/%c3%bc\")", ""),
        ("fetch", "target.path.contains(\"//\")", ""),
        ("websocket", "target.path.contains(\";\")", ""),
    ] {
        let found = common::faults(&file(name, when));
        assert_eq!(found.len(), 1, "{when}: {found:?}");
        let holds = if when.contains("!=") { "always" } else { "never" };
        assert!(found[0].contains(&format!("this {holds} holds: ")) && found[0].contains(help), "{when}: {found:?}");
        // What was pinned before this was an error goes on.
        let pinned =
            SecurityPolicy::new(parole_policy::Level::Trusted).rule("r", name, Some(when), parole_policy::Then::Deny);
        assert_eq!(SecurityPolicy::from_json(&pinned.to_json().unwrap()).unwrap(), pinned);
    }
    for (name, when) in [
        ("read_file", "path == \"/data/x\""),
        ("read_file", "path in [\"/data/.x\", \"/data/...\"]"),
        ("read_file", "path.startsWith(\"/data/.\") || path.startsWith(\"\")"),
        ("read_file", "path.endsWith(\".txt\") || path.endsWith(\"x/y\") || path.contains(\"./\")"),
        ("fetch", "target.path == \"/\" || target.path == \"/a/\" || target.path == \"/%C3%BC\""),
        ("fetch", "target.path.startsWith(\"/a%20\") || target.path.endsWith(\"/\") || target.path.contains(\"%C3\")"),
        ("fetch", "[\"//\"].exists(path, path == \"//\")"),
        ("fetch", "target.query.contains(\"//\")"),
    ] {
        assert_eq!(common::faults(&file(name, when)), Vec::<String>::new(), "{when}");
    }
}
