//! `parole promises`

use parole_durable::PromiseState;
use parole_durable::hub::now;
use parole_durable::store::{Damaged, Listing};
use parole_runtime::{ExecutionId, Listed, PromiseFilter};
use serde_json::{Value, json};

use crate::fail::Result;
use crate::policy_flags::promise_of;
use crate::state::{StateArgs, execution};
use crate::{output, table, times};

/// List promises: what executions wait for, or have waited for
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  parole promises --pending
  parole promises --pending --capability approve --json")]
pub struct Args {
    /// Only those that nobody has settled
    #[arg(long)]
    pending: bool,

    /// Only those of one capability, of `ask` or of `doubt`
    #[arg(long, value_name = "CAP", value_parser = promise_of())]
    capability: Option<String>,

    /// Only those of one execution
    #[arg(long, value_name = "EXECUTION", value_parser = execution)]
    execution: Option<ExecutionId>,

    #[command(flatten)]
    state: StateArgs,

    /// Print an array of promise records
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    let filter =
        PromiseFilter { pending: args.pending, execution: args.execution, capability: args.capability.clone() };
    let Listing { whole: promises, damaged } = args.state.look()?.promises().list_all(&filter)?;
    if args.json {
        let whole = promises.iter().map(|promise| json!(promise));
        output::json(&whole.chain(damaged.iter().map(unreadable)).collect::<Vec<_>>());
        return Ok(0);
    }
    let now = now();
    let rows: Vec<[String; 5]> = promises
        .iter()
        .map(|promise| {
            let record = &promise.record;
            let when = match record.state {
                PromiseState::Pending if record.is_timer() => {
                    format!("ends {}", times::deadline(record.timeout_at, now))
                }
                PromiseState::Pending => times::deadline(record.timeout_at, now),
                _ => record.settled_at.map(|at| format!("settled {}", times::deadline(at, now))).unwrap_or_default(),
            };
            [record.id.to_string(), promise.capability.clone(), state(promise), when, promise.summary()]
        })
        .collect();
    let damaged = damaged.iter().map(|damaged| {
        let asks = format!("damaged: {}", damaged.what);
        ["?".into(), "?".into(), "damaged".into(), String::new(), asks]
    });
    let rows: Vec<[String; 5]> = rows.into_iter().chain(damaged).collect();
    table::print(["PROMISE", "CAPABILITY", "STATE", "EXPIRES", "ASKS"], &rows);
    Ok(0)
}

/// A promise of which no more can be told than what is wrong.
fn unreadable(damaged: &Damaged) -> Value {
    let execution = damaged.execution.map(|id| id.to_string());
    json!({ "state": "damaged", "execution": execution, "damage": &*damaged.what })
}

/// The word for where a promise stands.
pub fn state(promise: &Listed) -> String {
    serde_json::to_string(&promise.record.state).unwrap_or_default().trim_matches('"').to_owned()
}
