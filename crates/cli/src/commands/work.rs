//! `parole work`

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use parole_durable::hub::now;
use parole_durable::store::Release;
use parole_policy::{Retry, Timeout};
use parole_runtime::promises::ANSWER_MAX;
use parole_runtime::work::{Job, Settlement, Worker};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::mpsc;

use crate::fail::{Failure, Result};
use crate::session::{STOP_WITHIN, Signals, block_on};
use crate::state::StateArgs;
use crate::watch::Changes;
use crate::{output, shell, who};

/// Try again later.
const LATER: i32 = 75;
/// The answer is no.
const REJECT: i32 = 65;
/// The most of stderr of a command that is kept, its last bytes.
const STDERR_MAX: u64 = 64 << 10;
/// How often the store is asked whether there is something new.
const LOOK: Duration = Duration::from_millis(50);
/// How long an attempt that failed is waited after, at first and at most, where no policy says.
const BACKOFF_MS: u64 = 1_000;
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
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    backoff: Timeout,

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
        let mut work = Work { args, worker, done, finished, changes, running: HashMap::new(), by: who::who() };
        work.notice(&format!("parole: working on {}; Ctrl-C ends it", args.capability));
        let ended = tokio::select! {
            ended = work.all() => Some(ended),
            () = signals.next() => None,
        };
        match ended {
            Some(ended) => ended.map(|()| 0),
            None => work.stop(&mut signals).await.map(|()| 0),
        }
    })
}

/// What is under way.
struct Work<'a> {
    args: &'a Args,
    worker: Worker,
    done: mpsc::UnboundedSender<Finished>,
    finished: mpsc::UnboundedReceiver<Finished>,
    changes: Changes,
    /// By the id of the promise: the job, and the process group of its command.
    running: HashMap<String, (Job, Pid)>,
    by: String,
}

/// A command that has ended.
struct Finished {
    id: String,
    status: std::io::Result<ExitStatus>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Work<'_> {
    /// Takes and settles until there is nothing left; without `--drain`, for ever.
    async fn all(&mut self) -> Result<()> {
        let mut next = None;
        loop {
            let room = usize::from(self.args.jobs).saturating_sub(self.running.len());
            if room > 0 && (self.changes.seen(next) || self.args.drain || self.running.is_empty()) {
                let taken = self.worker.take(room).await?;
                next = taken.next;
                for doubt in &taken.doubts {
                    self.notice(&format!("parole: {}", doubt.summary()));
                    self.notice(&format!(
                        "  a worker ended with it; nobody takes it again. Whoever knows what came of it: {}",
                        shell::command(&format!("promise resolve {}", doubt.record.id.as_str()))
                    ));
                }
                let idle = taken.jobs.is_empty() && taken.waiting == 0 && self.running.is_empty();
                for job in taken.jobs {
                    self.start(job).await?;
                }
                if self.args.drain && idle {
                    return Ok(());
                }
            }
            let finished = tokio::time::timeout(LOOK, self.finished.recv()).await;
            if let Ok(Some(finished)) = finished {
                self.settle(finished).await?;
                // There is room for another one.
                next = Some(now());
            }
        }
    }

