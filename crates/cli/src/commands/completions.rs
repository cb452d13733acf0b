//! `parole completions`

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::commands::Cli;
use crate::fail::Result;
use crate::output;

/// Print a completion script for a shell
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Example:
  parole completions bash > ~/.local/share/bash-completion/completions/parole")]
pub struct Args {
    /// The shell
    shell: Shell,
}

pub fn run(args: &Args) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "parole", &mut script);
    output::out(String::from_utf8_lossy(&script).trim_end());
    Ok(0)
}
