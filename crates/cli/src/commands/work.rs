//! `parole work`

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use parole_durable::hub::now;
use parole_durable::store::Release;
use parole_policy::{Retry, Timeout};
use parole_runtime::Listed;
use parole_runtime::promises::ANSWER_MAX;
use parole_runtime::report::{NAME_MAX, TEXT_MAX, cut};
use parole_runtime::work::{Job, Settlement, Worker, pause_ms};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::mpsc;

use crate::fail::{Failure, Result};
use crate::program::{Ended, Program};
use crate::session::{STOP_WITHIN, Signals, block_on};
use crate::state::StateArgs;
use crate::watch::Changes;
use crate::{output, shell, who};

/// Try again later.
const LATER: i32 = 75;
/// The answer is no.
const REJECT: i32 = 65;
/// How often the store is asked whether there is something new.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is asked whether somebody still waits for what is under way.
const LOOK_BACK: Duration = Duration::from_secs(1);
/// How long an attempt that failed is waited after, at most, where no policy says.
const MAX_BACKOFF_MS: u64 = 60_000;

/// Answer the promises of a capability with a program
///
/// For capabilities that a policy defines from WIT (`via = "worker"`). Each promise is taken by one worker, however
/// many there are; the program gets it as one JSON object on stdin. `param.data` holds the arguments, as JSON text by
/// parameter name, and the tag `parole:function` says which function is called. `id` is the same at every attempt: a
/// key for whatever must not be done twice.
///
/// A worker only settles: executions go on by `parole resume`, or by themselves where a process waits.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
The exit code of the program says what comes of the promise:
  0    stdout is the answer: JSON of the function's ok value; nothing, where it has none
  75   later: somebody tries again
  65   no: the guest gets the last line of stderr
  else it did not work: tried again after a pause that grows, then rejected with the last line of
       stderr. Of a function with effect = \"once\" nobody knows then what was done: it is shown as
       `doubt:`, taken by no worker any more, and whoever knows settles it.

A worker that dies loses nothing: its claims are void, and others take the promises; one with
effect = \"once\" is shown as `doubt:` instead.

Examples:
  parole work acme:crm/customers@1.0.0 -- python3 crm.py
  parole work acme:crm/customers --jobs 8 -- ./answer
  parole work acme:crm/customers --drain -- ./answer      what is pending now, then end")]
pub struct Args {
    /// The interface: acme:crm/customers@1.0.0, or without the version
    #[arg(value_name = "CAPABILITY")]
    capability: String,

    /// How many promises are worked on at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,

    /// How often one is tried that fails, where its policy has no `retry`
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    attempts: u32,

    /// How long to wait after the first attempt that fails, and before a `later`; it doubles with each
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = millis)]
    backoff: u64,

    /// End when nothing is pending, instead of waiting for more
    #[arg(long)]
    drain: bool,

    #[command(flatten)]
    state: StateArgs,

    /// Print each promise that is settled as JSON, a line each
    #[arg(long)]
    json: bool,

    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,

    /// The program and its arguments. No shell is involved
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<u8> {
    block_on(async {
        let mut signals = Signals::new()?;
        let runtime = args.state.look()?;
        let worker = runtime.worker(&args.capability)?;
        let (done, finished) = mpsc::unbounded_channel();
        let changes = Changes::of(args.state.dir()?);
        let mut work = Work {
            args,
            worker,
            done,
            finished,
            changes,
            taken: VecDeque::new(),
            running: HashMap::new(),
            looked_back: Instant::now(),
            damaged: HashSet::new(),
            by: who::who(),
        };
        work.notice(&format!("parole: working on {}; Ctrl-C ends it", args.capability));
        let others: Vec<String> = work.worker.others().await?.into_iter().map(|name| cut(name, NAME_MAX)).collect();
        if !others.is_empty() {
            work.notice(&format!(
                "parole: nothing waits for {}; calls wait for {}",
                args.capability,
                others.join(", ")
            ));
        }
        let worked = work.all(&mut signals).await;
        let stopped = work.stop(&mut signals).await;
        worked.and(stopped).map(|()| 0)
    })
}

