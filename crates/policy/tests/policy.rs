//! The policy itself: built in Rust, pinned, explained.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod common;

use std::path::Path;

use common::{Arguments, CATALOGUE, capability, names, path, policy, resolved};
use parole_policy::{
    Database, Flags, Level, LimitKey, Limits, Link, Mode, SecurityPolicy, Source, Then, Timeout, size_text,
};

#[test]
fn levels_in_words() {
    for level in Level::ALL {
        assert_eq!(level.as_str().parse(), Ok(level));
        assert_eq!(serde_json::to_string(&level).unwrap(), format!("\"{level}\""));
    }
    assert!(Level::ALL.is_sorted());
    assert_eq!(Level::default(), Level::Standard);
    let error = "Trusted".parse::<Level>().unwrap_err();
    assert_eq!((error.to_string().as_str(), error.nearest), ("unknown level `Trusted`", Some(Level::Trusted)));
}

#[test]
fn defaults_of_limits_grow_with_the_level_and_are_in_range() {
    for pair in Level::ALL.windows(2) {
        for key in LimitKey::ALL {
            let (lower, higher) = (key.get(&Limits::of(pair[0])), key.get(&Limits::of(pair[1])));
            let fits = |value| key.range.contains(&value) || value == 0 && key.name.starts_with("compile_");
            assert!(lower <= higher && fits(lower) && fits(higher), "{}", key.name);
        }
    }
    assert_eq!((size_text(64 << 20), size_text(1500), size_text(0)), ("64MiB".into(), "1500B".into(), "0B".into()));
}

#[test]
fn the_pinned_form_is_deterministic() {
    let file = policy(
        "block = [\"print\", \"display\"]\n[grant.read_file]\ndirs = { \"/b\" = \"b\", \"/a\" = \"a\" }\n[grant.input]\ntimeout_ms = \"never\"",
    );
    let json = file.to_json().unwrap();
    let limits = "{\"cpu_ms\":10000,\"wall_ms\":60000,\"memory\":67108864,\"tables\":100000,\"arguments\":16777216,\"handles\":1000,\
        \"output\":1048576,\"promises\":100,\"journal\":16777216,\"park_after_ms\":5000}";
    let grants = "{\"input\":{\"dirs\":[],\"max_bytes\":null,\"quota\":null,\"max_files\":null,\"timeout\":\"never\"},\
        \"read_file\":{\"dirs\":[{\"guest\":\"/a\",\"host\":\"/p/a\"},{\"guest\":\"/b\",\"host\":\"/p/b\"}],\
        \"max_bytes\":8388608,\"quota\":null,\"max_files\":null,\"timeout\":10000}}";
    assert_eq!(
        json,
        format!(
            "{{\"level\":\"standard\",\"block\":[\"display\",\"print\"],\"async\":true,\"limits\":{limits},\"grants\":{grants}}}"
        )
    );
    let back = SecurityPolicy::from_json(&json).unwrap();
    assert_eq!(back, file);
    assert_eq!(back.to_json().unwrap(), json);
    assert!(SecurityPolicy::from_json(&json.replace("\"async\"", "\"asink\"")).is_err());
    assert!(SecurityPolicy::from_json(&json.replacen('{', "{\"rulez\":[],", 1)).is_err());
    assert!(SecurityPolicy::from_json(&json.replace("\"never\"", "\"Never\"")).is_err());
    assert!(SecurityPolicy::from_json(&json.replace("standard", "Standard")).is_err());
}

#[test]
fn built_in_rust() {
    let built = SecurityPolicy::new(Level::Restricted)
        .block("print")
        .allow_read("/data/", "/srv/x/../d")
        .timeout("input", Timeout::Never)
        .limits(|limits| limits.promises = 3);
    let built = resolved(built);
    assert_eq!(built.grants["read_file"].dirs[0].host, Path::new("/srv/d"));
    assert_eq!(built.grants["read_file"].max_bytes, Some(8 << 20));
    assert_eq!((built.limits.promises, built.limits.handles), (3, 1_000));
    let faults = |policy: &SecurityPolicy| policy.validate(&CATALOGUE).unwrap_err().join("; ");
    assert_eq!(faults(&built.clone().block("pritn")), "unknown capability `pritn`");
    assert_eq!(faults(&built.clone().timeout("inptu", Timeout::Never)), "unknown capability `inptu`");
    assert_eq!(
        faults(&built.clone().allow_write("/o", "/o")),
        "grant.write_file: `write_file` needs level `standard`; this policy has `restricted`"
    );
    let mut relative = built.allow_read("/r", "relative");
    assert_eq!(faults(&relative), "read_file: host path `relative` is relative to a directory that is not absolute");
    // Its fault survives being pinned, and it links nothing.
    assert!(relative.resolve(&CATALOGUE).is_err());
    let pinned = SecurityPolicy::from_json(&relative.to_json().unwrap()).unwrap();
    for policy in [&relative, &pinned] {
        let Link::Denied(denial) = policy.link("parole:capabilities/input@0.1.0", &CATALOGUE) else { panic!() };
        assert!(denial.reason.starts_with("this policy is not valid: read_file: host path `relative`"));
    }
}

