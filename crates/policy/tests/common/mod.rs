//! The table of capabilities that the tests use, and short hands.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;

use parole_policy::{
    APPROVE_ARGUMENTS, ArgumentTable, Capability, Catalogue, DISPLAY_ARGUMENTS, FETCH_ARGUMENTS, GrantKey, GuestPath,
    HOST_TIMEOUT, Headers, INPUT_ARGUMENTS, Kind, Level, Looks, PRINT_ARGUMENTS, PolicyError, QUERY_ARGUMENTS,
    READ_FILE_ARGUMENTS, SLEEP_ARGUMENTS, ScopeKind, SecurityPolicy, Target, Timeout, WEBSOCKET_ARGUMENTS,
    WRITE_FILE_ARGUMENTS,
};

const DAY: u64 = 86_400_000;

/// `dial` is not a capability of Parole: it gives the tests one above `standard` with a version from 1 up.
const TABLE: &[Capability] = &[
    entry(
        "print",
        "parole:capabilities/print@0.1.0",
        Level::Sandbox,
        Kind::SendOnly,
        &[],
        Timeout::Never,
        PRINT_ARGUMENTS,
    ),
    entry(
        "display",
        "parole:capabilities/display@0.1.0",
        Level::Sandbox,
        Kind::SendOnly,
        &[],
        Timeout::Never,
        DISPLAY_ARGUMENTS,
    ),
    entry(
        "input",
        "parole:capabilities/input@0.1.0",
        Level::Restricted,
        Kind::Person,
        WAITS,
        Timeout::After(300_000),
        INPUT_ARGUMENTS,
    ),
    entry(
        "approve",
        "parole:capabilities/approve@0.1.0",
        Level::Restricted,
        Kind::Person,
        WAITS,
        Timeout::After(7 * DAY),
        APPROVE_ARGUMENTS,
    ),
    entry(
        "sleep",
        "parole:capabilities/sleep@0.1.0",
        Level::Restricted,
        Kind::Timer,
        WAITS,
        Timeout::Never,
        SLEEP_ARGUMENTS,
    ),
    entry(
        "read_file",
        "parole:capabilities/read-file@0.1.0",
        Level::Restricted,
        Kind::Host,
        &[GrantKey::Dirs, GrantKey::MaxBytes, GrantKey::TimeoutMs],
        HOST_TIMEOUT,
        READ_FILE_ARGUMENTS,
    ),
    entry(
        "write_file",
        "parole:capabilities/write-file@0.1.0",
        Level::Standard,
        Kind::Host,
        &[GrantKey::Dirs, GrantKey::Quota, GrantKey::MaxFiles, GrantKey::TimeoutMs],
        HOST_TIMEOUT,
        WRITE_FILE_ARGUMENTS,
    ),
    entry("dial", "parole:capabilities/dial@1.2.0", Level::Trusted, Kind::Host, WAITS, HOST_TIMEOUT, &[]),
    entry(
        "fetch",
        "parole:capabilities/fetch@0.1.0",
        Level::Standard,
        Kind::Host,
        FETCH_KEYS,
        HOST_TIMEOUT,
        FETCH_ARGUMENTS,
    ),
    entry(
        "websocket",
        "parole:capabilities/websocket@0.1.0",
        Level::Trusted,
        Kind::Host,
        SOCKET_KEYS,
        HOST_TIMEOUT,
        WEBSOCKET_ARGUMENTS,
    ),
    entry(
        "query",
        "parole:capabilities/query@0.1.0",
        Level::Trusted,
        Kind::Host,
        QUERY_KEYS,
        HOST_TIMEOUT,
        QUERY_ARGUMENTS,
    ),
];

