//! `grant` and `revoke`: what an execution may reach, changed from another process.

use serde_json::{Value, json};

use crate::scratch::{Ran, Scratch, guest};

/// A guest that asks for URLs, left at its first question.
fn waiting(scratch: &Scratch) -> (String, String) {
    scratch.left_at(&["run", &guest("web.wasm"), "--allow-net", "http://127.0.0.1:9", "--json"])
}

/// Answers its question with a URL and lets it go on to the next. Gives what it printed.
fn fetches(scratch: &Scratch, execution: &str, url: &str) -> Ran {
    let pending = scratch.parole(&["promises", "--pending", "--execution", execution, "--json"]).code(0).json();
    let id = pending[0]["id"].as_str().unwrap().to_owned();
    scratch.parole(&["promise", "resolve", &id, "--data", url]).code(0);
    scratch.parole(&["resume", execution, "--quiet"]).code(75)
}

fn change(scratch: &Scratch, words: &[&str]) -> Value {
    let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
    scratch.parole(&words).code(0).json()
}

#[test]
fn the_next_call_is_decided_under_the_new_generation() {
    let scratch = Scratch::new();
    let (execution, _) = waiting(&scratch);
    let denied = |url: &str| fetches(&scratch, &execution, url).out.contains("denied");
    assert!(denied("http://127.0.0.2:9/"));
    let granted = change(&scratch, &["grant", &execution, "--allow-net", "http://127.0.0.2:9"]);
    let expected = json!({ "grant": ["--allow-net http://127.0.0.2:9"] });
    assert_eq!(granted, json!({ "execution": execution, "generation": 1, "change": expected }));
    // Nobody listens there, which is another failure.
    assert!(!denied("http://127.0.0.2:9/") && !denied("http://127.0.0.1:9/"));
    let revoked = change(&scratch, &["revoke", &execution, "--allow-net", "http://127.0.0.1:9"]);
    assert_eq!(revoked["generation"], 2);
    assert!(denied("http://127.0.0.1:9/") && !denied("http://127.0.0.2:9/"));
    assert_eq!(change(&scratch, &["revoke", &execution, "fetch"])["generation"], 3);
    assert!(denied("http://127.0.0.2:9/"));
    scratch.parole(&["grant", &execution, "fetch"]).code(0).prints("generation 4\n").says("from its next call on");
    assert!(!denied("http://127.0.0.2:9/"));

    let audit = scratch.parole(&["journal", &execution, "--audit"]).code(0).out;
    let records: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let short: Vec<String> = records
        .iter()
        .filter(|record| record["site"] == "grant" || record["capability"] == "fetch")
        .map(|record| {
            let generation = record["generation"].as_u64().unwrap_or(0);
            format!("{} {} {generation}", record["site"].as_str().unwrap(), record["verdict"].as_str().unwrap())
        })
        .collect();
    let expected = [
        "call deny 0",
        "grant grant 1",
        "call allow 1",
        "call allow 1",
        "grant revoke 2",
        "call deny 2",
        "call allow 2",
        "grant revoke 3",
        "call deny 3",
        "grant grant 4",
        "call allow 4",
    ];
    assert_eq!(short, expected, "{audit}");
    let grant = records.iter().find(|record| record["site"] == "grant").unwrap();
    assert_eq!(grant["change"], json!(["--allow-net http://127.0.0.2:9"]));
    assert!(grant["by"].as_str().unwrap().starts_with("uid "), "{grant}");
    // The object of `show` has no more keys than it always had.
    let shown = scratch.parole(&["show", &execution, "--json"]).code(0).json();
    let keys: Vec<&String> = shown.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["denied", "execution", "outcome", "output", "pending"]);
    // What was decided then is not decided again.
    scratch.parole(&["replay", &execution]).code(0);
}

#[test]
fn a_directory_comes_and_goes() {
    let scratch = Scratch::new();
    scratch.file("data/in.txt", "abc");
    scratch.dir("out");
    let policy = scratch.file(
        "p.toml",
        "[grant.read_file]\ndirs = { \"/data\" = \"./data\" }\n[grant.write_file]\ndirs = { \"/out\" = \"./out\" }\n\
         [[rule]]\nname = \"w\"\ncapability = \"write_file\"\nthen = \"ask\"\n",
    );
    let (execution, id) = scratch.left_at(&["run", &guest("files.wasm"), "--policy", &policy, "--json"]);
    let digest = {
        let record = scratch.parole(&["promise", "get", &id, "--json"]).code(0).json();
        let question: Value = serde_json::from_str(record["param"]["data"].as_str().unwrap()).unwrap();
        question["digest"].as_str().unwrap().to_owned()
    };
    scratch.parole(&["revoke", &execution, "--allow-write", "/out"]).code(0);
    // Approved, but it may not any more: scope is looked at again.
    let yes = json!({ "decision": "once", "digest": digest }).to_string();
    scratch.parole(&["promise", "resolve", &id, "--value", &yes]).code(0);
    scratch.parole(&["resume", &execution]).code(1);
    assert!(!scratch.path("out/out.txt").exists());
    scratch.parole(&["revoke", &execution, "print"]).code(73).says("has ended");
    scratch.parole(&["grant", &execution, "print"]).code(73).says("has ended");
}

