//! Rows of promises: nothing that can be derived is stored twice.
//!
//! An id is `{label}:{execution}:{uuid}` and most tags say what the row says already, so a
//! row holds 16 bytes of uuid, the label, and a bit for each tag that has its usual value.
//! Whatever is not usual is stored as it is: every record comes back exactly.

use std::collections::BTreeMap;

use rusqlite::Row;

use super::promise_id::{decode_id, encode_id, parts};
use super::rows::{Damage, Sum, number, optional, uuid};
use crate::ids::{Digest, ExecutionId};
use crate::promise::{
    PromiseRecord, PromiseState, TAG_CAPABILITY, TAG_COMPONENT, TAG_EXECUTION, TAG_EXTERNAL, TAG_STEP, TAG_TIMER, Value,
};

const FLAG_EXECUTION: u64 = 1;
const FLAG_CAPABILITY: u64 = 2;
const FLAG_EXTERNAL: u64 = 4;
const FLAG_TIMER: u64 = 8;

/// A promise as it is stored.
pub(super) struct PromiseRow {
    pub(super) execution: ExecutionId,
    pub(super) id: Vec<u8>,
    pub(super) state: u64,
    pub(super) created_at: u64,
    pub(super) timeout_at: u64,
    pub(super) settled_at: Option<u64>,
    pub(super) settled_seq: Option<u64>,
    pub(super) flags: u64,
    pub(super) step: Option<u64>,
    pub(super) component: Option<Digest>,
    pub(super) tags: Option<String>,
    pub(super) param_headers: Option<String>,
    pub(super) param: Option<String>,
    pub(super) value_headers: Option<String>,
    pub(super) value: Option<String>,
}

impl PromiseRow {
    pub(super) const COLUMNS: &str = "execution, id, state, created_at, timeout_at, settled_at, settled_seq, flags, \
                                      step, component, tags, param_headers, param, value_headers, value, checksum";

    /// The row of a promise.
    pub(super) fn of(execution: ExecutionId, record: &PromiseRecord, settled_seq: Option<u64>) -> Self {
        let mut rest: BTreeMap<&str, &str> = record.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let label = parts(execution, &record.id).map(|(label, _)| label);
        let mut flags = 0;
        let mut usual = |flag: u64, tag: &str, value: Option<&str>| {
            if value.is_some() && rest.get(tag).copied() == value {
                rest.remove(tag);
                flags |= flag;
            }
        };
        usual(FLAG_EXECUTION, TAG_EXECUTION, Some(execution.0.as_hyphenated().encode_lower(&mut [0; 36])));
        usual(FLAG_CAPABILITY, TAG_CAPABILITY, label);
        usual(FLAG_EXTERNAL, TAG_EXTERNAL, Some("true"));
        usual(FLAG_TIMER, TAG_TIMER, Some("true"));
        let step = rest.get(TAG_STEP).and_then(|text| text.parse::<u64>().ok().filter(|n| n.to_string() == *text));
        if step.is_some() {
            rest.remove(TAG_STEP);
        }
        let component = rest.get(TAG_COMPONENT).and_then(|text| parse_digest(text));
        if component.is_some() {
            rest.remove(TAG_COMPONENT);
        }
        Self {
            execution,
            id: encode_id(execution, &record.id),
            state: state_number(record.state),
            created_at: record.created_at,
            timeout_at: record.timeout_at,
            settled_at: record.settled_at,
            settled_seq,
            flags,
            step,
            component,
            tags: json(&rest),
            param_headers: json(&record.param.headers),
            param: record.param.data.clone(),
            value_headers: json(&record.value.headers),
            value: record.value.data.clone(),
        }
    }

    pub(super) fn sum(&self) -> u32 {
        Sum::of("promises")
            .bytes(Some(self.execution.0.as_bytes()))
            .bytes(Some(&self.id))
            .numbers([self.state, self.created_at, self.timeout_at, self.flags])
            .optional(self.settled_at)
            .optional(self.settled_seq)
            .optional(self.step)
            .bytes(self.component.as_ref().map(|digest| digest.0.as_slice()))
            .bytes(self.tags.as_deref().map(str::as_bytes))
            .bytes(self.param_headers.as_deref().map(str::as_bytes))
            .bytes(self.param.as_deref().map(str::as_bytes))
            .bytes(self.value_headers.as_deref().map(str::as_bytes))
            .bytes(self.value.as_deref().map(str::as_bytes))
            .finish()
    }

