//! When a schedule is due. Pure: the time is told.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset};
use parole_capabilities::backends::calendar::{CRON_MAX, Calendar, time_zone, zoned};
use parole_durable::ids::UnixMs;
use serde::{Deserialize, Serialize};

/// Times that went by are counted up to this many.
pub const MISSED_MAX: u64 = 100;
/// A time that is missed by less than this is only late, in milliseconds.
pub const LATE_MS: u64 = 60_000;

/// When something is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum When {
    /// Once, at this time.
    At(UnixMs),
    /// Again and again.
    Every {
        /// Minute, hour, day of the month, month, day of the week.
        cron: String,
        /// The IANA name of the time zone by which that is meant.
        zone: String,
    },
}

/// What becomes of times at which no process was there to run anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// All of them together are made up for by one run.
    #[default]
    Run,
    /// They are left out; one that is late by a minute at most still runs.
    Skip,
}

/// What becomes of a time that comes before the last run has ended, be it that it computes or that it waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is left out.
    #[default]
    Skip,
    /// It waits until the last run has ended. One does; more that come meanwhile are left out.
    Queue,
    /// It runs beside the last one.
    All,
}

impl Overlap {
    /// What holds for a record that says nothing: it was written before there was a rule, and goes on as it did.
    fn unsaid() -> Self {
        Overlap::All
    }
}

/// When and how a schedule runs: what its record keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// When.
    pub when: When,
    /// What becomes of missed times.
    #[serde(default)]
    pub missed: Missed,
    /// What becomes of times that come before the last run has ended.
    #[serde(default = "Overlap::unsaid")]
    pub overlap: Overlap,
}

/// How the last run of a schedule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// There is none, or nobody knows any more.
    None,
    /// It has not ended.
    Open,
    /// It has ended, at this time.
    Ended(UnixMs),
}

/// What is to be done with a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing, before its time.
    NotYet,
    /// It fires, and its next time is this. So many times went by unused, this one included.
    Fire { next: Option<UnixMs>, missed: u64 },
    /// It does not fire: it was missed, and this is its next time.
    Skip { next: Option<UnixMs>, missed: u64 },
    /// It does not fire: so many times came before the last run has ended, and this is its next time.
    Overlaps { next: Option<UnixMs>, skipped: u64 },
    /// It has come and waits for the end of the last run.
    Queued,
    /// It is further ahead than its rule allows, for a clock was wrong; this is its next time.
    Ahead { next: Option<UnixMs> },
}

/// A time or a pattern, read.
enum After {
    At(UnixMs),
    Every(Calendar),
    Never,
}

impl When {
    /// Again and again by a cron pattern of five fields, in a time zone.
    ///
    /// # Errors
    /// What is wrong with one of them, and what was expected.
    pub fn every(cron: &str, zone: &str) -> Result<Self, String> {
        let calendar = Calendar::read(cron, zone)?;
        if calendar.next(0).is_none() {
            return Err(format!("`{cron}` names a day that no calendar has"));
        }
        let fields: Vec<&str> = cron.split_whitespace().collect();
        Ok(When::Every { cron: fields.join(" "), zone: calendar.zone().to_owned() })
    }

    /// Once: RFC 3339 (`2026-12-01T09:00:00+01:00`), or a local time of the zone (`2026-12-01T09:00`).
    ///
    /// # Errors
    /// It is neither, it is a local time that does not exist or comes twice, or it has passed.
    pub fn at(text: &str, zone: &str, now: UnixMs) -> Result<Self, String> {
        let expected = "expected 2026-12-01T09:00 (in --zone), 2026-12-01T09:00:00+01:00, or +10m";
        let zone = time_zone(zone)?;
        if text.len() > CRON_MAX {
            return Err(expected.to_owned());
        }
        let at = match text.parse::<Timestamp>() {
            Ok(at) => at,
            Err(_) => {
                let local: DateTime = text.parse().map_err(|_| expected.to_owned())?;
                // A day alone would be midnight, which nobody has asked for.
                if !text.contains(':') {
                    return Err(expected.to_owned());
                }
                let name = zone.iana_name().unwrap_or("UTC");
                let time = zone.to_ambiguous_zoned(local);
                match time.offset() {
                    AmbiguousOffset::Unambiguous { .. } => {}
                    AmbiguousOffset::Gap { .. } => {
                        return Err(format!("{text} does not exist in {name}: the clock jumps over it"));
                    }
                    AmbiguousOffset::Fold { before, after } => {
                        let (before, after) = (offset(before), offset(after));
                        return Err(format!("{text} comes twice in {name}: write {text}{before} or {text}{after}"));
                    }
                }
                time.unambiguous().map_err(|error| error.to_string())?.timestamp()
            }
        };
        match u64::try_from(at.as_millisecond()) {
            Ok(at) if at > now => Ok(When::At(at)),
            _ => Err(format!("{text} has passed")),
        }
    }

    /// The first time after `after`.
    #[must_use]
    pub fn next(&self, after: UnixMs) -> Option<UnixMs> {
        match self.read() {
            After::At(at) => (at > after).then_some(at),
            After::Every(calendar) => calendar.next(after),
            After::Never => None,
        }
    }

