//! `parole ps`

use parole_durable::hub::now;

use crate::fail::Result;
use crate::state::StateArgs;
use crate::{output, table, times};

/// List executions that have not ended
///
/// `running`: some process runs it now. `suspended`: it waits, and only rows are left of it. `damaged`: something
/// stored of it is not what was written; `parole gc --damaged EXECUTION` sets it aside.
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
            let aside = execution.aside.map(|what| format!("set aside: {what}"));
            let damage = execution.damage.map(|what| format!("damaged: {what}"));
            let waits = execution.pending.iter().map(|pending| format!("{} “{}”", pending.capability, pending.summary));
            let waits: Vec<String> = aside.into_iter().chain(damage).chain(waits).collect();
            let age = match execution.created_at {
                0 => "?".into(),
                at => times::span(now.saturating_sub(at)),
            };
            [execution.execution.to_string(), execution.state.to_owned(), execution.guest, age, waits.join(", ")]
        })
        .collect();
    table::print(["EXECUTION", "STATE", "GUEST", "AGE", "WAITS FOR"], &rows);
    Ok(0)
}
