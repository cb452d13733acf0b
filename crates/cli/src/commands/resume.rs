//! `parole resume`

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parole_durable::hub::now;
use parole_durable::ids::UnixMs;
use parole_runtime::schedules::MISSED_MAX;
use parole_runtime::{Error, ExecutionId, Report, ResumeOptions, Runtime, Wait};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::console::{Console, Show};
use crate::fail::{Failure, Result};
use crate::lines::Lines;
use crate::session::{Answers, Session, Signals, Went, block_on};
use crate::state::{self, StateArgs, execution};
use crate::watch::Changes;
use crate::{output, report, times};

/// How soon a change by another process is seen.
const WATCH: Duration = Duration::from_millis(25);
/// How soon a change of a schedule by another process is seen.
const PLAN: Duration = Duration::from_millis(250);
/// When an execution that could not be resumed is tried again: another process may have held it.
const AGAIN: Duration = Duration::from_secs(2);

/// Go on with suspended executions
///
/// What is recorded is replayed, not done again: nothing is asked twice, and only new output is
/// printed. An execution that has ended repeats its outcome and its exit code.
///
/// At a terminal you are asked what the guest asks next, as in `parole run`.
///
/// With --all the schedules that are due make their executions first (`parole schedules` lists them), and
/// with --watch each does when its time comes. However many processes watch, each time runs once.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
With several executions they go on one after the other; the exit code is the worst of theirs, and
--json prints an array. With --watch, --json prints one object for each execution that ends or
waits again, a line each.

Examples:
  parole resume 01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44
  parole resume --all                    whatever is ready now
  parole resume --all --watch            a service: whatever becomes ready or due, until Ctrl-C
  parole resume --pinned EXECUTION       the stored component, though the file holds another one by now")]
pub struct Args {
    /// The executions to go on with
    #[arg(value_name = "EXECUTION", value_parser = execution, required_unless_present = "all", conflicts_with = "all")]
    executions: Vec<ExecutionId>,

    /// Every execution that is ready: not ended, not running, and with nothing to wait for
    #[arg(long)]
    all: bool,

    /// Stay, and resume whatever becomes ready, until Ctrl-C or SIGTERM
    #[arg(long, requires = "all", conflicts_with = "stdin")]
    watch: bool,

    /// Run the component that is stored, not the file that it came from
    #[arg(long)]
    pinned: bool,

    /// Answer each `input` with a line of this file, `-` for stdin
    #[arg(long, value_name = "FILE|-")]
    stdin: Option<PathBuf>,

    #[command(flatten)]
    state: StateArgs,

    /// Print reports as JSON on stdout, and nothing else there
    #[arg(long)]
    json: bool,

    /// Say nothing but output, questions and errors
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: Args) -> Result<u8> {
    let answers = match &args.stdin {
        Some(path) => Answers::Lines(Lines::open(path)?),
        None if output::is_terminal() && !args.all => Answers::Terminal,
        None => Answers::Nobody,
    };
    let (console, notes) = Console::new(Show { json: args.json, quiet: args.quiet });
    let runtime = args.state.open(console.sink(), None)?;
    block_on(async {
        let mut session = Session {
            runtime,
            console,
            notes,
            answers,
            signals: Signals::new()?,
            changes: Changes::of(args.state.dir()?),
            asker: None,
        };
        if args.watch { watch(&mut session, &args).await } else { each(&mut session, &args).await }
    })
}

/// Makes the executions of the schedules that are due, and says so. Gives whether there were any.
async fn fire(session: &Session) -> Result<bool> {
    let all = session.runtime.fire_due().await?;
    for fired in &all {
        let missed = match fired.missed {
            0 => String::new(),
            1 => ", one time of it was missed".into(),
            count if count >= MISSED_MAX => format!(", {count} or more of its times were missed"),
            count => format!(", {count} of its times were missed"),
        };
        let what = fired.execution.map_or_else(|| "skips".into(), |execution| format!("makes execution {execution}"));
        let next = fired.next_at.map_or_else(|| "never again".into(), times::point);
        session.console.notice(&format!("parole: schedule {} {what}{missed}; next: {next}", fired.schedule));
    }
    Ok(!all.is_empty())
}

/// When the next schedule is due, as far as it has been looked at.
#[derive(Default)]
struct Plan {
    next: Option<UnixMs>,
    looked: Option<Instant>,
}

impl Plan {
    /// Whether something is due. What other processes have changed is seen after a while: every commit to the
    /// store may be such a change, and most are none.
    fn is_due(&mut self, changed: &mut bool, runtime: &Runtime) -> Result<bool> {
        if self.looked.is_none() || (*changed && self.looked.is_some_and(|looked| looked.elapsed() >= PLAN)) {
            self.next = runtime.next_due()?;
            self.looked = Some(Instant::now());
            *changed = false;
        }
        Ok(self.next.is_some_and(|next| next <= now()))
    }

    /// Looks again at once.
    fn again(&mut self) {
        self.looked = None;
    }
}

