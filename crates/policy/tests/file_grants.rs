//! The `[grant.NAME]` tables of the policy file: a wrong value with its message, line and help; the right one
//! beside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod common;

use std::path::Path;

use common::{CATALOGUE, faults, policy};
use parole_policy::{MAX_DIRS, SecurityPolicy, Timeout};

/// The file has exactly these faults.
fn check(toml: &str, expect: &[&str]) {
    assert_eq!(faults(toml), expect, "\n--- file:\n{toml}");
}

/// The file is read.
fn twin(toml: &str) {
    check(toml, &[]);
}

#[test]
fn grants() {
    check("grant = []", &["1:9 `grant` must be a table, found a list"]);
    check("[grant]\nread_file = 1", &["2:13 `grant.read_file` must be a table, found an integer"]);
    check("[[grant.read_file]]", &["1:1 `grant.read_file` must be a table, found a list"]);
    check("[grant.raed_file]", &["1:8 unknown capability `raed_file` | did you mean `read_file`?"]);
    check("[grant.print]", &["1:8 grant.print: `print` takes no grant; its level and `block` decide"]);
    check("[grant.read_file]\ndir = {}", &["2:1 unknown key `grant.read_file.dir` | did you mean `dirs`?"]);
    check(
        "[grant.read_file]\nquota = 1",
        &["2:1 unknown key `grant.read_file.quota` | valid: dirs, max_bytes, timeout_ms"],
    );
    check(
        "[grant.write_file]\nmax_bytes = 1",
        &["2:1 unknown key `grant.write_file.max_bytes` | valid: dirs, quota, max_files, timeout_ms"],
    );
    check("[grant.input]\ndirs = {}", &["2:1 unknown key `grant.input.dirs` | valid: timeout_ms"]);
    twin("[grant]");
    twin("[grant.read_file]");
    twin("grant.read_file.dirs.\"/d\" = \"d\"");
    check(
        "[grant.read_file]\nmax_bytes = \"lots\"",
        &[
            "2:13 `grant.read_file.max_bytes` is not a size: `lots` | write an integer of bytes, or text such as \"64MiB\" (units: B, KiB, MiB, GiB)",
        ],
    );
    check(
        "[grant.read_file]\nmax_bytes = \"2GiB\"",
        &["2:13 `grant.read_file.max_bytes` is too large: 1GiB at most | 0B to 1GiB"],
    );
    check(
        "[grant.write_file]\nquota = \"99999GiB\"",
        &["2:9 `grant.write_file.quota` is too large: 16384GiB at most | 0B to 16384GiB"],
    );
    check(
        "[grant.write_file]\nquota = false",
        &["2:9 `grant.write_file.quota` must be a size, such as \"64MiB\" or an integer of bytes, found true or false"],
    );
    check(
        "[grant.write_file]\nmax_files = \"9\"",
        &["2:13 `grant.write_file.max_files` must be an integer, found text"],
    );
    check(
        "[grant.write_file]\nmax_files = 1_000_000_001",
        &["2:13 `grant.write_file.max_files` is too large: 1000000000 at most | 0 to 1000000000"],
    );
    for name in ["input", "approve", "sleep", "read_file", "write_file"] {
        let range = "1 ms to 315360000000 ms";
        check(
            &format!("[grant.{name}]\ntimeout_ms = 0"),
            &[&format!("2:14 `grant.{name}.timeout_ms` is too small: 1 ms at least | {range}")],
        );
        check(
            &format!("[grant.{name}]\ntimeout_ms = 315360000001"),
            &[&format!("2:14 `grant.{name}.timeout_ms` is too large: 315360000000 ms at most | {range}")],
        );
        check(
            &format!("[grant.{name}]\ntimeout_ms = \"5m\""),
            &[&format!(
                "2:14 `grant.{name}.timeout_ms` must be an integer or \"never\", found text | write 300000 (milliseconds)"
            )],
        );
        check(
            &format!("[grant.{name}]\ntimeout_ms = \"Never\""),
            &[&format!(
                "2:14 `grant.{name}.timeout_ms` must be an integer or \"never\", found text | an integer of milliseconds, or \"never\""
            )],
        );
        check(
            &format!("[grant.{name}]\ntimeout_ms = 1979-05-27"),
            &[&format!("2:14 `grant.{name}.timeout_ms` must be an integer, found a date or time")],
        );
        twin(&format!("[grant.{name}]\ntimeout_ms = 315360000000"));
        assert_eq!(policy(&format!("[grant.{name}]\ntimeout_ms = \"never\"")).grants[name].timeout, Timeout::Never);
    }
}

