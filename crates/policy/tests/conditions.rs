//! Conditions of rules: what is refused when a policy is read, and what is said of a call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::too_many_lines, reason = "tests")]

mod common;

use common::{Arguments, FetchArguments, capability, headers, path, resolved, target};
use parole_policy::{
    Condition, Definition, Fact, Headers, Level, Looks, MAX_DEPTH, MAX_EXPRESSION, MAX_ITEMS, MAX_SEEN, QueryValue,
    SecurityPolicy, Then, Verdict, decide,
};

/// What is wrong with an expression: `START..END message | help`, or nothing.
fn refusal(source: &str, arguments: &Definition) -> Option<String> {
    let bad = Condition::compile(source, arguments, None).err()?;
    assert!(source.is_char_boundary(bad.at.start) && source.is_char_boundary(bad.at.end), "{bad:?}");
    let help = bad.help.map(|help| format!(" | {help}")).unwrap_or_default();
    Some(format!("{}..{} {}{help}", bad.at.start, bad.at.end, bad.message))
}

#[test]
fn names_that_do_not_exist() {
    for (source, expect) in [
        ("reqest.method == \"GET\"", "0..6 unknown variable `reqest` | did you mean `request`?"),
        ("foo == 1", "0..3 unknown variable `foo` | valid: request, target"),
        (".request.method == \"GET\"", "1..8 unknown variable `.request` | did you mean `request`?"),
        ("request.metod == \"GET\"", "8..13 unknown field `metod` | did you mean `method`?"),
        ("request . metod == \"GET\"", "10..15 unknown field `metod` | did you mean `method`?"),
        ("\"\u{e9}\" == request.foo", "16..19 unknown field `foo` | valid: method, url, headers, body"),
        ("target.hots == \"a\"", "7..11 unknown field `hots` | did you mean `host`?"),
        ("request.url.startWith(\"a\")", "12..21 unknown function `startWith` | did you mean `startsWith`?"),
        ("request.url.startWith (\"a\")", "12..21 unknown function `startWith` | did you mean `startsWith`?"),
        ("sise(request.url) > 1", "0..4 unknown function `sise` | did you mean `size`?"),
        ("type(request.url) == string", "0..4 unknown function `type` | valid: size, int, double, string"),
        ("dyn(request.url) == 1", "0..3 unknown function `dyn` | valid: size, int, double, string"),
        ("request.headers.all(h, h.nam == \"x\")", "25..28 unknown field `nam` | did you mean `name`?"),
        ("request.headers.all(h, x.name == \"x\")", "23..24 unknown variable `x` | did you mean `h`?"),
        ("request.headers.all(h, true) && h.name == \"x\"", "32..33 unknown variable `h` | valid: request, target"),
        ("request.method.lower() == \"get\"", "15..20 unknown function `lower` | did you mean `lowerAscii`?"),
        ("request.headers.any(h, true)", "16..19 unknown function `any` | valid: size, contains"),
        (
            "timestamp(\"2020-01-01T00:00:00Z\") == 1",
            "0..9 unknown function `timestamp` | valid: size, int, double, string",
        ),
        ("google.protobuf.Duration{} == 1", "24..25 messages are not known in a condition"),
    ] {
        let found = refusal(source, capability("fetch"));
        assert!(found.as_ref().is_some_and(|found| found.starts_with(expect.trim_end())), "{source}: {found:?}");
    }
}

