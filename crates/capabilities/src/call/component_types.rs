//! The types of a component as declarations have them, so that the two can be compared.

use std::sync::Arc;

use parole_policy::{ErrorType, Function, Int, MAX_TYPE_DEPTH, MAX_TYPES, Type, field};
use wasmtime::component::Type as Wit;
use wasmtime::component::types::ComponentFunc;

/// The function of a component, under this name in WIT and that one in the journal.
///
/// # Errors
/// A promise cannot hold one of its types: the reason.
pub fn function(wit: &str, name: &str, own: &ComponentFunc) -> Result<Function, String> {
    if own.async_() {
        return Err("it is an `async func`".to_owned());
    }
    let mut left = MAX_TYPES;
    let params = own.params().map(|(name, ty)| Ok(field(name, of(&ty, 1, &mut left)?)));
    let params = params.collect::<Result<Vec<_>, String>>()?;
    let returned = own.results().next().map(|ty| of(&ty, 1, &mut left)).transpose()?;
    let part = |of: Option<Arc<Type>>| of.map(|of| (*of).clone());
    Ok(match returned {
        Some(Type::Result(ok, error)) => {
            Function { error: ErrorType::Own(part(error)), ..Function::new(wit, name, params, part(ok)) }
        }
        other => Function::infallible(wit, name, params, other),
    })
}

/// A guest chooses its types: they are counted, each as often as it stands there.
fn of(ty: &Wit, depth: usize, left: &mut usize) -> Result<Type, String> {
    if depth > MAX_TYPE_DEPTH {
        return Err(format!("types stand over {MAX_TYPE_DEPTH} deep in one another"));
    }
    *left = left.checked_sub(1).ok_or_else(|| format!("it is made of over {MAX_TYPES} types"))?;
    let mut below = |ty: &Wit| of(ty, depth + 1, left);
    Ok(match ty {
        Wit::Bool => Type::Bool,
        Wit::U8 => Type::Int(Int::U8),
        Wit::U16 => Type::Int(Int::U16),
        Wit::U32 => Type::Int(Int::U32),
        Wit::U64 => Type::Int(Int::U64),
        Wit::S8 => Type::Int(Int::S8),
        Wit::S16 => Type::Int(Int::S16),
        Wit::S32 => Type::Int(Int::S32),
        Wit::S64 => Type::Int(Int::S64),
        Wit::Float32 => Type::Single,
        Wit::Float64 => Type::Real,
        Wit::Char => Type::Char,
        Wit::String => Type::TEXT,
        Wit::List(list) if matches!(list.ty(), Wit::U8) => Type::Bytes,
        Wit::List(list) => Type::list(below(&list.ty())?),
        Wit::Record(record) => {
            let fields = record.fields().map(|own| Ok(field(own.name, below(&own.ty)?)));
            Type::Record(fields.collect::<Result<Vec<_>, String>>()?.into())
        }
        Wit::Tuple(tuple) => {
            Type::Tuple(tuple.types().map(|ty| below(&ty)).collect::<Result<Vec<_>, String>>()?.into())
        }
        Wit::Variant(variant) => {
            let cases =
                variant.cases().map(|case| Ok((Arc::from(case.name), case.ty.map(|ty| below(&ty)).transpose()?)));
            Type::Variant(cases.collect::<Result<Vec<_>, String>>()?.into())
        }
        Wit::Enum(own) => Type::Enum(own.names().map(Arc::from).collect()),
        Wit::Flags(own) => Type::Flags(own.names().map(Arc::from).collect()),
        Wit::Option(option) => Type::option(below(&option.ty())?),
        Wit::Result(result) => {
            let ok = result.ok().map(|ty| below(&ty)).transpose()?;
            Type::Result(ok.map(Arc::new), result.err().map(|ty| below(&ty)).transpose()?.map(Arc::new))
        }
        Wit::Own(_) | Wit::Borrow(_) => Type::Handle,
        Wit::Map(_) => return Err("it has a `map`".to_owned()),
        Wit::Future(_) => return Err("it has a `future`".to_owned()),
        Wit::Stream(_) => return Err("it has a `stream`".to_owned()),
        Wit::ErrorContext => return Err("it has an `error-context`".to_owned()),
        Wit::FixedLengthList(_) => return Err("it has a list of fixed length".to_owned()),
    })
}
