//! The policy of a run: a file, flags, or a file narrowed by flags.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use parole_policy::{FlagError, Flags, Level, MAX_FILE, SecurityPolicy};
use parole_runtime::CATALOGUE;

use crate::diagnostics;
use crate::fail::{Failure, Result};

#[derive(clap::Args, Clone, Debug, Default)]
pub struct PolicyFlags {
    /// The policy, a TOML file
    ///
    /// Without it the flags are the policy: level `standard`, and only the directories that they
    /// name. With it flags only narrow the file; one that would widen it is an error.
    #[arg(long, help_heading = "Policy", value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// How much of what is defined the guest may link
    #[arg(long, help_heading = "Policy", value_name = "LEVEL", value_parser = PossibleValuesParser::new(Level::ALL.map(Level::as_str)))]
    level: Option<String>,

    /// Capabilities that it may not link, whatever the level
    #[arg(long, help_heading = "Policy", value_name = "CAP", value_delimiter = ',', value_parser = capability())]
    block: Vec<String>,

    /// A directory that `read_file` sees
    ///
    /// GUEST is where the guest sees it; without it the directory is seen at its own text rooted
    /// at `/`: `data` at `/data`, `.` at `/`. Repeat the flag for more directories.
    #[arg(long, help_heading = "Policy", value_name = "[GUEST=]DIR")]
    allow_read: Vec<String>,

    /// A directory that `write_file` sees
    ///
    /// Writing does not imply reading. GUEST and DIR as in --allow-read.
    #[arg(long, help_heading = "Policy", value_name = "[GUEST=]DIR")]
    allow_write: Vec<String>,

    /// When the promises of a capability expire: `input=5m`, `approve=never`
    #[arg(long, help_heading = "Policy", value_name = "CAP=DURATION|never")]
    timeout: Vec<String>,
}

/// A parser that knows the names of all capabilities.
pub fn capability() -> PossibleValuesParser {
    PossibleValuesParser::new(CATALOGUE.names())
}

impl PolicyFlags {
    /// The policy that file and flags come to.
    pub fn load(&self) -> Result<SecurityPolicy> {
        let cwd = std::env::current_dir()
            .map_err(|error| Failure::usage(format!("the working directory cannot be used: {error}")))?;
        let flags = self.flags()?;
        let Some(path) = &self.policy else {
            return SecurityPolicy::from_flags(&flags, &cwd, &CATALOGUE).map_err(|error| flag(&error));
        };
        let file = read(path)?;
        let narrowed = file.clone().narrow(&flags, &cwd, &CATALOGUE).map_err(|error| flag(&error))?;
        // As text the directories of the flags lie in those of the file; a symbolic link may say otherwise.
        real(narrowed.clone()).stays_within(&real(file)).map_err(|error| flag(&error))?;
        Ok(narrowed)
    }

    fn flags(&self) -> Result<Flags> {
        let level = self.level.as_deref().map(str::parse).transpose();
        Ok(Flags {
            level: level
                .map_err(|error: parole_policy::UnknownLevel| Failure::usage(error.to_string()).hint(error.help()))?,
            block: self.block.clone(),
            allow_read: self.allow_read.clone(),
            allow_write: self.allow_write.clone(),
            timeouts: self.timeout.clone(),
        })
    }
}

/// Reads a policy file. All its errors are reported at once.
pub fn read(path: &Path) -> Result<SecurityPolicy> {
    let name = path.display().to_string();
    let cannot = |error: std::io::Error| Failure::usage(format!("the policy file {name} cannot be read: {error}"));
    let path = std::path::absolute(path).map_err(cannot)?;
    if !path.metadata().map_err(cannot)?.is_file() {
        return Err(Failure::usage(format!("the policy file {name} is not a file")));
    }
    let mut bytes = Vec::new();
    File::open(&path).and_then(|file| file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Failure::usage(format!(
            "the policy file {name} is not UTF-8 text (byte {}): expected TOML",
            error.utf8_error().valid_up_to()
        ))
    })?;
    let base = path.parent().unwrap_or(Path::new("/"));
    SecurityPolicy::parse(&text, base, &CATALOGUE).map_err(|errors| diagnostics::policy(&name, &text, &errors))
}

fn flag(error: &FlagError) -> Failure {
    let failure = Failure::usage(error.to_string());
    match &error.help {
        Some(help) => failure.hint(help.clone()),
        None => failure,
    }
}

/// The policy with every directory that exists at its real place.
fn real(mut policy: SecurityPolicy) -> SecurityPolicy {
    for dir in policy.grants.values_mut().flat_map(|grant| &mut grant.dirs) {
        if let Ok(host) = dir.host.canonicalize() {
            dir.host = host;
        }
    }
    policy
}
