//! Command-line flags: without a policy file they *are* the policy, over one they only narrow it.

use std::path::Path;
use std::sync::Arc;

use crate::nearest::{help, quoted};
use crate::{
    Catalogue, Definition, DirGrant, Flag, Function, GrantKey, Level, LimitKey, Limits, SecurityPolicy, Timeout, Unit,
    parse_size, paths,
};

pub(crate) const CA: &str = "--ca";

/// The flags of `parole run` that a policy is made of, as they were typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--level LEVEL`
    pub level: Option<Level>,
    /// `--block CAP[,CAP]`
    pub block: Vec<String>,
    /// `--allow-read [GUEST=]DIR`
    pub allow_read: Vec<String>,
    /// `--allow-write [GUEST=]DIR`
    pub allow_write: Vec<String>,
    /// `--allow-net ORIGIN[,ORIGIN]`
    pub allow_net: Vec<String>,
    /// `--database NAME=sqlite:PATH`, `NAME=postgres://…`, `NAME=env:VARIABLE`; `?mode=rw` to write
    pub databases: Vec<String>,
    /// `--timeout CAP=DURATION|never`
    pub timeouts: Vec<String>,
    /// `KEY=VALUE` of limits, as in `cpu_ms=5000` or `memory=128MiB`.
    pub limits: Vec<String>,
    /// `--ca FILE`
    pub ca: Vec<String>,
}

/// A flag that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag} {asked}: {message}")]
pub struct FlagError {
    /// The flag: `--allow-read`.
    pub flag: String,
    /// What was asked with it.
    pub asked: String,
    /// What is wrong; if it would widen a policy file, what the file has.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl FlagError {
    pub(crate) fn new(flag: &str, asked: &str, message: impl Into<String>, help: Option<String>) -> Self {
        FlagError { flag: flag.to_owned(), asked: asked.to_owned(), message: message.into(), help }
    }

    pub(crate) fn widens(flag: &str, asked: &str, has: &str) -> Self {
        let help = "flags only narrow a policy file; change the file instead";
        FlagError::new(flag, asked, format!("the policy file has {has}"), Some(help.to_owned()))
    }

    /// A directory that lies in none of those that the file grants.
    pub(crate) fn outside(capability: &str, flag: Option<Flag>, asked: &str, granted: &[DirGrant]) -> Self {
        let flag = flag.map_or_else(|| format!("[grant.{capability}] dirs"), |flag| flag.as_str().to_owned());
        let list: Vec<String> = granted.iter().map(|dir| quoted(&dir.host.to_string_lossy())).collect();
        let has = if list.is_empty() { "no directories".to_owned() } else { list.join(", ") };
        FlagError::widens(&flag, asked, &format!("{has} for `{capability}`"))
    }
}

impl SecurityPolicy {
    /// The policy that the flags are: level `standard` unless they say another, no scopes but theirs.
    ///
    /// Host directories are relative to `cwd`, which must be absolute.
    pub fn from_flags(flags: &Flags, cwd: &Path, catalogue: &Catalogue) -> Result<Self, FlagError> {
        let mut policy = SecurityPolicy::new(flags.level.unwrap_or_default());
        policy.add_blocks(flags, catalogue)?;
        for (flag, dirs) in scopes(flags) {
            policy.set_dirs(flag, dirs, cwd, catalogue)?;
        }
        policy.set_origins(&flags.allow_net, catalogue)?;
        policy.set_databases(&flags.databases, cwd, catalogue)?;
        policy.add_authorities(&flags.ca, cwd)?;
        for asked in &flags.timeouts {
            let (capability, timeout) = policy.timeout_flag(asked, catalogue)?;
            policy = policy.timeout(&capability.name, timeout);
        }
        for asked in &flags.limits {
            let (key, value) = limit(asked)?;
            key.set(&mut policy.limits, value);
            policy.source.own_limits.insert(key.name);
        }
        Ok(policy)
    }

