//! Policies from files and flags.

use crate::scratch::{Scratch, guest};

#[test]
fn every_error_of_a_file_is_shown_where_it_is() {
    let scratch = Scratch::new();
    let file = scratch.file("bad.toml", "levle = \"standard\"\nblock = [\"prnt\"]\n");
    let bad = scratch.parole(&["policy", "check", &file]).code(2).says("did you mean `level`?");
    let bad = bad.says("did you mean `print`?").says(&format!("{file}:1:1")).says(&format!("{file}:2:10"));
    assert!(bad.err.contains("levle = \"standard\""), "the line itself: {}", bad.err);
    let json = scratch.parole(&["run", &guest("hello.wat"), "--policy", &file, "--json"]).code(2).json();
    assert_eq!(json["exit"], 2);
    assert!(json["error"].as_str().unwrap().contains("levle"));
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let scratch = Scratch::new();
    let file = scratch.file("bad.toml", "# \u{9b}2J\u{202e}\nlevle = \"\u{202e}\" # \u{1b}[2J\n");
    let bad = scratch.parole(&["policy", "check", &file]).code(2);
    assert!(!bad.err.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{:?}", bad.err);
}

#[test]
fn a_good_file_is_checked_explained_and_used() {
    let scratch = Scratch::new();
    scratch.file("data/in.txt", "abc");
    scratch.dir("out");
    let file = scratch.file(
        "good.toml",
        "level = \"standard\"\n[grant.read_file]\ndirs = { \"/data\" = \"./data\" }\n[grant.write_file]\ndirs = { \"/out\" = \"./out\" }\n",
    );
    scratch.parole(&["policy", "check", &file]).code(0);
    let explain = |words: &[&str]| {
        let words: Vec<&str> = ["policy", "explain", &file].iter().chain(words).copied().collect();
        scratch.parole(&words).code(0).out
    };
    assert!(explain(&["read_file", "/data/in.txt"]).starts_with("allow read_file: "));
    assert!(explain(&["read_file", "/data/in.txt"]).contains("(line 3)"));
    assert!(explain(&["read_file", "/etc/passwd"]).starts_with("deny read_file: "));
    assert!(explain(&["write_file", "/out/x", "12"]).starts_with("allow write_file: "));
    assert!(explain(&["print"]).starts_with("allow print: "));
    // What was decided on, where that is not what was typed.
    assert!(explain(&["read_file", "data/x/..//./in.txt"]).ends_with("(line 3); decided on `/data/in.txt`\n"));
    assert!(!explain(&["read_file", "/data/in.txt"]).contains("decided on"));
    let json: serde_json::Value = serde_json::from_str(&explain(&["read_file", "data/in.txt", "--json"])).unwrap();
    assert_eq!((&json["decided_on"], &json["verdict"]), (&"/data/in.txt".into(), &"allow".into()));
    scratch.parole(&["run", &guest("files.wasm"), "--policy", &file]).code(0);
}

#[test]
fn flags_narrow_a_file_and_never_widen_it() {
    let scratch = Scratch::new();
    scratch.dir("data/deep");
    scratch.dir("other");
    std::os::unix::fs::symlink(scratch.path("other"), scratch.path("data/out-of-it")).unwrap();
    let file = scratch.file("p.toml", "level = \"restricted\"\n[grant.read_file]\ndirs = { \"/data\" = \"./data\" }\n");
    let hello = guest("hello.wat");
    let run = |words: &[&str]| {
        let words: Vec<&str> = ["run", &hello, "--policy", &file].iter().chain(words).copied().collect();
        scratch.parole(&words)
    };
    run(&["--level", "sandbox"]).code(0);
    run(&["--allow-read", "/d=data/deep"]).code(0);
    run(&["--level", "standard"]).code(2).says("the policy file has level `restricted`");
    run(&["--allow-read", "/d=other"]).code(2).says("the policy file has");
    run(&["--allow-read", "/d=data/out-of-it"]).code(2).says("the policy file has");
    run(&["--allow-write", "/d=data"]).code(2);
    run(&["--timeout", "input=never"]).code(2).says("the policy file has 5m");
    run(&["--block", "print"]).code(77);
}

#[test]
fn what_belongs_to_parole_is_granted_to_nobody() {
    let scratch = Scratch::new();
    scratch.dir("p");
    let file = scratch.file("p/p.toml", "[grant.read_file]\ndirs = { \"/p\" = \".\" }\n");
    let hello = guest("hello.wat");
    scratch.parole(&["run", &hello, "--policy", &file]).code(2).says("the policy file");
    scratch.parole(&["ps"]).code(0);
    scratch.parole(&["run", &hello, "--allow-read", "/s=state"]).code(2).says("the state directory");
    scratch.parole(&["run", &hello, "--allow-read", "/s=."]).code(2).says("the state directory");
    let program = std::path::Path::new(crate::scratch::PAROLE).parent().unwrap().to_str().unwrap();
    scratch.parole(&["run", &hello, "--allow-write", &format!("/b={program}")]).code(2).says("the program");
}

#[test]
fn levels_are_cumulative_and_listed() {
    let levels = Scratch::new().parole(&["policy", "levels", "--json"]).code(0).json();
    let names: Vec<&str> = levels.as_array().unwrap().iter().map(|row| row["level"].as_str().unwrap()).collect();
    assert_eq!(names, ["sandbox", "restricted", "standard", "trusted", "unrestricted"]);
    assert_eq!(levels[2]["adds"], serde_json::json!(["fetch", "write_file"]));
    assert_eq!(levels[0]["limits"]["cpu_ms"], 1000);
}

#[test]
fn a_call_is_explained_with_the_line_that_decides() {
    let scratch = Scratch::new();
    let file = scratch.file(
        "p.toml",
        "level = \"trusted\"\n[grant.fetch]\norigins = [\"https://api.example.com\"]\nmethods = [\"GET\", \"POST\"]\n\
         [grant.websocket]\norigins = [\"wss://api.example.com\"]\n\
         [grant.query.databases]\nsales = { sqlite = \"./sales.db\" }\n\
         [[rule]]\nname = \"posts\"\ncapability = \"fetch\"\nwhen = 'request.method != \"GET\"'\nthen = \"ask\"\n\
         [[rule]]\nname = \"drops\"\ncapability = \"query\"\nwhen = 'sql.contains(\"DROP\")'\nthen = \"deny\"\n\
         [[rule]]\nname = \"naps\"\ncapability = \"sleep\"\nwhen = 'duration_ms > 1000'\nthen = \"deny\"\n",
    );
    let checked = scratch.parole(&["policy", "check", &file]).code(0).out;
    for text in [
        "  fetch https://api.example.com\n",
        "  websocket wss://api.example.com\n",
        "  query sales = sqlite:",
        "  rule posts: ask fetch when request.method != \"GET\"\n",
    ] {
        assert!(checked.contains(text), "{text:?} in {checked}");
    }
    let explain = |words: &[&str]| {
        let words: Vec<&str> = ["policy", "explain", &file].iter().chain(words).copied().chain(["--json"]).collect();
        let found = scratch.parole(&words).code(0).json();
        (found["verdict"].as_str().unwrap().to_owned(), found["line"].clone(), found["reason"].clone())
    };
    for (words, verdict, line) in [
        (&["fetch", "GET", "https://api.example.com/x"][..], "allow", 3),
        (&["fetch", "POST", "https://api.example.com/x", "{}"], "ask", 9),
        (&["fetch", "GET", "https://other.example/"], "deny", 3),
        (&["websocket", "wss://api.example.com/feed"], "allow", 6),
        (&["websocket", "ws://api.example.com/feed"], "deny", 6),
        (&["query", "sales", "SELECT ?", "42", "null", "text"], "allow", 8),
        (&["query", "sales", "DROP TABLE t"], "deny", 14),
        (&["query", "stock", "SELECT 1"], "deny", 7),
        (&["sleep", "5000"], "deny", 19),
        (&["sleep", "5"], "allow", 1),
        (&["input", "name?"], "allow", 1),
        (&["approve", "may I?"], "allow", 1),
        (&["review", "title", "text"], "allow", 1),
        (&["print", "text"], "allow", 1),
        (&["log", "info", "text"], "allow", 1),
        (&["display", "text/plain", "text"], "allow", 1),
    ] {
        let (found, at, reason) = explain(words);
        assert_eq!((found.as_str(), &at), (verdict, &line.into()), "{words:?}: {reason}");
    }
    // No line grants anything to it.
    assert_eq!(explain(&["read_file", "/data/x"]).1, serde_json::Value::Null);
    let (verdict, _, reason) = explain(&["fetch", "GET", "https://me:secret@api.example.com/"]);
    assert_eq!(verdict, "deny");
    assert!(!reason.as_str().unwrap().contains("secret"), "{reason}");
    for (words, says) in [
        (&["fetch", "GET"][..], "fetch METHOD URL [BODY]"),
        (&["websocket"], "websocket URL"),
        (&["query", "sales"], "query DATABASE SQL [PARAMETER…]"),
        (&["sleep", "soon"], "`soon` is not a number; expected sleep DURATION-MS"),
        (&["print", "a", "b"], "print TEXT"),
        (&["netscape"], "possible values"),
    ] {
        let words: Vec<&str> = ["policy", "explain", &file].iter().chain(words).copied().collect();
        scratch.parole(&words).code(2).prints("").says(says);
    }
}

/// The certificate of an authority whose key is gone.
const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBmDCCAT+gAwIBAgIUStTiCRBjxH7SyFzv3nLC4IaU12cwCgYIKoZIzj0EAwIw\n\
ITEfMB0GA1UEAwwWQW4gYXV0aG9yaXR5IG9mIGEgdGVzdDAgFw0yNjExMjUwMzE3\n\
MjVaGA8yMTI2MTEwMTAzMTcyNVowITEfMB0GA1UEAwwWQW4gYXV0aG9yaXR5IG9m\n\
IGEgdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJP0aPbs9TUPU1celwCH\n\
FfD5A1AcfXNU76QU5RCoOS2PGssF0MGsY4PnuC2AlFOtAqnsctIzsLvKvYVbj+1Q\n\
aHSjUzBRMB0GA1UdDgQWBBR72U8rsVyXdejoJjUxq0BG9h5/zDAfBgNVHSMEGDAW\n\
gBR72U8rsVyXdejoJjUxq0BG9h5/zDAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49\n\
BAMCA0cAMEQCIFs7OR9geSf4KqM28ECuGeGhaOSvK23bdWjQ2rzg2CM5AiBHGDSo\n\
IYp4vDh32GxRPQTGCYLJirWR/406Q2RChmXnsg==\n\
-----END CERTIFICATE-----\n\
";

#[test]
fn a_certificate_authority_is_looked_at_when_the_policy_is() {
    let scratch = Scratch::new();
    scratch.file("ca.pem", AUTHORITY);
    scratch.file("empty.pem", "");
    let text = |name: &str| {
        format!(
            "level = \"trusted\"\n[grant.fetch]\norigins = [\"https://a.test\"]\nca = [\"{name}\"]\n\
                 [grant.query.databases]\nmain = {{ url_env = \"MAIN\", ca = [\"ca.pem\"] }}\n"
        )
    };
    let good = scratch.file("good.toml", text("ca.pem"));
    let checked = scratch.parole(&["policy", "check", &good]).code(0);
    let file = scratch.path("ca.pem").display().to_string();
    assert!(checked.out.contains(&format!("fetch trusts {file}")), "{}", checked.out);
    assert!(checked.out.contains(&format!("query main trusts {file}")), "{}", checked.out);
    let bad = scratch.file("bad.toml", text("empty.pem"));
    let bad = scratch.parole(&["policy", "check", &bad]).code(2).says("bad.toml:4:7");
    // The message is broken where the terminal's line ends.
    assert!(bad.err.contains("(PEM:") && bad.err.contains("empty.pem"), "{}", bad.err);

    let hello = guest("hello.wat");
    let run = |words: &[&str]| {
        let words: Vec<&str> = ["run", &hello].iter().chain(words).copied().collect();
        scratch.parole(&words)
    };
    let net = ["--allow-net", "https://a.test"];
    run(&[&net[..], &["--ca", "ca.pem"]].concat()).code(0);
    let bad = run(&[&net[..], &["--ca", "empty.pem"]].concat()).code(2).says("--ca: ");
    assert!(bad.err.contains("holds no certificate") && bad.err.contains("empty.pem"), "{}", bad.err);
    run(&[&net[..], &["--ca", "none.pem"]].concat()).code(2).says("none.pem cannot be read");
    run(&["--ca", "ca.pem"]).code(2).says("there is no server that it could be for");
    run(&["--policy", &good, "--ca", "ca.pem"]).code(2).says("flags only narrow a policy file");
    run(&["--policy", &good]).code(0);
}

/// What the operator got wrong in a variable is told to the operator, before the guest runs.
#[test]
fn an_option_of_a_database_that_is_not_taken_is_said_at_once() {
    let scratch = Scratch::new();
    let hello = guest("hello.wat");
    let run = |url: &str| {
        let words = ["run", &hello, "--level", "trusted", "--database", "main=env:MAIN"];
        let mut command = scratch.command(words);
        command.env("MAIN", url);
        crate::scratch::ran(command)
    };
    run("postgres://u:s3cret@h/db?sslmode=require&channel_binding=require").code(0).prints("Hello from WAT\n");
    let bad =
        run("postgres://u:s3cret@h/db?sslkey=hidden").code(2).says("`main`").says("`sslkey`").says("MAIN").prints("");
    assert!(!bad.err.contains("s3cret") && !bad.err.contains("hidden"), "{}", bad.err);
}
