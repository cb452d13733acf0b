//! Grants that change while an execution is parked, killed at every durable call: afterwards it is under the old
//! generation or the new one, and what was decided before stays decided.

use std::fs;

use serde_json::{Value, json};

use crate::crash::{Place, User, exit};
use crate::crash_outside::{audit, output, resume, settled, start_and_answer, victim};
use crate::crash_points::{Scenario, has_printed};
use crate::ensure;
use crate::fixture::{Failure, Ran, because};

const GRANTS: &str = "[grant.read_file]\ndirs = { \"/data\" = \"./data\" }\n";
const LOOKED: &str = "one\n";

/// A guest that looks into a file, has waited, and will look again.
struct Parked {
    execution: String,
    change: Vec<String>,
    grants: bool,
}

fn write(place: &Place, text: &str) -> Result<(), Failure> {
    let path = place.path("data/thing.txt");
    fs::write(&path, text).map_err(because(path.display()))
}

impl Parked {
    fn prepare(place: &Place, grants: bool, change: &[&str]) -> Result<Self, Failure> {
        let execution = parked(place, if grants { "" } else { GRANTS }, 2)?;
        let change = change.iter().map(|word| if *word == "ID" { execution.clone() } else { (*word).to_owned() });
        let change = change.chain(["--json".to_owned()]).collect();
        Ok(Self { execution, change, grants })
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        let changes = changes(place, &self.execution)?;
        ensure!(changes.len() <= 1 && (changes.len() == 1 || !done), "changed (done: {done}): {changes:?}");
        ensure!(changes.iter().all(|change| change["generation"] == 1), "numbered otherwise: {changes:?}");
        if done && (has_printed(victim) || victim.status.code() == Some(exit::DONE)) && !victim.stdout.is_empty() {
            ensure!(victim.json()?["generation"] == 1, "it is said to be another one\n{}", victim.report());
        }
        Ok(())
    }

    fn finish(&self, place: &Place) -> Result<(), Failure> {
        let changed = changes(place, &self.execution)?.len();
        place.save("changed")?;
        self.goes_on(place, changed, changed == 1)?;
        // The user, who does not know, changes it once more.
        place.restore("changed")?;
        let ran = place.run(&self.change)?;
        if changed == 1 && !self.grants {
            // There is nothing left to take away.
            ran.exits(exit::USAGE)?;
            return self.goes_on(place, 1, true);
        }
        ensure!(ran.exits(exit::DONE)?.json()?["generation"] == changed + 1, "{}", ran.report());
        self.goes_on(place, changed + 1, true)
    }

    /// The next call is decided under this generation.
    fn goes_on(&self, place: &Place, generation: usize, changed: bool) -> Result<(), Failure> {
        let report = place.run(&resume(&self.execution))?.exits(exit::DONE)?.json()?;
        let (first, second) = if self.grants {
            output(&report).split_at(output(&report).match_indices('\n').nth(1).map_or(0, |(at, _)| at + 1))
        } else {
            output(&report).split_at(LOOKED.len().min(output(&report).len()))
        };
        let may = |granted: bool, said: &str| {
            if granted { said == LOOKED } else { said.starts_with("denied\n") && said.lines().count() == 2 }
        };
        let says = may(!self.grants, first) && may(self.grants == changed, second);
        ensure!(says, "changed {changed}, under generation {generation} the guest says {report}");
        settled(place, &self.execution, output(&report))?;
        let decided = decisions(place, &self.execution)?;
        let word = |granted: bool| if granted { "allow" } else { "deny" };
        let wanted = [(word(!self.grants), 0), (word(self.grants == changed), generation as u64)];
        ensure!(decided == wanted.map(|(word, number)| (word.to_owned(), number)), "decided {decided:?}");
        Ok(())
    }
}

/// Starts the guest, lets it look once, and answers what it asks then.
fn parked(place: &Place, policy: &str, looks: usize) -> Result<String, Failure> {
    fs::create_dir(place.path("data")).map_err(because("data"))?;
    write(place, "one")?;
    start_and_answer(place, policy, &format!("look(\"/data/thing.txt\", {looks})"))
}

/// The changes of the grants of an execution.
fn changes(place: &Place, execution: &str) -> Result<Vec<Value>, Failure> {
    let mut all = audit(place, execution)?;
    all.retain(|line| line["site"] == "grant");
    Ok(all)
}

