//! `[[rule]]`: its keys, what each fault says and where, and the order in which a call is decided.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod common;

use common::{Arguments, CATALOGUE, FetchArguments, capability, faults, headers, policy, target};
use parole_policy::{Fact, Level, MAX_RULES, SecurityPolicy, Then, Verdict, decide};

fn check(toml: &str, expect: &[&str]) {
    assert_eq!(faults(toml), expect, "\n--- file:\n{toml}");
}

/// A rule with these lines after its name.
fn rule(lines: &str) -> String {
    format!("[[rule]]\nname = \"r\"\n{lines}")
}

#[test]
fn keys() {
    check("rule = 1", &["1:8 `rule` must be a list, found an integer"]);
    check("[rule]\nname = \"r\"", &["1:1 `rule` must be a list, found a table"]);
    check("rule = [1]", &["1:9 `rule` must be a table, found an integer"]);
    let has = "a rule has name, capability, then, and perhaps when and timeout_ms";
    check(
        "[[rule]]",
        &[
            &format!("1:1 this rule has no `name` | {has}"),
            &format!("1:1 this rule has no `capability` | {has}"),
            &format!("1:1 this rule has no `then` | {has}"),
        ],
    );
    check(&rule("capability = \"fetch\""), &[&format!("1:1 this rule has no `then` | {has}")]);
    check(&rule("capability = \"fetch\"\nthen = \"deny\""), &[]);
    check(&rule("capability = \"fetch\"\nthen = \"ask\"\nwhen = 'true'"), &[]);
    check(
        &rule("capability = \"fetch\"\nthen = \"denny\""),
        &["4:8 rule.then: unknown word `denny` | did you mean `deny`?"],
    );
    check(
        &rule("capability = \"fetch\"\nthen = \"Deny\""),
        &["4:8 rule.then: unknown word `Deny` | did you mean `deny`?"],
    );
    check(
        &rule("capability = \"fetch\"\nthen = true"),
        &["4:8 `rule.then` must be text in quotes, found true or false"],
    );
    check(
        &rule("capability = \"fetsh\"\nthen = \"deny\""),
        &["3:14 unknown capability `fetsh` | did you mean `fetch`?"],
    );
    check(
        &rule("capability = \"fetch\"\nthen = \"deny\"\nif = 'true'"),
        &["5:1 unknown key `rule.if` | valid: name, capability, when, then, timeout_ms"],
    );
    check(
        &rule("capability = \"fetch\"\nthen = \"deny\"\nwhem = 'true'"),
        &["5:1 unknown key `rule.whem` | did you mean `when`?"],
    );
    check(
        &rule("capability = \"fetch\"\nthen = \"deny\"\nwhen = true"),
        &["5:8 `rule.when` must be text in quotes, found true or false"],
    );
}

#[test]
fn names() {
    let named = |name: &str| format!("[[rule]]\nname = \"{name}\"\ncapability = \"fetch\"\nthen = \"deny\"");
    for good in ["a", "no-posts", "No_2.x", &"n".repeat(64)] {
        check(&named(good), &[]);
    }
    for bad in ["", " ", "a b", "a:b", "\u{e9}", "a\\n", "a/b", &"n".repeat(65)] {
        assert!(faults(&named(bad))[0].contains("is not a name for a rule"), "{bad}");
    }
    check(&format!("{}\n{}", named("a"), named("b")), &[]);
    check(&format!("{}\n{}", named("a"), named("a")), &["6:8 rule.name: `a` stands twice"]);
    let many = |count: usize| (0..count).map(|n| named(&format!("r{n}")) + "\n").collect::<String>();
    check(&many(MAX_RULES), &[]);
    check(&many(MAX_RULES + 1), &["257:1 a policy has 64 rules at most"]);
}

