//! The prebuilt guests of guest-examples.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::rust::Toolchain;
use crate::{clang, component, paths};

/// The WIT world that guests in C are written against. Rust guests bring their own.
const WORLD: &str = "guest";

/// Builds every guest and replaces the committed files.
pub(crate) fn rebuild(root: &Path) -> Result<()> {
    let prebuilt = root.join("guest-examples/prebuilt");
    fs::create_dir_all(&prebuilt)?;
    for name in stray(root, &prebuilt)? {
        println!("{name}.wasm: no source any more, deleted");
        fs::remove_file(prebuilt.join(format!("{name}.wasm")))?;
    }
    each(root, |name, bytes| {
        let file = prebuilt.join(format!("{name}.wasm"));
        fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        let wit = component::interface(bytes)?;
        println!("{name}.wasm: {} bytes", bytes.len());
        println!("  imports {}", component::names(&wit, "import").join(", "));
        Ok(())
    })
}

/// Builds every guest and compares it with the committed file.
pub(crate) fn check(root: &Path) -> Result<()> {
    let prebuilt = root.join("guest-examples/prebuilt");
    if let Some(name) = stray(root, &prebuilt)?.first() {
        bail!("{name}.wasm has no source: run `cargo xtask guests`");
    }
    each(root, |name, bytes| {
        let file = prebuilt.join(format!("{name}.wasm"));
        let committed =
            fs::read(&file).with_context(|| format!("{} is missing: run `cargo xtask guests`", file.display()))?;
        paths::refuse(name, &committed, root)?;
        let before = component::interface(&committed)?;
        let after = component::interface(bytes)?;
        if before != after {
            bail!(
                "imports or exports are not those of its source: run `cargo xtask guests`\n\
                 \ncommitted:\n{before}\nbuilt:\n{after}"
            );
        }
        println!("{name}.wasm: imports and exports are the same");
        Ok(())
    })
}

/// Builds every guest and hands over its name and component. One that fails stops no other.
fn each(root: &Path, mut done: impl FnMut(&str, &[u8]) -> Result<()>) -> Result<()> {
    let mut failed = Vec::new();
    let mut finish = |name: &str, module: Result<Vec<u8>>| {
        let result = module.and_then(|module| component::encode(&module)).and_then(|bytes| {
            paths::refuse(name, &bytes, root)?;
            done(name, &bytes)
        });
        if let Err(error) = result {
            println!("{name}.wasm: FAILED: {error:#}");
            failed.push(name.to_owned());
        }
    };

    let rust = Toolchain::find(root)?;
    for name in rust_guests(root)? {
        finish(&name, rust.build(&name));
    }

    let clang = clang::find();
    if let Ok(clang) = &clang {
        println!("C: {clang}");
    }
    for name in c_guests(root)? {
        let module = match &clang {
            Ok(clang) => c_module(root, clang, &name),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        finish(&format!("{name}-c"), module);
    }

    if !failed.is_empty() {
        bail!("{} failed, see above", failed.join(", "));
    }
    Ok(())
}

fn c_module(root: &Path, clang: &str, name: &str) -> Result<Vec<u8>> {
    let source = root.join("guest-examples/c").join(format!("{name}.c"));
    let directory = root.join("target/guests");
    fs::create_dir_all(&directory)?;
    let mut module = clang::compile(clang, &source, &directory.join(format!("{name}-c.wasm")))?;
    component::embed(&mut module, &root.join("wit"), WORLD)?;
    Ok(module)
}

/// Prebuilt files that no source stands for.
fn stray(root: &Path, prebuilt: &Path) -> Result<Vec<String>> {
    let mut sources = rust_guests(root)?;
    sources.extend(c_guests(root)?.iter().map(|name| format!("{name}-c")));
    let files = files_with(prebuilt, "wasm")?;
    Ok(files.difference(&sources).cloned().collect())
}

fn rust_guests(root: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let directory = root.join("guest-examples/rust");
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").exists() {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn c_guests(root: &Path) -> Result<BTreeSet<String>> {
    files_with(&root.join("guest-examples/c"), "c")
}

/// The names, without the extension, of the files in a directory that have it.
fn files_with(directory: &Path, extension: &str) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension)
            && let Some(name) = path.file_stem()
        {
            names.insert(name.to_string_lossy().into_owned());
        }
    }
    Ok(names)
}
