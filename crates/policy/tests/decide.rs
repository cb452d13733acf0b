//! The decision at each call: which paths are in which directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod common;

use common::{Arguments, capability, path, policy, resolved};
use parole_policy::{Definition, Denial, DenialKind, Flag, GuestPath, Level, SecurityPolicy, Verdict, decide};

/// `/data`, `/data/in` and `/deep/er` are granted.
const NESTED: &str =
    "[grant.read_file]\ndirs = { \"/data\" = \"/h/data\", \"/data/in\" = \"/h/in\", \"/deep/er\" = \"/h/deep\" }";
/// Everything is granted, and `/data` apart.
const ROOT: &str = "[grant.read_file]\ndirs = { \"/\" = \"/h/root\", \"/data\" = \"/h/data\" }";

/// What reading a path comes to: `GUEST-DIR relative`, `denied` or `invalid`.
fn read(policy: &SecurityPolicy, path: &str) -> String {
    let path = match GuestPath::read(path) {
        Ok(path) => path,
        Err(denial) => return word(&denial),
    };
    match decide(policy, 7, capability("read_file"), &Arguments::Read { path: &path }) {
        Verdict::Allow(permit) => {
            assert_eq!(permit.generation, 7);
            format!("{} {}", permit.grant.unwrap().dirs[permit.dir.unwrap()].guest, permit.relative)
        }
        Verdict::Ask(asked) => panic!("{asked:?}"),
        Verdict::Deny(denial) => word(&denial),
    }
}

fn word(denial: &Denial) -> String {
    assert!(!denial.reason.contains("/h/") && !denial.remedy.is_empty(), "{denial:?}");
    match denial.kind {
        DenialKind::Denied => "denied".to_owned(),
        DenialKind::Invalid => "invalid".to_owned(),
        DenialKind::TooLarge(limit) => format!("too large: {limit}"),
    }
}

fn check(toml: &str, rows: &[(&str, &str)]) {
    let policy = policy(toml);
    for (path, expect) in rows {
        assert_eq!(read(&policy, path), *expect, "{path:?}");
    }
}

#[test]
fn paths_below_directories() {
    check(
        NESTED,
        &[
            ("/data/x", "/data x"),
            ("data/x", "/data x"),
            ("./data/x", "/data x"),
            ("//data//x", "/data x"),
            ("/./data/./x", "/data x"),
            ("/data/a/b/c", "/data a/b/c"),
            ("/data/a//b", "/data a/b"),
            ("/data/a/./b", "/data a/b"),
            ("/data/a/../b", "/data b"),
            ("/data/a/b/../../c", "/data c"),
            ("/data/..x", "/data ..x"),
            ("/data/x..", "/data x.."),
            ("/data/...", "/data ..."),
            ("/data/.hidden", "/data .hidden"),
            ("/data/ ", "/data  "),
            ("/data/\u{e9}t\u{e9}", "/data \u{e9}t\u{e9}"),
            ("/data/\u{1f980}/x", "/data \u{1f980}/x"),
            ("/data/a\\b", "/data a\\b"),
            ("/data/..\\x", "/data ..\\x"),
            ("/data/%2e%2e/x", "/data %2e%2e/x"),
            ("/data/x\n", "/data x\n"),
            ("/data/data/in", "/data data/in"),
            // The longest mount wins, whatever is in the shorter one.
            ("/data/in/x", "/data/in x"),
            ("/data/in//x", "/data/in x"),
            ("/data/./in/x", "/data/in x"),
            ("/data//in/./x", "/data/in x"),
            ("/data/inn/x", "/data inn/x"),
            ("/data/in2", "/data in2"),
            ("/data/a/in/x", "/data a/in/x"),
            ("/data/In/x", "/data In/x"),
            ("/deep/er/x", "/deep/er x"),
            ("/deep//er/x", "/deep/er x"),
            // Only directories.
            ("/data", "invalid"),
            ("/data/", "invalid"),
            ("/data//", "invalid"),
            ("/data/.", "invalid"),
            ("/data/./", "invalid"),
            ("/data/x/", "invalid"),
            ("/data/x//", "invalid"),
            ("/data/x/.", "invalid"),
            ("/data/x/./", "invalid"),
            ("/data/x/..", "invalid"),
            ("/data/x/y/..", "invalid"),
            ("/data/x/../", "invalid"),
            ("/data/in", "invalid"),
            ("/data/in/", "invalid"),
            // Above the directory.
            ("/data/..", "denied"),
            ("/data/../", "denied"),
            ("/data/../x", "denied"),
            ("/data/./../x", "denied"),
            ("/data//../x", "denied"),
            ("/data/a/../../x", "denied"),
            ("/data/a/../b/../../x", "denied"),
            // `..` is taken as text, wherever it leads.
            ("/data/../data/x", "/data x"),
            ("/data/a/../../data/x", "/data x"),
            ("/data/in/../x", "/data x"),
            ("/data/in/../in/x", "/data/in x"),
            ("/data/in/a/../../x", "/data x"),
            ("/x/../data/x", "/data x"),
            ("/deep/../deep/er/x", "/deep/er x"),
            // There is nothing above the root.
            ("/../data/x", "/data x"),
            ("../data/x", "/data x"),
            ("/../../../etc/passwd", "denied"),
            // Elsewhere.
            ("", "denied"),
            ("/", "denied"),
            (".", "denied"),
            ("..", "denied"),
            ("/..", "denied"),
            ("/etc/passwd", "denied"),
            ("/data2/x", "denied"),
            ("/dat", "denied"),
            ("/dat/x", "denied"),
            ("/Data/x", "denied"),
            ("/dat\u{e0}/x", "denied"),
            ("/data \u{202e}/x", "denied"),
            ("/deep", "denied"),
            ("/deep/x", "denied"),
            ("/deep/err/x", "denied"),
            ("\\data\\x", "denied"),
            // Never right.
            ("\0", "invalid"),
            ("/data/x\0", "invalid"),
            ("/data\0/x", "invalid"),
            ("/etc/\0passwd", "invalid"),
        ],
    );
}

