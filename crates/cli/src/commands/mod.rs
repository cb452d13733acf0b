//! The words: one file each.

mod answer;
mod cancel;
mod completions;
mod explain;
mod gc;
mod grant;
mod inspect;
mod journal;
mod policy;
mod promise;
mod promises;
mod ps;
mod replay;
mod resume;
mod run;
mod schedule;
mod schedules;
mod show;
mod wit;
mod work;

use clap::{Parser, Subcommand};

use crate::fail::Result;

/// Runs WebAssembly that you don't trust, with exactly the authority that you chose, and lets it wait
///
/// A guest can do nothing but call what it imports; the host links an import only if the policy
/// grants it. A guest that asks a person something is suspended until the answer comes: seconds
/// or weeks later, from this process or another one, also after a crash.
#[derive(Parser, Debug)]
#[command(
    name = "parole",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = false,
    color = clap::ColorChoice::Never,
    after_help = "Exit codes: 0 completed · 1 the guest failed · 2 usage or policy file · 65 not a valid guest · \
                  70 internal error · 73 resume refused · 75 suspended · 76 canceled · 77 denied · \
                  124 time limit · 130 interrupted before anything was recorded · 134 trapped · 137 another limit"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    Run(run::Args),
    Resume(resume::Args),
    Ps(ps::Args),
    Show(show::Args),
    Journal(journal::Args),
    Replay(replay::Args),
    Cancel(cancel::Args),
    Grant(grant::Grant),
    Revoke(grant::Revoke),
    Schedules(schedules::Args),
    Schedule(schedule::Args),
    Promises(promises::Args),
    Promise(promise::Args),
    Answer(answer::Args),
    Work(work::Args),
    Inspect(inspect::Args),
    Policy(policy::Args),
    Wit(wit::Args),
    Gc(gc::Args),
    Completions(completions::Args),
}

impl Command {
    /// Does what was asked, and gives the exit code.
    pub fn run(self) -> Result<u8> {
        match self {
            Command::Run(args) => run::run(args),
            Command::Resume(args) => resume::run(args),
            Command::Ps(args) => ps::run(&args),
            Command::Show(args) => show::run(&args),
            Command::Journal(args) => journal::run(&args),
            Command::Replay(args) => replay::run(&args),
            Command::Cancel(args) => cancel::run(&args),
            Command::Grant(args) => grant::grant(&args.args),
            Command::Revoke(args) => grant::revoke(&args.args),
            Command::Schedules(args) => schedules::run(&args),
            Command::Schedule(args) => schedule::run(&args),
            Command::Promises(args) => promises::run(&args),
            Command::Promise(args) => promise::run(&args),
            Command::Answer(args) => answer::run(args),
            Command::Work(args) => work::run(&args),
            Command::Inspect(args) => inspect::run(&args),
            Command::Policy(args) => policy::run(&args),
            Command::Wit(args) => wit::run(&args),
            Command::Gc(args) => gc::run(&args),
            Command::Completions(args) => completions::run(&args),
        }
    }
}
