//! What earlier programs stored goes on: every execution of a state directory that an earlier program wrote is opened,
//! replayed, answered and ended by this one. `tests/state/2/make` says how each came about.
//!
//! A replay compares the arguments of each call byte for byte, so the replays of `arguments-…` are a corpus of the bytes
//! that calls have in journals.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use parole_tests::crash::{Place, exit};
use parole_tests::ensure;
use parole_tests::fixture::{Failure, Ran, because};
use parole_tests::netns;
use serde_json::{Value, json};

/// Where the guests and directories of the fixture lie, as they are pinned in it.
const WORLD: &str = "/tmp/parole-state-2";
/// The peer of its requests, as it is pinned.
const PEER: &str = "127.0.0.1:18391";

/// What is done for an execution before it is resumed.
enum Do {
    Nothing,
    /// Its promise is resolved with a value.
    Answer(Value),
    /// The question about its call is decided with a word.
    Decide(&'static str),
    /// What came of its call in doubt is told.
    Tell(Value),
    Cancel,
}

/// An execution: its name, what is done for it, the outcome, and what its output, result or error holds.
type End = (&'static str, Vec<Do>, &'static str, &'static str);

fn ends() -> Vec<End> {
    let again = || Do::Tell(json!("again"));
    vec![
        ("input-pending", vec![Do::Answer(json!("Ada"))], "completed", "\"Ada\""),
        ("input-answered", vec![], "completed", "Hello, Ada!"),
        ("input-canceled", vec![], "failed", "canceled"),
        ("input-expired", vec![], "failed", "expired"),
        ("approve-pending", vec![Do::Answer(json!(true))], "completed", "true"),
        (
            "review-pending",
            vec![Do::Answer(json!({ "accepted": true, "text": "other", "comment": null }))],
            "completed",
            r#"text: "other""#,
        ),
        ("sleep-over", vec![], "completed", ""),
        ("sleep-long", vec![Do::Cancel], "canceled", ""),
        ("killed-waiting", vec![Do::Answer(json!("two"))], "completed", "one\ntwo\n"),
        ("killed-posting", vec![Do::Nothing, again()], "completed", "POST /slow 6"),
        ("ask-read-open", vec![Do::Decide("once")], "completed", "105, 110, 32, 100, 97, 116, 97"),
        ("ask-write-open", vec![Do::Decide("once")], "completed", ""),
        ("ask-post-open", vec![Do::Decide("execution")], "completed", "status: 200"),
        ("ask-query-open", vec![Do::Decide("once")], "completed", "columns: []"),
        ("ask-approved", vec![], "completed", ""),
        ("ask-read-approved", vec![], "completed", "105, 110, 32, 100, 97, 116, 97"),
        ("ask-denied", vec![], "failed", "denied"),
        // The second, identical call is allowed by what was said to the first.
        ("ask-twice", vec![], "completed", "POST /twice 4\nPOST /twice 4\n"),
        ("ask-standing", vec![], "completed", "POST /standing 4\nPOST /standing 4\n"),
        ("doubt-post-new", vec![Do::Nothing, again()], "completed", "status: 200"),
        ("doubt-post-open", vec![again()], "completed", "status: 200"),
        ("doubt-post-again", vec![], "completed", "status: 200"),
        ("doubt-post-done", vec![], "completed", "status: 201"),
        ("doubt-post-fail", vec![], "failed", "the clerk says no"),
        ("doubt-query-new", vec![Do::Nothing, Do::Tell(json!({ "fail": "not again" }))], "failed", "not again"),
        ("doubt-query-open", vec![Do::Tell(json!({ "done": { "columns": [], "rows": [] } }))], "completed", "rows: []"),
        ("doubt-write-open", vec![again()], "completed", ""),
        ("write-killed", vec![], "completed", ""),
        ("granted", vec![Do::Answer(json!("yes"))], "completed", "more\n"),
        ("revoked", vec![Do::Answer(json!("yes"))], "completed", "in data\n\ndenied"),
        ("socket-waiting", vec![Do::Answer(json!("yes"))], "completed", "hello\n"),
    ]
}

/// Answers each request with its method, path and the size of its body, and keeps them.
#[derive(Clone, Default)]
struct Peer(Arc<Mutex<Vec<String>>>);

impl Peer {
    fn start() -> Result<Self, Failure> {
        let peer = Self::default();
        let (listener, shared) = (TcpListener::bind(PEER).map_err(because(PEER))?, peer.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                drop(shared.answer(stream));
            }
        });
        Ok(peer)
    }

    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let (mut first, mut size) = (String::new(), 0);
        reader.read_line(&mut first)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.to_ascii_lowercase().split_once(':') {
                Some(("content-length", value)) => size = value.trim().parse().unwrap_or(0),
                Some(_) => {}
                None => break,
            }
        }
        reader.by_ref().take(size).read_to_end(&mut Vec::new())?;
        let request = first.rsplit_once(' ').map_or("", |(request, _)| request);
        let text = format!("{request} {size}");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone());
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len());
        reader.get_mut().write_all(answer.as_bytes())
    }

    fn count(&self, request: &str) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|had| *had == request).count()
    }
}

