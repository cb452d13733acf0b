//! Between the request and the answer: the other side has it, and the process is gone.

use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::crash::{Place, User, exit};
use crate::crash_acts::{Act as _, Counter, Post};
use crate::crash_outside::{
    ask_rule, audit, decision, id_of, in_doubt, output, pending, resume, settled, start, start_and_answer,
};
use crate::ensure;
use crate::fixture::{Failure, because};

/// A process that is killed in the end, whatever comes.
struct Victim(Child);

impl Victim {
    /// Starts it and kills it when the server has so many requests.
    fn killed_at(place: &Place, arguments: &[String], server: &Counter, requests: usize) -> Result<(), Failure> {
        let mut command = place.parole(arguments)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut victim = Self(command.spawn().map_err(because("starting the program"))?);
        let until = Instant::now() + Duration::from_secs(20);
        while server.now().len() < requests {
            ensure!(Instant::now() < until, "nothing is sent");
            thread::sleep(Duration::from_millis(1));
        }
        let ended = victim.0.try_wait().map_err(because("waiting"))?;
        ensure!(ended.is_none(), "it ended without an answer: {ended:?}");
        Ok(())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

/// The server has the request and holds its answer back: the process is killed, more than once.
pub fn held<const IDEMPOTENT: bool>() -> Result<(), Failure> {
    let place = Place::new()?;
    let act = <Post<IDEMPOTENT>>::prepare(&place)?;
    let execution = start_and_answer(&place, &act.grants(), &act.call(true))?;
    let resume = resume(&execution);
    act.server.hold(true);
    Victim::killed_at(&place, &resume, &act.server, 1)?;
    place.check()?;
    if IDEMPOTENT {
        // Again, and again with the same key.
        Victim::killed_at(&place, &resume, &act.server, 2)?;
        act.server.hold(false);
        place.run(&resume)?.exits(exit::DONE)?;
        let keys = act.server.all()?;
        let same = keys.len() == 3 && keys.iter().all(|key| *key == keys[0] && key.contains(&execution));
        ensure!(same, "the keys of three attempts are {keys:?}");
        return settled(&place, &execution, "taken\n");
    }
    // In doubt from now on, whether the other side answers or not.
    for holds in [true, false] {
        act.server.hold(holds);
        place.run(&resume)?.exits(exit::SUSPENDED)?;
    }
    let first = in_doubt(&place, &execution)?;
    ensure!(act.server.all()?.len() == 1, "it was sent again in silence");
    // What cannot be is not taken for an answer.
    for wrong in [json!({ "done": { "status": 201 } }), json!({ "done": null }), json!("done"), json!({ "again": 1 })] {
        place.run(&User::resolution(&first, &wrong))?.exits(exit::USAGE)?;
    }
    ensure!(in_doubt(&place, &execution)? == first, "a wrong answer has changed something");
    User::default().resolve(&place, &first, &json!("again"))?;
    act.server.hold(true);
    Victim::killed_at(&place, &resume, &act.server, 2)?;
    // The `again` is used up.
    act.server.hold(false);
    place.run(&resume)?.exits(exit::SUSPENDED)?;
    let second = in_doubt(&place, &execution)?;
    ensure!(second != first, "the same doubt once more");
    ensure!(act.server.all()?.len() == 2, "one `again` was used twice");
    User::default().resolve(&place, &second, &json!("again"))?;
    place.run(&resume)?.exits(exit::DONE)?;
    settled(&place, &execution, "taken\n")?;
    ensure!(act.server.all()?.len() == 3, "two times again are {} requests", act.server.all()?.len());
    let audit = audit(&place, &execution)?;
    let verdicts: Vec<&Value> =
        audit.iter().filter(|line| line["capability"] == "fetch").map(|line| &line["verdict"]).collect();
    let doubts = verdicts.iter().filter(|verdict| **verdict == "doubt").count();
    let agains = verdicts.iter().filter(|verdict| **verdict == "again").count();
    ensure!((doubts, agains) == (2, 2), "the audit says {verdicts:?}");
    Ok(())
}

/// Between the approval and its use the grant is taken away: what counts is what holds when the call is made.
pub fn no_grant() -> Result<(), Failure> {
    let place = Place::new()?;
    let act = <Post<false>>::prepare(&place)?;
    let (execution, _) = start(&place, &(act.grants() + &ask_rule("fetch")), &act.call(false))?;
    let ask = pending(&place, "ask:")?.pop().ok_or("nobody is asked")?;
    User::default().resolve(&place, &id_of(&ask), &decision(&ask, "once")?)?;
    place.run(&["revoke", &execution, "fetch"])?.exits(exit::DONE)?;
    let report = place.run(&resume(&execution))?.exits(exit::DONE)?.json()?;
    ensure!(output(&report).starts_with("denied\n"), "the guest says {report}");
    ensure!(act.server.all()?.is_empty(), "it was sent under a grant that is gone");
    settled(&place, &execution, output(&report))
}
