//! Calls that workers answer, harmed at every durable call: the worker, the execution that waits for it, and the one that
//! goes on.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::crash::{Place, User, exit, prebuilt};
use crate::crash_points::Scenario;
use crate::crash_scenarios::strings;
use crate::ensure;
use crate::fixture::{Failure, Ran, because};

const CRM: &str = "acme:crm/customers@1.0.0";

/// A guest that calls a capability of its policy, and a program that answers.
struct Crm {
    call: &'static str,
    /// What the program prints.
    answer: Value,
}

const LOOKUP: &str = "name-of(\"1\")";
const DELETE: &str = "remove(\"1\")";

impl Crm {
    fn plant(place: &Place, call: &'static str) -> Result<Self, Failure> {
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/crm/crm.wit");
        fs::copy(wit, place.path("crm.wit")).map_err(because("crm.wit"))?;
        let policy = format!(
            "[capability.\"{CRM}\"]\nwit = \"crm.wit\"\nvia = \"worker\"\nlevel = \"standard\"\n\
             func.delete.effect = \"once\"\n"
        );
        fs::write(place.path("policy.toml"), policy).map_err(because("policy.toml"))?;
        let answer =
            if call == LOOKUP { json!({ "id": "1", "name": "Ada", "email": null, "orders": 1 }) } else { Value::Null };
        Ok(Self { call, answer })
    }

    fn run(&self) -> Result<Vec<String>, Failure> {
        let guest = prebuilt("crm")?.to_string_lossy().into_owned();
        Ok(strings(["run", &guest, "--policy", "policy.toml", "--detach", "--json", "--invoke", self.call]))
    }

    /// Starts it, up to where it waits.
    fn start(&self, place: &Place) -> Result<String, Failure> {
        let report = place.run(&self.run()?)?.exits(exit::SUSPENDED)?.json()?;
        Ok(report["execution"].as_str().ok_or("no execution")?.to_owned())
    }

    /// Works until nothing is pending. What the program does is noted outside of the place.
    fn work(&self, place: &Place) -> Vec<String> {
        let program = format!("echo x >> {}; printf %s '{}'", done(place).display(), self.answer);
        strings(["work", CRM, "--drain", "--quiet", "--backoff", "10ms", "--", "/bin/sh", "-c", &program])
    }

    /// Works, says what came of what is in doubt, and goes on, until it is over.
    fn finish(&self, place: &Place, execution: &str) -> Result<(), Failure> {
        let report = loop {
            place.run(&self.work(place))?.exits(exit::DONE)?;
            let pending = User::promises(place, true)?;
            for promise in &pending {
                ensure!(self.call == DELETE && promise["work"]["doubt"] == true, "nobody takes {promise}");
                let id = promise["id"].as_str().ok_or("no id")?;
                place.run(&["promise", "resolve", id, "--value", "null"])?.exits(exit::DONE)?;
            }
            let own = |promise: &&Value| promise["tags"]["parole:execution"] == execution;
            let known = User::promises(place, false)?.iter().filter(own).count();
            let resumed = place.run(&["resume", execution, "--json"])?;
            // One that was killed before it had asked asks now.
            if known == 0 && resumed.status.code() == Some(exit::SUSPENDED) {
                continue;
            }
            break resumed.exits(exit::DONE)?.json()?;
        };
        ensure!(report["outcome"] == "completed", "{report}");
        ensure!(self.call == DELETE || report["result"] == "\"Ada\"", "{report}");
        let promises = User::promises(place, false)?;
        let own: Vec<_> = promises.iter().filter(|own| own["tags"]["parole:execution"] == execution).collect();
        ensure!(own.len() == 1 && own[0]["state"] == "resolved", "{promises:?}");
        let often = often(place)?;
        ensure!(self.call == LOOKUP || often <= 1, "it was done {often} times");
        Ok(())
    }
}

/// The file in which the program notes that it was there.
fn done(place: &Place) -> PathBuf {
    place.root().with_file_name("done")
}

