//! A host that is short of something: it ends the attempt and says so, and no guest is blamed or told.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value, json};

use crate::scratch::{PAROLE, Ran, Scratch, guest, ran};

/// Less address space than one guest reserves, in KiB: more than the program needs itself.
const NARROW: &str = "ulimit -v 3000000";

impl Scratch {
    /// Runs the program under a limit of the shell.
    fn limited(&self, limit: &str, arguments: &[&str]) -> Ran {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{limit} && exec \"$0\" \"$@\""), PAROLE]).args(arguments);
        command.env_clear().env("PAROLE_STATE", self.path("state")).current_dir(self.path(""));
        command.stdin(std::process::Stdio::null());
        ran(command)
    }
}

#[test]
fn a_due_run_is_not_spent_by_a_host_without_room() {
    let scratch = Scratch::new();
    // Compiled before.
    scratch.parole(&["run", &guest("hello.wat")]).code(0);
    for limit in [NARROW, "ulimit -n 20"] {
        scratch.parole(&["run", &guest("hello.wat"), "--at", "+1s", "--quiet"]).code(0);
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        let first = scratch.limited(limit, &["resume", "--all"]);
        assert_eq!(first.out, "", "{limit}: {first:?}");
        let first = first.code(70);
        assert!(
            ["short of memory", "EMFILE", "Too many open files"].iter().any(|what| first.err.contains(what)),
            "{first:?}"
        );
        assert!(!first.err.contains("trapped"), "{first:?}");
        scratch.parole(&["resume", "--all"]).code(0).prints("Hello from WAT\n");
    }
}

#[test]
fn a_resume_without_room_blames_nobody() {
    let scratch = Scratch::new();
    let (execution, promise) = scratch.waiting();
    scratch.parole(&["promise", "resolve", &promise, "--data", "Ada"]).code(0);
    let before = scratch.parole(&["journal", &execution]).code(0).out;
    let short = scratch.limited(NARROW, &["resume", &execution]).code(70).says("the host is short of memory");
    assert!(!short.err.contains("recorded one") && !short.err.contains("cancel"), "{short:?}");
    // Nor does a replay, which has no effects to lose.
    scratch.limited(NARROW, &["replay", &execution]).code(70).says("the host is short of memory");
    assert_eq!(scratch.parole(&["journal", &execution]).code(0).out, before);
    scratch.parole(&["resume", &execution]).code(0).prints("Hello, Ada!\n");
}

/// Answers each request with the same two bytes, and counts them.
fn server() -> (String, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok_and(|read| read > 0) {
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
            }
        }
    });
    (origin, count)
}

/// Whatever it is that no descriptor is left for: the state, the guest, its file, its connection or its database. A
/// run comes to its right end, or to none and says why; a guest is never told.
#[test]
fn a_guest_is_never_told_that_the_host_has_no_descriptors() {
    let scratch = Scratch::new();
    let (origin, count) = server();
    let data = scratch.dir("data");
    std::fs::write(scratch.path("data/in.txt"), "a\nb\n").unwrap();
    let out = scratch.dir("out");
    let shop = format!("{}/../../guest-examples/data/shop.db", env!("CARGO_MANIFEST_DIR"));
    std::fs::copy(shop, scratch.path("shop.db")).unwrap();
    let post = format!("send(\"POST\", \"{origin}/x\", \"hello\")");
    let policy = format!("level = \"standard\"\n[grant.fetch]\norigins = [\"{origin}\"]\nmethods = [\"POST\"]\n");
    let policy = scratch.file("post.toml", policy);
    let (files, web, sql) = (guest("files.wasm"), guest("web.wasm"), guest("sql.wasm"));
    let (read, write) = (format!("/data={data}"), format!("/out={out}"));
    let database = format!("shop=sqlite:{}", scratch.path("shop.db").display());
    let cases: [&[&str]; 3] = [
        &["run", &files, "--allow-read", &read, "--allow-write", &write],
        &["run", &web, "--policy", &policy, "--invoke", &post],
        &[
            "run",
            &sql,
            "--level",
            "trusted",
            "--database",
            &database,
            "--invoke",
            "statement(\"shop\", \"SELECT 1\", [])",
        ],
    ];
    for (case, words) in cases.iter().enumerate() {
        let right = scratch.parole(words).code(0);
        assert_eq!(count.swap(0, std::sync::atomic::Ordering::SeqCst), usize::from(case == 1));
        let mut short = 0;
        for files in 8..40 {
            let limited = scratch.limited(&format!("ulimit -n {files}"), words);
            let list = scratch.parole(&["ps", "--json"]).code(0).json();
            let left: Vec<&str> = list.as_array().unwrap().iter().filter_map(|row| row["execution"].as_str()).collect();
            match limited.code {
                0 => assert_eq!((limited.out.as_str(), left.len()), (right.out.as_str(), 0), "{files}"),
                // What was recorded goes on, and nobody is asked what came of it.
                70 => {
                    short += 1;
                    for execution in left {
                        let ended = scratch.parole(&["resume", execution]).code(0);
                        assert_eq!(format!("{}{}", limited.out, ended.out), right.out, "{files}: {limited:?}");
                    }
                }
                // The file of the guest or of the policy cannot be read.
                2 => short += 1,
                _ => panic!("{files}: {limited:?}"),
            }
            assert!(count.swap(0, std::sync::atomic::Ordering::SeqCst) <= 1, "{files}: sent twice");
        }
        assert!(short > 0, "no limit was low enough");
    }
}

/// A read that a person has allowed is taken on as one that is never repeated; the host's lack is no doubt about it.
#[test]
fn an_approved_read_that_met_a_lack_is_in_no_doubt() {
    let scratch = Scratch::new();
    let policy = scratch.asks_before("read_file");
    let (execution, promise) =
        scratch.left_at(&["run", &guest("files.wasm"), "--policy", &policy, "--detach", "--json"]);
    let pending = scratch.pending();
    let question: Value = serde_json::from_str(pending[0]["param"]["data"].as_str().unwrap()).unwrap();
    let answer = json!({ "decision": "once", "digest": question["digest"] }).to_string();
    scratch.parole(&["promise", "resolve", &promise, "--value", &answer]).code(0);
    for (short, files) in (8..40).enumerate() {
        let limited = scratch.limited(&format!("ulimit -n {files}"), &["resume", &execution]);
        if limited.code == 0 {
            assert!(short > 0, "no limit was low enough");
            assert!(scratch.path("out/out.txt").exists(), "{limited:?}");
            return;
        }
        assert!([2, 70].contains(&limited.code), "{files}: {limited:?}");
        let pending = scratch.pending();
        assert_eq!(pending, json!([]), "{files}: {limited:?}");
    }
    panic!("it never came to its end");
}
