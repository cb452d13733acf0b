//! Granting to and revoking from an execution that runs or is parked.

use std::path::Path;

use crate::flags::{flagged, guest_and_host, part, scopes};
use crate::flags_net::{self as net, DATABASE, NET};
use crate::within::{databases, list};
use crate::{Catalogue, Definition, Flag, FlagError, Flags, SecurityPolicy, paths};

impl SecurityPolicy {
    /// This policy with more: what the flags name is added to its scopes, and those capabilities, and the named
    /// ones, are no longer revoked. Level and block list stay; what they exclude cannot be granted.
    ///
    /// Host directories are relative to `cwd`, which must be absolute.
    pub fn granted(
        &self,
        flags: &Flags,
        capabilities: &[String],
        cwd: &Path,
        catalogue: &Catalogue,
    ) -> Result<Self, FlagError> {
        let mut policy = self.clone();
        policy.resolve_for_flags(catalogue)?;
        let catalogue = &*policy.catalogue(catalogue);
        fixed(flags)?;
        for name in names(capabilities) {
            let (capability, function) = part("grant", name, name, catalogue)?;
            policy.must_link("grant", name, capability)?;
            // Of a capability that is revoked as a whole, the other functions stay revoked.
            if policy.revoked.remove(&*capability.name) && function.is_some() {
                policy.revoked.extend(capability.functions.iter().map(|own| own.name.to_string()));
            }
            for own in capability.functions.iter().filter(|own| function.is_none_or(|one| one.name == own.name)) {
                policy.revoked.remove(&*own.name);
            }
        }
        for (flag, dirs) in scopes(flags) {
            for asked in dirs {
                let capability = flagged(flag, false, asked, catalogue)?;
                policy.give_back(flag.as_str(), asked, capability)?;
                policy.add_dir(flag.as_str(), asked, capability, cwd)?;
            }
        }
        for (text, origin) in net::origins(&flags.allow_net)? {
            let capability = net::capability(text, &origin, catalogue)?;
            policy.give_back(NET, text, capability)?;
            let grant = policy.grant_of(capability);
            if !grant.origins.contains(&origin) {
                let added = grant.add_origin(capability, origin);
                added.map_err(|message| FlagError::new(NET, text, message, None))?;
            }
        }
        for asked in &flags.databases {
            let (name, database) = net::database(asked, cwd)?;
            let capability = flagged(Flag::Database, false, &name, catalogue)?;
            policy.give_back(DATABASE, &name, capability)?;
            if policy.grant_of(capability).databases.get(&name) != Some(&database) {
                policy.add_database(capability, name, database)?;
            }
        }
        Ok(policy)
    }

    /// This policy with less: exactly the directories, origins and databases that the flags name are taken out of
    /// its scopes, and the named capabilities are revoked. What isn't there cannot be taken away.
    ///
    /// A directory is named by its guest path, as `GUEST`, `GUEST=DIR` or the `DIR` that it was granted as; a
    /// database by its name.
    pub fn revoked_by(
        &self,
        flags: &Flags,
        capabilities: &[String],
        cwd: &Path,
        catalogue: &Catalogue,
    ) -> Result<Self, FlagError> {
        let mut policy = self.clone();
        policy.resolve_for_flags(catalogue)?;
        let catalogue = &*policy.catalogue(catalogue);
        fixed(flags)?;
        for (flag, dirs) in scopes(flags) {
            for asked in dirs {
                let name = &flagged(flag, false, asked, catalogue)?.name;
                policy.take_dir(flag.as_str(), asked, name, cwd)?;
            }
        }
        for (text, origin) in net::origins(&flags.allow_net)? {
            let name = &*net::capability(text, &origin, catalogue)?.name;
            let origins = policy.grants.get_mut(name).map(|grant| &mut grant.origins);
            match origins.as_ref().and_then(|origins| origins.iter().position(|own| *own == origin)) {
                Some(at) => drop(origins.map(|origins| origins.remove(at))),
                None => {
                    let own = origins.into_iter().flatten().map(|origin| origin.to_string());
                    return Err(missing(NET, text, name, &list(own, "no origins")));
                }
            }
            policy.source.lines.remove(&format!("grant.{name}.origins:{origin}"));
        }
        for asked in &flags.databases {
            let name = asked.split_once('=').map_or(asked.as_str(), |(name, _)| name);
            let capability = &*flagged(Flag::Database, false, name, catalogue)?.name;
            let taken = policy.grants.get_mut(capability).and_then(|grant| grant.databases.remove(name));
            if taken.is_none() {
                return Err(missing(DATABASE, name, capability, &databases(policy.grants.get(capability))));
            }
            policy.grants.get_mut(capability).map(|grant| grant.database_ca.remove(name));
            policy.source.lines.remove(&format!("grant.{capability}.databases:{name}"));
        }
        for name in names(capabilities) {
            let (capability, function) = part("revoke", name, name, catalogue)?;
            policy.must_link("revoke", name, capability)?;
            let full = function.map_or(&capability.name, |function| &function.name);
            if !policy.revoked.insert(full.to_string()) {
                return Err(FlagError::new("revoke", name, format!("`{name}` is revoked already"), None));
            }
        }
        Ok(policy)
    }