/// One after the other.
async fn each(session: &mut Session, args: &Args) -> Result<u8> {
    let ids = if args.all {
        fire(session).await?;
        session.runtime.ready()?
    } else {
        args.executions.clone()
    };
    if ids.is_empty() {
        let list = state::command("ps");
        session.console.notice(&format!("parole: nothing is ready to go on (`{list}` says what waits for what)"));
    }
    let single = args.executions.len() == 1;
    let (mut worst, mut objects) = (0, Vec::new());
    for id in ids {
        let (resumed, interrupted) = one(session, id, args.pinned).await;
        let code = match resumed {
            Ok(report) => {
                if single && args.json {
                    output::json(&report);
                } else if args.json {
                    objects.push(json!(report));
                }
                report::say(&report, &session.console, args.json);
                report.exit_code()
            }
            Err(failure) if single => return Err(failure),
            Err(failure) => {
                objects.push(failed(id, &failure));
                output::err(&format!("parole: {id}:"));
                failure.report(false)
            }
        };
        worst = worse(worst, code);
        if interrupted {
            break;
        }
    }
    if args.json && !single {
        output::json(&objects);
    }
    Ok(worst)
}

/// Resumes one execution. Says as well whether it was left because of a signal.
async fn one(session: &mut Session, id: ExecutionId, pinned: bool) -> (Result<Report>, bool) {
    let options = ResumeOptions { wait: session.answers.wait(), pinned };
    let runtime = session.runtime.clone();
    match session.drive(id, false, runtime.resume(id, options)).await {
        Ok(Went::Report(report)) => (Ok(*report), false),
        Ok(Went::NoMore(id)) => (session.left(id).await, false),
        Ok(Went::Interrupted(id)) => (session.left(id).await, true),
        Err(failure) => (Err(failure), false),
    }
}

/// Suspended is worse than completed, and everything else is worse than suspended.
fn worse(one: u8, other: u8) -> u8 {
    const SUSPENDED: u8 = 75;
    let rank = |code: u8| match code {
        0 => 0,
        SUSPENDED => 1,
        code => 1 + u16::from(code),
    };
    if rank(other) > rank(one) { other } else { one }
}

fn failed(id: ExecutionId, failure: &Failure) -> Value {
    let mut object = failure.to_json();
    if let Some(object) = object.as_object_mut() {
        object.insert("execution".into(), id.to_string().into());
    }
    object
}

/// Resumes whatever becomes ready, each as soon as it is.
async fn watch(session: &mut Session, args: &Args) -> Result<u8> {
    session.console.notice("parole: watching; Ctrl-C ends it");
    let mut running: JoinSet<(ExecutionId, std::result::Result<Report, Error>)> = JoinSet::new();
    let mut busy: HashMap<ExecutionId, Option<Instant>> = HashMap::new();
    let mut look = tokio::time::interval(WATCH);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut plan, mut replan) = (Plan::default(), true);
    let mut retry = false;
    // What could not be resumed, and why.
    let mut told_of: HashMap<ExecutionId, String> = HashMap::new();
    loop {
        tokio::select! {
            biased;
            () = session.signals.next() => {
                session.console.stop();
                return Ok(0);
            }
            Some(_) = session.notes.recv() => {}
            Some(ended) = running.join_next() => {
                let (id, result) = ended.map_err(Failure::internal)?;
                busy.insert(id, None);
                retry = true;
                match result {
                    Ok(report) => {
                        busy.remove(&id);
                        told_of.remove(&id);
                        told(&report, session, args.json);
                    }
                    // Once is enough: it is tried again in silence. The fault of one is not the end of all.
                    Err(error) => {
                        let message = Failure::from(error).message;
                        if told_of.get(&id) != Some(&message) {
                            session.console.notice(&format!("parole: {id}: {message}"));
                            told_of.insert(id, message);
                        }
                        busy.insert(id, Some(Instant::now()));
                    }
                }
            }
            _ = look.tick() => {
                session.console.tick();
                let deadline = session.changes.next_deadline();
                let due = busy.values().flatten().any(|since| since.elapsed() >= AGAIN);
                let changed = session.changes.seen(deadline);
                replan |= changed;
                if plan.is_due(&mut replan, &session.runtime)? {
                    retry |= fire(session).await?;
                    plan.again();
                }
                if !changed && !retry && !due {
                    continue;
                }
                retry = false;
                busy.retain(|_, since| since.is_none_or(|since| since.elapsed() < AGAIN));
                for id in session.runtime.ready()? {
                    if busy.contains_key(&id) {
                        continue;
                    }
                    busy.insert(id, None);
                    if !told_of.contains_key(&id) {
                        session.console.notice(&format!("parole: {id} goes on"));
                    }
                    let (runtime, pinned) = (session.runtime.clone(), args.pinned);
                    running.spawn(async move {
                        (id, runtime.resume(id, ResumeOptions { wait: Wait::Work, pinned }).await)
                    });
                }
            }
        }
    }
}

/// One line for each change.
fn told(report: &Report, session: &Session, json: bool) {
    if json {
        output::json(report);
    }
    let waits: Vec<&str> = report.pending.iter().map(|pending| pending.id.as_str()).collect();
    let why = match (&report.error, waits.is_empty()) {
        (Some(error), _) => format!(": {}", crate::table::cut(error)),
        (None, false) => format!(", waits for {}", waits.join(", ")),
        (None, true) => String::new(),
    };
    session.console.notice(&format!("parole: {} {}{}", report.execution, report.outcome.as_str(), output::cell(&why)));
}
