//! The policy of a run: a file, flags, or a file narrowed by flags.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command};
use parole_policy::{Files, FlagError, Flags, Grant, Level, MAX_FILE, MAX_WIT, SecurityPolicy, Source};
use parole_runtime::{CATALOGUE, question, read_authority};

use crate::fail::{Failure, Result};
use crate::shell::quoted;
use crate::{diagnostics, texts};

#[derive(clap::Args, Clone, Debug, Default)]
pub struct PolicyFlags {
    /// The policy, a TOML file
    ///
    /// Without it the flags are the policy: level `standard`, and only what they name can be
    /// reached. With it flags only narrow the file; one that would widen it is an error.
    #[arg(long, help_heading = "Policy", value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// How much of what is defined the guest may link
    #[arg(long, help_heading = "Policy", value_name = "LEVEL", value_parser = PossibleValuesParser::new(Level::ALL.map(Level::as_str)))]
    level: Option<String>,

    /// Capabilities that it may not link, whatever the level
    #[arg(long, help_heading = "Policy", value_name = "CAP", value_delimiter = ',', value_parser = capability())]
    block: Vec<String>,

    #[command(flatten)]
    scopes: ScopeFlags,

    /// When the promises of a capability expire: `input=5m`, `approve=never`
    #[arg(long, help_heading = "Policy", value_name = "CAP=DURATION|never")]
    timeout: Vec<String>,

    /// A limit, as in [limits] of a policy file: `cpu_ms=5000`, `memory=128MiB`
    #[arg(long, help_heading = "Policy", value_name = "KEY=VALUE")]
    limit: Vec<String>,

    /// A file of certificate authorities (PEM) to trust beside the public ones
    ///
    /// For every server of --allow-net and --database. It is read now, and what it holds now is trusted for as long as
    /// the execution lasts. With --policy the file says whom to trust: `ca = ["FILE"]` in a grant. The
    /// environment (SSL_CERT_FILE) is never looked at.
    #[arg(long, help_heading = "Policy", value_name = "FILE")]
    ca: Vec<String>,
}

// What single capabilities may reach: of a run, and of an execution that is granted more or less.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ScopeFlags {
    /// A directory that `read_file` sees
    ///
    /// GUEST is where the guest sees it; without it the directory is seen at its own text rooted
    /// at `/`: `data` at `/data`, `.` at `/`. Repeat the flag for more directories.
    #[arg(long, help_heading = "Policy", value_name = "[GUEST=]DIR")]
    pub allow_read: Vec<String>,

    /// A directory that `write_file` sees
    ///
    /// Writing does not imply reading. GUEST and DIR as in --allow-read.
    #[arg(long, help_heading = "Policy", value_name = "[GUEST=]DIR")]
    pub allow_write: Vec<String>,

    /// Where `fetch` (http, https) and `websocket` (ws, wss) may go: `https://api.example.com`
    ///
    /// Scheme, host and port must be these exactly; one leading `*.` label stands for any other.
    /// `fetch` may GET and HEAD; other methods are for a policy file to allow.
    #[arg(long, help_heading = "Policy", value_name = "ORIGIN", value_delimiter = ',')]
    pub allow_net: Vec<String>,

    /// A database that `query` knows by NAME: `NAME=sqlite:FILE`, `NAME=postgres://USER@HOST/DB`
    ///
    /// `NAME=env:VARIABLE` takes the URL, with its password, from the environment of this program.
    /// It is only read; `?mode=rw` at the end lets the guest write.
    #[arg(long, help_heading = "Policy", value_name = "NAME=URL")]
    pub database: Vec<String>,
}

impl ScopeFlags {
    /// The flags with what they were given, as they were typed.
    pub fn typed(&self) -> impl Iterator<Item = String> {
        [
            ("--allow-read", &self.allow_read),
            ("--allow-write", &self.allow_write),
            ("--allow-net", &self.allow_net),
            ("--database", &self.database),
        ]
        .into_iter()
        .flat_map(|(flag, values)| values.iter().map(move |value| format!("{flag} {value}")))
    }

    /// As the policy wants them.
    pub fn flags(&self) -> Result<Flags> {
        for (flag, values) in [("--allow-read", &self.allow_read), ("--allow-write", &self.allow_write)] {
            values.iter().try_for_each(|value| one_reading(flag, value))?;
        }
        Ok(Flags {
            allow_read: self.allow_read.clone(),
            allow_write: self.allow_write.clone(),
            allow_net: self.allow_net.clone(),
            databases: self.database.clone(),
            ..Flags::default()
        })
    }
}

/// A parser that knows the names of all capabilities of the host, and takes those of interfaces, which a policy may
/// define.
pub fn capability() -> Names {
    Names(CATALOGUE.names().map(PossibleValue::from).collect())
}

/// A parser that knows whatever a promise can be of: capabilities, and the questions about calls.
pub fn promise_of() -> Names {
    Names(CATALOGUE.names().chain([question::ASK, question::DOUBT]).map(PossibleValue::from).collect())
}

/// See [`capability`].
#[derive(Clone)]
pub struct Names(Vec<PossibleValue>);

