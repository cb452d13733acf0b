//! `parole resume`

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;

use parole_runtime::{Error, ExecutionId, Report, ResumeOptions, Wait};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::console::{Console, Show};
use crate::fail::{Failure, Kind, Result};
use crate::lines::Lines;
use crate::session::{Answers, Driven, STOP_WITHIN, Session, Signals, TICK, block_on};
use crate::state::{StateArgs, execution};
use crate::supervisor::{Line, Service};
use crate::watch::Changes;
use crate::watcher::{Watcher, damaged, fire};
use crate::{output, report, shell};

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
Several executions go on side by side where you are asked nothing; each is reported as it ends,
the exit code is the worst of theirs, and --json prints an array. With --watch, --json prints one
object for each execution that ends or waits again, a line each.

--watch runs the guests in a child process and starts it again when it falls. An execution that
fells it three times by SIGSEGV, SIGBUS, SIGILL or SIGABRT without coming further, the last time
alone, is set aside as `trapped`.

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

    /// Be the worker of the supervisor that is this process; 0: there is none
    #[arg(long, value_name = "PID", requires = "watch", hide = true)]
    worker: Option<u32>,

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
    if args.watch && args.worker.is_none() {
        return service(&args)?.run();
    }
    let answers = match &args.stdin {
        Some(path) => Answers::Lines(Lines::open(path)?),
        None if output::is_terminal() && !args.all => Answers::Terminal,
        None => Answers::Nobody,
    };
    let (console, notes) = Console::new(Show { json: args.json, quiet: args.quiet });
    block_on(async {
        // First of all: a worker ends with its supervisor.
        let line = args.watch.then(|| Line::of(args.worker.unwrap_or(0))).transpose()?;
        let signals = Signals::new()?;
        let runtime = args.state.open(console.sink(), None)?;
        let changes = Changes::of(args.state.dir()?);
        let mut session = Session { runtime, console, notes, answers, signals, changes, asker: None };
        if let Some(mut line) = line {
            line.up(session.runtime.owner()?).await?;
            if args.worker == Some(0) {
                session.console.notice("parole: watching; Ctrl-C ends it");
            }
            Watcher::new(args.pinned, args.json).run(&mut session, &mut line).await
        } else {
            all(&mut session, &args).await
        }
    })
}

/// The words of the worker.
fn service(args: &Args) -> Result<Service> {
    let state = args.state.dir()?;
    let mut words: Vec<OsString> = ["resume", "--all", "--watch"].map(OsString::from).into();
    // As it was said: what is printed to be typed says it again.
    if let Some(state) = &args.state.state {
        words.extend(["--state".into(), state.clone().into()]);
    }
    for (is, word) in [(args.pinned, "--pinned"), (args.json, "--json"), (args.quiet, "--quiet")] {
        words.extend(is.then(|| OsString::from(word)));
    }
    Ok(Service { words, state, quiet: args.quiet })
}

/// What came of the executions so far.
struct Results {
    /// Whether one was named: then its report stands alone.
    single: bool,
    json: bool,
    worst: u8,
    objects: HashMap<ExecutionId, Value>,
}

impl Results {
    /// Says what came of one.
    fn take(&mut self, id: ExecutionId, resumed: Result<Report>, session: &Session, several: bool) -> Result<()> {
        let code = match resumed {
            Ok(report) => {
                if self.single && self.json {
                    output::json(&report);
                } else if self.json {
                    self.objects.insert(id, json!(report));
                }
                if several && report.exit_code() != 0 {
                    session.console.notice(&format!("parole: {id}:"));
                }
                report::say(&report, &session.console, self.json);
                report.exit_code()
            }
            Err(failure) if self.single => return Err(failure),
            Err(failure) => {
                self.objects.insert(id, failed(id, &failure));
                output::err(&format!("parole: {id}:"));
                failure.report(false)
            }
        };
        self.worst = worse(self.worst, code);
        Ok(())
    }
}

