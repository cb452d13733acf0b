//! What a host can run short of: no fault of a guest, and over when there is room again.

use std::io;

use rustix::io::Errno;

/// What is short, if that is what an error says. The text fits behind "the host is short of".
///
/// `EAGAIN` is not among these: it says so of threads alone, and whoever starts one knows.
#[must_use]
pub fn lack(error: &io::Error) -> Option<&'static str> {
    of_errno(Errno::from_io_error(error)?)
}

/// The same for what comes without its wrapping.
#[must_use]
pub fn of_errno(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::MFILE => "file descriptors for this process (EMFILE)",
        Errno::NFILE => "file descriptors for all its processes (ENFILE)",
        Errno::NOMEM => MEMORY,
        Errno::NOBUFS => "memory for connections (ENOBUFS)",
        _ => return None,
    })
}

/// What is short where a file cannot be opened, asked of one that nothing else can be the reason for: for engines that
/// keep the reason to themselves.
#[must_use]
pub fn of_descriptors() -> Option<&'static str> {
    use rustix::fs::{Mode, OFlags, open};
    of_errno(open("/", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).err()?)
}

/// What is short where an allocation fails.
pub const MEMORY: &str = "memory or address space (ENOMEM)";
/// What is short where no thread can be started.
pub const THREADS: &str = "threads (EAGAIN)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_is_no_other_failure() {
        let of = |errno: Errno| lack(&io::Error::from_raw_os_error(errno.raw_os_error()));
        assert!([Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS].into_iter().all(|errno| of(errno).is_some()));
        for other in [Errno::NOENT, Errno::ACCESS, Errno::IO, Errno::NOSPC, Errno::AGAIN, Errno::CONNREFUSED] {
            assert_eq!(of(other), None, "{other:?}");
        }
        assert_eq!(lack(&io::Error::other("too many open files")), None);
    }
}
