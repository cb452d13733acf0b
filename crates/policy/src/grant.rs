//! What one capability may reach.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::nearest::quoted;
use crate::{Authority, Database, Definition, GrantKey, MAX_ORIGINS, Origin, Timeout, paths};

/// Bytes that one `read_file` may give the guest if the grant names none.
pub const DEFAULT_MAX_BYTES: u64 = 8 << 20;
/// Bytes that one execution may write if the grant names none.
pub const DEFAULT_QUOTA: u64 = 64 << 20;
/// Files that one execution may make if the grant names none.
pub const DEFAULT_MAX_FILES: u64 = 1_000;
/// Bytes that one answer from outside may give the guest if the grant names none.
pub const DEFAULT_ANSWER_BYTES: u64 = 4 << 20;
/// Rows that one `query` may give the guest if the grant names none.
pub const DEFAULT_MAX_ROWS: u64 = 10_000;
/// The greatest `max_rows`.
pub const MAX_ROWS: u64 = 10_000_000;
/// The methods that a grant without `methods` allows.
pub const DEFAULT_METHODS: [&str; 2] = ["GET", "HEAD"];
/// The methods that no grant allows: they are for talking to proxies.
pub const FORBIDDEN_METHODS: [&str; 3] = ["CONNECT", "TRACE", "TRACK"];
/// The most methods of one grant.
pub const MAX_METHODS: usize = 16;
/// The longest method, in bytes.
pub const MAX_METHOD: usize = 32;
/// The most attempts of `retry`.
pub const MAX_ATTEMPTS: u32 = 10;
/// The longest wait between two attempts, in milliseconds: a day.
pub const MAX_BACKOFF_MS: u64 = 86_400_000;
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

/// Whether doing something twice is as good as once.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantEffect {
    /// It is not: after a crash a person decides.
    #[default]
    Once,
    /// It is: the other side knows it again by the promise id.
    Idempotent,
}

impl GrantEffect {
    fn is_once(&self) -> bool {
        *self == GrantEffect::Once
    }

    /// The effect as a policy file spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            GrantEffect::Once => "once",
            GrantEffect::Idempotent => "idempotent",
        }
    }
}

/// How often and when a failed attempt is made again.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all: 1 to [`MAX_ATTEMPTS`].
    pub attempts: u32,
    /// The wait before the second attempt, in milliseconds; each further one is twice as long.
    pub backoff_ms: u64,
    /// The longest wait, in milliseconds.
    pub max_backoff_ms: u64,
    /// Whether a wait is a random part of what it would be.
    pub jitter: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts: 3, backoff_ms: 500, max_backoff_ms: 30_000, jitter: true }
    }
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
    /// Where it may connect to, in the order of the policy, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Origin>,
    /// HTTP methods; none: [`DEFAULT_METHODS`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub methods: BTreeSet<String>,
    /// Ranges of addresses that a name may lead to although they aren't on the internet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private: Vec<IpNet>,
    /// Whether doing it twice is as good as once.
    #[serde(default, skip_serializing_if = "GrantEffect::is_once")]
    pub effect: GrantEffect,
    /// Databases by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<String, Database>,
    /// Rows that one call may give the guest, for capabilities that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<u64>,
    /// How often and when a failed attempt is made again; not at all if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Certificate authorities that are trusted beside the public ones, for origins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ca: Vec<Authority>,
    /// The same for the servers of databases, by the name of the database.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub database_ca: BTreeMap<String, Vec<Authority>>,
    /// Whether it still lacks the numbers of the declaration.
    #[serde(skip)]
    is_bare: bool,
}

impl Grant {
    /// The grant of a capability whose policy says no more than that there is one: it reaches nothing, and has the
    /// numbers of its declaration.
    pub(crate) fn of(capability: &Definition, timeout: Timeout) -> Grant {
        let mut grant = Grant::bare(timeout);
        grant.fill(capability);
        grant
    }

