//! `parole policy explain`: what a policy says to a call that nobody makes.

use std::path::Path;

use parole_policy::{
    Arguments, Capability, Denial, Explanation, FETCH, FetchArguments, Field, GuestPath, Headers, QUERY, QueryValue,
    READ_FILE, SecurityPolicy, Target, WEBSOCKET, WRITE_FILE,
};
use parole_runtime::CATALOGUE;

use crate::fail::{Failure, Result};
use crate::{output, policy_flags};

/// What each capability is called with.
pub const ARGUMENTS: &str = "\
Arguments, as a guest would pass them:
  fetch METHOD URL [BODY]
  websocket URL
  query DATABASE SQL [PARAMETER…]    a number, null, or text
  read_file PATH
  write_file PATH [BYTES]            BYTES: how many
  input PROMPT                       approve QUESTION
  review TITLE TEXT                  sleep MILLISECONDS
  schedule PATTERN ZONE              clock
  print TEXT                         log LEVEL MESSAGE
  display MIME TEXT                  random LENGTH
Those of input and below may be left out where no rule looks at them.

Examples:
  parole policy explain tool.toml fetch POST https://api.example.com/reports '{\"a\": 1}'
  parole policy explain tool.toml write_file /out/report.txt 2000
  parole policy explain tool.toml query sales 'DELETE FROM orders WHERE id = ?' 42 --json";

pub fn run(file: &Path, name: &str, given: &[String], json: bool) -> Result<u8> {
    let policy = policy_flags::read(file)?;
    let Some(capability) = CATALOGUE.by_name(name) else {
        return Err(Failure::usage(format!("there is no capability `{name}`")));
    };
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    let explanation = explain(&policy, capability, &given)?;
    if json {
        output::json(&explanation);
    } else {
        output::out(&explanation.text);
    }
    Ok(0)
}

fn explain(policy: &SecurityPolicy, capability: &Capability, given: &[&str]) -> Result<Explanation> {
    let expected = |what: &str| Failure::usage(format!("expected: {} {what}", capability.name));
    let say = |arguments: &Arguments<'_>| Ok(policy.explain(capability, arguments));
    let fields = |fields: &[(&'static str, Field<'_>)]| say(&Arguments::Fields(fields));
    let of_file = |text: &str, explain: &dyn Fn(&GuestPath) -> Explanation| match GuestPath::read(text) {
        Err(denial) => Ok(refused(capability, &denial)),
        Ok(path) => Ok(explain(&path).of_form(path.as_str(), text)),
    };
    let of_url = |text: &str, explain: &dyn Fn(&Target) -> Explanation| match Target::read(
        text,
        policy.looks(capability.name),
    ) {
        Err(denial) => Ok(refused(capability, &denial)),
        Ok(url) => Ok(explain(&url).of_form(url.url().as_str(), text)),
    };
    match (capability.name, given) {
        (READ_FILE, [text]) => of_file(text, &|path| policy.explain(capability, &Arguments::Read { path })),
        (READ_FILE, _) => Err(expected("PATH")),
        (WRITE_FILE, [text]) => {
            of_file(text, &|path| policy.explain(capability, &Arguments::Write { path, bytes: 0, contents: &[] }))
        }
        (WRITE_FILE, [text, bytes]) => {
            let bytes = number(bytes, "bytes; expected write_file PATH [BYTES]")?;
            // A rule may look at the size of the contents; of what is in them nothing is known.
            let contents = vec![b' '; usize::try_from(bytes.min(CONTENTS_MAX)).unwrap_or_default()];
            of_file(text, &|path| policy.explain(capability, &Arguments::Write { path, bytes, contents: &contents }))
        }
        (WRITE_FILE, _) => Err(expected("PATH [BYTES]")),
        (FETCH, [method, text] | [method, text, _]) => of_url(text, &|url| {
            let (headers, body) = (Headers::default(), given.get(2).map(|body| body.as_bytes()));
            let request = FetchArguments { method, url, headers: &headers, body };
            policy.explain(capability, &Arguments::Fetch(&request))
        }),
        (FETCH, _) => Err(expected("METHOD URL [BODY]")),
        (WEBSOCKET, [text]) => of_url(text, &|url| policy.explain(capability, &Arguments::Connect { url })),
        (WEBSOCKET, _) => Err(expected("URL")),
        (QUERY, [database, sql, parameters @ ..]) => {
            let parameters: Vec<QueryValue> = parameters.iter().map(|text| parameter(text)).collect();
            say(&Arguments::Query { database, sql, parameters: &parameters })
        }
        (QUERY, _) => Err(expected("DATABASE SQL [PARAMETER…]")),
        (_, []) => say(&Arguments::None),
        ("input", [prompt]) => fields(&[("prompt", Field::Text(prompt))]),
        ("input", _) => Err(expected("PROMPT")),
        ("approve", [question]) => fields(&[("question", Field::Text(question))]),
        ("approve", _) => Err(expected("QUESTION")),
        ("review", [title, text]) => fields(&[("title", Field::Text(title)), ("text", Field::Text(text))]),
        ("review", _) => Err(expected("TITLE TEXT")),
        ("sleep", [ms]) => fields(&[("duration_ms", Field::Int(number(ms, "milliseconds")?))]),
        ("sleep", _) => Err(expected("MILLISECONDS")),
        ("schedule", [pattern, zone]) => fields(&[("pattern", Field::Text(pattern)), ("zone", Field::Text(zone))]),
        ("schedule", _) => Err(expected("PATTERN ZONE")),
        ("random", [length]) => fields(&[("length", Field::Int(number(length, "bytes")?))]),
        ("random", _) => Err(expected("LENGTH")),
        ("print", [text]) => fields(&[("text", Field::Text(text))]),
        ("print", _) => Err(expected("TEXT")),
        ("log", [level, message]) => fields(&[("level", Field::Text(level)), ("message", Field::Text(message))]),
        ("log", _) => Err(expected("LEVEL MESSAGE")),
        ("display", [mime, data]) => fields(&[("mime", Field::Text(mime)), ("data", Field::Bytes(data.as_bytes()))]),
        ("display", _) => Err(expected("MIME TEXT")),
        (name, _) => Err(Failure::usage(format!("`{name}` is decided without arguments"))),
    }
}

/// Contents that a rule is shown are made up to this size.
const CONTENTS_MAX: u64 = 64 << 20;

fn number(text: &str, what: &str) -> Result<u64> {
    text.parse().map_err(|_| Failure::usage(format!("`{}` is not a number of {what}", output::cell(text))))
}

fn parameter(text: &str) -> QueryValue {
    match (text, text.parse(), text.parse::<f64>()) {
        ("null", ..) => QueryValue::Null,
        (_, Ok(number), _) => QueryValue::Integer(number),
        (_, _, Ok(number)) if number.is_finite() => QueryValue::Real(number),
        _ => QueryValue::Text(text.to_owned()),
    }
}

/// What has no form, such as a URL that is no URL, is refused before the policy is asked.
fn refused(capability: &Capability, denial: &Denial) -> Explanation {
    let text = format!("deny {}: {}", capability.name, denial.reason);
    Explanation { verdict: "deny", reason: denial.reason.clone(), line: None, decided_on: None, text }
}
