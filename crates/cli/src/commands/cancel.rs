//! `parole cancel`

use serde_json::json;

use crate::fail::Result;
use crate::output;
use crate::state::OneArgs;

/// End an execution as canceled, whoever runs it
///
/// What it waits for is canceled with it. An execution that has ended already stays as it is
/// (exit 73).
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    one: OneArgs,

    /// Print one object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    args.one.state.look()?.blocking().cancel(args.one.execution)?;
    if args.json {
        output::json(&json!({ "execution": args.one.execution, "outcome": "canceled" }));
    } else {
        output::err(&format!("parole: {} is canceled", args.one.execution));
    }
    Ok(0)
}
