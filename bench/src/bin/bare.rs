//! What a program that runs one guest costs at least: engine, artefact, linker, call.
//!
//! `parole-bare compile GUEST ARTEFACT` and `parole-bare run ARTEFACT`.

#![allow(clippy::print_stdout, reason = "it shows what its guest prints")]

use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store, StoreContextMut};

fn main() -> wasmtime::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let engine = Engine::new(&parole_runtime::engine::config()?)?;
    match arguments.as_slice() {
        ["compile", guest, artefact] => {
            std::fs::write(artefact, engine.precompile_component(&std::fs::read(guest)?)?)?;
            Ok(())
        }
        ["run", artefact] => run(&engine, artefact),
        _ => wasmtime::bail!("usage: parole-bare compile GUEST ARTEFACT | run ARTEFACT"),
    }
}

#[expect(unsafe_code, reason = "machine code cannot be checked")]
fn run(engine: &Engine, artefact: &str) -> wasmtime::Result<()> {
    // SAFETY: the benchmark has just made it.
    let component = unsafe { Component::deserialize_file(engine, artefact)? };
    let mut linker = Linker::<()>::new(engine);
    linker.instance("parole:capabilities/print@0.1.0")?.func_wrap(
        "print",
        |_: StoreContextMut<'_, ()>, (text,): (String,)| {
            println!("{text}");
            Ok(())
        },
    )?;
    let mut store = Store::new(engine, ());
    store.set_epoch_deadline(1 << 60);
    let instance = linker.instantiate(&mut store, &component)?;
    let run = instance.get_typed_func::<(), (Result<(), String>,)>(&mut store, "run")?;
    let (result,) = run.call(&mut store, ())?;
    result.map_err(wasmtime::Error::msg)
}
