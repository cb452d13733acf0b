#![allow(clippy::unwrap_used, reason = "tests")]
//! x
mod common;
use common::*;
use parole_policy::*;
use std::time::Instant;
#[test]
fn explore() {
    for src in [
        "\"é\" == request.foo",
        "\"é\" == @",
        "\"é\ny\" == request.foo",
        "'é' == 'ü' && foo == 'ß'",
        "\"é\"\n == @",
        "request.headers.all(h, request.headers.all(g, h.name == g.name))",
    ] {
        match Condition::compile(src, FETCH_ARGUMENTS) {
            Ok(_) => println!("OK   {src}"),
            Err(bad) => println!(
                "BAD  {src}  => {:?} {:?} [{}] help={:?}",
                bad.at,
                src.get(bad.at.clone()),
                bad.message,
                bad.help
            ),
        }
    }
    let url = Url::parse("https://api.example.com/v1/things?x=1").unwrap();
    let run = |n: u32, when: &str, headers: &[(String, String)], body: Option<&[u8]>| {
        let p = SecurityPolicy::new(Level::Standard)
            .allow_net("https://api.example.com")
            .grant("fetch", |g| {
                g.methods.insert("POST".into());
            })
            .rule("r", "fetch", Some(when), Then::Deny);
        assert!(p.validate(&CATALOGUE).is_ok(), "{:?}", p.validate(&CATALOGUE));
        let f = FetchArguments { method: "POST", url: &url, text: "x", headers, body };
        let a = Arguments::Fetch(&f);
        let c = capability("fetch");
        let first = match decide(&p, 0, c, &a) {
            Verdict::Allow(_) => "allow".to_owned(),
            Verdict::Ask(_) => "ask".to_owned(),
            Verdict::Deny(d) => d.remedy,
        };
        let start = Instant::now();
        for _ in 0..n {
            std::hint::black_box(decide(&p, 0, c, std::hint::black_box(&a)));
        }
        println!("{:?}  {when} => {first}", start.elapsed() / n);
    };
    let hs: Vec<(String, String)> = (0..8).map(|n| (format!("x-h{n}"), "value".repeat(4))).collect();
    for when in [
        "request.method != \"GET\"",
        "request.method == \"DELETE\" || target.path.startsWith(\"/admin\")",
        "request.headers.exists(h, h.name == \"authorization\")",
        "request.method in [\"DELETE\", \"PUT\"]",
        "request.url.matches(\"^https://[a-z.]+/v2\")",
        "size(request.body) > 10",
        "request.body != null && size(request.body) > 10000",
        "target.host == \"api.example.com\" && target.port == 443 && target.scheme == \"https\" && request.method == \"DELETE\"",
    ] {
        run(20000, when, &hs, Some(b"hello hello hello"));
    }
    let big: Vec<(String, String)> = (0..256).map(|n| (format!("x-h{n:04}"), "a".repeat(245))).collect();
    let body = vec![b'a'; 65536];
    for when in [
        "request.headers.all(h, request.headers.all(g, h.name != \"zz\" || g.name != \"yy\"))",
        "request.headers.all(h, request.headers.all(g, h.value == g.value))",
        "request.headers.map(h, h.value + h.value).exists(v, v == \"x\")",
        "request.headers.all(h, !string(request.body).contains(\"x\"))",
        "string(request.body).matches(\"[ab]*a[ab]{40}c\")",
        "string(request.body).matches(\"(a|b|ab)*c\")",
        "string(request.body).matches(\"(?:a?){100}b\")",
        "string(request.body).matches(\"\\\\w+\\\\d\\\\w+\\\\d\")",
        "request.headers.all(h, !h.value.matches(\"[ab]*a[ab]{40}c\"))",
        "request.headers.filter(h, request.headers.exists(g, g.value != h.value)).size() > 3",
        "request.headers.map(h, request.headers.map(g, g.value).size()).size() > 3",
    ] {
        run(1, when, &big, Some(&body));
    }
}
