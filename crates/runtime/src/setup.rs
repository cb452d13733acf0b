//! What is pinned when an execution starts, beside its component.

use std::path::PathBuf;
use std::sync::Arc;

use parole_policy::{Catalogue, SecurityPolicy};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The rules of determinism under which an execution was recorded. A program with other rules does not resume it.
pub(crate) const DETERMINISM: u32 = 1;

/// Stored once per digest: many executions share one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setup<P = Arc<SecurityPolicy>> {
    pub determinism: u32,
    pub guest: String,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "path")]
    pub path: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoke: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validators: Vec<String>,
    /// The pinned form of the policy, limits included.
    pub policy: P,
}

/// Paths are bytes: one that is text is stored as text, another one as base64 of its bytes.
mod path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::PathBuf;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Text(String),
        Bytes { base64: String },
    }

    pub fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = path.as_ref().map(|path| match path.to_str() {
            Some(text) => Stored::Text(text.to_owned()),
            None => Stored::Bytes { base64: STANDARD.encode(path.as_os_str().as_bytes()) },
        });
        stored.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
        let stored: Option<Stored> = Option::deserialize(deserializer)?;
        stored
            .map(|stored| match stored {
                Stored::Text(text) => Ok(text.into()),
                Stored::Bytes { base64 } => {
                    STANDARD.decode(base64).map(|bytes| OsString::from_vec(bytes).into()).map_err(D::Error::custom)
                }
            })
            .transpose()
    }
}

impl<P: Serialize> Setup<P> {
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(self).map_err(|error| Error::Internal(format!("the set-up cannot be pinned: {error}")))
    }
}

impl Setup {
    pub(crate) fn from_bytes(bytes: &[u8], catalogue: &Catalogue) -> Result<Self, Error> {
        let setup: Setup<SecurityPolicy> = serde_json::from_slice(bytes)
            .map_err(|error| Error::NotResumed(format!("the pinned set-up cannot be read: {error}")))?;
        if setup.determinism != DETERMINISM {
            return Err(Error::NotResumed(format!(
                "it was recorded under determinism rules {}; this program has {DETERMINISM}",
                setup.determinism
            )));
        }
        let Setup { determinism, guest, path, invoke, validators, mut policy } = setup;
        // What is wrong with it is said where it is to be run under.
        let _ = policy.resolve(catalogue);
        Ok(Self { determinism, guest, path, invoke, validators, policy: Arc::new(policy) })
    }
}
