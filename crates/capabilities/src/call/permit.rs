//! Leave to perform one attempt at a call: what it may reach, already opened.
//!
//! Only the gate makes one, and a capability reaches files, network and databases by what is in it: a forgotten check does
//! not compile.
//!
//! A permit is not made by hand:
//! ```compile_fail,E0451
//! use parole_capabilities::call::permit::{Nothing, Permit};
//! let permit = Permit::<Nothing> { reach: (), terms: unimplemented!() };
//! ```
//! The permit of another kind is none:
//! ```compile_fail,E0308
//! use parole_capabilities::call::permit::{Name, Path, Permit};
//! fn read(permit: &Permit<Path>) {}
//! fn query(permit: &Permit<Name>) { read(permit) }
//! ```
//! From a permit no way leads to the execution, and none to the policy:
//! ```compile_fail,E0599
//! use parole_capabilities::call::permit::{Path, Permit};
//! fn act(permit: &Permit<Path>) { permit.execution(); }
//! ```
//! ```compile_fail,E0616
//! use parole_capabilities::call::permit::{Path, Permit};
//! fn act(permit: &Permit<Path>) { &permit.terms; }
//! ```

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cap_std::fs::Dir;
use parole_durable::{EffectClass, PromiseId};
use parole_policy::{Authority, Database, Definition, Grant, GrantKey, Resource, Timeout, Url, may_dial};

use super::failure::Failure;
use super::gate::GrantEntries;
use super::opened::OpenedPolicy;
use crate::Error;
use crate::clock;

/// Leave to perform one attempt.
pub struct Permit<S: Scope> {
    reach: S::Reach,
    terms: Terms,
}

/// What is granted beside what it may reach.
#[derive(Clone)]
pub(super) struct Terms {
    policy: Arc<OpenedPolicy>,
    capability: Arc<Definition>,
    class: EffectClass,
    /// Of a call that is taken on.
    key: Option<PromiseId>,
    deadline: Instant,
    is_watched: bool,
}

impl<S: Scope> Permit<S> {
    pub(super) fn new(reach: S::Reach, terms: Terms) -> Self {
        Self { reach, terms }
    }

    /// An attempt starts.
    pub(super) fn starts(&mut self, timeout: Timeout, longest: Duration, is_watched: bool) {
        let timeout = timeout.as_millis().map_or(longest, Duration::from_millis).min(longest);
        self.terms.deadline = clock::now() + timeout;
        self.terms.is_watched = is_watched;
    }

    /// The same attempt goes on elsewhere.
    pub(super) fn leading_to(&self, reach: S::Reach) -> Self {
        Self { reach, terms: self.terms.clone() }
    }

    /// What it may reach.
    #[must_use]
    pub fn reach(&self) -> &S::Reach {
        &self.reach
    }

    /// As what the call is taken on: whether it may be done again.
    #[must_use]
    pub fn class(&self) -> EffectClass {
        self.terms.class
    }

    /// The id of the call: the same at every attempt, before a crash and after it. One that may be repeated freely has none.
    #[must_use]
    pub fn key(&self) -> Option<&PromiseId> {
        self.terms.key.as_ref()
    }

    /// Until when it may take, by [`clock::now`](crate::clock::now).
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.terms.deadline
    }

    /// A number of the grant.
    #[must_use]
    pub fn number(&self, key: GrantKey) -> Option<u64> {
        self.terms.grant()?.number(key)
    }

    /// Whether this thread is not to be blocked: somebody waits for output.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.terms.is_watched
    }
}

impl Terms {
    /// Those of a call, but for what an attempt adds.
    pub(super) fn new(
        policy: Arc<OpenedPolicy>,
        capability: Arc<Definition>,
        class: EffectClass,
        key: Option<PromiseId>,
    ) -> Self {
        Self { policy, capability, class, key, deadline: clock::now(), is_watched: false }
    }

    fn grant(&self) -> Option<&Grant> {
        self.policy.policy.grants.get(&*self.capability.name)
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A kind of scope.
pub trait Scope: sealed::Sealed + Sized + Send + Sync + 'static {
    /// What the gate has opened.
    type Reach: Send + Sync + 'static;

    /// Who is asked about a call.
    const DECIDED_BY: DecidedBy = DecidedBy::PolicyAndPersons;

    /// What a call may reach by these entries of its grant.
    #[doc(hidden)]
    fn reach(found: &GrantMatch<'_>) -> Result<Self::Reach, Error>;
}

/// What was decided about a call, as a kind of scope is made from it.
#[doc(hidden)]
pub struct GrantMatch<'f> {
    pub(super) policy: &'f Arc<OpenedPolicy>,
    pub(super) capability: &'f Arc<Definition>,
    pub(super) entries: GrantEntries,
    pub(super) resource: Resource<'f>,
}

/// Who is asked about a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecidedBy {
    /// The policy, and whom it wants asked.
    PolicyAndPersons,
    /// The policy alone.
    PolicyAlone,
    /// Nobody.
    Nobody,
}

/// Nothing that a grant lists.
pub enum Nothing {}

/// Something that an earlier call was allowed to open. A person was asked for that, and it dies with the process, so a call
/// on it is never in doubt; it reaches nothing else.
pub enum Open {}

/// The same, to be given up.
pub enum Release {}

/// A file below a granted directory.
pub enum Path {}

/// A URL of a granted origin.
pub enum Origin {}

