//! A wrong one of every file, flag, id and value: the exit code, and that the message says what was expected.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::scratch::{Scratch, guest, ran};

const UNKNOWN: &str = "01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44";

/// Each of these fails with this code, says this on stderr, and prints nothing on stdout but
/// one object under --json.
fn check(scratch: &Scratch, arguments: &[&str], code: i32, says: &str) {
    let plain = scratch.parole(arguments);
    assert_eq!(plain.code, code, "{arguments:?}\nstdout: {}\nstderr: {}", plain.out, plain.err);
    assert!(plain.err.contains(says), "{arguments:?} does not say {says:?}: {}", plain.err);
    assert_eq!(plain.out, "", "{arguments:?}");
}

#[test]
fn words_and_flags() {
    let s = Scratch::new();
    check(&s, &[], 2, "Usage: parole");
    check(&s, &["rnu"], 2, "unrecognized subcommand 'rnu'");
    check(&s, &["run"], 2, "<GUEST>");
    check(&s, &["run", "a", "b"], 2, "unexpected argument 'b'");
    check(&s, &["ps", "--jason"], 2, "a similar argument exists: '--json'");
    check(&s, &["resume"], 2, "<EXECUTION>");
    check(&s, &["resume", "--watch"], 2, "--all");
    check(&s, &["resume", "--all", UNKNOWN], 2, "cannot be used with");
    check(&s, &["run", "a", "--detach", "--stdin", "-"], 2, "cannot be used with");
    check(&s, &["completions", "tcsh"], 2, "bash, elvish, fish, powershell, zsh");
    check(&s, &["wit", "fetchh"], 2, "possible values");
    check(&s, &["promise", "settle", "x"], 2, "unrecognized subcommand");
}

#[test]
fn guests() {
    let s = Scratch::new();
    let (text, module) = (s.file("text.wasm", "hello"), s.file("module.wat", "(module)"));
    let (empty, none) = (s.file("empty.wasm", ""), s.file("none.wat", "(component)"));
    let dir = s.dir("dir");
    for word in ["run", "inspect"] {
        check(&s, &[word, "missing.wasm"], 2, "expected the file of a guest");
        check(&s, &[word, &dir], 2, "is not a file");
        check(&s, &[word, &text], 65, "neither a WebAssembly component nor its text form");
        check(&s, &[word, &module], 65, "not a valid guest");
        check(&s, &[word, &empty], 65, "not a valid guest");
    }
    check(&s, &["run", &none], 65, "exports no function");
    check(&s, &["run", "/dev/zero"], 2, "is not a file");
}

#[test]
fn calls() {
    let (s, add) = (Scratch::new(), guest("add.wat"));
    check(&s, &["run", &add, "--invoke", "add(1"], 2, "is not a call such as");
    check(&s, &["run", &add, "--invoke", "add(1)"], 2, "does not fit");
    check(&s, &["run", &add, "--invoke", "add(\"a\", 2)"], 2, "does not fit");
    check(&s, &["run", &add, "--invoke", "sub(1, 2)"], 2, "it has: add");
    check(&s, &["run", &add, "--invoke", ""], 2, "is not a call such as");
    check(&s, &["run", &add], 2, "it has: add");
    let deep = format!("add({}", "(".repeat(5000));
    check(&s, &["run", &add, "--invoke", &deep], 2, "nested deeper");
}

#[test]
fn policy_flags() {
    let (s, hello) = (Scratch::new(), guest("hello.wat"));
    let file = s.file("file", "");
    let run = |words: &[&str], says: &str| {
        let words: Vec<&str> = ["run", &hello].iter().chain(words).copied().collect();
        check(&s, &words, 2, says);
    };
    run(&["--level", "standart"], "'standard'");
    run(&["--level", ""], "sandbox, restricted");
    run(&["--block", "prnt"], "'print'");
    run(&["--block", "print,"], "possible values");
    run(&["--allow-net", "api.example.com"], "--allow-net api.example.com");
    run(&["--allow-net", "http://a.example/path"], "path");
    run(&["--allow-net", "http://me@a.example"], "--allow-net");
    run(&["--allow-net", ""], "--allow-net");
    run(&["--level", "trusted", "--database", "inventory.db"], "there is no `=` in it");
    run(&["--level", "trusted", "--database", "d=./inventory.db"], "NAME=sqlite:PATH");
    run(&["--database", "d=sqlite:./x.db"], "needs level `trusted`");
    run(&["--level", "trusted", "--database", "d=sqlite:./missing.db"], "cannot be opened");
    run(&["--level", "trusted", "--database", "d=postgres://me:secret@host/d"], "holds a password");
    run(&["--allow-read", "missing"], "cannot be opened");
    run(&["--allow-read", &file], "cannot be opened");
    run(&["--allow-read", "data=x"], "/GUEST=DIR");
    run(&["--allow-read", ".."], "GUEST=DIR");
    run(&["--allow-write", "/a=missing"], "cannot be opened");
    run(&["--allow-write", ""], "--allow-write");
    run(&["--timeout", "input"], "CAP=DURATION");
    run(&["--timeout", "input=5"], "5m");
    run(&["--timeout", "inptu=5m"], "input");
    run(&["--timeout", "print=5m"], "makes no promises");
    run(&["--level", "sandbox", "--timeout", "input=5m"], "needs level");
    run(&["--level", "sandbox", "--allow-read", "/x=."], "needs level");
    run(&["--policy", "missing.toml"], "cannot be read");
    run(&["--policy", "."], "is not a file");
    let binary = s.file("binary.toml", b"level = \"\xff\"");
    run(&["--policy", &binary], "not UTF-8");
    let long = s.file("long.toml", vec![b'#'; (1 << 20) + 1]);
    run(&["--policy", &long], "over 1048576 bytes");
}

