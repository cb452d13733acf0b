//! The WIT is the truth: what a capability declares of its functions is what a guest that imports all of them is linked
//! with.

use std::path::Path;

use parole_capabilities::CATALOGUE;
use parole_policy::{Definition, Field, Function, Int, Type, field};
use wasmtime::Engine;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, Type as Wit};

fn is(declared: &Type, wit: &Wit) -> bool {
    match (declared, wit) {
        (Type::Bool, Wit::Bool)
        | (Type::Int(Int::U16), Wit::U16)
        | (Type::Int(Int::U32), Wit::U32)
        | (Type::Int(Int::U64), Wit::U64)
        | (Type::Int(Int::S64), Wit::S64)
        | (Type::Real, Wit::Float64)
        | (Type::Text(_) | Type::Path | Type::Url | Type::Method | Type::Name, Wit::String)
        | (Type::Handle, Wit::Own(_) | Wit::Borrow(_)) => true,
        (Type::Bytes | Type::Contents, Wit::List(list)) => matches!(list.ty(), Wit::U8),
        (Type::List(of), Wit::List(list)) => is(of, &list.ty()),
        (Type::Headers, Wit::List(list)) => {
            is(&Type::record([field("name", Type::TEXT), field("value", Type::TEXT)]), &list.ty())
        }
        (Type::Option(of), Wit::Option(option)) => is(of, &option.ty()),
        (Type::Record(fields), Wit::Record(record)) => {
            are(fields, record.fields().map(|field| (field.name.to_owned(), field.ty)).collect())
        }
        (Type::Enum(words), Wit::Enum(own)) => own.names().eq(words.iter().map(|word| &**word)),
        (Type::Variant(cases), Wit::Variant(variant)) => {
            let own: Vec<_> = variant.cases().map(|case| (case.name.to_owned(), case.ty)).collect();
            own.len() == cases.len()
                && cases.iter().zip(&own).all(|((name, of), (own, ty))| {
                    **name == **own
                        && match (of, ty) {
                            (None, None) => true,
                            (Some(of), Some(ty)) => is(of, ty),
                            _ => false,
                        }
                })
        }
        _ => false,
    }
}

fn are(fields: &[Field], own: Vec<(String, Wit)>) -> bool {
    fields.len() == own.len()
        && fields.iter().zip(&own).all(|(field, (name, ty))| *field.name == **name && is(&field.of, ty))
}

/// What is wrong with the declaration of a function.
fn fault(function: &Function, wit: &ComponentFunc) -> Option<String> {
    if !are(&function.params, wit.params().map(|(name, ty)| (name.to_owned(), ty)).collect()) {
        return Some(format!("{:?} are not its parameters", function.params));
    }
    let results: Vec<Wit> = wit.results().collect();
    let (ok, fails) = match results.as_slice() {
        [Wit::Result(result)] => (result.ok(), true),
        [one] => (Some(one.clone()), false),
        _ => (None, false),
    };
    let same = match (&function.result, &ok) {
        (None, None) => true,
        (Some(of), Some(ty)) => is(of, ty),
        _ => false,
    };
    (!same || fails != function.fails)
        .then(|| format!("{:?}, fails: {} is not its result", function.result, function.fails))
}

#[test]
fn every_declaration_is_that_of_the_wit() {
    let engine = Engine::new(&parole_runtime::engine::config().unwrap()).unwrap();
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/import-everything/guest.wat");
    let component = Component::from_file(&engine, guest).unwrap();
    let ty = component.component_type();
    let mut seen = Vec::new();
    for (name, import) in ty.imports(&engine) {
        let Some((definition, _)) = CATALOGUE.by_import(name) else { continue };
        let ComponentItem::ComponentInstance(instance) = import.ty else { panic!("{name} is no instance") };
        let Definition { functions, .. } = &**definition;
        let mut own = 0;
        for (export, item) in instance.exports(&engine) {
            let ComponentItem::ComponentFunc(wit) = item.ty else { continue };
            let function = functions.iter().find(|function| *function.wit == *export);
            let function = function.unwrap_or_else(|| panic!("{name} does not declare {export}"));
            assert_eq!(fault(function, &wit), None, "{name} {export}");
            own += 1;
        }
        assert_eq!(own, functions.len(), "{name} declares more than it has");
        seen.push(&*definition.name);
    }
    seen.sort_unstable();
    let mut all: Vec<&str> = CATALOGUE.names().collect();
    all.sort_unstable();
    assert_eq!(seen, all, "the guest imports everything");
}

/// The comparison finds what it looks for.
#[test]
fn another_type_is_not_taken_for_the_same() {
    assert!(is(&Type::TEXT, &Wit::String) && !is(&Type::TEXT, &Wit::U64) && !is(&Type::Bool, &Wit::String));
    assert!(!is(&Type::Int(Int::U32), &Wit::U64) && !is(&Type::Bytes, &Wit::String));
}
