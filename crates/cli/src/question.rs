//! A call of a guest that a person decides about, put into parts that can be shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parole_durable::Digest;
use parole_policy::{Field, Type};
use parole_runtime::question::{ASK, DOUBT};
use parole_runtime::{CATALOGUE, Question};
use serde_json::{Value, json};

/// One part of a call, with a heading of ours. The text is the guest's: not inert.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    pub heading: String,
    pub text: String,
}

/// Everything that the guest passed, in the order in which a person reads it.
pub fn parts(question: &Question) -> Vec<Part> {
    let (arguments, capability) = (&question.arguments, CATALOGUE.by_name(&question.capability));
    let mut parts = Vec::new();
    match arguments {
        Value::Object(all) => {
            let params = capability.map_or(&[][..], |own| own.params());
            for field in params.iter().filter(|field| all.contains_key(&*field.name)) {
                let line = capability.map_or_else(String::new, |own| own.line(arguments));
                part(field, &arguments[&*field.name], &line, &mut parts);
            }
            let known = |name: &str| params.iter().any(|field| *field.name == *name);
            parts.extend(all.iter().filter(|(name, _)| !known(name)).map(|(name, value)| text(name, value)));
        }
        Value::Null => {}
        other => parts.push(text("arguments", other)),
    }
    parts
}

/// One argument: a record by its line, then what that does not say.
fn part(field: &Field, value: &Value, line: &str, parts: &mut Vec<Part>) {
    match &field.of {
        Type::Record(fields) => {
            parts.push(Part { heading: field.name.to_string(), text: line.to_owned() });
            if let Some(written) = value["written"].as_str() {
                parts.push(Part { heading: "the guest spelt it".into(), text: written.to_owned() });
            }
            for field in fields.iter().filter(|field| !matches!(field.of, Type::Method | Type::Url)) {
                part(field, &value[&*field.name], line, parts);
            }
        }
        Type::Headers => {
            // A line end in a value must not look like one more header.
            let headers = value.as_array().map(Vec::as_slice).unwrap_or_default().iter();
            let lines: Vec<_> =
                headers.map(|header| one_line(&plain(&header["name"]), &plain(&header["value"]))).collect();
            if !lines.is_empty() {
                parts.push(Part { heading: field.name.to_string(), text: lines.join("\n") });
            }
        }
        Type::Option(_) if value.is_null() => {
            parts.push(Part { heading: format!("no {}", field.name), text: String::new() });
        }
        Type::Option(of) => part(&Field { name: field.name.clone(), of: (**of).clone() }, value, line, parts),
        Type::Bytes | Type::Contents => parts.push(bytes(&field.name, value)),
        _ => parts.push(text(&field.name, value)),
    }
}

fn one_line(name: &str, value: &str) -> String {
    format!("{}: {}", crate::output::cell(name), crate::output::cell(value))
}

fn text(heading: &str, value: &Value) -> Part {
    let text = match value {
        Value::Array(items) => items
            .iter()
            .zip(1..)
            .map(|(item, number)| one_line(&number.to_string(), &item.to_string()))
            .collect::<Vec<_>>()
            .join("\n"),
        value => plain(value),
    };
    Part { heading: heading.to_owned(), text }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Base64 as what it stands for: text where it is text, else what can be said of it.
fn bytes(heading: &str, value: &Value) -> Part {
    let Some(Ok(bytes)) = value.as_str().map(|text| STANDARD.decode(text)) else { return text(heading, value) };
    let size = format!("{heading}, {} bytes", bytes.len());
    match String::from_utf8(bytes) {
        Ok(text) => Part { heading: size, text },
        Err(error) => no_text(&size, error.as_bytes()),
    }
}

/// Every byte in hexadecimal: what is approved is there to be seen. Who shows it cuts it where it is long.
fn no_text(size: &str, bytes: &[u8]) -> Part {
    let lines =
        bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "));
    let text = format!("{}\n{}", Digest::of(bytes), lines.collect::<Vec<_>>().join("\n"));
    Part { heading: format!("{size} that are no text"), text }
}

/// The values with which it can be settled, with what each means.
pub fn answers(question: &Question, label: &str) -> Vec<(String, &'static str)> {
    let decision = |word: &str| json!({ "decision": word, "digest": question.digest }).to_string();
    match label {
        ASK => vec![
            (decision("once"), "this call"),
            (decision("execution"), "this call, and the very same again in this execution"),
            (json!({ "decision": "deny", "digest": question.digest, "reason": "…" }).to_string(), "no"),
            (
                json!({ "decision": "deny", "digest": question.digest, "rest": true }).to_string(),
                "no, also to whatever else the rule asks in this execution",
            ),
        ],
        DOUBT => vec![
            (json!({ "done": "…" }).to_string(), "it happened, and this was its answer"),
            (json!("again").to_string(), "do it again"),
            (json!({ "fail": "…" }).to_string(), "let it fail"),
        ],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(capability: &str, arguments: Value) -> Question {
        serde_json::from_value(json!({
            "text": "?", "capability": capability, "function": capability, "arguments": arguments,
            "digest": "sha256:0", "component": "sha256:1", "execution": "e", "step": 1,
        }))
        .unwrap_or_else(|error| panic!("{error}"))
    }

    fn shown(capability: &str, arguments: Value) -> Vec<(String, String)> {
        parts(&question(capability, arguments)).into_iter().map(|part| (part.heading, part.text)).collect()
    }

    fn pair(heading: &str, text: &str) -> (String, String) {
        (heading.into(), text.into())
    }

    #[test]
    fn a_request_is_shown_line_by_line() {
        let body = STANDARD.encode("{\"a\": 1}");
        let headers = json!([{ "name": "accept", "value": "x\r\nhost: evil" }, { "name": "a", "value": "b" }]);
        let request = json!({ "method": "POST", "url": "https://a.example/", "headers": headers, "body": body });
        assert_eq!(
            shown("fetch", json!({ "request": request })),
            [
                pair("request", "POST https://a.example/"),
                pair("headers", "accept: x\\u{d}\\nhost: evil\na: b"),
                pair("body, 8 bytes", "{\"a\": 1}"),
            ]
        );
        let bare = json!({ "method": "GET", "url": "u", "headers": [], "body": null });
        assert_eq!(shown("fetch", json!({ "request": bare })), [pair("request", "GET u"), pair("no body", "")]);
    }

    #[test]
    fn bytes_that_are_no_text_are_described() {
        let contents: Vec<u8> = (0..=255).collect();
        let parts = shown("write_file", json!({ "path": "/out/x", "contents": STANDARD.encode(&contents) }));
        assert_eq!(parts[0], pair("path", "/out/x"));
        assert_eq!(parts[1].0, "contents, 256 bytes that are no text");
        assert!(parts[1].1.starts_with(&Digest::of(&contents).to_string()) && parts[1].1.ends_with("fd fe ff"));
        let empty = shown("write_file", json!({ "path": "/x", "contents": "" }));
        assert_eq!(empty[1], pair("contents, 0 bytes", ""));
        // Not what it should be: shown as it is.
        assert_eq!(shown("write_file", json!({ "path": 5, "contents": "%" }))[1], pair("contents", "%"));
    }

    #[test]
    fn parameters_are_numbered() {
        let parts = shown("query", json!({ "database": "d", "sql": "select ?\n", "parameters": ["a\nb", 5, null] }));
        assert_eq!(parts[0], pair("database", "d"));
        assert!(parts.contains(&pair("parameters", "1: \"a\\nb\"\n2: 5\n3: null")), "{parts:?}");
        assert!(parts.contains(&pair("sql", "select ?\n")), "{parts:?}");
    }
}
