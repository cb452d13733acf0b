//! `parole gc`

use parole_durable::hub::now;
use parole_policy::Timeout;
use serde_json::json;

use crate::fail::Result;
use crate::output;
use crate::state::StateArgs;

/// Remove executions that ended, and what only they have kept
///
/// Executions that have not ended are never touched, nor is what schedules need. Schedules that will
/// never run again go as well.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How long ago they must have ended: 10s, 5m, 2h, 7d
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = duration)]
    older_than: u64,

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
