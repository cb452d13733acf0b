//! `parole ps`

use parole_durable::hub::now;

use crate::fail::Result;
use crate::state::StateArgs;
use crate::{output, table, times};

/// List executions that have not ended
///
/// `running`: some process runs it now. `suspended`: it waits, and only rows are left of it.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The ended ones too, with their outcome
    #[arg(long, short)]
    all: bool,

    #[command(flatten)]
    state: StateArgs,

    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    let executions = args.state.look()?.executions(args.all)?;
    if args.json {
        output::json(&executions);
        return Ok(0);
    }
    let now = now();
    let rows: Vec<[String; 5]> = executions
        .into_iter()
        .map(|execution| {
            let waits: Vec<String> = execution
                .pending
                .iter()
                .map(|pending| format!("{} “{}”", pending.capability, pending.summary))
                .collect();
            [
                execution.execution.to_string(),
                execution.state.to_owned(),
                execution.guest,
                times::span(now.saturating_sub(execution.created_at)),
                waits.join(", "),
            ]
        })
        .collect();
    table::print(["EXECUTION", "STATE", "GUEST", "AGE", "WAITS FOR"], &rows);
    Ok(0)
}
