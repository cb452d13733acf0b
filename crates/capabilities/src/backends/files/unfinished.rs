//! What a write that was cut short has left: a file beside the one that it was to replace, under a name that only its
//! call has and nobody can guess.
//!
//! Whoever goes on with the execution writes it again under the same name; whoever ends it, or removes its records,
//! takes it away ([`sweep`]).

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use parole_durable::PromiseId;
use parole_policy::{Arguments, GuestPath, SecurityPolicy, Verdict, decide};
use serde::Deserialize;

use crate::capability::write_file::ENTRY;

/// The journal name of the calls that may leave something.
pub const FUNCTION: &str = "write_file";

/// The part of a call's recorded arguments that says where.
#[derive(Deserialize)]
struct Place {
    path: String,
}

/// The name that a file has until it is whole.
pub(crate) fn name(key: &PromiseId) -> String {
    format!(".parole-{}.tmp", key.as_str().rsplit(':').next().unwrap_or_default())
}

/// Where the grants of a policy lead for a path, whatever its rules say and though they were taken back: the index of
/// the directory, and the rest of the path.
pub(crate) fn place(policy: &SecurityPolicy, path: &str) -> Option<(usize, String)> {
    let mut policy = policy.clone();
    policy.rules.clear();
    policy.revoked.clear();
    let path = GuestPath::read(path).ok()?;
    let arguments = Arguments::Write { path: &path, bytes: 0, contents: &[] };
    match decide(&policy, 0, &ENTRY.capability, &arguments) {
        Verdict::Allow(permit) => Some((permit.dir?, permit.relative.to_owned())),
        Verdict::Ask(_) | Verdict::Deny(_) => None,
    }
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

/// Removes what a recorded call of [`FUNCTION`] may have left under this policy, if it is there. `key` is the id of the
/// call. To be asked for each policy that the execution has had; nothing is opened that was not granted, and a granted
/// directory that is a link by now is left alone.
pub fn sweep(policy: &SecurityPolicy, arguments: &[u8], key: &PromiseId) {
    let Ok(Place { path }) = serde_json::from_slice(arguments) else { return };
    let Some((dir, below)) = place(policy, &path) else { return };
    let granted = policy.grants.get(ENTRY.capability.name).and_then(|grant| grant.dirs.get(dir));
    let Some(host) = granted.map(|dir| &dir.host) else { return };
    if host.canonicalize().is_ok_and(|real| real == *host)
        && let Ok(dir) = Dir::open_ambient_dir(host, ambient_authority())
    {
        remove(&dir, &below, key);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use parole_policy::{Level, Then};

    use super::*;

    /// Rules and revocations say what may be done, not where what was done lies.
    #[test]
    fn what_is_left_is_found_by_the_grants_of_its_time() {
        let scratch = tempfile::tempdir().unwrap();
        let host = scratch.path().canonicalize().unwrap();
        fs::create_dir(host.join("deep")).unwrap();
        let granted = SecurityPolicy::new(Level::Standard).allow_write("/out", &host);
        let mut revoked = granted.clone().rule("none", "write_file", None, Then::Deny);
        revoked.revoked.insert("write_file".to_owned());
        let key: PromiseId = "write_file:x:y".into();
        let other = SecurityPolicy::new(Level::Standard).allow_write("/other", &host);
        for (policy, path, at, goes) in [
            (&granted, "/out/f", "", true),
            (&revoked, "/out/f", "", true),
            (&granted, "out/deep/f", "deep", true),
            (&granted, "/out/f", "deep", false),
            (&other, "/out/f", "", false),
            (&granted, "/out/../f", "", false),
        ] {
            let left = host.join(at).join(name(&key));
            fs::write(&left, "half").unwrap();
            fs::write(host.join(".parole-z.tmp"), "another's").unwrap();
            sweep(policy, format!("{{\"path\":\"{path}\",\"bytes\":1}}").as_bytes(), &key);
            assert_eq!(left.exists(), !goes, "{path}");
            assert!(host.join(".parole-z.tmp").exists());
        }
        sweep(&granted, b"no JSON", &key);
        // A granted directory that leads elsewhere by now.
        let (real, link) = (host.join("deep"), host.join("link"));
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let left = real.join(name(&key));
        fs::write(&left, "half").unwrap();
        let linked = SecurityPolicy::new(Level::Standard).allow_write("/out", &link);
        sweep(&linked, b"{\"path\":\"/out/f\"}", &key);
        assert!(left.exists());
    }
}