    /// This policy, from a file, narrowed by flags; a flag that would widen it is an error.
    ///
    /// `--allow-read` and `--allow-write` replace the file's directories by some that lie in them, `--allow-net`
    /// its origins (of `fetch` and `websocket`) and `--database` its databases by some of them. A limit that
    /// the file names stays; the others become those of the lower level. Directories are compared as text: see
    /// [`SecurityPolicy::stays_within`].
    pub fn narrow(mut self, flags: &Flags, cwd: &Path, catalogue: &Catalogue) -> Result<Self, FlagError> {
        self.resolve_for_flags(catalogue)?;
        let host = catalogue;
        let catalogue = &*self.catalogue(host);
        let mut policy = self.clone();
        if let Some(asked) = flags.ca.first() {
            // Trust in one more authority reaches servers that the file does not.
            return Err(FlagError::widens(CA, asked, "the authorities that it trusts"));
        }
        if let Some(level) = flags.level {
            if level > policy.level {
                return Err(FlagError::widens("--level", level.as_str(), &format!("level `{}`", policy.level)));
            }
            policy.lower(level);
        }
        policy.add_blocks(flags, catalogue)?;
        let links = |name: &String| catalogue.by_name(name).is_some_and(|capability| policy.links(capability));
        let kept: Vec<String> = policy.grants.keys().filter(|name| links(name)).cloned().collect();
        let rules = policy.rules.iter().filter(|rule| links(&rule.capability)).cloned().collect();
        policy.grants.retain(|name, _| kept.contains(name));
        policy.rules = rules;
        for (flag, dirs) in scopes(flags) {
            policy.set_dirs(flag, dirs, cwd, catalogue)?;
        }
        policy.set_origins(&flags.allow_net, catalogue)?;
        policy.set_databases(&flags.databases, cwd, catalogue)?;
        policy.stays_within(&self, host)?;
        for asked in &flags.timeouts {
            let (capability, timeout) = policy.timeout_flag(asked, catalogue)?;
            let has = self.timeout_of(capability);
            if timeout > has {
                return Err(FlagError::widens("--timeout", asked, &format!("{has} for `{}`", capability.name)));
            }
            policy = policy.timeout(&capability.name, timeout);
        }
        for asked in &flags.limits {
            let (key, value) = limit(asked)?;
            let has = key.get(&self.limits);
            if has == 0 {
                let message =
                    format!("the policy file leaves `{}` to the size of the guest, and no flag sets it", key.name);
                let help = format!("name it in the file: [limits] {} = …", key.name);
                return Err(FlagError::new(LIMIT, asked, message, Some(help)));
            }
            if value > has {
                return Err(FlagError::widens(LIMIT, asked, &format!("{} {}", key.name, key.text(&self.limits))));
            }
            key.set(&mut policy.limits, value);
        }
        Ok(policy)
    }

    fn lower(&mut self, level: Level) {
        let defaults = Limits::of(level);
        for key in LimitKey::ALL.iter().filter(|key| !self.source.own_limits.contains(key.name)) {
            let least = key.get(&self.limits).min(key.get(&defaults));
            key.set(&mut self.limits, least);
        }
        if level < self.level {
            self.source.lines.remove("level");
        }
        self.level = level;
    }

    fn add_blocks(&mut self, flags: &Flags, catalogue: &Catalogue) -> Result<(), FlagError> {
        for name in flags.block.iter().flat_map(|list| list.split(',')) {
            let (capability, function) = part("--block", name, name, catalogue)?;
            self.block.insert(function.map_or_else(|| capability.name.to_string(), |own| own.name.to_string()));
        }
        Ok(())
    }

    /// Replaces the directories of a capability, if any were asked for.
    fn set_dirs(&mut self, flag: Flag, dirs: &[String], cwd: &Path, catalogue: &Catalogue) -> Result<(), FlagError> {
        let Some(first) = dirs.first() else {
            return Ok(());
        };
        let capability = flagged(flag, false, first, catalogue)?;
        let (flag, name) = (flag.as_str(), &capability.name);
        self.must_link(flag, first, capability)?;
        let grant = self.grant_of(capability);
        grant.dirs.clear();
        for asked in dirs {
            let bad = |message: String| FlagError::new(flag, asked, message, None);
            let (guest, host) = guest_and_host(flag, asked)?;
            let host = paths::host(cwd, host).map_err(bad)?;
            grant.add(&guest, host).map_err(bad)?;
        }
        let (scope, entries) = (format!("grant.{name}.dirs"), format!("grant.{name}.dirs:"));
        self.source.lines.retain(|key, _| *key != scope && !key.starts_with(&entries));
        Ok(())
    }

    fn timeout_flag<'c>(
        &self,
        asked: &str,
        catalogue: &'c Catalogue,
    ) -> Result<(&'c Arc<Definition>, Timeout), FlagError> {
        let bad = |message: String| {
            FlagError::new("--timeout", asked, message, Some("write CAP=DURATION, as in input=5m".to_owned()))
        };
        let (name, duration) = asked.split_once('=').ok_or_else(|| bad("there is no `=` in it".to_owned()))?;
        let capability = known("--timeout", asked, name, catalogue)?;
        if !capability.takes(GrantKey::TimeoutMs) {
            return Err(bad(format!("`{name}` makes no promises, so it has no timeout")));
        }
        self.must_link("--timeout", asked, capability)?;
        let timeout = duration.parse().map_err(|error: crate::BadDuration| bad(error.to_string()))?;
        Ok((capability, timeout))
    }

    pub(crate) fn must_link(&self, flag: &str, asked: &str, capability: &Definition) -> Result<(), FlagError> {
        match self.excludes(capability, "this policy") {
            None => Ok(()),
            Some(why) => Err(FlagError::new(flag, asked, why, None)),
        }
    }
}

