//! What the functions of a capability take and give. Rules, `policy explain`, questions and the check of answers derive
//! from it, and a test compares it with the WIT.

use std::sync::Arc;

use serde_json::Value;

use crate::Looks;
use crate::argtype::{ArgType, ArgumentTable, MAX_SEEN};

/// One function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name in the interface: `read-file`, `[method]socket.send`.
    pub wit: Arc<str>,
    /// The name that the journal has for it.
    pub name: Arc<str>,
    /// What it takes, in order.
    pub params: Arc<[Field]>,
    /// The ok value; `None`: there is none.
    pub result: Option<Type>,
    /// Whether it may answer with an error.
    pub fails: bool,
}

impl Function {
    /// One that takes these parameters and may answer with an error. `wit` is its name in the interface, `name` that in
    /// the journal.
    pub fn new(wit: &str, name: &str, params: impl Into<Arc<[Field]>>, result: Option<Type>) -> Self {
        Self { wit: wit.into(), name: name.into(), params: params.into(), result, fails: true }
    }

    /// The same for one that never does.
    pub fn infallible(wit: &str, name: &str, params: impl Into<Arc<[Field]>>, result: Option<Type>) -> Self {
        Self { fails: false, ..Self::new(wit, name, params, result) }
    }
}

/// A parameter, or a field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in WIT: `duration-ms`.
    pub name: Arc<str>,
    /// What it holds.
    pub of: Type,
}

/// The type of a value: that of WIT, and what the value stands for where that is more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `bool`
    Bool,
    /// A whole number.
    Int(Int),
    /// `f64`
    Real,
    /// `string`, of which a rule looks at so many bytes.
    Text(u32),
    /// `string`: the path of a file.
    Path,
    /// `string`: a URL.
    Url,
    /// `string`: the method of a request.
    Method,
    /// `string`: something that the policy has given a name.
    Name,
    /// `list<u8>`
    Bytes,
    /// `list<u8>`, of which a person types how many when asking what a policy says.
    Contents,
    /// A list of records of two texts, `name` and `value`: headers.
    Headers,
    /// An enum of these words, of so many letters at most.
    Enum(Arc<[Arc<str>]>),
    /// One of several cases, some with a value.
    Variant(Arc<[(Arc<str>, Option<Type>)]>),
    /// Any number of the same.
    List(Arc<Type>),
    /// Fields by name.
    Record(Arc<[Field]>),
    /// That or nothing.
    Option(Arc<Type>),
    /// A resource that an earlier call has given.
    Handle,
}

/// The whole numbers of WIT that a capability uses.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Int {
    /// `u16`
    U16,
    /// `u32`
    U32,
    /// `u64`
    U64,
    /// `s64`
    S64,
}

/// A field of a record, or a parameter.
pub fn field(name: &str, of: Type) -> Field {
    Field { name: name.into(), of }
}

impl Type {
    /// Text of which a rule looks at as much as it ever does.
    pub const TEXT: Type = Type::Text(MAX_SEEN);

    /// A record of these fields.
    pub fn record(fields: impl Into<Arc<[Field]>>) -> Type {
        Type::Record(fields.into())
    }

    /// Any number of the same.
    pub fn list(of: Type) -> Type {
        Type::List(Arc::new(of))
    }

    /// That or nothing.
    pub fn option(of: Type) -> Type {
        Type::Option(Arc::new(of))
    }

    /// One of these words.
    pub fn words(words: &[&str]) -> Type {
        Type::Enum(words.iter().map(|word| Arc::from(*word)).collect())
    }

    /// One of these cases.
    pub fn variant<const N: usize>(cases: [(&str, Option<Type>); N]) -> Type {
        Type::Variant(cases.into_iter().map(|(name, of)| (name.into(), of)).collect())
    }

