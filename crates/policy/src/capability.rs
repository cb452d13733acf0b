//! What the host can offer: the words in which the crate above writes its table of capabilities.

use crate::{ArgType, Level, Timeout, name};

/// The interface of the package that has no functions and no resources, so no authority: always linked.
pub const TYPES_INTERFACE: &str = "parole:capabilities/types@0.1.0";
/// The capability that `--allow-read` and [`Arguments::Read`](crate::Arguments::Read) are about.
pub const READ_FILE: &str = "read_file";
/// The capability that `--allow-write` and [`Arguments::Write`](crate::Arguments::Write) are about.
pub const WRITE_FILE: &str = "write_file";

/// The capability that [`Arguments::Fetch`](crate::Arguments::Fetch) is about.
pub const FETCH: &str = "fetch";
/// The capability that [`Arguments::Connect`](crate::Arguments::Connect) is about.
pub const WEBSOCKET: &str = "websocket";
/// The capability that [`Arguments::Query`](crate::Arguments::Query) is about.
pub const QUERY: &str = "query";

/// How a capability is answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Not at all: no result, no promise.
    SendOnly,
    /// By the host at once, from what it knows: nothing happens, and there is no promise.
    Immediate,
    /// By a person, through a durable promise.
    Person,
    /// By the passing of time, through a durable promise.
    Timer,
    /// By the host itself.
    Host,
}

impl Kind {
    /// Whether its calls may wait. One that never does has no async twin interface, and nobody can be asked about it.
    pub const fn waits(self) -> bool {
        !matches!(self, Kind::SendOnly | Kind::Immediate)
    }
}

/// What the grant of a capability lists, if it lists anything.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum ScopeKind {
    /// Nothing: whoever links it may call it.
    Nothing,
    /// Directories.
    Path,
    /// Origins, of URLs for requests.
    Url,
    /// Origins, of URLs for WebSockets.
    SocketUrl,
    /// Databases, by name.
    Name,
}

/// A key that `[grant.NAME]` may have.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum GrantKey {
    /// Guest path = host path.
    Dirs,
    /// Bytes that one call may give the guest.
    MaxBytes,
    /// Bytes that one execution may write in all.
    Quota,
    /// Files that one execution may make.
    MaxFiles,
    /// Milliseconds until a promise expires, or `"never"`.
    TimeoutMs,
    /// Where it may connect to.
    Origins,
    /// HTTP methods.
    Methods,
    /// Ranges of addresses that a name may lead to although they aren't on the internet.
    Private,
    /// Whether doing it twice is as good as once.
    Effect,
    /// Databases by name.
    Databases,
    /// Rows that one call may give the guest.
    MaxRows,
    /// How often and when a failed attempt is made again.
    Retry,
    /// Files of certificate authorities that are trusted beside the public ones.
    Ca,
}

impl GrantKey {
    /// The key as a policy file spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            GrantKey::Dirs => "dirs",
            GrantKey::MaxBytes => "max_bytes",
            GrantKey::Quota => "quota",
            GrantKey::MaxFiles => "max_files",
            GrantKey::TimeoutMs => "timeout_ms",
            GrantKey::Origins => "origins",
            GrantKey::Methods => "methods",
            GrantKey::Private => "private",
            GrantKey::Effect => "effect",
            GrantKey::Databases => "databases",
            GrantKey::MaxRows => "max_rows",
            GrantKey::Retry => "retry",
            GrantKey::Ca => "ca",
        }
    }
}

/// One entry of the table of capabilities; the table itself lives in the crate above and is handed in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The name in policy, command line and records: `read_file`.
    pub name: &'static str,
    /// The versioned WIT interface: `parole:capabilities/read-file@0.1.0`.
    pub interface: &'static str,
    /// The lowest level that links it.
    pub level: Level,
    /// How it is answered.
    pub kind: Kind,
    /// What its grant lists. An empty list reaches nothing.
    pub scope: ScopeKind,
    /// The keys that its `[grant.NAME]` may have; none: it takes no grant.
    pub grant_keys: &'static [GrantKey],
    /// What it is called with, as far as a rule may look at it.
    pub arguments: &'static [(&'static str, ArgType)],
    /// When its promises expire if no policy says so.
    pub default_timeout: Timeout,
    /// One line for listings.
    pub summary: &'static str,
}

impl Capability {
    /// Whether `[grant.NAME]` may have this key.
    pub fn takes(&self, key: GrantKey) -> bool {
        self.grant_keys.contains(&key)
    }

    /// Whether what it may reach is a list of directories.
    pub fn has_dirs(&self) -> bool {
        self.scope == ScopeKind::Path
    }

    /// Whether what it may reach is a list: of directories, origins or databases.
    pub fn has_scope(&self) -> bool {
        self.scope != ScopeKind::Nothing
    }
}

/// The table of capabilities that this host defines.
#[derive(Copy, Clone, Debug)]
pub struct Catalogue(&'static [Capability]);

/// What an import name refers to.
pub(crate) enum Found {
    Types,
    Capability { capability: &'static Capability, twin: bool },
    OtherVersion { offered: String, capability: Option<&'static Capability> },
    Unknown,
}

impl Catalogue {
    /// A catalogue of these capabilities. Names and interfaces must differ.
    pub const fn new(capabilities: &'static [Capability]) -> Self {
        Catalogue(capabilities)
    }

    /// Every capability, in the order of the table.
    pub fn iter(&self) -> std::slice::Iter<'static, Capability> {
        self.0.iter()
    }

    /// Every name, in the order of the table.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.0.iter().map(|capability| capability.name)
    }

    /// The capability of that name (`read_file`).
    pub fn by_name(&self, name: &str) -> Option<&'static Capability> {
        self.0.iter().find(|capability| capability.name == name)
    }

    /// The capability that an import of this name gets, whatever a policy says, and whether the name is that
    /// of its async twin (`…/read-file-async@0.1.0`). Versions are compared as [`Link`](crate::Link) says.
    pub fn by_import(&self, import: &str) -> Option<(&'static Capability, bool)> {
        match self.find(import) {
            Found::Capability { capability, twin } => Some((capability, twin)),
            _ => None,
        }
    }

    /// Every interface that this host offers with the capability behind it, twins included.
    pub(crate) fn offers(&self) -> impl Iterator<Item = (String, Option<(&'static Capability, bool)>)> + use<> {
        let types = std::iter::once((TYPES_INTERFACE.to_owned(), None));
        types.chain(self.0.iter().flat_map(|capability| {
            let twin = (capability.kind.waits()).then(|| (name::twin(capability.interface), Some((capability, true))));
            std::iter::once((capability.interface.to_owned(), Some((capability, false)))).chain(twin)
        }))
    }

    pub(crate) fn find(&self, import: &str) -> Found {
        let mut other = Found::Unknown;
        for (offered, what) in self.offers() {
            match name::fit(&offered, import) {
                name::Fit::Same => {
                    return match what {
                        None => Found::Types,
                        Some((capability, twin)) => Found::Capability { capability, twin },
                    };
                }
                name::Fit::OtherVersion if matches!(other, Found::Unknown) => {
                    other = Found::OtherVersion { offered, capability: what.map(|(capability, _)| capability) };
                }
                name::Fit::OtherVersion | name::Fit::Other => {}
            }
        }
        other
    }
}
