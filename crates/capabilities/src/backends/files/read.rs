//! Reads a whole file.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt as _};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};

use super::{Unread, directory_itself, not_plain, through_link, unread};
use crate::Error;
use crate::call::failure::Failure;
use crate::call::permit::{Links, Path, Permit};
use crate::clock;

/// The clock is looked at between pieces of this size.
const PIECE: u64 = 1 << 20;

/// Reads the file of a permit, of so many bytes at most: on this thread, which is what a small file costs least on, but
/// where somebody waits for output meanwhile. A file system that hangs must not hold that up.
pub(crate) async fn read(permit: &Permit<Path>, max: u64) -> Result<Vec<u8>, Failure> {
    let (below, deadline) = (permit.reach(), permit.deadline());
    let bytes = if permit.is_watched() {
        let (dir, path, links) = (Arc::clone(&below.dir), below.path.clone(), below.links);
        let work = tokio::task::spawn_blocking(move || read_below(&dir, &path, links, max, deadline));
        work.await.unwrap_or_else(|_| Err(Error::Failed("the host could not do it".into()).into()))
    } else {
        read_below(&below.dir, &below.path, below.links, max, deadline)
    };
    bytes.map_err(|unread| match unread {
        Unread::Lack(what) => Failure::Lack(what),
        Unread::Told(Error::Denied(reason)) => below.denied(reason),
        Unread::Told(error) => Failure::Ended(error),
    })
}

/// Resolves the path beneath the handle, never by joined text, and takes only plain files:
/// what is opened is what was looked at, or it is refused.
fn read_below(dir: &Dir, path: &str, links: Links, max: u64, deadline: Instant) -> Result<Vec<u8>, Unread> {
    let mut file = match links {
        Links::Follow => open(dir, path)?,
        Links::Refuse => open_itself(dir, path)?,
    };
    let metadata = file.metadata().map_err(|error| unread(&error, path))?;
    plain_file(&metadata, path)?;
    if metadata.len() > max {
        return Err(Error::TooLarge(max).into());
    }
    let mut bytes = Vec::new();
    let whole = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(whole).map_err(|_| Unread::Lack(crate::lack::MEMORY))?;
    loop {
        let piece = PIECE.min(max.saturating_add(1) - bytes.len() as u64);
        let read = (&mut file).take(piece).read_to_end(&mut bytes).map_err(|error| unread(&error, path))?;
        if bytes.len() as u64 > max {
            return Err(Error::TooLarge(max).into());
        }
        // Less than what was asked for: that was the end.
        if (read as u64) < piece {
            return Ok(bytes);
        }
        if clock::now() > deadline {
            return Err(Error::Expired.into());
        }
    }
}

fn open(dir: &Dir, path: &str) -> Result<File, Unread> {
    // Opening a pipe or a device can have effects of its own, so look first.
    plain_file(&dir.metadata(path).map_err(|error| unread(&error, path))?, path)?;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(QUIET.bits().cast_signed());
    dir.open_with(path, &options).map_err(|error| unread(&error, path))
}

/// For files that turn out to be something else.
const QUIET: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

/// Opens the file that has this name, and no link in its place.
fn open_itself(dir: &Dir, path: &str) -> Result<File, Unread> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = directory_itself(dir, parent, path)?;
    let failed = |errno: rustix::io::Errno| unread(&errno.into(), path);
    match FileType::from_raw_mode(statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?.st_mode) {
        FileType::RegularFile => {}
        FileType::Symlink => return Err(through_link(path).into()),
        _ => return Err(not_plain(path).into()),
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | QUIET;
    let file: OwnedFd = openat(&parent, name, flags, Mode::empty()).map_err(failed)?;
    Ok(File::from_std(file.into()))
}

fn plain_file(metadata: &cap_std::fs::Metadata, path: &str) -> Result<(), Error> {
    if metadata.is_file() { Ok(()) } else { Err(not_plain(path)) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn far() -> Instant {
        clock::now() + Duration::from_secs(60)
    }

    #[test]
    fn every_limit_is_a_limit() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(scratch.path(), cap_std::ambient_authority()).unwrap();
        dir.write("five", "12345").unwrap();
        for links in [Links::Follow, Links::Refuse] {
            for max in [5, 6, u64::MAX - 1, u64::MAX] {
                assert_eq!(read_below(&dir, "five", links, max, far()), Ok(b"12345".to_vec()));
            }
            for max in [0, 4] {
                assert_eq!(read_below(&dir, "five", links, max, far()), Err(Error::TooLarge(max).into()));
            }
        }
    }

    #[test]
    fn a_name_that_was_decided_on_is_what_is_opened() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(scratch.path(), cap_std::ambient_authority()).unwrap();
        dir.create_dir_all("a/b").unwrap();
        dir.write("a/b/f", "text").unwrap();
        for (to, link) in
            [("a", "dir"), ("b/f", "a/file"), ("../a/b", "a/up"), ("nowhere", "dangling"), ("self", "self")]
        {
            dir.symlink(to, link).unwrap();
        }
        let said = |links, path| match read_below(&dir, path, links, 100, far()) {
            Ok(bytes) => String::from_utf8(bytes).unwrap(),
            Err(Unread::Told(Error::Denied(reason))) if reason.contains("through a link") => "link".to_owned(),
            Err(Unread::Told(error)) => error.to_string(),
            Err(Unread::Lack(what)) => what.to_owned(),
        };
        for (path, followed, itself) in [
            ("a/b/f", "text", "text"),
            ("dir/b/f", "text", "link"),
            ("a/file", "text", "link"),
            ("a/up/f", "text", "link"),
            ("dir/up/f", "text", "link"),
            ("dangling", "not found", "link"),
            ("a/b/none", "not found", "not found"),
            ("a/none/f", "not found", "not found"),
            ("a/b", "invalid: `a/b` is not a plain file", "invalid: `a/b` is not a plain file"),
            ("a/b/f/g", "invalid: `a/b/f/g` is not a plain file", "invalid: `a/b/f/g` is not a plain file"),
        ] {
            assert_eq!(
                (said(Links::Follow, path).as_str(), said(Links::Refuse, path).as_str()),
                (followed, itself),
                "{path}"
            );
        }
        assert_eq!(said(Links::Refuse, "self"), "link");
    }
}
