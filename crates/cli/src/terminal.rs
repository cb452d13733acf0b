//! The keyboard of a person: lines and words, until one is typed or nobody wants it any more.
//!
//! While a question is open the terminal hands over every key as it comes ([`mode`]), so that a line may be of any
//! length and what came at once can be told from what was typed. It is put back on every way out.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{QueueSelector, tcflush, tcgetwinsize};

use crate::output;
use line::{Line, Pushed};
use mode::Mode;

mod line;
mod mode;

/// The width of a terminal that does not say.
const WIDTH: usize = 80;
/// How long a question must have been on the screen before a word can answer it.
const UNREAD: Duration = Duration::from_millis(500);
/// No person is at the Enter key within this of the key before: the end of a paste that comes byte by byte is.
const ENTER_MIN: Duration = Duration::from_millis(30);
/// Silence after which what was pasted is over.
const SILENCE: Duration = Duration::from_millis(200);
/// The same when a question ends: nothing may be under way that the next reader of the terminal would get.
const LAST_SILENCE: Duration = Duration::from_millis(30);
/// How long a paste is waited for when a question ends.
const PASTE_MAX: Duration = Duration::from_secs(2);
/// How often is looked whether the screen is still as it was.
const LOOK: Duration = Duration::from_millis(100);

/// Whether anybody was asked in this process.
static ASKED: AtomicBool = AtomicBool::new(false);
/// Whether the last question was withdrawn: a person may be typing its answer still.
static WITHDRAWN: AtomicBool = AtomicBool::new(false);

/// What came of waiting for a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    Line(String),
    /// Ctrl-D, or the terminal is gone.
    End,
    /// The question is withdrawn.
    Withdrawn,
    /// Something else was written below the question: it has to be put again.
    Covered,
}

/// How many columns the terminal has.
pub fn width() -> usize {
    let columns = tcgetwinsize(rustix::stdio::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { WIDTH } else { columns }
}

/// How many rows it has; 0 where it does not say.
pub fn height() -> usize {
    tcgetwinsize(rustix::stdio::stderr()).map_or(0, |size| usize::from(size.ws_row))
}

/// Before the program ends: the terminal is as it was, and what was typed for a question is nobody else's.
pub fn finish() {
    if ASKED.load(Ordering::SeqCst) {
        drain(None, LAST_SILENCE, PASTE_MAX);
    }
    mode::restore();
}

/// Puts the terminal back as it was, from any thread.
pub fn restore() {
    mode::restore();
}

/// The keyboard while one question is open.
pub struct Keyboard<'w> {
    /// The reading end of a pair whose other end is dropped when the question is settled elsewhere.
    withdrawn: &'w UnixStream,
    mode: Option<Mode>,
    /// What was pasted behind the line end of a text of several lines.
    rest: Vec<u8>,
    /// How many columns the screen had when the question was drawn.
    width: usize,
    /// Whether the keys are certainly meant for this question.
    sure: bool,
}

/// What happened at the keyboard.
enum Event {
    Keys(Vec<u8>),
    Withdrawn,
    End,
    /// Nothing, for as long as was waited.
    Silence,
    /// The terminal was taken away meanwhile, and is back.
    Back,
}

impl<'w> Keyboard<'w> {
    /// Takes the keyboard for a question; what was typed before is no answer to it.
    pub fn open(withdrawn: &'w UnixStream) -> io::Result<Self> {
        ASKED.store(true, Ordering::SeqCst);
        let sure = !WITHDRAWN.swap(false, Ordering::SeqCst);
        output::question_opens();
        let mut keyboard = Self { withdrawn, mode: None, rest: Vec::new(), width: width(), sure };
        if mode::is_ours() {
            keyboard.mode = Some(Mode::enter()?);
            drain(None, Duration::ZERO, Duration::ZERO);
        }
        Ok(keyboard)
    }

    /// Does something else with the terminal meanwhile, which is as it was for that long.
    pub fn aside<T>(&mut self, work: impl FnOnce() -> T) -> io::Result<T> {
        self.mode = None;
        let done = work();
        if mode::is_ours() {
            self.mode = Some(Mode::enter()?);
            drain(None, Duration::ZERO, Duration::ZERO);
        }
        Ok(done)
    }

    /// The question is drawn from here on: what others write now stands in its midst or below it.
    pub fn draws(&mut self) {
        self.width = width();
        output::uncovered();
    }

    /// A word that decides something. Keys that came before the question can have been read, and a word that came
    /// together with its line end, are a paste: they are dropped.
    pub fn word(&mut self, prompt: &str) -> io::Result<Typed> {
        self.rest.clear();
        loop {
            output::prompt(prompt);
            match self.typed_word()? {
                Ok(typed) => return Ok(typed),
                Err(why) => {
                    output::err(why);
                    if drain(Some(self.withdrawn), SILENCE, Duration::MAX) {
                        return Ok(self.withdraw());
                    }
                }
            }
        }
    }

