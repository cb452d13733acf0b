//! What guests see of errors: the WIT `types` interface.

use std::borrow::Cow;

use parole_durable::StepResult;
use parole_policy::{Definition, Denial, DenialKind, Fact};
use serde::{Deserialize, Serialize};
use wasmtime::component::{ComponentType, Lift, Lower};

/// `parole:capabilities/types.error`. Its JSON form follows the rule for WIT variants:
/// `"expired"`, `{"denied": "…"}`.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower, Serialize, Deserialize, thiserror::Error)]
#[component(variant)]
#[serde(rename_all = "kebab-case")]
pub enum Error {
    /// The policy, or a person, said no. Never holds host paths or policy text.
    #[component(name = "denied")]
    #[error("denied: {0}")]
    Denied(String),
    /// Nobody settled it before its timeout.
    #[component(name = "expired")]
    #[error("nobody answered in time")]
    Expired,
    /// It was canceled.
    #[component(name = "canceled")]
    #[error("canceled")]
    Canceled,
    /// The connection is gone.
    #[component(name = "closed")]
    #[error("the connection is gone")]
    Closed,
    /// There is nothing of that name.
    #[component(name = "not-found")]
    #[error("not found")]
    NotFound,
    /// The argument cannot be right.
    #[component(name = "invalid")]
    #[error("invalid: {0}")]
    Invalid(String),
    /// The limit, in bytes.
    #[component(name = "too-large")]
    #[error("larger than the limit of {0} bytes")]
    TooLarge(u64),
    /// A quota or limit of this execution is used up.
    #[component(name = "exhausted")]
    #[error("used up: {0}")]
    Exhausted(String),
    /// It was tried and did not work.
    #[component(name = "failed")]
    #[error("failed: {0}")]
    Failed(String),
}

/// A call that the policy refused, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which capability.
    pub capability: String,
    /// What was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
    /// What the guest is told.
    pub error: Error,
    /// What the operator is told: the flag or policy line that would allow it.
    pub remedy: String,
}

impl Refused {
    /// A refusal by the policy.
    pub(crate) fn of(definition: &Definition, argument: Option<String>, denial: Denial) -> Self {
        let error = match denial.kind {
            DenialKind::Denied => Error::Denied(denial.reason),
            DenialKind::Invalid => Error::Invalid(denial.reason),
            DenialKind::TooLarge(limit) => Error::TooLarge(limit),
        };
        Self { capability: definition.name.to_string(), argument, error, remedy: denial.remedy }
    }
}

/// The stored form of an ok payload or a typed error.
pub(crate) fn encode(result: Result<Vec<u8>, Error>) -> StepResult {
    match result {
        Ok(bytes) => StepResult::Ok(bytes),
        Err(error) => StepResult::Err(json(&error)),
    }
}

/// The ok payload or the typed error of a stored result; `None` if the bytes are not what [`encode`] makes.
pub(crate) fn decode(result: StepResult) -> Option<Result<Vec<u8>, Error>> {
    match result {
        StepResult::Ok(bytes) => Some(Ok(bytes)),
        StepResult::Err(bytes) => serde_json::from_slice(&bytes).ok().map(Err),
        StepResult::Denied(bytes) => serde_json::from_slice::<Refused>(&bytes).ok().map(|refused| Err(refused.error)),
    }
}

/// JSON text of a value whose serialisation cannot fail (string keys only, no custom code).
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// The arguments of a call that have one spelling, from what the policy looks at: a JSON object by parameter name, in
/// order, with `list<u8>` in base64 and 64-bit integers as text.
pub(crate) fn canonical(fields: &[(&'static str, Fact<'_>)]) -> Vec<u8> {
    struct Object<'f>(&'f [(&'static str, Fact<'f>)]);
    impl Serialize for Object<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().map(|(name, field)| {
                let value = match field {
                    Fact::Text(text) => Cow::Borrowed(*text),
                    Fact::Int(number) => Cow::Owned(number.to_string()),
                    Fact::Bytes(bytes) => Cow::Owned(base64(bytes)),
                    // No call of so few words has them.
                    Fact::Null | Fact::Bool(_) | Fact::Real(_) | Fact::List(_) | Fact::Record(_) => Cow::Borrowed(""),
                };
                (name.replace('_', "-"), value)
            }))
        }
    }
    json(&Object(fields))
}

/// `list<u8>` in JSON.
pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// For serde: bytes as base64 text.
pub(crate) mod base64_text {
    use base64::Engine as _;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::base64(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| D::Error::custom("expected base64"))
    }
}
