//! WIT values and their JSON, over arbitrary types: from a value to JSON and back is the same value.

use parole_capabilities::call::wire;
use parole_policy::{Field, Int, Type, field};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use wasmtime::component::Val;

/// Words that are different: names of fields, cases and flags.
fn names(most: usize) -> impl Strategy<Value = Vec<String>> {
    (1..=most).prop_map(|count| (0..count).map(|n| format!("{}-{n}", ["some", "ok", "err", "case"][n % 4])).collect())
}

fn types() -> impl Strategy<Value = Type> {
    use Int::*;
    let ints = [U8, U16, U32, U64, S8, S16, S32, S64].map(Type::Int);
    let leaf = prop_oneof![
        Just(Type::Bool),
        proptest::sample::select(ints.to_vec()),
        Just(Type::Single),
        Just(Type::Real),
        Just(Type::Char),
        Just(Type::TEXT),
        Just(Type::Bytes),
        names(4).prop_map(|names| Type::Enum(names.into_iter().map(Into::into).collect())),
        names(40).prop_map(|names| Type::Flags(names.into_iter().map(Into::into).collect())),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let part = proptest::option::of(inner.clone());
        prop_oneof![
            // A list of bytes is its own type.
            inner.clone().prop_map(|of| if of == Type::Int(U8) { Type::Bytes } else { Type::list(of) }),
            inner.clone().prop_map(Type::option),
            vec(inner.clone(), 1..4).prop_map(|types| Type::Tuple(types.into())),
            vec(inner.clone(), 1..4).prop_map(|types| {
                let fields = types.into_iter().enumerate().map(|(n, of)| field(&format!("f-{n}"), of));
                Type::Record(fields.collect::<Vec<Field>>().into())
            }),
            vec(part.clone(), 1..4).prop_map(|parts| {
                Type::Variant(parts.into_iter().enumerate().map(|(n, of)| (format!("c-{n}").into(), of)).collect())
            }),
            (part.clone(), part).prop_map(|(ok, error)| Type::Result(ok.map(Into::into), error.map(Into::into))),
        ]
    })
}

fn boxed(of: &Option<std::sync::Arc<Type>>) -> BoxedStrategy<Option<Box<Val>>> {
    match of {
        Some(of) => values(of).prop_map(|value| Some(Box::new(value))).boxed(),
        None => Just(None).boxed(),
    }
}

fn values(of: &Type) -> BoxedStrategy<Val> {
    match of {
        Type::Bool => any::<bool>().prop_map(Val::Bool).boxed(),
        Type::Int(Int::U8) => any::<u8>().prop_map(Val::U8).boxed(),
        Type::Int(Int::U16) => any::<u16>().prop_map(Val::U16).boxed(),
        Type::Int(Int::U32) => any::<u32>().prop_map(Val::U32).boxed(),
        Type::Int(Int::U64) => any::<u64>().prop_map(Val::U64).boxed(),
        Type::Int(Int::S8) => any::<i8>().prop_map(Val::S8).boxed(),
        Type::Int(Int::S16) => any::<i16>().prop_map(Val::S16).boxed(),
        Type::Int(Int::S32) => any::<i32>().prop_map(Val::S32).boxed(),
        Type::Int(Int::S64) => any::<i64>().prop_map(Val::S64).boxed(),
        // Every one that there is, but for the bits of a NaN.
        Type::Single => any::<u32>().prop_map(|bits| Val::Float32(f32::from_bits(bits))).boxed(),
        Type::Real => any::<u64>().prop_map(|bits| Val::Float64(f64::from_bits(bits))).boxed(),
        Type::Char => any::<char>().prop_map(Val::Char).boxed(),
        Type::Bytes => {
            vec(any::<u8>(), 0..9).prop_map(|bytes| Val::List(bytes.into_iter().map(Val::U8).collect())).boxed()
        }
        Type::Enum(words) => {
            proptest::sample::select(words.to_vec()).prop_map(|word| Val::Enum(word.to_string())).boxed()
        }
        Type::Flags(words) => proptest::sample::subsequence(words.to_vec(), 0..=words.len())
            .prop_map(|words| Val::Flags(words.iter().map(ToString::to_string).collect()))
            .boxed(),
        Type::List(of) => vec(values(of), 0..4).prop_map(Val::List).boxed(),
        Type::Option(of) => proptest::option::of(values(of)).prop_map(|own| Val::Option(own.map(Box::new))).boxed(),
        Type::Tuple(types) => types.iter().map(values).collect::<Vec<_>>().prop_map(Val::Tuple).boxed(),
        Type::Record(fields) => {
            let names: Vec<String> = fields.iter().map(|field| field.name.to_string()).collect();
            let each = fields.iter().map(|field| values(&field.of)).collect::<Vec<_>>();
            each.prop_map(move |own| Val::Record(names.iter().cloned().zip(own).collect())).boxed()
        }
        Type::Variant(cases) => {
            let each = cases.iter().map(|(name, of)| {
                let name = name.to_string();
                boxed(&of.clone().map(Into::into)).prop_map(move |own| Val::Variant(name.clone(), own)).boxed()
            });
            proptest::strategy::Union::new(each).boxed()
        }
        Type::Result(ok, error) => prop_oneof![
            boxed(ok).prop_map(|own| Val::Result(Ok(own))),
            boxed(error).prop_map(|own| Val::Result(Err(own)))
        ]
        .boxed(),
        _ => any::<String>().prop_map(Val::String).boxed(),
    }
}

