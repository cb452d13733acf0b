//! Reading a line from the terminal, until a person has typed it or nobody wants it any more.

use std::io;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{QueueSelector, tcflush, tcgetwinsize};

/// The longest line that is taken; the terminal itself cuts lines at 4095 bytes.
const LINE_MAX: usize = 1 << 16;
/// The width of a terminal that does not say.
const WIDTH: usize = 80;

/// What came of waiting for a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    Line(String),
    /// Ctrl-D, or the terminal is gone.
    End,
    /// The question is withdrawn.
    Withdrawn,
}

/// Forgets what was typed ahead: it was no answer to a question that nobody had seen.
pub fn forget_typed() {
    let _ = tcflush(rustix::stdio::stdin(), QueueSelector::IFlush);
}

/// How many columns the terminal has.
pub fn width() -> usize {
    let columns = tcgetwinsize(rustix::stdio::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { WIDTH } else { columns }
}

/// Waits for a line. `withdrawn` is the reading end of a pair whose other end is dropped when
/// the question is settled elsewhere: a blocked read would swallow the next answer.
pub fn read_line(withdrawn: &UnixStream) -> io::Result<Typed> {
    let stdin = rustix::stdio::stdin();
    let mut line = Vec::new();
    loop {
        let mut fds = [PollFd::new(withdrawn, PollFlags::IN), PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        if !fds[0].revents().is_empty() {
            return Ok(Typed::Withdrawn);
        }
        if fds[1].revents().is_empty() {
            continue;
        }
        let mut buffer = [0; 4096];
        match rustix::io::read(stdin, &mut buffer) {
            Ok(0) | Err(Errno::IO) => return Ok(Typed::End),
            Ok(read) => line.extend_from_slice(&buffer[..read]),
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(errno) => return Err(errno.into()),
        }
        if line.ends_with(b"\n") || line.len() > LINE_MAX {
            let text = String::from_utf8_lossy(&line);
            return Ok(Typed::Line(text.trim_end_matches(['\n', '\r']).to_owned()));
        }
    }
}
