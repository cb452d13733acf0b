//! Replaces a file atomically.

use std::io::Write as _;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use parole_durable::PromiseId;
use rustix::fs::OFlags;

use super::kept::Kept;
use super::unfinished::{self, parent_of};
use super::{Unread, directory_itself, failed, not_plain};
use crate::Error;
use crate::call::failure::Failure;
use crate::call::permit::{Links, Path, Permit};
use crate::clock;
use crate::lack::lack;

/// What has become of a write. It moves on once, by whoever comes first: the thread that is about to
/// rename, or the call that gives up.
#[derive(Default)]
pub(crate) struct Progress {
    stage: AtomicU8,
    /// What the host was short of before anything was written, if that is why nothing was.
    lack: OnceLock<&'static str>,
}

const WRITING: u8 = 0;
const RENAMING: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Progress {
    fn to(&self, next: u8) -> bool {
        self.stage.compare_exchange(WRITING, next, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// How long a write that came to its rename in time may take for the rest.
const REST: Duration = Duration::from_secs(1);

/// A file that is to be replaced.
pub(crate) struct File {
    pub(crate) dir: Arc<Dir>,
    /// Its name below the directory.
    pub(crate) path: String,
    pub(crate) links: Links,
    /// The id of the call.
    pub(crate) key: PromiseId,
}

/// Replaces the file of a permit: whether it is a new one, which it may be if it `may_make` one.
pub(crate) async fn replace(permit: &Permit<Path>, contents: Arc<Vec<u8>>, may_make: bool) -> Result<bool, Failure> {
    let below = permit.reach();
    let Some(key) = permit.key().cloned() else { return Err(Failure::Ended(Error::Failed("it has no id".into()))) };
    let file = File { dir: Arc::clone(&below.dir), path: below.path.clone(), links: below.links, key };
    match replace_elsewhere(file, contents, permit.deadline(), may_make).await {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(Error::Denied(reason))) => Err(below.denied(reason)),
        Ok(Err(error)) => Err(Failure::Ended(error)),
        Err(what) => Err(Failure::Lack(what)),
    }
}

/// Files are synced to the disk, which blocks: so on a thread for that. A write that takes too long is
/// given up, and then it does not happen later either.
async fn replace_elsewhere(
    file: File,
    contents: Arc<Vec<u8>>,
    deadline: Instant,
    may_make: bool,
) -> Result<Result<bool, Error>, &'static str> {
    let progress = Arc::new(Progress::default());
    let shared = Arc::clone(&progress);
    let mut work = tokio::task::spawn_blocking(move || replace_below(&file, &contents, &shared, may_make));
    let mut done = clock::timeout_at(deadline, &mut work).await;
    if done.is_err() {
        if progress.to(GIVEN_UP) {
            return Ok(Err(too_long()));
        }
        done = clock::timeout_at(clock::now() + REST, work).await;
    }
    if let Some(what) = progress.lack.get() {
        return Err(what);
    }
    Ok(match done {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Error::Failed("the host could not do it".into())),
        Err(_) => Err(Error::Failed("it took too long; the file may have been replaced".into())),
    })
}

fn too_long() -> Error {
    Error::Failed("it took too long; nothing was written".into())
}

/// What goes wrong once there are bytes on the disk: never a kind of error that says that nothing was begun.
fn failed_late(error: &std::io::Error, path: &str) -> Error {
    match failed(error, path) {
        Error::Denied(text) | Error::Invalid(text) => Error::Failed(text),
        error => error,
    }
}

