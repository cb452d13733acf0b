//! The policy: what one guest may do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    Capability, Catalogue, DirGrant, FlagError, Grant, HOST_TIMEOUT, Level, LimitKey, Limits, READ_FILE, Timeout,
    WRITE_FILE, paths,
};

/// What one guest may do.
///
/// Its JSON ([`SecurityPolicy::to_json`]) is deterministic and is what an execution pins. Where it came from
/// (the lines that `explain` shows) is not part of it, nor of equality.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityPolicy {
    /// How much of what is defined it may link.
    pub level: Level,
    /// Capabilities that it may not link, whatever the level.
    pub block: BTreeSet<String>,
    /// Whether guests that use async types may run.
    #[serde(rename = "async")]
    pub async_guests: bool,
    /// How much of the machine it may use.
    pub limits: Limits,
    /// What each capability may reach, by name. No entry: no directories, the default timeout.
    pub grants: BTreeMap<String, Grant>,
    /// What is wrong with a policy that was put together in Rust. Such a policy links and allows nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    faults: Vec<String>,
    #[serde(skip)]
    pub(crate) source: Source,
}

/// Where the parts of a policy were written. Says nothing about what it allows, so all sources are equal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// 1-based line by dotted key: `level`, `block.NAME`, `grant.NAME`, `grant.NAME.KEY`, `grant.NAME.dirs:GUEST`.
    pub(crate) lines: BTreeMap<String, usize>,
    /// The limits that were given, not taken from the level.
    pub(crate) own_limits: BTreeSet<&'static str>,
}

impl PartialEq for Source {
    fn eq(&self, _: &Source) -> bool {
        true
    }
}

impl Eq for Source {}

/// A policy could not be turned into its pinned form or back.
#[derive(Debug, thiserror::Error)]
#[error("the pinned policy cannot be {verb}: {source}")]
pub struct PinError {
    verb: &'static str,
    source: serde_json::Error,
}

/// A granted directory that contains or lies in a path that no guest may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The capability with the grant.
    pub capability: String,
    /// The granted directory.
    pub dir: DirGrant,
    /// What is protected: "the state directory".
    pub label: String,
    /// The protected path.
    pub path: PathBuf,
}

impl SecurityPolicy {
    /// A policy of this level that grants no scopes and has the level's limits.
    pub fn new(level: Level) -> Self {
        SecurityPolicy {
            level,
            block: BTreeSet::new(),
            async_guests: true,
            limits: Limits::of(level),
            grants: BTreeMap::new(),
            faults: Vec::new(),
            source: Source::default(),
        }
    }

    /// Refuses a capability, whatever the level. [`SecurityPolicy::validate`] checks the name.
    #[must_use]
    pub fn block(mut self, capability: &str) -> Self {
        self.block.insert(capability.to_owned());
        self
    }

    /// Lets `read_file` see an absolute host directory at a guest path.
    #[must_use]
    pub fn allow_read(self, guest: &str, host: impl AsRef<Path>) -> Self {
        self.allow(READ_FILE, guest, host.as_ref())
    }

    /// Lets `write_file` see an absolute host directory at a guest path. Writing does not imply reading.
    #[must_use]
    pub fn allow_write(self, guest: &str, host: impl AsRef<Path>) -> Self {
        self.allow(WRITE_FILE, guest, host.as_ref())
    }

    /// When the promises of a capability expire.
    #[must_use]
    pub fn timeout(mut self, capability: &str, timeout: Timeout) -> Self {
        let grant = self.grants.entry(capability.to_owned());
        grant.or_insert_with(|| Grant::of(capability, timeout)).timeout = timeout;
        self
    }