#[test]
fn operands_of_a_wrong_kind() {
    for (source, expect) in [
        ("1", "0..1 a condition is true or false; this is a whole number"),
        ("\"a\"", "0..3 a condition is true or false; this is text"),
        ("request", "0..7 a condition is true or false; this is a record"),
        ("request.method", "0..14 a condition is true or false; this is text"),
        ("request.headers", "0..15 a condition is true or false; this is a list"),
        ("null", "0..4 a condition is true or false; this is null"),
        ("request.headers.map(h, h.name)", "0..30 a condition is true or false; this is a list"),
        ("request.method && true", "7..8 this must be true or false; it is text"),
        ("true || 1", "8..9 this must be true or false; it is a whole number"),
        ("!request.method", "8..9 this must be true or false; it is text"),
        ("1 ? true : false", "0..1 this must be true or false; it is a whole number"),
        ("(true ? 1 : \"a\") == 1", "6..7 either a whole number or text: both sides of `:` must be alike"),
        ("request.method == 1", "15..17 text is never equal to a whole number"),
        ("target.port == \"80\"", "12..14 a whole number is never equal to text"),
        ("request.method == null", "15..17 text is never null"),
        ("null == request.method", "5..7 text is never null"),
        ("request.body == \"a\"", "13..15 bytes is never equal to text"),
        ("request.headers == []", ""),
        ("request == request", "8..10 a record is never equal to a record"),
        ("request.headers == request.headers", "16..18 a list is never equal to a list"),
        ("request.method == true", "15..17 text is never equal to true or false"),
        ("request.method < 1", "15..16 text is neither less nor more than a whole number"),
        ("request.body < b\"a\"", "13..14 bytes is neither less nor more than bytes"),
        ("request.method in \"GET\"", "15..17 `in` takes a list, not text | for text: text.contains(\"part\")"),
        ("1 in [\"a\"]", "2..4 a whole number is in no such list of text"),
        ("request.method[0] == \"G\"", "14..15 text has no index"),
        ("request[\"method\"] == \"G\"", "7..8 a record has fields, not an index | write .method"),
        ("request.headers[\"a\"] == \"G\"", "16..19 a list is indexed by a whole number, not by text"),
        ("request.method.foo == \"G\"", "15..18 text has no field `foo`"),
        ("request.headers.name == \"G\"", "16..20 a list has no field `name`"),
        ("1 + \"a\" == 2", "2..3 `+` does not take a whole number and text"),
        ("1 + 1.0 == 2.0", "2..3 `+` does not take a whole number and a number with a fraction"),
        ("1 + 1u == 2", "2..3 `+` does not take a whole number and an unsigned number"),
        ("\"a\" - \"b\" == \"\"", "4..5 `-` does not take text and text"),
        ("request.body + b\"a\" == b\"a\"", "13..14 `+` does not take bytes and bytes"),
        ("1.0 % 2.0 == 0.0", "4..5 `%` does not take a number with a fraction and a number with a fraction"),
        ("-request.method == \"a\"", "0..1 `-` takes a number, not text"),
        ("size(1) == 1", "0..4 `size` takes text, bytes or a list, not a whole number"),
        ("size(null) == 1", "0..4 `size` takes text, bytes or a list, not null"),
        ("request.url.contains(1)", "12..20 `contains` takes text, not text and a whole number"),
        ("target.port.contains(\"1\")", "12..20 `contains` takes text, not a whole number and text"),
        ("request.headers.contains(\"a\")", "16..24 `contains` takes text, not a list and text"),
        ("int(true) == 1", "0..3 `int` takes a number or text, not true or false"),
        ("string(true) == \"true\"", "0..6 `string` takes a number, text or bytes, not true or false"),
        ("target.port.matches(\"1\")", "12..19 `matches` takes text, not a whole number"),
        ("request.url.matches(request.method)", "27..28 the pattern of `matches` is text in quotes"),
        ("request.url.matches(\"a\" + \"b\")", "24..25 the pattern of `matches` is text in quotes"),
        ("request.url.matches(\"(\")", "20..23 not a pattern: unclosed group"),
        ("request.url.matches(\"(a){1000}{1000}\")", "20..37 this pattern is too large"),
        ("request.headers.exists(h, 1)", "26..27 this must be true or false; it is a whole number"),
        ("request.headers.all(h, h.name)", "24..25 this must be true or false; it is text"),
        ("request.headers.filter(h, h.name) == []", "27..28 this must be true or false; it is text"),
        ("request.method.all(c, true)", "18..19 a list can be gone through, text cannot"),
        ("request.all(c, true)", "11..12 a list can be gone through, a record cannot"),
        ("[[1]] == []", "1..2 a list of lists is not known here"),
        ("request.headers.map(h, [h]).size() == 1", "23..24 a list of lists is not known here"),
        ("{\"a\": 1} == {}", "0..1 maps are not known in a condition"),
        (
            "has(request.body)",
            "3..4 `has` is not known here | every field is there; what can be missing is null: request.body != null",
        ),
        ("request.url.size(1) == 1", "12..16 `size` is not used so, with 1 arguments | write size(x) or x.size()"),
        (
            "contains(request.url, \"a\")",
            "0..8 `contains` is not used so, with 2 arguments | write text.contains(\"part\")",
        ),
        (
            "matches(request.url, \"a\")",
            "0..7 `matches` is not used so, with 2 arguments | write text.matches(\"pattern\")",
        ),
        (
            "request.headers.all(true)",
            "16..19 `all` is not used so, with 1 arguments | write list.all(item, expression about item)",
        ),
        ("request.body == request.body", "13..15 for the largest call that may come"),
    ] {
        let found = refusal(source, capability("fetch")).unwrap_or_default();
        assert!(found.starts_with(expect) && found.is_empty() == expect.is_empty(), "{source}: {found}");
    }
}