#[test]
fn rules_that_the_file_itself_excludes() {
    let deny = |name: &str| rule(&format!("capability = \"{name}\"\nthen = \"deny\""));
    check(
        &format!("level = \"restricted\"\n{}", deny("fetch")),
        &[
            "4:14 rule.capability: `fetch` needs level `standard`; this file has `restricted` | level = \"standard\", or remove the rule",
        ],
    );
    check(
        &format!("block = [\"fetch\"]\n{}", deny("fetch")),
        &["4:14 rule.capability: `fetch` is in the block list of this file | remove `fetch` from `block`, or the rule"],
    );
    check(&format!("block = [\"print\"]\n{}", deny("fetch")), &[]);
    check(
        &format!("level = \"stndard\"\n{}", deny("query")),
        &["1:9 unknown level `stndard` | did you mean `standard`?"],
    );
    // The level may stand after the rules, and an error elsewhere hides nothing.
    check(
        &format!("foo = 1\n{}", deny("query")),
        &[
            "1:1 unknown key `foo` | valid: level, capability, block, link, async, limits, grant, rule",
            "4:14 rule.capability: `query` needs level `trusted`; this file has `standard` | level = \"trusted\", or remove the rule",
        ],
    );
}

#[test]
fn nobody_is_asked_about_what_is_only_sent() {
    for name in ["print", "display"] {
        for then in ["allow", "deny"] {
            check(&rule(&format!("capability = \"{name}\"\nthen = \"{then}\"")), &[]);
        }
        check(
            &rule(&format!("capability = \"{name}\"\nthen = \"ask\"")),
            &[&format!(
                "4:8 rule.then: nobody can be asked about `{name}`: it is called without waiting | allow or deny"
            )],
        );
    }
    let built = SecurityPolicy::new(Level::Standard).rule("r", "print", None, Then::Ask);
    assert!(built.validate(&CATALOGUE).unwrap_err()[0].contains("nobody can be asked"));
}

/// A fault in an expression has the line and column of the file, whatever quotes it stands in.
#[test]
fn places_in_expressions() {
    let when = |toml: &str| faults(&rule(&format!("capability = \"fetch\"\nthen = \"deny\"\nwhen = {toml}")));
    let fault = |place: &str| [format!("{place} rule.when: unknown field `metod` | did you mean `method`?")];
    assert_eq!(when("'request.metod == \"x\"'"), fault("5:17"));
    assert_eq!(when("\"request.metod == 'x'\""), fault("5:17"));
    assert_eq!(when("\"'\\u00e9' == request.metod\""), fault("5:29"));
    assert_eq!(when("\"'\u{e9}' == request.metod\""), fault("5:24"));
    assert_eq!(when("\"\\\"\\\" == request.metod\""), fault("5:25"));
    assert_eq!(when("\"'\\t\\U0001F980' == request.metod\""), fault("5:35"));
    assert_eq!(when("'''request.metod == 1'''"), fault("5:19"));
    assert_eq!(when("'''\nrequest.metod == 1'''"), fault("6:9"));
    assert_eq!(when("'''\r\nrequest.metod == 1'''"), fault("6:9"));
    assert_eq!(when("'''\ntrue &&\n  request.metod == 1\n'''"), fault("7:11"));
    assert_eq!(when("'''\r\ntrue &&\r\n  request.metod == 1\r\n'''"), fault("7:11"));
    assert_eq!(when("\"\"\"\ntrue &&\n  request.metod == 1\"\"\""), fault("7:11"));
    assert_eq!(when("\"\"\"\ntrue && \\\n   \n  request.metod == 1\"\"\""), fault("8:11"));
    assert_eq!(when("''' ' == request.metod'''").len(), 1);
    let parse = when("'''\ntrue &&\n@'''");
    assert!(parse[0].starts_with("7:1 rule.when: not an expression"), "{parse:?}");
    assert_eq!(when("''"), ["5:9 rule.when: not an expression: mismatched input '<EOF>'"]);
    let long = when(&format!("'{}'", "x".repeat(2049)));
    assert_eq!(long, ["5:9 rule.when: an expression is 2048 bytes long at most"]);
    assert_eq!(when("'database == \"a\"'"), ["5:9 rule.when: unknown variable `database` | valid: request, target"]);
    // All faults at once, rules after the others.
    let all = faults(
        "zzz = 1\n[[rule]]\nname = \"r\"\ncapability = \"fetch\"\nthen = \"x\"\nwhen = '1'\n[[rule]]\nname = \"r\"",
    );
    assert_eq!(all.len(), 6, "{all:?}");
}

