//! The cases P01 to P04 and P06 of the security cases, by name, and those of family N that deciding settles; the
//! rest of them are in `urls.rs` and `file_net.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod common;

use common::{Arguments, FetchArguments, capability, faults, parse, path, policy};
use parole_policy::{Headers, Level, Looks, SecurityPolicy, Target, Verdict, decide};

fn allows(policy: &SecurityPolicy) -> bool {
    let path = path("/data/x");
    let read = Arguments::Read { path: &path };
    let read = decide(policy, 0, capability("read_file"), &read);
    let write = Arguments::Write { path: &path, contents: &[] };
    let write = decide(policy, 0, capability("write_file"), &write);
    matches!(read, Verdict::Allow(_)) || matches!(write, Verdict::Allow(_))
}

/// At `standard` an empty list denies all; it never allows all.
#[test]
fn p01_an_empty_list_allows_nothing() {
    for empty in ["", "[grant.read_file]", "[grant.read_file]\ndirs = {}", "[grant.write_file]\ndirs = {}"] {
        assert!(!allows(&policy(&format!("level = \"standard\"\n{empty}"))), "{empty}");
    }
    assert!(!allows(&SecurityPolicy::new(Level::Unrestricted)));
    assert!(allows(&policy("level = \"standard\"\n[grant.read_file]\ndirs = { \"/data\" = \"d\" }")));
}

/// An unknown key is refused, with its line.
#[test]
fn p02_an_unknown_key_is_refused() {
    for (file, expect) in [
        ("level = \"standard\"\nallowed_host = [\"x\"]", "2:1 unknown key `allowed_host`"),
        ("[limits]\nram = 1", "2:1 unknown key `limits.ram`"),
        ("[grant.read_file]\nallow = {}", "2:1 unknown key `grant.read_file.allow`"),
    ] {
        assert!(faults(file)[0].starts_with(expect), "{file}: {:?}", faults(file));
    }
    assert!(parse("level = \"standard\"\nblock = []").is_ok());
}

/// A list entry that does not parse is refused: it is neither dropped nor taken as something else.
#[test]
fn p03_an_entry_that_does_not_parse_is_refused() {
    for file in [
        "block = [\"print\", \"no such\"]",
        "block = [\"print\", 1]",
        "block = [\"print\", \"\"]",
        "[grant.read_file]\ndirs = { \"/a\" = \"a\", \"b\" = \"b\" }",
        "[grant.read_file]\ndirs = { \"/a\" = \"a\", \"/b\" = 1 }",
        "[grant.read_file]\ndirs = { \"/a\" = \"a\", \"/b/..\" = \"b\" }",
        "[grant.read_file]\ndirs = { \"/a\" = \"a\", \"/b\" = [\"b\"] }",
    ] {
        assert_eq!(faults(file).len(), 1, "{file}");
    }
    assert!(parse("block = [\"print\"]\n[grant.read_file]\ndirs = { \"/a\" = \"a\", \"/b\" = \"b\" }").is_ok());
}

/// A level in other case or with a typo is refused, never taken for the default.
#[test]
fn p04_a_level_in_other_case_or_with_a_typo_is_refused() {
    for word in ["Standard", "STANDARD", "standart", "standard ", " standard", "", "stan", "\u{455}tandard"] {
        assert_eq!(faults(&format!("level = \"{word}\"")).len(), 1, "{word}");
        assert!(word.parse::<Level>().is_err(), "{word}");
    }
    assert!(parse("level = \"standard\"").is_ok());
}

fn reaches(policy: &SecurityPolicy, text: &str) -> bool {
    let Ok(url) = Target::read(text, Looks::default()) else { return false };
    let none = Headers::default();
    let request = FetchArguments { method: "GET", url: &url, headers: &none, body: None };
    matches!(decide(policy, 0, capability("fetch"), &Arguments::Fetch(&request)), Verdict::Allow(_))
}

/// A wildcard stands for one label of a name.
#[test]
fn p06_a_wildcard_stands_for_one_label() {
    let policy = policy("[grant.fetch]\norigins = [\"https://*.example.com\"]");
    assert!(reaches(&policy, "https://a.example.com/"));
    for other in [
        "https://example.com/",
        "https://a.b.example.com/",
        "https://example.com.evil.test/",
        "https://a.example.com.evil.test/",
        "https://evil.test/.example.com",
        "https://aexample.com/",
    ] {
        assert!(!reaches(&policy, other), "{other}");
    }
}

/// N01, N02, N06, N15.
#[test]
fn n_the_list_is_all_that_is_reached() {
    let list = policy("[grant.fetch]\norigins = [\"http://127.0.0.1:8080\"]");
    assert!(reaches(&list, "http://127.0.0.1:8080/x"));
    assert!(!reaches(&list, "http://127.0.0.1:8081/x"));
    assert!(!reaches(&list, "http://127.0.0.1:8080@127.0.0.1:8081/x"));
    for empty in ["", "[grant.fetch]", "[grant.fetch]\norigins = []"] {
        for url in ["http://127.0.0.1:8080/", "https://example.com/", "http://[::1]/"] {
            assert!(!reaches(&policy(empty), url), "{empty}: {url}");
        }
    }
}