#[test]
fn what_cannot_be_changed_is_refused_with_the_reason() {
    let scratch = Scratch::new();
    let (execution, _) = waiting(&scratch);
    let refused = |words: &[&str], code: i32, says: &str| {
        let plain = scratch.parole(words).code(code).says(says);
        assert_eq!(plain.out, "", "{words:?}");
    };
    let e = execution.as_str();
    refused(&["grant", e], 2, "needs to know what");
    refused(&["revoke", e], 2, "needs to know what");
    refused(&["grant", e, "network"], 2, "possible values");
    refused(&["grant", e, "query"], 2, "needs level `trusted`");
    refused(&["grant", e, "--database", "d=sqlite:./x.db"], 2, "needs level `trusted`");
    refused(&["grant", e, "--allow-net", "ws://127.0.0.1:9"], 2, "needs level `trusted`");
    refused(&["grant", e, "--allow-net", "api.example.com"], 2, "--allow-net");
    refused(&["grant", e, "--allow-net", "http://a.example/path"], 2, "path");
    refused(&["grant", e, "--database", "d=postgres://me:secret@h/d"], 2, "password");
    refused(&["grant", e, "--allow-read", "missing"], 2, "cannot be opened");
    refused(&["grant", e, "--allow-read", "/s=state"], 2, "the state directory");
    refused(&["revoke", e, "--allow-net", "http://127.0.0.3:9"], 2, "has `http://127.0.0.1:9`");
    refused(&["revoke", e, "--allow-read", "/data"], 2, "no directories");
    refused(&["revoke", e, "--database", "d"], 2, "no databases");
    refused(&["grant", "01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44", "fetch"], 2, "no execution");
    refused(&["grant", "x", "fetch"], 2, "expected an execution id");
    let secret = scratch.parole(&["grant", e, "--database", "d=postgres://me:secret@h/d"]).code(2);
    assert!(!secret.err.contains("secret"), "{}", secret.err);
    scratch.parole(&["revoke", e, "fetch"]).code(0);
    refused(&["revoke", e, "fetch"], 2, "revoked already");
    // Nothing of all that is a generation but the one.
    let audit = scratch.parole(&["journal", e, "--audit"]).code(0).out;
    assert_eq!(audit.matches("\"site\":\"grant\"").count(), 1, "{audit}");
    let blocked = scratch.left_at(&["run", &guest("greet.wasm"), "--block", "fetch", "--detach", "--json"]).0;
    refused(&["grant", &blocked, "--allow-net", "http://127.0.0.1:9"], 2, "block list");
}

#[test]
fn the_policy_of_a_run_may_name_origins_and_databases() {
    let scratch = Scratch::new();
    let web = guest("web.wasm");
    let empty = scratch.parole(&["run", &web, "--detach"]).code(75);
    empty.says("`fetch` is linked but may reach nothing: no origin is granted (--allow-net ORIGIN)");
    let file = scratch.file("p.toml", "[grant.fetch]\norigins = [\"http://127.0.0.1:9\", \"https://a.example\"]\n");
    let run = |words: &[&str]| {
        let words: Vec<&str> = ["run", &web, "--policy", &file, "--detach"].iter().chain(words).copied().collect();
        scratch.parole(&words)
    };
    run(&["--allow-net", "https://a.example"]).code(75);
    run(&["--allow-net", "https://b.example"]).code(2).says("the policy file has");
    run(&["--database", "d=sqlite:./d.db"]).code(2);
    let sql = scratch.parole(&["run", &guest("sql.wasm"), "--level", "trusted", "--detach"]);
    sql.says("`query` is linked but may reach nothing: no database is granted (--database NAME=URL)");
    let inspected =
        scratch.parole(&["inspect", &guest("sql.wasm"), "--level", "trusted", "--database", "d=env:ORDERS"]);
    inspected.code(0);
}
