//! `parole schedules`

use parole_durable::hub::now;
use parole_durable::store::Listing;
use parole_runtime::schedules::MISSED_MAX;
use parole_runtime::{Missed, Overlap, Schedule, When};

use serde_json::json;

use crate::fail::Result;
use crate::state::StateArgs;
use crate::{output, table, times};

/// List schedules: what runs at a time, or again and again
///
/// `parole run --at` and `--every` make them, `parole resume --all --watch` runs what is due. MISSED counts
/// the times that have gone by, by more than a minute, while no process watched. OVERLAP says what becomes of a
/// time that comes before the last run has ended, and of how many that came so.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    state: StateArgs,

    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    let Listing { whole: schedules, damaged } = args.state.look()?.schedules()?;
    if args.json {
        let whole = schedules.iter().map(|schedule| json!(schedule));
        let damaged = damaged.iter().map(|damaged| json!({ "state": "damaged", "damage": &*damaged.what }));
        output::json(&whole.chain(damaged).collect::<Vec<_>>());
        return Ok(0);
    }
    let damaged = damaged.iter().map(|damaged| {
        let mut row = [const { String::new() }; 9];
        row[0] = "?".into();
        row[2] = format!("damaged: {}", damaged.what);
        row
    });
    let rows: Vec<[String; 9]> = schedules
        .iter()
        .map(|schedule| {
            [
                schedule.schedule.to_string(),
                schedule.guest.clone(),
                when(schedule),
                next(schedule),
                schedule.fired.to_string(),
                missed(schedule),
                if_missed(schedule).to_owned(),
                overlap(schedule),
                schedule.last.map(|id| id.to_string()).unwrap_or_default(),
            ]
        })
        .chain(damaged)
        .collect();
    table::print(
        ["SCHEDULE", "GUEST", "WHEN", "NEXT", "FIRED", "MISSED", "IF MISSED", "OVERLAP", "LAST EXECUTION"],
        &rows,
    );
    Ok(0)
}

/// When it runs, in words.
pub fn when(schedule: &Schedule) -> String {
    match &schedule.when {
        Some(When::At(at)) => format!("at {}", times::point(*at)),
        Some(When::Every { cron, zone }) => format!("every '{cron}' {zone}"),
        None => "as another version of parole says".into(),
    }
}

/// When it is due, in words.
pub fn next(schedule: &Schedule) -> String {
    match schedule.next_at {
        _ if schedule.paused => "paused".into(),
        Some(_) if schedule.queued => "when its last run has ended".into(),
        Some(at) => times::deadline(at, now()),
        None => "never again".into(),
    }
}

/// How many times have gone by.
pub fn missed(schedule: &Schedule) -> String {
    match schedule.missed {
        count if count >= MISSED_MAX => format!("{count} or more"),
        count => count.to_string(),
    }
}

/// What becomes of them.
pub fn if_missed(schedule: &Schedule) -> &'static str {
    match schedule.if_missed {
        Missed::Run => "one run",
        Missed::Skip => "skipped",
    }
}

/// What becomes of a time that comes before the last run has ended, and how many of them were left out.
pub fn overlap(schedule: &Schedule) -> String {
    let rule = match (&schedule.when, schedule.overlap) {
        (Some(When::Every { .. }), Overlap::Skip) => "skip",
        (Some(When::Every { .. }), Overlap::Queue) => "queue",
        (Some(When::Every { .. }), Overlap::All) => "all",
        _ => return String::new(),
    };
    match schedule.skipped {
        0 => rule.into(),
        count if count >= MISSED_MAX => format!("{rule} ({count} or more left out)"),
        count => format!("{rule} ({count} left out)"),
    }
}