/// The fixture, in a place of its own.
struct Stored {
    place: Place,
    names: BTreeMap<String, String>,
}

impl Stored {
    fn unpack() -> Result<Self, Failure> {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("state/2");
        fs::create_dir_all(WORLD).map_err(because(WORLD))?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs", WORLD]).status().map_err(because("mount"))?;
        ensure!(mounted.success(), "there is no directory of our own at {WORLD}");
        copy(&fixture.join("world"), Path::new(WORLD), 0o644)?;
        fs::create_dir(format!("{WORLD}/out")).map_err(because("the directory of what is written"))?;
        let shop = rusqlite::Connection::open(format!("{WORLD}/shop.db")).map_err(because("shop.db"))?;
        shop.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'nut')")
            .map_err(because("shop.db"))?;
        let place = Place::new()?;
        copy(&fixture.join("state"), &place.state(), 0o600)?;
        let list = fs::read_to_string(fixture.join("executions.tsv")).map_err(because("the list of executions"))?;
        let names = list.lines().filter_map(|line| line.split_once('\t'));
        Ok(Self { place, names: names.map(|(name, id)| (name.into(), id.into())).collect() })
    }

    fn id(&self, name: &str) -> Result<&str, Failure> {
        Ok(self.names.get(name).ok_or_else(|| format!("there is no execution {name}"))?)
    }

    fn resume(&self, name: &str) -> Result<Value, Failure> {
        self.place.run(&["resume", self.id(name)?, "--json"])?.json()
    }

    /// The one promise that an execution waits for.
    fn pending(&self, name: &str) -> Result<Value, Failure> {
        let all = self.place.run(&["promises", "--pending", "--json"])?.exits(exit::DONE)?.json()?;
        let id = self.id(name)?;
        let mut own = all.as_array().into_iter().flatten().filter(|promise| promise["execution"] == id);
        let promise = own.next().ok_or_else(|| format!("{name} waits for nothing"))?;
        ensure!(own.next().is_none(), "{name} waits for several promises");
        Ok(promise.clone())
    }

    fn resolve(&self, name: &str, value: &Value) -> Result<Ran, Failure> {
        let promise = self.pending(name)?;
        let id = promise["id"].as_str().unwrap_or_default();
        self.place.run(&["promise", "resolve", id, "--value", &value.to_string()])
    }

    /// Does what is to be done for an execution, and resumes it to its end.
    fn go_on(&self, (name, actions, outcome, text): &End) -> Result<(), Failure> {
        for action in actions {
            self.act(name, action).map_err(because(name))?;
        }
        let report = self.resume(name)?;
        ensure!(report["outcome"] == *outcome, "{name} is not {outcome}: {report}");
        let said = ["output", "result", "error"].map(|key| report[key].as_str().unwrap_or_default()).concat();
        ensure!(said.contains(text), "{name} says nothing of {text:?}: {report}");
        Ok(())
    }

    fn act(&self, name: &str, action: &Do) -> Result<(), Failure> {
        match action {
            Do::Nothing => {
                let report = self.resume(name)?;
                ensure!(report["outcome"] == "suspended", "{name} does not wait: {report}");
            }
            Do::Answer(value) | Do::Tell(value) => drop(self.resolve(name, value)?.exits(exit::DONE)?.clone()),
            Do::Decide(word) => {
                let promise = self.pending(name)?;
                let param = promise["param"]["data"].as_str().unwrap_or_default();
                let param: Value = serde_json::from_str(param).map_err(because(name))?;
                let value = json!({ "decision": word, "digest": param["digest"] });
                drop(self.resolve(name, &value)?.exits(exit::DONE)?.clone());
            }
            Do::Cancel => drop(self.place.run(&["cancel", self.id(name)?])?.exits(exit::DONE)?.clone()),
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;

    fs::create_dir_all(to).map_err(because(to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).map_err(because(to.display()))?;
    for entry in fs::read_dir(from).map_err(because(from.display()))? {
        let path: PathBuf = entry.map_err(because(from.display()))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target, mode)?;
        } else {
            fs::copy(&path, &target).map_err(because(path.display()))?;
            fs::set_permissions(&target, fs::Permissions::from_mode(mode)).map_err(because(target.display()))?;
        }
    }
    Ok(())
}

