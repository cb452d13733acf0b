//! Every key of the policy file: a wrong value with its message, line and help; the right one beside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod common;

use common::{faults, parse, policy};
use parole_policy::{Level, Limits, MAX_ERRORS, MAX_FILE};

/// The file has exactly these faults.
fn check(toml: &str, expect: &[&str]) {
    assert_eq!(faults(toml), expect, "\n--- file:\n{toml}");
}

/// The file is read.
fn twin(toml: &str) {
    check(toml, &[]);
}

#[test]
fn top_keys() {
    twin("");
    twin("# nothing\n");
    check("levle = \"standard\"", &["1:1 unknown key `levle` | did you mean `level`?"]);
    check(
        "allowed_host = [\"x\"]",
        &["1:1 unknown key `allowed_host` | valid: level, capability, block, link, async, limits, grant, rule"],
    );
    check(
        "\n\n  colour = 1",
        &["3:3 unknown key `colour` | valid: level, capability, block, link, async, limits, grant, rule"],
    );
    check("level = \"Standard\"", &["1:9 unknown level `Standard` | did you mean `standard`?"]);
    check("level = \"trustd\"", &["1:9 unknown level `trustd` | did you mean `trusted`?"]);
    check(
        "level = \"root\"",
        &["1:9 unknown level `root` | valid: sandbox, restricted, standard, trusted, unrestricted"],
    );
    check("level = 3", &["1:9 `level` must be text in quotes, found an integer"]);
    twin("level = \"trusted\"");
    check("block = \"print\"", &["1:9 `block` must be a list, found text"]);
    check("block = [\"pritn\"]", &["1:10 unknown capability `pritn` | did you mean `print`?"]);
    check("block = [\"print\",\n 7]", &["2:2 `block` must be text in quotes, found an integer"]);
    check("block = [\"read-file\"]", &["1:10 unknown capability `read-file` | did you mean `read_file`?"]);
    twin("block = [\"print\", \"read_file\"]");
    twin("block = []");
    check("async = \"yes\"", &["1:9 `async` must be true or false, found text"]);
    check("async = 1", &["1:9 `async` must be true or false, found an integer"]);
    twin("async = false");
    assert!(!policy("async = false").async_guests);
    assert!(policy("").async_guests);
}

#[test]
fn keys_of_later_versions() {
    check("[wasi]\nsockets = \"denied\"", &["1:2 key `wasi` is not known to this version of Parole yet"]);
    check("[grant.fetch]\nvia = \"worker\"", &["2:1 key `grant.fetch.via` is not known to this version of Parole yet"]);
}

#[test]
fn limits() {
    check("limits = 1", &["1:10 `limits` must be a table, found an integer"]);
    check("[[limits]]", &["1:1 `limits` must be a table, found a list"]);
    check("[limits]\nmemroy = 1", &["2:1 unknown key `limits.memroy` | did you mean `memory`?"]);
    check(
        "[limits]\ngas = 1",
        &[
            "2:1 unknown key `limits.gas` | valid: cpu_ms, wall_ms, memory, tables, arguments, handles, output, promises, journal, park_after_ms, compile_cpu_ms, compile_memory",
        ],
    );
    for key in ["cpu_ms", "wall_ms", "tables", "handles", "promises", "park_after_ms"] {
        check(
            &format!("[limits]\n{key} = true"),
            &[&format!("2:{} `limits.{key}` must be an integer, found true or false", key.len() + 4)],
        );
        check(
            &format!("[limits]\n{key} = 1.5"),
            &[&format!("2:{} `limits.{key}` must be an integer, found a number with a fraction", key.len() + 4)],
        );
        check(
            &format!("[limits]\n{key} = \"64MiB\""),
            &[&format!("2:{} `limits.{key}` must be an integer, found text", key.len() + 4)],
        );
        twin(&format!("[limits]\n{key} = 1"));
        twin(&format!("[limits]\n{key} = 0x10"));
        twin(&format!("[limits]\n{key} = 1_0"));
    }
    for key in ["memory", "arguments", "output", "journal"] {
        for wrong in ["64MB", "64 MiB", "MiB", "", "-1MiB", "1.5GiB", "99999999999999999999GiB", "64mib", "64"] {
            let help = "write an integer of bytes, or text such as \"64MiB\" (units: B, KiB, MiB, GiB)";
            check(
                &format!("[limits]\n{key} = \"{wrong}\""),
                &[&format!("2:{} `limits.{key}` is not a size: `{wrong}` | {help}", key.len() + 4)],
            );
        }
        check(
            &format!("[limits]\n{key} = []"),
            &[&format!(
                "2:{} `limits.{key}` must be a size, such as \"64MiB\" or an integer of bytes, found a list",
                key.len() + 4
            )],
        );
        for right in ["\"64MiB\"", "\"8KiB\"", "\"1GiB\"", "\"500B\"", "4096", "0x1000"] {
            twin(&format!("[limits]\n{key} = {right}"));
        }
    }
    check(
        "[limits]\ncpu_ms = \"10s\"",
        &["2:10 `limits.cpu_ms` must be an integer, found text | write 10000 (milliseconds)"],
    );
}

