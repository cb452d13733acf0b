//! Drives a run or a resume while it listens: for signals, for a person at the terminal, for
//! lines of a file, and for settlements by other processes.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use parole_durable::{ExecutionId, PromiseRecord, PromiseState};
use parole_policy::{Kind as CapabilityKind, Type};
use parole_runtime::{CATALOGUE, Error, Report, Runtime, Wait, question};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::ask::{self, Asker, Asking, Prompt, Reply};
use crate::console::{Console, Note};
use crate::fail::{Failure, Kind, Result};
use crate::lines::{Line, Lines};
use crate::watch::Changes;
use crate::{output, who};

/// How often progress is shown, and how soon a settlement elsewhere withdraws a question.
pub const TICK: Duration = Duration::from_millis(40);

/// Who answers the promises of persons.
pub enum Answers {
    /// Nobody here: the run ends suspended.
    Nobody,
    /// Each `input` gets a line; nothing else is ever answered from a pipe.
    Lines(Lines),
    /// The person at the terminal.
    Terminal,
}

impl Answers {
    /// How far a run goes by itself.
    pub fn wait(&self) -> Wait {
        match self {
            Answers::Nobody => Wait::Work,
            Answers::Lines(_) | Answers::Terminal => Wait::All,
        }
    }
}

/// How a run came to its end, or was left.
pub enum Driven {
    /// It ended, or waits for what nobody here answers.
    Report(Box<Report>),
    /// There are no more answers: Ctrl-D, or the end of the lines.
    NoMore(Option<ExecutionId>),
    /// It was left because of a signal, in order: what it has come to.
    Stopped(Box<Report>),
    /// A signal came while it could not be left in order. The guest may be computing still: whoever gets this ends
    /// the process.
    Interrupted(Option<ExecutionId>),
}

/// What a word needs to drive executions.
pub struct Session {
    pub runtime: Runtime,
    pub console: Arc<Console>,
    pub notes: UnboundedReceiver<Note>,
    pub answers: Answers,
    pub signals: Signals,
    pub changes: Changes,
    /// Who asks, where that is known from the start.
    pub asker: Option<Asker>,
}

/// How long a call that is under way and may not be repeated is waited for after the first signal. Whoever stops
/// services often kills them after ten seconds.
pub const STOP_WITHIN: Duration = Duration::from_secs(8);

/// Ctrl-C, SIGTERM, and SIGHUP: the terminal is gone.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Not of a program that was started to outlive its terminal (`nohup`).
    hang_up: Option<Signal>,
}

impl Signals {
    pub fn new() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(Failure::internal);
        let hang_up = if ignores_hang_up() { None } else { Some(listen(SignalKind::hangup())?) };
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hang_up })
    }

    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            Some(_) = async { self.hang_up.as_mut()?.recv().await } => {}
        }
    }
}

/// Whether SIGHUP was ignored when this program was started. The system says so in a mask, signal 1 in its lowest bit.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// A runtime of our own for signals and timers; the guests run on the library's threads.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)?;
    let result = tokio.block_on(work);
    // A thread may wait for a terminal: nobody waits for it.
    tokio.shutdown_background();
    result
}

/// The end of the runtime.
type Shutdown = Pin<Box<dyn Future<Output = ()>>>;

/// The state of one drive.
#[derive(Default)]
struct Watched {
    execution: Option<ExecutionId>,
    asking: Option<Asking>,
    queue: VecDeque<PromiseRecord>,
    /// The `input` that waits for a line.
    wants_line: Option<PromiseRecord>,
}