    /// The inner error says why what was typed does not count.
    fn typed_word(&mut self) -> io::Result<Result<Typed, &'static str>> {
        const EARLY: &str =
            "(What was typed before the question can have been read does not count. Type the word now.)";
        const PASTED: &str = "(A word that comes in one piece with its line end is a paste, which decides nothing. \
                              Type the word, then the Enter key.)";
        match self.unread()? {
            Ok(()) => {}
            Err(Some(typed)) => return Ok(Ok(typed)),
            Err(None) => return Ok(Err(EARLY)),
        }
        let mut line = Line::new(self.keys()?);
        let mut last: Option<Instant> = None;
        loop {
            match self.event(LOOK)? {
                Event::Withdrawn => return Ok(Ok(self.withdraw())),
                Event::End => return Ok(Ok(Typed::End)),
                Event::Back => return Ok(Ok(Typed::Covered)),
                Event::Silence if output::is_covered() || width() != self.width => return self.covered().map(Ok),
                Event::Silence => {}
                Event::Keys(keys) => {
                    // Drawn below the question after it was looked at last: by now nobody knows what was read.
                    if output::is_covered() {
                        return self.covered().map(Ok);
                    }
                    let before = last.replace(Instant::now());
                    let (pushed, taken) = line.push(&keys);
                    output::echo(&line.echo());
                    match pushed {
                        Pushed::More => {}
                        Pushed::End => return Ok(Ok(Typed::End)),
                        // Of the keys that came together none but the line end itself.
                        Pushed::Line if keys.len() > 1 || taken < keys.len() => return Ok(Err(PASTED)),
                        Pushed::Line if before.is_some_and(|before| before.elapsed() < ENTER_MIN) => {
                            return Ok(Err(PASTED));
                        }
                        Pushed::Line => {
                            output::typed();
                            return Ok(match line.text() {
                                Ok(text) => Ok(Typed::Line(text)),
                                Err(_) => Err("(That was no word.)"),
                            });
                        }
                    }
                }
            }
        }
    }

    /// Lets the time pass in which nobody can have read the question. What is typed meanwhile does not count (an
    /// error without more), but for what decides nothing.
    fn unread(&mut self) -> io::Result<Result<(), Option<Typed>>> {
        let until = Instant::now() + UNREAD;
        // Only a keyboard that is found silent after that time says that nothing came in it: this process may have
        // slept through it.
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.event(left)? {
                Event::Withdrawn => return Ok(Err(Some(self.withdraw()))),
                Event::End => return Ok(Err(Some(Typed::End))),
                Event::Back => return Ok(Err(Some(Typed::Covered))),
                Event::Keys(keys) => {
                    let end = Line::new(self.keys()?).ends(&keys);
                    return Ok(Err(end.then_some(Typed::End)));
                }
                Event::Silence if left.is_zero() => {
                    return Ok(if output::is_covered() { Err(Some(Typed::Covered)) } else { Ok(()) });
                }
                Event::Silence => {}
            }
        }
    }

    /// A line of text, which may be pasted: what comes behind its line end is dropped, and that is said.
    pub fn text(&mut self, prompt: &str) -> io::Result<Typed> {
        self.rest.clear();
        let typed = self.part(prompt)?;
        let more = std::mem::take(&mut self.rest);
        let more = more.strip_prefix(b"\n").unwrap_or(&more);
        if matches!(typed, Typed::Line(_)) && !more.is_empty() {
            output::err("(Only one line is taken: what was pasted behind it is dropped.)");
            // The paste may still be coming.
            drain(None, SILENCE, PASTE_MAX);
        }
        Ok(typed)
    }

    /// One line of a text of several.
    pub fn part(&mut self, prompt: &str) -> io::Result<Typed> {
        let mut line = Line::new(self.keys()?);
        output::prompt(prompt);
        if !self.sure {
            match self.unread()? {
                Ok(()) => self.sure = true,
                Err(Some(typed)) if typed != Typed::Covered => return Ok(typed),
                Err(_) => {
                    output::err("(What was typed for the question before does not count.)");
                    drain(Some(self.withdrawn), SILENCE, Duration::MAX);
                    return self.part(prompt);
                }
            }
        }
        let mut keys = std::mem::take(&mut self.rest);
        loop {
            let (pushed, taken) = line.push(&keys);
            output::echo(&line.echo());
            match pushed {
                Pushed::More => {}
                Pushed::End => return Ok(Typed::End),
                Pushed::Line => {
                    self.rest = keys.split_off(taken);
                    output::typed();
                    match line.text() {
                        Ok(text) => return Ok(Typed::Line(text)),
                        Err(why) => {
                            output::err(&format!("({why} Nothing is taken; type it again.)"));
                            line = Line::new(self.keys()?);
                            self.rest.clear();
                            output::prompt(prompt);
                        }
                    }
                }
            }
            keys.clear();
            match self.event(LOOK)? {
                Event::Withdrawn => return Ok(self.withdraw()),
                Event::End => return Ok(Typed::End),
                Event::Keys(more) => keys = more,
                Event::Silence if !output::is_covered() => {}
                event @ (Event::Silence | Event::Back) => {
                    if matches!(event, Event::Silence) && self.covered()? == Typed::Withdrawn {
                        return Ok(Typed::Withdrawn);
                    }
                    output::uncovered();
                    output::prompt(prompt);
                    output::echo(&line.shown());
                }
            }
        }
    }

    /// Something stands below the question. Often it is what its answer from elsewhere has led to.
    fn covered(&self) -> io::Result<Typed> {
        Ok(match ready(Some(self.withdrawn), false, SILENCE)? {
            Ready::Withdrawn => self.withdraw(),
            Ready::Keys | Ready::Nothing => Typed::Covered,
        })
    }

    fn keys(&self) -> io::Result<mode::Keys> {
        self.mode.as_ref().map_or_else(mode::Keys::now, |mode| Ok(mode.keys.clone()))
    }

    fn withdraw(&self) -> Typed {
        WITHDRAWN.store(true, Ordering::SeqCst);
        Typed::Withdrawn
    }

    /// The next thing that happens.
    fn event(&mut self, patience: Duration) -> io::Result<Event> {
        // A shell may have taken the terminal and given it back in another mode; in the background it is not ours.
        if !self.mode.as_ref().is_some_and(Mode::holds) {
            self.mode = None;
            while !mode::is_ours() {
                match ready(Some(self.withdrawn), false, LOOK)? {
                    Ready::Withdrawn => return Ok(Event::Withdrawn),
                    Ready::Keys | Ready::Nothing => {}
                }
            }
            self.mode = Some(Mode::enter()?);
            return Ok(Event::Back);
        }
        match ready(Some(self.withdrawn), true, patience)? {
            Ready::Withdrawn => return Ok(Event::Withdrawn),
            Ready::Nothing => return Ok(Event::Silence),
            Ready::Keys => {}
        }
        let mut keys = vec![0; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut keys) {
            Ok(0) | Err(Errno::IO) => return Ok(Event::End),
            Ok(read) => keys.truncate(read),
            Err(Errno::INTR | Errno::AGAIN) => return Ok(Event::Silence),
            Err(errno) => return Err(errno.into()),
        }
        match self.mode.as_ref().and_then(|mode| mode.keys.signal(&keys)) {
            None => Ok(Event::Keys(keys)),
            Some(key) => {
                self.mode = None;
                key.raise();
                Ok(Event::Silence)
            }
        }
    }
}

