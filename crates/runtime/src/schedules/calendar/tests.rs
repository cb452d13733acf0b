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

/// Looked at where the last run has ended, or there was none.
fn looked(spec: &Spec, due: UnixMs, now: UnixMs) -> Due {
    with_last(spec, due, now, Last::None)
}

fn with_last(spec: &Spec, due: UnixMs, now: UnixMs, last: Last) -> Due {
    spec.look(due, now, || Ok::<_, std::convert::Infallible>(last)).unwrap()
}

fn every_ten(missed: Missed, overlap: Overlap) -> Spec {
    Spec { when: When::every("*/10 * * * *", "UTC").unwrap(), missed, overlap }
}

#[test]
fn missed_times_are_run_once_or_left_out() {
    let due = ms("2026-11-22T10:00:00Z");
    let (run, skip) = (every_ten(Missed::Run, Overlap::Skip), every_ten(Missed::Skip, Overlap::Skip));
    assert_eq!(looked(&run, due, due - 1), Due::NotYet);
    let ten = Some(due + 600_000);
    for spec in [&run, &skip] {
        assert_eq!(looked(spec, due, due), Due::Fire { next: ten, missed: 0 });
        assert_eq!(looked(spec, due, due + LATE_MS), Due::Fire { next: ten, missed: 0 });
    }
    let later = due + 25 * 60_000;
    let next = Some(due + 30 * 60_000);
    assert_eq!(looked(&run, due, later), Due::Fire { next, missed: 3 });
    assert_eq!(looked(&skip, due, later), Due::Skip { next, missed: 3 });
    // Of several the last is only late.
    let later = due + 20 * 60_000 + 5_000;
    assert_eq!(looked(&run, due, later), Due::Fire { next, missed: 2 });
    assert_eq!(looked(&skip, due, later), Due::Fire { next, missed: 2 });
    // Years: counted up to a limit.
    let later = due + 5 * 365 * 86_400_000;
    assert!(matches!(looked(&run, due, later), Due::Fire { next: Some(next), missed: MISSED_MAX } if next > later));
    let once = |missed| Spec { when: When::At(due), missed, overlap: Overlap::Skip };
    assert_eq!(looked(&once(Missed::Run), due, due + 3_600_000), Due::Fire { next: None, missed: 1 });
    assert_eq!(looked(&once(Missed::Skip), due, due + 3_600_000), Due::Skip { next: None, missed: 1 });
    assert_eq!(looked(&once(Missed::Skip), due, due + 5_000), Due::Fire { next: None, missed: 0 });
}

#[test]
fn a_time_that_comes_before_the_last_run_has_ended_goes_by_the_rule() {
    let due = ms("2026-11-22T10:00:00Z");
    let ten = Some(due + 600_000);
    let (skip, queue, all) = (
        every_ten(Missed::Run, Overlap::Skip),
        every_ten(Missed::Skip, Overlap::Queue),
        every_ten(Missed::Run, Overlap::All),
    );
    assert_eq!(with_last(&skip, due, due, Last::Open), Due::Overlaps { next: ten, skipped: 1 });
    assert_eq!(with_last(&queue, due, due, Last::Open), Due::Queued);
    assert_eq!(with_last(&all, due, due, Last::Open), Due::Fire { next: ten, missed: 0 });
    for spec in [&skip, &queue, &all] {
        assert_eq!(with_last(spec, due, due, Last::Ended(due - 1)), Due::Fire { next: ten, missed: 0 });
        assert_eq!(with_last(spec, due, due - 1, Last::Open), Due::NotYet);
    }
    // Nobody has looked for a while: each that has come is counted.
    let (later, next) = (due + 25 * 60_000, Some(due + 30 * 60_000));
    assert_eq!(with_last(&skip, due, later, Last::Open), Due::Overlaps { next, skipped: 3 });
    // What has waited for its turn is not missed, however long that took; what came after the end is.
    assert_eq!(with_last(&queue, due, later, Last::Ended(due)), Due::Fire { next, missed: 3 });
    assert_eq!(with_last(&queue, due, later, Last::Ended(due - 1)), Due::Skip { next, missed: 3 });
}

