//! The table of capabilities that the tests use, and short hands.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use parole_policy::{
    Catalogue, DEFAULT_ANSWER_BYTES, DEFAULT_MAX_BYTES, DEFAULT_MAX_FILES, DEFAULT_MAX_ROWS, DEFAULT_QUOTA, Definition,
    Fact, Facts, Fields, Flag, Function, GrantKey, GuestPath, HOST_TIMEOUT, Headers, Int, Key, Kind, Level, Looks,
    PolicyError, QueryValue, Resource, ScopeKind, SecurityPolicy, Target, Timeout, Type, field,
};

const DAY: u64 = 86_400_000;

/// `dial` is not a capability of Parole: it gives the tests one above `standard` with a version from 1 up.
pub static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let request = Type::record([
        field("method", Type::Method),
        field("url", Type::Url),
        field("headers", Type::Headers),
        field("body", Type::option(Type::Bytes)),
    ]);
    let sandbox = |name, params: Vec<_>| Definition { kind: Kind::SendOnly, ..entry(name, Level::Sandbox, params) };
    let waits = |name, kind, timeout, params: Vec<_>| Definition {
        kind,
        timeout,
        keys: keys(&[GrantKey::TimeoutMs]),
        ..entry(name, Level::Restricted, params)
    };
    let scoped = |name, level, scope, flag, own: &[Key], params: Vec<_>| Definition {
        scope,
        flag: Some(flag),
        keys: own.to_vec(),
        timeout: HOST_TIMEOUT,
        ..entry(name, level, params)
    };
    use GrantKey::{Ca, Databases, Dirs, Effect, MaxBytes, MaxFiles, MaxRows, Methods, Origins, Private, Quota, Retry};
    let (bytes, timeout) = (Key::number(MaxBytes, DEFAULT_ANSWER_BYTES), Key::from(GrantKey::TimeoutMs));
    let read = [Dirs.into(), Key::number(MaxBytes, DEFAULT_MAX_BYTES), timeout];
    let write = [Dirs.into(), Key::number(Quota, DEFAULT_QUOTA), Key::number(MaxFiles, DEFAULT_MAX_FILES), timeout];
    let fetch =
        [Origins.into(), Methods.into(), Private.into(), bytes, timeout, Effect.into(), Retry.into(), Ca.into()];
    let socket = [Origins.into(), Private.into(), bytes, timeout, Ca.into()];
    let query = [Databases.into(), Key::number(MaxRows, DEFAULT_MAX_ROWS), bytes, timeout, Effect.into(), Retry.into()];
    let (path, contents) = (field("path", Type::Path), field("contents", Type::Contents));
    let statement =
        vec![field("database", Type::Name), field("sql", Type::TEXT), field("parameters", Type::list(Type::SqlValue))];
    let all = [
        sandbox("print", vec![field("text", Type::TEXT)]),
        sandbox("display", vec![field("mime", Type::Text(1024)), field("data", Type::Bytes)]),
        waits("input", Kind::Person, Timeout::After(300_000), vec![field("prompt", Type::TEXT)]),
        waits("approve", Kind::Person, Timeout::After(7 * DAY), vec![field("question", Type::TEXT)]),
        waits("sleep", Kind::Timer, Timeout::Never, vec![field("duration-ms", Type::Int(Int::U64))]),
        scoped("read_file", Level::Restricted, ScopeKind::Path, Flag::AllowRead, &read, vec![path.clone()]),
        scoped("write_file", Level::Standard, ScopeKind::Path, Flag::AllowWrite, &write, vec![path, contents]),
        Definition {
            interface: "parole:capabilities/dial@1.2.0".into(),
            keys: keys(&[GrantKey::TimeoutMs]),
            timeout: HOST_TIMEOUT,
            ..entry("dial", Level::Trusted, Vec::new())
        },
        scoped("fetch", Level::Standard, ScopeKind::Url, Flag::AllowNet, &fetch, vec![field("request", request)]),
        scoped(
            "websocket",
            Level::Trusted,
            ScopeKind::SocketUrl,
            Flag::AllowNet,
            &socket,
            vec![field("url", Type::Url)],
        ),
        scoped("query", Level::Trusted, ScopeKind::Name, Flag::Database, &query, statement),
    ];
    Catalogue::new(all.map(Arc::new))
});

