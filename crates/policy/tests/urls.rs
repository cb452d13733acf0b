//! URLs as guests spell them: `urls.txt` says what comes of each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use common::{Arguments, FetchArguments, capability, plain};
use parole_policy::{
    Denial, DenialKind, Headers, Level, Looks, MAX_URL, Scheme, SecurityPolicy, Target, Url, Verdict, decide,
};

const TABLE: &str = include_str!("urls.txt");

fn word(denial: &Denial) -> &'static str {
    assert!(!denial.reason.is_empty() && !denial.remedy.is_empty(), "{denial:?}");
    match denial.kind {
        DenialKind::Denied => "denied",
        DenialKind::Invalid => "invalid",
        DenialKind::TooLarge(_) => panic!("{denial:?}"),
    }
}

/// The policy of a grant, and whether it is one for sockets.
fn policy(origins: &str) -> (SecurityPolicy, bool) {
    let origins: Vec<String> = origins.split(',').map(|origin| plain(origin.trim())).collect();
    let named = origins.iter().filter(|origin| !origin.is_empty());
    let policy = named.fold(SecurityPolicy::new(Level::Trusted), |policy, origin| policy.allow_net(origin));
    (common::resolved(policy), origins[0].starts_with("ws"))
}

fn verdict(policy: &SecurityPolicy, socket: bool, text: &str) -> &'static str {
    let url = match Target::read(text, Looks::default()) {
        Err(denial) => return word(&denial),
        Ok(url) => url,
    };
    let none = Headers::default();
    let request = FetchArguments { method: "GET", url: &url, headers: &none, body: None };
    let (name, arguments) =
        if socket { ("websocket", Arguments::Connect { url: &url }) } else { ("fetch", Arguments::Fetch(&request)) };
    match decide(policy, 0, capability(name), &arguments) {
        Verdict::Deny(denial) => word(&denial),
        Verdict::Ask(asked) => panic!("{asked:?}"),
        Verdict::Allow(permit) => {
            let origin = &permit.grant.unwrap().origins[permit.origin.unwrap()];
            assert!(origin.holds(url.url()) && origin.scheme == Scheme::of(url.url().scheme()).unwrap());
            "ok"
        }
    }
}

#[test]
fn every_row_of_the_table() {
    let mut grants = BTreeMap::new();
    let (mut rows, mut wrong) = (0, Vec::new());
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some((name, origins)) = line.strip_prefix('@').and_then(|line| line.split_once(" =")) {
            grants.insert(name, policy(origins.trim()));
            continue;
        }
        let (grant, rest) = line.split_once(" | ").unwrap_or_else(|| panic!("{line}"));
        let (url, expect) = rest.rsplit_once("| ").unwrap_or_else(|| panic!("{line}"));
        let url = url.strip_suffix(' ').unwrap_or(url);
        let (policy, socket) = &grants[grant];
        let found = verdict(policy, *socket, &plain(url));
        if found != expect {
            wrong.push(format!("{line}: {found}"));
        }
        rows += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows >= 250, "{rows}");
}

/// Every row under every grant: what is allowed has the scheme, host and port of an origin of that grant.
#[test]
fn nothing_gets_past_a_grant() {
    let text = |line: &'static str| {
        let rest = line.split_once(" | ").unwrap().1;
        plain(rest.rsplit_once("| ").unwrap().0.trim_end_matches(' '))
    };
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '@']));
    let urls: Vec<String> = lines.map(text).collect();
    for line in TABLE.lines().filter_map(|line| line.strip_prefix('@')) {
        let (policy, socket) = policy(line.split_once(" =").unwrap().1.trim());
        let origins: Vec<String> =
            policy.grants.values().flat_map(|grant| &grant.origins).map(|o| o.to_string()).collect();
        for url in &urls {
            if verdict(&policy, socket, url) == "ok" {
                let parsed = Url::parse(url).unwrap();
                let port = parsed.port().map(|port| format!(":{port}")).unwrap_or_default();
                let host = parsed.host_str().unwrap();
                let near = |host: &str| format!("{}://{host}{port}", parsed.scheme());
                let wild = host.split_once('.').map(|(_, base)| near(&format!("*.{base}"))).unwrap_or_default();
                assert!(origins.contains(&near(host)) || origins.contains(&wild), "{url} under {origins:?}");
            }
        }
    }
}

#[test]
fn length() {
    let (policy, _) = policy("https://api.example.com");
    let url = |length: usize| format!("https://api.example.com/{}", "a".repeat(length - 24));
    assert_eq!(verdict(&policy, false, &url(MAX_URL)), "ok");
    assert_eq!(verdict(&policy, false, &url(MAX_URL + 1)), "invalid");
    // What is sent counts too: each of these takes six bytes there.
    assert_eq!(verdict(&policy, false, &format!("https://api.example.com/{}", "\u{fc}".repeat(1_300))), "ok");
    assert_eq!(verdict(&policy, false, &format!("https://api.example.com/{}", "\u{fc}".repeat(1_400))), "invalid");
}

/// A redirect names a URL that no guest wrote: it is read and decided on like one.
#[test]
fn hops_are_decided_like_first_requests() {
    let (policy, _) = policy("https://api.example.com");
    let hop = |location: &str| {
        let mut url = Url::parse("https://api.example.com/a/b").unwrap().join(location).unwrap();
        url.set_fragment(None);
        verdict(&policy, false, url.as_str())
    };
    for (location, expect) in [
        ("c", "ok"),
        ("/c#x", "ok"),
        ("https://api.example.com:443/", "ok"),
        ("//evil.test/", "denied"),
        ("\\\\evil.test/", "denied"),
        ("http://api.example.com/", "denied"),
        ("https://user@api.example.com/", "denied"),
        ("https://user:pw@api.example.com/", "denied"),
        ("https://api.example.com@evil.test/", "denied"),
        ("https://127.0.0.1/", "denied"),
        ("wss://api.example.com/", "denied"),
        ("ftp://api.example.com/", "denied"),
        ("file:///etc/passwd", "denied"),
        ("data:,x", "denied"),
        ("https://api.example.com:0/", "invalid"),
        (&format!("/{}", "a".repeat(MAX_URL)), "invalid"),
    ] {
        assert_eq!(hop(location), expect, "{location}");
    }
}

/// A denial never says what the URL was beyond its origin: the rest may be a secret.
#[test]
fn denials_keep_secrets() {
    let (policy, _) = policy("https://api.example.com");
    for text in [
        "https://evil.test/s3cret?s3cret",
        "https://api.example.com/s3cret%2fs3cret",
        "https://api.example.com/?s3cret+s3cret",
        "https://s3cret@evil.test/",
        "https://x:s3cret@api.example.com/",
        "s3cret",
        "https://api.example.com/s3cret#s3cret",
        "https://api.example.com/s3cret\n",
        "https:s3cret",
    ] {
        let denial = match Target::read(text, Looks::ALL) {
            Err(denial) => denial,
            Ok(url) => {
                let none = Headers::default();
                let request = FetchArguments { method: "GET", url: &url, headers: &none, body: None };
                match decide(&policy, 0, capability("fetch"), &Arguments::Fetch(&request)) {
                    Verdict::Deny(denial) => denial,
                    other => panic!("{other:?}"),
                }
            }
        };
        assert!(!denial.reason.contains("s3cret") && !denial.remedy.contains("s3cret"), "{denial:?}");
        assert!(!denial.reason.contains("api.example.com"), "{denial:?}");
    }
}