#[test]
fn policy_words() {
    let s = Scratch::new();
    let file = s.file("p.toml", "");
    check(&s, &["policy", "check", "missing"], 2, "cannot be read");
    check(&s, &["policy", "check"], 2, "<FILE>");
    check(&s, &["policy", "explain", &file], 2, "<CAP>");
    check(&s, &["policy", "explain", &file, "read_fil"], 2, "'read_file'");
    check(&s, &["policy", "explain", &file, "read_file"], 2, "read_file PATH");
    check(&s, &["policy", "explain", &file, "read_file", "a", "b"], 2, "read_file PATH");
    check(&s, &["policy", "explain", &file, "write_file"], 2, "write_file PATH [BYTES]");
    check(&s, &["policy", "explain", &file, "write_file", "/x", "many"], 2, "write_file PATH [BYTES]");
    check(&s, &["policy", "explain", &file, "print", "x", "y"], 2, "expected: print TEXT");
}

#[test]
fn ids() {
    let s = Scratch::new();
    for word in ["resume", "show", "journal", "replay", "cancel"] {
        check(&s, &[word, "greet"], 2, "expected an execution id");
        check(&s, &[word, ""], 2, "expected an execution id");
        check(&s, &[word, UNKNOWN], 2, "parole ps --all");
    }
    check(&s, &["promises", "--execution", "x"], 2, "expected an execution id");
    check(&s, &["promises", "--capability", "inptu"], 2, "'input'");
    for id in ["", "input", "input:x:y", "\u{1b}[2J", &"x".repeat(100_000)] {
        check(&s, &["promise", "get", id], 2, "parole promises");
        check(&s, &["promise", "resolve", id, "--data", "x"], 2, "parole promises");
        check(&s, &["promise", "reject", id], 2, "parole promises");
        check(&s, &["promise", "cancel", id], 2, "parole promises");
    }
}

#[test]
fn values() {
    let s = Scratch::new();
    let (execution, id) = s.waiting();
    let resolve = |words: &[&str], says: &str| {
        let words: Vec<&str> = ["promise", "resolve", &id].iter().chain(words).copied().collect();
        check(&s, &words, 2, says);
    };
    resolve(&[], "--data <TEXT>");
    resolve(&["--data", "x", "--value", "1"], "cannot be used with");
    resolve(&["--value", "Ada"], "use --data Ada");
    resolve(&["--value", "1"], "expected a JSON string");
    resolve(&["--value", "null"], "still pending");
    resolve(&["--value", &"[".repeat(100_000)], "is not JSON");
    resolve(&["--file", "missing"], "expected a file with JSON");
    resolve(&["--file", "."], "is a directory");
    let (binary, broken) = (s.file("binary", b"\"\xff\""), s.file("broken", "{"));
    resolve(&["--file", &binary], "not UTF-8");
    resolve(&["--file", &broken], "is not JSON");
    let long = s.file("long", vec![b' '; (8 << 20) + 1]);
    resolve(&["--file", &long], "longer than");
    assert_eq!(s.parole(&["promise", "get", &id, "--json"]).code(0).json()["state"], "pending");
    let good = s.file("good", "\"Ada\"");
    s.parole(&["promise", "resolve", &id, "--file", &good]).code(0);
    s.parole(&["resume", &execution]).code(0).prints("Hello, Ada!\n");

    let (_, timer) = s.left_at(&["run", &guest("sleeper.wasm"), "--detach", "--json"]);
    check(&s, &["promise", "resolve", &timer, "--data", "x"], 2, "a timer has no value");
    check(&s, &["promise", "reject", &timer], 2, "it can be resolved, as if its time had come, or canceled");
}

