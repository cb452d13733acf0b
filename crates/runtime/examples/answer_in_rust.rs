//! Runs a guest that asks for a name, answers it from Rust, and lets it go on.
//!
//! `cargo run --release -p parole-runtime --example answer_in_rust`

#![expect(clippy::print_stdout, reason = "an example shows something")]

use parole_runtime::{Event, Guest, Level, Outcome, ResumeOptions, RunOptions, Runtime, SecurityPolicy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Without a state directory everything is in memory and gone with the runtime.
    let runtime = Runtime::builder()
        .sink(|_, event: Event<'_>| {
            if let Event::Print(text) = event {
                println!("guest: {text}");
            }
        })
        .open()?;
    let guest =
        Guest::from_file(concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-examples/prebuilt/greet.wasm").as_ref())?;
    let policy = SecurityPolicy::new(Level::Restricted);

    // The guest calls `input` in plain blocking style. Nobody is here to answer: it is suspended.
    let report = runtime.blocking().run(guest, policy, RunOptions::default())?;
    assert_eq!(report.outcome, Outcome::Suspended);
    let question = &report.pending[0];
    println!("host: it asks {:?}", question.summary);

    runtime.blocking().resolve(&question.id, &"Ada".into(), "an example")?;
    let report = runtime.blocking().resume(report.execution, ResumeOptions::default())?;
    println!("host: it has {}", report.outcome.as_str());
    Ok(())
}
