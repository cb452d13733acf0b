//! `parole policy check|levels|explain`

use std::path::PathBuf;

use clap::Subcommand;
use parole_policy::{Definition, LimitKey, levels};
use parole_runtime::CATALOGUE;
use serde_json::{Map, Value, json};

use crate::commands::explain;
use crate::fail::Result;
use crate::output;
use crate::policy_flags::{self, capability};

/// Check a policy file, list the levels, or ask what a policy would say
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  parole policy check tool.toml
  parole policy explain tool.toml read_file /data/report.txt
  parole policy explain tool.toml fetch POST https://api.example.com/reports '{\"a\": 1}'
  parole policy explain tool.toml query sales 'SELECT * FROM orders WHERE id = ?' 42")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Read a policy file strictly, and report all its errors (exit 2)
    Check {
        /// The policy file
        file: PathBuf,
        /// Print the policy that it comes to as one object
        #[arg(long)]
        json: bool,
    },
    /// List the levels: what each adds to the one below, and its limits
    Levels {
        /// Print an array of objects
        #[arg(long)]
        json: bool,
    },
    /// Say what the policy says to a call: allow, ask or deny, why, and which line decides
    ///
    /// It is the answer that a guest would get, from the same function, without any effect.
    #[command(after_long_help = explain::arguments())]
    Explain {
        /// The policy file
        file: PathBuf,
        /// The capability that would be called
        #[arg(value_name = "CAP", value_parser = capability())]
        capability: String,
        /// What it would be called with
        #[arg(value_name = "ARGUMENT", allow_negative_numbers = true)]
        arguments: Vec<String>,
        /// Print one object
        #[arg(long)]
        json: bool,
    },
}

pub fn run(args: &Args) -> Result<u8> {
    match &args.verb {
        Verb::Check { file, json } => check(file, *json),
        Verb::Levels { json } => {
            list(*json);
            Ok(0)
        }
        Verb::Explain { file, capability, arguments, json } => explain::run(file, capability, arguments, *json),
    }
}

fn check(file: &std::path::Path, json: bool) -> Result<u8> {
    let policy = policy_flags::read(file)?;
    if json {
        output::json(&policy);
        return Ok(0);
    }
    // Whoever wrote the file may be somebody else: none of it makes a line of its own.
    let line = |text: String| output::out(&output::cell(&text));
    line(format!("{} is a valid policy: level {}", file.display(), policy.level));
    for (name, grant) in &policy.grants {
        for dir in &grant.dirs {
            line(format!("  {name} {} = {}", dir.guest, dir.host.display()));
        }
        for origin in &grant.origins {
            line(format!("  {name} {origin}"));
        }
        for authority in &grant.ca {
            line(format!("  {name} trusts {}", authority.file.display()));
        }
        for (database, to) in &grant.databases {
            line(format!("  {name} {database} = {to}"));
            for authority in grant.database_ca.get(database).into_iter().flatten() {
                line(format!("  {name} {database} trusts {}", authority.file.display()));
            }
        }
    }
    for rule in &policy.rules {
        let when = rule.when.as_ref().map(|when| format!(" when {}", when.source())).unwrap_or_default();
        line(format!("  rule {}: {} {}{when}", rule.name, rule.then.as_str(), rule.capability));
    }
    for Definition { name, .. } in policy.empty_scopes(&CATALOGUE).into_iter().map(|own| &**own) {
        line(format!("  {name} is linked but may reach nothing"));
    }
    Ok(0)
}

fn list(json: bool) {
    let rows = levels(&CATALOGUE);
    if json {
        let objects: Vec<Value> = rows
            .iter()
            .map(|row| {
                let limits: Map<String, Value> =
                    LimitKey::ALL.iter().map(|key| (key.name.to_owned(), key.get(&row.limits).into())).collect();
                let adds: Vec<&str> = row.adds.iter().map(|capability| &*capability.name).collect();
                json!({ "level": row.level, "adds": adds, "limits": limits })
            })
            .collect();
        output::json(&objects);
        return;
    }
    for row in rows {
        output::out(row.level.as_str());
        for capability in &row.adds {
            output::out(&format!("  + {:<12} {}", capability.name, capability.summary));
        }
        let limits: Vec<String> =
            LimitKey::ALL.iter().map(|key| format!("{} {}", key.name, key.text(&row.limits))).collect();
        output::out(&format!("  limits: {}", limits.join(", ")));
    }
}
