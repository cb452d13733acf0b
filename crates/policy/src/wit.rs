//! From WIT text to the functions of an interface, and back to text for messages.

use std::fmt;
use std::sync::Arc;

use wit_parser::{FunctionKind, InterfaceId, Resolve, Type as WitType, TypeDefKind, TypeId};

use crate::nearest::{help, quoted};
use crate::{ErrorType, Field, Function, Int, TYPES_INTERFACE, Type, field};

/// The longest WIT text of a capability, in bytes.
pub const MAX_WIT: usize = 256 << 10;
/// The most functions of an interface that users define.
pub const MAX_FUNCTIONS: usize = 128;
/// How deep types may stand in one another.
pub const MAX_TYPE_DEPTH: usize = 32;
/// The most types that a function may be made of, each counted as often as it stands there.
pub const MAX_TYPES: usize = 4_096;

/// The package that user-defined interfaces may `use`.
const SHARED: &str = include_str!("../../../wit/types.wit");

/// The functions of an interface, with its own names in front: `acme:crm/customers@1.0.0.lookup`.
///
/// # Errors
/// The text is no WIT, has no such interface, or one that cannot be answered from outside: the reason, with its place.
pub(crate) fn functions(interface: &str, text: &str) -> Result<Vec<Function>, String> {
    if text.len() > MAX_WIT {
        return Err(format!("its WIT is over {MAX_WIT} bytes"));
    }
    let resolve = read(text)?;
    let all = resolve.interfaces.iter().filter_map(|(id, _)| Some((id, resolve.id_of(id)?)));
    let all: Vec<(InterfaceId, String)> = all.filter(|(_, name)| name != TYPES_INTERFACE).collect();
    let Some((id, _)) = all.iter().find(|(_, name)| name == interface) else {
        let names: Vec<&str> = all.iter().map(|(_, name)| name.as_str()).collect();
        let has = if names.is_empty() { "it has none".to_owned() } else { help(interface, &names) };
        return Err(format!("its WIT has no interface {}; {has}", quoted(interface)));
    };
    let own = &resolve.interfaces[*id];
    let resource = own.types.values().find(|id| matches!(resolve.types[**id].kind, TypeDefKind::Resource));
    if let Some(resource) = resource {
        let name = resolve.types[*resource].name.as_deref().unwrap_or_default();
        return Err(format!("it has the resource {}: a promise cannot hold one", quoted(name)));
    }
    if own.functions.is_empty() {
        return Err("it has no functions; an interface of types only is linked without being defined".to_owned());
    }
    if own.functions.len() > MAX_FUNCTIONS {
        return Err(format!("it has over {MAX_FUNCTIONS} functions"));
    }
    own.functions.values().map(|function| one(&resolve, interface, function)).collect()
}

fn read(text: &str) -> Result<Resolve, String> {
    let mut resolve = Resolve::default();
    let shared = resolve.push_source("types.wit", SHARED);
    shared.map_err(|error| format!("the shared types cannot be read: {error:#}"))?;
    match resolve.push_source("wit", text) {
        Ok(_) => Ok(resolve),
        Err(error) => Err(placed(&resolve.render_error(&error))),
    }
}

/// An error of the parser in one line: what is wrong, and its line and column.
fn placed(error: &str) -> String {
    let what = error.lines().next().unwrap_or_default().trim_end_matches(':');
    let place = error.lines().find_map(|line| line.trim_start().strip_prefix("--> wit:"));
    match place {
        Some(place) => {
            let (line, column) = place.split_once(':').unwrap_or((place, "1"));
            format!("its WIT, line {line}, column {column}: {what}")
        }
        None => format!("its WIT: {what}"),
    }
}

fn one(resolve: &Resolve, interface: &str, function: &wit_parser::Function) -> Result<Function, String> {
    let here = |fault: String| format!("{}: {fault}", quoted(&function.name));
    match function.kind {
        FunctionKind::Freestanding => {}
        FunctionKind::AsyncFreestanding => {
            return Err(here("an `async func` is not known to this version of Parole yet: write `func`".to_owned()));
        }
        _ => return Err(here("it belongs to a resource: a promise cannot hold one".to_owned())),
    }
    let mut reader = Reader { resolve, left: MAX_TYPES };
    let mut params = Vec::new();
    for param in &function.params {
        let of = reader.of(&param.ty, 1).map_err(|fault| here(format!("{}: {fault}", quoted(&param.name))))?;
        params.push(field(&param.name, of));
    }
    let returned = function.result.as_ref().map(|ty| reader.of(ty, 1)).transpose();
    let returned = returned.map_err(|fault| here(format!("its result: {fault}")))?;
    let name = format!("{interface}.{}", function.name);
    let part = |of: Option<Arc<Type>>| of.map(|of| (*of).clone());
    Ok(match returned {
        Some(Type::Result(ok, error)) => {
            Function { error: ErrorType::Own(part(error)), ..Function::new(&function.name, &name, params, part(ok)) }
        }
        other => Function::infallible(&function.name, &name, params, other),
    })
}

/// Reads types, each of which may stand in many places.
struct Reader<'r> {
    resolve: &'r Resolve,
    left: usize,
}

