//! `parole replay`

use serde_json::json;

use crate::console::{Console, Show};
use crate::fail::{Failure, Kind, Result};
use crate::output;
use crate::session::{Signals, block_on};
use crate::state::OneArgs;

/// Run an execution again from its journal, without effects
///
/// Every host call is answered from the journal, nothing is done, asked or recorded. It prints
/// the output that the guest made, and says how far the journal reaches. A guest that asks for
/// something else than what is recorded is a mismatch (exit 73).
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    one: OneArgs,

    /// Print one object: calls, outcome, output
    #[arg(long)]
    json: bool,

    /// Print the output only
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    let (console, _notes) = Console::new(Show { json: args.json, quiet: args.quiet });
    let runtime = args.one.state.open(console.sink(), None)?;
    let replayed = block_on(async {
        let mut signals = Signals::new()?;
        tokio::select! {
            replayed = runtime.replay(args.one.execution) => Ok(replayed?),
            () = signals.next() => Err(Failure::new(Kind::Interrupted, "interrupted; nothing was changed")),
        }
    });
    console.compiled();
    let replayed = replayed?;
    // Where the journal has no end, the execution may have one: it was canceled, or stopped by a limit.
    let outcome = match replayed.outcome {
        Some(outcome) => outcome,
        None => runtime.show(args.one.execution)?.outcome,
    };
    let outcome = outcome.as_str();
    if args.json {
        output::json(&json!({
            "execution": args.one.execution,
            "calls": replayed.calls,
            "outcome": outcome,
            "output": replayed.output,
        }));
    } else {
        let _ = output::guest(&replayed.output);
        console.notice(&format!("parole: replayed {} calls as recorded: {outcome}", replayed.calls));
    }
    Ok(0)
}
