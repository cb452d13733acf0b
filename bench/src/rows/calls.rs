//! Host calls: sent, decided, read, replayed.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use parole_capabilities::CATALOGUE;
use parole_policy::{Looks, SecurityPolicy, Typed, Verdict};
use parole_runtime::{ExecutionId, Runtime, Wait};

use crate::bare::{Bare, Rows};
use crate::counted::allocations;
use crate::table::{Row, Samples, count, duration, ratio};
use crate::{guests, host};

const ROUNDS: usize = 7;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Processor time of the guest of an execution, its host calls included, as its last commit has it.
fn guest_time(state: &Path, execution: ExecutionId) -> Duration {
    let connection = host::database(state);
    let id: Vec<u8> = execution.0.as_bytes().to_vec();
    let us = connection.query_row("SELECT cpu_us FROM executions WHERE id = ?", [id], |row| row.get::<_, i64>(0));
    Duration::from_micros(us.unwrap().unsigned_abs())
}

pub fn send() -> Vec<Row> {
    const CALLS: u32 = 200_000;
    let scratch = host::scratch();
    let state = scratch.path().join("state");
    let runtime = Runtime::builder().state_dir(&state).open().unwrap();
    let guest = host::guest(guests::print());
    let bare = Bare::new(&guests::print(), scratch.path());
    let (mut figure, mut baseline, mut durable) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let report = runtime.blocking().run(guest.clone(), host::policy(), host::options(CALLS, Wait::All)).unwrap();
        durable.push_part(start.elapsed(), CALLS);
        assert_eq!(report.exit_code(), 0);
        figure.push_part(guest_time(&state, report.execution), CALLS);
        let before = host::thread();
        block_on(bare.run(CALLS));
        baseline.push_part(Duration::from_secs_f64(host::thread() - before), CALLS);
    }
    let times = figure.median() / baseline.median();
    vec![
        Row {
            what: "send-only call, 64-byte string, on the guest's thread",
            figure: figure.text(),
            baseline: format!("bare host call {}", duration(baseline.median())),
            ratio: ratio(times),
            target: "<= 2 x",
            met: Some(times <= 2.0),
        },
        Row {
            what: "  the same until all of them are durable",
            figure: durable.text(),
            baseline: String::new(),
            ratio: ratio(durable.median() / baseline.median()),
            target: "",
            met: None,
        },
    ]
}

/// The time and the allocations of a decision that allows.
fn decided(policy: &SecurityPolicy, name: &str, arguments: &Typed, calls: u32) -> (Samples, u64) {
    let capability = CATALOGUE.by_name(name).unwrap();
    let mut figure = Samples::default();
    let before = allocations();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..calls {
            let verdict = parole_policy::decide(black_box(policy), 0, capability, black_box(arguments));
            assert!(matches!(black_box(verdict), Verdict::Allow(_)));
        }
        figure.push_part(start.elapsed(), calls);
    }
    // The samples themselves take a few.
    (figure, (allocations() - before) / (u64::from(calls) * ROUNDS as u64))
}