/// Text that has no capitals is not compared with a capital.
#[test]
fn capitals_that_never_come() {
    for (source, good) in [
        ("target.host == \"API.example.com\"", "target.host == \"api.example.com\""),
        ("\"HTTPS\" != target.scheme", "\"https\" != target.scheme"),
        ("target.host.endsWith(\".COM\")", "target.host.endsWith(\".com\")"),
        ("target.host in [\"a\", \"B\"]", "target.host in [\"a\", \"b\"]"),
        ("request.headers.exists(h, h.name == \"Cookie\")", "request.headers.exists(h, h.name == \"cookie\")"),
        ("request.url.lowerAscii().contains(\"X\")", "request.url.lowerAscii().contains(\"x\")"),
    ] {
        let found = refusal(source, capability("fetch")).unwrap_or_default();
        assert!(found.contains("this text has no capitals"), "{source}: {found}");
        assert_eq!(refusal(good, capability("fetch")), None, "{good}");
    }
    assert_eq!(refusal("request.method == \"GET\"", capability("fetch")), None);
}

#[test]
fn syntax() {
    for (source, start) in [
        ("", 0),
        (" ", 1),
        ("request.method ==", 17),
        ("request.method = 1", 15),
        ("a b", 2),
        ("(true", 5),
        ("true)", 4),
        ("'abc", 0),
        ("\"\\q\" == \"a\"", 0),
        ("true &&", 7),
        ("true & false", 5),
        ("if == 1", 0),
        ("request.?body == null", 7),
        ("request.headers[?0] == 1", 15),
        ("true; false", 4),
        ("true // comment", 16),
        ("@", 0),
        ("\"\u{e9}\" == @", 8),
        ("true &&\n\n@", 9),
    ] {
        match Condition::compile(source, capability("fetch"), None) {
            Ok(_) => assert_eq!(source, "true // comment"),
            Err(bad) => {
                assert!(bad.message.starts_with("not an expression"), "{source}: {bad:?}");
                assert_eq!(bad.at.start, start, "{source}: {bad:?}");
            }
        }
    }
}

fn is_over(source: &str, what: &str) {
    let found = refusal(source, capability("fetch")).unwrap_or_default();
    assert!(found.contains(what), "{}: {found}", source.get(..80).unwrap_or(source));
}

fn is_read(source: &str) {
    assert_eq!(refusal(source, capability("fetch")), None, "{}", source.get(..80).unwrap_or(source));
}

#[test]
fn one_past_each_limit() {
    let padded = |length: usize| format!("{}true", " ".repeat(length - 4));
    is_read(&padded(MAX_EXPRESSION));
    is_over(&padded(MAX_EXPRESSION + 1), "2048 bytes long at most");
    // `a + b + c` leans left: one level each, one for `==` and one for the innermost.
    let sum = |terms: usize| format!("{}1 == 1", "1+".repeat(terms));
    is_read(&sum(MAX_DEPTH - 2));
    is_over(&sum(MAX_DEPTH - 1), "32 levels deep at most");
    let brackets = |count: usize| format!("{}true{}", "(".repeat(count), ")".repeat(count));
    is_read(&brackets(MAX_DEPTH));
    is_over(&brackets(MAX_DEPTH + 1), "32 levels deep at most");
    // `&&` and `||` are balanced: hundreds may stand side by side.
    is_read(&format!("{}true", "true||".repeat(300)));
    let all = |nesting: usize| format!("{}true{}", "[1].all(x,".repeat(nesting), ")".repeat(nesting));
    is_read(&all(2));
    is_over(&all(3), "macros stand 2 deep in one another at most");
    let matches = |count: usize| vec!["target.scheme.matches(\"a\")"; count].join("||");
    is_read("request.method.matches(\"(?:a{100}){20}\")");
    is_over("request.method.matches(\"(?:a{100}){20}b\")", "this pattern is too large");
    is_over("string(request.body).matches(\"(?:a{100}){20}\")", "would take too long");
    is_over(&format!("request.method.matches(\"{}a{}\")", "(".repeat(40), ")".repeat(40)), "not a pattern");
    is_read(&matches(16));
    is_over(&matches(17), "16 patterns at most");
    let headers = "request.headers.all(h,";
    is_read(&format!("{headers} {headers} true))").replacen("(h,", "(g,", 1));
    is_over(&format!("{headers} request.headers.all(g, string(request.body) == h.name))"), "would take too long");
    is_over(&format!("{headers} request.headers.all(g, h.value.contains(request.url)))"), "would take too long");
    is_over("request.headers.map(h, string(request.body)).exists(b, b == \"x\")", "would be too much text");
    is_over("request.headers.map(h, request.url).exists(b, b == \"x\")", "would be too much text");
    is_read("request.headers.map(h, h.value + h.value + h.name).exists(b, b == \"x\")");
    let doubled = "request.headers.map(a, a.value + a.value + a.value).map(b, b + b + b + b).map(c, c + c + c + c)";
    is_over(&format!("{doubled}.all(f, f == \"\")"), "would be too much text");
}

