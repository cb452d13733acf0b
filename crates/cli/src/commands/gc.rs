//! `parole gc`

use std::io::IsTerminal as _;
use std::os::unix::net::UnixStream;

use parole_durable::hub::now;
use parole_policy::Timeout;
use parole_runtime::{ExecutionId, Runtime};
use serde_json::json;

use crate::fail::{Failure, Result};
use crate::output;
use crate::state::{StateArgs, execution};
use crate::terminal::{Keyboard, Typed};
use crate::who;

/// The person said no.
const UNCHANGED: u8 = 1;

/// Remove executions that ended, and what only they have kept
///
/// Executions that have not ended are never touched, nor is what schedules need. Schedules that will
/// never run again go as well. With `--damaged` one execution of which something is damaged is ended instead: what is
/// wrong with it is said first, and asked about at a terminal.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How long ago they must have ended: 10s, 5m, 2h, 7d
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = duration)]
    older_than: u64,

    /// Set aside this execution, of which something is damaged: it ends as canceled, and `ps --all` shows why
    #[arg(long, value_name = "EXECUTION", value_parser = execution, conflicts_with_all = ["older_than", "cache"])]
    damaged: Option<ExecutionId>,

    /// Do it without asking
    #[arg(long, requires = "damaged")]
    yes: bool,

    /// Compiled guests too; they are compiled again when they are needed
    #[arg(long)]
    cache: bool,

    #[command(flatten)]
    state: StateArgs,

    /// Print one object
    #[arg(long)]
    json: bool,
}

fn duration(text: &str) -> std::result::Result<u64, String> {
    if text == "0" {
        return Ok(0);
    }
    match text.parse() {
        Ok(Timeout::After(ms)) => Ok(ms),
        Ok(Timeout::Never) => {
            Err("never would remove nothing: write 10s, 5m, 2h, 7d, or 0 for every ended execution".into())
        }
        Err(error @ parole_policy::BadDuration { .. }) => Err(error.to_string()),
    }
}

pub fn run(args: &Args) -> Result<u8> {
    let runtime = args.state.look()?;
    if let Some(id) = args.damaged {
        return set_aside(&runtime, id, args);
    }
    let before = match args.older_than {
        // The end of this very millisecond counts as well.
        0 => now() + 1,
        ms => now().saturating_sub(ms),
    };
    let executions = runtime.blocking().collect(before)?;
    let schedules = runtime.blocking().collect_schedules(before)?;
    let freed = if args.cache { Some(runtime.clear_cache()?) } else { None };
    if args.json {
        output::json(&json!({ "executions": executions, "schedules": schedules, "cache_bytes": freed }));
        return Ok(0);
    }
    output::out(&format!("removed {executions} ended executions"));
    if schedules > 0 {
        output::out(&format!("removed {schedules} schedules that would never run again"));
    }
    if let Some(bytes) = freed {
        output::out(&format!("removed {} KiB of compiled guests", bytes.div_ceil(1024)));
    }
    Ok(0)
}

/// Ends an execution that cannot go on as it is.
fn set_aside(runtime: &Runtime, id: ExecutionId, args: &Args) -> Result<u8> {
    let faults = runtime.damage(id)?;
    if !faults.is_empty() {
        output::err(&format!("parole: {id} is damaged:"));
        faults.iter().for_each(|fault| output::err(&format!("  {}", output::cell(fault))));
        output::err("  it ends as canceled, with what it waits for; what those rows said is lost, and calls that they");
        output::err("  recorded may have happened: what else is stored of it can still be read");
        if !args.yes && !agreed()? {
            output::err("parole: nothing was changed");
            return Ok(UNCHANGED);
        }
    }
    // Of what is whole, or is not there, the store says so.
    runtime.blocking().set_aside(id, &who::who())?;
    if args.json {
        output::json(&json!({ "execution": id, "set_aside": faults }));
    } else {
        output::err(&format!("parole: {id} is set aside; parole ps --all shows why"));
    }
    Ok(0)
}

/// Asks at the terminal.
fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask at").hint("set it aside without a question: --yes"));
    }
    let (_open, withdrawn) = UnixStream::pair().map_err(Failure::internal)?;
    let mut keyboard = Keyboard::open(&withdrawn).map_err(Failure::internal)?;
    loop {
        keyboard.draws();
        match keyboard.word("set it aside? yes or no> ").map_err(Failure::internal)? {
            Typed::Line(text) => return Ok(text.trim() == "yes"),
            Typed::Covered => {}
            Typed::End | Typed::Withdrawn => return Ok(false),
        }
    }
}
