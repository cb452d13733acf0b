//! The policy: what one guest may do.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::{
    Catalogue, Condition, Database, Definition, DirGrant, Flag, Function, Grant, HOST_TIMEOUT, Level, LimitKey, Limits,
    Origin, Rule, Then, Timeout, UserCapability, paths,
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
    /// Capabilities that are linked although they are not granted, so that a guest with optional needs can run: each
    /// call is denied. A name of the host, or an interface.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub link_denied: BTreeSet<String>,
    /// Whether guests that use async types may run.
    #[serde(rename = "async")]
    pub async_guests: bool,
    /// How much of the machine it may use.
    pub limits: Limits,
    /// What each capability may reach, by name. No entry: no directories, the default timeout.
    pub grants: BTreeMap<String, Grant>,
    /// What is looked at call by call, in order, where the scope allows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Capabilities that were taken away from the execution, by name: linked, but each call is denied.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub revoked: BTreeSet<String>,
    /// What it defines beside what the host does, by interface.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capabilities: BTreeMap<String, UserCapability>,
    /// What is wrong with a policy that was put together in Rust. Such a policy links and allows nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) faults: Vec<String>,
    /// The declarations of what it defines.
    #[serde(skip)]
    pub(crate) own: Vec<Arc<Definition>>,
    #[serde(skip)]
    pub(crate) source: Source,
    /// What was asked for by what it is about: [`SecurityPolicy::resolve`] knows which capability that is.
    #[serde(default, skip_deserializing, skip_serializing_if = "Vec::is_empty", serialize_with = "unresolved")]
    pub(crate) pending: Vec<PendingGrant>,
}

/// What a policy that is put together in Rust is to let guests reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PendingGrant {
    /// A directory at a guest path.
    Dir(Flag, String, PathBuf),
    /// An origin.
    Origin(Origin),
    /// A database by a name.
    Database(String, Database),
}

fn unresolved<S: Serializer>(_: &[PendingGrant], _: S) -> Result<S::Ok, S::Error> {
    Err(S::Error::custom("nobody has resolved it"))
}

impl PendingGrant {
    /// The flag that asks for the same, and the host path of it.
    pub(crate) fn place(&self) -> Option<(&'static str, DirGrant)> {
        let (flag, guest, host) = match self {
            PendingGrant::Dir(flag, guest, host) => (*flag, guest, host),
            PendingGrant::Database(name, Database { source: crate::Source::Sqlite(host), .. }) => {
                (Flag::Database, name, host)
            }
            PendingGrant::Origin(_) | PendingGrant::Database(..) => return None,
        };
        Some((flag.as_str(), DirGrant { guest: guest.clone(), host: host.clone() }))
    }

    pub(crate) fn fulfil(self, policy: &mut SecurityPolicy, catalogue: &Catalogue) -> Result<(), String> {
        let (flag, socket) = match &self {
            PendingGrant::Dir(flag, ..) => (*flag, false),
            PendingGrant::Origin(origin) => (Flag::AllowNet, origin.scheme.is_socket()),
            PendingGrant::Database(..) => (Flag::Database, false),
        };
        let none = || format!("no capability of this host is for `{}`", flag.as_str());
        let capability = catalogue.by_flag(flag, socket).ok_or_else(none)?;
        let grant = policy.grants.entry(capability.name.to_string());
        let grant = grant.or_insert_with(|| Grant::of(capability, HOST_TIMEOUT));
        match self {
            PendingGrant::Dir(_, guest, host) => {
                let host = host.to_str().ok_or_else(|| "a host path is not UTF-8".to_owned());
                let host = host.and_then(|text| paths::host(Path::new(""), text));
                host.and_then(|host| grant.add(&guest, host)).map_err(|fault| format!("{}: {fault}", capability.name))
            }
            PendingGrant::Origin(origin) => {
                grant.add_origin(capability, origin).map_err(|fault| format!("allow_net: {fault}"))
            }
            PendingGrant::Database(name, database) => match grant.databases.insert(name.clone(), database) {
                None => Ok(()),
                Some(_) => Err(format!("allow_database: `{name}` is granted twice")),
            },
        }
    }
}

/// Where the parts of a policy were written. Says nothing about what it allows, so all sources are equal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// 1-based line by dotted key: `level`, `block.NAME`, `grant.NAME`, `grant.NAME.KEY`, `rule:NAME`, and
    /// for the entries of a scope `grant.NAME.dirs:GUEST`, `grant.NAME.origins:ORIGIN`,
    /// `grant.NAME.databases:NAME`.
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

impl SecurityPolicy {
    /// A policy of this level that grants no scopes and has the level's limits.
    pub fn new(level: Level) -> Self {
        SecurityPolicy {
            level,
            block: BTreeSet::new(),
            link_denied: BTreeSet::new(),
            async_guests: true,
            limits: Limits::of(level),
            grants: BTreeMap::new(),
            rules: Vec::new(),
            revoked: BTreeSet::new(),
            capabilities: BTreeMap::new(),
            own: Vec::new(),
            faults: Vec::new(),
            source: Source::default(),
            pending: Vec::new(),
        }
    }

    /// Defines a capability: `interface` is `acme:crm/customers@1.0.0`. [`SecurityPolicy::resolve`] reads its WIT.
    #[must_use]
    pub fn define(mut self, interface: &str, capability: UserCapability) -> Self {
        self.capabilities.insert(interface.to_owned(), capability);
        self
    }

