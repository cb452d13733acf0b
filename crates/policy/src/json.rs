//! JSON of WIT values: what stands for a value of a type, and what does not.
//!
//! record → object; tuple, list → array; `list<u8>` → base64 text; enum → text; flags → array of texts; variant →
//! `"case"` or `{"case": v}`; option → `null` or the value, one in another `{"some": v}`; result → `{"ok": v}` or
//! `{"err": v}`; integers of 64 bits → text (an exact number is taken too); floats → number or `"nan"`, `"inf"`, `"-inf"`;
//! char → text.

use serde_json::{Map, Value};

use crate::{Field, Int, Type, field};

impl Type {
    /// Whether `null` stands for one. An option of it has `{"some": v}` then.
    pub fn takes_null(&self) -> bool {
        matches!(self, Type::Option(_))
    }

    /// JSON that stands for one, to be copied and changed: `true`, `"…"`.
    pub fn example(&self) -> String {
        match self {
            Type::Bool => "true".to_owned(),
            Type::Int(int) if int.is_wide() => "\"0\"".to_owned(),
            Type::Int(_) | Type::Single | Type::Real => "0".to_owned(),
            Type::List(_) | Type::Headers | Type::Flags(_) => "[]".to_owned(),
            Type::Bytes | Type::Contents => "\"\"".to_owned(),
            Type::Option(_) => "null".to_owned(),
            Type::Record(fields) => {
                let of_field = |field: &Field| format!("\"{}\": {}", field.name, field.of.example());
                format!("{{{}}}", fields.iter().map(of_field).collect::<Vec<_>>().join(", "))
            }
            Type::Tuple(items) => format!("[{}]", items.iter().map(Type::example).collect::<Vec<_>>().join(", ")),
            Type::SqlValue => Type::sql_value().example(),
            Type::Enum(words) => format!("\"{}\"", words.first().map_or("", |word| word)),
            Type::Variant(cases) => match cases.first() {
                Some((name, Some(of))) => format!("{{\"{name}\": {}}}", of.example()),
                Some((name, None)) => format!("\"{name}\""),
                None => "null".to_owned(),
            },
            Type::Result(ok, _) => format!("{{\"ok\": {}}}", ok.as_ref().map_or("null".to_owned(), |ok| ok.example())),
            _ => "\"…\"".to_owned(),
        }
    }

    /// Whether a JSON value stands for one.
    ///
    /// # Errors
    /// Where it does not, and what was expected there. `place` is the way to it.
    pub fn check(&self, value: &Value, place: &str) -> Result<(), String> {
        let expected = |what: &str| Err(unfit(place, what));
        match (self, value) {
            (Type::Bool, Value::Bool(_)) | (Type::Option(_), Value::Null) => Ok(()),
            (Type::Bool, _) => expected("true or false"),
            (Type::Text(_) | Type::Path | Type::Url | Type::Method | Type::Name, Value::String(_)) => Ok(()),
            (Type::Text(_) | Type::Path | Type::Url | Type::Method | Type::Name, _) => {
                expected("a JSON string, such as \"Ada\"")
            }
            (Type::Char, Value::String(text)) if text.chars().count() == 1 => Ok(()),
            (Type::Char, _) => expected("text of one character"),
            (Type::Int(int), value) => whole(*int, value).map(drop).ok_or_else(|| unfit(place, &int.words())),
            (Type::Real, value) if real(value).is_some() => Ok(()),
            (Type::Single, value) if real(value).is_some_and(fits_single) => Ok(()),
            (Type::Single, Value::Number(_)) => expected("a number that an `f32` can come near to"),
            (Type::Single | Type::Real, _) => expected("a number, or one of \"nan\", \"inf\", \"-inf\""),
            (Type::Bytes | Type::Contents, Value::String(text)) if bytes(text).is_some() => Ok(()),
            (Type::Bytes | Type::Contents, _) => expected("base64 text"),
            (Type::Headers, value) => {
                let header = Type::record([field("name", Type::TEXT), field("value", Type::TEXT)]);
                Type::list(header).check(value, place)
            }
            (Type::SqlValue, value) => Type::sql_value().check(value, place),
            (Type::Enum(words), Value::String(text)) if words.iter().any(|word| **word == **text) => Ok(()),
            (Type::Enum(words), _) => expected(&format!("one of {}", words.join(", "))),
            (Type::Flags(words), Value::Array(items)) => flags(words, items, place),
            (Type::Flags(_), _) => expected("an array of texts"),
            (Type::Variant(cases), value) => {
                let (name, payload) = case(value);
                match (cases.iter().find(|(own, _)| **own == *name), payload) {
                    (Some((_, None)), None) => Ok(()),
                    (Some((name, Some(of))), Some(value)) => of.check(value, &below(place, name)),
                    _ => {
                        let names: Vec<&str> = cases.iter().map(|(name, _)| &**name).collect();
                        expected(&format!("one of {}", names.join(", ")))
                    }
                }
            }
            (Type::Result(ok, error), value) => match (case(value), ok, error) {
                (("ok", Some(value)), of, _) => maybe(of.as_deref(), value, &below(place, "ok")),
                (("err", Some(value)), _, of) => maybe(of.as_deref(), value, &below(place, "err")),
                _ => expected("an object with `ok` or `err`"),
            },
            (Type::List(of), Value::Array(items)) => {
                items.iter().zip(0..).try_for_each(|(item, at)| of.check(item, &format!("{place}[{at}]")))
            }
            (Type::List(_), _) => expected("an array"),
            (Type::Tuple(types), Value::Array(items)) if items.len() == types.len() => {
                let each = types.iter().zip(items).zip(0..);
                each.into_iter().try_for_each(|((of, item), at)| of.check(item, &format!("{place}[{at}]")))
            }
            (Type::Tuple(types), _) => expected(&format!("an array of {} values", types.len())),
            (Type::Record(fields), Value::Object(given)) => record(fields, given, place),
            (Type::Record(_), _) => expected("an object"),
            (Type::Option(of), value) if of.takes_null() => match case(value) {
                ("some", Some(value)) => of.check(value, &below(place, "some")),
                _ => expected("null, or an object with `some`"),
            },
            (Type::Option(of), value) => of.check(value, place),
            (Type::Handle, _) => expected("nothing that can be written"),
        }
    }
}

