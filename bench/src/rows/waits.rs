//! Suspend, resolve, resume: one at a time and many at once, every commit durable.

use std::time::Instant;

use parole_runtime::{ResumeOptions, Runtime, Wait};
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::bare::{Disk, Rows};
use crate::counted::syncs;
use crate::table::{Row, Samples, count, duration, ratio};
use crate::{guests, host};

const ROUNDS: u32 = 10;
const PER_ROUND: u32 = 100;

pub fn cycle() -> Vec<Row> {
    let scratch = host::scratch();
    let (runtime, mut waiting) = host::waiting(&scratch.path().join("state"), 1000);
    let (mut rows, mut disk) = (Rows::new(scratch.path()), Disk::new(scratch.path()));
    let (mut figure, mut parked) = (Samples::default(), Samples::default());
    let (mut commit, mut sync) = (Samples::default(), Samples::default());
    let guest = host::guest(guests::input());
    let run = {
        let (runtime, guest) = (runtime.clone(), guest.clone());
        let options = host::options(ROUNDS * PER_ROUND, Wait::All);
        std::thread::spawn(move || runtime.blocking().run(guest, host::policy(), options).unwrap())
    };
    let mut id = waiting.blocking_recv().unwrap();
    // The last answer ends the guest.
    for number in 0..ROUNDS * PER_ROUND - 1 {
        id = figure.time(|| {
            runtime.blocking().resolve(&id, &json!("Ada"), "bench").unwrap();
            waiting.blocking_recv().unwrap()
        });
        commit.time(|| rows.commit(number.into(), 1, 256));
        if number % 4 == 0 {
            sync.time(|| disk.sync());
        }
    }
    runtime.blocking().resolve(&id, &json!("Ada"), "bench").unwrap();
    assert_eq!(run.join().unwrap().exit_code(), 0);
    for _ in 0..PER_ROUND * 2 {
        let options = host::options(1, Wait::Detach);
        parked.time(|| {
            let report = runtime.blocking().run(guest.clone(), host::policy(), options).unwrap();
            runtime.blocking().resolve(&report.pending[0].id, &json!("Ada"), "bench").unwrap();
            let report = runtime.blocking().resume(report.execution, ResumeOptions::default()).unwrap();
            assert_eq!(report.exit_code(), 0);
        });
    }
    let times = figure.median() / commit.median();
    let baseline = || format!("a commit {}, a sync {}", duration(commit.median()), duration(sync.median()));
    vec![
        Row {
            what: "suspend, resolve, resume, one at a time",
            figure: figure.text(),
            baseline: baseline(),
            ratio: ratio(times),
            target: "<= 2.5 x a commit",
            met: Some(times <= 2.5),
        },
        Row {
            what: "start, park, resolve, resume from rows, end",
            figure: parked.text(),
            baseline: baseline(),
            ratio: ratio(parked.median() / commit.median()),
            target: "",
            met: None,
        },
    ]
}

/// Executions at once, and the waits of each.
const AT_ONCE: u32 = 64;
const WAITS: u32 = 40;

fn at_once(runtime: &Runtime, waiting: &mut UnboundedReceiver<String>, waits: u32) -> std::time::Duration {
    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let guest = host::guest(guests::input());
    tokio.block_on(async {
        let start = Instant::now();
        let runs: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let (runtime, guest) = (runtime.clone(), guest.clone());
                tokio::spawn(async move { runtime.run(guest, host::policy(), host::options(waits, Wait::All)).await })
            })
            .collect();
        let mut resolved = Vec::new();
        while resolved.len() < (AT_ONCE * waits) as usize {
            let id = waiting.recv().await.unwrap();
            let runtime = runtime.clone();
            resolved.push(tokio::spawn(async move {
                runtime.promises().resolve(&id, &json!("Ada"), "bench").await.unwrap();
            }));
        }
        for run in runs {
            assert_eq!(run.await.unwrap().unwrap().exit_code(), 0);
        }
        start.elapsed()
    })
}

/// For a profiler.
pub fn cycles_child(arguments: &[&str]) {
    let (runtime, mut waiting) = host::waiting(std::path::Path::new(arguments[0]), 1000);
    at_once(&runtime, &mut waiting, arguments[1].parse().unwrap());
}

pub fn cycles() -> Vec<Row> {
    let scratch = host::scratch();
    let (runtime, mut waiting) = host::waiting(&scratch.path().join("state"), 1000);
    let guest = host::guest(guests::input());
    let (mut figure, mut single) = (Samples::default(), Samples::default());
    for _ in 0..7 {
        let run = {
            let (runtime, guest) = (runtime.clone(), guest.clone());
            std::thread::spawn(move || {
                runtime.blocking().run(guest, host::policy(), host::options(200, Wait::All)).unwrap()
            })
        };
        let start = Instant::now();
        for _ in 0..200 {
            let id = waiting.blocking_recv().unwrap();
            runtime.blocking().resolve(&id, &json!("Ada"), "bench").unwrap();
        }
        run.join().unwrap();
        single.push_part(start.elapsed(), 200);
        figure.push_part(at_once(&runtime, &mut waiting, WAITS), AT_ONCE * WAITS);
    }
    let before = syncs();
    at_once(&runtime, &mut waiting, WAITS);
    let syncs = (syncs() - before) as f64 / f64::from(AT_ONCE * WAITS);
    let times = single.median() / figure.median();
    vec![
        Row {
            what: "the same, 64 at once",
            figure: figure.rate_text(),
            baseline: format!("one at a time {}/s", count(1.0 / single.median())),
            ratio: ratio(times),
            target: ">= 15 x one at a time",
            met: Some(times >= 15.0),
        },
        Row {
            what: "  syncs a cycle",
            figure: format!("{syncs:.3}"),
            baseline: String::new(),
            ratio: String::new(),
            target: "<= 0.1",
            met: Some(syncs <= 0.1),
        },
    ]
}
