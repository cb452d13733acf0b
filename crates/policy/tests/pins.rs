//! What executions have pinned: old forms are read and written again byte by byte, new ones hold everything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{CATALOGUE, policy, resolved};
use parole_policy::{Level, SecurityPolicy, Then};

/// Pinned by the version before networks, databases and rules.
const OLD: &str = concat!(
    "{\"level\":\"standard\",\"block\":[\"display\",\"print\"],\"async\":true,\"limits\":{\"cpu_ms\":10000,",
    "\"wall_ms\":60000,\"memory\":67108864,\"tables\":100000,\"arguments\":16777216,\"handles\":1000,",
    "\"output\":1048576,\"promises\":100,\"journal\":16777216,\"park_after_ms\":5000},\"grants\":{\"input\":",
    "{\"dirs\":[],\"max_bytes\":null,\"quota\":null,\"max_files\":null,\"timeout\":\"never\"},\"read_file\":",
    "{\"dirs\":[{\"guest\":\"/a\",\"host\":\"/p/a\"},{\"guest\":\"/b\",\"host\":\"/p/b\"}],\"max_bytes\":8388608,",
    "\"quota\":null,\"max_files\":null,\"timeout\":10000}}}"
);
const OLD_WITH_FAULT: &str = concat!(
    "{\"level\":\"sandbox\",\"block\":[],\"async\":false,\"limits\":{\"cpu_ms\":1,\"wall_ms\":1,\"memory\":1,",
    "\"tables\":1,\"arguments\":1,\"handles\":1,\"output\":1,\"promises\":1,\"journal\":1,\"park_after_ms\":1},",
    "\"grants\":{},\"faults\":[\"x\"]}"
);

