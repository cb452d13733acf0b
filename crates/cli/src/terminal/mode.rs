//! The mode of the terminal: every key as it comes, and as it was before afterwards.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group, kill_process};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr};

/// What the terminal was like before it was ours.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
/// A special key that the terminal does not have.
const NO_KEY: u8 = 0;
/// How long the stop that a key asks for may take to come.
const STOP: Duration = Duration::from_millis(50);

/// The keys by which a line is edited, as the person has set them.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    pub erase: u8,
    pub erase_word: u8,
    pub erase_line: u8,
    pub end: u8,
    pub literal: u8,
    pub suspend: u8,
    pub quit: u8,
    /// Whether what is typed is shown.
    pub echo: bool,
}

/// A key that stands for a signal. The terminal would send it itself, and leave itself in our mode.
pub enum Key {
    Suspend,
    Quit,
}

/// The terminal in our mode, until this is dropped.
pub struct Mode {
    pub keys: Keys,
}

/// Whether this process is the one that the terminal listens to. One that is not is stopped when it touches it.
pub fn is_ours() -> bool {
    // A terminal that is not the one of this session has nobody who could stop us.
    tcgetpgrp(rustix::stdio::stdin()).map_or(true, |group| group == getpgrp())
}

/// Puts the terminal back as it was, if it is not.
pub fn restore() {
    let before = before().take();
    if let Some(before) = before.filter(|_| is_ours()) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before);
    }
}

fn before() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mode {
    pub fn enter() -> io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        let termios = tcgetattr(stdin)?;
        let keys = Keys::of(&termios);
        let mut ours = termios.clone();
        ours.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ECHONL);
        ours.special_codes[SpecialCodeIndex::VMIN] = 1;
        ours.special_codes[SpecialCodeIndex::VTIME] = 0;
        // Ctrl-C stays a signal: it is listened to, and the mode put back.
        ours.special_codes[SpecialCodeIndex::VSUSP] = NO_KEY;
        ours.special_codes[SpecialCodeIndex::VQUIT] = NO_KEY;
        let mut before = before();
        // What this process has set itself is not what was before.
        before.get_or_insert(termios);
        tcsetattr(stdin, OptionalActions::Now, &ours)?;
        Ok(Self { keys })
    }

    /// Whether the terminal still is in this mode, and listens to this process.
    pub fn holds(&self) -> bool {
        is_ours()
            && tcgetattr(rustix::stdio::stdin())
                .map_or(true, |termios| !termios.local_modes.contains(LocalModes::ICANON))
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        restore();
    }
}

impl Keys {
    /// Those of the terminal as it is.
    pub fn now() -> io::Result<Self> {
        Ok(Self::of(&tcgetattr(rustix::stdio::stdin())?))
    }

    fn of(termios: &Termios) -> Self {
        let code = |index| termios.special_codes[index];
        let signals = termios.local_modes.contains(LocalModes::ISIG);
        Self {
            erase: code(SpecialCodeIndex::VERASE),
            erase_word: code(SpecialCodeIndex::VWERASE),
            erase_line: code(SpecialCodeIndex::VKILL),
            end: code(SpecialCodeIndex::VEOF),
            literal: code(SpecialCodeIndex::VLNEXT),
            suspend: if signals { code(SpecialCodeIndex::VSUSP) } else { NO_KEY },
            quit: if signals { code(SpecialCodeIndex::VQUIT) } else { NO_KEY },
            echo: termios.local_modes.contains(LocalModes::ECHO),
        }
    }

    /// The signal that a single key stands for.
    pub fn signal(&self, keys: &[u8]) -> Option<Key> {
        match keys {
            [NO_KEY] => None,
            [key] if *key == self.suspend => Some(Key::Suspend),
            [key] if *key == self.quit => Some(Key::Quit),
            _ => None,
        }
    }
}

impl Key {
    /// Does what the terminal would have done; the mode is put back before.
    pub fn raise(&self) {
        let _ = match self {
            Key::Suspend => kill_current_process_group(Signal::TSTP),
            Key::Quit => kill_process(getpid(), Signal::QUIT),
        };
        // The stop reaches the other threads of this process first, perhaps.
        std::thread::sleep(STOP);
    }
}