#[test]
fn the_root_as_a_directory() {
    check(
        ROOT,
        &[
            ("/x", "/ x"),
            ("x", "/ x"),
            ("//x", "/ x"),
            ("./x", "/ x"),
            ("/a/b", "/ a/b"),
            ("/data/x", "/data x"),
            ("/data2", "/ data2"),
            ("/a/../b", "/ b"),
            ("/a/../data/x", "/data x"),
            ("", "invalid"),
            ("/", "invalid"),
            (".", "invalid"),
            ("/a/", "invalid"),
            ("/a/..", "invalid"),
            ("/data", "invalid"),
            ("..", "invalid"),
            ("/..", "invalid"),
            ("/../x", "/ x"),
            ("/a/../../x", "/ x"),
            ("/data/../x", "/ x"),
        ],
    );
}

#[test]
fn length_of_a_path() {
    let policy = policy(NESTED);
    let path = |length: usize| format!("/data/{}", "a".repeat(length - 6));
    assert_eq!(read(&policy, &path(4096)), format!("/data {}", "a".repeat(4090)));
    assert_eq!(read(&policy, &path(4097)), "invalid");
    assert_eq!(read(&policy, &"/".repeat(4096)), "denied");
    assert_eq!(read(&policy, &"../".repeat(1365)), "denied");
    assert_eq!(read(&policy, &format!("/data/{}", "\u{e9}".repeat(2046))), "invalid");
}

/// Every path that can be made of these pieces: what is allowed lies below its directory and is a file.
#[test]
fn whatever_is_allowed_stays_inside() {
    const PIECES: [&str; 9] = ["/", "data", "in", "..", ".", "x", "//", "deep", "er"];
    let (policy, capability) = (policy(NESTED), capability("read_file"));
    let mut allowed = 0;
    for number in 0..PIECES.len().pow(6) {
        let mut rest = number;
        let mut path = String::new();
        for _ in 0..6 {
            path.push_str(PIECES[rest % PIECES.len()]);
            rest /= PIECES.len();
        }
        let read = common::path(&path);
        if let Verdict::Allow(permit) = decide(&policy, 0, capability, &Arguments::Read { path: &read }) {
            allowed += 1;
            let guest = &permit.grant.unwrap().dirs[permit.dir.unwrap()].guest;
            assert_eq!(read.as_str(), format!("{guest}/{}", permit.relative), "{path}");
            let plain = |part: &str| !matches!(part, "" | "." | "..");
            assert!(permit.relative.split('/').all(plain), "{path}");
        }
    }
    assert!(allowed > 10_000, "{allowed}");
}

