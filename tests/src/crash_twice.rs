//! Acts that are killed more than once, and two acts that look alike.

use serde_json::{Value, json};

use crate::crash::{Place, User, exit};
use crate::crash_acts::{Act, Counter, Post};
use crate::crash_outside::{
    ask_rule, decision, id_of, in_doubt, journal, output, pending, resume, settled, start, start_and_answer, victim,
};
use crate::crash_points::Scenario;
use crate::crash_trace::{Aim, Call, Harm, STDOUT, trace};
use crate::ensure;
use crate::fixture::{Failure, Ran};

/// The log of the database of a place, to be aimed at.
fn log(place: &Place, syscall: &str, n: usize) -> Aim {
    Aim { syscall: syscall.into(), n, path: Some(place.state().join("parole.db-wal")) }
}

/// An act that a person has done again: `resume` after that answer.
pub struct Again<A> {
    act: A,
    execution: String,
    doubt: String,
}

impl<A: Act> Scenario for Again<A> {
    const NAME: &'static str = A::NAME;
    const PRINTS_AT_THE_END: bool = false;
    const SAMPLE: Option<usize> = Some(3);
    const ALSO: &'static [&'static str] = A::ALSO;

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let act = A::prepare(place)?;
        let execution = start_and_answer(place, &act.grants(), &act.call(true))?;
        // Killed when it records what came of it: after the commits of the lease and of the admission.
        place.save("calm")?;
        let calm = trace(place, &resume(&execution), None)?;
        let log_calls = calm.calls.iter().filter(|seen| seen.call.path.ends_with("parole.db-wal"));
        let (mut commits, mut writes) = (0, 0);
        for seen in log_calls {
            if commits < 2 {
                commits += usize::from(seen.call.syscall == "fdatasync");
                writes += usize::from(seen.call.syscall == "pwrite64");
            }
        }
        place.restore("calm")?;
        act.begin()?;
        let killed = trace(place, &resume(&execution), Some((Harm::Kill, &log(place, "pwrite64", writes + 1))))?;
        ensure!(killed.ran.status.code().is_none(), "it was not killed\n{}", killed.ran.report());
        ensure!(act.times(place)? == 1, "it was killed before it had happened");
        place.run(&resume(&execution))?.exits(exit::SUSPENDED)?;
        let doubt = in_doubt(place, &execution)?;
        User::default().resolve(place, &doubt, &json!("again"))?;
        Ok(Self { act, execution, doubt })
    }

    fn begin(&self, _: &Place) -> Result<(), Failure> {
        self.act.begin()
    }

    fn victim(&self) -> Vec<String> {
        victim(&self.execution)
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn is_hidden(&self, call: &Call) -> bool {
        A::ALSO.contains(&&*call.syscall)
    }

    fn is_told(&self, call: &Call) -> bool {
        A::is_told(call)
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        let times = self.act.times(place)?;
        // Of what lies in the place the first one is still there.
        let most = 1 + self.first();
        ensure!(times <= most && (times == most || !done), "it has happened {times} times\n{}", victim.report());
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        let before = self.act.times(place)?;
        let ran = place.run(&resume(&self.execution))?;
        match ran.status.code() {
            Some(exit::DONE) => {
                settled(place, &self.execution, A::SAYS)?;
                let times = self.act.times(place)?;
                ensure!(times == 1 + self.first(), "said to be done again, it has happened {times} times");
            }
            _ => {
                // A new doubt about the second attempt: the old answer is not used twice.
                ran.exits(exit::SUSPENDED)?;
                let doubt = in_doubt(place, &self.execution)?;
                ensure!(doubt != self.doubt, "the same doubt again: {doubt}");
                ensure!(self.act.times(place)? == before, "it was done again in silence");
                User::default().resolve(place, &doubt, &json!({ "done": A::told() }))?;
                place.run(&resume(&self.execution))?.exits(exit::DONE)?;
                settled(place, &self.execution, A::SAYS_IF_TOLD)?;
                ensure!(self.act.times(place)? == before, "told to be done, it was done again");
            }
        }
        Ok(())
    }
}

impl<A: Act> Again<A> {
    /// How often it had happened when it was answered: what is outside is forgotten then.
    fn first(&self) -> usize {
        usize::from(A::IN_THE_PLACE)
    }
}

/// Killed again and again, each time at a later call; a person has it done again whenever it is in doubt. Gives how
/// often it was killed and how often somebody had to be asked.
pub fn again_and_again<A: Act>() -> Result<(usize, usize), Failure> {
    const ROUNDS: usize = 12;
    let place = Place::new()?;
    let act = A::prepare(&place)?;
    let execution = start_and_answer(&place, &act.grants(), &act.call(true))?;
    act.begin()?;
    let (mut kills, mut agains) = (0, 0);
    for round in 0..ROUNDS {
        // At the first to the third commit, on the way in and on the way out.
        let aim = log(&place, ["pwrite64", "fdatasync"][round % 2], 1 + (round / 2) % 3);
        let killed = trace(&place, &resume(&execution), Some((Harm::Kill, &aim)))?;
        kills += usize::from(killed.ran.status.code().is_none());
        place.check()?;
        let times = act.times(&place)?;
        ensure!(times <= 1 + agains, "it has happened {times} times, and {agains} times somebody had it done again");
        let open = pending(&place, "doubt:")?;
        ensure!(open.is_empty() || !A::IDEMPOTENT, "what may be repeated is in doubt: {open:?}");
        if let Some(doubt) = open.first() {
            User::default().resolve(&place, &id_of(doubt), &json!("again"))?;
            agains += 1;
        }
    }
    while place.run(&resume(&execution))?.status.code() == Some(exit::SUSPENDED) {
        let doubt = in_doubt(&place, &execution)?;
        User::default().resolve(&place, &doubt, &json!("again"))?;
        agains += 1;
        ensure!(agains <= 2 * ROUNDS, "it does not come to an end");
    }
    settled(&place, &execution, A::SAYS)?;
    let times = act.times(&place)?;
    ensure!(
        (1..=1 + agains).contains(&times),
        "it has happened {times} times, and {agains} times somebody had it done again"
    );
    Ok((kills, agains))
}