impl Int {
    /// What JSON has for one.
    fn words(self) -> String {
        let (least, most) = self.range();
        match self {
            Int::U64 | Int::S64 => format!("a whole number as text, such as \"5\", from {least} to {most}"),
            _ => format!("a whole number from {least} to {most}"),
        }
    }
}

fn unfit(place: &str, what: &str) -> String {
    if place.is_empty() { format!("expected {what}") } else { format!("`{place}`: expected {what}") }
}

fn below(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

/// The whole number that a value stands for.
pub fn whole(int: Int, value: &Value) -> Option<i128> {
    let number = match value {
        Value::Number(number) => number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)),
        Value::String(text) if int.is_wide() => text.parse().ok(),
        _ => None,
    };
    let (least, most) = int.range();
    number.filter(|number| (least..=most).contains(number))
}

/// The number that a value stands for.
pub fn real(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(word) => match word.as_str() {
            "nan" => Some(f64::NAN),
            "inf" => Some(f64::INFINITY),
            "-inf" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// Whether the nearest `f32` is not infinite, where the number is not.
fn fits_single(number: f64) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "that is what is asked")]
    let nearest = number as f32;
    nearest.is_finite() || !number.is_finite()
}

/// The bytes that text stands for.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// The name of a case, and what it holds. A value that is neither has no name.
pub fn case(value: &Value) -> (&str, Option<&Value>) {
    match value {
        Value::String(name) => (name, None),
        Value::Object(one) if one.len() == 1 => {
            one.iter().next().map_or(("", None), |(name, value)| (name, Some(value)))
        }
        _ => ("", None),
    }
}

/// A part that may hold nothing, which is `null` then.
fn maybe(of: Option<&Type>, value: &Value, place: &str) -> Result<(), String> {
    match of {
        Some(of) => of.check(value, place),
        None if value.is_null() => Ok(()),
        None => Err(unfit(place, "null")),
    }
}

fn flags(words: &[std::sync::Arc<str>], items: &[Value], place: &str) -> Result<(), String> {
    for (item, at) in items.iter().zip(0..) {
        let place = format!("{place}[{at}]");
        match item {
            Value::String(text) if !words.iter().any(|word| **word == **text) => {
                return Err(unfit(&place, &format!("one of {}", words.join(", "))));
            }
            Value::String(_) if items.iter().take(at).any(|other| other == item) => {
                return Err(unfit(&place, "each of them once"));
            }
            Value::String(_) => {}
            _ => return Err(unfit(&place, "text")),
        }
    }
    Ok(())
}

