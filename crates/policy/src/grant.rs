//! What one capability may reach.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::nearest::quoted;
use crate::{READ_FILE, Timeout, WRITE_FILE, paths};

/// Bytes that one `read_file` may give the guest if the grant names none.
pub const DEFAULT_MAX_BYTES: u64 = 8 << 20;
/// Bytes that one execution may write if the grant names none.
pub const DEFAULT_QUOTA: u64 = 64 << 20;
/// Files that one execution may make if the grant names none.
pub const DEFAULT_MAX_FILES: u64 = 1_000;
/// When work of the host expires if nothing else is said.
pub const HOST_TIMEOUT: Timeout = Timeout::After(10_000);
/// The greatest `max_bytes`: an answer is in host memory all at once, and in the journal.
pub const MAX_BYTES: u64 = 1 << 30;
/// The greatest `quota`: 16 TiB.
pub const MAX_QUOTA: u64 = 16 << 40;
/// The greatest `max_files`.
pub const MAX_FILES: u64 = 1_000_000_000;
/// The most directories of one grant: each call looks at every one.
pub const MAX_DIRS: usize = 64;

/// One directory that a grant shows the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirGrant {
    /// Where the guest sees it: starts with `/`, no `.`, `..`, empty component or slash at the end.
    pub guest: String,
    /// What it sees there: absolute, without `.` and `..`.
    pub host: PathBuf,
}

/// What one capability may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Directories, sorted by guest path, each guest path once; nested ones are legal, the longest wins.
    pub dirs: Vec<DirGrant>,
    /// Bytes that one call may give the guest, for capabilities that have it.
    pub max_bytes: Option<u64>,
    /// Bytes that one execution may write in all, for capabilities that have it.
    pub quota: Option<u64>,
    /// Files that one execution may make, for capabilities that have it.
    pub max_files: Option<u64>,
    /// When its promises expire.
    pub timeout: Timeout,
}

impl Grant {
    /// The grant of a capability whose policy says no more than that there is one: no directories, default sizes.
    pub(crate) fn of(capability: &str, timeout: Timeout) -> Grant {
        let (reads, writes) = (capability == READ_FILE, capability == WRITE_FILE);
        Grant {
            dirs: Vec::new(),
            max_bytes: reads.then_some(DEFAULT_MAX_BYTES),
            quota: writes.then_some(DEFAULT_QUOTA),
            max_files: writes.then_some(DEFAULT_MAX_FILES),
            timeout,
        }
    }

    /// Adds a directory in its sorted place; says what is wrong with it otherwise.
    pub(crate) fn add(&mut self, guest: &str, host: PathBuf) -> Result<(), String> {
        let guest = paths::mount(guest)?;
        if self.dirs.len() >= MAX_DIRS {
            return Err(format!("a grant may have {MAX_DIRS} directories at most"));
        }
        match self.dirs.binary_search_by(|dir| dir.guest.as_str().cmp(&guest)) {
            Ok(_) => Err(format!("guest path {} is granted twice", quoted(&guest))),
            Err(place) => {
                self.dirs.insert(place, DirGrant { guest, host });
                Ok(())
            }
        }
    }
}
