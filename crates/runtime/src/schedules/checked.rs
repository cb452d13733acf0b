//! What is known of schedules that were looked at.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use parole_durable::ids::UnixMs;
use parole_durable::{ScheduleId, ScheduleRecord};

/// The most schedules of one store.
pub const SCHEDULES_MAX: usize = 10_000;

/// Which revisions of schedules were seen to be due no later than their rule allows, and when. It stays so, unless the
/// clock is set back: to work a pattern out at each look would cost more than the look.
#[derive(Default)]
pub(crate) struct Checked(Mutex<HashMap<ScheduleId, (u64, UnixMs)>>);

impl Checked {
    pub(super) fn is_known(&self, record: &ScheduleRecord, now: UnixMs) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&record.id).is_some_and(|(revision, at)| *revision == record.revision && *at <= now)
    }

    pub(super) fn note(&self, record: &ScheduleRecord, now: UnixMs) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that were deleted since make no difference to a process that stays.
        if all.len() > 2 * SCHEDULES_MAX {
            all.clear();
        }
        all.insert(record.id, (record.revision, now));
    }
}
