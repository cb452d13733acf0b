//! Which function of a guest is called, with what, and what it gave: in WAVE, the text form of WIT values.

use parole_capabilities::Execution;
use wasm_wave::untyped::UntypedFuncCall;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Type, Val};

use crate::error::Error;

/// The longest call that is parsed, in bytes.
pub const INVOKE_MAX: usize = 1 << 20;
/// Values nested deeper than this are refused: the parser and the types recurse.
const DEPTH_MAX: usize = 100;

/// A function to call, found and typed.
pub(crate) struct Target {
    pub index: ComponentExportIndex,
    pub params: Vec<Val>,
    pub results: usize,
}

/// Finds `run`, or what `invoke` names: `name(arguments)`, at the top or in exactly one exported interface.
pub(crate) fn target(pre: &InstancePre<Execution>, invoke: Option<&str>) -> Result<Target, Error> {
    let component = pre.component();
    let text = invoke.unwrap_or("run()");
    if text.len() > INVOKE_MAX || nesting(text) > DEPTH_MAX {
        return Err(Error::Usage(format!(
            "the call is longer than {INVOKE_MAX} bytes or nested deeper than {DEPTH_MAX}"
        )));
    }
    let call = UntypedFuncCall::parse(text).map_err(|error| {
        Error::Usage(format!("--invoke {text:?} is not a call such as 'add(1, 2)' or 'greet(\"Ada\")': {error}"))
    })?;
    let name = call.name();
    let (index, function) = find(component, name)?;
    let types: Vec<(String, Type)> = function.params().map(|(name, ty)| (name.to_owned(), ty)).collect();
    let signature = || signature(name, &function);
    if let Some(unsupported) =
        types.iter().map(|(_, ty)| ty.clone()).chain(function.results()).find_map(|ty| unsupported(&ty, 0))
    {
        return Err(Error::Usage(format!("{} cannot be called from outside: it has {unsupported}", signature())));
    }
    if invoke.is_none() && !types.is_empty() {
        return Err(Error::Usage(format!("{} takes arguments: give them with --invoke 'run(…)'", signature())));
    }
    let params = call
        .to_wasm_params::<Val>(types.iter().map(|(_, ty)| ty))
        .map_err(|error| Error::Usage(format!("--invoke {text:?} does not fit {}: {error}", signature())))?;
    Ok(Target { index, params, results: function.results().count() })
}

fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn find(component: &Component, name: &str) -> Result<(ComponentExportIndex, ComponentFunc), Error> {
    if let Some((ComponentItem::ComponentFunc(function), index)) = component.get_export(None, name) {
        return Ok((index, function));
    }
    let engine = component.engine();
    let component_type = component.component_type();
    let mut found = Vec::new();
    let mut known = Vec::new();
    for (export, item) in component_type.exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(_) => known.push(export.to_owned()),
            ComponentItem::ComponentInstance(instance) => {
                for (function, item) in instance.exports(engine) {
                    if !matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                        continue;
                    }
                    known.push(format!("{function} (of {export})"));
                    if function == name
                        && let Some((_, outer)) = component.get_export(None, export)
                        && let Some((ComponentItem::ComponentFunc(typed), index)) =
                            component.get_export(Some(&outer), name)
                    {
                        found.push((index, typed));
                    }
                }
            }
            _ => {}
        }
    }
    known.truncate(20);
    match (found.pop(), found.is_empty()) {
        (Some(found), true) => Ok(found),
        (Some(_), false) => Err(Error::Usage(format!("more than one exported interface has a function `{name}`"))),
        (None, _) if known.is_empty() => Err(Error::NotAGuest("it exports no function".into())),
        (None, _) => Err(Error::Usage(format!("the guest exports no function `{name}`; it has: {}", known.join(", ")))),
    }
}

fn signature(name: &str, function: &ComponentFunc) -> String {
    let params: Vec<String> = function.params().map(|(name, ty)| format!("{name}: {}", type_name(&ty))).collect();
    let result = function.results().next().map_or(String::new(), |ty| format!(" -> {}", type_name(&ty)));
    format!("`{name}: func({}){result}`", params.join(", "))
}

fn type_name(ty: &Type) -> String {
    let of = |ty: Option<Type>| ty.map_or("_".into(), |ty| type_name(&ty));
    match ty {
        Type::Bool => "bool".into(),
        Type::S8 => "s8".into(),
        Type::U8 => "u8".into(),
        Type::S16 => "s16".into(),
        Type::U16 => "u16".into(),
        Type::S32 => "s32".into(),
        Type::U32 => "u32".into(),
        Type::S64 => "s64".into(),
        Type::U64 => "u64".into(),
        Type::Float32 => "f32".into(),
        Type::Float64 => "f64".into(),
        Type::Char => "char".into(),
        Type::String => "string".into(),
        Type::List(list) => format!("list<{}>", type_name(&list.ty())),
        Type::Option(option) => format!("option<{}>", type_name(&option.ty())),
        Type::Result(result) => format!("result<{}, {}>", of(result.ok()), of(result.err())),
        Type::Tuple(tuple) => {
            format!("tuple<{}>", tuple.types().map(|ty| type_name(&ty)).collect::<Vec<_>>().join(", "))
        }
        Type::Record(_) => "a record".into(),
        Type::Variant(_) => "a variant".into(),
        Type::Enum(_) => "an enum".into(),
        Type::Flags(_) => "flags".into(),
        _ => "a type that has no text form".into(),
    }
}

/// What of a type has no text form. `Val::to_wave` panics on such values, so they are refused by type.
fn unsupported(ty: &Type, depth: usize) -> Option<&'static str> {
    if depth > DEPTH_MAX {
        return Some("types that are nested too deep");
    }
    let deeper = |ty: &Type| unsupported(ty, depth + 1);
    match ty {
        Type::List(list) => deeper(&list.ty()),
        Type::Option(option) => deeper(&option.ty()),
        Type::Result(result) => result.ok().into_iter().chain(result.err()).find_map(|ty| deeper(&ty)),
        Type::Tuple(tuple) => tuple.types().find_map(|ty| deeper(&ty)),
        Type::Record(record) => record.fields().find_map(|field| deeper(&field.ty)),
        Type::Variant(variant) => variant.cases().filter_map(|case| case.ty).find_map(|ty| deeper(&ty)),
        Type::Bool | Type::S8 | Type::U8 | Type::S16 | Type::U16 | Type::S32 | Type::U32 | Type::S64 | Type::U64 => {
            None
        }
        Type::Float32 | Type::Float64 | Type::Char | Type::String | Type::Enum(_) | Type::Flags(_) => None,
        Type::Own(_) | Type::Borrow(_) => Some("a resource"),
        _ => Some("a type without a text form"),
    }
}

/// What a call gave.
pub(crate) enum Given {
    /// It returned, perhaps with a value.
    Value(Option<String>),
    /// It returned the error case of its result.
    Failure(String),
}

/// Reads the results of a call: a `result` is unpacked, anything else is a value.
pub(crate) fn given(results: Vec<Val>) -> Result<Given, wasmtime::Error> {
    let Some(value) = results.into_iter().next() else { return Ok(Given::Value(None)) };
    Ok(match value {
        Val::Result(Ok(None)) => Given::Value(None),
        Val::Result(Ok(Some(value))) => Given::Value(Some(value.to_wave()?)),
        Val::Result(Err(None)) => Given::Failure("the guest failed without saying why".into()),
        Val::Result(Err(Some(error))) => match *error {
            Val::String(text) => Given::Failure(text),
            error => Given::Failure(error.to_wave()?),
        },
        value => Given::Value(Some(value.to_wave()?)),
    })
}
