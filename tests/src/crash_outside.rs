//! Acts on the outside, killed at every durable call: never done twice unless a person says so, and never lost. What
//! may or may not have happened is in doubt, and a person is asked.

use std::cell::Cell;
use std::fs;

use serde_json::{Value, json};

use crate::crash::{Place, Resolved, User, acting_guest, exit};
use crate::crash_acts::Act;
use crate::crash_points::Scenario;
use crate::crash_trace::Call;
use crate::ensure;
use crate::fixture::{Failure, Ran, because};

/// A rule that has a person asked about every call of a capability.
#[must_use]
pub fn ask_rule(capability: &str) -> String {
    format!("[[rule]]\nname = \"careful\"\ncapability = \"{capability}\"\nthen = \"ask\"\n")
}

/// Writes a policy file, and gives the arguments that run a call of the guest under it.
pub fn run_arguments(place: &Place, policy: &str, call: &str) -> Result<Vec<String>, Failure> {
    Ok(["run".to_owned()].into_iter().chain(guest_arguments(place, policy, call)?).collect())
}

fn guest_arguments(place: &Place, policy: &str, call: &str) -> Result<[String; 5], Failure> {
    let path = place.path("policy.toml");
    fs::write(&path, format!("level = \"trusted\"\n{policy}")).map_err(because(path.display()))?;
    let guest = acting_guest()?;
    Ok([&*guest.to_string_lossy(), "--policy", &path.to_string_lossy(), "--invoke", call].map(Into::into))
}

/// Starts a call of the guest and leaves it at its first wait. Gives the execution and the promise.
pub fn start(place: &Place, policy: &str, call: &str) -> Result<(String, String), Failure> {
    User::start(place, &guest_arguments(place, policy, call)?)
}

/// The same, up to where what it asks is answered.
pub fn start_and_answer(place: &Place, policy: &str, call: &str) -> Result<String, Failure> {
    let (execution, promise) = start(place, policy, call)?;
    User::default().resolve(place, &promise, &json!("yes"))?;
    Ok(execution)
}

/// The text of a report's output.
pub fn output(report: &Value) -> &str {
    report["output"].as_str().unwrap_or_default()
}

/// The pending promises of a kind.
pub fn pending(place: &Place, kind: &str) -> Result<Vec<Value>, Failure> {
    let mut all = User::promises(place, true)?;
    all.retain(|promise| promise["id"].as_str().is_some_and(|id| id.starts_with(kind)));
    Ok(all)
}

/// The id of a promise.
pub fn id_of(promise: &Value) -> String {
    promise["id"].as_str().unwrap_or_default().to_owned()
}

/// What a person says to an `ask:`.
pub fn decision(promise: &Value, decision: &str) -> Result<Value, Failure> {
    let text = promise["param"]["data"].as_str().unwrap_or_default();
    let question: Value = serde_json::from_str(text).map_err(because(format!("what is asked: {promise}")))?;
    ensure!(question["digest"].is_string(), "it is bound to nothing: {question}");
    Ok(json!({ "decision": decision, "digest": question["digest"] }))
}

/// The journal of an execution.
pub fn journal(place: &Place, execution: &str) -> Result<Vec<Value>, Failure> {
    let ran = place.run(&["journal", execution, "--json"])?;
    let journal = ran.exits(exit::DONE)?.json()?;
    journal.as_array().cloned().ok_or_else(|| format!("no array\n{}", ran.report()).into())
}

/// The decisions about an execution, in order.
pub fn audit(place: &Place, execution: &str) -> Result<Vec<Value>, Failure> {
    let ran = place.run(&["journal", execution, "--audit"])?;
    let lines = ran.exits(exit::DONE)?.out();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).map_err(because(format!("a line of the audit: {line}"))))
        .collect()
}

/// What holds of every execution that is over: it repeats its outcome, and its journal gives the same once more.
pub fn settled(place: &Place, execution: &str, text: &str) -> Result<(), Failure> {
    place.check()?;
    let report = User::show(place, execution)?;
    ensure!(report["outcome"] == "completed", "it ended otherwise: {report}");
    ensure!(output(&report) == text, "its output is {:?}, not {text:?}", output(&report));
    ensure!(report["pending"] == json!([]), "it ended and waits: {report}");
    for step in journal(place, execution)? {
        ensure!(step["state"] == "delivered", "a step of an ended execution was not delivered: {step}");
    }
    let again = place.run(&["resume", execution, "--json"])?.exits(exit::DONE)?.json()?;
    ensure!(output(&again) == text, "resumed after its end it says {again}");
    place.run(&["replay", execution])?.exits(exit::DONE)?;
    Ok(())
}