/// What is under way.
struct Work<'a> {
    args: &'a Args,
    worker: Worker,
    done: mpsc::UnboundedSender<Finished>,
    finished: mpsc::UnboundedReceiver<Finished>,
    changes: Changes,
    /// Taken, and not started yet.
    taken: VecDeque<Job>,
    /// By the id of the promise.
    running: HashMap<String, Running>,
    looked_back: Instant,
    /// What has been said to be damaged.
    damaged: HashSet<String>,
    by: String,
}

/// A job whose program runs.
struct Running {
    job: Job,
    group: Pid,
    /// When, as nobody waits for it any more.
    asked_to_end: Option<Instant>,
}

/// A program that has ended.
struct Finished {
    id: String,
    ended: Ended,
}

impl Work<'_> {
    /// Takes and settles until a signal; with `--drain`, until there is nothing left.
    async fn all(&mut self, signals: &mut Signals) -> Result<()> {
        let mut next = None;
        loop {
            let room = usize::from(self.args.jobs).saturating_sub(self.running.len());
            if room > 0 && (self.changes.seen(next) || self.args.drain || self.running.is_empty()) {
                let taken = self.worker.take(room).await?;
                next = taken.next;
                for doubt in &taken.doubts {
                    self.notice(&format!("parole: {}", what(doubt)));
                    self.notice(&format!(
                        "  a worker ended with it; nobody takes it again. Whoever knows what came of it: {}",
                        shell::command(&format!("promise resolve {}", doubt.record.id.as_str()))
                    ));
                }
                for (id, why) in taken.damaged {
                    if self.damaged.insert(id.as_str().to_owned()) {
                        output::err(&format!("parole: {} is left as it is: {why}", id.as_str()));
                    }
                }
                let idle = taken.jobs.is_empty() && taken.waiting == 0 && self.running.is_empty();
                self.taken.extend(taken.jobs);
                while let Some(job) = self.taken.pop_front() {
                    self.start(job)?;
                }
                if self.args.drain && idle {
                    return Ok(());
                }
            }
            // A signal is heard here and nowhere else: what has been taken is known.
            tokio::select! {
                Some(finished) = self.finished.recv() => {
                    self.settle(finished).await?;
                    // There is room for another one.
                    next = Some(now());
                }
                () = tokio::time::sleep(LOOK) => {}
                () = signals.next() => return Ok(()),
            }
            if self.looked_back.elapsed() >= LOOK_BACK {
                self.looked_back = Instant::now();
                self.end_what_is_settled();
            }
        }
    }

    /// Ends the programs of promises that somebody else has settled, or whose time is over.
    fn end_what_is_settled(&mut self) {
        let Self { running, changes, args, .. } = self;
        for own in running.values_mut().filter(|own| !changes.is_pending(&own.job.promise.record.id)) {
            match own.asked_to_end {
                None => {
                    if !args.quiet {
                        output::err(&format!("parole: {} is not pending any more: ended", what(&own.job.promise)));
                    }
                    let _ = kill_process_group(own.group, Signal::TERM);
                    own.asked_to_end = Some(Instant::now());
                }
                Some(asked) if asked.elapsed() >= STOP_WITHIN => drop(kill_process_group(own.group, Signal::KILL)),
                Some(_) => {}
            }
        }
    }

    /// Starts the program for a promise. What cannot be started is still taken.
    fn start(&mut self, job: Job) -> Result<()> {
        let mut input = serde_json::to_vec(&job.promise).map_err(Failure::internal)?;
        input.push(b'\n');
        let id = job.promise.record.id.as_str().to_owned();
        let (tell, told) = std::sync::mpsc::channel();
        let (command, done, own) = (self.args.command.clone(), self.done.clone(), id.clone());
        // The thread is there before the program is: where it cannot be had, nothing has been done.
        let work = move || {
            let started = Program::start(&command, input, ANSWER_MAX);
            let _ = tell.send(started.as_ref().map(Program::group).map_err(ToString::to_string));
            if let Ok(program) = started {
                // Nobody listens any more when we end.
                let _ = done.send(Finished { id: own, ended: program.wait() });
            }
        };
        let thread = std::thread::Builder::new().name("parole-work".into()).spawn(work);
        let started = thread.map_err(|error| error.to_string()).and_then(|_| told.recv().map_err(|e| e.to_string())?);
        match started {
            Ok(group) => {
                self.running.insert(id, Running { job, group, asked_to_end: None });
                Ok(())
            }
            Err(error) => {
                self.taken.push_front(job);
                let program = self.args.command.first().map(|program| program.to_string_lossy()).unwrap_or_default();
                Err(Failure::usage(format!("{program} cannot be started: {error}")))
            }
        }
    }

    /// Does with a promise what its program says.
    async fn settle(&mut self, Finished { id, mut ended }: Finished) -> Result<()> {
        let Some(Running { job, asked_to_end, .. }) = self.running.remove(&id) else { return Ok(()) };
        let status = ended.status();
        if asked_to_end.is_some() {
            return Ok(());
        }
        let Ended { stdout, stderr, .. } = ended;
        let what = what(&job.promise);
        let reason = last_line(&stderr);
        let status = match status {
            Ok(status) => status,
            Err(error) => return self.failed(&job, &format!("it cannot be waited for: {error}")).await,
        };
        match status.code() {
            Some(0) => {
                let answer = match answer(stdout) {
                    Ok(answer) => answer,
                    Err(why) => return self.failed(&job, &why).await,
                };
                match self.worker.resolve(&job, &answer, &self.by).await? {
                    Settlement::Unfit(expected) => {
                        self.failed(&job, &format!("its stdout is no answer: {expected}")).await
                    }
                    settlement => {
                        self.say(&job, &what, "resolved", &settlement);
                        Ok(())
                    }
                }
            }
            Some(REJECT) => {
                // Whole: it may be the JSON of an error that the function has.
                let reason = reason.unwrap_or_else(|| "rejected".to_owned());
                let settlement = self.worker.reject(&job, &reason, &self.by).await?;
                self.say(&job, &what, &cut(format!("rejected: {reason}"), TEXT_MAX), &settlement);
                Ok(())
            }
            Some(LATER) => {
                self.notice(&format!("parole: {what} is tried again later"));
                Ok(self.worker.give_back(&job, Release::Later, now().saturating_add(self.args.backoff)).await?)
            }
            code => {
                let how = match (code, status.signal()) {
                    (Some(code), _) => format!("exit {code}"),
                    (None, signal) => format!("ended by signal {}", signal.unwrap_or_default()),
                };
                let reason = reason.map_or(how.clone(), |reason| format!("{how}: {reason}"));
                self.failed(&job, &reason).await
            }
        }
    }

    /// An attempt did not work.
    async fn failed(&self, job: &Job, why: &str) -> Result<()> {
        let (what, why) = (what(&job.promise), &*cut(why, TEXT_MAX));
        if job.once {
            self.worker.give_back(job, Release::Doubt, 0).await?;
            output::err(&format!("parole: {what} failed, {why}"));
            let resolve = shell::command(&format!("promise resolve {}", job.promise.record.id.as_str()));
            output::err(&format!("  it may or may not have happened, and is not done again. Whoever knows: {resolve}"));
            return Ok(());
        }
        let retry = job.retry.unwrap_or(Retry {
            attempts: self.args.attempts,
            backoff_ms: self.args.backoff,
            max_backoff_ms: self.args.backoff.max(MAX_BACKOFF_MS),
            jitter: false,
        });
        let attempts = job.failed + 1;
        if attempts >= u64::from(retry.attempts) {
            let settlement = self.worker.reject(job, why, &self.by).await?;
            self.say(job, &what, &format!("failed {attempts} times and is rejected: {why}"), &settlement);
            return Ok(());
        }
        let pause = pause_ms(&retry, attempts);
        output::err(&format!("parole: {what} failed, {why}; tried again in {}", Timeout::After(pause)));
        Ok(self.worker.give_back(job, Release::Failed, now().saturating_add(pause)).await?)
    }

    /// What was not started is given back. What is under way is waited for; then, or at a second signal, it is ended, and
    /// given back. An error keeps nothing of that from happening.
    async fn stop(&mut self, signals: &mut Signals) -> Result<()> {
        let mut stopped = Ok(());
        while let Some(job) = self.taken.pop_front() {
            stopped = stopped.and(self.worker.give_back(&job, Release::Later, 0).await);
        }
        let mut stopped = stopped.map_err(Failure::from);
        if !self.running.is_empty() {
            self.notice("parole: waiting for what is under way; Ctrl-C again ends it");
        }
        let mut within = std::pin::pin!(tokio::time::sleep(STOP_WITHIN));
        while !self.running.is_empty() {
            tokio::select! {
                Some(finished) = self.finished.recv() => stopped = stopped.and(self.settle(finished).await),
                () = within.as_mut() => break,
                () = signals.next() => break,
            }
        }
        for Running { job, group, .. } in std::mem::take(&mut self.running).into_values() {
            let _ = kill_process_group(group, Signal::KILL);
            let how = if job.once { Release::Doubt } else { Release::Later };
            stopped = stopped.and(self.worker.give_back(&job, how, 0).await.map_err(Failure::from));
        }
        stopped
    }

    fn say(&self, job: &Job, what: &str, how: &str, settlement: &Settlement) {
        match settlement {
            Settlement::Done => self.notice(&format!("parole: {what} {how}")),
            Settlement::Stands(state) => {
                output::err(&format!("parole: {what}: the answer came too late, it is {state:?} by now"));
            }
            Settlement::Lost | Settlement::Unfit(_) => {
                output::err(&format!("parole: {what}: another worker has it by now"));
            }
        }
        if self.args.json && matches!(settlement, Settlement::Done) {
            output::json(&serde_json::json!({ "id": job.promise.record.id.as_str(), "settled": how }));
        }
    }

    fn notice(&self, text: &str) {
        if !self.args.quiet {
            output::err(text);
        }
    }
}

