//! Which function of a guest is called, with what, and what it gave: in WAVE, the text form of WIT values.

use parole_capabilities::StoreData;
use wasm_wave::lex::{Lexer, Token};
use wasm_wave::untyped::UntypedFuncCall;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Type, Val};

use crate::error::Error;
use crate::report::{NAME_MAX, TEXT_MAX, cut};

/// The longest call that is parsed, in bytes.
pub const INVOKE_MAX: usize = 1 << 20;
/// Values nested deeper than this are refused: the parser and the types recurse.
const DEPTH_MAX: usize = 100;
/// How many exported functions are listed where one is missing.
const KNOWN_MAX: usize = 20;

/// A function to call, found and typed.
pub(crate) struct Target {
    pub index: ComponentExportIndex,
    pub params: Vec<Val>,
    pub results: usize,
}

/// Finds `run`, or what `invoke` names: `name(arguments)`, at the top or in exactly one exported interface; or
/// `acme:crm/api@1.0.0.name(arguments)`, in that one, with or without its version.
pub(crate) fn target(pre: &InstancePre<StoreData>, invoke: Option<&str>) -> Result<Target, Error> {
    let component = pre.component();
    let text = invoke.unwrap_or("run()");
    if text.len() > INVOKE_MAX || nesting(text) > DEPTH_MAX {
        return Err(Error::Usage(format!(
            "the call is longer than {INVOKE_MAX} bytes or nested deeper than {DEPTH_MAX}"
        )));
    }
    let shown = cut(text, NAME_MAX);
    let (interface, own) = qualified(text);
    let call = UntypedFuncCall::parse(own).map_err(|error| {
        let error = cut(error.to_string(), TEXT_MAX);
        Error::Usage(format!("--invoke {shown:?} is not a call such as 'add(1, 2)' or 'greet(\"Ada\")': {error}"))
    })?;
    let name = call.name();
    let Found { index, function, .. } = find(component, interface, name)?;
    let types: Vec<(String, Type)> = function.params().map(|(name, ty)| (name.to_owned(), ty)).collect();
    let signature = || signature(name, &function);
    if invoke.is_none() && !types.is_empty() {
        return Err(Error::Usage(format!("{} takes arguments: give them with --invoke 'run(…)'", signature())));
    }
    let params = call.to_wasm_params::<Val>(types.iter().map(|(_, ty)| ty)).map_err(|error| {
        let error = cut(error.to_string(), TEXT_MAX);
        Error::Usage(format!("--invoke {shown:?} does not fit {}: {error}", signature()))
    })?;
    Ok(Target { index, params, results: function.results().count() })
}

/// The function of that name, as it is called.
pub(crate) fn exported(component: &Component, name: &str) -> Result<Found, Error> {
    let (interface, name) = qualified(name);
    find(component, interface, name)
}

/// An exported function.
pub(crate) struct Found {
    /// The interface in which it stands, if it does in one.
    pub interface: Option<String>,
    pub index: ComponentExportIndex,
    pub function: ComponentFunc,
}

/// The interface that a call names, and the call without it.
pub(crate) fn qualified(text: &str) -> (Option<&str>, &str) {
    let name = text.split('(').next().unwrap_or_default();
    match name.rfind('.') {
        Some(dot) => (Some(text[..dot].trim_start()), &text[dot + 1..]),
        None => (None, text),
    }
}