/// A value of a type.
fn cases() -> impl Strategy<Value = (Type, Val)> {
    types().prop_flat_map(|of| values(&of).prop_map(move |value| (of.clone(), value)))
}

/// Two values as they look, for NaN is not NaN.
fn same(one: &Val, other: &Val) -> bool {
    format!("{one:?}") == format!("{other:?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn from_a_value_to_json_and_back_is_the_same((of, value) in cases()) {
        let mut bytes = Vec::new();
        prop_assert!(wire::write(&value, &of, &mut bytes).is_some(), "{of}: {value:?} is not written");
        let text = std::str::from_utf8(&bytes).unwrap();
        let json: Value = serde_json::from_str(text).unwrap();
        prop_assert_eq!(of.check(&json, ""), Ok(()), "{}", text);
        let again = wire::read(&json, &of);
        prop_assert!(again.as_ref().is_some_and(|again| same(again, &value)), "{of}: {text} became {again:?}");
        // What somebody writes in another spelling of JSON is written in this one.
        let mut second = Vec::new();
        wire::write(&again.unwrap(), &of, &mut second).unwrap();
        prop_assert_eq!(second, bytes);
    }

    /// JSON of one type, held against another: it is refused with words, or it is a value of that too. Nothing else.
    #[test]
    fn what_is_checked_can_be_read(((of, value), other) in (cases(), types())) {
        let mut bytes = Vec::new();
        wire::write(&value, &of, &mut bytes).unwrap();
        let json: Value = serde_json::from_slice(&bytes).unwrap();
        match other.check(&json, "") {
            Ok(()) => prop_assert!(wire::read(&json, &other).is_some(), "{other}: {json} was checked, and is not read"),
            Err(why) => prop_assert!(why.contains("expected") || why.contains("missing") || why.contains("unknown"), "{why}"),
        }
    }

    /// A value of another type is not written as one of this.
    #[test]
    fn what_has_another_type_is_not_written(((of, value), other) in (cases(), types())) {
        prop_assume!(of != other);
        let mut bytes = Vec::new();
        if wire::write(&value, &other, &mut bytes).is_some() {
            // Both types have it: an empty list, a case that both know.
            let json: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(other.check(&json, ""), Ok(()), "{} is written as {}: {}", of, other, json);
        }
    }
}

/// Bytes are not slow: as many as an answer may have are written and read in a blink.
#[test]
fn many_bytes_are_one_text() {
    let value = Val::List(vec![Val::U8(7); 4 << 20]);
    let mut bytes = Vec::new();
    wire::write(&value, &Type::Bytes, &mut bytes).unwrap();
    assert_eq!(bytes.len(), 2 + (4_usize << 20).div_ceil(3) * 4);
    let json: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(wire::read(&json, &Type::Bytes), Some(value));
}