    /// Decodes a row of [`Self::COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> Result<(Self, PromiseRecord), Damage> {
        let whole = match Self::decode(row) {
            Ok((this, crc)) if this.sum() == crc => this.record().map(|record| (this, record)),
            _ => None,
        };
        whole.ok_or_else(|| match (uuid(row, 0), row.get::<_, Vec<u8>>(1)) {
            (Ok(execution), Ok(id)) => match decode_id(ExecutionId(execution), &id) {
                Some(id) => format!("promises row {id}").into(),
                None => format!("promises row of execution {}", execution.as_hyphenated()).into(),
            },
            _ => "promises row of unknown execution".into(),
        })
    }

    fn decode(row: &Row<'_>) -> rusqlite::Result<(Self, u32)> {
        let this = Self {
            execution: ExecutionId(uuid(row, 0)?),
            id: row.get(1)?,
            state: number(row, 2)?,
            created_at: number(row, 3)?,
            timeout_at: number(row, 4)?,
            settled_at: optional(row, 5)?,
            settled_seq: optional(row, 6)?,
            flags: number(row, 7)?,
            step: optional(row, 8)?,
            component: row.get::<_, Option<[u8; 32]>>(9)?.map(Digest),
            tags: row.get(10)?,
            param_headers: row.get(11)?,
            param: row.get(12)?,
            value_headers: row.get(13)?,
            value: row.get(14)?,
        };
        Ok((this, row.get(15)?))
    }

    fn record(&self) -> Option<PromiseRecord> {
        let id = decode_id(self.execution, &self.id)?;
        let mut tags = map(self.tags.as_deref())?;
        let mut usual = |flag: u64, tag: &str, value: &str| {
            if self.flags & flag != 0 {
                tags.insert(tag.to_owned(), value.to_owned());
            }
        };
        usual(FLAG_EXECUTION, TAG_EXECUTION, &self.execution.to_string());
        usual(FLAG_CAPABILITY, TAG_CAPABILITY, parts(self.execution, &id).map_or("", |(label, _)| label));
        usual(FLAG_EXTERNAL, TAG_EXTERNAL, "true");
        usual(FLAG_TIMER, TAG_TIMER, "true");
        if let Some(step) = self.step {
            tags.insert(TAG_STEP.to_owned(), step.to_string());
        }
        if let Some(component) = self.component {
            tags.insert(TAG_COMPONENT.to_owned(), component.to_string());
        }
        Some(PromiseRecord {
            id,
            state: state_of(self.state)?,
            param: Value { headers: map(self.param_headers.as_deref())?, data: self.param.clone() },
            value: Value { headers: map(self.value_headers.as_deref())?, data: self.value.clone() },
            tags,
            timeout_at: self.timeout_at,
            created_at: self.created_at,
            settled_at: self.settled_at,
        })
    }
}

fn state_number(state: PromiseState) -> u64 {
    match state {
        PromiseState::Pending => 0,
        PromiseState::Resolved => 1,
        PromiseState::Rejected => 2,
        PromiseState::RejectedCanceled => 3,
        PromiseState::RejectedTimedout => 4,
    }
}

fn state_of(number: u64) -> Option<PromiseState> {
    Some(match number {
        0 => PromiseState::Pending,
        1 => PromiseState::Resolved,
        2 => PromiseState::Rejected,
        3 => PromiseState::RejectedCanceled,
        4 => PromiseState::RejectedTimedout,
        _ => return None,
    })
}

/// JSON text, or nothing for an empty map.
fn json<K: AsRef<str>, V: AsRef<str>>(map: &BTreeMap<K, V>) -> Option<String> {
    if map.is_empty() {
        return None;
    }
    let object: serde_json::Map<String, serde_json::Value> =
        map.iter().map(|(k, v)| (k.as_ref().to_owned(), v.as_ref().into())).collect();
    Some(serde_json::Value::Object(object).to_string())
}

fn map(text: Option<&str>) -> Option<BTreeMap<String, String>> {
    match text {
        None => Some(BTreeMap::new()),
        Some(text) => serde_json::from_str(text).ok(),
    }
}

/// The digest of the text that `Display` gives, and of no other spelling.
fn parse_digest(text: &str) -> Option<Digest> {
    let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64)?.as_bytes();
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        let digit = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        *byte = digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?;
    }
    Some(Digest(bytes))
}
