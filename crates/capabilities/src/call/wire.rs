//! WIT values as JSON and back, by the type that the declaration has; see [`parole_policy::json`] for the form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parole_policy::{Field, Int, Type, json};
use serde_json::Value;
use wasmtime::component::Val;

/// Appends the JSON of a value. `None`: it is none of that type.
pub fn write(value: &Val, of: &Type, out: &mut Vec<u8>) -> Option<()> {
    match (of, value) {
        (Type::Bool, Val::Bool(yes)) => out.extend_from_slice(if *yes { b"true" } else { b"false" }),
        (Type::Int(int), value) => return integer(*int, value, out),
        (Type::Single, Val::Float32(number)) => real(f64::from(*number), out),
        (Type::Real, Val::Float64(number)) => real(*number, out),
        (Type::Char, Val::Char(char)) => text(char.encode_utf8(&mut [0; 4]), out),
        (Type::Text(_) | Type::Path | Type::Url | Type::Method | Type::Name, Val::String(own)) => text(own, out),
        (Type::Bytes | Type::Contents, Val::List(items)) => {
            let byte = |item: &Val| if let Val::U8(byte) = item { Some(*byte) } else { None };
            let bytes = items.iter().map(byte).collect::<Option<Vec<u8>>>()?;
            let mut encoded = String::new();
            STANDARD.encode_string(&bytes, &mut encoded);
            out.reserve(encoded.len() + 2);
            out.push(b'"');
            out.extend_from_slice(encoded.as_bytes());
            out.push(b'"');
        }
        (Type::List(of), Val::List(items)) => list(items.iter().map(|item| (item, &**of)), out)?,
        (Type::Tuple(types), Val::Tuple(items)) if types.len() == items.len() => list(items.iter().zip(&**types), out)?,
        (Type::Record(fields), Val::Record(own)) => record(fields, own, out)?,
        (Type::Enum(words), Val::Enum(word)) if words.iter().any(|own| **own == **word) => text(word, out),
        (Type::Flags(words), Val::Flags(given)) => {
            out.push(b'[');
            for (word, at) in given.iter().zip(0..) {
                words.iter().find(|own| ***own == **word)?;
                separate(at, out);
                text(word, out);
            }
            out.push(b']');
        }
        (Type::Variant(cases), Val::Variant(name, payload)) => {
            let (_, of) = cases.iter().find(|(own, _)| **own == **name)?;
            match (of, payload) {
                (None, None) => text(name, out),
                (Some(of), Some(value)) => held(name, Some((value, of)), out)?,
                _ => return None,
            }
        }
        (Type::Result(ok, _), Val::Result(Ok(value))) => held("ok", both(value, ok)?, out)?,
        (Type::Result(_, error), Val::Result(Err(value))) => held("err", both(value, error)?, out)?,
        (Type::Option(_), Val::Option(None)) => out.extend_from_slice(b"null"),
        (Type::Option(of), Val::Option(Some(value))) if of.takes_null() => held("some", Some((value, of)), out)?,
        (Type::Option(of), Val::Option(Some(value))) => return write(value, of, out),
        _ => return None,
    }
    Some(())
}

/// The JSON of an object by the names of the fields: the arguments of a call, in order.
pub fn arguments(values: &[Val], fields: &[Field]) -> Option<Vec<u8>> {
    if values.len() != fields.len() {
        return None;
    }
    let mut out = vec![b'{'];
    for ((value, field), at) in values.iter().zip(fields).zip(0..) {
        separate(at, &mut out);
        text(&field.name, &mut out);
        out.push(b':');
        write(value, &field.of, &mut out)?;
    }
    out.push(b'}');
    Some(out)
}

