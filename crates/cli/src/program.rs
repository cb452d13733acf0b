//! A program that answers one promise: it is given its input, heard, and ended with all that it has started.

use std::ffi::OsString;
use std::io::{self, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// The most of stderr that is kept, its last bytes.
const STDERR_MAX: usize = 64 << 10;
/// How long what a program has started may keep its output open once it has ended.
const LINGER: Duration = Duration::from_secs(1);

/// A program that runs, with a process group of its own: a signal of the terminal is not for it.
pub struct Program {
    child: Child,
    group: Pid,
    stdout: OutputReader,
    stderr: OutputReader,
}

/// A program that has ended.
pub struct Ended {
    child: Child,
    /// At most one byte more than it may be, which shows that it is too long.
    pub stdout: Vec<u8>,
    /// Its last bytes.
    pub stderr: Vec<u8>,
}

impl Program {
    /// Starts a program with this on its stdin, and keeps so much of its stdout.
    pub fn start(command: &[OsString], input: Vec<u8>, stdout_max: usize) -> io::Result<Self> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let ((stdin, mut to), (from, stdout), (other, stderr)) = (io::pipe()?, io::pipe()?, io::pipe()?);
        // All that can fail is there before the program is: where this fails, nothing has been done.
        let first = OutputReader::of(from, move |kept, piece| {
            kept.extend(piece.iter().take((stdout_max + 1).saturating_sub(kept.len())));
        })?;
        let second = OutputReader::of(other, keep_last)?;
        // One that does not read its input has ended, or knows what it does.
        let write = move || drop(to.write_all(&input));
        thread::Builder::new().name("parole-stdin".into()).spawn(write)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(stdin).stdout(stdout).stderr(stderr).process_group(0);
        let child = command.spawn()?;
        let group = Pid::from_child(&child);
        Ok(Self { child, group, stdout: first, stderr: second })
    }

    /// Its process group, to be signalled before it is known to have ended.
    pub fn group(&self) -> Pid {
        self.group
    }

    /// Waits until it has ended. What it has started and left behind in its group, and what keeps its output open, is
    /// ended then; what has left the group is not listened to any more.
    pub fn wait(self) -> Ended {
        // It is not reaped here: as long as its group may be signalled, the id is no other's.
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(self.group), ended).err() == Some(rustix::io::Errno::INTR) {}
        let until = Instant::now() + LINGER;
        if !(self.stdout.is_closed(until) && self.stderr.is_closed(until)) {
            let _ = kill_process_group(self.group, Signal::KILL);
            let until = Instant::now() + LINGER;
            let _ = self.stdout.is_closed(until) && self.stderr.is_closed(until);
        }
        Ended { child: self.child, stdout: self.stdout.kept(), stderr: self.stderr.kept() }
    }
}

impl Ended {
    /// How it has ended. From now on its group is not to be signalled.
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

/// What comes out of a pipe, while it is open.
struct OutputReader {
    /// Nothing, once nobody listens any more.
    kept: Arc<Mutex<Option<Vec<u8>>>>,
    closed: Receiver<()>,
}

impl OutputReader {
    fn of(
        mut from: impl Read + Send + 'static,
        keep: impl Fn(&mut Vec<u8>, &[u8]) + Send + 'static,
    ) -> io::Result<Self> {
        let (open, closed) = mpsc::channel::<()>();
        let kept = Arc::new(Mutex::new(Some(Vec::new())));
        let own = Arc::clone(&kept);
        let read = move || {
            let _open = open;
            let mut piece = [0; 8192];
            while let Ok(read @ 1..) = from.read(&mut piece) {
                match &mut *own.lock().unwrap_or_else(PoisonError::into_inner) {
                    Some(kept) => keep(kept, &piece[..read]),
                    None => break,
                }
            }
        };
        thread::Builder::new().name("parole-output".into()).spawn(read)?;
        Ok(Self { kept, closed })
    }

    /// Whether it is closed, by then.
    fn is_closed(&self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        self.closed.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }

    fn kept(self) -> Vec<u8> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }
}

/// The last bytes of what a program says.
fn keep_last(kept: &mut Vec<u8>, piece: &[u8]) {
    kept.extend_from_slice(piece);
    kept.drain(..kept.len().saturating_sub(STDERR_MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> (Ended, Duration) {
        let began = Instant::now();
        let command = ["/bin/sh", "-c", script].map(OsString::from);
        let ended = Program::start(&command, b"in\n".to_vec(), 1_000).unwrap().wait();
        (ended, began.elapsed())
    }

    #[test]
    fn it_is_given_its_input_and_heard() {
        let (mut ended, _) = run("read line; echo \"got $line\"; echo said >&2; exit 3");
        assert_eq!(ended.status().unwrap().code(), Some(3));
        assert_eq!((ended.stdout, ended.stderr), (b"got in\n".to_vec(), b"said\n".to_vec()));
    }

    #[test]
    fn of_what_it_says_a_part_is_kept() {
        let (ended, _) = run("head -c 100000 /dev/zero; head -c 200000 /dev/zero >&2; printf end >&2");
        assert_eq!((ended.stdout.len(), ended.stderr.len()), (1_001, STDERR_MAX));
        assert!(ended.stderr.ends_with(b"\0end"));
    }

    /// A child of the program that keeps its output open is not waited for, wherever it has gone.
    #[test]
    fn what_it_leaves_behind_is_not_waited_for() {
        for left in ["sleep 15 &", "setsid sleep 15 &"] {
            let (mut ended, took) = run(&format!("{left} echo answer"));
            assert_eq!(ended.status().unwrap().code(), Some(0), "{left}");
            assert_eq!(ended.stdout, b"answer\n", "{left}");
            assert!(took < Duration::from_secs(14), "{left}: {took:?}");
        }
    }

    /// One that goes on writing where nobody listens is told so by the system, and ends.
    #[test]
    fn what_goes_on_writing_is_not_listened_to() {
        let scratch = tempfile::tempdir().unwrap();
        let pid = scratch.path().join("pid");
        let (ended, _) = run(&format!("setsid sh -c 'echo $$ > {}; exec yes' & sleep 0.3", pid.display()));
        assert_eq!(ended.stdout.len(), 1_001);
        let pid = std::fs::read_to_string(pid).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while std::path::Path::new("/proc").join(pid.trim()).exists() {
            assert!(Instant::now() < until, "{pid}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
