//! `parole journal`

use parole_runtime::ExecutionId;

use crate::commands::run::execution;
use crate::fail::Result;
use crate::state::StateArgs;
use crate::{output, table, times};

/// Show the recorded host calls of an execution
///
/// Each step was admitted (the host took it on), completed (it is done, and is never done again)
/// and delivered (the guest has the result).
#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(value_name = "EXECUTION", value_parser = execution)]
    execution: ExecutionId,

    #[command(flatten)]
    state: StateArgs,

    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    let entries = args.state.look()?.journal(args.execution)?;
    if args.json {
        output::json(&entries);
        return Ok(0);
    }
    let rows: Vec<[String; 7]> = entries
        .into_iter()
        .map(|entry| {
            [
                if entry.calls > 1 {
                    format!("{}–{}", entry.step, entry.step + entry.calls - 1)
                } else {
                    entry.step.to_string()
                },
                entry.function,
                serde_json::to_string(&entry.effect).unwrap_or_default().trim_matches('"').to_owned(),
                entry.state.to_owned(),
                entry.admitted_at.map(times::point).unwrap_or_default(),
                entry.arguments.to_string(),
                entry.promise.or_else(|| entry.result.map(|result| result.to_string())).unwrap_or_default(),
            ]
        })
        .collect();
    table::print(["STEP", "FUNCTION", "EFFECT", "STATE", "ADMITTED", "ARGUMENTS", "PROMISE OR RESULT"], &rows);
    Ok(0)
}
