//! The calendar, the change days of clocks above all.

use super::*;

const BERLIN: &str = "Europe/Berlin";

fn ms(text: &str) -> UnixMs {
    u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
}

fn text(at: UnixMs) -> String {
    Timestamp::from_millisecond(i64::try_from(at).unwrap()).unwrap().to_string()
}

/// The next times after a time, in UTC.
fn times(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let when = When::every(cron, zone).unwrap();
    let mut at = ms(after);
    let mut all = Vec::new();
    for _ in 0..count {
        at = when.next(at).unwrap();
        all.push(text(at));
    }
    all
}

#[test]
fn five_fields_with_names_ranges_and_steps() {
    let from = "2026-11-20T10:02:30Z"; // a Friday
    assert_eq!(times("*/5 * * * *", "UTC", from, 2), ["2026-11-20T10:05:00Z", "2026-11-20T10:10:00Z"]);
    assert_eq!(times("30 9 * * mon-fri", "UTC", from, 1), ["2026-11-23T09:30:00Z"]);
    assert_eq!(times("0 0 1 jan *", BERLIN, from, 1), ["2026-12-31T23:00:00Z"]);
    assert_eq!(times("0 12 L * *", "UTC", from, 2), ["2026-11-30T12:00:00Z", "2026-12-31T12:00:00Z"]);
    assert_eq!(times("15,45 8-9/1 * * 7", "UTC", from, 2), ["2026-11-22T08:15:00Z", "2026-11-22T08:45:00Z"]);
    // As in every cron: of day of month and day of week either will do when both are given.
    assert_eq!(times("0 0 13 * fri", "UTC", from, 2), ["2026-11-27T00:00:00Z", "2026-12-04T00:00:00Z"]);
    assert_eq!(times("0 0 29 feb *", "UTC", from, 1), ["2028-02-29T00:00:00Z"]);
}