fn keys(keys: &[GrantKey]) -> Vec<Key> {
    keys.iter().copied().map(Key::from).collect()
}

fn entry(name: &str, level: Level, params: Vec<parole_policy::Field>) -> Definition {
    let dashed = name.replace('_', "-");
    Definition {
        level,
        functions: vec![Function::new(&dashed, name, params, None)],
        summary: "for tests".into(),
        ..Definition::new(name, &format!("parole:capabilities/{dashed}@0.1.0"))
    }
}

pub fn capability(name: &str) -> &'static Definition {
    CATALOGUE.by_name(name).expect("a capability of the test table")
}

/// The names of some capabilities.
pub fn names(capabilities: Vec<&'static Arc<Definition>>) -> Vec<&'static str> {
    capabilities.into_iter().map(|capability| &*capability.name).collect()
}

/// A policy that was put together in Rust, with all that the declarations say.
pub fn resolved(mut policy: SecurityPolicy) -> SecurityPolicy {
    policy.resolve(&CATALOGUE).expect("a policy that holds");
    policy
}

/// The typed arguments of a call, as the capabilities themselves show them.
#[derive(Copy, Clone, Debug)]
pub enum Arguments<'a> {
    None,
    Read { path: &'a GuestPath },
    Write { path: &'a GuestPath, contents: &'a [u8] },
    Fetch(&'a FetchArguments<'a>),
    Connect { url: &'a Target },
    Query { database: &'a str, sql: &'a str, parameters: &'a [QueryValue] },
    Fields(&'a [(&'static str, Fact<'a>)]),
}

/// What a guest sends.
#[derive(Copy, Clone, Debug)]
pub struct FetchArguments<'a> {
    pub method: &'a str,
    pub url: &'a Target,
    pub headers: &'a Headers,
    pub body: Option<&'a [u8]>,
}

impl Facts for Arguments<'_> {
    fn resource(&self) -> Resource<'_> {
        match self {
            Arguments::None | Arguments::Fields(_) => Resource::Nothing,
            Arguments::Read { path } | Arguments::Write { path, .. } => Resource::Path(path),
            Arguments::Fetch(request) => Resource::Url { method: Some(request.method), url: request.url },
            Arguments::Connect { url } => Resource::Url { method: None, url },
            Arguments::Query { database, .. } => Resource::Name(database),
        }
    }

    fn fact(&self, name: &str) -> Option<Fact<'_>> {
        Some(match (self, name) {
            (Arguments::Read { path } | Arguments::Write { path, .. }, "path") => Fact::Text(path.as_str()),
            (Arguments::Write { contents, .. }, "contents") => Fact::Bytes(contents),
            (Arguments::Fetch(request), "request") => Fact::Record(*request),
            (Arguments::Fetch(FetchArguments { url, .. }) | Arguments::Connect { url }, "target") => Fact::Record(*url),
            (Arguments::Connect { url }, "url") => Fact::Text(url.sent()),
            (Arguments::Query { database, .. }, "database") => Fact::Text(database),
            (Arguments::Query { sql, .. }, "sql") => Fact::Text(sql),
            (Arguments::Query { parameters, .. }, "parameters") => {
                Fact::List(parameters.iter().map(QueryValue::fact).collect())
            }
            (Arguments::Fields(fields), _) => fields.iter().find(|(own, _)| *own == name)?.1.clone(),
            _ => return None,
        })
    }

    fn read_for(&self) -> Looks {
        match self {
            Arguments::Fetch(request) => request.headers.looks(),
            _ => Looks::ALL,
        }
    }
}

impl Fields for FetchArguments<'_> {
    fn field(&self, name: &str) -> Option<Fact<'_>> {
        Some(match name {
            "method" => Fact::Text(self.method),
            "url" => Fact::Text(self.url.sent()),
            "headers" => Fact::List(self.headers.iter().map(|header| Fact::Record(header)).collect()),
            "body" => self.body.map_or(Fact::Null, Fact::Bytes),
            _ => return None,
        })
    }
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