#[test]
fn what_was_left_out_is_counted_until_the_next_run() {
    let due = ms("2026-11-22T10:00:00Z");
    let minutes = |count: u64| due + count * 60_000;
    let skip = every_ten(Missed::Run, Overlap::Skip);
    let of = |spec: &Spec, next, last, now| spec.skipped(Some(minutes(0)), Some(minutes(next)), last, minutes(now));
    assert_eq!(of(&skip, 10, Last::Open, 5), 0);
    // The time that has come is not left out before somebody has done so.
    assert_eq!(of(&skip, 10, Last::Open, 11), 0);
    assert_eq!(of(&skip, 20, Last::Open, 11), 1);
    assert_eq!(of(&skip, 50, Last::Open, 45), 4);
    assert_eq!(of(&skip, 50, Last::Ended(minutes(25)), 45), 2);
    assert_eq!(of(&skip, 5_000_000, Last::Open, 5_000_000), MISSED_MAX);
    let queue = every_ten(Missed::Run, Overlap::Queue);
    assert_eq!(of(&queue, 10, Last::Open, 11), 0);
    assert_eq!(of(&queue, 10, Last::Open, 35), 2);
    assert_eq!(of(&every_ten(Missed::Run, Overlap::All), 50, Last::Open, 45), 0);
    assert_eq!(skip.skipped(None, Some(minutes(50)), Last::None, minutes(45)), 0);
}

#[test]
fn a_time_further_ahead_than_the_rule_allows_is_computed_anew() {
    let now = ms("2026-11-22T10:05:00Z");
    let spec = every_ten(Missed::Run, Overlap::Skip);
    let right = ms("2026-11-22T10:10:00Z");
    assert_eq!(looked(&spec, right, now), Due::NotYet);
    for ahead in [right + 1, right + 600_000, ms("2099-01-01T00:00:00Z")] {
        assert_eq!(looked(&spec, ahead, now), Due::Ahead { next: Some(right) });
    }
    // One time has no rule but itself.
    let once = Spec { when: When::At(ms("2099-01-01T00:00:00Z")), missed: Missed::Run, overlap: Overlap::Skip };
    assert_eq!(looked(&once, ms("2099-01-01T00:00:00Z"), now), Due::NotYet);
}

/// What is computed later is never earlier: else a good time would be taken for one that is too far ahead.
#[test]
fn the_next_time_never_goes_back() {
    for cron in ["30 2 * * *", "*/20 * * * *", "15 1,2,3 * * *", "0 */2 * * *", "* * 29 3 *", "0 0 l * *"] {
        for days in ["2026-03-28T00:00:00Z", "2026-10-24T00:00:00Z"] {
            let when = When::every(cron, BERLIN).unwrap();
            let mut before = 0;
            for step in 0..(2 * 24 * 12) {
                let next = when.next(ms(days) + step * 300_000).unwrap();
                assert!(next >= before, "{cron}, {days}, step {step}: {next} after {before}");
                before = next;
            }
        }
    }
}

#[test]
fn a_spec_is_kept_as_text() {
    let overlap = Overlap::Queue;
    let spec = Spec { when: When::every("0 9 * * *", BERLIN).unwrap(), missed: Missed::Skip, overlap };
    let text = serde_json::to_string(&spec).unwrap();
    let when = r#""when":{"every":{"cron":"0 9 * * *","zone":"Europe/Berlin"}}"#;
    assert_eq!(text, format!(r#"{{{when},"missed":"skip","overlap":"queue"}}"#));
    assert_eq!(Spec::of(&text), Some(spec));
    // What was written before there was a rule for it goes on as it did.
    let old = Spec { when: When::At(5), missed: Missed::Run, overlap: Overlap::All };
    assert_eq!(Spec::of(r#"{"when":{"at":5}}"#), Some(old));
    for bad in ["", "{}", r#"{"when":{"at":5},"more":1}"#, r#"{"when":{"on":5}}"#] {
        assert_eq!(Spec::of(bad), None, "{bad}");
    }
    // What this program does not know is left to one that does.
    let when = When::Every { cron: "x".into(), zone: "y".into() };
    let odd = Spec { when, missed: Missed::Run, overlap: Overlap::Skip };
    assert_eq!((looked(&odd, 5, 10), odd.is_readable()), (Due::NotYet, false));
}