const FETCH_KEYS: &[GrantKey] = &[
    GrantKey::Origins,
    GrantKey::Methods,
    GrantKey::Private,
    GrantKey::MaxBytes,
    GrantKey::TimeoutMs,
    GrantKey::Effect,
    GrantKey::Retry,
    GrantKey::Ca,
];
const SOCKET_KEYS: &[GrantKey] =
    &[GrantKey::Origins, GrantKey::Private, GrantKey::MaxBytes, GrantKey::TimeoutMs, GrantKey::Ca];
const QUERY_KEYS: &[GrantKey] = &[
    GrantKey::Databases,
    GrantKey::MaxRows,
    GrantKey::MaxBytes,
    GrantKey::TimeoutMs,
    GrantKey::Effect,
    GrantKey::Retry,
];

const WAITS: &[GrantKey] = &[GrantKey::TimeoutMs];

#[expect(clippy::too_many_arguments, reason = "the columns of a table")]
const fn entry(
    name: &'static str,
    interface: &'static str,
    level: Level,
    kind: Kind,
    grant_keys: &'static [GrantKey],
    default_timeout: Timeout,
    arguments: ArgumentTable,
) -> Capability {
    let scope = scope_of(grant_keys);
    Capability { name, interface, level, kind, scope, grant_keys, arguments, default_timeout, summary: "for tests" }
}

const fn scope_of(grant_keys: &[GrantKey]) -> ScopeKind {
    match grant_keys {
        [GrantKey::Dirs, ..] => ScopeKind::Path,
        [GrantKey::Origins, GrantKey::Methods, ..] => ScopeKind::Url,
        [GrantKey::Origins, ..] => ScopeKind::SocketUrl,
        [GrantKey::Databases, ..] => ScopeKind::Name,
        _ => ScopeKind::Nothing,
    }
}

pub const CATALOGUE: Catalogue = Catalogue::new(TABLE);

pub fn capability(name: &str) -> &'static Capability {
    CATALOGUE.by_name(name).expect("a capability of the test table")
}

/// A path that has a form.
pub fn path(text: &str) -> GuestPath {
    GuestPath::read(text).expect("a path")
}

/// A URL of which a rule may look at everything.
pub fn target(text: &str) -> Target {
    Target::read(text, Looks::ALL).expect("a URL")
}

/// Headers of which a rule may look at everything.
pub fn headers(list: &[(&str, &str)]) -> Headers {
    Headers::read(list.iter().copied(), Looks::ALL).expect("headers")
}

/// A policy file in `/p`.
pub fn parse(toml: &str) -> Result<SecurityPolicy, Vec<PolicyError>> {
    SecurityPolicy::parse(toml, Path::new("/p"), &CATALOGUE)
}

/// One that has to be right.
pub fn policy(toml: &str) -> SecurityPolicy {
    parse(toml).unwrap_or_else(|errors| panic!("{toml}: {errors:?}"))
}

/// The faults of a file, each as `line:column message | help`.
pub fn faults(toml: &str) -> Vec<String> {
    let show = |error: PolicyError| {
        let help = error.help.map(|help| format!(" | {help}")).unwrap_or_default();
        format!("{}:{} {}{help}", error.line, error.column, error.message)
    };
    parse(toml).err().unwrap_or_default().into_iter().map(show).collect()
}

/// A text of a table, its escapes undone: `\s` is a blank, `\u{…}` any character.
pub fn plain(text: &str) -> String {
    let (mut plain, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let mut chars = after.chars();
        let (c, after) = match chars.next().expect("something after `\\`") {
            'u' => {
                let hex = after.strip_prefix("u{").and_then(|after| after.split_once('}'));
                let (hex, after) = hex.expect("`\\u{…}`");
                (u32::from_str_radix(hex, 16).ok().and_then(char::from_u32).expect("a character"), after)
            }
            's' => (' ', chars.as_str()),
            't' => ('\t', chars.as_str()),
            'n' => ('\n', chars.as_str()),
            'r' => ('\r', chars.as_str()),
            '0' => ('\0', chars.as_str()),
            other => (other, chars.as_str()),
        };
        plain.push(c);
        rest = after;
    }
    plain + rest
}
