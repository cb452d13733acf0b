//! A guest as it is handed in: a file or some bytes.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parole_capabilities::lack::lack;
use parole_durable::Digest;

use crate::compiler::GUEST_MAX;
use crate::error::Error;

/// The bytes of a component or its text form, not yet looked at.
#[derive(Clone, Debug)]
pub struct Guest {
    /// A name for people: the file name without its directories.
    pub name: String,
    /// Where it was read, made absolute; none where that place is this process's alone ([`is_identity`]).
    pub path: Option<PathBuf>,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
    /// Their digest.
    pub digest: Digest,
}

impl Guest {
    /// A guest that does not come from a file.
    ///
    /// # Errors
    /// It is larger than [`GUEST_MAX`].
    pub fn from_bytes(name: impl Into<String>, bytes: impl Into<Arc<[u8]>>) -> Result<Self, Error> {
        let bytes = bytes.into();
        if bytes.len() as u64 > GUEST_MAX {
            return Err(too_large());
        }
        Ok(Self { name: name.into(), path: None, digest: Digest::of(&bytes), bytes })
    }

    /// Reads a guest.
    ///
    /// # Errors
    /// The file cannot be read, is not a plain file, or is larger than [`GUEST_MAX`].
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let cannot = |error: std::io::Error| match lack(&error) {
            Some(what) => Error::Lack(what),
            None => Error::Usage(format!("{}: {error}", path.display())),
        };
        let metadata = std::fs::metadata(path).map_err(cannot)?;
        if !metadata.is_file() {
            return Err(Error::Usage(format!("{} is not a file", path.display())));
        }
        if metadata.len() > GUEST_MAX {
            return Err(too_large());
        }
        let file = std::fs::File::open(path).map_err(cannot)?;
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
        file.take(GUEST_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
        let name = path.file_name().map_or_else(|| "guest".into(), |name| name.to_string_lossy().into_owned());
        let path = std::path::absolute(path).map_err(cannot)?;
        Ok(Self { path: Some(path).filter(|path| is_identity(path)), ..Self::from_bytes(name, bytes)? })
    }
}

/// Links that are followed at most: as many as the kernel follows.
const LINKS_MAX: usize = 40;
/// Where each process sees its own files: `/dev/stdin` and `/dev/fd/3` lead there.
const PER_PROCESS: &str = "/proc";

/// Whether a path means the same file to every process. What lies behind `/dev/stdin` or `/proc/self/fd/3` is
/// another file in each.
pub(crate) fn is_identity(path: &Path) -> bool {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        if path.starts_with(PER_PROCESS) {
            return false;
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return true };
        let Ok(parent) = parent.canonicalize() else { return true };
        path = parent.join(name);
        if path.starts_with(PER_PROCESS) {
            return false;
        }
        match path.read_link() {
            Ok(target) => path = parent.join(target),
            Err(_) => return true,
        }
    }
    true
}

fn too_large() -> Error {
    Error::NotAGuest(format!("it is larger than {} MiB", GUEST_MAX >> 20))
}