#[test]
fn level_and_block_list_are_asked_again() {
    let path = path("/data/x");
    let arguments = Arguments::Read { path: &path };
    let allows =
        |policy: &SecurityPolicy| matches!(decide(policy, 0, capability("read_file"), &arguments), Verdict::Allow(_));
    let good = resolved(SecurityPolicy::new(Level::Restricted).allow_read("/data", "/h"));
    assert!(allows(&good));
    assert!(!allows(&good.clone().block("read_file")));
    let mut lower = good.clone();
    lower.level = Level::Sandbox;
    assert!(!allows(&lower));
    assert!(allows(&good.clone().block("write_file")));
    // A fault anywhere in a policy denies everything.
    assert!(!allows(&good.clone().allow_write("no-slash", "/h")));
    assert!(!allows(&good.clone().allow_read("/other", "relative")));
    assert!(!allows(&good.allow_read("/data/", "/h2")));
}

#[test]
fn arguments_that_do_not_fit_are_denied() {
    let policy = resolved(SecurityPolicy::new(Level::Standard).allow_read("/d", "/h").allow_write("/d", "/h"));
    let allows = |name, arguments| matches!(decide(&policy, 0, capability(name), &arguments), Verdict::Allow(_));
    let path = path("/d/x");
    let (read, write) = (Arguments::Read { path: &path }, Arguments::Write { path: &path, contents: &[] });
    assert!(allows("read_file", read) && allows("write_file", write));
    // A rule that looks at what a call does not have denies it: here the kind of scope is what fits.
    assert!(!allows("fetch", read) && !allows("query", write) && !allows("websocket", read));
    assert!(!allows("read_file", Arguments::None) && !allows("write_file", Arguments::None));
    assert!(allows("print", Arguments::None) && allows("input", Arguments::None));
    assert!(!allows("print", read) && !allows("input", write));
}

#[test]
fn denials_say_what_and_what_would_allow_it() {
    let denial = |toml: &str, name, text: &str| {
        let path = path(text);
        let arguments = match name {
            "read_file" => Arguments::Read { path: &path },
            _ => Arguments::Write { path: &path, contents: &[] },
        };
        match decide(&policy(toml), 0, capability(name), &arguments) {
            Verdict::Deny(denial) => (denial.reason, denial.remedy),
            other => panic!("{other:?}"),
        }
    };
    let (reason, remedy) = denial("", "read_file", "/etc/passwd");
    assert_eq!(reason, "`read_file` may not reach `/etc/passwd`");
    assert_eq!(remedy, "--allow-read /etc=DIR, or in the policy file: [grant.read_file] dirs = { \"/etc\" = \"DIR\" }");
    let (_, remedy) = denial(NESTED, "write_file", "out/x");
    assert_eq!(
        remedy,
        "--allow-write /out=DIR, or in the policy file: [grant.write_file] dirs = { \"/out\" = \"DIR\" }"
    );
    let (reason, _) = denial(NESTED, "read_file", "/data/../x");
    assert_eq!(reason, "`read_file` may not reach `/x`");
    let (reason, _) = denial(NESTED, "read_file", "/data/.");
    assert_eq!(reason, "`/data/` is not a plain file");
    let (reason, remedy) = denial("level = \"sandbox\"", "read_file", "/x");
    assert_eq!(
        (reason.as_str(), remedy.as_str()),
        ("`read_file` is not granted", "level = \"restricted\"  (or --level restricted)")
    );
    let (reason, _) = denial("", "read_file", &format!("/\u{1b}[2J\n{}", "x".repeat(4000)));
    assert!(reason.len() < 300 && reason.starts_with("`read_file` may not reach `/\\u{1b}[2J\\nxxx"), "{reason}");
}

/// A capability without a flag of its own is granted in a policy file, and its denials name no flag.
#[test]
fn a_remedy_names_only_what_there_is() {
    let policy = resolved(SecurityPolicy::new(Level::Restricted));
    let path = path("/data/x");
    for (flag, start) in
        [(Some(Flag::AllowRead), "--allow-read /data=DIR, or in"), (None, "in the policy file: [grant.")]
    {
        let capability = Definition { flag, ..capability("read_file").clone() };
        match decide(&policy, 0, &capability, &Arguments::Read { path: &path }) {
            Verdict::Deny(denial) => assert!(denial.remedy.starts_with(start), "{}", denial.remedy),
            other => panic!("{other:?}"),
        }
    }
}