/// Goes on with what was named, or with whatever is ready.
async fn all(session: &mut Session, args: &Args) -> Result<u8> {
    // Those that were running in a worker that fell come last, and each alone.
    let mut damage = BTreeSet::new();
    let (ids, suspects) = if args.all {
        fire(session).await?;
        let standing = session.runtime.standing().await?;
        damage = standing.damaged;
        (standing.ready, standing.suspects.into_iter().map(|(id, _)| id).collect())
    } else {
        (args.executions.clone(), Vec::new())
    };
    if ids.is_empty() && suspects.is_empty() && damage.is_empty() {
        let list = shell::command("ps");
        session.console.notice(&format!("parole: nothing is ready to go on (`{list}` says what waits for what)"));
    }
    let single = args.executions.len() == 1;
    let mut results = Results { single, json: args.json, worst: 0, objects: HashMap::new() };
    // The others go on.
    let mut broken = Vec::new();
    for (id, what) in damage {
        let failure = Failure::new(Kind::NotResumed, damaged(id, &what));
        results.worst = worse(results.worst, failure.report(false));
        broken.push(id.map_or_else(|| failure.to_json(), |id| failed(id, &failure)));
    }
    let one_by_one = if ids.len() > 1 && matches!(session.answers, Answers::Nobody) {
        let interrupted = side_by_side(session, &ids, args.pinned, &mut results).await?;
        if interrupted { &[] } else { suspects.as_slice() }
    } else {
        &[ids.as_slice(), suspects.as_slice()].concat()
    };
    for id in one_by_one {
        let (resumed, interrupted) = one(session, *id, args.pinned).await;
        results.take(*id, resumed, session, false)?;
        if interrupted {
            break;
        }
    }
    if args.json && !single {
        let objects = &mut results.objects;
        let all = ids.iter().chain(&suspects).filter_map(|id| objects.remove(id));
        output::json(&all.chain(broken).collect::<Vec<_>>());
    }
    Ok(results.worst)
}

/// All at once: what one waits for holds up no other. How many run at once is the library's to say. Gives whether they
/// were left because of a signal.
async fn side_by_side(session: &mut Session, ids: &[ExecutionId], pinned: bool, results: &mut Results) -> Result<bool> {
    let mut running: JoinSet<(ExecutionId, std::result::Result<Report, Error>)> = JoinSet::new();
    let mut left: HashSet<ExecutionId> = ids.iter().copied().collect();
    for id in left.iter().copied() {
        let runtime = session.runtime.clone();
        running.spawn(async move { (id, runtime.resume(id, ResumeOptions { wait: Wait::Work, pinned }).await) });
    }
    let mut tick = tokio::time::interval(TICK);
    let runtime = session.runtime.clone();
    let mut shutdown = std::pin::pin!(runtime.shutdown(STOP_WITHIN));
    let (mut stopping, mut stopped) = (false, false);
    loop {
        // What was shown is noted by the end of the runtime, and shown again if it is not.
        if running.is_empty() && stopping == stopped {
            return Ok(stopping);
        }
        tokio::select! {
            biased;
            () = session.signals.next() => {
                if stopping {
                    break;
                }
                session.console.notice("parole: interrupted: the guests do not run on");
                stopping = true;
            }
            Some(_) = session.notes.recv() => {}
            Some(ended) = running.join_next() => {
                let (id, resumed) = ended.map_err(Failure::internal)?;
                left.remove(&id);
                let resumed = match resumed {
                    Err(_) if stopping => session.left(Some(id)).await,
                    resumed => resumed.map_err(Failure::from),
                };
                results.take(id, resumed, session, true)?;
            }
            _ = &mut shutdown, if stopping && !stopped => stopped = true,
            _ = tick.tick() => session.console.tick(),
        }
    }
    // Whatever they do until this process ends is neither shown nor noted as shown.
    session.console.stop();
    for id in ids.iter().filter(|id| left.contains(id)) {
        let resumed = session.left(Some(*id)).await;
        results.take(*id, resumed, session, true)?;
    }
    Ok(true)
}

/// Resumes one execution. Says as well whether it was left because of a signal.
async fn one(session: &mut Session, id: ExecutionId, pinned: bool) -> (Result<Report>, bool) {
    let options = ResumeOptions { wait: session.answers.wait(), pinned };
    let runtime = session.runtime.clone();
    match session.drive(id, false, runtime.resume(id, options)).await {
        Ok(Driven::Report(report)) => (Ok(*report), false),
        Ok(Driven::NoMore(id)) => (session.left(id).await, false),
        Ok(Driven::Interrupted(id)) => (session.left(id).await, true),
        Ok(Driven::Stopped(report)) => (Ok(*report), true),
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