/// An act that is about to be done, by an execution that has waited before or by a new one.
pub struct Case<A> {
    /// What is done.
    pub act: A,
    /// The execution, if there is one already.
    pub execution: Option<String>,
    /// What runs it.
    pub victim: Vec<String>,
    /// How many questions of the kind `ask:` there are in the end.
    asked: usize,
    /// How often it had happened right after the victim.
    times: Cell<usize>,
    /// Whether something was harmed already: the first time nothing is.
    harmed: Cell<bool>,
}

impl<A: Act> Case<A> {
    fn new(act: A, execution: Option<String>, victim: Vec<String>) -> Self {
        Self { act, execution, victim, asked: 0, times: Cell::new(0), harmed: Cell::new(false) }
    }

    /// By an execution that has waited, and has its answer.
    fn after_a_wait(place: &Place) -> Result<Self, Failure> {
        let act = A::prepare(place)?;
        let execution = start_and_answer(place, &act.grants(), &act.call(true))?;
        let victim = victim(&execution);
        Ok(Self::new(act, Some(execution), victim))
    }

    /// By a new one.
    fn fresh(place: &Place) -> Result<Self, Failure> {
        let act = A::prepare(place)?;
        // So that it is compiled.
        let call = "look(\"/none\", 1)";
        place.run(&run_arguments(place, "", call)?)?.exits(exit::DONE)?;
        let victim = run_arguments(place, &act.grants(), &act.call(false))?;
        Ok(Self::new(act, None, victim))
    }

    /// The execution, if there is one.
    fn execution(&self, place: &Place) -> Result<Option<String>, Failure> {
        if self.execution.is_some() {
            return Ok(self.execution.clone());
        }
        // The first one was there before.
        let mut created = User::list(place)?.split_off(1);
        ensure!(created.len() <= 1, "one run made {created:?}");
        Ok(created.pop().map(|one| one.id))
    }

    /// How far the journal says that the act has come.
    fn stage(&self, place: &Place, execution: &str) -> Result<String, Failure> {
        let journal = journal(place, execution)?;
        let step = journal.iter().find(|step| step["function"] == A::CAPABILITY);
        Ok(step.map_or("none", |step| step["state"].as_str().unwrap_or("?")).to_owned())
    }

    fn look(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
        let times = self.act.times(place)?;
        ensure!(times <= 1, "it has happened {times} times\n{}", victim.report());
        self.times.set(times);
        let execution = self.execution(place)?;
        let stage = execution.as_deref().map_or(Ok("none".into()), |id| self.stage(place, id))?;
        let consistent = match &*stage {
            "none" | "asked" => times == 0 && !done,
            "admitted" => !done,
            "completed" | "delivered" => times == 1 || may_have_failed(place, execution.as_deref())?,
            _ => false,
        };
        ensure!(consistent, "it has happened {times} times, and the journal says {stage} (done: {done})");
        Ok(())
    }

    /// What the user does then: resumes, answers what is in doubt in each way, and looks.
    fn conclude(&self, place: &Place, victim: &Ran) -> Result<(), Failure> {
        let may_fail = self.harmed.replace(true) && victim.status.code().is_some();
        let before = self.times.get();
        let Some(execution) = self.execution(place)? else {
            ensure!(before == 0, "it has happened, and there is no execution");
            place.run(&self.victim)?.exits(exit::DONE)?;
            let execution = self.execution(place)?.ok_or("a run left no execution")?;
            return self.over(place, &execution, A::SAYS, 1);
        };
        let stage = self.stage(place, &execution)?;
        let ran = place.run(&resume(&execution))?;
        match (&*stage, A::IDEMPOTENT && self.asked == 0) {
            ("none" | "asked", _) | ("admitted", true) => {
                ran.exits(exit::DONE)?;
                self.over(place, &execution, A::SAYS, 1)
            }
            ("admitted", false) => {
                ran.exits(exit::SUSPENDED)?;
                ensure!(self.act.times(place)? == before, "it was done again in silence\n{}", ran.report());
                self.doubt(place, &execution)
            }
            _ => {
                ran.exits(exit::DONE)?;
                let report = ran.json()?;
                if may_fail && output(&report).starts_with("failed\n") {
                    // Only if an error was put into the act's own files.
                    let honest = before == 0 || output(&report).contains("may have happened");
                    ensure!(honest, "it has happened, and the guest was told otherwise\n{}", ran.report());
                    ensure!(self.act.times(place)? == before, "it was done again in silence\n{}", ran.report());
                    return settled(place, &execution, output(&report));
                }
                self.over(place, &execution, A::SAYS, before)
            }
        }
    }

    fn over(&self, place: &Place, execution: &str, says: &str, times: usize) -> Result<(), Failure> {
        settled(place, execution, says)?;
        let now = self.act.times(place)?;
        ensure!(now == times, "it has happened {now} times, not {times}, and the guest says {says:?}");
        self.act.is_tidy(place)?;
        let asks = User::promises(place, false)?.iter().filter(|promise| id_of(promise).starts_with("ask:")).count();
        ensure!(asks == self.asked, "a person was asked {asks} times, not {}", self.asked);
        Ok(())
    }

