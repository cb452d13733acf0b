//! The policy: what one guest may do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    Capability, Catalogue, FlagError, Level, LimitKey, Limits, READ_FILE, Timeout, WRITE_FILE,
    paths,
};

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
        match self
            .dirs
            .binary_search_by(|dir| dir.guest.as_str().cmp(&guest))
        {
            Ok(_) => Err(format!(
                "guest path {} is granted twice",
                crate::nearest::quoted(&guest)
            )),
            Err(place) => {
                self.dirs.insert(place, DirGrant { guest, host });
                Ok(())
            }
        }
    }
}

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
        grant
            .or_insert_with(|| Grant::of(capability, timeout))
            .timeout = timeout;
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
        let unknown =
            |name: &String| format!("unknown capability {}", crate::nearest::quoted(name));
        faults.extend(
            self.block
                .iter()
                .filter(|name| catalogue.by_name(name).is_none())
                .map(unknown),
        );
        for (name, grant) in &self.grants {
            match catalogue.by_name(name) {
                None => faults.push(unknown(name)),
                Some(capability) => faults.extend(
                    self.excludes(capability, "this policy")
                        .map(|why| format!("grant.{name}: {why}")),
                ),
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
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
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
            Some(format!(
                "`{name}` needs level `{}`; {this} has `{}`",
                capability.level, self.level
            ))
        } else {
            None
        }
    }

    /// Whether level and block list let a guest link this capability.
    pub fn links(&self, capability: &Capability) -> bool {
        self.faults.is_empty()
            && capability.level <= self.level
            && !self.block.contains(capability.name)
    }

    /// When the promises of a capability expire under this policy.
    pub fn timeout_of(&self, capability: &Capability) -> Timeout {
        self.grants
            .get(capability.name)
            .map_or(capability.default_timeout, |grant| grant.timeout)
    }

    /// The capabilities that link but reach nothing, because what they may reach is an empty list. Announced
    /// before the start.
    pub fn empty_scopes(&self, catalogue: &Catalogue) -> Vec<&'static str> {
        let empty = |name| {
            self.grants
                .get(name)
                .is_none_or(|grant| grant.dirs.is_empty())
        };
        let linked = catalogue
            .iter()
            .filter(|capability| capability.has_dirs() && self.links(capability));
        linked
            .map(|capability| capability.name)
            .filter(|name| empty(*name))
            .collect()
    }

    /// The first granted directory that contains or lies in a protected path. Each protected path has a label
    /// for messages ("the state directory"). Paths are compared by component: make them canonical first.
    pub fn overlap(&self, protected: &[(&str, &Path)]) -> Option<Overlap> {
        let dirs = self
            .grants
            .iter()
            .flat_map(|(name, grant)| grant.dirs.iter().map(move |dir| (name, dir)));
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
                    return Err(FlagError::outside(
                        name,
                        &dir.host.display().to_string(),
                        wide,
                    ));
                }
            }
        }
        Ok(())
    }

    /// The form that an execution pins: the same policy always gives the same text.
    pub fn to_json(&self) -> Result<String, PinError> {
        serde_json::to_string(self).map_err(|source| PinError {
            verb: "written",
            source,
        })
    }

    /// The policy of a pinned form. An unknown key is refused: a newer Parole knew what it forbids.
    pub fn from_json(json: &str) -> Result<Self, PinError> {
        serde_json::from_str(json).map_err(|source| PinError {
            verb: "read",
            source,
        })
    }
}