impl Session {
    /// Drives one execution; `fresh` says that it is started, not resumed.
    pub async fn drive(
        &mut self,
        id: ExecutionId,
        fresh: bool,
        work: impl Future<Output = std::result::Result<Report, Error>>,
    ) -> Result<Driven> {
        // What was said of an execution before.
        while self.notes.try_recv().is_ok() {}
        let mut work = pin!(work);
        let mut tick = tokio::time::interval(TICK);
        let mut watched = Watched { execution: Some(id), ..Watched::default() };
        let (mut stopping, mut is_stopped) = (None::<Shutdown>, false);
        let went = loop {
            let ticks = watched.asking.is_some() || watched.wants_line.is_some() || self.console.is_compiling();
            tokio::select! {
                biased;
                () = self.signals.next() => {
                    if fresh && self.console.is_compiling() {
                        let why = "interrupted while the guest was being compiled: nothing has started";
                        break Err(Failure::new(Kind::Interrupted, why));
                    }
                    if stopping.is_some() || self.console.is_compiling() {
                        // Whatever the guest does until this process ends is neither shown nor noted as shown.
                        self.console.stop();
                        break Ok(Driven::Interrupted(watched.execution));
                    }
                    self.console.notice("parole: interrupted: the guest does not run on");
                    let runtime = self.runtime.clone();
                    stopping = Some(Box::pin(async move { drop(runtime.shutdown(STOP_WITHIN).await) }));
                }
                ended = &mut work => match (ended, &stopping) {
                    (Ok(report), None) => break Ok(Driven::Report(Box::new(report))),
                    (Err(error), None) => break Err(Failure::from(error)),
                    (Ok(report), Some(_)) => break Ok(Driven::Stopped(Box::new(report))),
                    // Nothing of it was recorded, or it did not come to its end in time.
                    (Err(_), Some(_)) => break Ok(Driven::Interrupted(watched.execution)),
                },
                // The work says what came of it.
                () = stopped(&mut stopping), if !is_stopped => is_stopped = true,
                Some(note) = self.notes.recv() => match note {
                    Note::Seen(execution) => watched.execution = Some(execution),
                    Note::Compiling => {}
                    Note::Waiting(record) => {
                        if !self.waiting(*record, &mut watched)? {
                            break Ok(Driven::NoMore(watched.execution));
                        }
                    }
                },
                reply = reply_of(&mut watched.asking) => {
                    if !self.replied(reply, &mut watched).await? {
                        break Ok(Driven::NoMore(watched.execution));
                    }
                }
                line = line_of(&mut self.answers, watched.wants_line.is_some()) => {
                    if !self.read(line, &mut watched).await? {
                        break Ok(Driven::NoMore(watched.execution));
                    }
                }
                _ = tick.tick(), if ticks => {
                    self.console.tick();
                    self.look(&mut watched)?;
                }
            }
        };
        if matches!(went, Ok(Driven::Stopped(_))) && !is_stopped {
            self.until_stopped(&mut stopping).await;
        }
        self.console.compiled();
        if let Some(asking) = watched.asking.take() {
            withdraw(asking).await;
            if matches!(went, Ok(Driven::Report(_))) {
                output::withdraw_prompt();
            }
        }
        went
    }

    /// Waits for the end of the runtime, or until it is told again: by then what was shown is noted, and shown again if it is
    /// not.
    async fn until_stopped(&mut self, stopping: &mut Option<Shutdown>) {
        tokio::select! {
            () = stopped(stopping) => {}
            () = self.signals.next() => {}
        }
    }

    /// An execution waits. Says whether anybody here may answer.
    fn waiting(&mut self, record: PromiseRecord, watched: &mut Watched) -> Result<bool> {
        if !is_for_a_person(&record) {
            self.console.waits(&record);
            return Ok(true);
        }
        match &self.answers {
            Answers::Nobody => {}
            Answers::Lines(_) if is_a_line(&record) => watched.wants_line = Some(record),
            Answers::Lines(_) => return Ok(false),
            Answers::Terminal => {
                watched.queue.push_back(record);
                self.ask_next(watched)?;
            }
        }
        Ok(true)
    }

    fn ask_next(&mut self, watched: &mut Watched) -> Result<()> {
        if watched.asking.is_some() {
            return Ok(());
        }
        let Some(record) = watched.queue.pop_front() else { return Ok(()) };
        let asker = match &self.asker {
            Some(asker) => asker.clone(),
            None => asker_of(&self.runtime, &record),
        };
        let asking = ask::ask(Prompt { asker, record, may_skip: false }).map_err(Failure::internal)?;
        watched.asking = Some(asking);
        Ok(())
    }

    /// The person has answered, or will not. Says whether to go on.
    async fn replied(&mut self, reply: Reply, watched: &mut Watched) -> Result<bool> {
        let Some(asking) = watched.asking.take() else { return Ok(true) };
        match reply {
            Reply::Answer(value) => {
                settle(&self.runtime, &asking.record, &value).await?;
            }
            Reply::Withdrawn => output::withdraw_prompt(),
            Reply::Skip | Reply::End => return Ok(false),
            Reply::Failed(error) => {
                output::err(&format!("parole: the terminal failed: {error}"));
                return Ok(false);
            }
        }
        self.ask_next(watched)?;
        Ok(true)
    }