fn record(fields: &[Field], given: &Map<String, Value>, place: &str) -> Result<(), String> {
    if let Some(other) = given.keys().find(|name| !fields.iter().any(|field| *field.name == ***name)) {
        return Err(format!("`{}`: unknown field", below(place, other)));
    }
    fields.iter().try_for_each(|field| match given.get(&*field.name) {
        Some(value) => field.of.check(value, &below(place, &field.name)),
        None if field.of.takes_null() => Ok(()),
        None => Err(format!("`{}`: missing", below(place, &field.name))),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Looks;

    fn decision() -> Type {
        Type::record([
            field("accepted", Type::Bool),
            field("text", Type::TEXT),
            field("comment", Type::option(Type::TEXT)),
        ])
    }

    /// Columns: the type, a value, what is said of it.
    #[test]
    fn what_does_not_fit_is_said_with_its_place() {
        let message = Type::variant([("null", None), ("text", Some(Type::TEXT)), ("blob", Some(Type::Bytes))]);
        let rows = [
            (Type::Bool, json!(true), ""),
            (Type::Bool, json!("yes"), "expected true or false"),
            (Type::TEXT, json!("Ada"), ""),
            (Type::TEXT, json!(5), "expected a JSON string, such as \"Ada\""),
            (decision(), json!({ "accepted": true, "text": "t", "comment": null }), ""),
            (decision(), json!({ "accepted": true, "text": "t" }), ""),
            (decision(), json!([true, "t", null]), "expected an object"),
            (decision(), json!({ "accepted": 1, "text": "t" }), "`accepted`: expected true or false"),
            (decision(), json!({ "accepted": true }), "`text`: missing"),
            (decision(), json!({ "accepted": true, "text": "t", "rest": 1 }), "`rest`: unknown field"),
            (Type::list(message.clone()), json!(["null", { "text": "a" }, { "blob": "aGk=" }]), ""),
            (Type::list(message.clone()), json!([{ "blob": "%" }]), "`[0].blob`: expected base64 text"),
            (message, json!({ "null": 1 }), "expected one of null, text, blob"),
            (Type::Int(Int::U64), json!("18446744073709551615"), ""),
            (Type::Int(Int::U64), json!(5), ""),
            (Type::Int(Int::S8), json!(-128), ""),
            (Type::Int(Int::S8), json!(-129), "expected a whole number from -128 to 127"),
            (Type::Int(Int::U16), json!(65_536), "expected a whole number from 0 to 65535"),
            (Type::Int(Int::U32), json!("5"), "expected a whole number from 0 to 4294967295"),
            (Type::Real, json!("-inf"), ""),
            (Type::Real, json!(1e300), ""),
            (Type::Single, json!("-inf"), ""),
            (Type::Single, json!(3.402_823_466e38), ""),
            (Type::Single, json!(-3.5e38), "expected a number that an `f32` can come near to"),
            (Type::Real, json!("infinity"), "expected a number, or one of \"nan\", \"inf\", \"-inf\""),
            (Type::Char, json!("é"), ""),
            (Type::Char, json!("e\u{301}"), "expected text of one character"),
            (Type::words(&["a", "b"]), json!("c"), "expected one of a, b"),
            (Type::Flags(["a".into(), "b".into()].into()), json!(["b", "a"]), ""),
            (Type::Flags(["a".into()].into()), json!(["a", "a"]), "`[1]`: expected each of them once"),
            (Type::Flags(["a".into()].into()), json!(["c"]), "`[0]`: expected one of a"),
            (Type::Tuple([Type::Bool, Type::TEXT].into()), json!([true]), "expected an array of 2 values"),
            (
                Type::Tuple([Type::Bool, Type::TEXT].into()),
                json!([true, 1]),
                "`[1]`: expected a JSON string, such as \"Ada\"",
            ),
            (Type::option(Type::option(Type::Bool)), json!({ "some": null }), ""),
            (Type::option(Type::option(Type::Bool)), json!(true), "expected null, or an object with `some`"),
            (Type::Result(None, Some(Type::TEXT.into())), json!({ "ok": null }), ""),
            (Type::Result(None, Some(Type::TEXT.into())), json!({ "ok": 1 }), "`ok`: expected null"),
            (
                Type::Result(None, Some(Type::TEXT.into())),
                json!({ "err": 1 }),
                "`err`: expected a JSON string, such as \"Ada\"",
            ),
            (Type::Result(None, None), json!("ok"), "expected an object with `ok` or `err`"),
            (Type::Headers, json!([{ "name": "a" }]), "`[0].value`: missing"),
        ];
        for (of, value, said) in rows {
            let words = of.check(&value, "").err().unwrap_or_default();
            assert_eq!(words, said, "{value}");
        }
        let wide = Type::Int(Int::U64).check(&json!(-1), "").err().unwrap_or_default();
        assert!(wide.starts_with("expected a whole number as text, such as \"5\""), "{wide}");
    }

    #[test]
    fn an_example_fits() {
        let result = Type::Result(Some(Type::Char.into()), None);
        let tuple = Type::Tuple([Type::Single, Type::Flags(["a".into()].into())].into());
        for of in [decision(), Type::Bool, Type::TEXT, Type::Headers, Type::words(&["a"]), Type::Bytes, tuple, result] {
            let example = serde_json::from_str(&of.example().replace('…', "x")).unwrap_or_default();
            assert_eq!(of.check(&example, ""), Ok(()), "{of:?}");
        }
    }

    #[test]
    fn a_rule_that_has_a_record_whole_looks_at_all_of_it() {
        let request = Type::record([field("url", Type::Url), field("headers", Type::Headers)]);
        assert_eq!(request.looks(), Looks { method: false, ..Looks::ALL });
        assert_eq!(Type::option(Type::Path).looks(), Looks { path: true, ..Looks::default() });
        assert_eq!(decision().looks(), Looks::default());
    }
}
