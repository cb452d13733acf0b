//! What is pinned when an execution starts, beside its component.

use std::path::PathBuf;

use parole_policy::SecurityPolicy;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The rules of determinism under which an execution was recorded. A program with other rules does not resume it.
pub(crate) const DETERMINISM: u32 = 1;

/// Stored once per digest: many executions share one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setup {
    pub determinism: u32,
    pub guest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoke: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validators: Vec<String>,
    /// The pinned form of the policy, limits included.
    pub policy: SecurityPolicy,
}

impl Setup {
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(self).map_err(|error| Error::Internal(format!("the set-up cannot be pinned: {error}")))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let setup: Self = serde_json::from_slice(bytes)
            .map_err(|error| Error::NotResumed(format!("the pinned set-up cannot be read: {error}")))?;
        if setup.determinism != DETERMINISM {
            return Err(Error::NotResumed(format!(
                "it was recorded under determinism rules {}; this program has {DETERMINISM}",
                setup.determinism
            )));
        }
        Ok(setup)
    }
}