#[test]
fn stdin_files() {
    let (s, greet) = (Scratch::new(), guest("greet.wasm"));
    check(&s, &["run", &greet, "--stdin", "missing"], 2, "a line for each input");
    check(&s, &["run", &greet, "--stdin", "."], 2, "is a directory");
    check(&s, &["answer"], 2, "needs a terminal");
    assert_eq!(s.parole(&["ps", "--all", "--json"]).code(0).json(), serde_json::json!([]));
}

#[test]
fn durations_of_gc() {
    let s = Scratch::new();
    for text in ["", "7", "7 d", "-1d", "never", "99999999d", "1.5h"] {
        check(&s, &["gc", &format!("--older-than={text}")], 2, "7d");
    }
}

#[test]
fn state_directories() {
    let s = Scratch::new();
    let file = s.file("file", "");
    let open = s.dir("open");
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(s.dir("real"), s.path("link")).unwrap();
    check(&s, &["ps", "--state="], 2, "--state");
    check(&s, &["ps", "--state", &file], 70, "is not a directory");
    check(&s, &["ps", "--state", "link"], 70, "symbolic links are not followed");
    check(&s, &["ps", "--state", &open], 70, "chmod 700");
    check(&s, &["ps", "--state", "/proc/none/x"], 70, "cannot use");
    let nowhere = |variables: &[(&str, &str)]| {
        let mut command = s.command(["ps"]);
        command.env_clear().envs(variables.iter().copied());
        ran(command)
    };
    nowhere(&[]).code(2).says("--state DIR or PAROLE_STATE=DIR");
    nowhere(&[("HOME", ""), ("PAROLE_STATE", "")]).code(2).says("PAROLE_STATE");
    nowhere(&[("HOME", "relative")]).code(2).says("PAROLE_STATE");
    let home = s.dir("home");
    nowhere(&[("HOME", &home)]).code(0);
    assert!(s.path("home/.local/state/parole/parole.db").exists());
    nowhere(&[("HOME", &home), ("XDG_STATE_HOME", &s.dir("xdg"))]).code(0);
    assert!(s.path("xdg/parole/parole.db").exists());
}

#[test]
fn damaged_state() {
    let s = Scratch::new();
    s.parole(&["ps"]).code(0);
    for companion in ["state/parole.db-wal", "state/parole.db-shm"] {
        let _ = std::fs::remove_file(s.path(companion));
    }
    std::fs::write(s.path("state/parole.db"), "this is no database, whatever its name says. ".repeat(200)).unwrap();
    let ran = s.parole(&["ps"]).code(70);
    assert!(ran.err.starts_with("parole: "), "{}", ran.err);
}

#[test]
fn arguments_that_are_not_text() {
    let s = Scratch::new();
    let strange = OsStr::from_bytes(b"a\xff\x1b[2J");
    let plain = |word: &'static str| OsStr::new(word);
    for words in [
        vec![plain("run"), strange],
        vec![plain("run"), plain("g"), plain("--allow-read"), strange],
        vec![plain("run"), plain("g"), plain("--policy"), strange],
        vec![plain("run"), plain("g"), plain("--stdin"), strange],
        vec![plain("run"), plain("g"), plain("--invoke"), strange],
        vec![plain("show"), strange],
        vec![plain("promise"), plain("get"), strange],
        vec![plain("gc"), plain("--older-than"), strange],
        vec![strange],
    ] {
        let ran = ran(s.command(&words)).code(2);
        assert!(!ran.err.contains('\u{1b}'), "{:?}", ran.err);
    }
    ran(s.command([plain("show"), strange])).code(2).says("is not UTF-8 text");
}

#[test]
fn json_is_one_object_even_where_nothing_ran() {
    let s = Scratch::new();
    for (words, code) in [
        (&["run", "missing.wasm", "--json"][..], 2),
        (&["run", "--json"], 2),
        (&["show", UNKNOWN, "--json"], 2),
        (&["show", "x", "--json"], 2),
        (&["promise", "get", "x", "--json"], 2),
        (&["resume", UNKNOWN, "--json"], 2),
    ] {
        let object = s.parole(words).code(code).json();
        assert_eq!(object["exit"], code, "{words:?}");
        assert!(object["error"].as_str().is_some_and(|text| !text.is_empty()), "{words:?}");
    }
    let text = s.file("text.wasm", "hello");
    assert_eq!(s.parole(&["run", &text, "--json"]).code(65).json()["exit"], 65);
}
