//! Certificate authorities of one's own, that a grant trusts beside the public ones.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::nearest::quoted;
use crate::paths;

/// The most files of authorities of one grant or database.
pub const MAX_AUTHORITIES: usize = 16;
/// The largest file of certificates, in bytes: it is part of the pinned policy.
pub const MAX_AUTHORITY: usize = 256 << 10;

/// A file with certificates of authorities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Where it was read: absolute, without `.` and `..`.
    pub file: PathBuf,
    /// What it held then. None: it has not been read yet, which is done before the policy is pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Certificates>,
}

/// What a file of authorities held when it was read: this is what is trusted, whatever becomes of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificates {
    /// The digest of the file: `sha256:…`.
    pub digest: String,
    /// Its text: one certificate at least, PEM.
    pub pem: String,
}

/// Reads a file of authorities, or says what is wrong with it: this crate does not touch files.
pub type ReadAuthority = dyn Fn(&Path) -> Result<Certificates, String>;

impl Authority {
    /// The file of that name, relative to `base`; it has not been read yet.
    pub(crate) fn of(base: &Path, text: &str) -> Result<Self, String> {
        paths::host(base, text).map(|file| Self { file, read: None })
    }

    /// What is wrong with it in a policy.
    pub(crate) fn fault(&self) -> Option<String> {
        if !self.file.is_absolute() || paths::plain(&self.file) != self.file {
            return Some("the path of an authority's file is not in its normal form".to_owned());
        }
        let long = self.read.as_ref().is_some_and(|read| read.pem.len() > MAX_AUTHORITY);
        long.then(|| format!("a file of authorities has {MAX_AUTHORITY} bytes at most"))
    }
}

/// Adds one of a list, or says what is wrong with that.
pub(crate) fn add(list: &mut Vec<Authority>, authority: Authority) -> Result<(), String> {
    if list.iter().any(|other| other.file == authority.file) {
        return Err(format!("the file {} stands twice", quoted(&authority.file.to_string_lossy())));
    }
    if list.len() >= MAX_AUTHORITIES {
        return Err(format!("there may be {MAX_AUTHORITIES} files of authorities at most"));
    }
    list.push(authority);
    Ok(())
}