/// What a program answers: nothing is `null`.
fn answer(stdout: Vec<u8>) -> std::result::Result<String, String> {
    if stdout.len() > ANSWER_MAX {
        return Err(format!("its stdout is longer than {ANSWER_MAX} bytes"));
    }
    let text = crate::texts::utf8(stdout, "its stdout")?;
    Ok(if text.trim().is_empty() { "null".to_owned() } else { text })
}

/// A span of time, in milliseconds.
fn millis(text: &str) -> std::result::Result<u64, String> {
    let span: Timeout = text.parse().map_err(|_| "expected a duration, such as 500ms or 2s".to_owned())?;
    span.as_millis().ok_or_else(|| "it has to end".to_owned())
}

/// What a promise asks, for one line: arguments are as long as a guest makes them.
fn what(promise: &Listed) -> String {
    cut(promise.summary(), NAME_MAX)
}

fn last_line(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_says_something_counts() {
        assert_eq!(last_line(b"Traceback\nValueError: no\n\n  \n").as_deref(), Some("ValueError: no"));
        assert_eq!(last_line(b" \n"), None);
    }

    #[test]
    fn nothing_is_null() {
        assert_eq!(answer(b" \n".to_vec()).as_deref(), Ok("null"));
        assert!(answer(vec![b'1'; ANSWER_MAX + 1]).unwrap_err().contains("longer than"));
        assert!(answer(b"\xff".to_vec()).unwrap_err().contains("not UTF-8"));
    }
}
