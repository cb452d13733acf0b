//! The calendar of cron patterns: when one matches next. Pure: the time is told, and the time zones are compiled in.
//!
//! # The days on which clocks change
//!
//! A pattern is read on the clock of its zone. One with fixed hour and minute (`30 2 * * *`) is due once on each day
//! that it names: where the clock jumps over 02:30 it is due right after the jump, and where 02:30 comes twice, at the
//! first. One with `*` or a step in hour or minute (`*/30 * * * *`) goes by what the clock shows: nothing in the hour
//! that is left out, each time in the hour that comes twice.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use parole_durable::ids::{NEVER, UnixMs};

/// The longest pattern, in bytes.
pub const CRON_MAX: usize = 256;
/// The longest name of a time zone, in bytes.
pub const ZONE_MAX: usize = 64;

/// A cron pattern of five fields, read on the clock of a time zone.
pub struct Calendar(Box<Cron>, TimeZone);

impl Calendar {
    /// Reads a pattern and the IANA name of a zone.
    ///
    /// # Errors
    /// What is wrong with one of them, and what was expected.
    pub fn read(cron: &str, zone: &str) -> Result<Self, String> {
        let zone = time_zone(zone)?;
        Ok(Self(Box::new(parse(cron)?), zone))
    }

    /// The same for a pattern and a zone that are spelt in the one way in which rules are to know them: single blanks
    /// between the fields, and the zone as its database has it.
    ///
    /// # Errors
    /// As [`Calendar::read`], or how to spell it.
    pub fn read_exactly(cron: &str, zone: &str) -> Result<Self, String> {
        let calendar = Self::read(cron, zone)?;
        let fields = cron.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        if fields != cron {
            return Err(format!("write the pattern as `{fields}`"));
        }
        if calendar.zone() != zone {
            return Err(format!("write the time zone as `{}`", calendar.zone()));
        }
        Ok(calendar)
    }

    /// The first time after `after` at which it matches; `None`: no calendar has such a day.
    #[must_use]
    pub fn next(&self, after: UnixMs) -> Option<UnixMs> {
        let next = self.0.find_next_occurrence(&zoned(&self.1, after)?, false).ok()?;
        u64::try_from(next.timestamp().as_millisecond()).ok()
    }

    /// The name of its zone, as the database of zones spells it.
    #[must_use]
    pub fn zone(&self) -> &str {
        self.1.iana_name().unwrap_or("UTC")
    }
}

/// The time zone of an IANA name.
///
/// # Errors
/// There is none of that name.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    let expected = || format!("there is no time zone `{name}`: expected an IANA name such as Europe/Berlin or UTC");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
    if name.is_empty() || name.len() > ZONE_MAX || !name.chars().all(plain) {
        return Err("expected the IANA name of a time zone, such as Europe/Berlin or UTC".to_owned());
    }
    TimeZone::get(name).map_err(|_| expected())
}

/// A time on the clock of a zone; `None` for one that no calendar has.
#[must_use]
pub fn zoned(zone: &TimeZone, at: UnixMs) -> Option<Zoned> {
    let at = i64::try_from(at).ok().filter(|_| at < NEVER)?;
    Some(Timestamp::from_millisecond(at).ok()?.to_zoned(zone.clone()))
}

fn parse(text: &str) -> Result<Cron, String> {
    let expected = "expected five fields: minute hour day-of-month month day-of-week, such as '30 9 * * mon-fri'";
    if text.len() > CRON_MAX || !text.is_ascii() {
        return Err(format!("the pattern is not plain text of {CRON_MAX} characters at most; {expected}"));
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("`{text}` has {} fields; {expected}", fields.len()));
    }
    for (field, (what, names)) in fields.iter().zip(FIELDS) {
        if let Some(item) = field.split(',').find(|item| !is_item(item, what, names)) {
            let known = if names.is_empty() { String::new() } else { format!("; names are {}", names.join(", ")) };
            return Err(format!(
                "`{item}` is no {what}: expected *, 5, 1-5, */10 or 0-30/10, listed with commas{known}"
            ));
        }
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(text).map_err(|error| format!("`{text}`: {error}; {expected}"))
}

const DAY_OF_MONTH: &str = "day of the month";
const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [(&str, &[&str]); 5] =
    [("minute", &[]), ("hour", &[]), (DAY_OF_MONTH, &[]), ("month", MONTHS), ("day of the week", DAYS)];

/// `*`, a value or a range, with or without a step; `L` for the last day of the month. What the parser would
/// take beyond that, it takes by replacing text, which makes something else of `janfeb`.
fn is_item(item: &str, what: &str, names: &[&str]) -> bool {
    let number = |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = |text: &str| number(text) || names.contains(&text.to_ascii_lowercase().as_str());
    if what == DAY_OF_MONTH && item.eq_ignore_ascii_case("l") {
        return true;
    }
    let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
    let stepped = step.is_none_or(|step| number(step) && step.bytes().any(|byte| byte != b'0'));
    let span = range.split_once('-').is_some_and(|(from, upto)| value(from) && value(upto));
    // A step over a single value would mean something else in each cron.
    stepped && (range == "*" || span || (step.is_none() && value(range)))
}
