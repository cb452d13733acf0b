//! Whether the process that holds an execution still lives.
//!
//! An owner is a lock, not a clock: a file named by the id of the owner, locked for as long
//! as its process lives. The kernel drops the lock when the process ends, however it ends,
//! so a lease is void exactly when the lock is free (or the file is gone).
//!
//! Two rules make this safe without any other agreement. The file is locked, and seen to
//! have still a name, before its id is written anywhere. And whoever removes a file holds
//! its lock.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use uuid::Uuid;

use crate::ids::OwnerId;
use crate::state_dir::StateDir;
use crate::store::StoreError;

/// The directory of the lock files inside the state directory.
const DIRECTORY: &str = "owners";
/// How often a new owner tries again because a sweep took its file for a dead one.
const ATTEMPTS: usize = 16;

/// Makes owners and tells whether they live.
#[derive(Clone, Debug)]
pub struct Owners(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Files(Arc<OwnedFd>),
    Memory,
}

/// The owners without a file: they live in this process or nowhere.
static MEMORY: Mutex<BTreeSet<OwnerId>> = Mutex::new(BTreeSet::new());

impl Owners {
    /// Owners with lock files in a state directory.
    ///
    /// # Errors
    /// [`StoreError::Unfit`]: the directory of the lock files cannot be made, or is not ours.
    pub fn in_directory(state: &StateDir) -> Result<Self, StoreError> {
        Ok(Self(Kind::Files(Arc::new(state.subdirectory(DIRECTORY)?))))
    }

    /// Owners that live inside this process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self(Kind::Memory)
    }

    /// A new owner, alive until it is dropped or the process ends.
    ///
    /// # Errors
    /// [`StoreError::Io`]: the file cannot be made or locked.
    pub fn create(&self) -> Result<Owner, StoreError> {
        let Kind::Files(directory) = &self.0 else {
            let id = OwnerId(Uuid::now_v7());
            MEMORY.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
            return Ok(Owner { id, owners: self.clone(), file: None });
        };
        for _ in 0..ATTEMPTS {
            let id = OwnerId(Uuid::now_v7());
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let handle = rustix::fs::openat(directory, name(id), flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
            let file = File::from(handle);
            // Between making and locking it a sweep may have taken it for dead: then it is locked, or has no name.
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(StoreError::Io(format!("owner: {error}").into())),
                Ok(()) => {}
            }
            if rustix::fs::fstat(&file).map_err(failed)?.st_nlink > 0 {
                return Ok(Owner { id, owners: self.clone(), file: Some(file) });
            }
        }
        Err(StoreError::Io("owner: the lock file was removed again and again".into()))
    }

    /// Whether an owner lives. Asking takes no lock that another asker would see.
    ///
    /// # Errors
    /// [`StoreError::Io`]: it cannot be told. It must not be taken for dead then.
    pub fn is_alive(&self, owner: OwnerId) -> Result<bool, StoreError> {
        let Kind::Files(directory) = &self.0 else {
            return Ok(MEMORY.lock().unwrap_or_else(PoisonError::into_inner).contains(&owner));
        };
        let Some(file) = open(directory, owner)? else { return Ok(false) };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(StoreError::Io(format!("owner {}: {error}", owner.0).into())),
        }
    }

    /// Removes the files of dead owners, and says how many. A missing file means dead too, so
    /// nothing is lost by it whatever they still hold.
    ///
    /// # Errors
    /// [`StoreError::Io`]: the directory cannot be read.
    pub fn sweep(&self) -> Result<u64, StoreError> {
        let Kind::Files(directory) = &self.0 else { return Ok(0) };
        let mut removed = 0;
        for entry in rustix::fs::Dir::read_from(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(owner) = entry.file_name().to_str().ok().and_then(|n| Uuid::try_parse(n).ok()).map(OwnerId) else {
                continue;
            };
            let Some(file) = open(directory, owner)? else { continue };
            if file.try_lock().is_ok() && rustix::fs::unlinkat(directory, name(owner), AtFlags::empty()).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// An owner that lives for as long as this value does.
#[derive(Debug)]
pub struct Owner {
    id: OwnerId,
    owners: Owners,
    /// Locked; the lock goes with it.
    file: Option<File>,
}

impl Owner {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> OwnerId {
        self.id
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        match &self.owners.0 {
            Kind::Memory => drop(MEMORY.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id)),
            // While we still hold the lock: see the second rule above.
            Kind::Files(directory) if self.file.is_some() => {
                if let Err(errno) = rustix::fs::unlinkat(directory, name(self.id), AtFlags::empty()) {
                    tracing::debug!(%errno, owner = %self.id.0, "the lock file of the owner stays");
                }
            }
            Kind::Files(_) => {}
        }
    }
}

fn name(owner: OwnerId) -> String {
    owner.0.as_hyphenated().to_string()
}

fn open(directory: &OwnedFd, owner: OwnerId) -> Result<Option<File>, StoreError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::openat(directory, name(owner), flags, Mode::empty()) {
        Ok(handle) => Ok(Some(File::from(handle))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

fn failed(errno: Errno) -> StoreError {
    StoreError::Io(format!("owners: {}", std::io::Error::from(errno)).into())
}