    /// No longer revokes a capability that level and block list leave.
    fn give_back(&mut self, flag: &str, asked: &str, capability: &Definition) -> Result<(), FlagError> {
        self.must_link(flag, asked, capability)?;
        self.revoked.remove(&*capability.name);
        Ok(())
    }

    fn add_dir(&mut self, flag: &str, asked: &str, capability: &Definition, cwd: &Path) -> Result<(), FlagError> {
        let bad = |message: String| FlagError::new(flag, asked, message, None);
        let (guest, host) = guest_and_host(flag, asked)?;
        let host = paths::host(cwd, host).map_err(bad)?;
        let grant = self.grant_of(capability);
        if grant.dirs.iter().any(|dir| dir.guest == guest && dir.host == host) {
            return Ok(());
        }
        grant.add(&guest, host).map_err(bad)
    }

    fn take_dir(&mut self, flag: &str, asked: &str, name: &str, cwd: &Path) -> Result<(), FlagError> {
        let (guest, host) = match asked.split_once('=') {
            Some((guest, host)) => (guest.to_owned(), Some(host)),
            None => (format!("/{asked}"), None),
        };
        let guest = paths::mount(&guest).ok();
        let host = host.map(|host| paths::host(cwd, host));
        let dirs = self.grants.get_mut(name).map(|grant| &mut grant.dirs);
        let found = dirs.as_ref().and_then(|dirs| {
            dirs.iter().position(|dir| {
                guest.as_ref() == Some(&dir.guest)
                    && host.as_ref().is_none_or(|host| host.as_ref().is_ok_and(|host| *host == dir.host))
            })
        });
        let Some((at, dirs)) = found.zip(dirs) else {
            let own = self.grants.get(name).into_iter().flat_map(|grant| &grant.dirs).map(|dir| dir.guest.clone());
            return Err(missing(flag, asked, name, &list(own, "no directories")));
        };
        let dir = dirs.remove(at);
        self.source.lines.remove(&format!("grant.{name}.dirs:{}", dir.guest));
        Ok(())
    }
}

/// What no grant and no revocation changes.
fn fixed(flags: &Flags) -> Result<(), FlagError> {
    let help = "grants and revocations are about capabilities, directories, origins and databases";
    let stays = |flag, asked: &str, what: &str| {
        Err(FlagError::new(flag, asked, format!("{what} of an execution cannot be changed"), Some(help.to_owned())))
    };
    if let Some(asked) = flags.ca.first() {
        return stays("--ca", asked, "the authorities");
    }
    if let Some(asked) = flags.limits.first() {
        return stays("--limit", asked, "the limits");
    }
    match (flags.level, flags.block.first(), flags.timeouts.first()) {
        (Some(level), ..) => stays("--level", level.as_str(), "the level"),
        (_, Some(name), _) => stays("--block", name, "the block list"),
        (.., Some(asked)) => stays("--timeout", asked, "the timeouts"),
        _ => Ok(()),
    }
}

fn missing(flag: &str, asked: &str, capability: &str, has: &str) -> FlagError {
    FlagError::new(flag, asked, format!("there is no such thing to revoke: `{capability}` has {has}"), None)
}

fn names(capabilities: &[String]) -> impl Iterator<Item = &str> {
    capabilities.iter().flat_map(|list| list.split(','))
}
