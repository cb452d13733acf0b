//! The state directory: nobody but its owner gets in, and it is on a disk with working locks.
//!
//! Once the directory itself is known to be ours and closed to everybody else, nobody can
//! change its entries between a check and a use, so the checks of the files need no tricks.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::store::StoreError;

/// The name of the database file.
const DATABASE: &str = "parole.db";
/// The log beside it, which SQLite would make; see [`StateDir::database`].
const LOG: &str = "parole.db-wal";
/// The shared memory of its users, which SQLite makes.
const SHARED: &str = "parole.db-shm";
/// File systems whose locks do not hold between machines, or whose memory maps are not shared, by `f_type` of `statfs`.
const NETWORK: [(u32, &str); 6] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x517b, "SMB"),
    (0x0bd0_0bd0, "Lustre"),
    (0x5346_414f, "AFS"),
];

/// A state directory that has been checked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StateDir {
    /// Without symbolic links.
    path: Arc<Path>,
    handle: Arc<OwnedFd>,
}

impl StateDir {
    /// Opens the directory, which is made (0700) if it is missing, and checks that it is a
    /// directory and no symbolic link, that it belongs to the user of this process, that
    /// nobody else has access, and that it is on a local file system.
    ///
    /// # Errors
    /// [`StoreError::Unfit`] says which of these does not hold and what mends it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        // A slash at the end would have a link followed.
        let path: &Path = &path.components().collect::<PathBuf>();
        let handle = match open_directory(path) {
            Err(Errno::NOENT) => {
                make(path).map_err(|e| cannot(path, &e))?;
                open_directory(path)
            }
            other => other,
        }
        .map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR => {
                unfit(format!("{} is not a directory (symbolic links are not followed)", path.display()))
            }
            errno => cannot(path, &errno.into()),
        })?;
        let stat = rustix::fs::fstat(&handle).map_err(|e| cannot(path, &e.into()))?;
        check_owner(path, &stat)?;
        check_mode(path, &stat, 0o700)?;
        let kind = rustix::fs::fstatfs(&handle).map_err(|e| cannot(path, &e.into()))?.f_type;
        if let Some((_, name)) = NETWORK.iter().find(|(magic, _)| i128::from(*magic) == i128::from(kind) & 0xffff_ffff)
        {
            return Err(unfit(format!(
                "{} is on {name}: file locks and shared memory do not work there between machines, and the database \
                 would be damaged; use a local directory",
                path.display()
            )));
        }
        let path = std::fs::canonicalize(path).map_err(|e| cannot(path, &e))?;
        Ok(Self { path: path.into(), handle: Arc::new(handle) })
    }

    /// Its path, absolute and without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the database. It and its log exist (0600) and are checked, like the file
    /// that SQLite makes beside them, to which it gives the same mode.
    ///
    /// Their names are durable when this returns, so a build of SQLite that does not sync the
    /// directory itself (it would do so once in every process) loses nothing.
    ///
    /// # Errors
    /// [`StoreError::Unfit`]: a file is a link, of another user, or open to others.
    pub fn database(&self) -> Result<PathBuf, StoreError> {
        let mut made = false;
        for name in [DATABASE, LOG] {
            if self.check_file(name)? {
                continue;
            }
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            match rustix::fs::openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(_) => {}
                // Another process of ours was first.
                Err(Errno::EXIST) => drop(self.check_file(name)?),
                Err(errno) => return Err(cannot(&self.path.join(name), &errno.into())),
            }
            made = true;
        }
        self.check_file(SHARED)?;
        if made {
            self.sync()?;
        }
        Ok(self.path.join(DATABASE))
    }

    /// Makes the names in the directory durable.
    ///
    /// # Errors
    /// The disk failed.
    pub fn sync(&self) -> Result<(), StoreError> {
        rustix::fs::fsync(&self.handle).map_err(|errno| cannot(&self.path, &errno.into()))
    }

    /// A directory inside, made (0700) if it is missing, and checked like the state directory.
    ///
    /// # Errors
    /// [`StoreError::Unfit`], as for [`StateDir::open`].
    pub fn subdirectory(&self, name: &str) -> Result<OwnedFd, StoreError> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&self.handle, name, flags, Mode::empty());
        let handle = match open() {
            Err(Errno::NOENT) => match rustix::fs::mkdirat(&self.handle, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => open(),
                Err(errno) => Err(errno),
            },
            other => other,
        }
        .map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR => {
                unfit(format!("{} is not a directory (symbolic links are not followed)", path.display()))
            }
            errno => cannot(&path, &errno.into()),
        })?;
        let stat = rustix::fs::fstat(&handle).map_err(|e| cannot(&path, &e.into()))?;
        check_owner(&path, &stat)?;
        check_mode(&path, &stat, 0o700)?;
        Ok(handle)
    }

    /// Whether the file exists; if so it is a regular file of ours that nobody else can open.
    fn check_file(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.path.join(name);
        let stat = match rustix::fs::statat(self.handle.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(cannot(&path, &errno.into())),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(unfit(format!("{} is not a regular file (symbolic links are not followed)", path.display())));
        }
        check_owner(&path, &stat)?;
        check_mode(&path, &stat, 0o600)?;
        Ok(true)
    }
}

/// Makes a directory (0700), and those above it that are missing. Their names are durable when this returns.
fn make(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.exists()).collect();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match std::fs::File::open(parent) {
            Ok(parent) => parent.sync_all()?,
            // One may be allowed to make entries in a directory that one cannot read.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn check_owner(path: &Path, stat: &Stat) -> Result<(), StoreError> {
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid == own {
        return Ok(());
    }
    Err(unfit(format!("{} belongs to the user {}, not to the user {own} of this process", path.display(), stat.st_uid)))
}

/// Whoever can read the state can answer for a person, so a directory that others can enter is not mended in silence.
fn check_mode(path: &Path, stat: &Stat, wanted: u32) -> Result<(), StoreError> {
    let mode = stat.st_mode & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(unfit(format!("{path} is open to other users (mode {mode:03o}); close it with: chmod {wanted:o} '{path}'")))
}

fn unfit(text: String) -> StoreError {
    StoreError::Unfit(text.into())
}

fn cannot(path: &Path, error: &io::Error) -> StoreError {
    unfit(format!("cannot use {}: {error}", path.display()))
}
