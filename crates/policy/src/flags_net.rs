//! The flags that are about the network and databases.

use std::path::Path;
use std::sync::Arc;

use crate::authority;
use crate::flags::{CA, flagged};
use crate::{
    Authority, Catalogue, Database, Definition, Flag, FlagError, Grant, Origin, SecurityPolicy, Source, database,
};

pub(crate) const NET: &str = "--allow-net";
pub(crate) const DATABASE: &str = "--database";

/// The origins of `--allow-net`, with what each was asked as.
pub(crate) fn origins(asked: &[String]) -> Result<Vec<(&str, Origin)>, FlagError> {
    let read =
        |text: &'_ str| text.parse().map_err(|bad: crate::BadOrigin| FlagError::new(NET, text, bad.message, bad.help));
    let mut origins = Vec::new();
    for text in asked.iter().flat_map(|list| list.split(',')) {
        origins.push((text, read(text)?));
    }
    Ok(origins)
}

/// The capability that an origin is for.
pub(crate) fn capability<'c>(
    text: &str,
    origin: &Origin,
    catalogue: &'c Catalogue,
) -> Result<&'c Arc<Definition>, FlagError> {
    flagged(Flag::AllowNet, origin.scheme.is_socket(), text, catalogue)
}

/// The database that `--database` names.
pub(crate) fn database(asked: &str, cwd: &Path) -> Result<(String, Database), FlagError> {
    database::flag(asked, cwd).map_err(|(message, help)| {
        // What was asked may hold a password: only the name is repeated.
        let name = asked.split_once('=').map_or("", |(name, _)| name);
        FlagError::new(DATABASE, name, message, help)
    })
}

impl SecurityPolicy {
    /// The grant of a capability, made if there is none.
    pub(crate) fn grant_of(&mut self, capability: &Definition) -> &mut Grant {
        let grant = self.grants.entry(capability.name.to_string());
        grant.or_insert_with(|| Grant::of(capability, capability.timeout))
    }

    /// Replaces the origins of all capabilities, if any were asked for.
    pub(crate) fn set_origins(&mut self, asked: &[String], catalogue: &Catalogue) -> Result<(), FlagError> {
        if asked.is_empty() {
            return Ok(());
        }
        for Definition { name, .. } in catalogue.iter().map(|own| &**own).filter(|own| own.flag == Some(Flag::AllowNet))
        {
            if let Some(grant) = self.grants.get_mut(&**name) {
                grant.origins.clear();
                self.forget(&format!("grant.{name}.origins"));
            }
        }
        for (text, origin) in origins(asked)? {
            let capability = capability(text, &origin, catalogue)?;
            self.must_link(NET, text, capability)?;
            let added = self.grant_of(capability).add_origin(capability, origin);
            added.map_err(|message| FlagError::new(NET, text, message, None))?;
        }
        Ok(())
    }

    /// Replaces the databases, if any were asked for.
    pub(crate) fn set_databases(
        &mut self,
        asked: &[String],
        cwd: &Path,
        catalogue: &Catalogue,
    ) -> Result<(), FlagError> {
        let Some(first) = asked.first() else {
            return Ok(());
        };
        let first = first.split_once('=').map_or("", |(name, _)| name);
        let capability = flagged(Flag::Database, false, first, catalogue)?;
        self.must_link(DATABASE, first, capability)?;
        self.grant_of(capability).databases.clear();
        self.forget(&format!("grant.{}.databases", capability.name));
        for asked in asked {
            let (name, database) = database(asked, cwd)?;
            self.add_database(capability, name, database)?;
        }
        Ok(())
    }

    /// Trusts the authorities of these files for every origin and every database of a server that is granted.
    pub(crate) fn add_authorities(&mut self, asked: &[String], cwd: &Path) -> Result<(), FlagError> {
        for text in asked {
            let wrong = |message| FlagError::new(CA, text, message, None);
            let authority = Authority::of(cwd, text).map_err(wrong)?;
            let mut used = false;
            for grant in self.grants.values_mut() {
                if !grant.origins.is_empty() {
                    authority::add(&mut grant.ca, authority.clone()).map_err(wrong)?;
                    used = true;
                }
                let servers = grant.databases.iter().filter(|(_, of)| !matches!(of.source, Source::Sqlite(_)));
                for (name, _) in servers {
                    let list = grant.database_ca.entry(name.clone()).or_default();
                    authority::add(list, authority.clone()).map_err(wrong)?;
                    used = true;
                }
            }
            if !used {
                let message = "there is no server that it could be for";
                let help = "say which with --allow-net or --database";
                return Err(FlagError::new(CA, text, message, Some(help.to_owned())));
            }
        }
        Ok(())
    }

    /// Adds a database that has a new name.
    pub(crate) fn add_database(
        &mut self,
        capability: &Definition,
        name: String,
        database: Database,
    ) -> Result<(), FlagError> {
        let databases = &mut self.grant_of(capability).databases;
        if databases.contains_key(&name) {
            return Err(FlagError::new(DATABASE, &name, "a database of that name is granted already", None));
        }
        if databases.len() >= crate::MAX_DATABASES {
            let message = format!("a grant may have {} databases at most", crate::MAX_DATABASES);
            return Err(FlagError::new(DATABASE, &name, message, None));
        }
        databases.insert(name, database);
        Ok(())
    }

    /// The lines of a key and of its entries are no longer where it comes from.
    pub(crate) fn forget(&mut self, key: &str) {
        let entries = format!("{key}:");
        self.source.lines.retain(|line, _| line != key && !line.starts_with(&entries));
    }
}
