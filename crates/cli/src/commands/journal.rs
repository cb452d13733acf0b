//! `parole journal`

use std::collections::VecDeque;

use parole_durable::store::GrantRecord;
use parole_runtime::audit::Record;
use parole_runtime::{ExecutionId, Runtime};
use serde_json::{Value, json};

use crate::commands::grant;
use crate::fail::Result;
use crate::state::OneArgs;
use crate::{output, table, times};

/// Show the recorded host calls of an execution
///
/// Each step was asked about (a person decides), admitted (the host took it on), completed (it is done, and
/// is never done again) and delivered (the guest has the result); one that was under way when its process died is
/// in doubt.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  parole journal 01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44
  parole journal 01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44 --audit | jq -c 'select(.verdict == \"deny\")'")]
pub struct Args {
    #[command(flatten)]
    one: OneArgs,

    /// Print an array of objects
    #[arg(long)]
    json: bool,

    /// Print the decisions instead, each as one object on a line of its own
    ///
    /// What the policy, its rules, checks and people said about each call (`site` is `call`), about refused
    /// imports (`link`), and each grant and revocation (`grant`), in order: capability, digest of
    /// the arguments, verdict, rule, generation, promise, who decided; of what was denied also the reason, and
    /// the path, URL or name that it was about. Never bodies or results.
    #[arg(long, conflicts_with = "json")]
    audit: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    let runtime = args.one.state.look()?;
    if args.audit {
        audit(&runtime, args.one.execution)?;
        return Ok(0);
    }
    let entries = runtime.journal(args.one.execution)?;
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

/// The decisions about calls, with the changes of grants in their place.
fn audit(runtime: &Runtime, id: ExecutionId) -> Result<()> {
    let mut grants: VecDeque<GrantRecord> = runtime.grants(id)?.into();
    runtime.audit(id, |record| {
        while grants.front().is_some_and(|grant| came_before(grant, &record)) {
            grants.pop_front().iter().for_each(tell);
        }
        output::json(&record);
    })?;
    grants.iter().for_each(tell);
    Ok(())
}

/// By the generation under which a call was decided, which is exact; else by time, which not every record has.
fn came_before(grant: &GrantRecord, record: &Record) -> bool {
    grant.generation <= record.note.generation || (record.note.at != 0 && grant.at < record.note.at)
}

fn tell(grant: &GrantRecord) {
    let (verdict, change) = match serde_json::from_str::<Value>(&grant.change) {
        Ok(Value::Object(change)) => grant::read(&change),
        _ => ("grant", Value::from(grant.change.as_str())),
    };
    output::json(&json!({
        "execution": grant.execution,
        "site": "grant",
        "verdict": verdict,
        "change": change,
        "at": grant.at,
        "generation": grant.generation,
        "by": grant.by,
    }));
}
