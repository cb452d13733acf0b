//! `parole schedule show|pause|resume|delete`, and how `parole run` makes one

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use parole_durable::hub::now;
use parole_policy::{SecurityPolicy, Timeout};
use parole_runtime::{Guest, Missed, Overlap, Planned, Runtime, Schedule, ScheduleId, Spec, When};
use serde_json::json;

use crate::commands::schedules;
use crate::console::Show;
use crate::fail::{Failure, Result};
use crate::state::StateArgs;
use crate::{output, report, shell, times};

/// The exit code of what the policy refuses.
const DENIED: u8 = 77;

/// Look at one schedule, hold it back, let it go on, or delete it
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  parole run report.wasm --every '0 7 * * mon-fri' --zone Europe/Berlin
      makes one
  parole schedules
  parole schedule pause 01927b3e-5c1f-7d00-8a31-2f6d0c9b1e44")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Show a schedule
    Show(Which),
    /// Hold it back: nothing runs until it is resumed
    Pause(Which),
    /// Let a paused schedule go on with its next time
    ///
    /// The times that came in the pause were not missed. One for a single time that came in the pause runs
    /// at once, unless it was made with --missed skip.
    Resume(Which),
    /// Remove a schedule; the executions that it made stay
    Delete(Which),
}

#[derive(clap::Args, Debug)]
struct Which {
    /// The id, as `parole schedules` lists it
    #[arg(value_name = "SCHEDULE", value_parser = schedule)]
    id: ScheduleId,

    #[command(flatten)]
    state: StateArgs,

    /// Print one object
    #[arg(long)]
    json: bool,
}

fn schedule(text: &str) -> std::result::Result<ScheduleId, String> {
    text.trim().parse().map_err(|_| {
        format!("expected a schedule id, a UUID such as 01927b3e-… (`{}` lists them)", shell::command("schedules"))
    })
}

pub fn run(args: &Args) -> Result<u8> {
    match &args.verb {
        Verb::Show(which) => say(&which.state.look()?.scheduled(which.id)?, which.json),
        Verb::Pause(which) => say(&which.state.look()?.blocking().pause(which.id, true)?, which.json),
        Verb::Resume(which) => say(&which.state.look()?.blocking().pause(which.id, false)?, which.json),
        Verb::Delete(which) => {
            which.state.look()?.blocking().unschedule(which.id)?;
            if which.json {
                output::json(&json!({ "schedule": which.id, "deleted": true }));
            } else {
                output::err(&format!("parole: schedule {} is deleted", which.id));
            }
        }
    }
    Ok(0)
}

fn say(schedule: &Schedule, json: bool) {
    if json {
        output::json(schedule);
        return;
    }
    let line = |name: &str, text: &str| output::out(&format!("{name:<10} {}", output::cell(text)));
    line("schedule", &schedule.schedule.to_string());
    line("guest", &schedule.guest);
    line("component", &schedule.component);
    line("when", &schedules::when(schedule));
    line("next", &schedules::next(schedule));
    if let (Some(when), Some(at), false) = (&schedule.when, schedule.next_at, schedule.paused)
        && let Some(local) = when.local(at)
    {
        line("", &local);
    }
    let (missed, then) = (schedules::missed(schedule), schedules::if_missed(schedule));
    line("missed", &format!("{missed} (if any: {then})"));
    line("overlap", &schedules::overlap(schedule));
    line("fired", &schedule.fired.to_string());
    if let (Some(last), Some(at)) = (schedule.last, schedule.last_at) {
        line("last", &format!("{last}, {}", times::deadline(at, now())));
    }
}

// When a run is to be made, if not now. (No doc comment: it would become the help of the word.)
#[derive(clap::Args, Debug)]
pub struct WhenArgs {
    /// Run it once, at this time: `2026-12-01T09:00` (in --zone), RFC 3339, or `+10m`
    ///
    /// Nothing runs yet: a schedule is made, and its id and time are printed. Policy and guest are pinned as they are
    /// now. `parole resume --all --watch` runs what is due, also after restarts; `parole resume --all`, from a
    /// timer of the system, does it once.
    #[arg(long, help_heading = "Schedule", value_name = "TIME", conflicts_with = "every")]
    at: Option<String>,

