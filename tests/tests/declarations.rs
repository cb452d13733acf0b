//! The WIT is the truth: what a capability declares of its functions is what a guest that imports all of them is linked
//! with.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use parole_capabilities::CATALOGUE;
use parole_policy::{Function, Int, Level, SecurityPolicy, Type, field};
use parole_runtime::{Guest, Runtime};

/// The functions of a guest by import, as WIT has them. What a type stands for beside that, such as a path, is not in the
/// text.
fn functions(guest: Guest) -> Vec<(String, Vec<String>)> {
    let runtime = Runtime::builder().open().unwrap();
    let policy = SecurityPolicy::new(Level::Unrestricted);
    let found = runtime.blocking().inspect(guest, policy).unwrap();
    found.imports.into_iter().map(|import| (import.name, import.functions)).collect()
}

#[test]
fn every_declaration_is_that_of_the_wit() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/import-everything/guest.wat");
    let mut seen = Vec::new();
    for (import, own) in functions(Guest::from_file(&path).unwrap()) {
        let Some((definition, _)) = CATALOGUE.by_import(&import) else { continue };
        let mut declared: Vec<String> = definition.functions.iter().map(ToString::to_string).collect();
        let mut own: Vec<String> = own.into_iter().filter(|text| !text.ends_with(": a resource")).collect();
        declared.sort();
        own.sort();
        assert_eq!(declared, own, "{import}");
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
    let text =
        r#"(component (import "a:b/c" (instance (export "f" (func (param "path" string) (result (list u8)))))))"#;
    let own = functions(Guest::from_bytes("guest", text.as_bytes().to_vec()).unwrap()).remove(0).1.remove(0);
    let declared =
        |param: Type, result| Function::infallible("f", "f", [field("path", param)], Some(result)).to_string();
    assert_eq!(declared(Type::Path, Type::Contents), own);
    assert_ne!(declared(Type::Int(Int::U64), Type::Contents), own);
    assert_ne!(declared(Type::Path, Type::TEXT), own);
    assert_ne!(Function::new("f", "f", [field("path", Type::Path)], Some(Type::Bytes)).to_string(), own);
}