impl TypedValueParser for Names {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        flag: Option<&Arg>,
        value: &OsStr,
    ) -> std::result::Result<String, clap::Error> {
        match value.to_str().filter(|name| name.contains(':')) {
            Some(interface) => Ok(interface.to_owned()),
            None => PossibleValuesParser::new(self.0.clone()).parse_ref(command, flag, value),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().cloned()))
    }
}

/// `/abs/year=2024` is a DIR at its own place, or the DIR `2024` at `/abs/year`: where there is a directory of the whole
/// name, nobody can tell which was meant.
fn one_reading(flag: &str, value: &str) -> Result<()> {
    let Some((guest, dir)) = value.split_once('=').filter(|(guest, _)| guest.starts_with('/')) else { return Ok(()) };
    if !Path::new(value).is_dir() {
        return Ok(());
    }
    let plain = if dir.starts_with('/') { format!("/.{dir}") } else { format!("./{dir}") };
    let message = format!(
        "{flag} {value} can be read in two ways: the directory {value} seen at its own place, or the directory {dir} \
         seen at {guest}"
    );
    Err(Failure::usage(message)
        .hint(format!(
            "for the first: {flag} {}, with the place of your choice before the `=`",
            quoted(&format!("/data={value}"))
        ))
        .hint(format!("for the second: {flag} {}", quoted(&format!("{guest}={plain}")))))
}

/// The working directory, from which the paths of flags are counted.
pub fn cwd() -> Result<PathBuf> {
    std::env::current_dir().map_err(|error| Failure::usage(format!("the working directory cannot be used: {error}")))
}

impl PolicyFlags {
    /// The policy that file and flags come to.
    pub fn load(&self) -> Result<SecurityPolicy> {
        let cwd = cwd()?;
        let flags = self.flags()?;
        let Some(path) = &self.policy else {
            let mut policy = SecurityPolicy::from_flags(&flags, &cwd, &CATALOGUE).map_err(|error| flag(&error))?;
            for authority in policy.grants.values_mut().flat_map(Grant::authorities_mut) {
                let read = read_authority(&authority.file);
                authority.read = Some(read.map_err(|why| Failure::usage(format!("--ca: {why}")))?);
            }
            return Ok(policy);
        };
        let file = read(path)?;
        let narrowed = file.clone().narrow(&flags, &cwd, &CATALOGUE).map_err(|error| flag(&error))?;
        // As text the directories of the flags lie in those of the file; a symbolic link may say otherwise.
        real(narrowed.clone()).stays_within(&real(file), &CATALOGUE).map_err(|error| flag(&error))?;
        Ok(narrowed)
    }

    fn flags(&self) -> Result<Flags> {
        let level = self.level.as_deref().map(str::parse).transpose();
        Ok(Flags {
            level: level
                .map_err(|error: parole_policy::UnknownLevel| Failure::usage(error.to_string()).hint(error.help()))?,
            block: self.block.clone(),
            timeouts: self.timeout.clone(),
            limits: self.limit.clone(),
            ca: self.ca.clone(),
            ..self.scopes.flags()?
        })
    }
}

/// Reads a policy file. All its errors are reported at once.
pub fn read(path: &Path) -> Result<SecurityPolicy> {
    let name = path.display().to_string();
    let cannot = |error: std::io::Error| Failure::usage(format!("the policy file {name} cannot be read: {error}"));
    let path = std::path::absolute(path).map_err(cannot)?;
    let metadata = path.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err(Failure::usage(format!("the policy file {name} is not a file")));
    }
    if metadata.len() > MAX_FILE as u64 {
        return Err(Failure::usage(format!("the policy file {name} is over {MAX_FILE} bytes")));
    }
    let text = texts::read(&path, &format!("the policy file {name}"), MAX_FILE)
        .map_err(|error| Failure::usage(format!("{error}: expected TOML")))?;
    let base = path.parent().unwrap_or(Path::new("/"));
    let wit = |file: &Path| texts::read(file, "the file", MAX_WIT);
    SecurityPolicy::parse_with(&text, base, &CATALOGUE, &Files { authority: &read_authority, wit: &wit })
        .map_err(|errors| diagnostics::policy(&name, &text, &errors))
}

/// A flag that cannot be followed, with what to write instead.
pub fn flag(error: &FlagError) -> Failure {
    let failure = Failure::usage(error.to_string());
    match &error.help {
        Some(help) => failure.hint(help.clone()),
        None => failure,
    }
}

/// The policy with every directory and database file that exists at its real place.
fn real(mut policy: SecurityPolicy) -> SecurityPolicy {
    for grant in policy.grants.values_mut() {
        let files = grant.databases.values_mut().filter_map(|database| match &mut database.source {
            Source::Sqlite(path) => Some(path),
            Source::Postgres(_) | Source::UrlEnv(_) => None,
        });
        for path in grant.dirs.iter_mut().map(|dir| &mut dir.host).chain(files) {
            if let Ok(real) = path.canonicalize() {
                *path = real;
            }
        }
    }
    policy
}
