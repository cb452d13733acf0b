//! What users do to end things, each to be harmed at every durable call.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::crash::{Place, Story, User, exit, prebuilt};
use crate::crash_points::Scenario;
use crate::crash_scenarios::{answer, strings};
use crate::ensure;
use crate::fixture::{Failure, Ran};

/// `cancel` of an execution that waits.
pub struct Cancel {
    execution: String,
    promise: String,
}

impl Scenario for Cancel {
    const NAME: &'static str = "cancel";

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let (execution, promise) = User::start(place, &[prebuilt("greet")?])?;
        Ok(Self { execution, promise })
    }

    fn victim(&self) -> Vec<String> {
        strings(["cancel", &self.execution, "--json"])
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        let outcome = User::show(place, &self.execution)?["outcome"].clone();
        let state = User::promises(place, false)?[0]["state"].clone();
        let canceled = outcome == "canceled" && state == "rejected_canceled";
        let waiting = outcome == "suspended" && state == "pending";
        ensure!(canceled || (waiting && !done), "it is {outcome}, and what it waits for {state}\n{}", victim.report());
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        let again = place.run(&self.victim())?.status.code();
        ensure!(matches!(again, Some(exit::DONE | exit::REFUSED)), "canceling again ends with {again:?}");
        place.run(&User::resolution(&self.promise, &json!("late")))?.exits(exit::FAILED)?;
        place.run(&["resume", &self.execution])?.exits(exit::CANCELED)?;
        place.check()
    }
}

/// Any word after the time of a promise has come: it is settled then, and durably.
pub struct TimeOut {
    execution: String,
}

impl Scenario for TimeOut {
    const NAME: &'static str = "time-out";

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let (execution, _) = User::start(place, &[prebuilt("greet")?.as_os_str(), "--timeout=input=400ms".as_ref()])?;
        sleep(Duration::from_millis(420));
        Ok(Self { execution })
    }

    fn victim(&self) -> Vec<String> {
        strings(["promises", "--json"])
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn right_after(&self, _: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        if done {
            let state = &victim.json()?[0]["state"];
            ensure!(state == "rejected_timedout", "its time has come, and it is {state}");
        }
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        let record = User::promises(place, false)?.remove(0);
        let expired = record["state"] == "rejected_timedout" && record["settledAt"] == record["timeoutAt"];
        ensure!(expired, "its time has come, and it is {record}");
        let ran = place.run(&["resume", &self.execution, "--json"])?;
        ensure!(ran.exits(exit::FAILED)?.json()?["outcome"] == "failed", "{}", ran.report());
        place.check()
    }
}

/// `gc`: one execution has ended, one waits.
pub struct Retention {
    ended: String,
    waits: String,
}

impl Scenario for Retention {
    const NAME: &'static str = "retention";

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let (ended, _) = User::start(place, &[prebuilt("greet")?])?;
        User::default().finish(place, answer)?;
        let (waits, _) = User::start(place, &[prebuilt("greet")?])?;
        Ok(Self { ended, waits })
    }

    fn victim(&self) -> Vec<String> {
        strings(["gc", "--older-than", "0", "--json"])
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn right_after(&self, place: &Place, _: &Ran, done: bool) -> Result<(), Failure> {
        let all: Vec<String> = User::list(place)?.into_iter().map(|one| one.id).collect();
        ensure!(all.contains(&self.waits), "what waits was removed");
        ensure!(!done || !all.contains(&self.ended), "what has ended was not removed");
        let promises = User::promises(place, false)?.len();
        ensure!(promises == all.len(), "{promises} promises of {} executions", all.len());
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        place.run(&self.victim())?.exits(exit::DONE)?;
        ensure!(User::list(place)?.len() == 1, "what has ended is still there");
        // Nobody runs anything, so nobody owns anything.
        let owners = place.names("state/owners")?;
        ensure!(owners.is_empty(), "lock files of the dead: {owners:?}");
        // It needs the component that it shared with the other one.
        let mut user = User::default();
        user.finish(place, answer)?;
        user.settle_up(place, |_| (Story::Greet, None))
    }
}
