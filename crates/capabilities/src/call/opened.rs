//! What one execution may reach: its policy with the granted directories opened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use parole_durable::ExecutionId;
use parole_policy::{Definition, DirGrant, Looks, SecurityPolicy};

use crate::Error;
use crate::call::validator::{Call, Validator};
use crate::error::Refused;
use crate::lack::lack;

/// A policy whose directories have been opened. From here on they are handles: a path that
/// is moved or replaced afterwards changes nothing.
pub struct OpenedPolicy {
    /// The policy, as it was pinned.
    pub policy: Arc<SecurityPolicy>,
    /// The opened directories of each capability, in the order of its grant; none where one is gone.
    pub dirs: BTreeMap<String, Vec<Option<Arc<Dir>>>>,
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

impl OpenedPolicy {
    /// Opens what the policy grants.
    ///
    /// # Errors
    /// A granted directory is missing or may not be opened.
    pub fn open(policy: Arc<SecurityPolicy>, validators: Vec<Validator>) -> Result<Self, Unopened> {
        let mut dirs = BTreeMap::new();
        for (capability, grant) in &policy.grants {
            let open = |dir: &DirGrant| {
                let opened = Dir::open_ambient_dir(&dir.host, ambient_authority());
                opened.map(|dir| Some(Arc::new(dir))).map_err(|source| Unopened {
                    capability: capability.clone(),
                    path: dir.host.clone(),
                    source,
                })
            };
            dirs.insert(capability.clone(), grant.dirs.iter().map(open).collect::<Result<_, Unopened>>()?);
        }
        Ok(Self { policy, dirs, validators })
    }

    /// The scope of another policy after this one: directories that are granted still are the very handles that
    /// they were, and of the new ones those are opened that `is_itself` holds for; a call that needs another fails.
    ///
    /// # Errors
    /// What the host is short of.
    pub fn changed(
        &self,
        policy: Arc<SecurityPolicy>,
        is_itself: impl Fn(&Path) -> bool,
    ) -> Result<Self, &'static str> {
        let there = |opened: std::io::Result<Dir>| match opened {
            Ok(dir) => Ok(Some(Arc::new(dir))),
            Err(error) => lack(&error).map_or(Ok(None), Err),
        };
        let mut dirs = BTreeMap::new();
        for (capability, grant) in &policy.grants {
            let old = self.policy.grants.get(capability).map_or(&[][..], |grant| &grant.dirs);
            let open = |dir: &DirGrant| match old.iter().position(|old| old == dir) {
                Some(at) => match self.dirs.get(capability).and_then(|dirs| dirs.get(at)?.as_ref()) {
                    Some(dir) => Ok(Some(Arc::clone(dir))),
                    None => Ok(None),
                },
                None if is_itself(&dir.host) => there(Dir::open_ambient_dir(&dir.host, ambient_authority())),
                None => Ok(None),
            };
            dirs.insert(capability.clone(), grant.dirs.iter().map(open).collect::<Result<_, _>>()?);
        }
        Ok(Self { policy, dirs, validators: self.validators.clone() })
    }

    /// What may look at the parts of a call that can be spelt in several ways: rules, or a check in Rust.
    pub(super) fn looks(&self, capability: &Definition) -> Looks {
        if self.is_judged(&capability.name) { Looks::ALL } else { self.policy.looks(capability) }
    }

    /// Whether all calls of a capability without a scope are decided alike.
    pub(super) fn decides_alike(&self, capability: &str) -> bool {
        !self.is_judged(capability) && self.policy.rules_of(capability).next().is_none()
    }

    /// Whether a check in Rust has a say about a capability.
    pub(super) fn is_judged(&self, capability: &str) -> bool {
        self.validators.iter().any(|validator| *validator.capability == *capability)
    }

    /// The first refusal of a check in Rust, with the name of the check. It may take as long as checks may.
    pub(super) fn judge(
        &self,
        execution: ExecutionId,
        capability: &Arc<str>,
        arguments: impl Fn() -> Vec<u8>,
    ) -> Option<(Refused, String)> {
        let mut call = None;
        for validator in self.validators.iter().filter(|validator| validator.capability == *capability) {
            let call = call.get_or_insert_with(|| Call {
                execution,
                capability: Arc::clone(capability),
                arguments: String::from_utf8_lossy(&arguments()).into(),
            });
            if let Err(reason) = validator.judge(call) {
                let refused = Refused {
                    capability: capability.to_string(),
                    argument: None,
                    error: Error::Denied(reason),
                    remedy: format!("the validator `{}` of this host decides", validator.name),
                };
                return Some((refused, validator.name.to_string()));
            }
        }
        None
    }

    /// A policy with nothing opened, for a replay: it asks nothing.
    #[must_use]
    pub fn closed(policy: Arc<SecurityPolicy>) -> Self {
        Self { policy, dirs: BTreeMap::new(), validators: Vec::new() }
    }
}