const FILE: &str = "level = \"trusted\"
[grant.fetch]
origins = [
  \"https://api.example.com\",
  \"https://other.example.com\",
]
methods = [\"GET\", \"POST\", \"DELETE\"]
[[rule]]
name = \"reads\"
capability = \"fetch\"
when = 'request.method == \"GET\"'
then = \"allow\"
[[rule]]
name = \"other\"
capability = \"fetch\"
when = 'target.host == \"other.example.com\"'
then = \"deny\"
[[rule]]
name = \"small\"
capability = \"fetch\"
when = 'size(request.body) > 3'
then = \"ask\"
[[rule]]
name = \"never\"
capability = \"display\"
then = \"deny\"
";

fn fetch(policy: &SecurityPolicy, method: &str, url: &str, body: Option<&[u8]>) -> String {
    let (url, headers) = (target(url), headers(&[]));
    let request = FetchArguments { method, url: &url, headers: &headers, body };
    say(policy, "fetch", &Arguments::Fetch(&request))
}

fn say(policy: &SecurityPolicy, name: &str, arguments: &Arguments<'_>) -> String {
    match decide(policy, 3, capability(name), arguments) {
        Verdict::Allow(permit) => {
            assert_eq!(permit.generation, 3);
            format!("allow {:?}", permit.rule)
        }
        Verdict::Ask(asked) => {
            assert_eq!((asked.permit.generation, asked.permit.rule), (3, None));
            format!("ask {}", asked.rule)
        }
        Verdict::Deny(denial) => format!("deny {:?} {}", denial.rule, denial.reason),
    }
}

#[test]
fn the_first_rule_that_holds_decides() {
    let policy = policy(FILE);
    let api = "https://api.example.com/x";
    for (method, url, body, expect) in [
        ("GET", api, None, "allow Some(\"reads\")"),
        ("GET", "https://other.example.com/", None, "allow Some(\"reads\")"),
        (
            "POST",
            "https://other.example.com/",
            None,
            "deny Some(\"other\") a rule of the policy refuses this call of `fetch`",
        ),
        ("POST", api, Some(&b"12345"[..]), "ask small"),
        ("POST", api, Some(b"123"), "allow None"),
        // The rule cannot be decided for a call without a body: an error denies.
        ("POST", api, None, "deny Some(\"small\") a rule of the policy cannot be decided for this call of `fetch`"),
        // The scope comes first: no rule allows what it doesn't.
        ("GET", "https://evil.test/", None, "deny None `fetch` may not reach `https://evil.test`"),
        ("PUT", api, None, "deny None `fetch` may not use the method `PUT`"),
    ] {
        assert_eq!(fetch(&policy, method, url, body), expect, "{method} {url}");
    }
    assert!(say(&policy, "display", &Arguments::None).starts_with("deny Some(\"never\")"));
    assert_eq!(say(&policy, "print", &Arguments::None), "allow None");
    let fields = [("text", Fact::Text("x"))];
    assert_eq!(say(&policy, "print", &Arguments::Fields(&fields)), "allow None");
}

#[test]
fn level_block_and_revocation_come_before_rules() {
    let mut policy = SecurityPolicy::new(Level::Trusted).allow_net("https://api.example.com").rule(
        "all",
        "fetch",
        None,
        Then::Allow,
    );
    policy.resolve(&CATALOGUE).unwrap();
    let get = |policy: &SecurityPolicy| fetch(policy, "GET", "https://api.example.com/", None);
    assert_eq!(get(&policy), "allow Some(\"all\")");
    policy.revoked.insert("fetch".to_owned());
    assert_eq!(get(&policy), "deny None `fetch` was revoked");
    assert_eq!(get(&policy.clone().block("fetch")), "deny None `fetch` is not granted");
    policy.revoked.clear();
    policy.level = Level::Restricted;
    assert_eq!(get(&policy), "deny None `fetch` is not granted");
    policy.level = Level::Standard;
    // A rule that is wrong is a fault of the whole policy.
    let wrong = policy.rule("bad", "fetch", Some("request.foo == 1"), Then::Allow);
    assert_eq!(get(&wrong), "deny None `fetch` is not granted");
    assert!(wrong.validate(&CATALOGUE).unwrap_err()[0].starts_with("rule `bad`: unknown field `foo`"));
}

#[test]
fn denials_hold_no_policy_text() {
    let policy = policy(FILE);
    let (url, headers) = (target("https://other.example.com/"), headers(&[]));
    let request = FetchArguments { method: "POST", url: &url, headers: &headers, body: None };
    match decide(&policy, 0, capability("fetch"), &Arguments::Fetch(&request)) {
        Verdict::Deny(denial) => {
            assert!(!denial.reason.contains("other"), "{denial:?}");
            assert_eq!(denial.remedy, "rule `other` says deny");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn explanations_name_the_line_of_the_rule() {
    let policy = policy(FILE);
    let explain = |method: &str, url: &str, body: Option<&[u8]>| {
        let (url, headers) = (target(url), headers(&[]));
        let request = FetchArguments { method, url: &url, headers: &headers, body };
        policy.explain(capability("fetch"), &Arguments::Fetch(&request)).text
    };
    let (api, other) = ("https://api.example.com/x", "https://other.example.com/");
    assert_eq!(explain("GET", api, None), "allow fetch: rule `reads` says allow (line 8)");
    assert_eq!(explain("POST", other, None), "deny fetch: rule `other` says deny (line 13)");
    assert_eq!(explain("POST", api, Some(b"12345")), "ask fetch: rule `small` says ask (line 18)");
    assert_eq!(explain("POST", api, Some(b"1")), "allow fetch: `https://api.example.com` is granted for POST (line 4)");
    assert!(explain("POST", api, None).starts_with("deny fetch: rule `small` cannot be decided: "));
    assert!(explain("POST", api, None).ends_with("(line 18)"));
    assert_eq!(explain("PUT", api, None), "deny fetch: `fetch` may not use the method `PUT` (line 7)");
    assert_eq!(explain("GET", "https://x.test", None), "deny fetch: `fetch` may not reach `https://x.test` (line 3)");
    let display = policy.explain(capability("display"), &Arguments::None);
    assert_eq!((display.verdict, display.line), ("deny", Some(23)));
}

#[test]
fn a_question_may_expire_sooner() {
    let rule = |then: &str, more: &str| {
        let text = format!("[[rule]]\nname = \"a\"\ncapability = \"sleep\"\nthen = \"{then}\"\n{more}\n");
        SecurityPolicy::parse(&text, std::path::Path::new("/"), &CATALOGUE)
    };
    let policy = rule("ask", "timeout_ms = 1_000").unwrap();
    assert_eq!(policy.rules[0].timeout, Some(parole_policy::Timeout::After(1_000)));
    assert_eq!(SecurityPolicy::from_json(&policy.to_json().unwrap()).unwrap(), policy);
    assert_eq!(rule("ask", "").unwrap().rules[0].timeout, None);
    for (then, more) in [("deny", "timeout_ms = 1_000"), ("allow", "timeout_ms = 1"), ("ask", "timeout_ms = 0")] {
        let errors = rule(then, more).unwrap_err();
        assert!(errors[0].message.contains("timeout_ms"), "{errors:?}");
    }
}
