//! What the host can offer: the declaration of a capability, and the catalogue of all of them.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use crate::argtype::{ArgType, ArgumentTable};
use crate::schema::{self, Function};
use crate::{
    Field, Level, Looks, MAX_BYTES, MAX_FILES, MAX_QUOTA, MAX_ROWS, Origin, Timeout, Type, Unit, WorkEffect, name, user,
};

/// The interface of the package that has no functions and no resources, so no authority: always linked.
pub const TYPES_INTERFACE: &str = "parole:capabilities/types@0.1.0";

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
    /// By whoever settles its promises.
    Worker,
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

impl ScopeKind {
    /// Whether an origin is one of those that it lists.
    pub(crate) fn takes(self, origin: &Origin) -> bool {
        match self {
            ScopeKind::Url => !origin.scheme.is_socket(),
            ScopeKind::SocketUrl => origin.scheme.is_socket(),
            _ => false,
        }
    }

    /// The schemes of its URLs, in words.
    pub(crate) const fn schemes(self) -> &'static str {
        if matches!(self, ScopeKind::SocketUrl) { "ws and wss" } else { "http and https" }
    }
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

    /// For keys that hold a number: what it counts, and the most that it may be.
    pub const fn number(self) -> Option<(Unit, u64)> {
        match self {
            GrantKey::MaxBytes => Some((Unit::Bytes, MAX_BYTES)),
            GrantKey::Quota => Some((Unit::Bytes, MAX_QUOTA)),
            GrantKey::MaxFiles => Some((Unit::Count, MAX_FILES)),
            GrantKey::MaxRows => Some((Unit::Count, MAX_ROWS)),
            _ => None,
        }
    }
}

/// A key of a grant, with what holds where a policy does not have it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub key: GrantKey,
    /// The number that holds then; `None`: it holds no number.
    pub default: Option<u64>,
}

impl Key {
    /// A key that holds a number, and the one that holds without it.
    pub const fn number(key: GrantKey, default: u64) -> Self {
        Self { key, default: Some(default) }
    }
}

impl From<GrantKey> for Key {
    fn from(key: GrantKey) -> Self {
        Self { key, default: None }
    }
}

/// The flags of the command line that fill the scope of a capability.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Flag {
    /// `--allow-read`
    AllowRead,
    /// `--allow-write`
    AllowWrite,
    /// `--allow-net`
    AllowNet,
    /// `--database`
    Database,
}

impl Flag {
    /// The flag as it is typed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Flag::AllowRead => "--allow-read",
            Flag::AllowWrite => "--allow-write",
            Flag::AllowNet => "--allow-net",
            Flag::Database => "--database",
        }
    }

    /// The flag with what goes behind it.
    pub const fn usage(self) -> &'static str {
        match self {
            Flag::AllowRead => "--allow-read [GUEST=]DIR",
            Flag::AllowWrite => "--allow-write [GUEST=]DIR",
            Flag::AllowNet => "--allow-net ORIGIN",
            Flag::Database => "--database NAME=URL",
        }
    }
}

/// The declaration of a capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The name in policy, command line and records: `read_file`.
    pub name: Arc<str>,
    /// The versioned WIT interface: `parole:capabilities/read-file@0.1.0`.
    pub interface: Arc<str>,
    /// The lowest level that links it.
    pub level: Level,
    /// How it is answered.
    pub kind: Kind,
    /// What its grant lists. An empty list reaches nothing.
    pub scope: ScopeKind,
    /// The keys that its `[grant.NAME]` may have; none: it takes no grant.
    pub keys: Vec<Key>,
    /// The flag that fills its scope.
    pub flag: Option<Flag>,
    /// Its functions. The first is what is decided, asked about and explained; others act on what that has given.
    pub functions: Vec<Function>,
    /// Of one that users define: what it means to do each function again. Built-in ones say that where they act.
    pub effects: Vec<WorkEffect>,
    /// When its promises expire if no policy says so.
    pub timeout: Timeout,
    /// One line for listings.
    pub summary: Arc<str>,
    /// One line on a call, with the arguments in braces: `{request.method} {request.url}`.
    pub shown: Arc<str>,
}