#[test]
fn limits_have_a_least_and_a_greatest_value() {
    let rows: [(&str, u64, u64, &str, &str); 10] = [
        ("cpu_ms", 1, 86_400_000, "1 ms", "86400000 ms"),
        ("wall_ms", 1, 604_800_000, "1 ms", "604800000 ms"),
        ("memory", 1, 16 << 30, "1B", "16GiB"),
        ("tables", 0, 100_000_000, "0", "100000000"),
        ("arguments", 0, 1 << 30, "0B", "1GiB"),
        ("handles", 0, 1_000_000, "0", "1000000"),
        ("output", 0, 1 << 30, "0B", "1GiB"),
        ("promises", 0, 1_000_000, "0", "1000000"),
        ("journal", 1, 16 << 30, "1B", "16GiB"),
        ("park_after_ms", 0, 86_400_000, "0 ms", "86400000 ms"),
    ];
    for (key, least, most, least_text, most_text) in rows {
        let column = key.len() + 4;
        let high = format!("2:{column} `limits.{key}` is too large: {most_text} at most | {least_text} to {most_text}");
        let low =
            format!("2:{column} `limits.{key}` is too small: {least_text} at least | {least_text} to {most_text}");
        twin(&format!("[limits]\n{key} = {most}"));
        twin(&format!("[limits]\n{key} = {least}"));
        check(&format!("[limits]\n{key} = {}", most + 1), &[&high]);
        check(&format!("[limits]\n{key} = 99999999999999999999"), &[&high]);
        check(&format!("[limits]\n{key} = {}", "9".repeat(60)), &[&high]);
        check(&format!("[limits]\n{key} = -1"), &[&low]);
        check(&format!("[limits]\n{key} = -{}", "9".repeat(60)), &[&low]);
        if least == 1 {
            check(&format!("[limits]\n{key} = 0"), &[&low]);
        }
    }
    let limits = policy("[limits]\nmemory = \"8KiB\"\noutput = 0\npromises = 0").limits;
    assert_eq!(limits, Limits { memory: 8192, output: 0, promises: 0, ..Limits::of(Level::Standard) });
}

#[test]
fn all_errors_at_once_in_the_order_of_the_file() {
    check(
        "zzz = 1\nlevel = \"x\"\nblock = [\"y\"]\n[limits]\ncpu_ms = 0\n[grant.read_file]\nq = 1",
        &[
            "1:1 unknown key `zzz` | valid: level, capability, block, link, async, limits, grant, rule",
            "2:9 unknown level `x` | valid: sandbox, restricted, standard, trusted, unrestricted",
            "3:10 unknown capability `y` | valid: print, display, input, approve, sleep, read_file, write_file, dial, fetch, websocket, query",
            "5:10 `limits.cpu_ms` is too small: 1 ms at least | 1 ms to 86400000 ms",
            "7:1 unknown key `grant.read_file.q` | valid: dirs, max_bytes, timeout_ms",
        ],
    );
    let many: String = (0..1000).map(|n| format!("key{n} = 1\n")).collect();
    assert_eq!(faults(&many).len(), MAX_ERRORS);
}

#[test]
fn duplicates() {
    check("level = \"sandbox\"\nlevel = \"trusted\"", &["2:1 key `level` stands twice"]);
    check("[grant.read_file]\n[grant.read_file]", &["2:8 key `read_file` stands twice"]);
    check(
        "[limits]\ncpu_ms = 1\ncpu_ms = 2\nwall = 1",
        &["3:1 key `cpu_ms` stands twice", "4:1 unknown key `limits.wall` | did you mean `wall_ms`?"],
    );
}

#[test]
fn syntax_and_odd_text() {
    for broken in [
        "level = ",
        "level",
        "= 1",
        "[grant",
        "level = 'x",
        "a = {",
        "a = [1,",
        "\0",
        "level = \"\u{7f}\"",
        "\u{feff}\u{feff}",
        "a\rb",
    ] {
        assert!(parse(broken).is_err_and(|errors| !errors.is_empty()), "{broken:?}");
    }
    assert!(faults("level = \"standard\"\nblock = [")[0].starts_with("2:"));
    twin("\u{feff}level = \"trusted\"\r\nblock = []\r\n");
    check(
        "\u{feff}levle = 1\r\nblok = 2\r\n",
        &["1:1 unknown key `levle` | did you mean `level`?", "2:1 unknown key `blok` | did you mean `block`?"],
    );
    check("\"l\u{e4}vel\" = 1", &["1:1 unknown key `l\u{e4}vel` | did you mean `level`?"]);
    check(
        "block = [ \"\u{1f980}\", \"prnt\"]",
        &[
            "1:11 unknown capability `\u{1f980}` | valid: print, display, input, approve, sleep, read_file, write_file, dial, fetch, websocket, query",
            "1:16 unknown capability `prnt` | did you mean `print`?",
        ],
    );
    check(
        "\"\\u001b[2J\\n\" = 1",
        &["1:1 unknown key `\\u{1b}[2J\\n` | valid: level, capability, block, link, async, limits, grant, rule"],
    );
}

#[test]
fn size_of_the_file() {
    twin(&" ".repeat(MAX_FILE));
    check(&" ".repeat(MAX_FILE + 1), &["1:1 the file is over 1048576 bytes"]);
    assert!(faults(&format!("{} = 1", "k".repeat(MAX_FILE - 10)))[0].len() < 400);
    assert!(!faults(&"[".repeat(MAX_FILE)).is_empty());
}
