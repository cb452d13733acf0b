//! From a policy to what an execution may reach: paths made absolute and real, held against what no grant
//! may cover, and opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parole_capabilities::backends::sql::postgres::check_url;
use parole_capabilities::backends::trust::read_authority;
use parole_capabilities::call::Rescope;
use parole_capabilities::call::opened::Unopened;
use parole_capabilities::lack::lack;
use parole_capabilities::{OpenedPolicy, Stop, Validator};
use parole_durable::store::ExecutionRecord;
use parole_durable::{Digest, ExecutionId, StoreError};
use parole_policy::{SecurityPolicy, Source};

use crate::error::Error;
use crate::runtime::Runtime;

impl Runtime {
    /// Pins and opens the policy of a new execution.
    pub(crate) fn scope(&self, mut policy: SecurityPolicy, validators: Vec<Validator>) -> Result<OpenedPolicy, Error> {
        self.pin(&mut policy, None)?;
        OpenedPolicy::open(Arc::new(policy), validators).map_err(unopened)
    }

    /// Opens the pinned policy of an execution that goes on: its paths must be the very ones that they were.
    pub(crate) fn pinned_scope(
        &self,
        policy: Arc<SecurityPolicy>,
        validators: Vec<Validator>,
    ) -> Result<OpenedPolicy, Error> {
        self.pinned(policy, validators).map_err(|error| match error {
            Error::Usage(what) => Error::NotResumed(what),
            error => error,
        })
    }

    fn pinned(&self, policy: Arc<SecurityPolicy>, validators: Vec<Validator>) -> Result<OpenedPolicy, Error> {
        policy.validate(self.catalogue()).map_err(|faults| Error::Usage(faults.join("; ")))?;
        for (name, grant) in &policy.grants {
            for dir in &grant.dirs {
                let real = real(&dir.host, name)?;
                if real != dir.host {
                    return Err(Error::NotResumed(format!(
                        "the directory {} granted to `{name}` is a link by now, to {}",
                        dir.host.display(),
                        real.display()
                    )));
                }
            }
        }
        self.no_overlap(&policy)?;
        OpenedPolicy::open(policy, validators).map_err(unopened)
    }

    /// Makes the paths of a policy absolute and real. Those that `known` has already stay as they are.
    pub(crate) fn pin(&self, policy: &mut SecurityPolicy, known: Option<&SecurityPolicy>) -> Result<(), Error> {
        policy.resolve(self.catalogue()).map_err(|faults| Error::Usage(faults.join("; ")))?;
        for (name, grant) in &mut policy.grants {
            let old = known.and_then(|known| known.grants.get(name));
            for dir in &mut grant.dirs {
                if !old.is_some_and(|old| old.dirs.contains(dir)) {
                    dir.host = real(&dir.host, name)?;
                }
            }
            for authority in grant.authorities_mut().filter(|authority| authority.read.is_none()) {
                let read = read_authority(&authority.file);
                authority.read = Some(read.map_err(|why| Error::Usage(format!("an authority of `{name}`: {why}")))?);
            }
            for (database, entry) in &mut grant.databases {
                let known =
                    old.and_then(|old| old.databases.get(database)).is_some_and(|old| old.source == entry.source);
                if !known {
                    self.check_url(database, &entry.source)?;
                }
                if let Source::Sqlite(path) = &mut entry.source
                    && !old.is_some_and(|old| matches!(old.databases.get(database), Some(old) if old.source == Source::Sqlite(path.clone())))
                {
                    *path = path.canonicalize().map_err(|error| {
                        Error::Usage(format!("the database {} ({database}) cannot be opened: {error}", path.display()))
                    })?;
                }
            }
        }
        self.no_overlap(policy)
    }