pub fn decide() -> Vec<Row> {
    const FETCH: &str = "[grant.fetch]\nmethods = [\"GET\", \"POST\"]\norigins = [\"https://a.test\", \"https://*.b.test\", \"http://c.test:8080\"]\n";
    const RULE: &str =
        "[[rule]]\nname = \"posts\"\ncapability = \"fetch\"\nwhen = 'request.method != \"GET\"'\nthen = \"ask\"\n";
    let row = |what, (figure, each): (Samples, u64), target, most: f64, allocations: u64| Row {
        what,
        figure: figure.text(),
        baseline: format!("{each} allocations a call"),
        ratio: String::new(),
        target,
        met: Some(figure.median() <= most && each <= allocations),
    };
    let mut files = host::policy().allow_read("/data", "/tmp").allow_read("/data/deep", "/var");
    files.resolve(&CATALOGUE).unwrap();
    let call =
        |name: &str, given: &[&str]| Typed::read(CATALOGUE.by_name(name).unwrap(), None, given, Looks::ALL).unwrap();
    let path = call("read_file", &["/data/directory/file.txt"]);
    let parse = |rules: &str| {
        let text = format!("level = \"unrestricted\"\n{FETCH}{rules}");
        SecurityPolicy::parse(&text, Path::new("/"), &CATALOGUE).unwrap()
    };
    let url = "http://c.test:8080/reports?year=2026";
    let (request, posted) = (call("fetch", &["GET", url]), call("fetch", &["POST", url]));
    let (plain, ruled) = (parse(""), parse(RULE));
    let asked = parole_policy::decide(&ruled, 0, CATALOGUE.by_name("fetch").unwrap(), &posted);
    assert!(matches!(asked, Verdict::Ask(_)), "the rule is looked at");
    vec![
        row(
            "decide, no CEL rule",
            decided(&files, "read_file", &path, 1_000_000),
            "<= 0.5 us, no allocation",
            0.5e-6,
            0,
        ),
        row(
            "  the same for a request",
            decided(&plain, "fetch", &request, 1_000_000),
            "<= 1 us, no allocation",
            1e-6,
            0,
        ),
        row("  the same with a CEL rule", decided(&ruled, "fetch", &request, 20_000), "<= 20 us", 20e-6, u64::MAX),
    ]
}

pub fn read() -> Vec<Row> {
    const CALLS: u32 = 20_000;
    let scratch = host::scratch();
    let data = scratch.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), [b'x'; 1024]).unwrap();
    let runtime = Runtime::builder().state_dir(scratch.path().join("state")).open().unwrap();
    let guest = host::guest(guests::read_file());
    let policy = host::policy().allow_read("/data", &data);
    let bare = Bare::new(&guests::read_file(), &data.join("file"));
    let mut sqlite = Rows::new(scratch.path());
    let (mut figure, mut baseline, mut rows) = (Samples::default(), Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        let time = timed(|| {
            let report =
                runtime.blocking().run(guest.clone(), policy.clone(), host::options(CALLS, Wait::All)).unwrap();
            assert_eq!(report.exit_code(), 0);
        });
        figure.push_part(time, CALLS);
        baseline.push_part(timed(|| block_on(bare.run(CALLS))), CALLS);
        let start = Instant::now();
        for commit in 0..20 {
            sqlite.commit((round as u64 * 20 + commit) * 1024, 1024, 1024);
        }
        rows.push_part(start.elapsed(), 20 * 1024);
    }
    let rate = 1.0 / figure.median();
    vec![Row {
        what: "read_file of 1 KiB in a loop, journaled",
        figure: figure.rate_text(),
        baseline: format!(
            "not journaled {}/s, rows alone {}/s",
            count(1.0 / baseline.median()),
            count(1.0 / rows.median())
        ),
        ratio: ratio(baseline.median() / figure.median()),
        target: ">= 50,000/s",
        met: Some(rate >= 50_000.0),
    }]
}

pub fn replay() -> Vec<Row> {
    const CALLS: u32 = 100_000;
    let scratch = host::scratch();
    let data = scratch.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), b"short").unwrap();
    let runtime = Runtime::builder().state_dir(scratch.path().join("state")).open().unwrap();
    let guest = host::guest(guests::read_file());
    let policy = host::policy().allow_read("/data", &data);
    let recorded = |times| {
        let options = host::options(times, Wait::All);
        let report = runtime.blocking().run(guest.clone(), policy.clone(), options).unwrap();
        (report.execution, times)
    };
    let (short, long) = (recorded(CALLS / 10), recorded(CALLS));
    let replay = |(execution, times)| {
        let start = Instant::now();
        assert_eq!(runtime.blocking().replay(execution).unwrap().calls, u64::from(times));
        start.elapsed()
    };
    let (mut tenth, mut figure) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        tenth.push_part(replay(short), short.1);
        figure.push_part(replay(long), long.1);
    }
    let linear = figure.median() / tenth.median();
    vec![Row {
        what: "replay of short steps, 100,000 of them",
        figure: figure.rate_text(),
        baseline: format!("10,000 of them: {}/s", count(1.0 / tenth.median())),
        ratio: ratio(linear),
        target: ">= 500,000/s, linear",
        met: Some(1.0 / figure.median() >= 500_000.0 && linear < 1.5),
    }]
}
