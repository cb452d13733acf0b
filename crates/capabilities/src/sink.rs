//! Where the output of executions goes: the embedder's side of `print`, `log` and `display`.

use std::fmt::Write as _;

use parole_durable::{ExecutionId, PromiseRecord};
use parole_policy::Definition;

/// Something to show. All text in it is the guest's: not inert.
#[derive(Debug)]
pub enum Event<'a> {
    /// A line, without its line end.
    Print(&'a str),
    /// A log record.
    Log {
        /// `trace`, `debug`, `info`, `warn` or `error`.
        level: &'static str,
        /// Its text.
        message: &'a str,
    },
    /// Data to look at.
    Display {
        /// Its type.
        mime: &'a str,
        /// Its bytes.
        data: &'a [u8],
    },
    /// The output limit cut the text short here.
    Cut,
    /// The execution waits for a promise from now on.
    Waiting(&'a PromiseRecord),
    /// A capability is linked, but nothing that it could reach is granted.
    EmptyScope {
        /// Which.
        capability: &'a Definition,
    },
    /// A capability is linked so that each call of it is denied.
    AllDenied {
        /// The name of the import. Guest text: not inert.
        import: &'a str,
    },
    /// A guest is being compiled for the first time.
    Compiling {
        /// Its size.
        bytes: usize,
    },
    /// It has been.
    Compiled,
}

/// An event could not be shown: the disk behind a log is full, whoever read a pipe has gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotShown;

/// Takes the events of all executions of a runtime. Each event is durable before it gets here.
///
/// It is called in order for each execution, on workers of an async runtime: so it must not block for long and must
/// not panic.
pub trait Sink: Send + Sync {
    /// Shows one event.
    ///
    /// # Errors
    /// It could not be: output is not noted as shown then, nothing more of the execution is shown here, and a resume
    /// shows all of it.
    fn event(&self, execution: ExecutionId, event: Event<'_>) -> Result<(), NotShown>;
}

/// What a function that shows events may give back.
pub trait Shown {
    /// Whether the event was shown.
    ///
    /// # Errors
    /// It was not.
    fn shown(self) -> Result<(), NotShown>;
}

impl Shown for () {
    fn shown(self) -> Result<(), NotShown> {
        Ok(())
    }
}

impl<E> Shown for Result<(), E> {
    fn shown(self) -> Result<(), NotShown> {
        self.map_err(|_| NotShown)
    }
}

impl Event<'_> {
    /// Appends what this event adds to the output of an execution: lines, and what can be
    /// shown of data. Logs and the host's own notices are not output.
    pub fn append_to(&self, output: &mut String) {
        match self {
            Event::Print(text) => output.push_str(text),
            Event::Display { mime, data } => match std::str::from_utf8(data) {
                Ok(text) if SHOWN_AS_TEXT.contains(mime) => output.push_str(text),
                _ => {
                    let _ = write!(output, "[{mime}, {} bytes]", data.len());
                }
            },
            Event::Cut => output.push_str("[cut: the output limit is reached]"),
            _ => return,
        }
        output.push('\n');
    }
}

/// The types of data that are text to read.
const SHOWN_AS_TEXT: [&str; 3] = ["text/plain", "text/markdown", "application/json"];

/// Shows nothing.
pub struct Quiet;

impl Sink for Quiet {
    fn event(&self, _: ExecutionId, _: Event<'_>) -> Result<(), NotShown> {
        Ok(())
    }
}

impl<R: Shown, F: Fn(ExecutionId, Event<'_>) -> R + Send + Sync> Sink for F {
    fn event(&self, execution: ExecutionId, event: Event<'_>) -> Result<(), NotShown> {
        self(execution, event).shown()
    }
}

/// The channel bytes of output frames in the journal.
pub(crate) const PRINT: u8 = 0;
pub(crate) const LOG: u8 = 1;
pub(crate) const DISPLAY: u8 = 2;
pub(crate) const CUT: u8 = 3;

/// What the line of data that cannot be shown as text takes beside its type: `[, 18446744073709551615 bytes]`.
pub(crate) const DISPLAY_FRAME: u64 = 32;

pub(crate) const LOG_LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];

/// Reads one frame of an `output` step of the journal; `None` for a dropped or an unknown one.
#[must_use]
pub fn event_of(channel: u8, payload: &[u8]) -> Option<Event<'_>> {
    match channel {
        PRINT => Some(Event::Print(std::str::from_utf8(payload).ok()?)),
        LOG => {
            let (&level, message) = payload.split_first()?;
            Some(Event::Log { level: LOG_LEVELS.get(usize::from(level))?, message: std::str::from_utf8(message).ok()? })
        }
        DISPLAY => {
            let (length, rest) = payload.split_first_chunk::<2>()?;
            let (mime, data) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            Some(Event::Display { mime: std::str::from_utf8(mime).ok()?, data })
        }
        CUT => Some(Event::Cut),
        _ => None,
    }
}
