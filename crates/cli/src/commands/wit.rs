//! `parole wit`

use parole_capabilities::{ALL, WIT_SHARED, by_name};

use crate::fail::Result;
use crate::output;
use crate::policy_flags::capability;

/// Print the WIT package of the capabilities, or the interface of one
///
/// The package is one text: put it into the `wit` directory of a guest.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  parole wit > wit/deps/parole/parole.wit
  parole wit read_file")]
pub struct Args {
    /// The interface of this capability only
    #[arg(value_name = "CAP", value_parser = capability())]
    capability: Option<String>,
}

pub fn run(args: &Args) -> Result<u8> {
    if let Some(entry) = args.capability.as_deref().and_then(by_name) {
        output::out(entry.wit.trim_end());
        return Ok(0);
    }
    let [types, worlds] = WIT_SHARED;
    let parts: Vec<&str> =
        std::iter::once(types).chain(ALL.iter().map(|entry| entry.wit)).chain([worlds]).map(str::trim_end).collect();
    output::out(&parts.join("\n\n"));
    Ok(0)
}
