//! Functions of guests, called with values.

use parole_runtime::{Exported, Guest, Level, Outcome, Report, RunOptions, Runtime};
use serde_json::{Value, json};
use wasmtime::component::Val;

use super::at;

/// In two interfaces `swap`, which takes a record apart; `fail` gives the error case, `nothing` gives nothing.
const PAIRS: &str = r#"(component
    (core module $m
        (memory (export "memory") 1)
        (func (export "swap") (param i32 i64) (result i32)
            (i64.store (i32.const 0) (local.get 1))
            (i32.store (i32.const 8) (local.get 0))
            (i32.const 0))
        (func (export "fail") (param i32) (result i32) (i32.store8 (i32.const 0) (i32.const 1))
            (i32.store (i32.const 4) (local.get 0)) (i32.const 0))
        (func (export "nothing") (param i32 i32)))
    (core instance $i (instantiate $m))
    (alias core export $i "memory" (core memory $memory))
    (type $own (record (field "few" u32) (field "many" u64)))
    (export $pair "pair" (type $own))
    (func $swap (param "of" $pair) (result (tuple u64 u32))
        (canon lift (core func $i "swap") (memory $memory)))
    (instance $one (export "pair" (type $pair)) (export "swap" (func $swap)))
    (export "acme:pairs/one@1.0.0" (instance $one))
    (export "acme:pairs/two@1.0.0" (instance $one))
    (func (export "fail") (param "why" u32) (result (result u8 (error u32)))
        (canon lift (core func $i "fail") (memory $memory)))
    (func (export "nothing") (param "of" (option u8)) (canon lift (core func $i "nothing"))))"#;

fn guest() -> Guest {
    Guest::from_bytes("pairs.wat", PAIRS.as_bytes().to_vec()).unwrap()
}

fn exported(runtime: &Runtime, name: &str) -> Exported {
    runtime.blocking().exported(&guest(), name).unwrap()
}

fn run(runtime: &Runtime, call: String) -> Report {
    let options = RunOptions { invoke: Some(call), ..RunOptions::default() };
    runtime.blocking().run(guest(), at(Level::Sandbox), options).unwrap()
}

#[test]
fn a_function_takes_and_gives_json_or_values() {
    let runtime = Runtime::builder().open().unwrap();
    let swap = exported(&runtime, "acme:pairs/two.swap");
    let call = swap.call(&json!({ "of": { "few": 7, "many": "18446744073709551615" } })).unwrap();
    assert_eq!(call, "acme:pairs/two@1.0.0.swap({few: 7, many: 18446744073709551615})");
    let report = run(&runtime, call);
    assert_eq!(swap.result(&report).unwrap(), Some(json!(["18446744073709551615", 7])));
    let of = Val::Record(vec![("few".into(), Val::U32(1)), ("many".into(), Val::U64(2))]);
    let report = run(&runtime, swap.call_of(&[of]).unwrap());
    assert_eq!(swap.result_of(&report).unwrap(), Some(Val::Tuple(vec![Val::U64(2), Val::U32(1)])));
    let nothing = exported(&runtime, "nothing");
    let report = run(&runtime, nothing.call(&json!({})).unwrap());
    assert_eq!((report.outcome, nothing.result(&report).unwrap()), (Outcome::Completed, None));
    let fail = exported(&runtime, "fail");
    let report = run(&runtime, fail.call(&json!({ "why": 5 })).unwrap());
    assert_eq!((report.outcome, report.error.as_deref()), (Outcome::Failed, Some("5")));
    assert_eq!(fail.result(&report).unwrap(), None);
}

/// Columns: what is given, what is said of it.
#[test]
fn what_does_not_fit_is_said_with_its_place() {
    let runtime = Runtime::builder().open().unwrap();
    let swap = exported(&runtime, "acme:pairs/one@1.0.0.swap");
    let rows: [(Value, &str); 5] = [
        (json!({ "of": { "few": -1, "many": "1" } }), "`of.few`: expected a whole number from 0 to 4294967295"),
        (json!({ "of": { "few": 1 } }), "`of.many`: missing"),
        (json!({ "of": { "few": 1, "many": "1" }, "to": 1 }), "to"),
        (json!([1]), "expected"),
        (json!(null), "expected"),
    ];
    for (given, said) in rows {
        let error = swap.call(&given).unwrap_err().to_string();
        assert!(error.contains("swap: func(") && error.contains(said), "{given}: {error}");
    }
    for values in [vec![], vec![Val::U32(1)], vec![Val::U32(1), Val::U32(1)]] {
        assert!(swap.call_of(&values).unwrap_err().to_string().contains("of other types"));
    }
    let other = run(&runtime, "fail(5)".into());
    assert_eq!(swap.result(&other).unwrap(), None);
    let foreign = Report { result: Some("\"text\"".into()), ..other };
    assert!(swap.result(&foreign).unwrap_err().to_string().contains("has called another function"));
}

#[test]
fn what_is_not_there_is_said() {
    let runtime = Runtime::builder().open().unwrap();
    let says = |name: &str| runtime.blocking().exported(&guest(), name).unwrap_err().to_string();
    assert!(says("swap").contains("more than one exported interface has a function `swap`"));
    assert!(says("acme:pairs/three.swap").contains("exports no function `acme:pairs/three.swap`"));
    let broken = Guest::from_bytes("broken.wasm", b"\0asm".to_vec()).unwrap();
    assert!(runtime.blocking().exported(&broken, "f").is_err());
}