impl Definition {
    /// One that is answered by the host, from level `sandbox`, and reaches nothing: the rest of a declaration says more.
    pub fn new(name: &str, interface: &str) -> Self {
        Self {
            name: name.into(),
            interface: interface.into(),
            level: Level::Sandbox,
            kind: Kind::Host,
            scope: ScopeKind::Nothing,
            keys: Vec::new(),
            flag: None,
            functions: Vec::new(),
            effects: Vec::new(),
            timeout: Timeout::Never,
            summary: "".into(),
            shown: "".into(),
        }
    }

    /// Whether users define it: its name is its interface, and each of its functions is decided for itself.
    pub fn is_users(&self) -> bool {
        self.name == self.interface
    }

    /// Whether `[grant.NAME]` may have this key.
    pub fn takes(&self, key: GrantKey) -> bool {
        self.keys.iter().any(|own| own.key == key)
    }

    /// Whether what it may reach is a list: of directories, origins or databases.
    pub fn has_scope(&self) -> bool {
        self.scope != ScopeKind::Nothing
    }

    /// What a call is called with, as far as it is decided.
    pub fn params(&self) -> &[Field] {
        self.functions.first().map_or(&[], |function| &function.params)
    }

    /// What its promises are answered with.
    pub fn answer(&self) -> Option<&Type> {
        self.functions.first().and_then(|function| function.result.as_ref())
    }

    /// The function of that name in WIT.
    pub fn function(&self, wit: &str) -> Option<&Function> {
        self.functions.iter().find(|function| *function.wit == *wit)
    }

    /// The variables of its rules, or of those of one function of it. Of one that users define, a rule for all functions
    /// has what all of them take, by name and type.
    pub(crate) fn arguments(&self, function: Option<&str>) -> ArgumentTable {
        let own = match function.map(|wit| self.function(wit)) {
            Some(one) => schema::table(one.map_or(&[], |function| &function.params)),
            None if self.is_users() => self.common(),
            None => schema::table(self.params()),
        };
        match self.scope {
            ScopeKind::Url | ScopeKind::SocketUrl => {
                own.iter().cloned().chain([("target".into(), ArgType::target())]).collect()
            }
            ScopeKind::Nothing | ScopeKind::Path | ScopeKind::Name => own,
        }
    }

    fn common(&self) -> ArgumentTable {
        let mut tables = self.functions.iter().map(|function| schema::table(&function.params));
        let first = tables.next().unwrap_or_default();
        let rest: Vec<ArgumentTable> = tables.collect();
        first.iter().filter(|own| rest.iter().all(|table| table.contains(own))).cloned().collect()
    }

    /// What a rule looks at that has this argument in its condition, or only this field of it.
    pub(crate) fn looks(&self, argument: &str, part: &str) -> Looks {
        let none = Looks::default();
        let has = |fields: &[Field], name: &str| {
            fields.iter().find(|field| *schema::rule_name(&field.name) == *name).map(|field| field.of.clone())
        };
        match (has(self.params(), argument), part) {
            (Some(Type::Record(fields)), part) if !part.is_empty() => has(&fields, part).map_or(none, |of| of.looks()),
            (Some(of), _) => of.looks(),
            (None, "path") => Looks { path: true, ..none },
            (None, "query") => Looks { query: true, ..none },
            (None, "") => Looks { path: true, query: true, ..none },
            (None, _) => none,
        }
    }

    /// One line on a call, from its recorded arguments. Guest text: not inert.
    pub fn line(&self, arguments: &Value) -> String {
        let mut line = String::new();
        for (at, part) in self.shown.split(['{', '}']).enumerate() {
            if at % 2 == 0 {
                line.push_str(part);
                continue;
            }
            let value = part.split('.').try_fold(arguments, |value, name| value.get(name));
            match value {
                Some(Value::String(text)) => line.push_str(text),
                Some(value) => line.push_str(&value.to_string()),
                None => {}
            }
        }
        line
    }
}

