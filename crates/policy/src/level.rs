//! The five levels: how much of what is defined a guest may link.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Catalogue, Definition, Limits, nearest};

/// How far a guest is trusted: `sandbox < restricted < standard < trusted < unrestricted`.
///
/// Levels are cumulative: each links what the ones below it link. `unrestricted` is all that is *defined*.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Output only.
    Sandbox,
    /// And waiting for people and timers, and reading granted directories.
    Restricted,
    /// And effects outside: writing granted directories.
    #[default]
    Standard,
    /// And what needs trust in the guest.
    Trusted,
    /// Everything that is defined.
    Unrestricted,
}

impl Level {
    /// Every level, lowest first.
    pub const ALL: [Level; 5] =
        [Level::Sandbox, Level::Restricted, Level::Standard, Level::Trusted, Level::Unrestricted];

    /// The level as a policy file and the command line spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Sandbox => "sandbox",
            Level::Restricted => "restricted",
            Level::Standard => "standard",
            Level::Trusted => "trusted",
            Level::Unrestricted => "unrestricted",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is not a level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown level {}", nearest::quoted(.given))]
pub struct UnknownLevel {
    /// The word as it was given.
    pub given: String,
    /// The level that was probably meant.
    pub nearest: Option<Level>,
}

impl UnknownLevel {
    /// What to write instead.
    pub fn help(&self) -> String {
        match self.nearest {
            Some(level) => format!("did you mean `{level}`?"),
            None => format!("valid: {}", Level::ALL.map(Level::as_str).join(", ")),
        }
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    /// Case-sensitive: `Sandbox` is not a level.
    fn from_str(word: &str) -> Result<Self, UnknownLevel> {
        let level = |word: &str| Level::ALL.into_iter().find(|level| level.as_str() == word);
        level(word).ok_or_else(|| UnknownLevel {
            given: word.to_owned(),
            nearest: nearest::nearest(word, Level::ALL.map(Level::as_str)).and_then(level),
        })
    }
}

/// One row of the table of levels, for `parole policy levels`.
#[derive(Clone, Debug)]
pub struct LevelRow<'c> {
    /// The level.
    pub level: Level,
    /// The capabilities that this level links and the one below it does not, in the catalogue's order.
    pub adds: Vec<&'c Definition>,
    /// The limits of a policy of this level that names none.
    pub limits: Limits,
}

/// What each level adds to the one below it, lowest first.
pub fn levels(catalogue: &Catalogue) -> Vec<LevelRow<'_>> {
    let row = |level| LevelRow {
        level,
        adds: catalogue.iter().map(|capability| &**capability).filter(|capability| capability.level == level).collect(),
        limits: Limits::of(level),
    };
    Level::ALL.into_iter().map(row).collect()
}
