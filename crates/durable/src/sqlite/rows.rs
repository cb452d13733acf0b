//! Rows of executions and steps, and the checksum that every row carries.

use std::borrow::Cow;
use std::sync::Arc;

use rusqlite::Row;
use uuid::Uuid;

use super::promise_id::{decode_id, encode_id};
use crate::ids::{Digest, ExecutionId, Fence, OwnerId, ScheduleId, Secret};
use crate::step::{Completion, EffectClass, Stage, Step, StepResult};
use crate::store::{ExecutionRecord, Usage};

/// What a row that is not as it was written is called in a message; made only when needed.
pub(super) type Damage = Arc<str>;

/// A CRC-32 over fields, each preceded by its length, so that no two rows run together.
pub(super) struct Sum(crc32fast::Hasher);

impl Sum {
    /// Begins with the name of the table: a row of one is none of another.
    pub(super) fn of(table: &str) -> Self {
        let mut sum = Self(crc32fast::Hasher::new());
        sum.0.update(table.as_bytes());
        sum
    }

    pub(super) fn numbers<const N: usize>(mut self, values: [u64; N]) -> Self {
        self.0.update(values.map(u64::to_le_bytes).as_flattened());
        self
    }

    /// `None` and 0 are different.
    pub(super) fn optional(self, value: Option<u64>) -> Self {
        self.numbers([u64::from(value.is_some()), value.unwrap_or(0)])
    }

    pub(super) fn bytes(self, value: Option<&[u8]>) -> Self {
        let mut sum = self.numbers([value.map_or(u64::MAX, |bytes| bytes.len() as u64)]);
        sum.0.update(value.unwrap_or_default());
        sum
    }

    pub(super) fn finish(self) -> u32 {
        self.0.finalize()
    }
}

/// A number as SQLite stores it. All 64 bits survive; the order of those above `i64::MAX` does not.
pub(super) fn stored(value: u64) -> i64 {
    value.cast_signed()
}

/// Reads a number.
pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

/// Reads a number or NULL.
pub(super) fn optional(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned))
}

/// Reads a number of which NULL is 0; a 0 is never written.
fn or_zero(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    match optional(row, column)? {
        None => Ok(0),
        Some(0) => Err(rusqlite::Error::IntegralValueOutOfRange(column, 0)),
        Some(number) => Ok(number),
    }
}

/// Reads a uuid of 16 bytes.
pub(super) fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    Ok(Uuid::from_bytes(row.get::<_, [u8; 16]>(column)?))
}

/// An execution, and the number under which it ended.
pub(super) struct ExecutionRow {
    pub(super) record: ExecutionRecord,
    pub(super) ended: Option<u64>,
}

impl ExecutionRow {
    pub(super) const COLUMNS: &str = "id, component, setup, secret, fence, owner, cpu_us, wall_us, output, journal, \
                                      shown, created_at, updated_at, outcome, ended_seq, checksum, generation, \
                                      schedule, calls, felled, showing, aside";

    /// The generation as it is stored.
    pub(super) fn generation(&self) -> Option<u64> {
        Some(self.record.generation).filter(|generation| *generation != 0)
    }

    /// The number of times it felled a process as it is stored.
    pub(super) fn felled(&self) -> Option<u64> {
        Some(self.record.felled).filter(|felled| *felled != 0)
    }

    pub(super) fn sum(&self) -> u32 {
        let r = &self.record;
        let sum = Sum::of("executions")
            .bytes(Some(r.id.0.as_bytes()))
            .bytes(Some(&r.component.0))
            .bytes(Some(&r.setup.0))
            .bytes(Some(&r.secret.0))
            .bytes(r.owner.as_ref().map(|owner| owner.0.as_bytes().as_slice()))
            .numbers([r.fence.0, r.usage.cpu_us, r.usage.wall_us, r.usage.output, r.usage.journal, r.usage.shown])
            .numbers([r.created_at, r.updated_at])
            .bytes(r.outcome.as_deref().map(str::as_bytes))
            .optional(self.ended);
        // As it was before these fields came, in two lots.
        let newest = r.calls.is_some() || r.felled != 0 || r.showing.is_some() || r.aside.is_some();
        let sum = match (self.generation(), &r.schedule) {
            (None, None) if !newest => sum,
            (generation, schedule) => {
                sum.optional(generation).bytes(schedule.as_ref().map(|id| id.0.as_bytes().as_slice()))
            }
        };
        if !newest {
            return sum.finish();
        }
        sum.optional(r.calls)
            .optional(self.felled())
            .bytes(r.showing.as_ref().map(|owner| owner.0.as_bytes().as_slice()))
            .bytes(r.aside.as_deref().map(str::as_bytes))
            .finish()
    }

