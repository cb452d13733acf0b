//! Calls a function of a guest with JSON, and reads what it gave as JSON.
//!
//! `cargo run --release -p parole-runtime --example typed_invocation`

#![expect(clippy::print_stdout, reason = "an example shows something")]

use parole_runtime::{Guest, Level, RunOptions, Runtime, SecurityPolicy};
use serde_json::json;

/// `split: func(of: record { total: u32, by: u32 }) -> tuple<u32, u32>`
const GUEST: &str = r#"(component
    (core module $m
        (memory (export "memory") 1)
        (func (export "split") (param i32 i32) (result i32)
            (i32.store (i32.const 0) (i32.div_u (local.get 0) (local.get 1)))
            (i32.store (i32.const 4) (i32.rem_u (local.get 0) (local.get 1)))
            (i32.const 0)))
    (core instance $i (instantiate $m))
    (type $own (record (field "total" u32) (field "by" u32)))
    (export $sum "sum" (type $own))
    (func $split (param "of" $sum) (result (tuple u32 u32))
        (canon lift (core func $i "split") (memory (core memory $i "memory"))))
    (instance $math (export "sum" (type $sum)) (export "split" (func $split)))
    (export "acme:math/whole@1.0.0" (instance $math)))"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::builder().open()?;
    let guest = Guest::from_bytes("math.wat", GUEST.as_bytes().to_vec())?;
    let split = runtime.blocking().exported(&guest, "acme:math/whole.split")?;
    // What does not fit is said with its place, and nothing is run.
    if let Err(error) = split.call(&json!({ "of": { "total": 7, "by": "two" } })) {
        println!("refused: {error}");
    }
    let options =
        RunOptions { invoke: Some(split.call(&json!({ "of": { "total": 7, "by": 2 } }))?), ..RunOptions::default() };
    let report = runtime.blocking().run(guest, SecurityPolicy::new(Level::Sandbox), options)?;
    println!("7 by 2 is {}", split.result(&report)?.unwrap_or_default());
    Ok(())
}