    /// The same as far as a rule is concerned; `None`: a rule sees nothing of it.
    pub(crate) fn seen(&self) -> Option<ArgType> {
        Some(match self {
            Type::Bool | Type::Real | Type::Variant(_) => ArgType::Any,
            Type::Int(_) => ArgType::Int,
            Type::Text(most) => ArgType::Text(*most),
            Type::Path => ArgType::Text(crate::MAX_GUEST_PATH as u32),
            Type::Url => ArgType::Text(crate::MAX_URL as u32),
            Type::Method => ArgType::Text(crate::MAX_METHOD as u32),
            Type::Name => ArgType::Lower(crate::MAX_DATABASE_NAME as u32),
            Type::Bytes | Type::Contents => ArgType::Bytes,
            Type::Headers => {
                let header = [("name", ArgType::Lower(MAX_SEEN)), ("value", ArgType::Text(MAX_SEEN))];
                ArgType::List(Arc::new(ArgType::record(header)))
            }
            Type::Enum(words) => {
                let longest = words.iter().map(|word| word.len()).max().unwrap_or_default();
                ArgType::Lower(u32::try_from(longest).unwrap_or(MAX_SEEN))
            }
            Type::List(of) => ArgType::List(Arc::new(of.seen()?)),
            Type::Record(fields) => ArgType::Record(table(fields)),
            Type::Option(of) => ArgType::Optional(Arc::new(of.seen()?)),
            Type::Handle => return None,
        })
    }

    /// What a rule looks at that has all of it in its condition.
    pub(crate) fn looks(&self) -> Looks {
        let none = Looks::default();
        match self {
            Type::Path => Looks { path: true, ..none },
            Type::Url => Looks { path: true, query: true, ..none },
            Type::Method => Looks { method: true, ..none },
            Type::Headers => Looks { headers: true, ..none },
            Type::List(of) | Type::Option(of) => of.looks(),
            Type::Record(fields) => fields.iter().fold(none, |looks, field| looks.and(field.of.looks())),
            _ => none,
        }
    }

    /// JSON that stands for one, to be copied and changed: `true`, `"…"`.
    pub fn example(&self) -> String {
        match self {
            Type::Bool => "true".to_owned(),
            Type::Int(Int::U64 | Int::S64) => "\"0\"".to_owned(),
            Type::Int(_) | Type::Real => "0".to_owned(),
            Type::List(_) | Type::Headers => "[]".to_owned(),
            Type::Option(_) => "null".to_owned(),
            Type::Record(fields) => {
                let field = |field: &Field| format!("\"{}\": {}", field.name, field.of.example());
                format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
            }
            Type::Enum(words) => format!("\"{}\"", words.first().map_or("", |word| word)),
            Type::Variant(cases) => match cases.first() {
                Some((name, Some(of))) => format!("{{\"{name}\": {}}}", of.example()),
                Some((name, None)) => format!("\"{name}\""),
                None => "null".to_owned(),
            },
            _ => "\"…\"".to_owned(),
        }
    }