/// However a question ends, what was typed for it is gone.
impl Drop for Keyboard<'_> {
    fn drop(&mut self) {
        if self.mode.is_some() {
            drain(None, LAST_SILENCE, PASTE_MAX);
        }
        output::question_closes();
    }
}

enum Ready {
    Keys,
    Withdrawn,
    Nothing,
}

/// Waits for keys, for the question to be withdrawn, or for the time to pass.
fn ready(withdrawn: Option<&UnixStream>, keys: bool, patience: Duration) -> io::Result<Ready> {
    let stdin = rustix::stdio::stdin();
    let mut fds = Vec::with_capacity(2);
    fds.extend(keys.then(|| PollFd::new(&stdin, PollFlags::IN)));
    fds.extend(withdrawn.map(|withdrawn| PollFd::new(withdrawn, PollFlags::IN)));
    let patience = Timespec::try_from(patience).ok();
    match poll(&mut fds, patience.as_ref()) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Ready::Nothing),
        Err(errno) => return Err(errno.into()),
    }
    if withdrawn.is_some() && fds.last().is_some_and(|fd| !fd.revents().is_empty()) {
        return Ok(Ready::Withdrawn);
    }
    Ok(if keys && !fds[0].revents().is_empty() { Ready::Keys } else { Ready::Nothing })
}

/// Forgets what is typed until there is silence. Says whether the question was withdrawn meanwhile.
fn drain(withdrawn: Option<&UnixStream>, mut silence: Duration, longest: Duration) -> bool {
    let began = Instant::now();
    loop {
        if !mode::is_ours() || tcflush(rustix::stdio::stdin(), QueueSelector::IFlush).is_err() {
            return false;
        }
        if began.elapsed() >= longest {
            return false;
        }
        match ready(withdrawn, true, silence) {
            // A paste has pauses.
            Ok(Ready::Keys) => silence = silence.max(SILENCE),
            Ok(Ready::Nothing) | Err(_) => return false,
            Ok(Ready::Withdrawn) => return true,
        }
    }
}