/// The value that JSON stands for, which [`Type::check`] has found to be one of the type. `None`: it is not.
pub fn read(value: &Value, of: &Type) -> Option<Val> {
    Some(match (of, value) {
        (Type::Bool, Value::Bool(yes)) => Val::Bool(*yes),
        (Type::Int(int), value) => whole(*int, json::whole(*int, value)?)?,
        #[expect(clippy::cast_possible_truncation, reason = "it is the nearest number that the type has")]
        (Type::Single, value) => Val::Float32(json::real(value)? as f32),
        (Type::Real, value) => Val::Float64(json::real(value)?),
        (Type::Char, Value::String(text)) => Val::Char(text.chars().next()?),
        (Type::Text(_) | Type::Path | Type::Url | Type::Method | Type::Name, Value::String(text)) => {
            Val::String(text.clone())
        }
        (Type::Bytes | Type::Contents, Value::String(text)) => {
            Val::List(json::bytes(text)?.into_iter().map(Val::U8).collect())
        }
        (Type::List(of), Value::Array(items)) => {
            Val::List(items.iter().map(|item| read(item, of)).collect::<Option<_>>()?)
        }
        (Type::Tuple(types), Value::Array(items)) if types.len() == items.len() => {
            Val::Tuple(types.iter().zip(items).map(|(of, item)| read(item, of)).collect::<Option<_>>()?)
        }
        (Type::Record(fields), Value::Object(given)) => {
            let field = |field: &Field| {
                Some((field.name.to_string(), read(given.get(&*field.name).unwrap_or(&Value::Null), &field.of)?))
            };
            Val::Record(fields.iter().map(field).collect::<Option<_>>()?)
        }
        (Type::Enum(_), Value::String(word)) => Val::Enum(word.clone()),
        (Type::Flags(words), Value::Array(given)) => {
            // In the order of the type, as a guest gives them.
            let given: Vec<&str> = given.iter().filter_map(Value::as_str).collect();
            Val::Flags(words.iter().filter(|word| given.contains(&&***word)).map(ToString::to_string).collect())
        }
        (Type::Variant(cases), value) => {
            let (name, payload) = json::case(value);
            let (_, of) = cases.iter().find(|(own, _)| **own == *name)?;
            let payload = of.as_ref().map(|of| read(payload?, of)).map_or(Some(None), |value| value.map(Some))?;
            Val::Variant(name.to_owned(), payload.map(Box::new))
        }
        (Type::Result(ok, error), value) => {
            let (name, payload) = json::case(value);
            let part = |of: &Option<std::sync::Arc<Type>>| match of {
                Some(of) => read(payload?, of).map(|value| Some(Box::new(value))),
                None => Some(None),
            };
            Val::Result(if name == "ok" { Ok(part(ok)?) } else { Err(part(error)?) })
        }
        (Type::Option(_), Value::Null) => Val::Option(None),
        (Type::Option(of), value) if of.takes_null() => Val::Option(Some(Box::new(read(json::case(value).1?, of)?))),
        (Type::Option(of), value) => Val::Option(Some(Box::new(read(value, of)?))),
        _ => return None,
    })
}

fn whole(int: Int, number: i128) -> Option<Val> {
    Some(match int {
        Int::U8 => Val::U8(number.try_into().ok()?),
        Int::U16 => Val::U16(number.try_into().ok()?),
        Int::U32 => Val::U32(number.try_into().ok()?),
        Int::U64 => Val::U64(number.try_into().ok()?),
        Int::S8 => Val::S8(number.try_into().ok()?),
        Int::S16 => Val::S16(number.try_into().ok()?),
        Int::S32 => Val::S32(number.try_into().ok()?),
        Int::S64 => Val::S64(number.try_into().ok()?),
    })
}

fn integer(int: Int, value: &Val, out: &mut Vec<u8>) -> Option<()> {
    match (int, value) {
        (Int::U8, Val::U8(number)) => plain(number, out),
        (Int::U16, Val::U16(number)) => plain(number, out),
        (Int::U32, Val::U32(number)) => plain(number, out),
        (Int::S8, Val::S8(number)) => plain(number, out),
        (Int::S16, Val::S16(number)) => plain(number, out),
        (Int::S32, Val::S32(number)) => plain(number, out),
        (Int::U64, Val::U64(number)) => text(&number.to_string(), out),
        (Int::S64, Val::S64(number)) => text(&number.to_string(), out),
        _ => return None,
    }
    Some(())
}

fn plain(number: &impl std::fmt::Display, out: &mut Vec<u8>) {
    out.extend_from_slice(number.to_string().as_bytes());
}

/// A single is written as the double that it is, so that it is read as the same.
fn real(number: f64, out: &mut Vec<u8>) {
    if number.is_nan() {
        out.extend_from_slice(b"\"nan\"");
    } else if number.is_infinite() {
        out.extend_from_slice(if number > 0.0 { b"\"inf\"" } else { b"\"-inf\"" });
    } else {
        // It has a point or an exponent: a whole number would have no negative nought.
        let _ = serde_json::to_writer(&mut *out, &number);
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    // A text cannot fail to be written to memory.
    let _ = serde_json::to_writer(&mut *out, text);
}

fn separate(at: usize, out: &mut Vec<u8>) {
    if at > 0 {
        out.push(b',');
    }
}

fn list<'v>(items: impl Iterator<Item = (&'v Val, &'v Type)>, out: &mut Vec<u8>) -> Option<()> {
    out.push(b'[');
    for ((item, of), at) in items.zip(0..) {
        separate(at, out);
        write(item, of, out)?;
    }
    out.push(b']');
    Some(())
}

fn record(fields: &[Field], own: &[(String, Val)], out: &mut Vec<u8>) -> Option<()> {
    if fields.len() != own.len() {
        return None;
    }
    out.push(b'{');
    for ((field, (_, value)), at) in fields.iter().zip(own).zip(0..) {
        separate(at, out);
        text(&field.name, out);
        out.push(b':');
        write(value, &field.of, out)?;
    }
    out.push(b'}');
    Some(())
}

type Part<'v> = Option<(&'v Val, &'v Type)>;

fn both<'v>(value: &'v Option<Box<Val>>, of: &'v Option<std::sync::Arc<Type>>) -> Option<Part<'v>> {
    match (value, of) {
        (None, None) => Some(None),
        (Some(value), Some(of)) => Some(Some((value, of))),
        _ => None,
    }
}

fn held(name: &str, part: Part<'_>, out: &mut Vec<u8>) -> Option<()> {
    out.push(b'{');
    text(name, out);
    out.push(b':');
    match part {
        Some((value, of)) => write(value, of, out)?,
        None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
    Some(())
}
