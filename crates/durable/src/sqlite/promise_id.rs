//! How the ids of promises are stored: one of the usual form, `{label}:{execution}:{uuid}`, as label and 16 bytes.

use uuid::Uuid;

use crate::ids::{ExecutionId, PromiseId};

/// The first byte of an id that is stored as text.
const TEXT: u8 = 0;
/// The first byte of an id of the usual form.
const USUAL: u8 = 1;

/// The label and the uuid of an id of the usual form that names this execution.
pub(super) fn parts(execution: ExecutionId, id: &PromiseId) -> Option<(&str, Uuid)> {
    let (label, own, uuid) = split(id)?;
    (own == execution).then_some((label, uuid))
}

fn split(id: &PromiseId) -> Option<(&str, ExecutionId, Uuid)> {
    let mut fields = id.as_str().rsplitn(3, ':');
    let mut canonical = || {
        let text = fields.next()?;
        let uuid = Uuid::try_parse(text).ok()?;
        // Only the spelling that `Display` gives back is stored as bytes.
        (*uuid.as_hyphenated().encode_lower(&mut [0; 36]) == *text).then_some(uuid)
    };
    let (uuid, execution) = (canonical()?, canonical()?);
    Some((fields.next()?, ExecutionId(execution), uuid))
}

/// The execution that an id of the usual form names.
pub(super) fn named_execution(id: &PromiseId) -> Option<ExecutionId> {
    split(id).map(|(_, execution, _)| execution)
}

/// The stored form of an id, as seen from its execution.
pub(super) fn encode_id(execution: ExecutionId, id: &PromiseId) -> Vec<u8> {
    match parts(execution, id) {
        Some((label, uuid)) => [&[USUAL], uuid.as_bytes().as_slice(), label.as_bytes()].concat(),
        None => text_id(id),
    }
}

/// The stored form of an id that is not of the usual form.
pub(super) fn text_id(id: &PromiseId) -> Vec<u8> {
    [&[TEXT], id.as_str().as_bytes()].concat()
}

/// The id of a stored form; `None` if there is no such.
pub(super) fn decode_id(execution: ExecutionId, stored: &[u8]) -> Option<PromiseId> {
    match stored.split_first()? {
        (&TEXT, text) => Some(PromiseId::from(str::from_utf8(text).ok()?)),
        (&USUAL, rest) => {
            let (uuid, label) = rest.split_first_chunk::<16>()?;
            let (uuid, label) = (Uuid::from_bytes(*uuid), str::from_utf8(label).ok()?);
            Some(PromiseId(format!("{label}:{execution}:{}", uuid.as_hyphenated()).into()))
        }
        _ => None,
    }
}