#[test]
fn what_schema_2_stored_goes_on() -> Result<(), Failure> {
    let netns::Place::Inside(_network) = netns::enter("what_schema_2_stored_goes_on", "127.0.0.1 localhost\n", "")?
    else {
        return Ok(());
    };
    let stored = Stored::unpack()?;
    let peer = Peer::start()?;
    stored.place.check()?;

    // Nothing is performed by a replay, and every argument is what was recorded.
    for (name, id) in &stored.names {
        let ran = stored.place.run(&["replay", id])?;
        ensure!(ran.status.code() == Some(exit::DONE), "{name} is not replayed\n{}", ran.report());
    }
    ensure!(peer.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty(), "a replay has sent something");

    let wrong: Vec<String> =
        ends().iter().filter_map(|end| stored.go_on(end).err()).map(|why| why.to_string()).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What had been sent once, was asked about and is answered: as often as a person said, and no more.
    for (request, times) in [("POST /b?x=%2e 3", 1), ("POST /twice 4", 2), ("POST /standing 4", 2), ("POST /slow 6", 1)]
    {
        ensure!(peer.count(request) == times, "{request} was sent {} times, not {times}", peer.count(request));
    }
    ensure!(peer.count("POST /slow 1") == 3, "a call in doubt was done again without a word");
    for (file, contents) in [("second.txt", "two"), ("asked.txt", "hi"), ("approved.txt", "hi")] {
        let found = fs::read_to_string(format!("{WORLD}/out/{file}")).map_err(because(file))?;
        ensure!(found == contents, "{file} holds {found:?}");
    }
    // The first of `killed-waiting` was written when the fixture was made: a replay writes nothing.
    for file in ["denied.txt", "first.txt"] {
        ensure!(!Path::new(WORLD).join("out").join(file).exists(), "{file} is written");
    }

    // The schedules: one is due, one is paused, one lies far ahead. And whatever else is left.
    stored.place.run(&["resume", "--all"])?;
    let schedules = stored.place.run(&["schedules", "--json"])?.exits(exit::DONE)?.json()?;
    let fired: Vec<_> = schedules.as_array().into_iter().flatten().map(|one| one["fired"].clone()).collect();
    ensure!(fired == [json!(1), json!(0), json!(0)], "the schedules fired {fired:?}: {schedules}");
    let left = stored.place.run(&["ps", "--json"])?.exits(exit::DONE)?.json()?;
    ensure!(left == json!([]), "not all have ended: {left}");
    for (name, id) in &stored.names {
        let ran = stored.place.run(&["replay", id])?;
        ensure!(ran.status.code() == Some(exit::DONE), "{name} is not replayed at its end\n{}", ran.report());
    }
    stored.place.check()
}