    /// Decodes a row of [`Self::COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> Result<Self, Damage> {
        let damage = || -> Damage {
            match uuid(row, 0) {
                Ok(id) => format!("executions row {}", id.as_hyphenated()).into(),
                Err(_) => "executions row of unknown id".into(),
            }
        };
        match Self::decode(row) {
            Ok((this, crc)) if this.sum() == crc => Ok(this),
            _ => Err(damage()),
        }
    }

    fn decode(row: &Row<'_>) -> rusqlite::Result<(Self, u32)> {
        let record = ExecutionRecord {
            id: ExecutionId(uuid(row, 0)?),
            component: Digest(row.get(1)?),
            setup: Digest(row.get(2)?),
            secret: Secret(row.get(3)?),
            fence: Fence(number(row, 4)?),
            owner: row.get::<_, Option<[u8; 16]>>(5)?.map(|bytes| OwnerId(Uuid::from_bytes(bytes))),
            usage: Usage {
                cpu_us: number(row, 6)?,
                wall_us: number(row, 7)?,
                output: number(row, 8)?,
                journal: number(row, 9)?,
                shown: number(row, 10)?,
            },
            created_at: number(row, 11)?,
            updated_at: number(row, 12)?,
            outcome: row.get(13)?,
            generation: or_zero(row, 16)?,
            schedule: row.get::<_, Option<[u8; 16]>>(17)?.map(|bytes| ScheduleId(Uuid::from_bytes(bytes))),
            calls: optional(row, 18)?,
            felled: or_zero(row, 19)?,
            showing: row.get::<_, Option<[u8; 16]>>(20)?.map(|bytes| OwnerId(Uuid::from_bytes(bytes))),
            aside: row.get(21)?,
        };
        Ok((Self { record, ended: optional(row, 14)? }, row.get(15)?))
    }
}

/// `arguments` is the digest of a payload.
pub(super) const STORED_ARGUMENTS: u64 = 1;
/// `result` is the digest of a payload.
pub(super) const STORED_RESULT: u64 = 2;
/// `notes` is the digest of a payload.
pub(super) const STORED_NOTES: u64 = 4;
/// Where `stored` holds the stage.
const STAGE_SHIFT: u32 = 3;

/// A step as it is stored: long parts are replaced by digests.
pub(super) struct StepRow<'a> {
    pub(super) number: u64,
    pub(super) calls: u64,
    pub(super) function: Cow<'a, str>,
    pub(super) effect: u64,
    pub(super) arguments: Cow<'a, [u8]>,
    pub(super) promise: Option<Vec<u8>>,
    pub(super) admitted_at: u64,
    pub(super) completed_at: Option<u64>,
    pub(super) outcome: Option<u64>,
    pub(super) result: Option<Cow<'a, [u8]>>,
    pub(super) delivered: bool,
    pub(super) stored: u64,
    /// `None` for empty ones.
    pub(super) notes: Option<Cow<'a, [u8]>>,
}

impl<'a> StepRow<'a> {
    pub(super) const COLUMNS: &'static str = "execution, number, calls, function, effect, arguments, promise, admitted_at, \
                                      completed_at, outcome, result, delivered, stored, checksum, notes";

    /// The row of a step, with all its parts in it.
    pub(super) fn of(execution: ExecutionId, step: &'a Step) -> Self {
        let (outcome, result) = match step.completion.as_ref().map(|completion| &completion.result) {
            None => (None, None),
            Some(StepResult::Ok(bytes)) => (Some(0), Some(bytes)),
            Some(StepResult::Err(bytes)) => (Some(1), Some(bytes)),
            Some(StepResult::Denied(bytes)) => (Some(2), Some(bytes)),
        };
        Self {
            number: step.number,
            calls: step.calls,
            function: Cow::Borrowed(&step.function),
            effect: match step.effect {
                EffectClass::Send => 0,
                EffectClass::Await => 1,
                EffectClass::Read => 2,
                EffectClass::Idempotent => 3,
                EffectClass::Once => 4,
            },
            arguments: Cow::Borrowed(&step.arguments),
            promise: step.promise.as_ref().map(|id| encode_id(execution, id)),
            admitted_at: step.admitted_at,
            completed_at: step.completion.as_ref().map(|completion| completion.at),
            outcome,
            result: result.map(|bytes| Cow::Borrowed(bytes.as_slice())),
            delivered: step.delivered,
            stored: match step.stage {
                Stage::Admitted => 0,
                Stage::Asked => 1 << STAGE_SHIFT,
                Stage::InDoubt => 2 << STAGE_SHIFT,
            },
            notes: Some(step.notes.as_slice()).filter(|notes| !notes.is_empty()).map(Cow::Borrowed),
        }
    }

