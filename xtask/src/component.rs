//! Core modules to components, and what a component imports and exports.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use wit_component::{ComponentEncoder, DecodedWasm, StringEncoding, WitPrinter};
use wit_parser::Resolve;

/// Adds the WIT that a core module was written against, as wit-bindgen does for Rust.
pub(crate) fn embed(module: &mut Vec<u8>, wit: &Path, world: &str) -> Result<()> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit)?;
    let world = resolve.select_world(&[package], Some(world))?;
    wit_component::embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)
}

/// Makes a component. Imports that the module does not use are left out.
pub(crate) fn encode(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default().module(module).context("not a module with WIT in it")?.validate(true).encode()
}

/// The WIT of a component, in an order that does not depend on the compiler.
pub(crate) fn interface(component: &[u8]) -> Result<String> {
    let DecodedWasm::Component(mut resolve, world) = wit_component::decode(component)? else {
        bail!("a WIT package, not a component");
    };

    let mut items = std::mem::take(&mut resolve.worlds[world].imports);
    items.sort_by_cached_key(|key, _| resolve.name_world_key(key));
    resolve.worlds[world].imports = items;
    for (_, package) in &mut resolve.packages {
        package.interfaces.sort_keys();
    }

    let main = resolve.worlds[world].package.context("its world is in no package")?;
    let others: Vec<_> = resolve.packages.iter().map(|(id, _)| id).filter(|id| *id != main).collect();
    let mut printer = WitPrinter::default();
    printer.print(&resolve, main, &others)?;
    Ok(printer.output.to_string())
}

/// The names in a WIT that [`interface`] gave: its `import` or its `export` lines.
pub(crate) fn names<'wit>(wit: &'wit str, keyword: &str) -> Vec<&'wit str> {
    wit.lines()
        .filter_map(|line| line.trim().strip_prefix(keyword)?.strip_prefix(' '))
        .map(|name| name.trim_end_matches(';'))
        .collect()
}
