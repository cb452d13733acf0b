//! What one execution may reach: its policy with the granted directories opened.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use parole_policy::SecurityPolicy;

use crate::validator::Validator;

/// A policy whose directories have been opened. From here on they are handles: a path that
/// is moved or replaced afterwards changes nothing.
pub struct Scope {
    /// The policy, as it was pinned.
    pub policy: SecurityPolicy,
    /// The opened directories of each capability, in the order of its grant.
    pub dirs: BTreeMap<String, Vec<Dir>>,
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
        let mut dirs = BTreeMap::new();
        for (capability, grant) in &policy.grants {
            let opened: Result<Vec<Dir>, Unopened> = grant
                .dirs
                .iter()
                .map(|dir| {
                    Dir::open_ambient_dir(&dir.host, ambient_authority()).map_err(|source| Unopened {
                        capability: capability.clone(),
                        path: dir.host.clone(),
                        source,
                    })
                })
                .collect();
            dirs.insert(capability.clone(), opened?);
        }
        Ok(Self { policy, dirs, validators })
    }
}
