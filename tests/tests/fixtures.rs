//! Escape fixtures: one test for each folder of `tests/fixtures`, and one for the rules that they follow.
//!
//! What deals with directories runs a second time under strace with an `openat2` that fails
//! (`NAME@no-openat2`): the fault that a newer system call hides is there on older kernels.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use parole_tests::ensure;
use parole_tests::fixture::{self, Fixture, Outcome, Variant, World};

/// In how many lines a guest may differ from that of its twin.
const FEW: usize = 6;

/// Cases that fixtures stand for. Other tests name theirs in their own names; N05 is in the URL corpus. D11 has none: this
/// version has no API of its own that a guest could call.
#[rustfmt::skip]
const CASES: &[&str] = &[
    "L01", "L02", "L03", "L04", "L05", "L06", "L08", "L09", "L10", "L11", "L12",
    "A01", "A02", "A03", "A04", "A05", "A06", "A07", "A08", "A09", "A10", "A11", "A12", "A13",
    "F01", "F02", "F03", "F04", "F05", "F06", "F07", "F08", "F09", "F10", "F11", "F12", "F14",
    "R01", "R02", "R03", "R04", "R05", "R06", "R07", "R08", "R09", "R10", "R11", "R12", "R13", "R14", "R17", "R18",
    "P01", "P02", "P03", "P04", "P06", "U01", "U04", "C07", "C08",
    "N01", "N02", "N03", "N04", "N06", "N07", "N08", "N09", "N10", "N11", "N12", "N13", "N14", "N15",
];

fn main() -> ExitCode {
    match all() {
        Ok(conclusion) => conclusion.exit_code(),
        Err(failure) => {
            drop(writeln!(std::io::stderr(), "{failure}"));
            ExitCode::FAILURE
        }
    }
}

fn all() -> Result<Conclusion, fixture::Failure> {
    let fixtures = fixture::load_all()?;
    let traced = fixture::strace().is_some();
    if !traced {
        drop(writeln!(std::io::stderr(), "strace IS MISSING: nothing runs without openat2. Install strace."));
    }
    let mut trials = vec![];
    for fixture in fixtures.clone() {
        for variant in fixture.variants() {
            let (name, ignored) = match variant {
                Variant::Plain => (fixture.name.clone(), false),
                Variant::NoOpenat2 => (format!("{}@no-openat2", fixture.name), !traced),
            };
            let fixture = fixture.clone();
            let test = move || fixture::run(&fixture, variant).map_err(Failed::from);
            trials.push(Trial::test(name, test).with_ignored_flag(ignored));
        }
    }
    trials.push(Trial::test("harness", || harness().map_err(Failed::from)));
    trials.push(Trial::test("rules", move || rules(&fixtures).map_err(Failed::from)));
    Ok(libtest_mimic::run(&Arguments::from_args(), trials))
}

/// The checks find what they look for: a guest that is granted what no guest may see, and one that may write
/// where nothing may change.
fn harness() -> Result<(), fixture::Failure> {
    let world = World::plant()?;
    world.write_policy(
        r#"
level = "standard"

[grant.read_file]
dirs = { "/data" = "./outside" }

[grant.write_file]
dirs = { "/out" = "./R" }
"#,
    )?;
    let before = world.tree(&[])?;
    ensure!(world.tree(&[])?.difference(&before).is_none(), "nothing has changed yet");
    let seen = world.invoke("read-granted", "read(\"/data/secret.txt\")");
    let Err(failure) = seen else {
        return Err("it does not notice the canary in the output".into());
    };
    ensure!(failure.to_string().contains("the canary is in stdout"), "something else is wrong: {failure}");
    ensure!(world.state_is_clean().is_err(), "it does not notice the canary in what is kept");
    world.invoke("read-granted", "write(\"/out/keep.txt\", \"kept\")")?.exits(0)?;
    ensure!(world.tree(&[])?.difference(&before).is_some(), "it does not notice what has changed");
    Ok(())
}