    fn read(&self) -> After {
        match self {
            When::At(at) => After::At(*at),
            When::Every { cron, zone } => Calendar::read(cron, zone).map_or(After::Never, After::Every),
        }
    }

    /// A time by the clock of the schedule's zone: `2026-12-01 09:00:00 CET`.
    #[must_use]
    pub fn local(&self, at: UnixMs) -> Option<String> {
        let When::Every { zone, .. } = self else { return None };
        Some(zoned(&time_zone(zone).ok()?, at)?.strftime("%Y-%m-%d %H:%M:%S %Z").to_string())
    }
}

impl Spec {
    /// Reads what a record keeps; `None` if a program of another version wrote it.
    pub(crate) fn of(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Whether this program knows the pattern and the zone; else it leaves the schedule alone.
    pub(crate) fn is_readable(&self) -> bool {
        !matches!(self.when.read(), After::Never)
    }

    /// How many times have gone by unused since `due`, that one included; late ones do not count.
    pub(crate) fn missed(&self, due: UnixMs, now: UnixMs) -> u64 {
        let upto = now.saturating_sub(LATE_MS);
        let After::Every(calendar) = self.when.read() else { return u64::from(due < upto) };
        let (mut count, mut at) = (0, Some(due));
        while let Some(due) = at.filter(|due| *due < upto && count < MISSED_MAX) {
            count += 1;
            at = calendar.next(due);
        }
        count
    }

    /// How many times have come from `due` on, that one included.
    fn come(&self, due: UnixMs, now: UnixMs) -> u64 {
        let After::Every(calendar) = self.when.read() else { return u64::from(due <= now) };
        let (mut count, mut at) = (0, Some(due));
        while let Some(due) = at.filter(|due| *due <= now && count < MISSED_MAX) {
            count += 1;
            at = calendar.next(due);
        }
        count
    }

    /// How many times were left out since the last run was made, at `made`, because it had not ended when they came.
    pub(crate) fn skipped(&self, made: Option<UnixMs>, due: Option<UnixMs>, last: Last, now: UnixMs) -> u64 {
        let upto = match last {
            Last::None => return 0,
            Last::Open => now,
            Last::Ended(at) => at.min(now),
        };
        let first = made.and_then(|made| self.when.next(made));
        let (Some(first), When::Every { .. }) = (first, &self.when) else { return 0 };
        match (self.overlap, due) {
            (Overlap::All, _) => 0,
            // What is due is still to be seen to.
            (Overlap::Skip, Some(due)) => self.come(first, upto.min(due.saturating_sub(1))),
            (Overlap::Skip, None) => self.come(first, upto),
            (Overlap::Queue, Some(due)) if due <= upto => self.come(first, upto).saturating_sub(1),
            (Overlap::Queue, _) => 0,
        }
    }

    /// Where a time that was stored lies further ahead than the rule allows: the time that it should be. Whoever stored
    /// it took it for the next one by a clock that was ahead of ours, and a next time never comes before an earlier one.
    pub(crate) fn ahead(&self, due: UnixMs, now: UnixMs) -> Option<UnixMs> {
        if !matches!(self.when, When::Every { .. }) || due <= now {
            return None;
        }
        self.when.next(now).filter(|right| *right < due)
    }

    /// What is to be done with a schedule that is due next at `due`. `last` is asked only where it matters.
    pub(crate) fn look<E>(&self, due: UnixMs, now: UnixMs, last: impl FnOnce() -> Result<Last, E>) -> Result<Due, E> {
        if due > now {
            return Ok(self.ahead(due, now).map_or(Due::NotYet, |right| Due::Ahead { next: Some(right) }));
        }
        if !self.is_readable() {
            return Ok(Due::NotYet);
        }
        let last = if self.overlap == Overlap::All { Last::None } else { last()? };
        let next = match self.when {
            // Once is once, whatever became of its record.
            When::At(_) => None,
            When::Every { .. } => self.when.next(now),
        };
        let missed = self.missed(due, now);
        Ok(match (self.overlap, last) {
            (Overlap::Skip, Last::Open) => Due::Overlaps { next, skipped: self.come(due, now) },
            (Overlap::Queue, Last::Open) => Due::Queued,
            // It came while the last one was there: it was queued, not missed, and the others are left out.
            (Overlap::Queue, Last::Ended(at)) if due <= at => Due::Fire { next, missed },
            // The last of them is only late: it runs.
            _ if self.missed == Missed::Skip && missed > 0 && !self.is_late(due, now) => Due::Skip { next, missed },
            _ => Due::Fire { next, missed },
        })
    }

    /// Whether there is a time, `due` or after it, that has come and is late by a minute at most.
    fn is_late(&self, due: UnixMs, now: UnixMs) -> bool {
        let from = now.saturating_sub(LATE_MS);
        let last = if due >= from { Some(due) } else { self.when.next(from.saturating_sub(1)) };
        last.is_some_and(|last| last <= now)
    }
}

/// As RFC 3339 writes it: `+01:00`.
fn offset(offset: Offset) -> String {
    let minutes = offset.seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
}

#[cfg(test)]
mod tests;