/// Text of all kinds neither panics nor takes long nor overflows a stack.
#[test]
fn bombs_for_the_parser() {
    let mut bombs = vec!["true?".repeat(400), "1 in ".repeat(400), "[1].all(x,".repeat(200), "a&&b||".repeat(340)];
    for piece in
        ["(", "[", "{", "!", "-", "\"", "'", ".", "a.", "1+", "1==", "f(", "[0]", "?", ":", "\\", "\u{e9}", "@"]
    {
        bombs.push(piece.repeat(MAX_EXPRESSION / piece.len()));
        bombs.push(format!("request{}", piece.repeat((MAX_EXPRESSION - 7) / piece.len())));
    }
    let read = move || {
        let start = std::time::Instant::now();
        for bomb in &bombs {
            drop(Condition::compile(bomb, capability("fetch"), None));
        }
        assert!(start.elapsed().as_secs() < 10);
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(read).unwrap().join().unwrap();
}

/// `allow` where the condition doesn't hold, `deny` where it does, or why it can't be told.
fn say(name: &str, when: &str, arguments: &Arguments<'_>) -> String {
    let policy = resolved(
        SecurityPolicy::new(Level::Trusted)
            .allow_net("https://api.example.com")
            .allow_net("wss://api.example.com")
            .allow_write("/out", "/out")
            .grant("query", |grant| {
                let source = parole_policy::Source::Sqlite("/db".into());
                grant.databases.insert("db".into(), parole_policy::Database { source, mode: parole_policy::Mode::Ro });
            })
            .grant("fetch", |grant| grant.methods.extend(["GET".to_owned(), "POST".to_owned()]))
            .rule("r", name, Some(when), Then::Deny),
    );
    match decide(&policy, 0, capability(name), arguments) {
        Verdict::Allow(_) => "no".to_owned(),
        Verdict::Deny(denial) if denial.remedy == "rule `r` says deny" => "yes".to_owned(),
        Verdict::Deny(denial) => {
            assert_eq!(denial.rule.as_deref(), Some("r"), "{denial:?}");
            let guest = format!("a rule of the policy cannot be decided for this call of `{name}`");
            assert_eq!(denial.reason, guest);
            denial.remedy.replace("rule `r` cannot be decided: ", "error: ")
        }
        Verdict::Ask(asked) => panic!("{asked:?}"),
    }
}

#[test]
fn conditions_about_a_request() {
    let url = target("https://API.example.com/public/../%61dmin%c3%bc/x?%71=1&r=\u{fc}");
    let headers = headers(&[("Accept", " */*\t"), ("X-Token", "Secret"), ("x-token", "again")]);
    let request = FetchArguments { method: "POST", url: &url, headers: &headers, body: Some(b"{\"amount\": 12}") };
    for (when, expect) in [
        ("true", "yes"),
        ("false", "no"),
        ("request.method == \"POST\"", "yes"),
        ("request.method != \"GET\"", "yes"),
        ("request.method in [\"GET\", \"HEAD\"]", "no"),
        ("!(request.method in [\"GET\", \"HEAD\"])", "yes"),
        // The URL is the one that is sent, not what the guest wrote.
        ("request.url == \"https://api.example.com/admin%C3%BC/x?q=1&r=%C3%BC\"", "yes"),
        ("request.url.contains(\"public\")", "no"),
        ("target.scheme == \"https\" && target.host == \"api.example.com\" && target.port == 443", "yes"),
        ("target.path == \"/admin%C3%BC/x\"", "yes"),
        ("target.path.startsWith(\"/admin\")", "yes"),
        ("target.path.matches(\"^/admin(%C3%BC)?/[a-z]$\")", "yes"),
        ("target.path.matches(\"^/public\")", "no"),
        ("target.query == \"q=1&r=%C3%BC\"", "yes"),
        ("target.query.endsWith(\"C\")", "yes"),
        ("size(request.headers) == 3", "yes"),
        ("request.headers.size() == 3", "yes"),
        ("request.headers[0].name == \"accept\"", "yes"),
        ("request.headers[1].value == \"Secret\"", "yes"),
        ("request.headers.exists(h, h.name == \"x-token\" && h.value == \"again\")", "yes"),
        ("request.headers.all(h, h.name.startsWith(\"x-\"))", "no"),
        ("request.headers.exists_one(h, h.name == \"accept\")", "yes"),
        ("request.headers.exists_one(h, h.name == \"x-token\")", "no"),
        ("request.headers.filter(h, h.name == \"x-token\").size() == 2", "yes"),
        ("request.headers.map(h, h.value).exists(v, v == \"Secret\")", "yes"),
        ("request.headers.map(h, h.name == \"accept\", h.value) == [\"*/*\"]", "yes"),
        ("request.headers.exists(h, request.headers.exists(g, g.name == h.name && g.value != h.value))", "yes"),
        ("\"again\" in request.headers.map(h, h.value)", "yes"),
        ("request.body != null && size(request.body) > 10", "yes"),
        ("request.body == null", "no"),
        ("request.body == b\"x\"", "no"),
        ("request.body == b\"{\\\"amount\\\": 12}\"", "yes"),
        ("string(request.body).contains(\"amount\")", "yes"),
        ("string(request.body).matches(\"\\\"amount\\\": *[0-9]{2}}\")", "yes"),
        ("int(\"12\") == 12 && double(\"1.5\") == 1.5 && string(12) == \"12\"", "yes"),
        ("target.port > 442 && target.port <= 443 && target.port * 2 == 886", "yes"),
        ("1u == 1u && 1 == 1u && 1.0 == 1", "yes"),
        ("(target.port == 443 ? \"a\" : \"b\") == \"a\"", "yes"),
        ("request.method.lowerAscii() == \"post\" && \"get\".upperAscii() == \"GET\"", "yes"),
        ("request.method + target.scheme == \"POSThttps\"", "yes"),
        ("[1, 2] + [3] == [1, 2, 3]", "yes"),
        ("size(\"\u{e9}\") == 1", "yes"),
        // An error denies; one that cannot matter is none.
        ("request.headers[9].value == \"x\"", "error"),
        ("request.headers[-1].value == \"x\"", "error"),
        ("1 / 0 == 1", "error"),
        ("target.port % 0 == 1", "error"),
        ("9223372036854775807 + target.port == 1", "error"),
        ("int(request.method) == 1", "error"),
        ("true || 1 / 0 == 1", "yes"),
        ("false && 1 / 0 == 1", "no"),
        ("false || 1 / 0 == 1", "error"),
        ("request.headers.all(h, int(h.value) == 1)", "error"),
    ] {
        let said = say("fetch", when, &Arguments::Fetch(&request));
        assert!(said == expect || (expect == "error" && said.starts_with("error: ")), "{when}: {said}");
    }
    let none = Headers::default();
    let plain = FetchArguments { body: None, headers: &none, ..request };
    for (when, expect) in [
        ("request.body == null", "yes"),
        ("request.body != null && size(request.body) > 10", "no"),
        ("size(request.body) > 10", "error"),
        ("request.headers == []", "yes"),
        ("request.headers.all(h, false)", "yes"),
        ("request.headers.exists(h, true)", "no"),
    ] {
        let said = say("fetch", when, &Arguments::Fetch(&plain));
        assert!(said == expect || (expect == "error" && said.starts_with("error: ")), "{when}: {said}");
    }
}

#[test]
fn conditions_about_other_calls() {
    use QueryValue::{Blob, Integer, Null, Real, Text};
    let url = target("wss://api.example.com/chat?x");
    let connect = Arguments::Connect { url: &url };
    let values = [Null, Integer(7), Real(1.5), Text("drop".to_owned()), Blob(vec![1, 2])];
    let query = Arguments::Query { database: "db", sql: "select 1", parameters: &values };
    let path = path("out/./x.txt");
    let write = Arguments::Write { path: &path, contents: b"abc" };
    let fields = [("duration_ms", Fact::number(u64::MAX))];
    let review = [("text", Fact::Text("hello"))];
    let display = [("mime", Fact::Text("image/png")), ("data", Fact::Bytes(&[137, 80]))];
    for (name, when, arguments, expect) in [
        ("websocket", "target.path == \"/chat\" && url == \"wss://api.example.com/chat?x\"", connect, "yes"),
        ("query", "sql.lowerAscii().matches(\"^\\\\s*select\\\\b\")", query, "yes"),
        ("query", "database == \"db\" && size(parameters) == 5", query, "yes"),
        ("query", "parameters[0] == null && parameters[1] == 7 && parameters[2] == 1.5", query, "yes"),
        ("query", "parameters[3] == \"drop\" && parameters[4] == b\"\\x01\\x02\"", query, "yes"),
        ("query", "parameters.exists(p, p == \"drop\")", query, "yes"),
        ("query", "7 in parameters", query, "yes"),
        ("query", "parameters[1] > 5", query, "yes"),
        ("query", "parameters[3] > 5", query, "error"),
        ("query", "parameters[3]", query, "error"),
        ("query", "parameters[1] + 1 == 8", query, "yes"),
        ("query", "parameters[1].contains(\"a\")", query, "error"),
        ("query", "parameters[0].contains(\"a\")", query, "error"),
        ("write_file", "path.endsWith(\".txt\") && contents == b\"abc\"", write, "yes"),
        ("write_file", "size(contents) > 3", write, "no"),
        ("write_file", "string(contents).contains(\"b\")", write, "yes"),
        ("sleep", "duration_ms > 1000", Arguments::Fields(&fields), "yes"),
        ("sleep", "duration_ms > 1000", Arguments::None, "error"),
        ("sleep", "duration_ms > 1000", Arguments::Fields(&review), "error"),
        ("sleep", "1 == 1", Arguments::None, "yes"),
        ("print", "text.contains(\"ell\")", Arguments::Fields(&review), "yes"),
        ("display", "mime.startsWith(\"image/\") && size(data) == 2", Arguments::Fields(&display), "yes"),
        ("input", "prompt == \"\"", Arguments::Fields(&review), "error"),
        ("dial", "true", Arguments::None, "yes"),
    ] {
        let said = say(name, when, &arguments);
        assert!(said == expect || (expect == "error" && said.starts_with("error: ")), "{when}: {said}");
    }
    assert!(
        refusal("path == 1", capability("write_file")).is_some()
            && refusal("mime == \"\"", capability("query")).is_some()
    );
}

/// More than a rule looks at is not looked at: the call is denied. What the rule doesn't look at doesn't count.
#[test]
fn calls_that_are_too_large_for_a_rule() {
    let (items, seen) = (MAX_ITEMS as usize, MAX_SEEN as usize);
    let url = target("https://api.example.com/");
    let fetch = |when: &str, list: &[(&str, &str)], body: &[u8]| {
        let headers = headers(list);
        let request = FetchArguments { method: "POST", url: &url, headers: &headers, body: Some(body) };
        say("fetch", when, &Arguments::Fetch(&request))
    };
    let many = |count: usize| vec![("a", "b"); count];
    let value = "b".repeat(seen);
    let long = |length: usize| vec![("a", &value[..length - 1])];
    let exists = "request.headers.exists(h, h.name == \"a\")";
    assert_eq!(fetch(exists, &many(items), b""), "yes");
    let over = "error: `request` has over 256 items, more than a rule looks at";
    assert_eq!(fetch(exists, &many(items + 1), b""), over);
    assert_eq!(fetch("request.method == \"POST\"", &many(items + 1), b""), "yes");
    assert_eq!(fetch("size(request.body) == 0", &many(items + 1), b""), "yes");
    assert_eq!(fetch(exists, &long(seen), b""), "yes");
    let over = "error: `request` has over 65536 bytes of text, more than a rule looks at";
    assert_eq!(fetch(exists, &long(seen + 1), b""), over);
    assert_eq!(fetch("target.port == 443", &long(seen + 1), b""), "yes");
    let body = vec![b'x'; seen];
    assert_eq!(fetch("string(request.body).contains(\"x\")", &[], &body), "yes");
    let body = vec![b'x'; seen + 1];
    assert!(fetch("string(request.body).contains(\"x\")", &[], &body).starts_with("error: "));
    assert_eq!(fetch("size(request.body) > 65536 && request.body != b\"x\"", &[], &body), "yes");
    assert!(fetch("string(request.body).contains(\"x\")", &[], &[0xff]).starts_with("error: "));

    let query = |when: &str, sql: &str, parameters: &[QueryValue]| {
        say("query", when, &Arguments::Query { database: "db", sql, parameters })
    };
    let nulls = |count: usize| vec![QueryValue::Null; count];
    assert_eq!(query("null in parameters", "", &nulls(items)), "yes");
    assert!(query("null in parameters", "", &nulls(items + 1)).starts_with("error: `parameters` has over 256"));
    assert_eq!(query("sql == \"\"", "", &nulls(items + 1)), "yes");
    let blob = [QueryValue::Blob(vec![0; seen + 1])];
    assert!(query("null in parameters", "", &blob).starts_with("error: `parameters` has over 65536"));
    assert_eq!(query("sql.contains(\"x\")", &"x".repeat(seen), &blob), "yes");
    assert!(query("sql.contains(\"x\")", &"x".repeat(seen + 1), &[]).starts_with("error: `sql` has over 65536"));
    let message = "x".repeat(seen + 1);
    assert!(say("print", "text == \"\"", &Arguments::Fields(&[("text", Fact::Text(&message))])).starts_with("error: "));
}

/// The dearest expressions that are read, on the largest calls that they look at, take well under a second each.
#[test]
fn the_worst_that_is_read_is_bounded() {
    let list: Vec<(String, String)> =
        (0..MAX_ITEMS).map(|n| (format!("x-{n:06}"), "a".repeat(MAX_SEEN as usize / MAX_ITEMS as usize - 8))).collect();
    // As good as random: no state of a pattern comes twice.
    let mut state = 1_u32;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state >> 31 == 0 { b'a' } else { b'b' }
    };
    let body: Vec<u8> = (0..MAX_SEEN).map(|_| letter()).collect();
    let url = target(&format!("https://api.example.com/{}", "a".repeat(8_000)));
    let list = Headers::read(list.iter().map(|(name, value)| (name.as_str(), value.as_str())), Looks::ALL).unwrap();
    let request = FetchArguments { method: "POST", url: &url, headers: &list, body: Some(&body) };
    let all = "request.headers.all(h, request.headers.all(g, ";
    for when in [
        &format!("{all} h.value == g.value))"),
        &format!("{all} h.name != \"zz\" || g.name != \"yy\"))"),
        &format!("{all} true))"),
        "request.headers.filter(h, request.headers.exists(g, g.value != h.value)).size() > 3",
        "request.headers.map(h, request.headers.map(g, g.value).size()).size() > 3",
        "request.headers.map(h, h.value + h.value).exists(v, v == \"x\")",
        "request.headers.all(h, !string(request.body).contains(\"x\"))",
        "request.headers.all(h, !h.value.matches(\"[ab]*a[ab]{40}c\"))",
        "request.headers.all(h, !request.url.matches(\"(?:a|b|ab)*c\"))",
        "string(request.body).matches(\"[ab]*a[ab]{60}c\")",
        "string(request.body).matches(\"[ab]*a[ab]{240}c\")",
        "string(request.body).matches(\"(?:[ab]?){240}c\")",
        "string(request.body).matches(\"(?i)(?:\\\\w?){200}!\")",
        "request.url.matches(\"(?:[ab]?){1000}c\")",
        "string(request.body).matches(\"(?:a?){100}b\")",
        "string(request.body).matches(\"\\\\w+\\\\d\\\\w+\\\\d\")",
        "string(request.body).matches(\"(?:[ab]|ab){0,50}x(?:[ab]|ab){0,50}y\")",
        "string(request.body).matches(\"[ab]*a[ab]{16}c\")||".repeat(8).trim_end_matches('|'),
    ] {
        if refusal(when, capability("fetch")).is_some_and(|found| found.contains("too l")) {
            continue;
        }
        let start = std::time::Instant::now();
        say("fetch", when, &Arguments::Fetch(&request));
        assert!(start.elapsed().as_millis() < 2_000, "{when}: {:?}", start.elapsed());
    }
}