    /// In doubt: it waits for as long as it takes, and each answer is followed.
    fn doubt(&self, place: &Place, execution: &str) -> Result<(), Failure> {
        let id = in_doubt(place, execution)?;
        // Nothing answers it by default.
        place.run(&resume(execution))?.exits(exit::SUSPENDED)?;
        ensure!(in_doubt(place, execution)? == id, "the doubt has another name now");
        place.save("doubt")?;
        let told = json!({ "done": A::told() });
        let fates = [
            (told, A::SAYS_IF_TOLD, 0, "done"),
            (json!("again"), A::SAYS, 1, "again"),
            (json!({ "fail": "it is lost" }), "failed\nit is lost\n", 0, "fail"),
        ];
        for (fate, says, more, verdict) in fates {
            let wrong = |failure| because(format!("in doubt, answered {fate}"))(failure);
            place.restore("doubt")?;
            let before = self.act.times(place)?;
            let resolved = User::default().resolve(place, &id, &fate)?;
            ensure!(resolved == Resolved::Won, "{fate} does not count");
            place.run(&resume(execution))?.exits(exit::DONE).map_err(wrong)?;
            self.over(place, execution, says, before + more).map_err(wrong)?;
            let audit = audit(place, execution)?;
            let said = |verdict: &str| audit.iter().filter(|line| line["verdict"] == verdict).count();
            ensure!(said("doubt") == 1 && said(verdict) == 1, "the audit says {audit:?}");
        }
        Ok(())
    }
}

/// The arguments of a victim that resumes an execution: it prints what the guest says, once that is durable.
#[must_use]
pub fn victim(execution: &str) -> Vec<String> {
    ["resume", execution].map(Into::into).to_vec()
}

/// The arguments that resume an execution and report.
#[must_use]
pub fn resume(execution: &str) -> Vec<String> {
    ["resume", execution, "--json"].map(Into::into).to_vec()
}

/// The one promise for which an execution waits: a `doubt:` without a deadline.
pub fn in_doubt(place: &Place, execution: &str) -> Result<String, Failure> {
    let all = User::promises(place, true)?;
    let [doubt] = &*all else { return Err(format!("not one promise is pending: {all:?}").into()) };
    let id = id_of(doubt);
    ensure!(id.starts_with(&format!("doubt:{execution}:")), "what is pending is {doubt}");
    // In some thousand years.
    ensure!(doubt["timeoutAt"].as_u64().is_some_and(|at| at > 1 << 50), "it has a deadline: {doubt}");
    Ok(id)
}

/// Whether a guest was told, or may still be told, that its act failed.
fn may_have_failed(place: &Place, execution: Option<&str>) -> Result<bool, Failure> {
    let report = User::show(place, execution.unwrap_or_default())?;
    Ok(report["outcome"] != "completed" || output(&report).starts_with("failed\n"))
}

macro_rules! like {
    () => {
        const PRINTS_AT_THE_END: bool = false;
        const SAMPLE: Option<usize> = Some(3);
        const ALSO: &'static [&'static str] = A::ALSO;

        fn begin(&self, _: &Place) -> Result<(), Failure> {
            self.0.act.begin()
        }

        fn victim(&self) -> Vec<String> {
            self.0.victim.clone()
        }

        fn claims(&self) -> &'static [i32] {
            &[exit::DONE]
        }

        /// The threads take turns with a connection.
        fn is_hidden(&self, call: &Call) -> bool {
            A::ALSO.contains(&&*call.syscall)
        }

        fn is_told(&self, call: &Call) -> bool {
            A::is_told(call)
        }

        fn right_after(&self, place: &Place, victim: &Ran, done: bool) -> Result<(), Failure> {
            self.0.look(place, victim, done)
        }

        fn finish(&self, place: &Place, victim: &Ran) -> Result<(), Failure> {
            self.0.conclude(place, victim)
        }
    };
}

/// `resume` up to the act and over it.
pub struct Waited<A>(Case<A>);

impl<A: Act> Scenario for Waited<A> {
    const NAME: &'static str = A::NAME;
    like!();

    fn prepare(place: &Place) -> Result<Self, Failure> {
        Case::after_a_wait(place).map(Self)
    }
}

/// `run` of a guest that begins with the act: its execution is made durable with it.
pub struct Fresh<A>(Case<A>);

impl<A: Act> Scenario for Fresh<A> {
    const NAME: &'static str = A::NAME;
    like!();

    fn prepare(place: &Place) -> Result<Self, Failure> {
        Case::fresh(place).map(Self)
    }
}

