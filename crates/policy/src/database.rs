//! The databases that a guest may query, by names that the policy gives them.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::nearest::{help, quoted};
use crate::{database_options, paths};

/// The most databases of one grant.
pub const MAX_DATABASES: usize = 64;
/// The longest name of a database, in bytes.
pub const MAX_DATABASE_NAME: usize = 64;

/// What may be done with a database.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is only read.
    #[default]
    Ro,
    /// It is read and written.
    Rw,
}

impl Mode {
    /// The mode as a policy file spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Ro => "ro",
            Mode::Rw => "rw",
        }
    }

    /// The mode of that name.
    pub fn of(word: &str) -> Option<Mode> {
        [Mode::Ro, Mode::Rw].into_iter().find(|mode| mode.as_str() == word)
    }
}

/// Where a database is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A file of SQLite: absolute, without `.` and `..`.
    Sqlite(PathBuf),
    /// A PostgreSQL server: a URL without a password.
    Postgres(String),
    /// What the environment variable of that name says, when the connection is made.
    UrlEnv(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Source::Postgres(url) => f.write_str(url),
            Source::UrlEnv(name) => write!(f, "env:{name}"),
        }
    }
}

/// One database of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Where it is.
    pub source: Source,
    /// What may be done with it.
    pub mode: Mode,
}

impl Database {
    /// Whether it allows no more than `wider` does.
    pub(crate) fn is_within(&self, wider: &Database) -> bool {
        self.source == wider.source && self.mode <= wider.mode
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.source, self.mode.as_str())
    }
}

/// What is wrong with the name of a database.
pub(crate) fn name(text: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    if !text.is_empty() && text.len() <= MAX_DATABASE_NAME && text.chars().all(plain) {
        return Ok(());
    }
    let rule = "1 to 64 of a-z, 0-9, `_` and `-`";
    Err(format!("{} is not a name for a database: {rule}", quoted(text)))
}

/// The file of a SQLite database.
pub(crate) fn sqlite(base: &Path, text: &str) -> Result<Source, (String, Option<String>)> {
    let fail = |message: String| (message, None);
    if text.starts_with("file:") || text.starts_with(':') {
        return Err(fail(format!("{} is not a path: a database is a plain file", quoted(text))));
    }
    if text.ends_with('/') {
        return Err(fail(format!("{} is not a plain file", quoted(text))));
    }
    paths::host(base, text).map(Source::Sqlite).map_err(fail)
}

/// The name of an environment variable.
pub(crate) fn variable(text: &str) -> Result<Source, (String, Option<String>)> {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if first && text.len() <= 128 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(Source::UrlEnv(text.to_owned()));
    }
    Err((format!("{} is not the name of an environment variable", quoted(text)), None))
}

/// The URL of a PostgreSQL server. Faults never repeat it: it may hold a password.
pub(crate) fn postgres(text: &str) -> Result<Source, (String, Option<String>)> {
    let url = postgres_url(text)?;
    database_options(&url)?;
    Ok(Source::Postgres(text.to_owned()))
}

/// The same without a look at its options: what a record holds was looked at when it was made.
pub(crate) fn postgres_url(text: &str) -> Result<Url, (String, Option<String>)> {
    let shape = "write postgres://USER@HOST:PORT/NAME";
    if text.len() > crate::MAX_URL || text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        let message = "the URL holds characters that no URL has, or is too long";
        return Err((message.to_owned(), Some(shape.to_owned())));
    }
    let url = Url::parse(text).map_err(|_| ("this is not a URL".to_owned(), Some(shape.to_owned())))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(("the URL of a database starts with `postgres://`".to_owned(), Some(shape.to_owned())));
    }
    if url.password().is_some() {
        let help = "take it out, and name the URL by its environment variable: url_env = \"NAME\"";
        return Err(("the URL holds a password".to_owned(), Some(help.to_owned())));
    }
    if url.host_str().is_none_or(str::is_empty) || url.fragment().is_some() {
        return Err(("the URL of a database has a host and no fragment".to_owned(), Some(shape.to_owned())));
    }
    if url.path().trim_start_matches('/').is_empty() || url.path().trim_start_matches('/').contains('/') {
        return Err(("the URL names no database".to_owned(), Some(shape.to_owned())));
    }
    Ok(url)
}

/// `NAME=sqlite:PATH[?mode=rw]`, `NAME=postgres://…[?mode=rw]`, `NAME=env:VAR[?mode=rw]`.
pub(crate) fn flag(text: &str, cwd: &Path) -> Result<(String, Database), (String, Option<String>)> {
    let shape = "write NAME=sqlite:PATH, NAME=postgres://USER@HOST/NAME or NAME=env:VARIABLE, with ?mode=rw to write";
    let Some((given, place)) = text.split_once('=') else {
        return Err(("there is no `=` in it".to_owned(), Some(shape.to_owned())));
    };
    name(given).map_err(|message| (message, None))?;
    let (place, mode) = mode_of(place)?;
    let source = if let Some(path) = place.strip_prefix("sqlite:") {
        if path.contains('?') {
            let help = "after `?` stands mode=ro or mode=rw; a path with a `?` needs a policy file";
            return Err(("`?` says something unknown".to_owned(), Some(help.to_owned())));
        }
        sqlite(cwd, path)?
    } else if let Some(variable_name) = place.strip_prefix("env:") {
        variable(variable_name)?
    } else if place.starts_with("postgres:") || place.starts_with("postgresql:") {
        postgres(&place)?
    } else {
        return Err(("it is not known what kind of database this is".to_owned(), Some(shape.to_owned())));
    };
    Ok((given.to_owned(), Database { source, mode }))
}

/// Takes `mode=…` out of what stands after the `?`.
fn mode_of(place: &str) -> Result<(String, Mode), (String, Option<String>)> {
    let Some((before, query)) = place.rsplit_once('?') else {
        return Ok((place.to_owned(), Mode::Ro));
    };
    let (mut mode, mut kept) = (None, Vec::new());
    for part in query.split('&') {
        match part.strip_prefix("mode=") {
            None => kept.push(part),
            Some(word) => match Mode::of(word) {
                Some(word) if mode.is_none() => mode = Some(word),
                Some(_) => return Err(("the mode stands twice".to_owned(), None)),
                None => return Err((format!("unknown mode {}", quoted(word)), Some(help(word, &["ro", "rw"])))),
            },
        }
    }
    let rest = if kept.is_empty() { before.to_owned() } else { format!("{before}?{}", kept.join("&")) };
    Ok((rest, mode.unwrap_or_default()))
}