    /// Starts the command for a promise. What cannot be started is given back as it was.
    async fn start(&mut self, job: Job) -> Result<()> {
        let id = job.promise.record.id.as_str().to_owned();
        let input = serde_json::to_vec(&job.promise).map_err(Failure::internal)?;
        let (program, arguments) = self.args.command.split_first().ok_or_else(|| Failure::usage("no command"))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for us: what is under way is waited for.
        command.process_group(0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                self.worker.give_back(&job, Release::Later, 0).await?;
                let program = program.to_string_lossy();
                return Err(Failure::usage(format!("{program} cannot be started: {error}")));
            }
        };
        let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
            return Err(Failure::internal("a process without an id"));
        };
        self.running.insert(id.clone(), (job, group));
        let done = self.done.clone();
        let work = move || {
            let (status, stdout, stderr) = finish(&mut child, &input);
            // Nobody listens any more when we end.
            let _ = done.send(Finished { id, status, stdout, stderr });
        };
        std::thread::Builder::new().name("parole-work".into()).spawn(work).map_err(Failure::internal)?;
        Ok(())
    }

    /// Does with a promise what its command says.
    async fn settle(&mut self, finished: Finished) -> Result<()> {
        let Some((job, _)) = self.running.remove(&finished.id) else { return Ok(()) };
        let what = job.promise.summary();
        let reason = last_line(&finished.stderr);
        let status = match finished.status {
            Ok(status) => status,
            Err(error) => return self.failed(&job, &format!("it cannot be waited for: {error}")).await,
        };
        match status.code() {
            Some(0) => {
                let answer = match answer(finished.stdout) {
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
                let reason = reason.unwrap_or_else(|| "rejected".to_owned());
                let settlement = self.worker.reject(&job, &reason, &self.by).await?;
                self.say(&job, &what, &format!("rejected: {reason}"), &settlement);
                Ok(())
            }
            Some(LATER) => {
                self.notice(&format!("parole: {what} is tried again later"));
                let pause = self.args.backoff.as_millis().unwrap_or(BACKOFF_MS);
                Ok(self.worker.give_back(&job, Release::Later, now().saturating_add(pause)).await?)
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
        let what = job.promise.summary();
        if job.once {
            self.worker.give_back(job, Release::Doubt, 0).await?;
            output::err(&format!("parole: {what} failed, {why}"));
            let resolve = shell::command(&format!("promise resolve {}", job.promise.record.id.as_str()));
            output::err(&format!("  it may or may not have happened, and is not done again. Whoever knows: {resolve}"));
            return Ok(());
        }
        let retry = job.retry.unwrap_or(Retry {
            attempts: self.args.attempts,
            backoff_ms: self.args.backoff.as_millis().unwrap_or(BACKOFF_MS),
            max_backoff_ms: MAX_BACKOFF_MS,
            ..Retry::default()
        });
        let attempts = job.failed + 1;
        if attempts >= u64::from(retry.attempts) {
            let settlement = self.worker.reject(job, why, &self.by).await?;
            self.say(job, &what, &format!("failed {attempts} times and is rejected: {why}"), &settlement);
            return Ok(());
        }
        let doubled = u32::try_from(job.failed).ok().and_then(|failed| retry.backoff_ms.checked_shl(failed));
        let pause = doubled.unwrap_or(u64::MAX).clamp(retry.backoff_ms, retry.max_backoff_ms.max(retry.backoff_ms));
        output::err(&format!("parole: {what} failed, {why}; tried again in {}", Timeout::After(pause)));
        Ok(self.worker.give_back(job, Release::Failed, now().saturating_add(pause)).await?)
    }

    /// What is under way is waited for; then, or at a second signal, it is ended, and given back.
    async fn stop(&mut self, signals: &mut Signals) -> Result<()> {
        if !self.running.is_empty() {
            self.notice("parole: waiting for what is under way; Ctrl-C again ends it");
        }
        let mut within = std::pin::pin!(tokio::time::sleep(STOP_WITHIN));
        while !self.running.is_empty() {
            tokio::select! {
                Some(finished) = self.finished.recv() => self.settle(finished).await?,
                () = within.as_mut() => break,
                () = signals.next() => break,
            }
        }
        for (job, group) in std::mem::take(&mut self.running).into_values() {
            let _ = kill_process_group(group, Signal::KILL);
            let how = if job.once { Release::Doubt } else { Release::Later };
            self.worker.give_back(&job, how, 0).await?;
        }
        Ok(())
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

/// Gives a command its input and takes what it puts out. The one that says most is cut off, not waited for.
fn finish(child: &mut Child, input: &[u8]) -> (std::io::Result<ExitStatus>, Vec<u8>, Vec<u8>) {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A command that does not read its input has ended, or knows what it does.
            let _ = stdin.map(|mut stdin| stdin.write_all(input).and_then(|()| stdin.write_all(b"\n")));
        });
        let stderr = scope.spawn(move || {
            let mut kept = Vec::new();
            let _ = stderr.map(|mut stderr| keep_last(&mut stderr, &mut kept));
            kept
        });
        let mut answer = Vec::new();
        let _ = stdout.map(|stdout| {
            // One past the most that an answer may have, so that it shows.
            let mut stdout = stdout.take(ANSWER_MAX as u64 + 1);
            let read = stdout.read_to_end(&mut answer);
            std::io::copy(&mut stdout.into_inner(), &mut std::io::sink()).and(read.map(|_| 0))
        });
        let status = child.wait();
        (status, answer, stderr.join().unwrap_or_default())
    })
}

/// The last bytes of what a command says.
fn keep_last(from: &mut impl std::io::Read, kept: &mut Vec<u8>) -> std::io::Result<()> {
    let mut piece = [0; 8192];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            read => {
                kept.extend_from_slice(&piece[..read]);
                let most = usize::try_from(STDERR_MAX).unwrap_or(usize::MAX);
                let over = kept.len().saturating_sub(most);
                kept.drain(..over);
            }
        }
    }
}

/// What a command answers: nothing is `null`.
fn answer(stdout: Vec<u8>) -> std::result::Result<String, String> {
    if stdout.len() > ANSWER_MAX {
        return Err(format!("its stdout is longer than {ANSWER_MAX} bytes"));
    }
    let text = crate::texts::utf8(stdout, "its stdout")?;
    Ok(if text.trim().is_empty() { "null".to_owned() } else { text })
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
    fn of_stderr_the_end_is_kept() {
        let mut kept = Vec::new();
        let long = vec![b'x'; 200_000];
        keep_last(&mut &*[long.as_slice(), b"end"].concat(), &mut kept).unwrap();
        assert_eq!((kept.len() as u64, kept.ends_with(b"xend")), (STDERR_MAX, true));
    }

    #[test]
    fn nothing_is_null() {
        assert_eq!(answer(b" \n".to_vec()).as_deref(), Ok("null"));
        assert!(answer(vec![b'1'; ANSWER_MAX + 1]).unwrap_err().contains("longer than"));
        assert!(answer(b"\xff".to_vec()).unwrap_err().contains("not UTF-8"));
    }
}
