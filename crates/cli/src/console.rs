//! Shows what guests put out, and what the host has to say about them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use parole_capabilities::Event;
use parole_durable::hub::now;
use parole_durable::{ExecutionId, PromiseRecord};
use parole_policy::ScopeKind;
use parole_runtime::{NotShown, Sink};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{output, shell, times};

/// A compilation that takes longer than this is told.
const SLOW: Duration = Duration::from_millis(300);
/// The same where lines cannot be replaced.
const SLOW_IN_A_LOG: Duration = Duration::from_secs(1);

/// A wait for a timer that takes longer than this is told, in milliseconds.
const LONG_MS: u64 = 10_000;

/// What is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Show {
    /// Nothing of the guest's output: it is in the object at the end.
    pub json: bool,
    /// No notices and no log records.
    pub quiet: bool,
}

/// The sink of all guests of this process.
pub struct Console {
    show: Show,
    terminal: bool,
    compiling: Mutex<Option<Compiling>>,
    notes: UnboundedSender<Note>,
    /// The execution that was heard of last.
    seen: Mutex<Option<ExecutionId>>,
    stopped: AtomicBool,
}

/// What a session has to react to.
#[derive(Debug)]
pub enum Note {
    /// An execution has been heard of.
    Seen(ExecutionId),
    /// A guest is being compiled: [`Console::tick`] shows for how long.
    Compiling,
    /// An execution waits for a promise.
    Waiting(Box<PromiseRecord>),
}

struct Compiling {
    bytes: usize,
    since: Instant,
    /// The second that was shown last.
    told: Option<u64>,
}

impl Console {
    /// A console, and what it tells a session.
    pub fn new(show: Show) -> (Arc<Self>, UnboundedReceiver<Note>) {
        use std::io::IsTerminal as _;
        let (notes, receiver) = unbounded_channel();
        let terminal = std::io::stderr().is_terminal();
        let (compiling, seen, stopped) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        (Arc::new(Self { show, terminal, compiling, notes, seen, stopped }), receiver)
    }

    /// The sink for a runtime.
    pub fn sink(self: &Arc<Self>) -> impl Sink + 'static {
        let console = Arc::clone(self);
        move |execution: ExecutionId, event: Event<'_>| console.event(execution, &event)
    }

    /// Something that a person may want to know.
    pub fn notice(&self, text: &str) {
        if !self.show.quiet {
            output::err(text);
        }
    }

    /// A guest waits for a timer or a worker: a person at the terminal would see nothing for as long.
    pub fn waits(&self, record: &PromiseRecord) {
        if !record.is_timer() {
            let what = output::cell(record.capability()).into_owned();
            let work = shell::command(&format!("work {what} -- COMMAND"));
            self.notice(&format!("parole: waits for a worker, {work}; Ctrl-C leaves it suspended"));
        } else if record.is_timer() && record.timeout_at.saturating_sub(now()) >= LONG_MS {
            let until = times::deadline(record.timeout_at, now());
            let what = output::cell(record.capability()).into_owned();
            self.notice(&format!("parole: waits for {what}, which ends {until}; Ctrl-C leaves it suspended"));
        }
    }

    /// Takes no more from guests: whoever brings something waits for the end of the process. What was
    /// not shown is shown by the next resume.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn event(&self, execution: ExecutionId, event: &Event<'_>) -> Result<(), NotShown> {
        while self.stopped.load(Ordering::SeqCst) {
            std::thread::park();
        }
        if lock(&self.seen).replace(execution) != Some(execution) {
            let _ = self.notes.send(Note::Seen(execution));
        }
        if !matches!(event, Event::Waiting(_)) {
            // A guest that goes on has its answer.
            output::withdraw_prompt();
        }
        match event {
            Event::Print(_) | Event::Display { .. } | Event::Cut => {
                if !self.show.json {
                    let mut text = String::new();
                    event.append_to(&mut text);
                    if !output::guest(&text) {
                        return Err(NotShown);
                    }
                }
            }
            Event::Log { level, message } => self.notice(&format!("[guest {level}] {}", output::cell(message))),
            Event::Waiting(record) => {
                let _ = self.notes.send(Note::Waiting(Box::new((*record).clone())));
            }
            Event::EmptyScope { capability } => {
                let what = match capability.scope {
                    ScopeKind::Path => "directory",
                    ScopeKind::Name => "database",
                    ScopeKind::Url | ScopeKind::SocketUrl | ScopeKind::Nothing => "origin",
                };
                let name = &capability.name;
                let how = capability.flag.map_or_else(|| format!("[grant.{name}]"), |flag| flag.usage().to_owned());
                self.notice(&format!("parole: `{name}` is linked but may reach nothing: no {what} is granted ({how})"));
            }
            Event::AllDenied { import } => {
                let import = output::cell(import);
                self.notice(&format!(
                    "parole: {import} is linked, but each call is denied (`link.denied` of the policy)"
                ));
            }
            Event::Compiling { bytes } => {
                *self.compiling() = Some(Compiling { bytes: *bytes, since: Instant::now(), told: None });
                let _ = self.notes.send(Note::Compiling);
            }
            Event::Compiled => self.compiled(),
        }
        Ok(())
    }

    fn compiling(&self) -> MutexGuard<'_, Option<Compiling>> {
        lock(&self.compiling)
    }

    /// Whether a compilation is under way.
    pub fn is_compiling(&self) -> bool {
        self.compiling().is_some()
    }

    /// Shows how far a slow compilation has come. Called a few times a second.
    pub fn tick(&self) {
        let mut compiling = self.compiling();
        let Some(compiling) = &mut *compiling else { return };
        let elapsed = compiling.since.elapsed();
        if self.show.quiet || elapsed < if self.terminal { SLOW } else { SLOW_IN_A_LOG } {
            return;
        }
        let told = compiling.told.replace(elapsed.as_secs());
        let what = format!("compiling the guest ({} KiB, only the first time)", compiling.bytes.div_ceil(1024));
        if self.terminal && told != compiling.told {
            output::progress(&format!("{what} … {} s", elapsed.as_secs()));
        } else if !self.terminal && told.is_none() {
            output::err(&format!("parole: {what}"));
        }
    }

    /// The compilation is over, well or not.
    pub fn compiled(&self) {
        let compiling = self.compiling().take();
        if self.terminal && compiling.is_some_and(|compiling| compiling.told.is_some()) {
            output::progress("");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
