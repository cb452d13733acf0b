//! What is wrong with a policy that was put together in Rust or read from a record.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::nearest::quoted;
use crate::{
    Authority, Catalogue, FlagError, Grant, MAX_ATTEMPTS, MAX_AUTHORITIES, MAX_BACKOFF_MS, MAX_DATABASES, MAX_DEFINED,
    MAX_DIRS, MAX_METHODS, MAX_ORIGINS, MAX_PRIVATE, MAX_RULES, ScopeKind, SecurityPolicy, Source, Then, database,
    dial, grant, paths, rule,
};

impl SecurityPolicy {
    /// Adds all that the declarations of its capabilities say, which a policy does not know that was put together in Rust
    /// or read from a record. Until then it allows nothing that it would need them for.
    ///
    /// # Errors
    /// What is wrong with it: paths, origins, names that are not in the catalogue, grants and rules that its own level or
    /// block list excludes, conditions.
    pub fn resolve(&mut self, catalogue: &Catalogue) -> Result<(), Vec<String>> {
        for pending in std::mem::take(&mut self.pending) {
            if let Err(fault) = pending.fulfil(self, catalogue) {
                self.faults.push(fault);
            }
        }
        self.define_all(catalogue);
        let catalogue = &*self.catalogue(catalogue);
        let denied = |name: String| crate::link::denied_name(catalogue, &name).unwrap_or(name);
        self.link_denied = std::mem::take(&mut self.link_denied).into_iter().map(denied).collect();
        self.block = std::mem::take(&mut self.block).iter().map(|name| catalogue.full(name)).collect();
        self.grants =
            std::mem::take(&mut self.grants).into_iter().map(|(name, own)| (catalogue.full(&name), own)).collect();
        for rule in &mut self.rules {
            let named = catalogue.named(&rule.capability).map(|(own, function)| (own, function.map(str::to_owned)));
            let Some((capability, function)) = named else { continue };
            if function.is_some() {
                rule.function = function;
            }
            rule.capability = capability.name.to_string();
            if let Err(fault) = rule.read(capability) {
                let fault = format!("rule {}: {fault}", quoted(&rule.name));
                if !self.faults.contains(&fault) {
                    self.faults.push(fault);
                }
            }
        }
        for (name, grant) in &mut self.grants {
            if let Some(capability) = catalogue.by_name(name) {
                grant.fill(capability);
            }
        }
        let faults = self.faults(catalogue);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Reads what it defines.
    pub(crate) fn define_all(&mut self, host: &Catalogue) {
        if self.own.len() == self.capabilities.len() {
            return;
        }
        self.own.clear();
        for (interface, capability) in &self.capabilities {
            match capability.definition(interface).and_then(|own| host.has_room_for(own)) {
                Ok(definition) => self.own.push(Arc::new(definition)),
                Err(fault) => {
                    let fault = format!("capability {}: {fault}", quoted(interface));
                    if !self.faults.contains(&fault) {
                        self.faults.push(fault);
                    }
                }
            }
        }
        if self.capabilities.len() > MAX_DEFINED {
            self.faults.push(format!("a policy defines {MAX_DEFINED} capabilities at most"));
        }
    }

    /// What is wrong with a policy that was put together in Rust or read from a record; see
    /// [`SecurityPolicy::resolve`].
    pub fn validate(&self, catalogue: &Catalogue) -> Result<(), Vec<String>> {
        if self.is_resolved() {
            let faults = self.faults(catalogue);
            return if faults.is_empty() { Ok(()) } else { Err(faults) };
        }
        self.clone().resolve(catalogue)
    }

    /// The same where flags are to change it.
    pub(crate) fn resolve_for_flags(&mut self, catalogue: &Catalogue) -> Result<(), FlagError> {
        if self.is_resolved() {
            return Ok(());
        }
        self.resolve(catalogue).map_err(|faults| FlagError::new("--policy", "", faults.join("; "), None))
    }

    fn faults(&self, catalogue: &Catalogue) -> Vec<String> {
        let catalogue = &*self.catalogue(catalogue);
        let mut faults = self.faults.clone();
        let unknown = |name: &String| format!("unknown capability {}", quoted(name));
        let named = self.block.iter().chain(&self.revoked);
        faults.extend(named.filter(|name| catalogue.named(name).is_none()).map(unknown));
        faults.extend(self.link_denied.iter().filter_map(|name| {
            let why = crate::link::denied_name(catalogue, name).err()?;
            Some(format!("link.denied: {}: {why}", quoted(name)))
        }));
        for (name, grant) in &self.grants {
            let capability = catalogue.by_name(name);
            match capability {
                None => faults.push(unknown(name)),
                Some(capability) => {
                    faults.extend(self.excludes(capability, "this policy").map(|why| format!("grant.{name}: {why}")))
                }
            }
            let scope = capability.map_or(ScopeKind::Nothing, |capability| capability.scope);
            faults.extend(of_grant(name, scope, grant).into_iter().map(|fault| format!("grant.{name}: {fault}")));
        }
        self.of_rules(catalogue, &mut faults);
        faults
    }

    fn of_rules(&self, catalogue: &Catalogue, faults: &mut Vec<String>) {
        if self.rules.len() > MAX_RULES {
            faults.push(format!("a policy has {MAX_RULES} rules at most"));
        }
        let mut names = BTreeSet::new();
        for rule in &self.rules {
            let here = |fault: String| format!("rule {}: {fault}", quoted(&rule.name));
            faults.extend(rule::name(&rule.name).err());
            if !names.insert(&rule.name) {
                faults.push(here("its name stands twice".to_owned()));
            }
            if rule.timeout.is_some() && rule.then != Then::Ask {
                faults.push(here("only a question expires".to_owned()));
            }
            match catalogue.by_name(&rule.capability) {
                None => faults.push(here(format!("unknown capability {}", quoted(&rule.capability)))),
                Some(capability) => {
                    let has = |name: &String| capability.function(name).is_some();
                    if !rule.function.as_ref().is_none_or(has) {
                        faults.push(here("there is no such function".to_owned()));
                    }
                    let why = self.excludes(capability, "this policy").or_else(|| rule.unfit(capability));
                    faults.extend(why.map(here));
                }
            }
        }
    }
}

/// Why a file has no authorities.
pub(crate) const NO_SERVER: &str = "`ca` is about a server, and this is a file";

fn authorities(all: &[Authority]) -> Option<String> {
    let over = || (all.len() > MAX_AUTHORITIES).then(|| format!("{MAX_AUTHORITIES} files of authorities at most"));
    all.iter().find_map(Authority::fault).or_else(over)
}

fn of_grant(name: &str, scope: ScopeKind, grant: &Grant) -> Vec<String> {
    let mut faults = Vec::new();
    for dir in &grant.dirs {
        let normal = paths::mount(&dir.guest).is_ok_and(|guest| guest == dir.guest);
        if !normal || !dir.host.is_absolute() || paths::plain(&dir.host) != dir.host {
            faults.push(format!("{} is not in its normal form", quoted(&dir.guest)));
        }
    }
    let counts = [
        ("directories", grant.dirs.len(), MAX_DIRS),
        ("origins", grant.origins.len(), MAX_ORIGINS),
        ("methods", grant.methods.len(), MAX_METHODS),
        ("ranges", grant.private.len(), MAX_PRIVATE),
        ("databases", grant.databases.len(), MAX_DATABASES),
    ];
    let over = counts.into_iter().filter(|(_, count, most)| count > most);
    faults.extend(over.map(|(what, _, most)| format!("a grant may have {most} {what} at most")));
    for (index, origin) in grant.origins.iter().enumerate() {
        let text = origin.to_string();
        let own = text.parse().is_ok_and(|same: crate::Origin| same == *origin);
        if !own || !scope.takes(origin) {
            faults.push(format!("{} is no origin of `{name}`", quoted(&text)));
        }
        if grant.origins.iter().take(index).any(|other| other == origin) {
            faults.push(format!("origin {} is granted twice", quoted(&text)));
        }
    }
    faults.extend(grant.methods.iter().filter_map(|method| grant::method(method).err()).map(|(fault, _)| fault));
    let ranges = grant.private.iter().filter_map(|range| dial::fault(range).map(|(fault, _)| (range, fault)));
    faults.extend(ranges.map(|(range, fault)| format!("range {range} {fault}")));
    for (name, of) in &grant.databases {
        faults.extend(database::name(name).err());
        let fault = match &of.source {
            Source::Sqlite(path) if path.is_absolute() && paths::plain(path) == *path => None,
            Source::Sqlite(_) => Some("its path is not in its normal form".to_owned()),
            Source::Postgres(url) => database::postgres_url(url).err().map(|(fault, _)| fault),
            Source::UrlEnv(variable) => database::variable(variable).err().map(|(fault, _)| fault),
        };
        let ca = grant.database_ca.get(name).filter(|ca| !ca.is_empty());
        let own = ca.filter(|_| matches!(of.source, Source::Sqlite(_))).map(|_| NO_SERVER.to_owned());
        let fault = fault.or(own).or_else(|| ca.and_then(|ca| authorities(ca)));
        faults.extend(fault.map(|fault| format!("database {}: {fault}", quoted(name))));
    }
    faults.extend(authorities(&grant.ca));
    if let Some(retry) = grant.retry
        && (!(1..=MAX_ATTEMPTS).contains(&retry.attempts)
            || retry.backoff_ms.max(retry.max_backoff_ms) > MAX_BACKOFF_MS)
    {
        faults.push(format!("`retry` makes 1 to {MAX_ATTEMPTS} attempts, {MAX_BACKOFF_MS} ms apart at most"));
    }
    faults
}
