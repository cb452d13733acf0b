//! The decision at link time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod common;

use common::{CATALOGUE, policy};
use parole_policy::{Level, Link, SecurityPolicy, levels};

fn link(policy: &SecurityPolicy, import: &str) -> String {
    match policy.link(import, &CATALOGUE) {
        Link::Granted(capability) => capability.name.to_string(),
        Link::AllDenied(own) => format!("{} all denied", own.name),
        Link::Types => "types".to_owned(),
        Link::Denied(denial) => {
            assert_eq!(denial.import, import);
            format!(
                "{}: {} | {}",
                denial.capability.as_deref().unwrap_or("-"),
                denial.reason,
                denial.remedy.as_deref().unwrap_or("-")
            )
        }
    }
}

#[test]
fn levels_are_cumulative() {
    let links = |level| {
        let policy = SecurityPolicy::new(level);
        CATALOGUE
            .iter()
            .filter(|c| link(&policy, &c.interface) == *c.name)
            .map(|c| &*c.name)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let rows = [
        (Level::Sandbox, "print display"),
        (Level::Restricted, "print display input approve sleep read_file"),
        (Level::Standard, "print display input approve sleep read_file write_file fetch"),
        (Level::Trusted, "print display input approve sleep read_file write_file dial fetch websocket query"),
        (Level::Unrestricted, "print display input approve sleep read_file write_file dial fetch websocket query"),
    ];
    for (level, expect) in rows {
        assert_eq!(links(level), expect, "{level}");
        let adds = levels(&CATALOGUE).into_iter().filter(|row| row.level <= level).flat_map(|row| row.adds);
        let mut adds: Vec<&str> = adds.map(|capability| &*capability.name).collect();
        let mut expect: Vec<&str> = expect.split(' ').collect();
        adds.sort_unstable();
        expect.sort_unstable();
        assert_eq!(adds, expect);
    }
}

#[test]
fn denials() {
    let check = |toml: &str, import: &str, expect: &str| assert_eq!(link(&policy(toml), import), expect, "{toml}");
    check(
        "level = \"restricted\"",
        "parole:capabilities/write-file@0.1.0",
        "write_file: `write_file` needs level `standard` or higher; this policy has `restricted` | level = \"standard\"  (or --level standard)",
    );
    check("level = \"standard\"", "parole:capabilities/write-file@0.1.0", "write_file");
    let blocked = "display: `display` is in the block list | remove `display` from `block` (or from --block)";
    for level in Level::ALL {
        check(&format!("level = \"{level}\"\nblock = [\"display\"]"), "parole:capabilities/display@0.1.9", blocked);
        check(&format!("level = \"{level}\"\nblock = [\"print\"]"), "parole:capabilities/display@0.1.9", "display");
        let unknown = link(&SecurityPolicy::new(level), "acme:crm/customers@1.0.0");
        assert_eq!(
            unknown,
            "-: no capability is defined for `acme:crm/customers@1.0.0` | in the policy file: [capability.\"acme:crm/customers@1.0.0\"] wit = \"FILE\", via = \"worker\""
        );
    }
    check(
        "level = \"sandbox\"\nblock = [\"dial\"]",
        "parole:capabilities/dial@1.2.0",
        "dial: `dial` is in the block list | remove `dial` from `block` (or from --block)",
    );
    check(
        "",
        "parole:capabilities/raed-file@0.1.0",
        "-: no capability is defined for `parole:capabilities/raed-file@0.1.0` (the nearest is `parole:capabilities/read-file@0.1.0`) | -",
    );
    check(
        "",
        "acme:files/read-file@0.1.0",
        "-: no capability is defined for `acme:files/read-file@0.1.0` | in the policy file: [capability.\"acme:files/read-file@0.1.0\"] wit = \"FILE\", via = \"worker\"",
    );
    for odd in ["", "read-file", "@", "/", "\u{1f980}", "parole:capabilities/", "wasi:sockets/tcp@0.2.0"] {
        assert!(
            link(&SecurityPolicy::new(Level::Unrestricted), odd).starts_with("-: no capability is defined for"),
            "{odd}"
        );
    }
}

/// Columns: import, what the policy `unrestricted` links.
#[test]
fn names_are_compared_as_the_linker_does() {
    let policy = SecurityPolicy::new(Level::Unrestricted);
    let rows = [
        ("parole:capabilities/read-file@0.1.0", "read_file"),
        ("parole:capabilities/read-file@0.1.99", "read_file"),
        ("parole:capabilities/read-file@0.1.0+build", "read_file"),
        ("parole:capabilities/read-file-async@0.1.3", "read_file"),
        ("parole:capabilities/dial@1.0.0", "dial"),
        ("parole:capabilities/dial@1.9.0", "dial"),
        ("parole:capabilities/types@0.1.0", "types"),
        ("parole:capabilities/types@0.1.5", "types"),
    ];
    for (import, expect) in rows {
        assert_eq!(link(&policy, import), expect, "{import}");
    }
    for version in ["@0.2.0", "@1.0.0", "@0.1.0-rc.1", "@0.1", "@", "", "@0.1.0.0", "@00.1.0"] {
        let (name, host) = ("parole:capabilities/read-file", "parole:capabilities/read-file@0.1.0");
        let expect = format!(
            "read_file: `{name}{version}` does not match `{host}`, the version that this host has | build the guest against {host}"
        );
        assert_eq!(link(&policy, &format!("{name}{version}")), expect);
    }
    for import in [
        "parole:capabilities/dial@2.0.0",
        "parole:capabilities/dial@0.1.0",
        "parole:capabilities/types@0.2.0",
        "parole:capabilities/types",
    ] {
        assert!(link(&policy, import).contains("does not match"), "{import}");
    }
    // What is send-only has no twin.
    assert!(link(&policy, "parole:capabilities/print-async@0.1.0").starts_with("-: no capability is defined"));
}

#[test]
fn async_twins() {
    let twin = "parole:capabilities/input-async@0.1.0";
    let check = |toml: &str, expect: &str| assert_eq!(link(&policy(toml), twin), expect);
    check("async = true", "input");
    check(
        "async = false",
        "input: `input` is asked for by an async guest; this policy has `async = false` | async = true",
    );
    check("block = [\"input\"]", "input: `input` is in the block list | remove `input` from `block` (or from --block)");
    check(
        "level = \"sandbox\"",
        "input: `input` needs level `restricted` or higher; this policy has `sandbox` | level = \"restricted\"  (or --level restricted)",
    );
    assert_eq!(link(&policy("async = false"), "parole:capabilities/input@0.1.0"), "input");
    assert_eq!(CATALOGUE.by_import(twin).map(|(c, twin)| (&*c.name, twin)), Some(("input", true)));
}

/// `link.denied`: linked, and each call is denied, whatever level and block list say.
#[test]
fn what_is_linked_so_that_each_call_is_denied() {
    for level in Level::ALL {
        let toml = format!("level = \"{level}\"\n[link]\ndenied = [\"fetch\", \"acme:crm/customers@1.2.0\"]");
        let policy = policy(&toml);
        assert_eq!(link(&policy, "parole:capabilities/fetch@0.1.0"), "fetch all denied");
        assert_eq!(link(&policy, "acme:crm/customers@1.0.0"), "acme:crm/customers@1.2.0 all denied");
        let other = link(&policy, "acme:crm/customers@2.0.0");
        assert!(other.contains("no capability is defined"), "{other}");
        assert!(!policy.links(common::capability("fetch")));
    }
    let faults = common::faults;
    assert_eq!(
        faults("block = [\"fetch\"]\n[link]\ndenied = [\"fetch\"]"),
        ["3:11 link.denied: `fetch` is in `block` as well | remove `fetch` from one of them"]
    );
    assert!(faults("[link]\ndenied = [\"fecth\"]")[0].contains("unknown capability `fecth` | did you mean `fetch`?"));
    assert!(
        faults("[link]\ndenied = [\"wasi:sockets/tcp@0.2.0\"]")[0]
            .contains("interfaces of `wasi:` are not for others to define")
    );
    assert!(faults("[link]\ndenyed = []")[0].contains("unknown key `link.denyed` | did you mean `denied`?"));
    assert!(
        faults("[link]\ndenied = [\"fetch\"]\n[grant.fetch]\norigins = []")[0]
            .contains("is in `link.denied` of this file")
    );
}