const LIMIT: &str = "--limit";

/// `KEY=VALUE` of a limit.
fn limit(asked: &str) -> Result<(&'static LimitKey, u64), FlagError> {
    let bad = |message: String, help: Option<String>| FlagError::new(LIMIT, asked, message, help);
    let example = || Some("write KEY=VALUE, as in cpu_ms=5000 or memory=128MiB".to_owned());
    let (name, text) = asked.split_once('=').ok_or_else(|| bad("there is no `=` in it".to_owned(), example()))?;
    let Some(key) = LimitKey::ALL.iter().find(|key| key.name == name) else {
        let valid: Vec<&str> = LimitKey::ALL.iter().map(|key| key.name).collect();
        return Err(bad(format!("unknown limit {}", quoted(name)), Some(help(name, &valid))));
    };
    let size = if key.unit == Unit::Bytes { parse_size(text) } else { None };
    let Some(value) = text.parse().ok().or(size) else {
        return Err(bad(format!("{} is no value of `{name}`", quoted(text)), example()));
    };
    if !key.range.contains(&value) {
        let (least, most) = (key.unit.text(*key.range.start()), key.unit.text(*key.range.end()));
        return Err(bad(format!("`{name}` is {least} to {most}"), None));
    }
    Ok((key, value))
}

/// The flags that name directories.
pub(crate) fn scopes(flags: &Flags) -> [(Flag, &[String]); 2] {
    [(Flag::AllowRead, &flags.allow_read), (Flag::AllowWrite, &flags.allow_write)]
}

/// The capability of a name.
pub(crate) fn known<'c>(
    flag: &str,
    asked: &str,
    name: &str,
    catalogue: &'c Catalogue,
) -> Result<&'c Arc<Definition>, FlagError> {
    match part(flag, asked, name, catalogue)? {
        (capability, None) => Ok(capability),
        (capability, Some(_)) => {
            let message = format!("{} is one function of a capability", quoted(name));
            Err(FlagError::new(flag, asked, message, Some(format!("write {}", capability.name))))
        }
    }
}

/// The capability of a name, or one function of one that users define.
pub(crate) fn part<'c>(
    flag: &str,
    asked: &str,
    name: &str,
    catalogue: &'c Catalogue,
) -> Result<(&'c Arc<Definition>, Option<&'c Function>), FlagError> {
    let found = catalogue.named(name);
    found.map(|(own, function)| (own, function.and_then(|wit| own.function(wit)))).ok_or_else(|| {
        let valid: Vec<&str> = catalogue.names().collect();
        FlagError::new(flag, asked, format!("unknown capability {}", quoted(name)), Some(help(name, &valid)))
    })
}

/// The capability that a flag is about; of two, the one for sockets or the other one.
pub(crate) fn flagged<'c>(
    flag: Flag,
    socket: bool,
    asked: &str,
    catalogue: &'c Catalogue,
) -> Result<&'c Arc<Definition>, FlagError> {
    let none = || FlagError::new(flag.as_str(), asked, "no capability of this host is for that", None);
    catalogue.by_flag(flag, socket).ok_or_else(none)
}

/// `[GUEST=]DIR`. A bare DIR is mounted at its own text rooted at `/`. The first `=` splits, so a DIR with `=`
/// in its name needs GUEST.
pub(crate) fn guest_and_host<'f>(flag: &str, asked: &'f str) -> Result<(String, &'f str), FlagError> {
    if let Some((guest, host)) = asked.split_once('=') {
        let help = || Some(format!("write /{asked}, or /GUEST=DIR if the directory's name holds `=`"));
        let help = if guest.starts_with('/') { None } else { help() };
        let guest = paths::mount(guest).map_err(|message| FlagError::new(flag, asked, message, help))?;
        return Ok((guest, host));
    }
    let rooted = paths::mount(&format!("/{asked}"));
    match rooted {
        Ok(guest) => Ok((guest, asked)),
        Err(message) if asked.split('/').any(|part| part == "..") => {
            let message = format!("{message}, so its place for the guest is not clear");
            Err(FlagError::new(flag, asked, message, Some(format!("write GUEST=DIR, as in /data={asked}"))))
        }
        Err(message) => Err(FlagError::new(flag, asked, message, None)),
    }
}