    /// Changes the limits.
    #[must_use]
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self.source.own_limits = LimitKey::ALL.iter().map(|key| key.name).collect();
        self
    }

    fn allow(mut self, capability: &str, guest: &str, host: &Path) -> Self {
        let added = match host.to_str() {
            None => Err("a host path is not UTF-8".to_owned()),
            Some(text) => paths::host(Path::new(""), text),
        };
        let grant = self.grants.entry(capability.to_owned());
        let grant = grant.or_insert_with(|| Grant::of(capability, HOST_TIMEOUT));
        if let Err(fault) = added.and_then(|host| grant.add(guest, host)) {
            self.faults.push(format!("{capability}: {fault}"));
        }
        self
    }

    /// What is wrong with a policy that was put together in Rust or read from a record: paths, names that are
    /// not in the catalogue, grants that its own level or block list excludes.
    pub fn validate(&self, catalogue: &Catalogue) -> Result<(), Vec<String>> {
        let mut faults = self.faults.clone();
        let unknown = |name: &String| format!("unknown capability {}", crate::nearest::quoted(name));
        faults.extend(self.block.iter().filter(|name| catalogue.by_name(name).is_none()).map(unknown));
        for (name, grant) in &self.grants {
            match catalogue.by_name(name) {
                None => faults.push(unknown(name)),
                Some(capability) => {
                    faults.extend(self.excludes(capability, "this policy").map(|why| format!("grant.{name}: {why}")))
                }
            }
            for dir in &grant.dirs {
                let normal = paths::mount(&dir.guest).is_ok_and(|guest| guest == dir.guest);
                if !normal || !dir.host.is_absolute() || paths::plain(&dir.host) != dir.host {
                    faults.push(format!(
                        "grant.{name}: {} is not in its normal form",
                        crate::nearest::quoted(&dir.guest)
                    ));
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The first thing that was wrong when it was put together; such a policy allows nothing.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.faults.first().map(String::as_str)
    }

    /// Why the policy's own level or block list excludes a capability, if it does.
    pub(crate) fn excludes(&self, capability: &Capability, this: &str) -> Option<String> {
        let name = capability.name;
        if self.block.contains(name) {
            Some(format!("`{name}` is in the block list of {this}"))
        } else if capability.level > self.level {
            Some(format!("`{name}` needs level `{}`; {this} has `{}`", capability.level, self.level))
        } else {
            None
        }
    }

    /// Whether level and block list let a guest link this capability.
    pub fn links(&self, capability: &Capability) -> bool {
        self.faults.is_empty() && capability.level <= self.level && !self.block.contains(capability.name)
    }

    /// When the promises of a capability expire under this policy.
    pub fn timeout_of(&self, capability: &Capability) -> Timeout {
        self.grants.get(capability.name).map_or(capability.default_timeout, |grant| grant.timeout)
    }

    /// The capabilities that link but reach nothing, because what they may reach is an empty list. Announced
    /// before the start.
    pub fn empty_scopes(&self, catalogue: &Catalogue) -> Vec<&'static str> {
        let empty = |name| self.grants.get(name).is_none_or(|grant| grant.dirs.is_empty());
        let linked = catalogue.iter().filter(|capability| capability.has_dirs() && self.links(capability));
        linked.map(|capability| capability.name).filter(|name| empty(*name)).collect()
    }

    /// The first granted directory that contains or lies in a protected path. Each protected path has a label
    /// for messages ("the state directory"). Paths are compared by component: make them canonical first.
    pub fn overlap(&self, protected: &[(&str, &Path)]) -> Option<Overlap> {
        let dirs = self.grants.iter().flat_map(|(name, grant)| grant.dirs.iter().map(move |dir| (name, dir)));
        dirs.flat_map(|dir| protected.iter().map(move |path| (dir, path)))
            .find(|((_, dir), (_, path))| dir.host.starts_with(path) || path.starts_with(&dir.host))
            .map(|((name, dir), (label, path))| Overlap {
                capability: name.clone(),
                dir: dir.clone(),
                label: (*label).to_owned(),
                path: path.to_path_buf(),
            })
    }

    /// Whether each granted directory lies in one that `wider` grants the same capability.
    ///
    /// [`SecurityPolicy::narrow`] asks this of paths as text. A symbolic link below a granted directory can
    /// lead out of it, so ask again when the hosts of both policies have been made canonical.
    pub fn stays_within(&self, wider: &SecurityPolicy) -> Result<(), FlagError> {
        for (name, grant) in &self.grants {
            let wide = wider.grants.get(name).map_or(&[][..], |grant| &grant.dirs);
            for dir in &grant.dirs {
                if !wide.iter().any(|wide| dir.host.starts_with(&wide.host)) {
                    return Err(FlagError::outside(name, &dir.host.display().to_string(), wide));
                }
            }
        }
        Ok(())
    }

    /// The form that an execution pins: the same policy always gives the same text.
    pub fn to_json(&self) -> Result<String, PinError> {
        serde_json::to_string(self).map_err(|source| PinError { verb: "written", source })
    }

    /// The policy of a pinned form. An unknown key is refused: a newer Parole knew what it forbids.
    pub fn from_json(json: &str) -> Result<Self, PinError> {
        serde_json::from_str(json).map_err(|source| PinError { verb: "read", source })
    }
}
