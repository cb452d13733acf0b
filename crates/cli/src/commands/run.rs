//! `parole run`

use std::path::{Path, PathBuf};

use parole_runtime::{ExecutionId, Guest, RunOptions, Wait};

use crate::ask::Asker;
use crate::commands::schedule::{self, WhenArgs};
use crate::console::{Console, Show};
use crate::fail::{Failure, Kind, Result};
use crate::lines::Lines;
use crate::policy_flags::PolicyFlags;
use crate::session::{Answers, Driven, Session, Signals, block_on};
use crate::state::StateArgs;
use crate::watch::Changes;
use crate::{output, report};

/// Run a guest under a policy
///
/// The guest's output goes to stdout; questions, logs and notices go to stderr. At a terminal
/// you are asked what the guest asks, and what a rule of the policy wants you to allow; an answer from
/// another process counts if it comes first. Without a terminal the run waits for timers and for the host's own work, and ends
/// `suspended` (exit 75) when only a person can help.
///
/// Ctrl-C stops the guest where it is and leaves the execution suspended (exit 75); `parole resume`
/// goes on from what is recorded. Before anything is recorded there is nothing to resume (exit 130).
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  parole run greet.wasm
      asks you at the terminal
  parole run greet.wasm --detach --json
      ends at the first wait; the object says what it waits for
  printf 'Ada\\n' | parole run greet.wasm --stdin -
      a line for each input
  parole run files.wasm --allow-read /data=./data --allow-write /out=./out
  parole run tool.wasm --policy tool.toml --level restricted
  parole run report.wasm --allow-net https://api.example.com --database sales=sqlite:./sales.db
  parole run add.wat --invoke 'add(2, 3)'
      calls one export; its result is printed
  parole run report.wasm --every '0 7 * * mon-fri' --zone Europe/Berlin
      makes a schedule; `parole resume --all --watch` runs it")]
pub struct Args {
    /// A WebAssembly component: .wasm, or its text form .wat
    guest: PathBuf,

    /// The call to make instead of `run()`, with arguments in WAVE: `add(2, 3)`, or `acme:math/whole.add(2, 3)` where
    /// several interfaces have an `add`
    #[arg(long, value_name = "CALL", allow_hyphen_values = true)]
    invoke: Option<String>,

    #[command(flatten)]
    policy: PolicyFlags,

    /// Answer each `input` with a line of this file, `-` for stdin
    ///
    /// Approvals, reviews and decisions about calls are never answered this way. At the end of the file the run ends
    /// suspended.
    #[arg(long, value_name = "FILE|-", conflicts_with = "detach")]
    stdin: Option<PathBuf>,

    /// End at the first wait of any kind
    #[arg(long)]
    detach: bool,

    #[command(flatten)]
    state: StateArgs,

    #[command(flatten)]
    when: WhenArgs,

    /// Print one object at the end on stdout, and nothing else there
    #[arg(long)]
    json: bool,

    /// Say nothing but output, questions and errors
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: Args) -> Result<u8> {
    let guest = guest(&args.guest)?;
    let policy = args.policy.load()?;
    if let Some(spec) = args.when.spec()? {
        if args.detach || args.stdin.is_some() {
            return Err(Failure::usage(
                "--detach and --stdin are for a run that is made now, not with --at or --every",
            ));
        }
        let show = Show { json: args.json, quiet: args.quiet };
        let (console, _notes) = Console::new(show);
        let runtime = args.state.open(console.sink(), args.policy.policy.as_deref())?;
        return schedule::plan(&runtime, guest, policy, args.invoke, spec, show);
    }
    let answers = match &args.stdin {
        Some(path) => Answers::Lines(Lines::open(path)?),
        None if output::is_terminal() && !args.detach => Answers::Terminal,
        None => Answers::Nobody,
    };
    let (console, notes) = Console::new(Show { json: args.json, quiet: args.quiet });
    let runtime = args.state.open(console.sink(), args.policy.policy.as_deref())?;
    let wait = if args.detach { Wait::Detach } else { answers.wait() };
    let asker = Asker { guest: guest.name.clone(), component: guest.digest.to_string() };
    block_on(async {
        let mut session = Session {
            runtime: runtime.clone(),
            console,
            notes,
            answers,
            signals: Signals::new()?,
            changes: Changes::of(args.state.dir()?),
            asker: Some(asker),
        };
        let id = ExecutionId::generate();
        let work = runtime.run(guest, policy, RunOptions { id: Some(id), invoke: args.invoke, wait });
        let went = session.drive(id, true, work).await?;
        finish(&mut session, went, args.json).await
    })
}

/// Reads a guest.
pub fn guest(path: &Path) -> Result<Guest> {
    Guest::from_file(path).map_err(|error| match Failure::from(error) {
        failure if failure.kind == Kind::Usage => {
            failure.hint("expected the file of a guest: a component, .wasm or .wat")
        }
        failure => failure,
    })
}

/// Says what a run came to, and gives its exit code.
pub async fn finish(session: &mut Session, went: Driven, json: bool) -> Result<u8> {
    let report = match went {
        Driven::Report(report) | Driven::Stopped(report) => *report,
        Driven::NoMore(id) | Driven::Interrupted(id) => session.left(id).await?,
    };
    if json {
        output::json(&report);
    }
    report::say(&report, &session.console, json);
    Ok(report.exit_code())
}
