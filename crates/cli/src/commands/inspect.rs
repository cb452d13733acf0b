//! `parole inspect`

use std::path::PathBuf;

use parole_policy::Link;
use parole_runtime::report::{NAME_MAX, cut};
use parole_runtime::{CATALOGUE, Runtime};
use serde_json::{Value, json};

use crate::commands::run::guest;
use crate::console::{Console, Show};
use crate::fail::{Failure, Kind, Result};
use crate::policy_flags::PolicyFlags;
use crate::session::{Signals, block_on};
use crate::{output, report, state};

/// Show what a guest asks for, without running it
///
/// Lists its imports with the capability behind each, the lowest level that links it, and what
/// the policy would refuse. Exit 77 if the policy refuses it, else 0.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A WebAssembly component: .wasm, or its text form .wat
    guest: PathBuf,

    #[command(flatten)]
    policy: PolicyFlags,

    /// Print one object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    let guest = guest(&args.guest)?;
    let policy = args.policy.load()?;
    let (console, mut notes) = Console::new(Show::default());
    // Nothing is kept: looking leaves no trace.
    let runtime = Runtime::builder().sink(console.sink()).compiler(state::compiler()?).open()?;
    let name = guest.name.clone();
    let found = block_on(async {
        let mut signals = Signals::new()?;
        let mut work = std::pin::pin!(runtime.inspect(guest, policy));
        let mut tick = tokio::time::interval(crate::session::TICK);
        loop {
            tokio::select! {
                found = &mut work => return Ok(found?),
                () = signals.next() => return Err(Failure::new(Kind::Interrupted, "interrupted")),
                Some(_) = notes.recv() => {}
                _ = tick.tick() => console.tick(),
            }
        }
    });
    console.compiled();
    let found = found?;
    let imports: Vec<(String, &str, bool)> = found
        .imports
        .iter()
        .map(|import| {
            let name = cut(import.name.as_str(), NAME_MAX);
            match &import.link {
                Link::Granted(capability) => (name, &*capability.name, true),
                Link::Types => (name, "", true),
                Link::Denied(denied) => (name, known(denied.capability.as_deref()), false),
            }
        })
        .collect();
    let exports: Vec<String> = found.exports.iter().map(|export| cut(export.as_str(), NAME_MAX)).collect();
    let code = if found.denied.is_empty() { 0 } else { 77 };
    if args.json {
        let imports: Vec<Value> = imports
            .iter()
            .map(|(import, capability, granted)| {
                json!({ "import": import, "capability": (!capability.is_empty()).then_some(capability), "granted": granted })
            })
            .collect();
        output::json(&json!({
            "guest": name,
            "component": found.digest,
            "imports": imports,
            "exports": exports,
            "level": found.level,
            "denied": found.denied,
        }));
        return Ok(code);
    }
    output::out(&format!("guest      {}", output::cell(&name)));
    output::out(&format!("component  {}", found.digest));
    output::out(&format!("level      {}", found.level.map_or("none links it", parole_policy::Level::as_str)));
    for export in &exports {
        output::out(&format!("export     {}", output::cell(export)));
    }
    for (import, capability, granted) in &imports {
        let what = match (*capability, *granted) {
            ("", true) => "no authority".to_owned(),
            ("", false) => "not defined".to_owned(),
            (capability, true) => capability.to_owned(),
            (capability, false) => format!("{capability}, refused"),
        };
        output::out(&format!("import     {}  ({what})", output::cell(import)));
    }
    for denied in &found.denied {
        output::out(report::refusal(denied).trim_start_matches("parole: "));
    }
    Ok(code)
}

/// The host's own name for a capability.
fn known(name: Option<&str>) -> &'static str {
    name.and_then(|name| CATALOGUE.by_name(name)).map_or("", |own| &own.name)
}
