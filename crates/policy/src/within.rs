//! What one policy reaches, compared with another policy and with what no guest may reach.

use std::path::{Path, PathBuf};

use crate::{Catalogue, DirGrant, FlagError, Grant, SecurityPolicy, Source};

/// A granted directory or database that contains or lies in a path that no guest may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The capability with the grant.
    pub capability: String,
    /// The granted directory. For a database: its name and its file.
    pub dir: DirGrant,
    /// What is protected: "the state directory".
    pub label: String,
    /// The protected path.
    pub path: PathBuf,
}

impl SecurityPolicy {
    /// The first granted directory or database file that contains or lies in a protected path. Each protected
    /// path has a label for messages ("the state directory"). Paths are compared by component: make them
    /// canonical first.
    pub fn overlap(&self, protected: &[(&str, &Path)]) -> Option<Overlap> {
        let granted = self.grants.iter().flat_map(|(name, grant)| places(grant).map(move |dir| (name.as_str(), dir)));
        // What is asked for, though nobody has said yet of which capability.
        let asked = self.pending.iter().filter_map(|pending| pending.place());
        let places = granted.chain(asked);
        places
            .flat_map(|place| protected.iter().map(move |path| (place.clone(), path)))
            .find(|((_, dir), (_, path))| dir.host.starts_with(path) || path.starts_with(&dir.host))
            .map(|((name, dir), (label, path))| Overlap {
                capability: name.to_owned(),
                dir,
                label: (*label).to_owned(),
                path: path.to_path_buf(),
            })
    }

    /// Whether each granted directory, origin and database lies in one that `wider` grants the same capability.
    ///
    /// [`SecurityPolicy::narrow`] asks this of paths as text. A symbolic link below a granted directory can
    /// lead out of it, so ask again when the hosts of both policies have been made canonical.
    pub fn stays_within(&self, wider: &SecurityPolicy, catalogue: &Catalogue) -> Result<(), FlagError> {
        if !self.is_resolved() || !wider.is_resolved() {
            let (mut own, mut wider) = (self.clone(), wider.clone());
            own.resolve_for_flags(catalogue)?;
            wider.resolve_for_flags(catalogue)?;
            return own.stays_within(&wider, catalogue);
        }
        for (name, grant) in &self.grants {
            let wide = wider.grants.get(name);
            let dirs = wide.map_or(&[][..], |grant| &grant.dirs);
            if let Some(dir) = grant.dirs.iter().find(|dir| !dirs.iter().any(|wide| dir.host.starts_with(&wide.host))) {
                let flag = catalogue.by_name(name).and_then(|capability| capability.flag);
                return Err(FlagError::outside(name, flag, &dir.host.display().to_string(), dirs));
            }
            let origins = wide.map_or(&[][..], |grant| &grant.origins);
            if let Some(origin) = grant.origins.iter().find(|origin| !origins.iter().any(|wide| wide.covers(origin))) {
                let has = list(origins.iter().map(ToString::to_string), "no origins");
                return Err(FlagError::widens("--allow-net", &origin.to_string(), &format!("{has} for `{name}`")));
            }
            let within = |(name, database): &(&String, &crate::Database)| {
                wide.and_then(|grant| grant.databases.get(*name)).is_some_and(|wide| database.is_within(wide))
            };
            if let Some((asked, _)) = grant.databases.iter().find(|database| !within(database)) {
                let has = match wide.and_then(|grant| grant.databases.get(asked)) {
                    Some(database) => format!("`{asked}` as {database}"),
                    None => databases(wide),
                };
                return Err(FlagError::widens("--database", asked, &has));
            }
        }
        Ok(())
    }
}

/// The host paths of a grant; a database file stands under its name.
fn places(grant: &Grant) -> impl Iterator<Item = DirGrant> {
    let files = grant.databases.iter().filter_map(|(name, database)| match &database.source {
        Source::Sqlite(path) => Some(DirGrant { guest: name.clone(), host: path.clone() }),
        Source::Postgres(_) | Source::UrlEnv(_) => None,
    });
    grant.dirs.iter().cloned().chain(files)
}

/// The names of the databases of a grant, for a message.
pub(crate) fn databases(grant: Option<&Grant>) -> String {
    list(grant.into_iter().flat_map(|grant| grant.databases.keys().cloned()), "no databases")
}

/// Things in quotes with commas, or the word for none.
pub(crate) fn list(things: impl Iterator<Item = String>, none: &str) -> String {
    let things: Vec<String> = things.map(|thing| crate::nearest::quoted(&thing)).collect();
    if things.is_empty() { none.to_owned() } else { things.join(", ") }
}
