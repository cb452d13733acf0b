//! Newtypes for everything that is named by a number or a string.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Milliseconds since the Unix epoch.
pub type UnixMs = u64;

/// The deadline of a promise that never times out: the largest integer that JSON carries exactly.
pub const NEVER: UnixMs = (1 << 53) - 1;

/// One durable run of one guest: a UUIDv7, so ids sort by age.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExecutionId(pub Uuid);

impl ExecutionId {
    /// A new id, made from the clock and the random source of the operating system.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ExecutionId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::try_parse(text)
            .map(Self)
            .map_err(|_| InvalidId { expected: "an execution id (a UUID such as 0192f0c1-…)" })
    }
}

/// One durable schedule: a UUIDv7, so ids sort by age.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScheduleId(pub Uuid);

impl ScheduleId {
    /// A new id, made from the clock and the random source of the operating system.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ScheduleId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::try_parse(text)
            .map(Self)
            .map_err(|_| InvalidId { expected: "a schedule id (a UUID such as 0192f0c1-…)" })
    }
}

/// A text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct InvalidId {
    /// What was expected.
    pub expected: &'static str,
}

/// `{capability}:{execution}:{uuid}`; opaque to everyone but its maker.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PromiseId(pub Box<str>);

impl PromiseId {
    /// The text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PromiseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PromiseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for PromiseId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// One process that may own executions: a random UUID, whose lock file says whether it still lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OwnerId(pub Uuid);

/// Goes up each time an execution changes hands; a write with an older one is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub u64);

impl Fence {
    /// The fence of an execution that has never changed hands.
    pub const FIRST: Self = Self(1);
}

/// A SHA-256 digest, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// 256 random bits of one execution, from which the ids of its promises and its random
/// stream are derived. Never exported, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A fresh secret from the random source of the operating system.
    ///
    /// # Errors
    /// The operating system has no random bytes to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The seed of the random stream of the execution.
    #[must_use]
    pub fn random_seed(&self) -> [u8; 32] {
        self.mac(b"parole random\0").finalize().into_bytes().into()
    }

    /// HMAC-SHA256 for one purpose.
    fn mac(&self, purpose: &[u8]) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any key length");
        mac.update(purpose);
        mac
    }

    /// The id of the promise that `step` makes for `capability`: the same at every replay,
    /// and not to be guessed without the secret. The uuid is a UUIDv8 (RFC 9562) whose
    /// free bits are HMAC-SHA256 of the step and the purpose.
    #[must_use]
    pub fn promise_id(&self, capability: &str, execution: ExecutionId, step: u64) -> PromiseId {
        self.promise_id_of_round(capability, execution, step, 0)
    }

    /// The same where a step asks more than once: each round has an id of its own, and round 0 that of
    /// [`Secret::promise_id`].
    #[must_use]
    pub fn promise_id_of_round(&self, label: &str, execution: ExecutionId, step: u64, round: u32) -> PromiseId {
        let mut mac = self.mac(b"parole promise\0");
        mac.update(&step.to_be_bytes());
        mac.update(label.as_bytes());
        if round > 0 {
            mac.update(b"\0");
            mac.update(&round.to_be_bytes());
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        let uuid = Uuid::new_v8(bytes);
        let label: String =
            label.chars().map(|c| if matches!(c, 'a'..='z' | '0'..='9' | '_' | '-') { c } else { '-' }).collect();
        PromiseId(format!("{label}:{execution}:{uuid}").into())
    }
}
