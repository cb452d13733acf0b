//! A capability that this program answers: an interface from WIT, and a closure for each function.
//!
//! `cargo run --release -p parole-runtime --example capability_in_rust`

#![expect(clippy::print_stdout, reason = "an example shows something")]

use std::sync::{Arc, Mutex};

use parole_policy::WorkEffect;
use parole_runtime::{CallError, Capability, Event, Guest, Level, Reply, RunOptions, Runtime, SecurityPolicy};
use serde_json::json;

const WIT: &str = include_str!("../../../examples/crm/crm.wit");
const GUEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-examples/prebuilt/crm.wasm");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let customers = Arc::new(Mutex::new(vec![
        json!({ "id": "1001", "name": "Ada", "email": null, "orders": 3 }),
        json!({ "id": "1002", "name": "Bob", "email": "bob@example.com", "orders": 0 }),
    ]));
    let (looked, updated, deleted) = (Arc::clone(&customers), Arc::clone(&customers), customers);
    let crm = Capability::from_wit("acme:crm/customers@1.0.0", WIT)
        .level(Level::Standard)
        // The guest gets `unknown` of its own error type where there is no such customer.
        .func("lookup", WorkEffect::Read, move |call| {
            let all = Arc::clone(&looked);
            async move {
                let id = &call.arguments["id"];
                let all = all.lock().map_err(|_| CallError::Failed("broken".into()))?;
                let found = all.iter().find(|customer| customer["id"] == *id).cloned();
                found.map(Reply::from).ok_or_else(|| CallError::Own(json!({ "unknown": id })))
            }
        })
        // A plain function may block: it has a thread of its own meanwhile.
        .func_blocking("update", WorkEffect::Idempotent, move |call| {
            let customer = &call.arguments["customer"];
            let mut all = updated.lock().map_err(|_| CallError::Failed("broken".into()))?;
            all.iter_mut().filter(|own| own["id"] == customer["id"]).for_each(|own| *own = customer.clone());
            Ok(().into())
        })
        // After a crash this one is not done again: a person says what came of it.
        .func_blocking("delete", WorkEffect::Once, move |call| {
            let mut all = deleted.lock().map_err(|_| CallError::Failed("broken".into()))?;
            all.retain(|own| own["id"] != call.arguments["id"]);
            Ok(().into())
        });
    let runtime = Runtime::builder()
        .capability(crm)
        .sink(|_, event: Event<'_>| {
            if let Event::Print(text) = event {
                println!("guest: {text}");
            }
        })
        .open()?;
    let guest = Guest::from_file(GUEST.as_ref())?;
    let report = runtime.blocking().run(guest, SecurityPolicy::new(Level::Standard), RunOptions::default())?;
    println!("host: it has {}", report.outcome.as_str());
    Ok(())
}
