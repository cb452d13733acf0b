//! When a promise expires.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nearest;

/// The longest timeout that can be written, in milliseconds: ten years of 365 days.
pub const MAX_TIMEOUT_MS: u64 = 10 * 365 * 86_400_000;

/// How long a promise stays pending. Shorter sorts first, `Never` last.
///
/// In policy files and records: an integer of milliseconds or `"never"`. On the command line: `250ms`, `10s`,
/// `5m`, `2h`, `7d` or `never` ([`FromStr`]).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timeout {
    /// This many milliseconds after it was made.
    After(u64),
    /// It doesn't expire.
    Never,
}

impl Timeout {
    /// Milliseconds, or `None` for never.
    pub const fn as_millis(self) -> Option<u64> {
        match self {
            Timeout::After(ms) => Some(ms),
            Timeout::Never => None,
        }
    }
}

/// The units of a duration, longest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl fmt::Display for Timeout {
    /// As the command line takes it: `5m`, `never`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Timeout::Never => f.pad("never"),
            Timeout::After(ms) => {
                let unit = UNITS.iter().find(|(_, size)| ms != 0 && ms.is_multiple_of(*size));
                let (unit, size) = unit.copied().unwrap_or(("ms", 1));
                f.pad(&format!("{}{unit}", ms / size))
            }
        }
    }
}

/// Text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a duration: write 250ms, 10s, 5m, 2h, 7d or never (at least 1ms, at most 3650d)", nearest::quoted(.given))]
pub struct BadDuration {
    /// The text as it was given.
    pub given: String,
}

impl FromStr for Timeout {
    type Err = BadDuration;

    fn from_str(text: &str) -> Result<Self, BadDuration> {
        let bad = || BadDuration { given: text.to_owned() };
        if text == "never" {
            return Ok(Timeout::Never);
        }
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, unit) = text.split_at(digits);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*size)).ok_or_else(bad)?;
        if ms == 0 || ms > MAX_TIMEOUT_MS { Err(bad()) } else { Ok(Timeout::After(ms)) }
    }
}

impl Serialize for Timeout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Timeout::After(ms) => serializer.serialize_u64(*ms),
            Timeout::Never => serializer.serialize_str("never"),
        }
    }
}

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Text {
            Ms(u64),
            Word(String),
        }
        match Text::deserialize(deserializer)? {
            Text::Ms(ms) => Ok(Timeout::After(ms)),
            Text::Word(word) if word == "never" => Ok(Timeout::Never),
            Text::Word(word) => Err(D::Error::custom(format!("expected milliseconds or \"never\", found {word:?}"))),
        }
    }
}