/// Writes beside the file under a name that only this call has, syncs, renames over it, and
/// syncs the directory: whoever looks sees the old contents or the new ones. A repetition
/// after a crash finds and replaces its own unfinished file.
///
/// Says whether the file is a new one.
pub(super) fn replace_below(file: &File, contents: &[u8], progress: &Progress, may_make: bool) -> Result<bool, Error> {
    let File { dir, path, links, key } = file;
    let failed = |error: std::io::Error| {
        if let Some(what) = lack(&error) {
            let _ = progress.lack.set(what);
        }
        failed(&error, path)
    };
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if matches!(name, "" | "." | "..") {
        return Err(not_plain(path));
    }
    let parent = match links {
        Links::Follow => parent_of(dir, parent).map_err(failed)?,
        Links::Refuse => directory_itself(dir, parent, path).map_err(|unread| match unread {
            Unread::Told(error) => error,
            Unread::Lack(what) => {
                let _ = progress.lack.set(what);
                Error::Failed(what.into())
            }
        })?,
    };
    let old = match parent.symlink_metadata(name) {
        Ok(there) if there.is_file() => Some(Kept::of(&parent, name, &there).map_err(failed)?),
        Ok(_) => return Err(not_plain(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    if old.is_none() && !may_make {
        return Err(Error::Exhausted(String::new()));
    }
    // Opened while there is nothing to take back: it is synced when the name is there.
    let directory = parent.open(".").map_err(failed)?;
    let unfinished = unfinished::name(key);
    let mut options = OpenOptions::new();
    // Nobody else sees the contents before the file has the rights of the old one. The umask has its say about new
    // files only.
    options.write(true).create_new(true).mode(if old.is_some() { 0o600 } else { 0o666 });
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let mut file = match parent.open_with(&unfinished, &options) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            parent.remove_file(&unfinished).map_err(failed)?;
            parent.open_with(&unfinished, &options).map_err(failed)?
        }
        opened => opened.map_err(failed)?,
    };
    let kept = old.as_ref().map_or(Ok(()), |old| old.give(&file));
    let written = kept
        .map_err(|what| Error::Failed(format!("`{path}` was not replaced: its {what} cannot be kept")))
        .and_then(|()| {
            file.write_all(contents).and_then(|()| file.sync_all()).map_err(|error| failed_late(&error, path))
        })
        .and_then(|()| if progress.to(RENAMING) { Ok(()) } else { Err(too_long()) })
        .and_then(|()| parent.rename(&unfinished, &parent, name).map_err(|error| not_renamed(&error, path)));
    if let Err(error) = written {
        let _ = parent.remove_file(&unfinished);
        return Err(error);
    }
    let synced = directory.sync_all();
    // The new contents are there; whether they stay there after a power cut is what nobody knows.
    synced.map(|()| old.is_none()).map_err(|error| match failed_late(&error, path) {
        Error::Failed(text) => Error::Failed(format!("{text}; it may have happened")),
        error => error,
    })
}

/// Why the new contents could not take the place of the old. A file that is a mount of its own, as containers have
/// them, can only be written where it lies, and then somebody could see half of it.
fn not_renamed(error: &std::io::Error, path: &str) -> Error {
    let mounted = [rustix::io::Errno::BUSY, rustix::io::Errno::XDEV];
    if mounted.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
        return Error::Failed(format!(
            "`{path}` is a mount of its own, so it cannot be replaced; its directory can hold others"
        ));
    }
    failed_late(error, path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use cap_std::ambient_authority;

    use super::*;

    fn place() -> (tempfile::TempDir, Dir) {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(scratch.path(), ambient_authority()).unwrap();
        (scratch, dir)
    }

    fn of(dir: &Dir, path: &str) -> File {
        let (dir, path) = (dir.try_clone().unwrap(), path.to_owned());
        File { dir: Arc::new(dir), path, links: Links::Follow, key: "write_file:x:y".into() }
    }

    fn names(scratch: &tempfile::TempDir) -> Vec<String> {
        let mut names: Vec<String> =
            scratch.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_mode_of_a_file_is_kept_exactly() {
        let (scratch, dir) = place();
        let file = scratch.path().join("f");
        for mode in [0o600, 0o640, 0o666, 0o777, 0o200] {
            fs::write(&file, "old").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            replace_below(&of(&dir, "f"), b"new", &Progress::default(), true).unwrap();
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, mode, "{mode:o}");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(fs::read(&file).unwrap(), b"new");
        }
        // A file that sets the user id hands that on to nobody's new contents.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4711)).unwrap();
        replace_below(&of(&dir, "f"), b"new", &Progress::default(), true).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o711);
    }

    /// A file that is a mount of its own cannot be renamed over, and what is said of it is that.
    #[test]
    fn a_mount_is_told_as_one() {
        for errno in [rustix::io::Errno::BUSY, rustix::io::Errno::XDEV] {
            let Error::Failed(text) = not_renamed(&errno.into(), "out/f") else { panic!() };
            assert!(text.starts_with("`out/f` is a mount of its own"), "{text}");
        }
        assert_eq!(not_renamed(&rustix::io::Errno::NOENT.into(), "f"), Error::NotFound);
    }

    #[test]
    fn a_name_that_was_decided_on_is_what_is_replaced() {
        let (scratch, dir) = place();
        dir.create_dir_all("a/b").unwrap();
        dir.symlink("a", "link").unwrap();
        let write = |path: &str, links| {
            replace_below(&File { links, ..of(&dir, path) }, path.as_bytes(), &Progress::default(), true)
        };
        assert_eq!(write("link/b/one", Links::Follow), Ok(true));
        for path in ["link/b/two", "link/two"] {
            assert!(matches!(write(path, Links::Refuse), Err(Error::Denied(reason)) if reason.contains("a link")));
        }
        assert_eq!(write("a/b/three", Links::Refuse), Ok(true));
        assert_eq!(write("four", Links::Refuse), Ok(true));
        assert_eq!(write("none/five", Links::Refuse), Err(Error::NotFound));
        assert_eq!(names(&scratch), ["a", "four", "link"]);
        let mut below: Vec<_> =
            fs::read_dir(scratch.path().join("a/b")).unwrap().map(|e| e.unwrap().file_name()).collect();
        below.sort();
        assert_eq!(below, ["one", "three"]);
    }

    #[test]
    fn what_was_given_up_does_not_happen_later() {
        let (scratch, dir) = place();
        fs::write(scratch.path().join("f"), "old").unwrap();
        let progress = Progress::default();
        assert!(progress.to(GIVEN_UP) && !progress.to(RENAMING));
        assert_eq!(replace_below(&of(&dir, "f"), b"new", &progress, true), Err(too_long()));
        assert_eq!(fs::read(scratch.path().join("f")).unwrap(), b"old");
        assert_eq!(names(&scratch), ["f"]);
    }

    #[test]
    fn a_write_that_takes_too_long_is_given_up() {
        let (scratch, dir) = place();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            // The one thread for files is busy.
            let (free, busy) = std::sync::mpsc::channel::<()>();
            let other = tokio::task::spawn_blocking(move || busy.recv());
            let answer = replace_elsewhere(
                of(&dir, "f"),
                Arc::new(b"new".to_vec()),
                clock::now() + Duration::from_millis(20),
                true,
            )
            .await;
            assert_eq!(answer, Ok(Err(too_long())));
            drop(free);
            assert!(other.await.unwrap().is_err());
            tokio::task::spawn_blocking(|| {}).await.unwrap();
        });
        assert_eq!(names(&scratch), Vec::<String>::new());
    }
}
