//! `parole show`

use parole_durable::hub::now;
use parole_runtime::report::{TEXT_MAX, cut};
use parole_runtime::{ExecutionId, Outcome, Runtime};

use crate::fail::Result;
use crate::state::OneArgs;
use crate::{output, report, table, times};

/// Show what an execution has come to
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    one: OneArgs,

    /// Print the object that `parole run --json` prints
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    let runtime = args.one.state.look()?;
    let report = runtime.show(args.one.execution)?;
    if args.json {
        output::json(&report);
        return Ok(0);
    }
    let line = |name: &str, text: &str| output::out(&format!("{name:<10} {text}"));
    line("execution", &report.execution.to_string());
    let running = report.outcome == Outcome::Suspended && is_running(&runtime, args.one.execution)?;
    line("outcome", if running { "none yet: it is running" } else { report.outcome.as_str() });
    for (name, text) in [("result", &report.result), ("error", &report.error), ("limit", &report.limit)] {
        if let Some(text) = text {
            line(name, &output::cell(&cut(text.as_str(), TEXT_MAX)));
        }
    }
    for pending in &report.pending {
        let deadline = times::deadline(pending.timeout_at, now());
        let ends = times::at_deadline(&pending.capability);
        line(
            "waits for",
            &format!("{} “{}”, {ends} {deadline}", output::cell(&pending.id), table::cut(&pending.summary)),
        );
    }
    for denied in &report.denied {
        output::out(report::refusal(denied).trim_start_matches("parole: "));
    }
    if !report.output.is_empty() {
        output::out("output");
        for text in report.output.lines() {
            output::out(&format!("│ {}", output::cell(text)));
        }
    }
    Ok(0)
}

/// Whether some process runs it at this moment.
fn is_running(runtime: &Runtime, id: ExecutionId) -> Result<bool> {
    let executions = runtime.executions(false)?;
    Ok(executions.iter().any(|summary| summary.execution == id && summary.state == "running"))
}
