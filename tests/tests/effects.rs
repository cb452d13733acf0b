//! The table of effects in the documentation says what the code says.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use parole_capabilities::ALL;

const DOC: &str = include_str!("../../docs/effects.md");

/// Functions whose class depends on the call or its grant: those that they may have besides the one in `ALL`.
const OTHERS: [(&str, &[&str]); 2] = [("fetch", &["read", "idempotent"]), ("query", &["read", "idempotent"])];

/// The first name in backticks.
fn code(cell: &str) -> &str {
    cell.split('`').nth(1).unwrap_or_default()
}

/// The rows of the table under a heading, as cells.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, text) = DOC.split_once(&format!("\n{heading}\n")).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    lines.skip(2).map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

#[test]
fn the_table_of_effects_is_that_of_the_code() {
    let mut documented = BTreeMap::<&str, BTreeSet<&str>>::new();
    let mut seen = BTreeSet::new();
    for row in table("## The functions") {
        assert_eq!(row.len(), 5, "{row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        assert!(seen.insert(row[0]), "`{}` stands there twice", row[0]);
        documented.entry(code(row[0])).or_default().insert(code(row[1]));
    }
    let mut real = BTreeMap::<&str, BTreeSet<String>>::new();
    for (function, effect) in ALL.iter().flat_map(|entry| entry.functions()) {
        real.entry(function).or_default().insert(format!("{effect:?}").to_lowercase());
    }
    for (function, classes) in OTHERS {
        real.get_mut(function).unwrap().extend(classes.iter().map(|&class| class.to_owned()));
    }
    let documented: BTreeMap<&str, BTreeSet<String>> = documented
        .into_iter()
        .map(|(function, classes)| (function, classes.into_iter().map(str::to_owned).collect()))
        .collect();
    assert_eq!(documented, real);
}

#[test]
fn every_class_is_explained() {
    let (_, classes) = DOC.split_once("| class | means |").unwrap();
    let explained: BTreeSet<&str> =
        classes.lines().skip(2).take_while(|line| line.starts_with('|')).map(code).collect();
    let used: BTreeSet<&str> = table("## The functions").into_iter().map(|row| code(row[1])).collect();
    assert_eq!(explained, used);
}
