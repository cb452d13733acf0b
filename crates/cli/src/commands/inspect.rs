//! `parole inspect`

use std::path::PathBuf;

use parole_policy::{Kind as Answered, Link};
use parole_runtime::Runtime;
use parole_runtime::link::Import;
use parole_runtime::report::{NAME_MAX, cut};
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
/// the policy would refuse; with --policy or --json also the functions of imports and exports, as
/// WIT has them. Exit 77 if the policy refuses it, else 0.
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
    let code = if found.denied.is_empty() { 0 } else { 77 };
    if args.json {
        let imports: Vec<Value> = found.imports.iter().map(import_json).collect();
        let exports: Vec<String> = found.exports.iter().map(|export| name_of(&export.name)).collect();
        let functions: Vec<&String> = found.exports.iter().flat_map(|export| &export.functions).collect();
        output::json(&json!({
            "guest": name,
            "component": found.digest,
            "imports": imports,
            "exports": exports,
            "functions": functions,
            "level": found.level,
            "denied": found.denied,
        }));
        return Ok(code);
    }
    let functions = |all: &[String]| {
        for function in all.iter().filter(|_| args.policy.policy.is_some()) {
            output::out(&format!("             {}", output::cell(function)));
        }
    };
    output::out(&format!("guest      {}", output::cell(&name)));
    output::out(&format!("component  {}", found.digest));
    output::out(&format!("level      {}", found.level.map_or("none links it", parole_policy::Level::as_str)));
    for export in &found.exports {
        output::out(&format!("export     {}", output::cell(&name_of(&export.name))));
        functions(&export.functions);
    }
    for import in &found.imports {
        let what = match &import.link {
            Link::Granted(own) if own.kind == Answered::Worker => format!("{}, answered by workers", own.name),
            Link::Granted(own) => own.name.to_string(),
            Link::AllDenied(own) => format!("{}, each call denied", own.name),
            Link::Types => "no authority".to_owned(),
            Link::Denied(denied) => match &denied.capability {
                Some(name) => format!("{name}, refused"),
                None => "not defined".to_owned(),
            },
        };
        output::out(&format!("import     {}  ({})", output::cell(&name_of(&import.name)), output::cell(&what)));
        functions(&import.functions);
    }
    for denied in &found.denied {
        output::out(report::refusal(denied).trim_start_matches("parole: "));
    }
    Ok(code)
}

fn name_of(name: &str) -> String {
    cut(name, NAME_MAX)
}

fn import_json(import: &Import) -> Value {
    let (capability, granted) = match &import.link {
        Link::Granted(own) | Link::AllDenied(own) => (Some(own.name.to_string()), true),
        Link::Types => (None, true),
        Link::Denied(denied) => (denied.capability.clone(), false),
    };
    let mut object = json!({
        "import": name_of(&import.name),
        "capability": capability,
        "granted": granted,
        "functions": import.functions,
    });
    if matches!(import.link, Link::AllDenied(_)) {
        object["all_denied"] = true.into();
    }
    object
}
