//! The question at each call, and its one answer.

use crate::nearest::quoted;
use crate::paths::{self, Shape};
use crate::{Capability, Grant, MAX_GUEST_PATH, READ_FILE, SecurityPolicy, WRITE_FILE};

/// The typed arguments of a call. Every door to a right presents the same ones.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arguments<'a> {
    /// Nothing that a policy looks at.
    None,
    /// Reading one file.
    Read {
        /// The guest path, as the guest wrote it.
        path: &'a str,
    },
    /// Replacing one file.
    Write {
        /// The guest path, as the guest wrote it.
        path: &'a str,
        /// The length of the new contents, in bytes.
        bytes: u64,
    },
}

/// The answer of [`decide`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// The call may be made, as the permit says.
    Allow(Permit<'a>),
    /// It may not.
    Deny(Denial),
}

/// How an allowed call is to be made.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Permit<'a> {
    /// The grant generation under which it was decided, for the record.
    pub generation: u64,
    /// The directory that holds the path: an index into [`Grant::dirs`]. `None` for calls without a path.
    pub dir: Option<usize>,
    /// The rest of the guest's own path below that directory, without a leading slash; to be opened beneath a
    /// handle of the directory. It may hold `..` and `.`; empty for calls without a path.
    pub relative: &'a str,
    /// The grant of the capability, if the policy has one.
    pub grant: Option<&'a Grant>,
}

/// Why a call may not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Which error the guest gets.
    pub kind: DenialKind,
    /// For the guest: what was refused. Never holds host paths or policy text.
    pub reason: String,
    /// For the operator: the flag or policy line that would allow it.
    pub remedy: String,
}

/// The error that a guest gets for a denied call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DenialKind {
    /// The policy says no.
    Denied,
    /// The argument cannot be right under any policy.
    Invalid,
    /// Over this limit, in bytes.
    TooLarge(u64),
}

/// Whether a call may be made. Pure, and without allocation when it may.
///
/// `generation` numbers the grants that `policy` holds; it goes into the permit. Level and block list are
/// asked again, although the capability is linked: in doubt the answer is no. Sizes that are written are not
/// decided here, because what is left of a quota is state of the host.
pub fn decide<'a>(
    policy: &'a SecurityPolicy,
    generation: u64,
    capability: &Capability,
    arguments: &Arguments<'a>,
) -> Verdict<'a> {
    if !policy.links(capability) {
        return refused(policy, capability);
    }
    let grant = policy.grants.get(capability.name);
    let path = match (*arguments, capability.has_dirs(), capability.name) {
        (Arguments::None, false, _) => {
            return Verdict::Allow(Permit { generation, dir: None, relative: "", grant });
        }
        (Arguments::Read { path }, true, READ_FILE) | (Arguments::Write { path, .. }, true, WRITE_FILE) => path,
        _ => {
            let reason = format!("`{}` cannot be decided for these arguments", capability.name);
            return deny(DenialKind::Denied, reason, "none: this is a fault of the host".to_owned());
        }
    };
    if path.len() > MAX_GUEST_PATH || path.as_bytes().contains(&0) {
        return unspeakable(path);
    }
    match grant.and_then(|grant| longest(grant, path)) {
        None => outside(capability, path),
        Some((dir, relative)) => match paths::shape(relative) {
            Shape::File => Verdict::Allow(Permit { generation, dir: Some(dir), relative, grant }),
            Shape::Directory => {
                let remedy = "none: the guest has to name a file".to_owned();
                deny(DenialKind::Invalid, format!("{} is not a plain file", quoted(path)), remedy)
            }
            Shape::Outside => {
                let remedy =
                    "none: no grant lets `..` lead out of its directory; the guest has to name the file directly";
                let reason =
                    format!("`{}` may not follow `..` out of a directory in {}", capability.name, quoted(path));
                deny(DenialKind::Denied, reason, remedy.to_owned())
            }
        },
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

fn refused<'a>(policy: &SecurityPolicy, capability: &Capability) -> Verdict<'a> {
    let remedy = policy.refusal(capability, false).map(|(_, remedy)| remedy);
    deny(DenialKind::Denied, format!("`{}` is not granted", capability.name), remedy.unwrap_or_default())
}

fn unspeakable<'a>(path: &str) -> Verdict<'a> {
    let reason = if path.len() > MAX_GUEST_PATH {
        format!("the path is over {MAX_GUEST_PATH} bytes long")
    } else {
        format!("the path {} holds a NUL character", quoted(path))
    };
    deny(DenialKind::Invalid, reason, "none: no policy allows such a path".to_owned())
}

fn outside<'a>(capability: &Capability, path: &str) -> Verdict<'a> {
    let name = capability.name;
    let flag = if name == WRITE_FILE { "--allow-write" } else { "--allow-read" };
    let guest = paths::parent(path).escape_debug().to_string();
    let remedy =
        format!("{flag} {guest}=DIR, or in the policy file: [grant.{name}] dirs = {{ \"{guest}\" = \"DIR\" }}");
    deny(DenialKind::Denied, format!("`{name}` may not reach {}", quoted(path)), remedy)
}

fn deny<'a>(kind: DenialKind, reason: String, remedy: String) -> Verdict<'a> {
    Verdict::Deny(Denial { kind, reason, remedy })
}