    /// The capabilities that there are under this policy: those of the host, and those that it defines.
    pub fn catalogue<'c>(&self, host: &'c Catalogue) -> Cow<'c, Catalogue> {
        host.with(&self.own)
    }

    /// Refuses a capability, whatever the level. [`SecurityPolicy::validate`] checks the name.
    #[must_use]
    pub fn block(mut self, capability: &str) -> Self {
        self.block.insert(capability.to_owned());
        self
    }

    /// Links a capability that is not granted, so that a guest that can do without it runs: each call is denied.
    /// `name` is one of the host, or an interface.
    #[must_use]
    pub fn link_denied(mut self, name: &str) -> Self {
        self.link_denied.insert(name.to_owned());
        self
    }

    /// Lets guests read in an absolute host directory, at a guest path.
    #[must_use]
    pub fn allow_read(self, guest: &str, host: impl AsRef<Path>) -> Self {
        self.with_pending(PendingGrant::Dir(Flag::AllowRead, guest.to_owned(), host.as_ref().to_owned()))
    }

    /// Lets guests write in an absolute host directory, at a guest path. Writing does not imply reading.
    #[must_use]
    pub fn allow_write(self, guest: &str, host: impl AsRef<Path>) -> Self {
        self.with_pending(PendingGrant::Dir(Flag::AllowWrite, guest.to_owned(), host.as_ref().to_owned()))
    }

    /// Lets guests connect to an origin: `https://api.example.com`, or `wss://…` for sockets.
    #[must_use]
    pub fn allow_net(mut self, origin: &str) -> Self {
        match origin.parse::<Origin>() {
            Ok(origin) => self.with_pending(PendingGrant::Origin(origin)),
            Err(bad) => {
                self.faults.push(format!("allow_net: {}", bad.message));
                self
            }
        }
    }

    /// Lets guests use a database by a name.
    #[must_use]
    pub fn allow_database(self, name: &str, database: Database) -> Self {
        self.with_pending(PendingGrant::Database(name.to_owned(), database))
    }

    fn with_pending(mut self, grant: PendingGrant) -> Self {
        self.pending.push(grant);
        self
    }

    /// Changes the grant of a capability. [`SecurityPolicy::resolve`] checks what comes out, and adds the numbers that
    /// hold where it has none; what is asked for by `allow_read` and its like is not in it yet, and comes on top.
    #[must_use]
    pub fn grant(mut self, capability: &str, change: impl FnOnce(&mut Grant)) -> Self {
        let grant = self.grants.entry(capability.to_owned());
        change(grant.or_insert_with(|| Grant::bare(HOST_TIMEOUT)));
        self
    }

    /// Adds a rule after the others: what `then` says decides when the condition holds, always if there is none.
    #[must_use]
    pub fn rule(mut self, name: &str, capability: &str, when: Option<&str>, then: Then) -> Self {
        let (name, capability) = (name.to_owned(), capability.to_owned());
        let when = when.map(Condition::unread);
        self.rules.push(Rule { name, capability, function: None, when, then, timeout: None });
        self
    }

    /// When the promises of a capability expire.
    #[must_use]
    pub fn timeout(mut self, capability: &str, timeout: Timeout) -> Self {
        let grant = self.grants.entry(capability.to_owned());
        grant.or_insert_with(|| Grant::bare(timeout)).timeout = timeout;
        self
    }

    /// Changes the limits.
    #[must_use]
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self.source.own_limits = LimitKey::ALL.iter().map(|key| key.name).collect();
        self
    }

    /// The first thing that was wrong when it was put together; such a policy allows nothing.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.faults.first().map(String::as_str).or((!self.is_resolved()).then_some("nobody has resolved it"))
    }

    /// Whether it knows what the declarations of its capabilities say.
    pub(crate) fn is_resolved(&self) -> bool {
        let is_unread = |rule: &Rule| rule.when.as_ref().is_some_and(|when| !when.is_read());
        self.pending.is_empty() && self.own.len() == self.capabilities.len() && !self.rules.iter().any(is_unread)
    }

    /// Why the policy's own level or block list excludes a capability, if it does.
    pub(crate) fn excludes(&self, capability: &Definition, this: &str) -> Option<String> {
        let name = &*capability.name;
        if self.block.contains(name) {
            Some(format!("`{name}` is in the block list of {this}"))
        } else if self.link_denied.contains(name) {
            Some(format!("`{name}` is in `link.denied` of {this}"))
        } else if capability.level > self.level {
            Some(format!("`{name}` needs level `{}`; {this} has `{}`", capability.level, self.level))
        } else {
            None
        }
    }

    /// Whether level and block list let a guest link this capability.
    pub fn links(&self, capability: &Definition) -> bool {
        let denies = |list: &BTreeSet<String>| list.contains(&*capability.name);
        self.fault().is_none() && capability.level <= self.level && !denies(&self.block) && !denies(&self.link_denied)
    }

    /// Whether the block list has this function of a capability that users define.
    pub fn blocks(&self, function: &Function) -> bool {
        self.block.contains(&*function.name)
    }

    /// When the promises of a capability expire under this policy.
    pub fn timeout_of(&self, capability: &Definition) -> Timeout {
        self.grants.get(&*capability.name).map_or(capability.timeout, |grant| grant.timeout)
    }

    /// The capabilities that link but reach nothing, because what they may reach is an empty list. Announced
    /// before the start.
    pub fn empty_scopes<'c>(&self, catalogue: &'c Catalogue) -> Vec<&'c Arc<Definition>> {
        let linked = catalogue.iter().filter(|capability| capability.has_scope() && self.links(capability));
        linked.filter(|capability| self.grants.get(&*capability.name).is_none_or(Grant::is_empty)).collect()
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