fn often(place: &Place) -> Result<usize, Failure> {
    match fs::read_to_string(done(place)) {
        Ok(text) => Ok(text.lines().count()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(because("done")(error)),
    }
}

/// Nothing was done yet.
fn forget(place: &Place) -> Result<(), Failure> {
    match fs::remove_file(done(place)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(because("done")(error)),
        _ => Ok(()),
    }
}

/// `work`, on a call that may be done again; with `ONCE`, on one that must not.
pub struct Work<const ONCE: bool> {
    crm: Crm,
    execution: String,
    victim: Vec<String>,
}

impl<const ONCE: bool> Scenario for Work<ONCE> {
    const NAME: &'static str = if ONCE { "work, once" } else { "work" };

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let crm = Crm::plant(place, if ONCE { DELETE } else { LOOKUP })?;
        let (execution, victim) = (crm.start(place)?, crm.work(place));
        Ok(Self { crm, execution, victim })
    }

    fn begin(&self, place: &Place) -> Result<(), Failure> {
        forget(place)
    }

    fn victim(&self) -> Vec<String> {
        self.victim.clone()
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        let promise = User::promises(place, false)?.pop().ok_or("no promise")?;
        let resolved = promise["state"] == "resolved";
        ensure!(resolved || (promise["state"] == "pending" && !done), "{promise}\n{}", victim.report());
        ensure!(!resolved || often(place)? > 0, "answered by nobody: {promise}");
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        self.crm.finish(place, &self.execution)
    }
}

/// `run --detach` of a guest that calls what workers answer.
pub struct WaitForWorker {
    crm: Crm,
    victim: Vec<String>,
}

impl Scenario for WaitForWorker {
    const NAME: &'static str = "wait for a worker";

    /// One before it has gone all the way: the guest is compiled.
    fn prepare(place: &Place) -> Result<Self, Failure> {
        let crm = Crm::plant(place, LOOKUP)?;
        let execution = crm.start(place)?;
        place.run(&["cancel", &execution])?.exits(exit::DONE)?;
        let victim = crm.run()?;
        Ok(Self { crm, victim })
    }

    fn begin(&self, place: &Place) -> Result<(), Failure> {
        forget(place)
    }

    fn victim(&self) -> Vec<String> {
        self.victim.clone()
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::SUSPENDED]
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        let pending = User::promises(place, true)?;
        ensure!(pending.len() <= 1 && (!done || pending.len() == 1), "{pending:?}\n{}", victim.report());
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        let created: Vec<_> = User::list(place)?.into_iter().skip(1).collect();
        ensure!(created.len() <= 1, "one run made {created:?}");
        let execution = match created.first() {
            Some(one) => one.id.clone(),
            None => self.crm.start(place)?,
        };
        self.crm.finish(place, &execution)?;
        ensure!(often(place)? == 1, "a worker answered it {} times", often(place)?);
        Ok(())
    }
}

/// `resume` of an execution whose call a worker has answered.
pub struct Answered {
    execution: String,
    victim: Vec<String>,
}

impl Scenario for Answered {
    const NAME: &'static str = "resume after a worker";

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let crm = Crm::plant(place, LOOKUP)?;
        let execution = crm.start(place)?;
        place.run(&crm.work(place))?.exits(exit::DONE)?;
        let victim = strings(["resume", &execution, "--json"]);
        Ok(Self { execution, victim })
    }

    fn victim(&self) -> Vec<String> {
        self.victim.clone()
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        let state = User::list(place)?.pop().ok_or("no execution")?.state;
        ensure!(!done || state == "completed", "{state}\n{}", victim.report());
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        let report = place.run(&["resume", &self.execution, "--json"])?.json()?;
        ensure!(report["outcome"] == "completed" && report["result"] == "\"Ada\"", "{report}");
        let journal = place.run(&["journal", &self.execution])?;
        journal.exits(exit::DONE)?;
        ensure!(journal.out().matches("lookup").count() >= 1, "{}", journal.out());
        Ok(())
    }
}
