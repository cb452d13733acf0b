//! What a write that was cut short leaves in a granted directory, and who takes it away.

use std::path::{Path, PathBuf};

use parole_durable::Hub;
use parole_policy::Flags;
use parole_runtime::{CATALOGUE, Error, ExecutionId, RunOptions, Runtime, SecurityPolicy};

use super::{guest, suspended};

struct Place {
    scratch: tempfile::TempDir,
    runtime: Runtime,
}

impl Place {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join("data")).unwrap();
        std::fs::create_dir(scratch.path().join("out")).unwrap();
        std::fs::write(scratch.path().join("data/in.txt"), "abc").unwrap();
        let runtime = Runtime::builder().state_dir(scratch.path().join("state")).open().unwrap();
        Self { scratch, runtime }
    }

    /// An execution whose write is asked about, with the file that a crash would have left.
    fn cut_short(&self) -> (ExecutionId, PathBuf) {
        let policy = "[grant.read_file]\ndirs = { \"/data\" = \"data\" }\n[grant.write_file]\ndirs = { \"/out\" = \"out\" }\n\
                      [[rule]]\nname = \"writes\"\ncapability = \"write_file\"\nthen = \"ask\"\n";
        let policy = SecurityPolicy::parse(policy, self.scratch.path(), &CATALOGUE).unwrap();
        let report = self.runtime.blocking().run(guest("prebuilt/files.wasm"), policy, RunOptions::default()).unwrap();
        suspended(&report);
        let hub = Hub::sqlite(&self.scratch.path().join("state")).unwrap();
        let record = hub.execution(report.execution).unwrap().unwrap();
        let steps = hub.steps(report.execution, 0, 1_000).unwrap();
        let step = steps.iter().find(|step| step.function == "write_file").unwrap();
        let key = record.secret.promise_id("write_file", report.execution, step.number);
        let left = self.out().join(format!(".parole-{}.tmp", key.as_str().rsplit(':').next().unwrap()));
        std::fs::write(&left, "half").unwrap();
        (report.execution, left)
    }

    fn out(&self) -> PathBuf {
        self.scratch.path().join("out")
    }

    fn revoke(&self, id: ExecutionId) {
        let flags = Flags { allow_write: vec!["/out".to_owned()], ..Flags::default() };
        let change = |policy: &SecurityPolicy| {
            let changed = policy.revoked_by(&flags, &[], Path::new("/"), &CATALOGUE);
            changed.map_err(|error| Error::Usage(error.to_string()))
        };
        self.runtime.blocking().regrant(id, change, "{}", "test").unwrap();
    }
}

/// A file of another execution, and one of somebody else, stay.
fn only_the_others(place: &Place, other: &Path) {
    let mut left: Vec<_> = place.out().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    left.sort();
    let mut expected = vec![other.to_owned(), place.out().join(".parole-of-nobody.tmp")];
    expected.sort();
    assert_eq!(left, expected);
}

#[test]
fn cancel_takes_away_what_a_write_has_left() {
    let place = Place::new();
    let (_, other) = place.cut_short();
    std::fs::write(place.out().join(".parole-of-nobody.tmp"), "").unwrap();
    for revoked in [false, true] {
        let (id, left) = place.cut_short();
        if revoked {
            place.revoke(id);
        }
        assert!(left.exists());
        place.runtime.blocking().cancel(id).unwrap();
        only_the_others(&place, &other);
    }
}

/// A process that went on with a canceled execution, or an older program, may leave it after that.
#[test]
fn gc_takes_away_what_cancel_did_not() {
    let place = Place::new();
    let (_, other) = place.cut_short();
    std::fs::write(place.out().join(".parole-of-nobody.tmp"), "").unwrap();
    let soon = parole_durable::hub::now() + 600_000;
    for (revoked, before) in [(false, 0), (true, 0), (false, soon)] {
        let (id, left) = place.cut_short();
        if revoked {
            place.revoke(id);
        }
        place.runtime.blocking().cancel(id).unwrap();
        std::fs::write(&left, "half").unwrap();
        // Whether the execution itself is old enough to go does not matter.
        place.runtime.blocking().collect(before).unwrap();
        only_the_others(&place, &other);
    }
}

/// The other twin: what still may be gone on with is not touched.
#[test]
fn gc_leaves_what_is_needed() {
    let place = Place::new();
    let (_, left) = place.cut_short();
    place.runtime.blocking().collect(parole_durable::hub::now() + 1_000).unwrap();
    assert!(left.exists());
}
