//! Files below granted directories: read whole, or replaced whole. What is opened is opened beneath the handle of the
//! directory, never by joined text.

mod kept;
pub(crate) mod read;
pub(crate) mod replace;
pub(crate) mod unfinished;

use cap_std::fs::Dir;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};

use crate::Error;
use crate::lack::lack;

/// Why there are no bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// The host is short of this: no answer to the guest.
    Lack(&'static str),
    Told(Error),
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Unread::Told(error)
    }
}

pub(crate) fn unread(error: &std::io::Error, path: &str) -> Unread {
    lack(error).map_or_else(|| Unread::Told(failed(error, path)), Unread::Lack)
}

/// The directory of this name below another one, with no link on the way: `path`, without its last name, has neither
/// `..` nor `.` in it.
pub(crate) fn directory_itself(dir: &Dir, parent: &str, path: &str) -> Result<Dir, Unread> {
    let mut here = dir.try_clone().map_err(|error| unread(&error, path))?;
    for name in parent.split('/').filter(|name| !name.is_empty()) {
        // What is no directory, a link too, is an error.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = openat(&here, name, flags, Mode::empty()).map_err(|errno| {
            let there = statat(&here, name, AtFlags::SYMLINK_NOFOLLOW);
            let link = there.is_ok_and(|there| FileType::from_raw_mode(there.st_mode) == FileType::Symlink);
            if link { through_link(path).into() } else { unread(&errno.into(), path) }
        })?;
        here = Dir::from_std_file(next.into());
    }
    Ok(here)
}

/// A link where a name was decided on.
pub(crate) fn through_link(path: &str) -> Error {
    Error::Denied(format!("`{path}` leads through a link, and its name is what was decided on"))
}

pub(crate) fn not_plain(path: &str) -> Error {
    Error::Invalid(format!("`{path}` is not a plain file"))
}

/// What the guest is told of an I/O error: never a path of the host, and of what lies outside only that it does.
pub(crate) fn failed(error: &std::io::Error, path: &str) -> Error {
    use std::io::ErrorKind;
    // A link of the kernel's own making (/proc/self/cwd) is ELOOP where `openat2` resolves.
    let outside = [rustix::io::Errno::XDEV, rustix::io::Errno::LOOP]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
        || (error.kind() == ErrorKind::PermissionDenied && error.raw_os_error().is_none());
    match error.kind() {
        _ if outside => Error::Denied(format!("`{path}` leads outside the granted directory")),
        ErrorKind::NotFound => Error::NotFound,
        ErrorKind::PermissionDenied => Error::Denied(format!("the operating system denies `{path}`")),
        ErrorKind::IsADirectory | ErrorKind::NotADirectory => not_plain(path),
        ErrorKind::InvalidFilename | ErrorKind::InvalidInput => Error::Invalid(format!("`{path}` is not a file name")),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::Failed("no space left on the device".into()),
        _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            Error::Failed("an input/output error of the device".into())
        }
        kind => Error::Failed(kind.to_string()),
    }
}
