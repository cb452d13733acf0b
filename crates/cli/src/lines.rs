//! `--stdin`: a line of a file or a pipe for each `input`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::mpsc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::fail::{Failure, Result};
use crate::texts;

/// The longest line that is taken as an answer, in bytes.
pub const LINE_MAX: usize = 1 << 20;

/// Lines, read one at a time on a thread of their own, because a pipe may never give one.
pub struct Lines {
    ask: mpsc::Sender<()>,
    lines: UnboundedReceiver<Line>,
    /// A line that is read and not used yet, and whether one is being read.
    spare: Option<String>,
    asked: bool,
}

/// What was read.
#[derive(Debug)]
pub enum Line {
    Text(String),
    End,
    /// It cannot be an answer.
    Bad(String),
}

impl Lines {
    /// Opens the source: `-` is stdin.
    pub fn open(path: &Path) -> Result<Self> {
        let source: Box<dyn BufRead + Send> = if path.as_os_str() == "-" {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            let cannot = |error: std::io::Error| {
                Failure::usage(format!(
                    "--stdin {}: {error}; expected a file with a line for each input, or -",
                    path.display()
                ))
            };
            let file = File::open(path).map_err(cannot)?;
            if file.metadata().map_err(cannot)?.is_dir() {
                return Err(Failure::usage(format!("--stdin {} is a directory; expected a file or -", path.display())));
            }
            Box::new(BufReader::new(file))
        };
        let (ask, asks) = mpsc::channel();
        let (send, lines) = unbounded_channel();
        std::thread::Builder::new()
            .name("parole-lines".into())
            .spawn(move || serve(source, &asks, &send))
            .map_err(Failure::internal)?;
        Ok(Self { ask, lines, spare: None, asked: false })
    }

    /// The next line. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Line {
        if let Some(line) = self.spare.take() {
            return Line::Text(line);
        }
        if !self.asked {
            self.asked = self.ask.send(()).is_ok();
        }
        let line = self.lines.recv().await.unwrap_or(Line::End);
        self.asked = false;
        line
    }

    /// Gives back a line that answered nothing.
    pub fn put_back(&mut self, line: String) {
        self.spare = Some(line);
    }
}

fn serve(mut source: Box<dyn BufRead + Send>, asks: &mpsc::Receiver<()>, lines: &UnboundedSender<Line>) {
    let mut first = true;
    for () in asks {
        if lines.send(read(&mut source, std::mem::take(&mut first))).is_err() {
            return;
        }
    }
}

fn read(source: &mut impl BufRead, first: bool) -> Line {
    let mut bytes = Vec::new();
    match source.take(LINE_MAX as u64 + 5).read_until(b'\n', &mut bytes) {
        Err(error) => return Line::Bad(format!("--stdin cannot be read: {error}")),
        Ok(0) => return Line::End,
        Ok(_) => {}
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    if first {
        texts::unmark(&mut bytes);
    }
    if bytes.len() > LINE_MAX {
        return Line::Bad(format!("a line of --stdin is longer than {LINE_MAX} bytes"));
    }
    texts::utf8(bytes, "a line of --stdin").map_or_else(Line::Bad, Line::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_their_limits() {
        let line = |bytes: &[u8]| read(&mut std::io::Cursor::new(bytes), false);
        assert!(matches!(line(b""), Line::End));
        assert!(matches!(line(b"\n"), Line::Text(text) if text.is_empty()));
        assert!(matches!(line(b"Ada\r\nBob"), Line::Text(text) if text == "Ada"));
        assert!(matches!(line(b"Ada"), Line::Text(text) if text == "Ada"));
        assert!(matches!(line(b"\xff\n"), Line::Bad(text) if text.contains("UTF-8")));
        let mut long = vec![b'a'; LINE_MAX];
        long.push(b'\n');
        assert!(matches!(line(&long), Line::Text(text) if text.len() == LINE_MAX));
        long.insert(0, b'a');
        assert!(matches!(line(&long), Line::Bad(text) if text.contains("longer")));
    }

    #[test]
    fn the_mark_at_the_start_of_a_file_is_no_part_of_its_first_line() {
        let line = |bytes: &[u8], first| read(&mut std::io::Cursor::new(bytes), first);
        assert!(matches!(line(b"\xef\xbb\xbfAda\r\n", true), Line::Text(text) if text == "Ada"));
        assert!(matches!(line(b"\xef\xbb\xbfAda\n", false), Line::Text(text) if text == "\u{feff}Ada"));
        let mut long = b"\xef\xbb\xbf".to_vec();
        long.resize(LINE_MAX + 3, b'a');
        long.extend(b"\r\n");
        assert!(matches!(line(&long, true), Line::Text(text) if text.len() == LINE_MAX));
        assert!(matches!(line(b"\xff\xfeA\0", true), Line::Bad(text) if text.contains("UTF-16")));
    }
}