const NEW: &str = "level = \"trusted\"
[grant.fetch]
origins = [\"https://*.example.com\", \"http://127.0.0.1:8080\", \"http://[::1]:81\"]
methods = [\"POST\", \"GET\"]
private = [\"10.0.0.0/8\", \"fd00::/16\"]
effect = \"idempotent\"
retry = { attempts = 2 }
[grant.query.databases]
inv = { sqlite = \"inv.db\", mode = \"rw\" }
orders = { url_env = \"ORDERS\" }
pg = { postgres = \"postgres://u@h/d\" }
[[rule]]
name = \"posts\"
capability = \"fetch\"
when = 'request.method != \"GET\"'
then = \"ask\"
[[rule]]
name = \"none\"
capability = \"query\"
then = \"deny\"
";

#[test]
fn old_pins_are_read_and_written_unchanged() {
    for old in [OLD, OLD_WITH_FAULT] {
        let policy = SecurityPolicy::from_json(old).unwrap();
        assert_eq!(policy.to_json().unwrap(), old);
        assert!(policy.rules.is_empty() && policy.revoked.is_empty());
    }
}

#[test]
fn new_pins_hold_everything() {
    let mut file = policy(NEW);
    file.revoked.insert("print".to_owned());
    let json = file.to_json().unwrap();
    let back = SecurityPolicy::from_json(&json).unwrap();
    assert_eq!(back, file);
    assert_eq!(back.to_json().unwrap(), json);
    assert_eq!(back.validate(&CATALOGUE), Ok(()));
    let fetch = "\"origins\":[\"https://*.example.com\",\"http://127.0.0.1:8080\",\"http://[::1]:81\"],\
        \"methods\":[\"GET\",\"POST\"],\"private\":[\"10.0.0.0/8\",\"fd00::/16\"],\"effect\":\"idempotent\",\
        \"retry\":{\"attempts\":2,\"backoff_ms\":500,\"max_backoff_ms\":30000,\"jitter\":true}}";
    assert!(json.contains(fetch), "{json}");
    let databases = "\"databases\":{\"inv\":{\"source\":{\"sqlite\":\"/p/inv.db\"},\"mode\":\"rw\"},\
        \"orders\":{\"source\":{\"url_env\":\"ORDERS\"},\"mode\":\"ro\"},\
        \"pg\":{\"source\":{\"postgres\":\"postgres://u@h/d\"},\"mode\":\"ro\"}},\"max_rows\":10000}";
    assert!(json.contains(databases), "{json}");
    let rules = "\"rules\":[{\"name\":\"posts\",\"capability\":\"fetch\",\"when\":\"request.method != \\\"GET\\\"\",\"then\":\"ask\"},\
        {\"name\":\"none\",\"capability\":\"query\",\"then\":\"deny\"}],\"revoked\":[\"print\"]";
    assert!(json.contains(rules), "{json}");
}

#[test]
fn pins_that_are_wrong_are_refused() {
    let json = policy(NEW).to_json().unwrap();
    for (from, to) in [
        ("\"then\":\"ask\"", "\"then\":\"asc\""),
        ("\"then\":\"ask\"", "\"then\":\"ask\",\"also\":1"),
        ("https://*.example.com", "https://*.example.com/"),
        ("https://*.example.com", "example.com"),
        ("10.0.0.0/8", "10.0.0.0/80"),
        ("\"mode\":\"rw\"", "\"mode\":\"rwx\""),
        ("\"mode\":\"rw\"", "\"mode\":\"rw\",\"x\":1"),
        ("\"sqlite\":", "\"sqlight\":"),
        ("\"effect\":\"idempotent\"", "\"effect\":\"Idempotent\""),
        ("\"jitter\":true", "\"jitter\":true,\"x\":1"),
        ("\"rules\":", "\"rulez\":"),
    ] {
        let wrong = json.replacen(from, to, 1);
        assert_ne!(wrong, json, "{from}");
        assert!(SecurityPolicy::from_json(&wrong).is_err(), "{to}");
    }
    // What can be read but makes no sense is found when it is looked at.
    for (from, to, fault) in [
        ("request.method", "request.metod", "rule `posts`: unknown field `metod`"),
        ("10.0.0.0/8", "0.0.0.0/0", "range 0.0.0.0/0 is too wide: a prefix has 8 bits at least"),
        ("\"GET\",\"POST\"", "\"CONNECT\",\"POST\"", "method `CONNECT` is never allowed"),
        ("\"then\":\"deny\"", "\"then\":\"deny\",\"timeout_ms\":5", "only a question expires"),
        ("\"attempts\":2", "\"attempts\":99", "`retry` makes 1 to 10 attempts"),
        ("\"/p/inv.db\"", "\"inv.db\"", "its path is not in its normal form"),
        ("postgres://u@h/d", "postgres://u:pw@h/d", "the URL holds a password"),
        ("\"name\":\"none\"", "\"name\":\"posts\"", "its name stands twice"),
        ("\"capability\":\"query\"", "\"capability\":\"qery\"", "unknown capability `qery`"),
        ("\"level\":\"trusted\"", "\"level\":\"standard\"", "`query` needs level `trusted`"),
    ] {
        let wrong = json.replacen(from, to, 1);
        assert_ne!(wrong, json, "{from}");
        let faults = SecurityPolicy::from_json(&wrong).unwrap().validate(&CATALOGUE).unwrap_err().join("; ");
        assert!(faults.contains(fault), "{to}: {faults}");
    }
}

#[test]
fn built_in_rust_and_pinned() {
    let built = SecurityPolicy::new(Level::Trusted)
        .allow_net("https://api.example.com")
        .allow_net("wss://api.example.com")
        .rule("r", "fetch", Some("target.port == 443"), Then::Ask);
    // Nobody knows yet which capability an origin is for.
    assert!(built.to_json().unwrap_err().to_string().contains("nobody has resolved it"));
    let built = resolved(built);
    assert_eq!(SecurityPolicy::from_json(&built.to_json().unwrap()).unwrap(), built);
    for (wrong, fault) in [
        (built.clone().allow_net("api.example.com"), "allow_net: `api.example.com` names no scheme"),
        (
            built.clone().allow_net("https://api.example.com"),
            "allow_net: origin `https://api.example.com` is granted twice",
        ),
        (built.clone().rule("r", "fetch", None, Then::Ask), "rule `r`: its name stands twice"),
        (built.clone().rule("s", "fetch", Some("foo"), Then::Ask), "rule `s`: unknown variable `foo`"),
        (
            built.clone().rule("s t", "fetch", None, Then::Ask),
            "`s t` is not a name for a rule: 1 to 64 letters, digits, `_`, `-` and `.`",
        ),
    ] {
        assert_eq!(wrong.validate(&CATALOGUE).unwrap_err(), [fault]);
    }
}