    /// Run it again and again: minute, hour, day of month, month, day of week, as in cron
    ///
    /// `*`, `5`, `1-5`, `*/10`, lists with commas; names as `jan` and `mon`; `L` is the last day of the
    /// month. On the day on which clocks are put forward a fixed time that is left out runs right after
    /// the jump; on the day on which they are put back one that comes twice runs at the first. With `*`
    /// or a step in minute or hour it goes by what the clock shows.
    #[arg(long, help_heading = "Schedule", value_name = "CRON", allow_hyphen_values = true)]
    every: Option<String>,

    /// The time zone of --at and --every: `Europe/Berlin`; without it UTC
    #[arg(long, help_heading = "Schedule", value_name = "ZONE")]
    zone: Option<String>,

    /// What becomes of times that came while no process watched
    ///
    /// `run`, which holds without this flag: one run makes up for all of them. `skip`: they are left
    /// out; a run that is late by a minute at most is made.
    #[arg(long, help_heading = "Schedule", value_name = "run|skip", value_parser = PossibleValuesParser::new(["run", "skip"]))]
    missed: Option<String>,

    /// What becomes of a time of --every that comes before the last run has ended
    ///
    /// `skip`, which holds without this flag: it is left out, and said and counted. `queue`: one waits, and runs once
    /// the last has ended; more that come meanwhile are left out. `all`: it runs beside the last one. A run has not
    /// ended while it waits for an answer or a timer. Schedules from before there was this flag go on as they did,
    /// with `all`.
    #[arg(
        long, help_heading = "Schedule", value_name = "skip|queue|all",
        value_parser = PossibleValuesParser::new(["skip", "queue", "all"])
    )]
    overlap: Option<String>,
}

impl WhenArgs {
    /// The schedule that is asked for, if one is.
    pub fn spec(&self) -> Result<Option<Spec>> {
        let now = now();
        let zone = self.zone.as_deref().unwrap_or("UTC");
        if self.overlap.is_some() && self.every.is_none() {
            return Err(Failure::usage("--overlap says more about --every CRON: there is none"));
        }
        let when = match (&self.at, &self.every) {
            (Some(at), _) if at.starts_with('+') && self.zone.is_some() => {
                return Err(Failure::usage(format!("--at {} is counted from now: no --zone", output::cell(at))));
            }
            (Some(at), _) => {
                let time = match at.strip_prefix('+') {
                    Some(span) => after(span, now),
                    None => When::at(at, zone, now),
                };
                time.map_err(|why| Failure::usage(format!("--at {}: {why}", output::cell(at))))?
            }
            (None, Some(cron)) => When::every(cron, zone).map_err(|why| Failure::usage(format!("--every: {why}")))?,
            (None, None) if self.zone.is_some() || self.missed.is_some() => {
                return Err(Failure::usage(
                    "--zone and --missed say more about --at TIME or --every CRON: there is neither",
                ));
            }
            (None, None) => return Ok(None),
        };
        let missed = if self.missed.as_deref() == Some("skip") { Missed::Skip } else { Missed::Run };
        let overlap = match self.overlap.as_deref() {
            Some("queue") => Overlap::Queue,
            Some("all") => Overlap::All,
            _ => Overlap::Skip,
        };
        Ok(Some(Spec { when, missed, overlap }))
    }
}

fn after(span: &str, now: u64) -> std::result::Result<When, String> {
    match span.parse() {
        Ok(Timeout::After(ms)) => Ok(When::At(now.saturating_add(ms))),
        _ => Err("expected a time from now such as +30s, +10m, +2h or +7d".into()),
    }
}

/// Makes a schedule, and says so.
pub fn plan(
    runtime: &Runtime,
    guest: Guest,
    policy: SecurityPolicy,
    invoke: Option<String>,
    spec: Spec,
    show: Show,
) -> Result<u8> {
    let json = show.json;
    match runtime.blocking().schedule(guest, policy, invoke, spec)? {
        Planned::Made(schedule) => {
            say(&schedule, json);
            if !json && !show.quiet {
                output::err(&format!(
                    "parole: nothing has run yet; `{}` runs what is due",
                    shell::command("resume --all --watch")
                ));
            }
            Ok(0)
        }
        Planned::Denied(denied) => {
            if json {
                output::json(&json!({ "schedule": null, "outcome": "denied", "denied": denied }));
            }
            for denied in &denied {
                output::err(&report::refusal(denied));
            }
            output::err("parole: denied: no schedule was made");
            Ok(DENIED)
        }
    }
}