impl Reader<'_> {
    fn of(&mut self, ty: &WitType, depth: usize) -> Result<Type, String> {
        if depth > MAX_TYPE_DEPTH {
            return Err(format!("types stand over {MAX_TYPE_DEPTH} deep in one another"));
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| format!("it is made of over {MAX_TYPES} types"))?;
        Ok(match ty {
            WitType::Bool => Type::Bool,
            WitType::U8 => Type::Int(Int::U8),
            WitType::U16 => Type::Int(Int::U16),
            WitType::U32 => Type::Int(Int::U32),
            WitType::U64 => Type::Int(Int::U64),
            WitType::S8 => Type::Int(Int::S8),
            WitType::S16 => Type::Int(Int::S16),
            WitType::S32 => Type::Int(Int::S32),
            WitType::S64 => Type::Int(Int::S64),
            WitType::F32 => Type::Single,
            WitType::F64 => Type::Real,
            WitType::Char => Type::Char,
            WitType::String => Type::TEXT,
            WitType::ErrorContext => return Err("an `error-context` cannot be written as JSON".to_owned()),
            WitType::Id(id) => return self.named(*id, depth),
        })
    }

    fn named(&mut self, id: TypeId, depth: usize) -> Result<Type, String> {
        let resolve = self.resolve;
        let words = |names: Vec<&str>| names.into_iter().map(Arc::from).collect::<Arc<[Arc<str>]>>();
        Ok(match &resolve.types[id].kind {
            TypeDefKind::Type(ty) => self.of(ty, depth + 1)?,
            TypeDefKind::Record(record) => {
                let fields = record.fields.iter().map(|own| Ok(field(&own.name, self.of(&own.ty, depth + 1)?)));
                Type::Record(fields.collect::<Result<Vec<Field>, String>>()?.into())
            }
            TypeDefKind::Tuple(tuple) => {
                let types: Result<Vec<Type>, String> = tuple.types.iter().map(|ty| self.of(ty, depth + 1)).collect();
                Type::Tuple(types?.into())
            }
            TypeDefKind::Variant(variant) => {
                let mut cases = Vec::new();
                for case in &variant.cases {
                    let of = case.ty.as_ref().map(|ty| self.of(ty, depth + 1)).transpose()?;
                    cases.push((Arc::from(case.name.as_str()), of));
                }
                Type::Variant(cases.into())
            }
            TypeDefKind::Enum(own) => Type::Enum(words(own.cases.iter().map(|case| &*case.name).collect())),
            TypeDefKind::Flags(own) => Type::Flags(words(own.flags.iter().map(|flag| &*flag.name).collect())),
            TypeDefKind::Option(ty) => Type::option(self.of(ty, depth + 1)?),
            TypeDefKind::Result(result) => {
                let ok = result.ok.as_ref().map(|ty| self.of(ty, depth + 1)).transpose()?;
                let error = result.err.as_ref().map(|ty| self.of(ty, depth + 1)).transpose()?;
                Type::Result(ok.map(Arc::new), error.map(Arc::new))
            }
            TypeDefKind::List(WitType::U8) => Type::Bytes,
            TypeDefKind::List(ty) => Type::list(self.of(ty, depth + 1)?),
            TypeDefKind::Resource | TypeDefKind::Handle(_) => {
                return Err("a resource lives in one process, and a promise does not".to_owned());
            }
            TypeDefKind::Future(_) => return Err("a `future` lives in one process, and a promise does not".to_owned()),
            TypeDefKind::Stream(_) => return Err("a `stream` lives in one process, and a promise does not".to_owned()),
            TypeDefKind::Map(..) => return Err("a `map` is not known to this version of Parole".to_owned()),
            TypeDefKind::FixedLengthList(..) => {
                return Err("a list of fixed length is not known to this version of Parole".to_owned());
            }
            TypeDefKind::Unknown => return Err("its type is not in this text".to_owned()),
        })
    }
}

/// The type as WIT has it, names of types written out.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words =
            |f: &mut fmt::Formatter<'_>, kind: &str, words: &[Arc<str>]| write!(f, "{kind} {{ {} }}", words.join(", "));
        match self {
            Type::Bool => f.write_str("bool"),
            Type::Int(int) => f.write_str(int.as_str()),
            Type::Single => f.write_str("f32"),
            Type::Real => f.write_str("f64"),
            Type::Char => f.write_str("char"),
            Type::Text(_) | Type::Path | Type::Url | Type::Method | Type::Name => f.write_str("string"),
            Type::Bytes | Type::Contents => f.write_str("list<u8>"),
            Type::Headers => f.write_str("list<record { name: string, value: string }>"),
            Type::SqlValue => Type::sql_value().fmt(f),
            Type::Enum(own) => words(f, "enum", own),
            Type::Flags(own) => words(f, "flags", own),
            Type::Variant(cases) => {
                let case = |(name, of): &(Arc<str>, Option<Type>)| match of {
                    Some(of) => format!("{name}({of})"),
                    None => name.to_string(),
                };
                write!(f, "variant {{ {} }}", cases.iter().map(case).collect::<Vec<_>>().join(", "))
            }
            Type::List(of) => write!(f, "list<{of}>"),
            Type::Record(fields) => {
                let fields: Vec<String> = fields.iter().map(|field| format!("{}: {}", field.name, field.of)).collect();
                write!(f, "record {{ {} }}", fields.join(", "))
            }
            Type::Tuple(types) => {
                write!(f, "tuple<{}>", types.iter().map(Type::to_string).collect::<Vec<_>>().join(", "))
            }
            Type::Option(of) => write!(f, "option<{of}>"),
            Type::Result(None, None) => f.write_str("result"),
            Type::Result(Some(ok), None) => write!(f, "result<{ok}>"),
            Type::Result(None, Some(error)) => write!(f, "result<_, {error}>"),
            Type::Result(Some(ok), Some(error)) => write!(f, "result<{ok}, {error}>"),
            Type::Handle => f.write_str("resource"),
        }
    }
}

/// The function as WIT has it.
impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params: Vec<String> = self.params.iter().map(|param| format!("{}: {}", param.name, param.of)).collect();
        write!(f, "{}: func({})", self.wit, params.join(", "))?;
        self.returns().map_or(Ok(()), |of| write!(f, " -> {of}"))
    }
}