    pub(super) fn sum(&self, execution: ExecutionId) -> u32 {
        let sum = Sum::of("steps")
            .bytes(Some(execution.0.as_bytes()))
            .numbers([self.number, self.calls, self.effect, self.admitted_at, u64::from(self.delivered), self.stored])
            .optional(self.completed_at)
            .optional(self.outcome)
            .bytes(Some(self.function.as_bytes()))
            .bytes(Some(&self.arguments))
            .bytes(self.promise.as_deref())
            .bytes(self.result.as_deref());
        // As it was before there were notes.
        let sum = if self.notes.is_some() { sum.bytes(self.notes.as_deref()) } else { sum };
        sum.finish()
    }

    /// Decodes a row of [`Self::COLUMNS`]; its execution is known to the asker, or read first.
    pub(super) fn read(row: &Row<'_>) -> Result<(ExecutionId, StepRow<'static>), Damage> {
        match Self::decode(row) {
            Ok((id, this, crc)) if this.sum(id) == crc => Ok((id, this)),
            _ => Err(match (uuid(row, 0), number(row, 1)) {
                (Ok(id), Ok(number)) => format!("steps row {number} of execution {}", id.as_hyphenated()).into(),
                (Ok(id), Err(_)) => format!("steps row of execution {}", id.as_hyphenated()).into(),
                _ => "steps row of unknown execution".into(),
            }),
        }
    }

    fn decode(row: &Row<'_>) -> rusqlite::Result<(ExecutionId, StepRow<'static>, u32)> {
        let this = StepRow {
            number: number(row, 1)?,
            calls: number(row, 2)?,
            function: Cow::Owned(row.get(3)?),
            effect: number(row, 4)?,
            arguments: Cow::Owned(row.get(5)?),
            promise: row.get(6)?,
            admitted_at: number(row, 7)?,
            completed_at: optional(row, 8)?,
            outcome: optional(row, 9)?,
            result: row.get::<_, Option<Vec<u8>>>(10)?.map(Cow::Owned),
            delivered: row.get(11)?,
            stored: number(row, 12)?,
            notes: row.get::<_, Option<Vec<u8>>>(14)?.map(Cow::Owned),
        };
        Ok((ExecutionId(uuid(row, 0)?), this, row.get(13)?))
    }

    /// The step of a row whose long parts have been put back. `None`: the row holds what no step has.
    pub(super) fn into_step(self, execution: ExecutionId) -> Option<Step> {
        let completion = match (self.completed_at, self.outcome, self.result) {
            (None, None, None) => None,
            (Some(at), Some(outcome), Some(bytes)) => {
                let bytes = bytes.into_owned();
                let result = match outcome {
                    0 => StepResult::Ok(bytes),
                    1 => StepResult::Err(bytes),
                    2 => StepResult::Denied(bytes),
                    _ => return None,
                };
                Some(Completion { at, result })
            }
            _ => return None,
        };
        Some(Step {
            number: self.number,
            calls: self.calls,
            function: Cow::Owned(self.function.into_owned()),
            effect: match self.effect {
                0 => EffectClass::Send,
                1 => EffectClass::Await,
                2 => EffectClass::Read,
                3 => EffectClass::Idempotent,
                4 => EffectClass::Once,
                _ => return None,
            },
            arguments: self.arguments.into_owned(),
            promise: match self.promise {
                None => None,
                Some(id) => Some(decode_id(execution, &id)?),
            },
            stage: match self.stored >> STAGE_SHIFT {
                0 => Stage::Admitted,
                1 => Stage::Asked,
                2 => Stage::InDoubt,
                _ => return None,
            },
            notes: self.notes.map(Cow::into_owned).unwrap_or_default(),
            admitted_at: self.admitted_at,
            completion,
            delivered: self.delivered,
        })
    }
}