    /// Whether a JSON value stands for one.
    ///
    /// # Errors
    /// Where it does not, and what was expected there. `place` is the way to it.
    pub fn check(&self, value: &Value, place: &str) -> Result<(), String> {
        let expected = |what: &str| {
            let place = if place.is_empty() { String::new() } else { format!("`{place}`: ") };
            Err(format!("{place}expected {what}"))
        };
        let is_base64 = |text: &str| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        };
        match (self, value) {
            (Type::Bool, Value::Bool(_)) | (Type::Option(_), Value::Null) => Ok(()),
            (Type::Bool, _) => expected("true or false"),
            (Type::Text(_) | Type::Path | Type::Url | Type::Method | Type::Name, Value::String(_)) => Ok(()),
            (Type::Text(_) | Type::Path | Type::Url | Type::Method | Type::Name, _) => {
                expected("a JSON string, such as \"Ada\"")
            }
            (Type::Int(Int::U64), Value::String(text)) if text.parse::<u64>().is_ok() => Ok(()),
            (Type::Int(Int::S64), Value::String(text)) if text.parse::<i64>().is_ok() => Ok(()),
            (Type::Int(Int::U64 | Int::S64), _) => expected("a whole number as text, such as \"5\""),
            (Type::Int(Int::U16), Value::Number(number)) if number.as_u64().is_some_and(|n| n < 1 << 16) => Ok(()),
            (Type::Int(Int::U32), Value::Number(number)) if number.as_u64().is_some_and(|n| n < 1 << 32) => Ok(()),
            (Type::Int(_), _) => expected("a whole number"),
            (Type::Real, Value::Number(_)) => Ok(()),
            (Type::Real, _) => expected("a number"),
            (Type::Bytes | Type::Contents, Value::String(text)) if is_base64(text) => Ok(()),
            (Type::Bytes | Type::Contents, _) => expected("base64 text"),
            (Type::Headers, value) => {
                let header = Type::record([field("name", Type::TEXT), field("value", Type::TEXT)]);
                Type::list(header).check(value, place)
            }
            (Type::Enum(words), Value::String(text)) if words.iter().any(|word| **word == **text) => Ok(()),
            (Type::Enum(words), _) => expected(&format!("one of {}", words.join(", "))),
            (Type::Variant(cases), value) => {
                let (name, payload) = match value {
                    Value::String(name) => (name.as_str(), None),
                    Value::Object(one) if one.len() == 1 => {
                        one.iter().next().map_or(("", None), |(name, value)| (name.as_str(), Some(value)))
                    }
                    _ => ("", None),
                };
                match (cases.iter().find(|(own, _)| **own == *name), payload) {
                    (Some((_, None)), None) => Ok(()),
                    (Some((name, Some(of))), Some(value)) => of.check(value, &below(place, name)),
                    _ => {
                        let names: Vec<&str> = cases.iter().map(|(name, _)| &**name).collect();
                        expected(&format!("one of {}", names.join(", ")))
                    }
                }
            }
            (Type::List(of), Value::Array(items)) => {
                items.iter().zip(0..).try_for_each(|(item, index)| of.check(item, &format!("{place}[{index}]")))
            }
            (Type::List(_), _) => expected("an array"),
            (Type::Record(fields), Value::Object(given)) => {
                if let Some(other) = given.keys().find(|name| !fields.iter().any(|field| *field.name == ***name)) {
                    return Err(format!("`{}`: unknown field", below(place, other)));
                }
                fields.iter().try_for_each(|field| match given.get(&*field.name) {
                    Some(value) => field.of.check(value, &below(place, &field.name)),
                    None if matches!(field.of, Type::Option(_)) => Ok(()),
                    None => Err(format!("`{}`: missing", below(place, &field.name))),
                })
            }
            (Type::Record(_), _) => expected("an object"),
            (Type::Option(of), value) => of.check(value, place),
            (Type::Handle, _) => expected("nothing that can be written"),
        }
    }
}

fn below(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

/// Parameters or fields as rules see them: a rule spells `duration-ms` as `duration_ms`.
pub(crate) fn table(fields: &[Field]) -> ArgumentTable {
    let seen = fields.iter().filter_map(|field| Some((rule_name(&field.name), field.of.seen()?)));
    seen.collect()
}

/// A name as rules spell it.
pub(crate) fn rule_name(name: &str) -> Arc<str> {
    name.replace('-', "_").into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
            (Type::Int(Int::U64), json!(5), "expected a whole number as text, such as \"5\""),
            (Type::Int(Int::U16), json!(65_536), "expected a whole number"),
            (Type::words(&["a", "b"]), json!("c"), "expected one of a, b"),
            (Type::Headers, json!([{ "name": "a" }]), "`[0].value`: missing"),
        ];
        for (of, value, said) in rows {
            assert_eq!(of.check(&value, "").err().unwrap_or_default(), said, "{value}");
        }
    }

    #[test]
    fn an_example_fits() {
        for of in [decision(), Type::Bool, Type::TEXT, Type::Headers, Type::words(&["a"]), Type::Int(Int::S64)] {
            let example = serde_json::from_str(&of.example()).unwrap_or_default();
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