#[test]
fn half_past_two_on_the_day_that_has_none() {
    // Berlin, 2027-03-28: 02:00 to 03:00 is left out; 03:00 there is 01:00 UTC.
    let from = "2027-03-27T12:00:00Z";
    assert_eq!(times("30 2 * * *", BERLIN, from, 2), ["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]);
    // With a step: what the clock never shows does not count.
    let from = "2027-03-28T00:15:00Z";
    assert_eq!(
        times("*/30 * * * *", BERLIN, from, 3),
        ["2027-03-28T00:30:00Z", "2027-03-28T01:00:00Z", "2027-03-28T01:30:00Z"]
    );
    assert_eq!(times("30 2 28 3 *", BERLIN, from, 1), ["2027-03-28T01:00:00Z"]);
}

#[test]
fn half_past_two_on_the_day_that_has_it_twice() {
    // Berlin, 2026-10-25: 02:00 to 03:00 comes twice, as 00:00 and as 01:00 UTC.
    let from = "2026-10-24T12:00:00Z";
    assert_eq!(times("30 2 * * *", BERLIN, from, 2), ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    let from = "2026-10-25T00:15:00Z";
    assert_eq!(
        times("*/30 * * * *", BERLIN, from, 4),
        ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"]
    );
}

#[test]
fn every_time_comes_after_the_one_before() {
    for zone in [BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"] {
        for cron in ["30 2 * * *", "*/7 * * * *", "0 */6 * * *", "45 1 * * sun"] {
            let when = When::every(cron, zone).unwrap();
            let mut at = ms("2026-01-01T00:00:00Z");
            while let Some(next) = when.next(at).filter(|_| at < ms("2026-12-31T00:00:00Z")) {
                assert!(next > at, "{cron} {zone} {}", text(at));
                // A day's length of calendar at most lies between two daily ones.
                if cron == "30 2 * * *" {
                    assert!(next - at <= 25 * 3_600_000 + 1_800_000, "{zone} {}", text(at));
                }
                at = if cron.starts_with("*/7") { next + 86_400_000 } else { next };
            }
        }
    }
}

#[test]
fn what_is_no_pattern_is_refused_and_says_what_was_expected() {
    let long = format!("{} * * * *", "1,".repeat(200));
    for (cron, says) in [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("* * * * * *", "has 6 fields"),
        ("@daily", "has 1 fields"),
        ("60 * * * *", "60 * * * *"),
        ("* 24 * * *", "* 24 * * *"),
        ("* * 0 * *", "* * 0 * *"),
        ("* * * 13 *", "* * * 13 *"),
        ("* * * janfeb *", "`janfeb` is no month"),
        ("* * * * monsun", "`monsun` is no day of the week"),
        ("* * * * mon#1", "is no day of the week"),
        ("mon * * * *", "`mon` is no minute"),
        ("*/0 * * * *", "`*/0` is no minute"),
        ("5/10 * * * *", "`5/10` is no minute"),
        ("1-2-3 * * * *", "is no minute"),
        (", * * * *", "is no minute"),
        ("30-10 * * * *", "30-10"),
        ("0 0 31 2 *", "names a day that no calendar has"),
        ("０ 0 * * *", "plain text"),
        (long.as_str(), "plain text"),
    ] {
        let refused = When::every(cron, "UTC").unwrap_err();
        assert!(refused.contains(says), "{cron}: {refused}");
    }
    for zone in ["", "Berlin", "Europe/Belrin", "../etc/passwd", "Europe/Berlin\n", &"a".repeat(65)] {
        assert!(When::every("* * * * *", zone).unwrap_err().contains("Europe/Berlin or UTC"), "{zone}");
    }
    assert_eq!(
        When::every(" 0  9 * *\tMON ", "europe/berlin").unwrap(),
        When::Every { cron: "0 9 * * MON".into(), zone: BERLIN.into() }
    );
}

#[test]
fn one_time_in_many_spellings() {
    let now = ms("2026-11-22T12:00:00Z");
    let at = |text: &str, zone: &str| When::at(text, zone, now);
    let nine = When::At(ms("2026-12-01T08:00:00Z"));
    assert_eq!(at("2026-12-01T09:00", BERLIN), Ok(nine.clone()));
    assert_eq!(at("2026-12-01 09:00:00", BERLIN), Ok(nine.clone()));
    assert_eq!(at("2026-12-01T09:00:00+01:00", "UTC"), Ok(nine.clone()));
    assert_eq!(at("2026-12-01T08:00:00Z", BERLIN), Ok(nine));
    for (text, says) in [
        ("2026-12-01", "expected"),
        ("tomorrow", "expected"),
        ("", "expected"),
        ("1764576000", "expected"),
        ("2026-02-30T10:00", "expected"),
        ("2026-11-22T12:00", "has passed"),
        ("1960-01-01T00:00:00Z", "has passed"),
    ] {
        let refused = at(text, "UTC").unwrap_err();
        assert!(refused.contains(says), "{text}: {refused}");
    }
    assert!(at("2027-03-28T02:30", BERLIN).unwrap_err().contains("does not exist in Europe/Berlin"));
    let twice = at("2027-10-31T02:30", BERLIN).unwrap_err();
    assert!(twice.contains("write 2027-10-31T02:30+02:00 or 2027-10-31T02:30+01:00"), "{twice}");
    assert_eq!(at("2027-10-31T02:30+01:00", BERLIN), Ok(When::At(ms("2027-10-31T01:30:00Z"))));
}

#[test]
fn missed_times_are_run_once_or_left_out() {
    let due = ms("2026-11-22T10:00:00Z");
    let spec = |missed| Spec { when: When::every("*/10 * * * *", "UTC").unwrap(), missed };
    let (run, skip) = (spec(Missed::Run), spec(Missed::Skip));
    assert_eq!(run.look(due, due - 1), Due::NotYet);
    let ten = Some(due + 600_000);
    for spec in [&run, &skip] {
        assert_eq!(spec.look(due, due), Due::Fire { next: ten, missed: 0 });
        assert_eq!(spec.look(due, due + LATE_MS), Due::Fire { next: ten, missed: 0 });
    }
    let later = due + 25 * 60_000;
    let next = Some(due + 30 * 60_000);
    assert_eq!(run.look(due, later), Due::Fire { next, missed: 3 });
    assert_eq!(skip.look(due, later), Due::Skip { next, missed: 3 });
    // Of several the last is only late.
    let later = due + 20 * 60_000 + 5_000;
    assert_eq!(run.look(due, later), Due::Fire { next, missed: 2 });
    assert_eq!(skip.look(due, later), Due::Fire { next, missed: 2 });
    // Years: counted up to a limit.
    let later = due + 5 * 365 * 86_400_000;
    assert!(matches!(run.look(due, later), Due::Fire { next: Some(next), missed: MISSED_MAX } if next > later));
    let once = |missed| Spec { when: When::At(due), missed };
    assert_eq!(once(Missed::Run).look(due, due + 3_600_000), Due::Fire { next: None, missed: 1 });
    assert_eq!(once(Missed::Skip).look(due, due + 3_600_000), Due::Skip { next: None, missed: 1 });
    assert_eq!(once(Missed::Skip).look(due, due + 5_000), Due::Fire { next: None, missed: 0 });
}

#[test]
fn a_spec_is_kept_as_text() {
    let spec = Spec { when: When::every("0 9 * * *", BERLIN).unwrap(), missed: Missed::Skip };
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(text, r#"{"when":{"every":{"cron":"0 9 * * *","zone":"Europe/Berlin"}},"missed":"skip"}"#);
    assert_eq!(Spec::of(&text), Some(spec));
    assert_eq!(Spec::of(r#"{"when":{"at":5}}"#), Some(Spec { when: When::At(5), missed: Missed::Run }));
    for bad in ["", "{}", r#"{"when":{"at":5},"more":1}"#, r#"{"when":{"on":5}}"#] {
        assert_eq!(Spec::of(bad), None, "{bad}");
    }
    // What this program does not know is left to one that does.
    let odd = Spec { when: When::Every { cron: "x".into(), zone: "y".into() }, missed: Missed::Run };
    assert_eq!((odd.look(5, 10), odd.is_readable()), (Due::NotYet, false));
}
