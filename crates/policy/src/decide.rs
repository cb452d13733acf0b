//! The question at each call, and its one answer.

use crate::{
    Database, Definition, Denial, Facts, Grant, GuestPath, Resource, ScopeKind, SecurityPolicy, Target, Then, Timeout,
    denial, paths, target,
};

/// The answer of [`decide`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// The call may be made, as the permit says.
    Allow(Permit<'a>),
    /// A person decides whether it may be made.
    Ask(Asked<'a>),
    /// It may not.
    Deny(Denial),
}

/// What a person is to decide.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The name of the rule that asks.
    pub rule: &'a str,
    /// When the question expires, if the rule says so.
    pub timeout: Option<Timeout>,
    /// How the call is to be made if the person says yes.
    pub permit: Permit<'a>,
}

/// How an allowed call is to be made.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Permit<'a> {
    /// The grant generation under which it was decided, for the record.
    pub generation: u64,
    /// The directory that holds the path: an index into [`Grant::dirs`]. `None` for calls without a path.
    pub dir: Option<usize>,
    /// The rest of the path below that directory, without a leading slash; to be opened beneath a handle of the
    /// directory. Empty for calls without a path.
    pub relative: &'a str,
    /// The origin that holds the URL: an index into [`Grant::origins`], for [`may_dial`](crate::may_dial).
    /// `None` for calls without a URL.
    pub origin: Option<usize>,
    /// The database, for calls that name one.
    pub database: Option<&'a Database>,
    /// The name of the rule that said allow, if one did.
    pub rule: Option<&'a str>,
    /// The grant of the capability, if the policy has one.
    pub grant: Option<&'a Grant>,
}

/// Whether a call may be made. Pure, and without allocation when it may and no rule had to be asked.
///
/// The order: what is wrong with the policy, level, block list, what was revoked, the scope of the capability,
/// then its rules, of which the first that holds decides; none does: it may. An error anywhere denies.
///
/// `generation` numbers the grants that `policy` holds; it goes into the permit. Level and block list are
/// asked again, although the capability is linked: in doubt the answer is no. Sizes that are written are not
/// decided here, because what is left of a quota is state of the host.
pub fn decide<'a>(
    policy: &'a SecurityPolicy,
    generation: u64,
    capability: &Definition,
    facts: &'a dyn Facts,
) -> Verdict<'a> {
    if !policy.links(capability) {
        return Verdict::Deny(denial::unlinked(policy, capability));
    }
    if policy.revoked.contains(&*capability.name) {
        return Verdict::Deny(denial::revoked(&capability.name));
    }
    if capability.is_users() {
        match capability.function(facts.function()) {
            Some(function) if policy.blocks(function) => return Verdict::Deny(denial::blocked(function)),
            Some(function) if policy.revoked.contains(&*function.name) => {
                return Verdict::Deny(denial::revoked(&function.name));
            }
            Some(_) => {}
            None => return Verdict::Deny(denial::unread(capability)),
        }
    }
    let grant = policy.grants.get(&*capability.name);
    let whole = Permit { generation, dir: None, relative: "", origin: None, database: None, rule: None, grant };
    let resource = facts.resource();
    let read_for = match resource {
        Resource::Url { url, .. } => facts.read_for().both(url.looks()),
        _ => facts.read_for(),
    };
    match scope(capability, whole, resource) {
        Ok(permit) if read_for.covers(policy.looks(capability)) => rules(policy, capability, permit, facts),
        Ok(_) => Verdict::Deny(denial::unread(capability)),
        Err(denial) => Verdict::Deny(denial),
    }
}

/// Where the grants of a policy lead, whatever its rules say and though they were taken back: for what is left of a call
/// that is over.
pub fn reach<'a>(policy: &'a SecurityPolicy, capability: &Definition, resource: Resource<'a>) -> Option<Permit<'a>> {
    let grant = policy.grants.get(&*capability.name);
    let whole = Permit { generation: 0, dir: None, relative: "", origin: None, database: None, rule: None, grant };
    policy.links(capability).then(|| scope(capability, whole, resource).ok())?
}