    /// Whether the URL of a database is one that can be followed. What its operator got wrong is told to the operator,
    /// before the guest meets it. A variable that is not set is not missed before it is needed.
    fn check_url(&self, database: &str, source: &Source) -> Result<(), Error> {
        let (url, from) = match source {
            Source::Sqlite(_) => return Ok(()),
            Source::Postgres(url) => (Some(url.clone()), String::new()),
            Source::UrlEnv(variable) => {
                ((self.0.outside.variables)(variable), format!(", from the variable {variable}"))
            }
        };
        let fault = url.and_then(|url| check_url(&url).err());
        fault.map_or(Ok(()), |fault| Err(Error::Usage(format!("the database `{database}`{from}: {fault}"))))
    }

    fn no_overlap(&self, policy: &SecurityPolicy) -> Result<(), Error> {
        let protected: Vec<(&str, &Path)> =
            self.0.protected.iter().map(|(label, path)| (label.as_str(), path.as_path())).collect();
        match policy.overlap(&protected) {
            None => Ok(()),
            Some(overlap) => Err(Error::Usage(format!(
                "{} granted to `{}` covers {} ({}): a guest could steer its host through it",
                overlap.dir.host.display(),
                overlap.capability,
                overlap.label,
                overlap.path.display()
            ))),
        }
    }

    /// The policy of the newest generation of an execution, or of `generation`; `first` is that of its set-up.
    pub(crate) fn policy_at(
        &self,
        id: ExecutionId,
        generation: u64,
        first: &Arc<SecurityPolicy>,
    ) -> Result<Arc<SecurityPolicy>, Error> {
        if generation == 0 {
            return Ok(Arc::clone(first));
        }
        let grants = self.hub().grants(id)?;
        let digest = grants.iter().find(|grant| grant.generation == generation).map(|grant| grant.policy);
        let policy = digest.map(|digest| self.stored_policy(&digest)).transpose()?;
        policy
            .map(Arc::new)
            .ok_or_else(|| Error::NotResumed(format!("damaged: generation {generation} of {id} is gone")))
    }

    pub(crate) fn stored_policy(&self, digest: &Digest) -> Result<SecurityPolicy, Error> {
        let bytes = self.hub().payload(digest)?;
        let bytes = bytes.ok_or_else(|| Error::NotResumed(format!("damaged: the policy {digest} is gone")))?;
        let text = String::from_utf8(bytes.to_vec()).unwrap_or_default();
        let policy = SecurityPolicy::from_json(&text);
        let mut policy = policy.map_err(|error| Error::NotResumed(error.to_string()))?;
        // What is wrong with it is said where it is to be run under.
        let _ = policy.resolve(self.catalogue());
        Ok(policy)
    }

    /// What opens later generations of an execution while it runs. What cannot be opened by then is not there
    /// for the guest: that is no reason to end it.
    pub(crate) fn rescope(&self, id: ExecutionId, first: Arc<SecurityPolicy>) -> Arc<Rescope> {
        let runtime = Arc::downgrade(&self.0);
        Arc::new(move |generation, open| {
            let Some(inner) = runtime.upgrade() else { return Err(Stop::Fenced) };
            let runtime = Runtime(inner, None);
            let policy = runtime.policy_at(id, generation, &first).map_err(|error| match error {
                Error::Store(error) => Stop::Store(error),
                Error::Lack(what) => Stop::Lack(what),
                error => Stop::Store(StoreError::Damaged(error.to_string().into())),
            })?;
            let changed = open.changed(policy, |host| host.canonicalize().is_ok_and(|real| real == host));
            changed.map(Arc::new).map_err(Stop::Lack)
        })
    }

    /// The policy under which an execution would make its next call.
    pub(crate) fn policy_now(
        &self,
        record: &ExecutionRecord,
        first: &Arc<SecurityPolicy>,
    ) -> Result<Arc<SecurityPolicy>, Error> {
        self.policy_at(record.id, record.generation, first)
    }
}

fn real(path: &Path, capability: &str) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(|error| match lack(&error) {
        Some(what) => Error::Lack(what),
        None => Error::Usage(format!(
            "the directory {} granted to `{capability}` cannot be opened: {error}",
            path.display()
        )),
    })
}

fn unopened(unopened: Unopened) -> Error {
    lack(&unopened.source).map_or_else(|| Error::Usage(unopened.to_string()), Error::Lack)
}