/// What every fixture keeps to, whatever it is about.
fn rules(fixtures: &[Fixture]) -> Result<(), fixture::Failure> {
    let by_name: BTreeMap<&str, &Fixture> = fixtures.iter().map(|fixture| (fixture.name.as_str(), fixture)).collect();
    let mut guests = BTreeMap::new();
    for fixture in fixtures {
        let name = &fixture.name;
        fixture.expect.validate().map_err(|failure| format!("{name}: {failure}"))?;
        let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        ensure!(plain, "{name}: a name has lower-case letters, digits and dashes");
        files(fixture)?;
        let bytes = fs::read(&fixture.guest).map_err(|error| format!("{name}: {error}"))?;
        if let Some(other) = guests.insert(bytes, &fixture.guest) {
            ensure!(*other == fixture.guest, "{name}: its guest is a copy of {}; use `guest = …`", other.display());
        }
        if let Some(twin) = &fixture.expect.twin {
            let twin = by_name.get(twin.as_str()).ok_or_else(|| format!("{name}: there is no twin {twin}"))?;
            is_twin(fixture, twin)?;
        }
    }
    let had: BTreeSet<&str> =
        fixtures.iter().flat_map(|fixture| fixture.expect.case.all()).map(String::as_str).collect();
    let missing: Vec<_> = CASES.iter().filter(|case| !had.contains(*case)).collect();
    ensure!(missing.is_empty(), "no fixture stands for {missing:?}");
    Ok(())
}

fn files(fixture: &Fixture) -> Result<(), fixture::Failure> {
    let entries = fs::read_dir(&fixture.dir).map_err(|error| format!("{}: {error}", fixture.name))?;
    for entry in entries.filter_map(Result::ok) {
        let file = entry.file_name();
        let guest = fixture.expect.guest.is_none() && Some(file.as_os_str()) == fixture.guest.file_name();
        let wit = fixture.expect.wit.as_ref().is_some_and(|wit| file == **wit);
        let known = file == "expect.toml" || file == "policy.toml" || guest || wit;
        ensure!(known, "{}: nothing uses {}", fixture.name, file.display());
    }
    Ok(())
}

/// A refusal says something only if the same guest gets its way in another setting. Where no policy lets it
/// through, its twin's guest is the same but for the few lines that are the attack.
fn is_twin(fixture: &Fixture, twin: &Fixture) -> Result<(), fixture::Failure> {
    let (name, other) = (&fixture.name, &twin.name);
    ensure!(twin.expect.outcome == Some(Outcome::Completed), "{name}: its twin {other} does not complete");
    ensure!(!twin.expect.is_refusal(), "{name}: its twin {other} is a refusal itself");
    if twin.guest != fixture.guest {
        let differ = different_lines(fixture, twin)?;
        ensure!(differ <= FEW, "{name}: the guest of its twin {other} differs in {differ} lines");
        return Ok(());
    }
    let policy = |fixture: &Fixture| fs::read(fixture.dir.join("policy.toml")).unwrap_or_default();
    let setup = |fixture: &Fixture| {
        let expect = &fixture.expect;
        (policy(fixture), expect.invoke.clone(), expect.stdin.clone(), expect.answers.clone())
    };
    ensure!(setup(twin) != setup(fixture), "{name}: its twin {other} is the same in everything");
    Ok(())
}

fn different_lines(fixture: &Fixture, twin: &Fixture) -> Result<usize, fixture::Failure> {
    let lines = |fixture: &Fixture| {
        let text = fs::read_to_string(&fixture.guest).map_err(|error| format!("{}: {error}", fixture.name))?;
        let code = text.lines().filter(|line| !line.trim_start().starts_with(";;"));
        Ok::<BTreeSet<String>, fixture::Failure>(code.map(str::to_owned).collect())
    };
    let (hostile, harmless) = (lines(fixture)?, lines(twin)?);
    Ok(hostile.difference(&harmless).count().max(harmless.difference(&hostile).count()))
}