    /// A line was read for an `input`. Says whether to go on.
    async fn read(&mut self, line: Line, watched: &mut Watched) -> Result<bool> {
        let Some(record) = watched.wants_line.take() else { return Ok(true) };
        match line {
            Line::Text(text) => {
                let won = settle(&self.runtime, &record, &Value::from(text.as_str())).await?;
                if let (false, Answers::Lines(lines)) = (won, &mut self.answers) {
                    lines.put_back(text);
                }
                Ok(true)
            }
            Line::End => Ok(false),
            Line::Bad(why) => {
                output::err(&format!("parole: {why}"));
                Ok(false)
            }
        }
    }

    /// Looks whether what we ask for has been settled elsewhere.
    fn look(&mut self, watched: &mut Watched) -> Result<()> {
        let deadline = watched.asking.as_ref().map(|asking| asking.record.timeout_at);
        if !self.changes.seen(deadline) {
            return Ok(());
        }
        if let Some(asking) = &mut watched.asking
            && asking.open.is_some()
            && !self.changes.is_pending(&asking.record.id)
        {
            asking.open = None;
        }
        if let Some(record) = &watched.wants_line
            && !self.changes.is_pending(&record.id)
        {
            watched.wants_line = None;
        }
        Ok(())
    }

    /// What a run that was left has come to, from what is stored.
    pub async fn left(&mut self, execution: Option<ExecutionId>) -> Result<Report> {
        let nothing = || {
            Failure::new(Kind::Interrupted, "interrupted before it had put out or asked anything")
                .hint("nothing of it was recorded: start it again")
        };
        let id = execution.ok_or_else(nothing)?;
        let runtime = self.runtime.clone();
        let shown = tokio::task::spawn_blocking(move || runtime.show(id));
        tokio::select! {
            shown = shown => match shown.map_err(Failure::internal)? {
                Err(Error::NoExecution(_)) => Err(nothing()),
                shown => Ok(shown?),
            },
            // Once more: at once.
            () = self.signals.next() => Err(Failure::new(Kind::Interrupted, "interrupted")),
        }
    }
}

/// Whether it is answered with a line of text.
fn is_a_line(record: &PromiseRecord) -> bool {
    let asked = CATALOGUE.by_name(record.capability()).filter(|own| own.kind == CapabilityKind::Person);
    matches!(asked.and_then(|own| own.answer()), Some(Type::Text(_)))
}

/// Whether a person settles it: a question of a guest, or one about a call of a guest.
pub fn is_for_a_person(record: &PromiseRecord) -> bool {
    let label = record.capability();
    let kind = CATALOGUE.by_name(label).map(|capability| capability.kind);
    kind == Some(CapabilityKind::Person) || matches!(label, question::ASK | question::DOUBT)
}

/// Settles a promise for the person here. Says whether that counts; if not, says what stands.
pub async fn settle(runtime: &Runtime, record: &PromiseRecord, value: &Value) -> Result<bool> {
    let settled = runtime.promises().resolve(record.id.as_str(), value, &who::who()).await?;
    if !settled.won {
        let expired = settled.promise.record.state == PromiseState::RejectedTimedout;
        output::err(if expired { "(expired before: too late)" } else { "(settled elsewhere before: that stands)" });
    }
    Ok(settled.won)
}

/// Who waits for a promise, from what is stored.
pub fn asker_of(runtime: &Runtime, record: &PromiseRecord) -> Asker {
    let executions = runtime.executions(false).unwrap_or_default();
    let found = executions.into_iter().find(|summary| Some(summary.execution) == record.execution());
    found.map_or_else(
        || Asker { guest: "a guest".into(), component: String::new() },
        |summary| Asker { guest: summary.guest, component: summary.component },
    )
}

async fn stopped(stopping: &mut Option<Shutdown>) {
    match stopping {
        Some(stopping) => stopping.await,
        None => std::future::pending().await,
    }
}

/// Takes a question back, and waits until the terminal is free: an editor may be open.
async fn withdraw(mut asking: Asking) {
    asking.open = None;
    let _ = asking.reply.await;
}

async fn reply_of(asking: &mut Option<Asking>) -> Reply {
    match asking {
        Some(asking) => (&mut asking.reply).await.unwrap_or(Reply::End),
        None => std::future::pending().await,
    }
}

async fn line_of(answers: &mut Answers, wanted: bool) -> Line {
    match answers {
        Answers::Lines(lines) if wanted => lines.next().await,
        _ => std::future::pending().await,
    }
}
