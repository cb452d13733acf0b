//! The WIT is the truth: what a capability declares of its functions is what a guest that imports all of them is linked
//! with.

use std::path::Path;

use parole_capabilities::CATALOGUE;
use parole_capabilities::call::component_types;
use parole_policy::{Definition, Function, Int, Type, field};
use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::{ComponentFunc, ComponentItem};

/// What is wrong with the declaration of a function: its types are not those of the component. What a type stands for
/// beside that, such as a path, is not in the text.
fn fault(declared: &Function, wit: &ComponentFunc) -> Option<String> {
    let own = component_types::function(&declared.wit, &declared.name, wit).unwrap().to_string();
    (own != declared.to_string()).then(|| format!("it is declared as {declared}, and is {own}"))
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
    let engine = Engine::new(&parole_runtime::engine::config().unwrap()).unwrap();
    let text = r#"(component (import "f" (func (param "path" string) (result (list u8)))))"#;
    let component = Component::new(&engine, text).unwrap();
    let ty = component.component_type();
    let Some((_, import)) = ty.imports(&engine).next() else { panic!() };
    let ComponentItem::ComponentFunc(wit) = import.ty else { panic!() };
    let declared = |param: Type, result| Function::infallible("f", "f", [field("path", param)], Some(result));
    assert_eq!(fault(&declared(Type::Path, Type::Contents), &wit), None);
    assert!(fault(&declared(Type::Int(Int::U64), Type::Contents), &wit).is_some());
    assert!(fault(&declared(Type::Path, Type::TEXT), &wit).is_some());
    assert!(fault(&Function::new("f", "f", [field("path", Type::Path)], Some(Type::Bytes)), &wit).is_some());
}