/// What was decided about each look, under which generation.
fn decisions(place: &Place, execution: &str) -> Result<Vec<(String, u64)>, Failure> {
    let all = audit(place, execution)?;
    let reads = all.iter().filter(|line| line["site"] == "call" && line["capability"] == "read_file");
    Ok(reads
        .map(|line| (line["verdict"].as_str().unwrap_or("?").to_owned(), line["generation"].as_u64().unwrap_or(0)))
        .collect())
}

macro_rules! parked {
    ($name:literal, $grants:literal, $($word:literal)+) => {
        const NAME: &'static str = $name;
        const SAMPLE: Option<usize> = Some(3);

        fn prepare(place: &Place) -> Result<Self, Failure> {
            Parked::prepare(place, $grants, &[$($word),+]).map(Self)
        }

        fn victim(&self) -> Vec<String> {
            self.0.change.clone()
        }

        fn claims(&self) -> &'static [i32] {
            &[exit::DONE]
        }

        fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
            self.0.right_after(place, victim, done)
        }

        fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
            self.0.finish(place)
        }
    };
}

/// `grant` of a directory.
pub struct GrantDir(Parked);

impl Scenario for GrantDir {
    parked!("grant", true, "grant" "ID" "--allow-read" "/data=./data");
}

/// `revoke` of a directory.
pub struct RevokeDir(Parked);

impl Scenario for RevokeDir {
    parked!("revoke a directory", false, "revoke" "ID" "--allow-read" "/data");
}

/// `revoke` of a capability.
pub struct RevokeAll(Parked);

impl Scenario for RevokeAll {
    parked!("revoke a capability", false, "revoke" "ID" "read_file");
}

/// `resume` after a `revoke`: what was allowed before is replayed, and not decided again.
pub struct ResumeRevoked {
    execution: String,
}

impl ResumeRevoked {
    fn decided(&self, place: &Place, wanted: &[(&str, u64)]) -> Result<(), Failure> {
        let decided = decisions(place, &self.execution)?;
        let same = decided.len() <= wanted.len()
            && decided.iter().zip(wanted).all(|((word, number), wanted)| (&**word, *number) == *wanted);
        ensure!(same, "decided {decided:?}, not {wanted:?}");
        Ok(())
    }
}

const DECIDED: [(&str, u64); 3] = [("allow", 0), ("deny", 1), ("allow", 2)];

impl Scenario for ResumeRevoked {
    const NAME: &'static str = "resume after revoke";
    const PRINTS_AT_THE_END: bool = false;
    const SAMPLE: Option<usize> = Some(3);

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let execution = parked(place, GRANTS, 3)?;
        place.run(&["revoke", &execution, "read_file"])?.exits(exit::DONE)?;
        // Who reads once more sees another text.
        write(place, "two")?;
        Ok(Self { execution })
    }

    fn victim(&self) -> Vec<String> {
        victim(&self.execution)
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::SUSPENDED]
    }

    fn right_after(&self, place: &Place, _: &Ran, done: bool) -> Result<(), Failure> {
        self.decided(place, &DECIDED[..2])?;
        let pending = User::promises(place, true)?.len();
        ensure!(pending == 1 || !done, "it was said to wait, and {pending} promises are pending");
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        let report = place.run(&resume(&self.execution))?.exits(exit::SUSPENDED)?.json()?;
        let said = output(&report).strip_prefix(LOOKED).unwrap_or_default().to_owned();
        ensure!(said.starts_with("denied\n") && said.lines().count() == 2, "the guest says {report}");
        place.run(&["grant", &self.execution, "read_file"])?.exits(exit::DONE)?;
        let mut user = User::default();
        let promise = User::promises(place, true)?.pop().ok_or("it waits for nothing")?;
        user.resolve(place, promise["id"].as_str().unwrap_or_default(), &json!("yes"))?;
        place.run(&resume(&self.execution))?.exits(exit::DONE)?;
        settled(place, &self.execution, &format!("{LOOKED}{said}two\n"))?;
        self.decided(place, &DECIDED)?;
        ensure!(decisions(place, &self.execution)?.len() == DECIDED.len(), "not everything was decided");
        Ok(())
    }
}