/// A database, by its name.
pub enum Name {}

impl sealed::Sealed for Nothing {}
impl sealed::Sealed for Open {}
impl sealed::Sealed for Release {}
impl sealed::Sealed for Path {}
impl sealed::Sealed for Origin {}
impl sealed::Sealed for Name {}

impl Scope for Nothing {
    type Reach = ();

    fn reach(_: &GrantMatch<'_>) -> Result<(), Error> {
        Ok(())
    }
}

impl Scope for Open {
    type Reach = ();
    const DECIDED_BY: DecidedBy = DecidedBy::PolicyAlone;

    fn reach(_: &GrantMatch<'_>) -> Result<(), Error> {
        Ok(())
    }
}

impl Scope for Release {
    type Reach = ();
    const DECIDED_BY: DecidedBy = DecidedBy::Nobody;

    fn reach(_: &GrantMatch<'_>) -> Result<(), Error> {
        Ok(())
    }
}

/// A file below a granted directory.
pub struct DirPath {
    pub(crate) dir: Arc<Dir>,
    /// Its name below that, without a slash before it.
    pub(crate) path: String,
    pub(crate) links: Links,
    /// The whole name.
    named: String,
}

/// What is done about links on the way to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// They are followed where they lead to something beneath the granted directory.
    Follow,
    /// They are not: something has decided about the name, and that is what is opened.
    Refuse,
}

impl Scope for Path {
    type Reach = DirPath;

    fn reach(found: &GrantMatch<'_>) -> Result<DirPath, Error> {
        let gone = || Error::Failed("the granted directory is not open".into());
        let (Resource::Path(path), Some(index)) = (found.resource, found.entries.dir) else { return Err(gone()) };
        let dirs = found.policy.dirs.get(&*found.capability.name).map_or(&[][..], Vec::as_slice);
        let dir = dirs.get(index).and_then(Option::as_ref).map(Arc::clone).ok_or_else(gone)?;
        let named = path.as_str();
        let links = if found.policy.looks(found.capability).path { Links::Refuse } else { Links::Follow };
        Ok(DirPath { dir, path: found.entries.below(named).to_owned(), links, named: named.to_owned() })
    }
}

impl DirPath {
    /// The file system, or the way to the file, refused what the policy had allowed.
    pub(crate) fn denied(&self, reason: String) -> Failure {
        let remedy = match self.links {
            Links::Follow => {
                "none for this path: grant the directory that it leads to, or give yourself the right to the file"
            }
            Links::Refuse => {
                "none for this path: a rule, a check or a person decides about names here, so no link is followed: the \
                 guest has to name the file itself, in a granted directory"
            }
        };
        Failure::Denied { reason, argument: Some(self.named.clone()), remedy: remedy.into() }
    }
}

/// A URL of a granted origin.
pub struct AllowedUrl {
    url: Url,
    origin: usize,
    capability: Arc<Definition>,
    policy: Arc<OpenedPolicy>,
}

impl Scope for Origin {
    type Reach = AllowedUrl;

    fn reach(found: &GrantMatch<'_>) -> Result<AllowedUrl, Error> {
        let (Resource::Url { url, .. }, Some(origin)) = (found.resource, found.entries.origin) else {
            return Err(Error::Denied("no origin is granted".into()));
        };
        let (policy, capability) = (Arc::clone(found.policy), Arc::clone(found.capability));
        Ok(AllowedUrl { url: url.url().clone(), origin, capability, policy })
    }
}

impl AllowedUrl {
    /// The URL, in the form that was decided on.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    fn grant(&self) -> Option<&Grant> {
        self.policy.policy.grants.get(&*self.capability.name)
    }

    /// Whether an address of its host may be dialled; the error is for the guest.
    pub(crate) fn may_dial(&self, address: IpAddr) -> Result<(), String> {
        let grant = self.grant().ok_or_else(|| "no origin is granted".to_owned())?;
        may_dial(grant, self.origin, address).map_err(|denial| denial.reason)
    }

    /// Whom the grant trusts beside the public authorities.
    pub(crate) fn authorities(&self) -> &[Authority] {
        self.grant().map_or(&[], |grant| &grant.ca)
    }

    /// None of the addresses that the name has may be dialled.
    pub(crate) fn denied(&self, reason: String) -> Failure {
        let remedy = format!(
            "[grant.{}] private = [\"ADDRESS/PREFIX\"], for the addresses that the name may have",
            self.capability.name
        );
        Failure::Denied { reason, argument: Some(self.url.origin().ascii_serialization()), remedy }
    }
}

/// A database that the policy names.
pub struct NamedDatabase {
    pub(crate) name: String,
    pub(crate) database: Database,
    pub(crate) authorities: Option<Vec<Authority>>,
}

impl Scope for Name {
    type Reach = NamedDatabase;

    fn reach(found: &GrantMatch<'_>) -> Result<NamedDatabase, Error> {
        let denied = || Error::Denied("nothing is granted".into());
        let (Resource::Name(name), true) = (found.resource, found.entries.is_named) else { return Err(denied()) };
        let grant = found.policy.policy.grants.get(&*found.capability.name).ok_or_else(denied)?;
        let database = grant.databases.get(name).cloned().ok_or_else(denied)?;
        Ok(NamedDatabase { name: name.to_owned(), database, authorities: grant.database_ca.get(name).cloned() })
    }
}
