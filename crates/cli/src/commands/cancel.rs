//! `parole cancel`

use parole_runtime::ExecutionId;
use serde_json::json;

use crate::commands::run::execution;
use crate::fail::Result;
use crate::output;
use crate::state::StateArgs;

/// End an execution as canceled, whoever runs it
///
/// What it waits for is canceled with it. An execution that has ended already stays as it is
/// (exit 73).
#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(value_name = "EXECUTION", value_parser = execution)]
    execution: ExecutionId,

    #[command(flatten)]
    state: StateArgs,

    /// Print one object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    args.state.look()?.blocking().cancel(args.execution)?;
    if args.json {
        output::json(&json!({ "execution": args.execution, "outcome": "canceled" }));
    } else {
        output::err(&format!("parole: {} is canceled", args.execution));
    }
    Ok(0)
}
