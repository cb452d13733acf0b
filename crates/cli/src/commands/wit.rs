//! `parole wit`

use std::path::PathBuf;

use parole_capabilities::{ALL, CATALOGUE, WIT_SHARED, by_name};
use parole_policy::{Level, SecurityPolicy};

use crate::fail::{Failure, Result};
use crate::output;
use crate::policy_flags::{self, capability};

/// Print the WIT package of the capabilities, or the interface of one
///
/// The package is one text: put it into the `wit` directory of a guest. With --policy the WIT of what the policy
/// defines comes after it.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  parole wit > wit/deps/parole/parole.wit
  parole wit read_file
  parole wit --policy policy.toml acme:crm/customers")]
pub struct Args {
    /// The interface of this capability only
    #[arg(value_name = "CAP", value_parser = capability())]
    capability: Option<String>,

    /// A policy that defines capabilities of its own
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<u8> {
    let policy = args
        .policy
        .as_deref()
        .map(policy_flags::read)
        .transpose()?
        .unwrap_or_else(|| SecurityPolicy::new(Level::default()));
    if let Some(name) = &args.capability {
        let own = policy.catalogue(&CATALOGUE).named(name).map(|(own, _)| own.name.to_string());
        let text = match own.as_deref().and_then(by_name) {
            Some(entry) => entry.wit,
            None => match own.and_then(|name| policy.capabilities.get(&name)) {
                Some(defined) => &defined.wit,
                None => {
                    return Err(Failure::usage(format!("no policy defines `{name}`")).hint("name one: --policy FILE"));
                }
            },
        };
        output::out(text.trim_end());
        return Ok(0);
    }
    let [types, worlds] = WIT_SHARED;
    let shipped = std::iter::once(types).chain(ALL.iter().map(|entry| entry.wit)).chain([worlds]);
    let mut texts: Vec<&str> = shipped.collect();
    // Several interfaces may come from one text.
    for defined in policy.capabilities.values() {
        if !texts.contains(&defined.wit.as_str()) {
            texts.push(&defined.wit);
        }
    }
    output::out(&texts.iter().map(|text| text.trim_end()).collect::<Vec<_>>().join("\n\n"));
    Ok(0)
}
