//! Times as people read them.

use parole_durable::ids::{NEVER, UnixMs};
use parole_policy::Kind;
use parole_runtime::CATALOGUE;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A span in its two greatest units: `4 min 10 s`, `7 d`, `250 ms`.
pub fn span(ms: u64) -> String {
    let two = |greater: u64, unit: &str, lesser: u64, small: &str| {
        let rest = (ms % greater) / lesser;
        if rest == 0 { format!("{} {unit}", ms / greater) } else { format!("{} {unit} {rest} {small}", ms / greater) }
    };
    match ms {
        DAY.. => two(DAY, "d", HOUR, "h"),
        HOUR.. => two(HOUR, "h", MINUTE, "min"),
        MINUTE.. => two(MINUTE, "min", SECOND, "s"),
        SECOND.. => format!("{} s", ms / SECOND),
        _ => format!("{ms} ms"),
    }
}

/// A point in time: `2025-11-22 14:25:27 UTC`.
pub fn point(at: UnixMs) -> String {
    let (days, rest) = (at / DAY, at % DAY);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / HOUR, rest % HOUR / MINUTE, rest % MINUTE / SECOND);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// A deadline, relative and absolute.
pub fn deadline(at: UnixMs, now: UnixMs) -> String {
    match at {
        NEVER.. => "never".into(),
        at if at <= now => format!("{} ago, {}", span(now - at), point(at)),
        at => format!("in {}, {}", span(at - now), point(at)),
    }
}

/// What a promise of a capability does at its deadline: that of a timer is what was waited for.
pub fn at_deadline(capability: &str) -> &'static str {
    let kind = CATALOGUE.by_name(capability).map(|capability| capability.kind);
    if kind == Some(Kind::Timer) { "ends" } else { "expires" }
}

/// The Gregorian date of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_and_spans() {
        assert_eq!(point(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(point(951_782_399_000), "2000-02-28 23:59:59 UTC");
        assert_eq!(point(951_868_800_000), "2000-03-01 00:00:00 UTC");
        assert_eq!(point(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
        assert_eq!(span(250), "250 ms");
        assert_eq!(span(250_000), "4 min 10 s");
        assert_eq!(span(7 * DAY), "7 d");
        assert_eq!(deadline(NEVER, 5), "never");
        assert!(deadline(NEVER - 1, 5).starts_with("in "));
    }
}
