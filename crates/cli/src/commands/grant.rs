//! `parole grant` and `parole revoke`

use parole_policy::{FlagError, Flags, SecurityPolicy};
use parole_runtime::{CATALOGUE, Error};
use serde_json::{Map, Value, json};

use crate::fail::{Failure, Result};
use crate::policy_flags::{self, ScopeFlags, capability};
use crate::state::OneArgs;
use crate::{output, who};

/// Let an execution that runs or waits reach more
///
/// Its next call is decided under the new grants, whichever process runs it; nothing has to be
/// resumed. What a grant adds may go beyond the scopes of the policy with which it was started, but not
/// beyond its level, its block list or what it imports; its rules still stand. A named capability is
/// given back after a `parole revoke`.
///
/// Each change is a generation of its own: `parole journal EXECUTION --audit` shows them among the
/// decisions. An execution that has ended is granted nothing (exit 73).
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  parole grant 01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44 --allow-read /data=./more
  parole grant 01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44 --allow-net https://api.example.com
  parole grant 01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44 fetch
      takes back `parole revoke … fetch`")]
pub struct Grant {
    #[command(flatten)]
    pub args: Args,
}

/// Take from an execution that runs or waits what it may reach
///
/// From its next call on; a call that is under way completes. The flags take out exactly what they
/// name: a directory by its guest path, an origin, a database by its name. A capability that is named
/// is taken away as a whole, with its scopes kept for a later `parole grant`: each call is denied.
///
/// An execution that has ended has nothing to lose (exit 73).
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  parole revoke 01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44 --allow-net https://api.example.com
  parole revoke 01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44 --allow-write /out
  parole revoke 01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44 fetch websocket
      whatever they may reach")]
pub struct Revoke {
    #[command(flatten)]
    pub args: Args,
}

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    one: OneArgs,

    /// Whole capabilities
    #[arg(value_name = "CAP", value_parser = capability())]
    capabilities: Vec<String>,

    #[command(flatten)]
    scopes: ScopeFlags,

    /// Print one object: execution, generation, change
    #[arg(long)]
    json: bool,
}

type Changed = std::result::Result<SecurityPolicy, FlagError>;

pub fn grant(args: &Args) -> Result<u8> {
    let cwd = policy_flags::cwd()?;
    run("grant", args, |policy, flags| policy.granted(flags, &args.capabilities, &cwd, &CATALOGUE))
}

pub fn revoke(args: &Args) -> Result<u8> {
    let cwd = policy_flags::cwd()?;
    run("revoke", args, |policy, flags| policy.revoked_by(flags, &args.capabilities, &cwd, &CATALOGUE))
}

fn run(verb: &str, args: &Args, change: impl Fn(&SecurityPolicy, &Flags) -> Changed) -> Result<u8> {
    let what: Vec<String> = args.capabilities.iter().cloned().chain(args.scopes.typed()).collect();
    if what.is_empty() {
        return Err(Failure::usage(format!(
            "`parole {verb}` needs to know what: a capability, --allow-… or --database"
        ))
        .hint(format!("such as: parole {verb} {} --allow-net https://api.example.com", args.one.execution)));
    }
    let flags = args.scopes.flags()?;
    let runtime = args.one.state.look()?;
    let id = args.one.execution;
    // Once before, for the sake of the message.
    change(&runtime.policy(id)?, &flags).map_err(|error| policy_flags::flag(&error))?;
    let text = json!({ verb: what }).to_string();
    let again = |policy: &SecurityPolicy| change(policy, &flags).map_err(|error| Error::Usage(error.to_string()));
    let generation = runtime.blocking().regrant(id, again, &text, &who::who())?;
    if args.json {
        output::json(&json!({ "execution": id, "generation": generation, "change": { verb: what } }));
    } else {
        output::out(&format!("generation {generation}"));
        output::err(&format!("parole: from its next call on, execution {id} is decided under it"));
    }
    Ok(0)
}

/// What a change was, from its record: the verb, and what it was about.
pub fn read(change: &Map<String, Value>) -> (&'static str, Value) {
    match (change.get("grant"), change.get("revoke")) {
        (Some(what), None) => ("grant", what.clone()),
        (None, Some(what)) => ("revoke", what.clone()),
        _ => ("grant", Value::Object(change.clone())),
    }
}
