//! Many executions in one process.

use std::path::Path;
use std::time::{Duration, Instant};

use parole_runtime::{Runtime, Wait};

use crate::bare::Bare;
use crate::table::{Row, Samples, count, duration, ratio};
use crate::{guests, host};

/// Executions at once.
const AT_ONCE: u32 = 64;

fn runs(runtime: &Runtime, each: u32, times: u32, wait: Wait) -> Duration {
    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let guest = host::guest(guests::print());
    tokio.block_on(async {
        let start = Instant::now();
        let tasks: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let (runtime, guest) = (runtime.clone(), guest.clone());
                tokio::spawn(async move {
                    for _ in 0..each {
                        let options = host::options(times, wait);
                        let report = runtime.run(guest.clone(), host::policy(), options).await.unwrap();
                        assert_eq!(report.exit_code(), 0);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        start.elapsed()
    })
}

pub fn never() -> Vec<Row> {
    const EACH: u32 = 100;
    let scratch = host::scratch();
    let runtime = Runtime::builder().state_dir(scratch.path().join("state")).open().unwrap();
    let bare = Bare::new(&guests::print(), scratch.path());
    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut figure, mut baseline) = (Samples::default(), Samples::default());
    runs(&runtime, 1, 1, Wait::All);
    for _ in 0..7 {
        figure.push_part(runs(&runtime, EACH, 1, Wait::All), EACH * AT_ONCE);
        let start = Instant::now();
        tokio.block_on(async {
            for _ in 0..2000 {
                bare.run(1).await;
            }
        });
        baseline.push_part(start.elapsed(), 2000);
    }
    let rate = 1.0 / figure.median();
    vec![Row {
        what: "an execution that never waits, to its recorded end",
        figure: figure.rate_text(),
        baseline: format!("bare, one thread {}/s", count(1.0 / baseline.median())),
        ratio: ratio(figure.median() / baseline.median()),
        target: ">= 10,000/s",
        met: Some(rate >= 10_000.0),
    }]
}

/// Executions in memory for the figure of each.
const IN_MEMORY: usize = 9_000;

pub fn memory_child(arguments: &[&str]) {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    match arguments {
        ["bare", ..] => {
            let bare = std::sync::Arc::new(Bare::new(&guests::input(), Path::new("/")));
            let start = |count: usize| {
                for _ in 0..count {
                    let bare = bare.clone();
                    tokio.spawn(async move { bare.run(1).await });
                }
                std::thread::sleep(Duration::from_secs(1));
            };
            start(100);
            let before = host::resident();
            start(IN_MEMORY);
            println!("{}", (host::resident() - before) / IN_MEMORY as u64);
        }
        ["parole", state, ..] => {
            let (runtime, mut waiting) = host::waiting(Path::new(state), IN_MEMORY * 2);
            let guest = host::guest(guests::input());
            let mut start = |count: usize| {
                for _ in 0..count {
                    let (runtime, guest) = (runtime.clone(), guest.clone());
                    tokio.spawn(async move { runtime.run(guest, host::policy(), host::options(1, Wait::All)).await });
                }
                for _ in 0..count {
                    waiting.blocking_recv().unwrap();
                }
                std::thread::sleep(Duration::from_secs(1));
            };
            start(100);
            let before = host::resident();
            start(IN_MEMORY);
            println!("{}", (host::resident() - before) / IN_MEMORY as u64);
        }
        _ => panic!("{arguments:?}"),
    }
    if std::env::args().any(|argument| argument == "stay") {
        std::thread::sleep(Duration::from_secs(60));
    }
    // What waits, waits for ever.
    std::process::exit(0);
}

pub fn memory() -> Vec<Row> {
    let kib = |bytes: &str| bytes.trim().parse::<f64>().unwrap() / 1024.0;
    let scratch = host::scratch();
    let state = scratch.path().join("state");
    let bare = kib(&host::output(host::child(&["memory", "bare"])));
    let figure = kib(&host::output(host::child(&["memory", "parole", state.to_str().unwrap()])));
    vec![Row {
        what: "a suspended execution in memory, of 9,000",
        figure: format!("{figure:.1} KiB"),
        baseline: format!("bare {bare:.1} KiB"),
        ratio: ratio(figure / bare),
        target: "<= 20 KiB",
        met: Some(figure <= 20.0),
    }]
}

/// Executions suspended at once.
const MANY: usize = 100_000;

pub fn many_child(arguments: &[&str]) {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let runtime = Runtime::builder().state_dir(arguments[0]).open().unwrap();
    let guest = host::guest(guests::input());
    let detach = arguments[1] == "detach";
    let wait = if detach { Wait::Detach } else { Wait::All };
    let start = Instant::now();
    let before = host::resident();
    tokio.block_on(async {
        for _ in 0..MANY / 1000 {
            let runs: Vec<_> = (0..1000)
                .map(|_| {
                    let (runtime, guest) = (runtime.clone(), guest.clone());
                    tokio::spawn(async move { runtime.run(guest, host::policy(), host::options(1, wait)).await })
                })
                .collect();
            if detach {
                for run in runs {
                    assert_eq!(run.await.unwrap().unwrap().exit_code(), 75);
                }
            } else {
                // Room for the next ones: suspended as fast as they can be.
                tokio::task::yield_now().await;
            }
        }
        while pending(Path::new(arguments[0])) < MANY {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_secs(1));
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    println!("{} {} {maps} {seconds}", host::resident(), host::resident().saturating_sub(before));
    std::process::exit(0);
}

/// Counted beside the runtime, for a list of so many takes memory of its own.
fn pending(state: &Path) -> usize {
    let count = "SELECT count(*) FROM promises WHERE settled_seq IS NULL";
    host::database(state).query_row(count, [], |row| row.get::<_, i64>(0)).unwrap().try_into().unwrap()
}

pub fn many() -> Vec<Row> {
    let scratch = host::scratch();
    let run = |how: &str| {
        let state = scratch.path().join(how);
        let text = host::output(host::child(&["many", state.to_str().unwrap(), how]));
        let numbers: Vec<f64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
        (numbers, state)
    };
    let (alive, _) = run("all");
    let (parked, state) = run("detach");
    let size = {
        let connection = host::database(&state);
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, f64>(0)).unwrap();
        let number = |sql: &str| number(&format!("SELECT CAST({sql} AS REAL)"));
        number("(SELECT page_size FROM pragma_page_size) * (SELECT page_count FROM pragma_page_count)") / MANY as f64
    };
    vec![
        Row {
            what: "100,000 suspended at once",
            figure: format!("{:.0} MiB resident", alive[0] / 1048576.0),
            baseline: format!("{} mappings, {}", count(alive[2]), duration(alive[3])),
            ratio: format!("{}/s", count(MANY as f64 / alive[3])),
            target: "mappings < 65,530",
            met: Some(alive[2] < 65_530.0),
        },
        Row {
            what: "a parked execution, of 100,000 detached",
            figure: format!("{size:.0} bytes of rows"),
            baseline: format!("{:.0} bytes resident, {}", parked[1] / MANY as f64, duration(parked[3])),
            ratio: format!("{}/s", count(MANY as f64 / parked[3])),
            target: "<= 2 KiB of rows, 0 resident",
            met: Some(size <= 2048.0 && parked[1] / (MANY as f64) < 1024.0),
        },
    ]
}