/// How deep values stand in one another: brackets in a text are text.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for token in Lexer::new(text).flatten() {
        match token {
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => depth += 1,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Finds a function that can be called from outside.
fn find(component: &Component, interface: Option<&str>, name: &str) -> Result<Found, Error> {
    let found = look_up(component, interface, name)?;
    let mut types = found.function.params().map(|(_, ty)| ty).chain(found.function.results());
    let unsupported = types.find_map(|ty| unsupported(&ty, 0));
    drop(types);
    match unsupported {
        Some(unsupported) => {
            let signature = signature(name, &found.function);
            Err(Error::Usage(format!("{signature} cannot be called from outside: it has {unsupported}")))
        }
        None => Ok(found),
    }
}

fn look_up(component: &Component, interface: Option<&str>, name: &str) -> Result<Found, Error> {
    if interface.is_none()
        && let Some((ComponentItem::ComponentFunc(function), index)) = component.get_export(None, name)
    {
        return Ok(Found { interface: None, index, function });
    }
    let engine = component.engine();
    let component_type = component.component_type();
    let is_named = |export: &str| interface.is_none_or(|own| export == own || export.split('@').next() == Some(own));
    let mut found = Vec::new();
    let mut known = Vec::new();
    let mut more = 0usize;
    let mut know = |text: &dyn Fn() -> String| {
        if known.len() < KNOWN_MAX { known.push(text()) } else { more += 1 }
    };
    for (export, item) in component_type.exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(_) => know(&|| cut(export, NAME_MAX)),
            ComponentItem::ComponentInstance(instance) => {
                for (function, item) in instance.exports(engine) {
                    if !matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                        continue;
                    }
                    know(&|| format!("{}.{}", cut(export, NAME_MAX), cut(function, NAME_MAX)));
                    if function == name
                        && is_named(export)
                        && let Some((_, outer)) = component.get_export(None, export)
                        && let Some((ComponentItem::ComponentFunc(function), index)) =
                            component.get_export(Some(&outer), name)
                    {
                        found.push(Found { interface: Some(export.to_owned()), index, function });
                    }
                }
            }
            _ => {}
        }
    }
    let name = cut(interface.map_or(name.to_owned(), |own| format!("{own}.{name}")), NAME_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    match (found.pop(), found.first()) {
        (Some(found), None) => Ok(found),
        (Some(last), Some(first)) => {
            let [first, last] = [first, &last].map(|own| cut(own.interface.as_deref().unwrap_or_default(), NAME_MAX));
            Err(Error::Usage(format!(
                "more than one exported interface has a function `{name}`: write it with its interface, {first} or {last}"
            )))
        }
        (None, _) if known.is_empty() => Err(Error::NotAGuest("it exports no function".into())),
        (None, _) => {
            let known = known.join(", ");
            Err(Error::Usage(format!("the guest exports no function `{name}`; it has: {known}{more}")))
        }
    }
}

fn signature(name: &str, function: &ComponentFunc) -> String {
    let mut short = Short::default();
    short.add("`");
    short.add(&cut(name, NAME_MAX));
    short.add(": func(");
    for (index, (name, ty)) in function.params().enumerate() {
        if short.is_full() {
            break;
        }
        short.add(if index == 0 { "" } else { ", " });
        short.add(&cut(name, NAME_MAX));
        short.add(": ");
        short.add_type(&ty);
    }
    short.add(")");
    if let Some(ty) = function.results().next() {
        short.add(" -> ");
        short.add_type(&ty);
    }
    short.0 = cut(short.0, TEXT_MAX);
    short.0.push('`');
    short.0
}

/// A text that grows until it is as long as a text may be. Types of a few bytes can have names of
/// gigabytes (a tuple of two of the type before, sixty times), so those are never made.
#[derive(Default)]
struct Short(String);

impl Short {
    fn is_full(&self) -> bool {
        self.0.len() > TEXT_MAX
    }

    fn add(&mut self, text: &str) {
        if !self.is_full() {
            self.0.push_str(text);
        }
    }

    fn add_all(&mut self, types: impl Iterator<Item = Option<Type>>) {
        for (index, ty) in types.enumerate() {
            if self.is_full() {
                return;
            }
            self.add(if index == 0 { "<" } else { ", " });
            match ty {
                Some(ty) => self.add_type(&ty),
                None => self.add("_"),
            }
        }
        self.add(">");
    }