#[test]
fn empty_scopes_are_announced() {
    let check =
        |toml: &str, expect: &[&str]| assert_eq!(names(policy(toml).empty_scopes(&CATALOGUE)), expect, "{toml}");
    check("", &["read_file", "write_file", "fetch"]);
    check("level = \"restricted\"", &["read_file"]);
    check("level = \"sandbox\"", &[]);
    check("block = [\"read_file\"]", &["write_file", "fetch"]);
    check("[grant.read_file]\ndirs = {}", &["read_file", "write_file", "fetch"]);
    check("[grant.read_file]\ndirs = { \"/d\" = \"d\" }", &["write_file", "fetch"]);
    check("[grant.fetch]\norigins = []", &["read_file", "write_file", "fetch"]);
    check("[grant.fetch]\norigins = [\"https://a.test\"]", &["read_file", "write_file"]);
    let all = "level = \"trusted\"\nblock = [\"read_file\", \"write_file\", \"fetch\"]\n";
    check(all, &["websocket", "query"]);
    check(&format!("{all}[grant.websocket]\norigins = [\"wss://a.test\"]"), &["query"]);
    check(&format!("{all}[grant.query.databases]\na = {{ sqlite = \"a\" }}"), &["websocket"]);
}

#[test]
fn scopes_may_not_overlap_what_is_protected() {
    let protected: [(&str, &Path); 2] =
        [("the state directory", Path::new("/var/parole")), ("the policy file", Path::new("/p/policy.toml"))];
    let rows = [
        ("/", Some("the state directory")),
        ("/var", Some("the state directory")),
        ("/var/parole", Some("the state directory")),
        ("/var/parole/x", Some("the state directory")),
        ("/var/parole2", None),
        ("/var/par", None),
        ("/var/other", None),
        ("/p", Some("the policy file")),
        ("/p/data", None),
        ("/p/policy.toml", Some("the policy file")),
    ];
    for (host, expect) in rows {
        for policy in [
            SecurityPolicy::new(Level::Standard).allow_read("/d", host),
            SecurityPolicy::new(Level::Standard).allow_write("/d", host),
        ] {
            let overlap = resolved(policy).overlap(&protected);
            assert_eq!(overlap.as_ref().map(|overlap| overlap.label.as_str()), expect, "{host}");
            assert!(overlap.is_none_or(|overlap| overlap.dir.host == Path::new(host)));
        }
    }
}

#[test]
fn explanations_name_the_line() {
    let file = "level = \"restricted\"\nblock = [\n  \"display\",\n]\n[grant.read_file]\nmax_bytes = 5\ndirs = {\n  \"/data\" = \"data\",\n  \"/in\" = \"in\",\n}\n";
    let check = |toml: &str, name, text: &str, expect: &str| {
        let path = path(text);
        let arguments = match name {
            "read_file" => Arguments::Read { path: &path },
            "write_file" => Arguments::Write { path: &path, contents: &[] },
            _ => Arguments::None,
        };
        assert_eq!(policy(toml).explain(capability(name), &arguments).text, expect)
    };
    check(file, "read_file", "/in/x", "allow read_file: /p/in is granted as `/in` (line 9)");
    check(file, "read_file", "/data/x", "allow read_file: /p/data is granted as `/data` (line 8)");
    check(file, "read_file", "/etc/x", "deny read_file: `read_file` may not reach `/etc/x` (line 7)");
    check(file, "read_file", "/in/../x", "deny read_file: `read_file` may not reach `/x` (line 7)");
    check(file, "display", "", "deny display: `display` is in the block list (line 3)");
    check(
        file,
        "write_file",
        "/x",
        "deny write_file: `write_file` needs level `standard` or higher; this policy has `restricted` (line 1)",
    );
    check(file, "print", "", "allow print: level `restricted` links `print`, which needs no scope (line 1)");
    check("[grant.read_file]", "read_file", "/x", "deny read_file: `read_file` may not reach `/x` (line 1)");
    check("", "read_file", "/x", "deny read_file: `read_file` may not reach `/x`");
    let explanation = policy(file).explain(capability("read_file"), &Arguments::Read { path: &path("/in/x") });
    assert_eq!((explanation.verdict, explanation.line), ("allow", Some(9)));
}

/// A policy that was put together in Rust is what it will be when something is compared with it.
#[test]
fn nothing_is_lost_before_it_is_resolved() {
    let source = || Source::Sqlite("/srv/state/x.db".into());
    let built = SecurityPolicy::new(Level::Trusted)
        .allow_read("/d", "/srv/data")
        .allow_database("x", Database { source: source(), mode: Mode::Rw })
        .rule("no-env", "read_file", Some("path.contains('.env')"), Then::Deny);
    let narrowed = built.clone().narrow(&Flags::default(), Path::new("/cwd"), &CATALOGUE).unwrap();
    assert_eq!((narrowed.rules.len(), narrowed.grants["read_file"].dirs.len()), (1, 1));
    let error = built.stays_within(&SecurityPolicy::new(Level::Trusted), &CATALOGUE).unwrap_err();
    assert_eq!((error.flag.as_str(), error.asked.as_str()), ("--database", "x"));
    assert!(built.stays_within(&resolved(built.clone()), &CATALOGUE).is_ok());
    for (place, label) in [("/srv/data/deep", "--allow-read"), ("/srv/state", "--database")] {
        assert_eq!(built.overlap(&[("it", Path::new(place))]).unwrap().capability, label);
    }
    assert!(built.overlap(&[("it", Path::new("/etc"))]).is_none());
    // Of two databases of one name neither is taken in silence, and a number that was taken away stays away.
    let ro = Database { source: source(), mode: Mode::Ro };
    let twice = built.clone().grant("query", |grant| drop(grant.databases.insert("x".into(), ro.clone())));
    assert!(twice.validate(&CATALOGUE).unwrap_err()[0].contains("`x` is granted twice"));
    let mut unlimited = resolved(SecurityPolicy::new(Level::Trusted).allow_write("/o", "/o"));
    unlimited.grants.get_mut("write_file").unwrap().quota = None;
    assert_eq!(resolved(unlimited).grants["write_file"].quota, None);
}