/// What the scope of the capability says.
fn scope<'a>(capability: &Definition, whole: Permit<'a>, resource: Resource<'a>) -> Result<Permit<'a>, Denial> {
    match (capability.scope, resource) {
        (ScopeKind::Nothing, Resource::Nothing) => Ok(whole),
        (ScopeKind::Path, Resource::Path(path)) => file(capability, whole, path),
        (ScopeKind::Url, Resource::Url { method: Some(method), url }) => request(capability, whole, method, url),
        (ScopeKind::SocketUrl, Resource::Url { method: None, url }) => origin(capability, whole, url),
        (ScopeKind::Name, Resource::Name(name)) => named(capability, whole, name),
        _ => Err(denial::unread(capability)),
    }
}

fn file<'a>(capability: &Definition, whole: Permit<'a>, path: &'a GuestPath) -> Result<Permit<'a>, Denial> {
    let path = path.as_str();
    match whole.grant.and_then(|grant| longest(grant, path)) {
        None => Err(denial::outside(capability, path)),
        Some((_, relative)) if paths::is_directory(relative) => Err(denial::no_file(path)),
        Some((dir, relative)) => Ok(Permit { dir: Some(dir), relative, ..whole }),
    }
}

/// The granted directory with the longest guest path that holds `path`, and the rest of the path below it.
fn longest<'p>(grant: &Grant, path: &'p str) -> Option<(usize, &'p str)> {
    let mut best: Option<(usize, usize, &str)> = None;
    for (index, dir) in grant.dirs.iter().enumerate() {
        if let Some((depth, relative)) = paths::below(&dir.guest, path)
            && best.is_none_or(|(best, ..)| depth > best)
        {
            best = Some((depth, index, relative));
        }
    }
    best.map(|(_, index, relative)| (index, relative))
}

fn request<'a>(capability: &Definition, whole: Permit<'a>, method: &str, url: &Target) -> Result<Permit<'a>, Denial> {
    if !crate::grant::is_method(method) {
        return Err(denial::no_method());
    }
    let permit = origin(capability, whole, url)?;
    if permit.grant.is_some_and(|grant| grant.allows_method(method)) {
        Ok(permit)
    } else {
        Err(denial::method(capability, permit.grant, method))
    }
}

fn origin<'a>(capability: &Definition, whole: Permit<'a>, url: &Target) -> Result<Permit<'a>, Denial> {
    let url = url.url();
    let scheme = target::check(url)?;
    if scheme.is_socket() != (capability.scope == ScopeKind::SocketUrl) {
        return Err(denial::scheme(capability, scheme));
    }
    let found = whole.grant.and_then(|grant| grant.origins.iter().position(|origin| origin.holds(url)));
    match found {
        Some(index) => Ok(Permit { origin: Some(index), ..whole }),
        None => Err(denial::elsewhere(capability, url)),
    }
}

fn named<'a>(capability: &Definition, whole: Permit<'a>, name: &str) -> Result<Permit<'a>, Denial> {
    match whole.grant.and_then(|grant| grant.databases.get(name)) {
        Some(database) => Ok(Permit { database: Some(database), ..whole }),
        None => Err(denial::no_database(capability, name)),
    }
}

/// What the rules of the capability say about a call that its scope allows.
fn rules<'a>(
    policy: &'a SecurityPolicy,
    capability: &Definition,
    permit: Permit<'a>,
    facts: &dyn Facts,
) -> Verdict<'a> {
    let is_about = |rule: &&'a crate::Rule| {
        *rule.capability == *capability.name
            && rule.function.as_deref().is_none_or(|function| function == facts.function())
    };
    for rule in policy.rules.iter().filter(is_about) {
        let holds = rule.when.as_ref().map_or(Ok(true), |when| when.holds(facts));
        return match (holds, rule.then) {
            (Ok(false), _) => continue,
            (Err(why), _) => Verdict::Deny(denial::unclear(capability, &rule.name, &why)),
            (Ok(true), Then::Allow) => Verdict::Allow(Permit { rule: Some(&rule.name), ..permit }),
            (Ok(true), Then::Ask) => Verdict::Ask(Asked { rule: &rule.name, timeout: rule.timeout, permit }),
            (Ok(true), Then::Deny) => Verdict::Deny(denial::ruled_out(capability, &rule.name)),
        };
    }
    Verdict::Allow(permit)
}