/// `resume` of an act that a person has approved.
pub struct Approved<A>(Case<A>);

impl<A: Act> Approved<A> {
    /// An execution that waits for a decision.
    fn asked(place: &Place) -> Result<(Case<A>, Value), Failure> {
        let act = A::prepare(place)?;
        let (execution, _) = start(place, &(act.grants() + &ask_rule(A::CAPABILITY)), &act.call(false))?;
        let ask = pending(place, "ask:")?.pop().ok_or("nobody is asked")?;
        let victim = victim(&execution);
        let case = Case { asked: 1, ..Case::new(act, Some(execution), victim) };
        Ok((case, ask))
    }
}

impl<A: Act> Scenario for Approved<A> {
    const NAME: &'static str = A::NAME;
    like!();

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let (case, ask) = Self::asked(place)?;
        User::default().resolve(place, &id_of(&ask), &decision(&ask, "once")?)?;
        Ok(Self(case))
    }
}

/// `run` of a guest that begins with an act about which a person is asked.
pub struct Asking<A>(Case<A>);

impl<A: Act> Scenario for Asking<A> {
    const NAME: &'static str = A::NAME;
    const SAMPLE: Option<usize> = Some(3);

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let mut case = Case::<A>::fresh(place)?;
        case.victim = run_arguments(place, &(case.act.grants() + &ask_rule(A::CAPABILITY)), &case.act.call(false))?;
        case.asked = 1;
        Ok(Self(case))
    }

    fn begin(&self, _: &Place) -> Result<(), Failure> {
        self.0.act.begin()
    }

    fn victim(&self) -> Vec<String> {
        self.0.victim.clone()
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::SUSPENDED]
    }

    fn right_after(&self, place: &Place, _: &Ran, done: bool) -> Result<(), Failure> {
        ensure!(self.0.act.times(place)? == 0, "it was done, and nobody has allowed it");
        let executions = User::list(place)?.len() - 1;
        let asks = pending(place, "ask:")?.len();
        ensure!(asks == executions && asks <= 1, "{executions} executions ask {asks} times");
        ensure!(asks == 1 || !done, "it was said to ask, and does not");
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        if self.0.execution(place)?.is_none() {
            place.run(&self.0.victim)?.exits(exit::SUSPENDED)?;
        }
        let execution = self.0.execution(place)?.ok_or("there is no execution")?;
        let ask = pending(place, "ask:")?.pop().ok_or("nobody is asked")?;
        // Not without a decision.
        place.run(&resume(&execution))?.exits(exit::SUSPENDED)?;
        ensure!(self.0.act.times(place)? == 0, "it was done, and nobody has allowed it");
        User::default().resolve(place, &id_of(&ask), &decision(&ask, "once")?)?;
        place.run(&resume(&execution))?.exits(exit::DONE)?;
        self.0.over(place, &execution, A::SAYS, 1)
    }
}

/// `promise resolve` of an `ask:`.
pub struct Approving<A> {
    case: Case<A>,
    ask: String,
    decision: Value,
}

impl<A: Act> Scenario for Approving<A> {
    const NAME: &'static str = A::NAME;
    const SAMPLE: Option<usize> = Some(3);

    fn prepare(place: &Place) -> Result<Self, Failure> {
        let (case, ask) = Approved::<A>::asked(place)?;
        Ok(Self { case, decision: decision(&ask, "once")?, ask: id_of(&ask) })
    }

    fn begin(&self, _: &Place) -> Result<(), Failure> {
        self.case.act.begin()
    }

    fn victim(&self) -> Vec<String> {
        let mut arguments = User::resolution(&self.ask, &self.decision);
        arguments.push("--json".into());
        arguments
    }

    fn claims(&self) -> &'static [i32] {
        &[exit::DONE]
    }

    fn right_after(&self, place: &Place, _: &Ran, done: bool) -> Result<(), Failure> {
        let open = pending(place, "ask:")?;
        ensure!(open.is_empty() || (!done && id_of(&open[0]) == self.ask), "acknowledged (done: {done}): {open:?}");
        ensure!(self.case.act.times(place)? == 0, "it was done by whoever approved it");
        Ok(())
    }

    fn finish(&self, place: &Place, _: &Ran) -> Result<(), Failure> {
        let execution = self.case.execution(place)?.ok_or("there is no execution")?;
        if !pending(place, "ask:")?.is_empty() {
            place.run(&resume(&execution))?.exits(exit::SUSPENDED)?;
            ensure!(self.case.act.times(place)? == 0, "it was done, and nobody has allowed it");
            User::default().resolve(place, &self.ask, &self.decision)?;
        }
        place.run(&resume(&execution))?.exits(exit::DONE)?;
        self.case.over(place, &execution, A::SAYS, 1)
    }
}
