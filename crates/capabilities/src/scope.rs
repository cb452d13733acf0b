//! What one execution may reach: its policy with the granted directories opened.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use parole_policy::{DirGrant, SecurityPolicy};

use crate::validator::Validator;

/// A policy whose directories have been opened. From here on they are handles: a path that
/// is moved or replaced afterwards changes nothing.
pub struct Scope {
    /// The policy, as it was pinned.
    pub policy: SecurityPolicy,
    /// The opened directories of each capability, in the order of its grant; none where one is gone.
    pub dirs: BTreeMap<String, Vec<Option<Dir>>>,
    /// The checks in Rust, in order.
    pub validators: Vec<Validator>,
}

/// A granted directory that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the directory {path} granted to `{capability}` cannot be opened: {source}")]
pub struct Unopened {
    /// To which capability it was granted.
    pub capability: String,
    /// The host path.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: std::io::Error,
}

impl Scope {
    /// Opens what the policy grants.
    ///
    /// # Errors
    /// A granted directory is missing or may not be opened.
    pub fn open(policy: SecurityPolicy, validators: Vec<Validator>) -> Result<Self, Unopened> {
        let mut unopened = None;
        let scope = Self::open_with(policy, validators, |error| {
            unopened.get_or_insert(error);
        });
        unopened.map_or(Ok(scope), Err)
    }

    /// Opens what of it is there: a call that needs what is gone fails.
    #[must_use]
    pub fn open_what_is_there(policy: SecurityPolicy, validators: Vec<Validator>) -> Self {
        Self::open_with(policy, validators, |error| tracing::warn!("{error}"))
    }

    fn open_with(policy: SecurityPolicy, validators: Vec<Validator>, mut unopened: impl FnMut(Unopened)) -> Self {
        let mut dirs = BTreeMap::new();
        for (capability, grant) in &policy.grants {
            let open = |dir: &DirGrant| {
                Dir::open_ambient_dir(&dir.host, ambient_authority())
                    .map_err(|source| {
                        unopened(Unopened { capability: capability.clone(), path: dir.host.clone(), source });
                    })
                    .ok()
            };
            dirs.insert(capability.clone(), grant.dirs.iter().map(open).collect());
        }
        Self { policy, dirs, validators }
    }
}