#[test]
fn directories() {
    let dirs = |inside: &str| format!("[grant.read_file]\ndirs = {{ {inside} }}");
    let check = |inside: &str, expect: &[&str]| check(&dirs(inside), expect);
    check("", &[]);
    check("\"/data\" = \"data\", \"/data/in\" = \"/srv/in\", \"/\" = \".\"", &[]);
    check(
        "\"data\" = \"data\"",
        &["2:10 grant.read_file.dirs: guest path `data` must start with `/` | write \"/data\""],
    );
    check("\"\" = \"data\"", &["2:10 grant.read_file.dirs: guest path `` must start with `/` | write \"/\""]);
    check("\"/a/../b\" = \"b\"", &["2:10 grant.read_file.dirs: guest path `/a/../b` holds `..`"]);
    check("\"/a\\u0000\" = \"b\"", &["2:10 grant.read_file.dirs: guest path `/a\\0` holds a NUL character"]);
    check("\"/a\" = \"\"", &["2:17 grant.read_file.dirs: the host path is empty"]);
    check("\"/a\" = \"x\\u0000\"", &["2:17 grant.read_file.dirs: host path `x\\0` holds a NUL character"]);
    check("\"/a\" = 1", &["2:17 `grant.read_file.dirs./a` must be text in quotes, found an integer"]);
    check("\"/a\" = \"x\", \"/a/\" = \"y\"", &["2:22 grant.read_file.dirs: guest path `/a` is granted twice"]);
    check("\"/a\" = \"x\", \"/./a//\" = \"y\"", &["2:22 grant.read_file.dirs: guest path `/a` is granted twice"]);
    check("\"/a\" = \"x\", \"/a\" = \"y\"", &["2:22 key `\"/a\"` stands twice"]);
    assert_eq!(
        faults("[grant.read_file]\ndirs = [\"/a\"]"),
        ["2:8 `grant.read_file.dirs` must be a table, found a list"]
    );
    assert_eq!(faults("[grant.read_file]\ndirs = \"a\""), ["2:8 `grant.read_file.dirs` must be a table, found text"]);

    let long = |length: usize| format!("\"/{}\" = \"x\"", "a".repeat(length));
    check(&long(4095), &[]);
    assert!(faults(&dirs(&long(4096)))[0].ends_with("is over 4096 bytes"));
    let many = |count: usize| (0..count).map(|n| format!("\"/{n}\" = \"x\"")).collect::<Vec<_>>().join(", ");
    check(&many(MAX_DIRS), &[]);
    assert!(faults(&dirs(&many(MAX_DIRS + 1)))[0].ends_with("a grant may have 64 directories at most"));

    let policy = policy(&dirs("\"/b/./c/\" = \"./x/../data/\", \"/a\" = \"/srv/d\""));
    let dirs: Vec<_> =
        policy.grants["read_file"].dirs.iter().map(|dir| (dir.guest.as_str(), dir.host.as_path())).collect();
    assert_eq!(dirs, [("/a", Path::new("/srv/d")), ("/b/c", Path::new("/p/data"))]);
    let relative =
        SecurityPolicy::parse("[grant.read_file]\ndirs.\"/a\" = \"x\"", Path::new("p"), &CATALOGUE).unwrap_err();
    assert!(relative[0].message.ends_with("is relative to a directory that is not absolute"));
}

#[test]
fn defaults_of_grants() {
    let policy = policy("[grant.read_file]\n[grant.write_file]\n[grant.input]");
    let (read, write, input) = (&policy.grants["read_file"], &policy.grants["write_file"], &policy.grants["input"]);
    assert_eq!((read.max_bytes, read.quota, read.max_files), (Some(8 << 20), None, None));
    assert_eq!((write.max_bytes, write.quota, write.max_files), (None, Some(64 << 20), Some(1_000)));
    assert_eq!((read.timeout, write.timeout), (Timeout::After(10_000), Timeout::After(10_000)));
    assert_eq!(input.timeout, Timeout::After(300_000));
    assert!(read.dirs.is_empty() && write.dirs.is_empty());
}

#[test]
fn grants_that_the_file_itself_excludes() {
    let grant = "[grant.write_file]\ndirs = { \"/out\" = \"out\" }";
    check(
        &format!("level = \"sandbox\"\n{grant}"),
        &[
            "2:8 grant.write_file: `write_file` needs level `standard`; this file has `sandbox` | level = \"standard\", or remove the grant",
        ],
    );
    check(
        &format!("block = [\"write_file\"]\n{grant}"),
        &[
            "2:8 grant.write_file: `write_file` is in the block list of this file | remove `write_file` from `block`, or the grant",
        ],
    );
    twin(&format!("level = \"standard\"\n{grant}"));
    twin(&format!("block = [\"read_file\"]\n{grant}"));
    // A level that is wrong says nothing about the grants.
    check(&format!("level = \"sandbx\"\n{grant}"), &["1:9 unknown level `sandbx` | did you mean `sandbox`?"]);
}
