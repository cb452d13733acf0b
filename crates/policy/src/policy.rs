//! The policy: what one guest may do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    Capability, Catalogue, Condition, Database, FETCH, Grant, HOST_TIMEOUT, Level, LimitKey, Limits, Origin, QUERY,
    READ_FILE, Rule, Then, Timeout, WEBSOCKET, WRITE_FILE, arguments_of, paths,
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
    /// What is looked at call by call, in order, where the scope allows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Capabilities that were taken away from the execution, by name: linked, but each call is denied.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub revoked: BTreeSet<String>,
    /// What is wrong with a policy that was put together in Rust. Such a policy links and allows nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) faults: Vec<String>,
    #[serde(skip)]
    pub(crate) source: Source,
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
            async_guests: true,
            limits: Limits::of(level),
            grants: BTreeMap::new(),
            rules: Vec::new(),
            revoked: BTreeSet::new(),
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

    /// Lets `fetch` (http, https) or `websocket` (ws, wss) connect to an origin: `https://api.example.com`.
    #[must_use]
    pub fn allow_net(mut self, origin: &str) -> Self {
        let added = origin.parse::<Origin>().map_err(|bad| bad.message).and_then(|origin| {
            let name = if origin.scheme.is_socket() { WEBSOCKET } else { FETCH };
            let grant = self.grants.entry(name.to_owned());
            grant.or_insert_with(|| Grant::of(name, HOST_TIMEOUT)).add_origin(name, origin)
        });
        self.faults.extend(added.err().map(|fault| format!("allow_net: {fault}")));
        self
    }

    /// Lets `query` use a database by a name.
    #[must_use]
    pub fn allow_database(mut self, name: &str, database: Database) -> Self {
        let grant = self.grants.entry(QUERY.to_owned());
        grant.or_insert_with(|| Grant::of(QUERY, HOST_TIMEOUT)).databases.insert(name.to_owned(), database);
        self
    }

    /// Changes the grant of a capability. [`SecurityPolicy::validate`] checks what comes out.
    #[must_use]
    pub fn grant(mut self, capability: &str, change: impl FnOnce(&mut Grant)) -> Self {
        let grant = self.grants.entry(capability.to_owned());
        change(grant.or_insert_with(|| Grant::of(capability, HOST_TIMEOUT)));
        self
    }

    /// Adds a rule after the others: what `then` says decides when the condition holds, always if there is none.
    #[must_use]
    pub fn rule(mut self, name: &str, capability: &str, when: Option<&str>, then: Then) -> Self {
        let when = when.map(|when| Condition::compile(when, arguments_of(capability))).transpose();
        match when {
            Ok(when) => {
                let (name, capability) = (name.to_owned(), capability.to_owned());
                self.rules.push(Rule { name, capability, when, then, timeout: None });
            }
            Err(bad) => self.faults.push(format!("rule {}: {bad}", crate::nearest::quoted(name))),
        }
        self
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
        let empty = |name| self.grants.get(name).is_none_or(Grant::is_empty);
        let linked = catalogue.iter().filter(|capability| capability.has_scope() && self.links(capability));
        linked.map(|capability| capability.name).filter(|name| empty(*name)).collect()
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
