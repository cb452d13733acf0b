//! What a write that was cut short has left: a file beside the one that it was to replace, under a name that only its
//! call has and nobody can guess.
//!
//! Whoever goes on with the execution writes it again under the same name; whoever ends it, or removes its records,
//! takes it away.

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use parole_durable::PromiseId;
use parole_policy::DirGrant;

/// The name that a file has until it is whole.
pub(crate) fn name(key: &PromiseId) -> String {
    format!(".parole-{}.tmp", key.as_str().rsplit(':').next().unwrap_or_default())
}

pub(crate) fn parent_of(dir: &Dir, parent: &str) -> std::io::Result<Dir> {
    match parent.trim_end_matches('/') {
        "" => dir.try_clone(),
        parent => dir.open_dir(parent),
    }
}

/// Removes what a write has left below a directory, if it is there and can be removed.
pub(crate) fn remove(dir: &Dir, below: &str, key: &PromiseId) {
    let (parent, _) = below.rsplit_once('/').unwrap_or(("", below));
    if let Ok(parent) = parent_of(dir, parent) {
        let _ = parent.remove_file(name(key));
    }
}

/// The same where nothing is open, below a directory that was granted; one that is a link by now is left alone.
pub(crate) fn remove_below(granted: &DirGrant, below: &str, key: &PromiseId) {
    if granted.host.canonicalize().is_ok_and(|real| real == granted.host)
        && let Ok(dir) = Dir::open_ambient_dir(&granted.host, ambient_authority())
    {
        remove(&dir, below, key);
    }
}