/// Two identical calls, about which a person is asked; the first question is decided.
pub struct Two {
    server: Counter,
    execution: String,
    ask: Value,
}

impl Two {
    fn prepare(place: &Place, word: &str) -> Result<Self, Failure> {
        let act = Post::<false>::prepare(place)?;
        let policy = act.grants() + &ask_rule("fetch");
        let call = act.call(false).replacen("post", "post-twice", 1);
        let (execution, _) = start(place, &policy, &call)?;
        let ask = pending(place, "ask:")?.pop().ok_or("nobody is asked")?;
        User::default().resolve(place, &id_of(&ask), &decision(&ask, word)?)?;
        Ok(Self { server: act.server, execution, ask })
    }

    /// Resumes, with whatever is in doubt told to be done, for as long as that is all that it waits for.
    fn go_on(&self, place: &Place) -> Result<Ran, Failure> {
        loop {
            let ran = place.run(&resume(&self.execution))?;
            match pending(place, "doubt:")?.pop() {
                Some(doubt) => {
                    let done = json!({ "done": Post::<false>::told() });
                    User::default().resolve(place, &id_of(&doubt), &done)?;
                }
                None => return Ok(ran),
            }
        }
    }

    /// The steps that were taken on.
    fn admitted(&self, place: &Place) -> Result<usize, Failure> {
        let steps = journal(place, &self.execution)?;
        Ok(steps.iter().filter(|step| step["function"] == "fetch" && step["state"] != "asked").count())
    }
}

macro_rules! two {
    () => {
        const PRINTS_AT_THE_END: bool = false;
        const SAMPLE: Option<usize> = Some(3);
        const ALSO: &'static [&'static str] = <Post<false>>::ALSO;

        fn begin(&self, _: &Place) -> Result<(), Failure> {
            self.0.server.forget();
            Ok(())
        }

        fn victim(&self) -> Vec<String> {
            victim(&self.0.execution)
        }

        /// Its two lines may be written by two threads: then each is the first of its own.
        fn is_hidden(&self, call: &Call) -> bool {
            call.path == STDOUT || Self::ALSO.contains(&&*call.syscall)
        }
    };
}

/// Approved once: the second call is another one, and is asked about again.
pub struct OnceOfTwo(Two);

impl Scenario for OnceOfTwo {
    const NAME: &'static str = "two calls, one approval";
    two!();

    fn prepare(place: &Place) -> Result<Self, Failure> {
        Two::prepare(place, "once").map(Self)
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::SUSPENDED]
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        let sent = self.0.server.all()?.len();
        ensure!(sent <= 1 && (sent == 1 || !done), "{sent} requests, one was allowed\n{}", victim.report());
        ensure!(sent <= self.0.admitted(place)?, "sent before it was taken on");
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        let ran = self.0.go_on(place)?;
        ran.exits(exit::SUSPENDED)?;
        let before = self.0.server.all()?.len();
        ensure!(before <= 1, "one was allowed, {before} were sent");
        let ask = pending(place, "ask:")?.pop().ok_or("the second call is not asked about")?;
        ensure!(id_of(&ask) != id_of(&self.0.ask), "it is the same question again");
        // The decision about the first is none about the second.
        let old = decision(&self.0.ask, "once")?;
        place.run(&User::resolution(&id_of(&ask), &old))?.exits(exit::USAGE)?;
        let first = output(&ran.json()?).to_owned();
        User::default().resolve(place, &id_of(&ask), &decision(&ask, "deny")?)?;
        place.run(&resume(&self.0.execution))?.exits(exit::DONE)?;
        settled(place, &self.0.execution, &format!("{first}denied\na person said no\n"))?;
        ensure!(self.0.server.all()?.len() == before, "what was denied was sent");
        Ok(())
    }
}

/// Approved for the execution: the second call goes by the same approval, and each is sent once.
pub struct BothOfTwo(Two);

impl Scenario for BothOfTwo {
    const NAME: &'static str = "two calls, one approval for both";
    two!();

    fn prepare(place: &Place) -> Result<Self, Failure> {
        Two::prepare(place, "execution").map(Self)
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        let sent = self.0.server.all()?.len();
        ensure!(sent <= 2 && (sent == 2 || !done), "{sent} requests\n{}", victim.report());
        ensure!(sent <= self.0.admitted(place)?, "sent before it was taken on");
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        let ran = self.0.go_on(place)?;
        ran.exits(exit::DONE)?;
        let asks = User::promises(place, false)?.iter().filter(|one| id_of(one).starts_with("ask:")).count();
        ensure!(asks == 1, "a person was asked {asks} times");
        let report = ran.json()?;
        let (sent, told) = (self.0.server.all()?.len(), output(&report).matches("told\n").count());
        let taken = output(&report).matches("taken\n").count();
        ensure!(told + taken == 2 && told <= 1, "the guest says {report}");
        ensure!((taken..=2).contains(&sent), "{sent} requests, and the guest says {report}");
        settled(place, &self.0.execution, output(&report))
    }
}
