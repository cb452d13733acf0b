//! `parole policy check|levels|explain`

use std::path::PathBuf;

use clap::Subcommand;
use parole_policy::{Arguments, LimitKey, READ_FILE, WRITE_FILE, levels};
use parole_runtime::CATALOGUE;
use serde_json::{Map, Value, json};

use crate::fail::{Failure, Result};
use crate::output;
use crate::policy_flags::{self, capability};

/// Check a policy file, list the levels, or ask what a policy would say
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  parole policy check tool.toml
  parole policy explain tool.toml read_file /data/report.txt")]
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
    /// Say whether a call would be allowed, and which line decides
    ///
    /// `read_file` takes the path as the guest would write it, `write_file` the path and, if it
    /// matters, the number of bytes. The others take no argument.
    Explain {
        /// The policy file
        file: PathBuf,
        /// The capability that would be called
        #[arg(value_name = "CAP", value_parser = capability())]
        capability: String,
        /// What it would be called with
        #[arg(value_name = "ARGUMENT")]
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
        Verb::Explain { file, capability, arguments, json } => explain(file, capability, arguments, *json),
    }
}

fn check(file: &std::path::Path, json: bool) -> Result<u8> {
    let policy = policy_flags::read(file)?;
    if json {
        output::json(&policy);
        return Ok(0);
    }
    output::out(&format!("{} is a valid policy: level {}", file.display(), policy.level));
    for (name, grant) in &policy.grants {
        for dir in &grant.dirs {
            output::out(&format!("  {name} {} = {}", dir.guest, dir.host.display()));
        }
    }
    for name in policy.empty_scopes(&CATALOGUE) {
        output::out(&format!("  {name} is linked but may reach nothing"));
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
                let adds: Vec<&str> = row.adds.iter().map(|capability| capability.name).collect();
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
            LimitKey::ALL.iter().map(|key| format!("{} {}", key.name, key.unit.text(key.get(&row.limits)))).collect();
        output::out(&format!("  limits: {}", limits.join(", ")));
    }
}

fn explain(file: &std::path::Path, name: &str, arguments: &[String], json: bool) -> Result<u8> {
    let policy = policy_flags::read(file)?;
    let Some(capability) = CATALOGUE.by_name(name) else {
        return Err(Failure::usage(format!("there is no capability `{name}`")));
    };
    let arguments = match (name, arguments) {
        (READ_FILE, [path]) => Arguments::Read { path },
        (READ_FILE, _) => return Err(Failure::usage("expected one argument: read_file PATH")),
        (WRITE_FILE, [path]) => Arguments::Write { path, bytes: 0 },
        (WRITE_FILE, [path, bytes]) => Arguments::Write {
            path,
            bytes: bytes.parse().map_err(|_| {
                Failure::usage(format!("`{bytes}` is not a number of bytes; expected write_file PATH [BYTES]"))
            })?,
        },
        (WRITE_FILE, _) => return Err(Failure::usage("expected one or two arguments: write_file PATH [BYTES]")),
        (_, []) => Arguments::None,
        (_, _) => return Err(Failure::usage(format!("`{name}` is decided without arguments"))),
    };
    let explanation = policy.explain(capability, &arguments);
    if json {
        output::json(&explanation);
    } else {
        output::out(&explanation.text);
    }
    Ok(0)
}
