//! The same runtime from an async program, and from a thread that knows nothing of async.
//!
//! `cargo run --release -p parole-runtime --example any_context`

#![expect(clippy::print_stdout, reason = "an example shows something")]

use parole_runtime::{Call, Guest, Level, RunOptions, Runtime, SecurityPolicy, Validator};

const HELLO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-examples/wat/hello.wat");

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // A check in Rust stands behind the policy: this one refuses to print.
    let quiet = Validator::new("quiet", "print", |call: &Call| Err(format!("not {:?}", call.arguments)));
    let runtime = Runtime::builder().open()?;
    let strict = Runtime::builder().validator(quiet).open()?;
    let guest = Guest::from_file(HELLO.as_ref())?;
    let policy = SecurityPolicy::new(Level::Sandbox);

    let report = runtime.run(guest.clone(), policy.clone(), RunOptions::default()).await?;
    println!("async:  {:?}", report.output);

    let report = strict.run(guest.clone(), policy.clone(), RunOptions::default()).await?;
    println!("strict: {:?}", report.output);

    let thread = std::thread::spawn(move || runtime.blocking().run(guest, policy, RunOptions::default()));
    match thread.join() {
        Ok(report) => println!("thread: {:?}", report?.output),
        Err(_) => println!("the thread panicked"),
    }
    Ok(())
}