    /// Each level adds to the text, so this goes no deeper than the text is long.
    fn add_type(&mut self, ty: &Type) {
        if self.is_full() {
            return;
        }
        self.add(match ty {
            Type::Bool => "bool",
            Type::S8 => "s8",
            Type::U8 => "u8",
            Type::S16 => "s16",
            Type::U16 => "u16",
            Type::S32 => "s32",
            Type::U32 => "u32",
            Type::S64 => "s64",
            Type::U64 => "u64",
            Type::Float32 => "f32",
            Type::Float64 => "f64",
            Type::Char => "char",
            Type::String => "string",
            Type::List(_) => "list",
            Type::Option(_) => "option",
            Type::Result(_) => "result",
            Type::Tuple(_) => "tuple",
            Type::Record(_) => "a record",
            Type::Variant(_) => "a variant",
            Type::Enum(_) => "an enum",
            Type::Flags(_) => "flags",
            _ => "a type that has no text form",
        });
        match ty {
            Type::List(list) => self.add_all([Some(list.ty())].into_iter()),
            Type::Option(option) => self.add_all([Some(option.ty())].into_iter()),
            Type::Result(result) => self.add_all([result.ok(), result.err()].into_iter()),
            Type::Tuple(tuple) => self.add_all(tuple.types().map(Some)),
            _ => {}
        }
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

/// About how many bytes a value takes as text. A value is large by what the guest says, and its text
/// can be several times that: so it is weighed before it is written.
pub(crate) fn weight(value: &Val) -> u64 {
    // Up to six characters for one that is escaped.
    let text = |text: &str| 6 * text.len() as u64 + 2;
    let all = |values: &[Val]| values.iter().fold(2u64, |sum, value| sum.saturating_add(weight(value) + 2));
    match value {
        Val::String(value) => text(value),
        Val::List(values) | Val::Tuple(values) => all(values),
        Val::Record(fields) => {
            fields.iter().fold(2, |sum, (name, value)| sum.saturating_add(text(name) + weight(value)))
        }
        Val::Variant(case, value) => text(case) + value.as_deref().map_or(0, weight),
        Val::Option(value) => 6 + value.as_deref().map_or(0, weight),
        Val::Result(Ok(value) | Err(value)) => 5 + value.as_deref().map_or(0, weight),
        Val::Flags(names) => names.iter().map(|name| text(name)).sum(),
        _ => 24,
    }
}

/// The text form of a value. The library escapes more than it has to: an apostrophe in a string needs none, and a text
/// of another program would be read with one more.
pub(crate) fn wave(value: &Val) -> Result<String, wasmtime::Error> {
    Ok(plain_apostrophes(&value.to_wave()?))
}

fn plain_apostrophes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let (mut inside, mut chars) = (None, text.chars());
    while let Some(c) = chars.next() {
        match (inside, c) {
            (Some(quote), '\\') => {
                let escaped = chars.next();
                if (quote, escaped) != ('"', Some('\'')) {
                    plain.push(c);
                }
                plain.extend(escaped);
                continue;
            }
            (Some(quote), c) if c == quote => inside = None,
            (None, '"' | '\'') => inside = Some(c),
            _ => {}
        }
        plain.push(c);
    }
    plain
}

/// Reads the results of a call: a `result` is unpacked, anything else is a value.
pub(crate) fn given(results: Vec<Val>) -> Result<Given, wasmtime::Error> {
    let Some(value) = results.into_iter().next() else { return Ok(Given::Value(None)) };
    Ok(match value {
        Val::Result(Ok(None)) => Given::Value(None),
        Val::Result(Ok(Some(value))) => Given::Value(Some(wave(&value)?)),
        Val::Result(Err(None)) => Given::Failure("the guest failed without saying why".into()),
        Val::Result(Err(Some(error))) => match *error {
            Val::String(text) => Given::Failure(text),
            error => Given::Failure(wave(&error)?),
        },
        value => Given::Value(Some(wave(&value)?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pre(wat: &str) -> InstancePre<StoreData> {
        let engine = wasmtime::Engine::new(&crate::engine::config().unwrap()).unwrap();
        let component = Component::new(&engine, wat).unwrap();
        wasmtime::component::Linker::new(&engine).instantiate_pre(&component).unwrap()
    }

    fn says(wat: &str, invoke: &str) -> String {
        target(&pre(wat), Some(invoke)).err().unwrap().to_string()
    }

    fn exporting(types: &str, export: &str) -> String {
        format!(
            r#"(component
                {types}
                (core module $m
                    (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                    (func (export "f") (param i32)))
                (core instance $i (instantiate $m))
                {export})"#
        )
    }

    #[test]
    fn apostrophes_are_escaped_where_they_have_to_be() {
        let text = |text: &str| Val::String(text.to_owned());
        for (value, expected) in [
            (text("it's"), r#""it's""#),
            (text(r#"a"b'c\'d"#), r#""a\"b'c\\'d""#),
            (Val::Char('\''), r"'\''"),
            (Val::Char('"'), r#"'\"'"#),
            (Val::List(vec![text("'"), Val::Char('\''), text("\n'")]), r#"["'", '\'', "\n'"]"#),
        ] {
            assert_eq!(wave(&value).unwrap(), expected);
        }
    }

    /// Two versions of one interface, and another one, have a function of the same name.
    #[test]
    fn a_function_is_called_by_its_qualified_name() {
        let lifted = |at: usize| {
            format!(
                r#"(func $f{at} (param "x" u32) (canon lift (core func $i "f"))) (instance $n{at} (export "f" (func $f{at})))"#
            )
        };
        let names = ["acme:a/one@1.0.0", "acme:a/one@2.0.0", "acme:a/two"];
        let exports: String = names
            .iter()
            .zip(0..)
            .map(|(name, at)| format!(r#"{} (export "{name}" (instance $n{at}))"#, lifted(at)))
            .collect();
        let pre = pre(&exporting("", &exports));
        let says = |invoke: &str| {
            target(&pre, Some(invoke)).map(|target| target.params.len()).map_err(|error| error.to_string())
        };
        for call in ["acme:a/one@1.0.0.f(1)", "acme:a/one@2.0.0.f(1)", "acme:a/two.f(1)"] {
            assert_eq!(says(call), Ok(1), "{call}");
        }
        for (call, fault) in [
            (
                "f(1)",
                "more than one exported interface has a function `f`: write it with its interface, acme:a/one@1.0.0 or acme:a/two",
            ),
            ("acme:a/one.f(1)", "more than one exported interface has a function `acme:a/one.f`"),
            ("acme:a/one@3.0.0.f(1)", "exports no function `acme:a/one@3.0.0.f`; it has: acme:a/one@1.0.0.f, "),
            ("acme:a/two.g(1)", "exports no function `acme:a/two.g`"),
            (".f(1)", "exports no function `.f`"),
            ("acme:a/two.(1)", "is not a call such as"),
            ("acme:a/two.f(\"(.\")", "does not fit `f: func(x: u32)`"),
        ] {
            let said = says(call).unwrap_err();
            assert!(said.contains(fault), "{call}: {said}");
        }
    }

    /// In full the name of this type has 3.5 MB.
    #[test]
    fn a_type_that_doubles_has_a_short_name() {
        let mut types = "(type $t0 (tuple u8 u8))".to_owned();
        for level in 1..18 {
            types.push_str(&format!("(type $t{level} (tuple $t{0} $t{0}))", level - 1));
        }
        let lift =
            r#"(canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))"#;
        let text = says(&exporting(&types, &format!(r#"(func (export "f") (param "x" $t17) {lift})"#)), "f(1)");
        assert!(text.contains("`f: func(x: tuple<tuple<tuple<"), "{text}");
        assert!(text.len() < 3 * TEXT_MAX, "{}", text.len());
    }

    #[test]
    fn long_names_and_many_exports_are_cut() {
        let export =
            |name: &str| format!(r#"(func (export "{name}") (param "x" u32) (canon lift (core func $i "f")))"#);
        let long = "a".repeat(50_000);
        let text = says(&exporting("", &export(&long)), "nope()");
        assert!(text.len() < 2 * NAME_MAX, "{}", text.len());
        let text = says(&exporting("", &export(&long)), &format!("{long}()"));
        assert!(text.contains("x: u32") && text.len() < 3 * TEXT_MAX, "{}", text.len());
        let many: String = (0..1_000).map(|index| export(&format!("f{index}"))).collect();
        let text = says(&exporting("", &many), "nope()");
        assert!(text.ends_with(" and 980 more") && text.len() < 2 * TEXT_MAX, "{text}");
        let text = says(&exporting("", &export("f")), &"x".repeat(INVOKE_MAX));
        assert!(text.len() < 2 * TEXT_MAX, "{}", text.len());
    }
}