/// The capabilities that there are.
#[derive(Clone, Debug, Default)]
pub struct Catalogue(Vec<Arc<Definition>>);

/// What an import name refers to.
pub(crate) enum Found<'c> {
    Types,
    Capability { capability: &'c Arc<Definition>, twin: bool },
    OtherVersion { offered: String, capability: Option<&'c Arc<Definition>> },
    Unknown,
}

impl Catalogue {
    /// A catalogue of these capabilities. Names and interfaces must differ.
    pub fn new(capabilities: impl IntoIterator<Item = Arc<Definition>>) -> Self {
        Catalogue(capabilities.into_iter().collect())
    }

    /// Every capability, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<Definition>> {
        self.0.iter()
    }

    /// Every name, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|capability| &*capability.name)
    }

    /// The capability of that name (`read_file`).
    pub fn by_name(&self, name: &str) -> Option<&Arc<Definition>> {
        self.0.iter().find(|capability| *capability.name == *name)
    }

    /// What a policy calls a capability, or one function of one that users define: `acme:crm/customers@1.0.0.delete`,
    /// with or without the version.
    pub fn named(&self, text: &str) -> Option<(&Arc<Definition>, Option<&str>)> {
        user::named(self.0.iter(), text)
    }

    /// The full name of what [`Catalogue::named`] finds; what it does not find stays as it is.
    pub(crate) fn full(&self, text: &str) -> String {
        match self.named(text) {
            Some((own, None)) => own.name.to_string(),
            Some((own, Some(function))) => format!("{}.{function}", own.name),
            None => text.to_owned(),
        }
    }

    /// Whether there is nothing that a guest could take for this one: gives it back then.
    ///
    /// # Errors
    /// There is.
    pub fn has_room_for(&self, more: Definition) -> Result<Definition, String> {
        match self.find(&more.interface) {
            Found::Unknown => Ok(more),
            _ => Err("this host defines it already".to_owned()),
        }
    }

    /// The same with these as well.
    #[must_use]
    pub fn with(&self, more: &[Arc<Definition>]) -> Cow<'_, Catalogue> {
        match more {
            [] => Cow::Borrowed(self),
            more => Cow::Owned(Catalogue(self.0.iter().chain(more).cloned().collect())),
        }
    }

    /// The capability that a flag is about; of two, the one for sockets or the other one.
    pub(crate) fn by_flag(&self, flag: Flag, socket: bool) -> Option<&Arc<Definition>> {
        let is_meant = |own: &&Arc<Definition>| own.flag == Some(flag) && (own.scope == ScopeKind::SocketUrl) == socket;
        self.0.iter().find(is_meant)
    }

    /// The capability that an import of this name gets, whatever a policy says, and whether the name is that
    /// of its async twin (`…/read-file-async@0.1.0`). Versions are compared as [`Link`](crate::Link) says.
    pub fn by_import(&self, import: &str) -> Option<(&Arc<Definition>, bool)> {
        match self.find(import) {
            Found::Capability { capability, twin } => Some((capability, twin)),
            _ => None,
        }
    }

    /// Every interface that this host offers with the capability behind it, twins included.
    pub(crate) fn offers(&self) -> impl Iterator<Item = (String, Option<(&Arc<Definition>, bool)>)> {
        let types = std::iter::once((TYPES_INTERFACE.to_owned(), None));
        types.chain(self.0.iter().flat_map(|capability| {
            let twin = capability.kind.waits().then(|| (name::twin(&capability.interface), Some((capability, true))));
            std::iter::once((capability.interface.to_string(), Some((capability, false)))).chain(twin)
        }))
    }

    pub(crate) fn find(&self, import: &str) -> Found<'_> {
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