    /// One without any number.
    pub(crate) fn bare(timeout: Timeout) -> Grant {
        Grant {
            dirs: Vec::new(),
            max_bytes: None,
            quota: None,
            max_files: None,
            timeout,
            origins: Vec::new(),
            methods: BTreeSet::new(),
            private: Vec::new(),
            effect: GrantEffect::Once,
            databases: BTreeMap::new(),
            max_rows: None,
            retry: None,
            ca: Vec::new(),
            database_ca: BTreeMap::new(),
            is_bare: true,
        }
    }

    /// Gives it the numbers that the declaration has and it has not, once: what is pinned without a number has none.
    pub(crate) fn fill(&mut self, capability: &Definition) {
        if !std::mem::take(&mut self.is_bare) {
            return;
        }
        for key in &capability.keys {
            if let Some(slot) = self.slot(key.key) {
                *slot = slot.or(key.default);
            }
        }
    }

    /// Where the number of a key is.
    pub(crate) fn slot(&mut self, key: GrantKey) -> Option<&mut Option<u64>> {
        match key {
            GrantKey::MaxBytes => Some(&mut self.max_bytes),
            GrantKey::Quota => Some(&mut self.quota),
            GrantKey::MaxFiles => Some(&mut self.max_files),
            GrantKey::MaxRows => Some(&mut self.max_rows),
            _ => None,
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

    /// Adds an origin; says what is wrong with it otherwise.
    pub(crate) fn add_origin(&mut self, capability: &Definition, origin: Origin) -> Result<(), String> {
        if !capability.scope.takes(&origin) {
            let (name, schemes) = (&capability.name, capability.scope.schemes());
            return Err(format!("the schemes of `{name}` are {schemes}, not `{}`", origin.scheme.as_str()));
        }
        if self.origins.contains(&origin) {
            return Err(format!("origin {} is granted twice", quoted(&origin.to_string())));
        }
        if self.origins.len() >= MAX_ORIGINS {
            return Err(format!("a grant may have {MAX_ORIGINS} origins at most"));
        }
        self.origins.push(origin);
        Ok(())
    }

    /// Every authority of the grant and its databases, to be read before the policy is pinned.
    pub fn authorities_mut(&mut self) -> impl Iterator<Item = &mut Authority> {
        self.ca.iter_mut().chain(self.database_ca.values_mut().flatten())
    }

    /// One of its numbers; `None`: it has none under this key.
    pub fn number(&self, key: GrantKey) -> Option<u64> {
        match key {
            GrantKey::MaxBytes => self.max_bytes,
            GrantKey::Quota => self.quota,
            GrantKey::MaxFiles => self.max_files,
            GrantKey::MaxRows => self.max_rows,
            _ => None,
        }
    }

    /// Whether the method is granted. Methods are compared exactly.
    pub fn allows_method(&self, method: &str) -> bool {
        !FORBIDDEN_METHODS.iter().any(|forbidden| forbidden.eq_ignore_ascii_case(method))
            && if self.methods.is_empty() { DEFAULT_METHODS.contains(&method) } else { self.methods.contains(method) }
    }

    /// Whether what it may reach is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.dirs.is_empty() && self.origins.is_empty() && self.databases.is_empty()
    }
}

/// Whether this is a method at all: a token of RFC 9110, not too long.
pub(crate) fn is_method(text: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.len() <= MAX_METHOD && text.chars().all(token)
}

/// A method for a grant, or what is wrong with it.
pub(crate) fn method(text: &str) -> Result<(), (String, Option<String>)> {
    if !is_method(text) {
        return Err((format!("{} is not a method", quoted(text)), Some("such as GET, HEAD, POST".to_owned())));
    }
    let upper = text.to_ascii_uppercase();
    if FORBIDDEN_METHODS.contains(&upper.as_str()) {
        return Err((format!("method {} is never allowed", quoted(text)), None));
    }
    if upper != text {
        return Err((format!("method {} is not in capitals", quoted(text)), Some(format!("write \"{upper}\""))));
    }
    Ok(())
}
