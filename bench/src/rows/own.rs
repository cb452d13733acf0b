//! Capabilities that users define: answered by a closure in this process, and by workers in others.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parole_policy::{Level, SecurityPolicy, Timeout, UserCapability, WorkEffect};
use parole_runtime::work::Settlement;
use parole_runtime::{Capability, Reply, Runtime, Wait};
use serde_json::json;

use crate::table::{Row, Samples, count, ratio};
use crate::{guests, host};

const INTERFACE: &str = "acme:bench/files@1.0.0";
const WIT: &str = "package acme:bench@1.0.0;
interface files { read-file: func(path: string) -> result<list<u8>, string>; }";

const ROUNDS: usize = 5;

/// A closure that answers as `read_file` does, in the same guest.
pub fn closure() -> Vec<Row> {
    const CALLS: u32 = 20_000;
    let scratch = host::scratch();
    let data = scratch.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), b"short").unwrap();
    let files =
        Capability::from_wit(INTERFACE, WIT)
            .level(Level::Standard)
            .func("read-file", WorkEffect::Read, |_| async { Ok(Reply::from(json!("c2hvcnQ="))) });
    let runtime = Runtime::builder().state_dir(scratch.path().join("state")).capability(files).open().unwrap();
    let built_in = (host::guest(guests::read_file()), host::policy().allow_read("/data", &data));
    let own = (host::guest(guests::read_file_of(INTERFACE)), host::policy());
    let (mut figure, mut baseline) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        for (samples, (guest, policy)) in [(&mut figure, &own), (&mut baseline, &built_in)] {
            let start = Instant::now();
            let report =
                runtime.blocking().run(guest.clone(), policy.clone(), host::options(CALLS, Wait::All)).unwrap();
            assert_eq!(report.exit_code(), 0, "{report:?}");
            samples.push_part(start.elapsed(), CALLS);
        }
    }
    vec![Row {
        what: "a call that a closure of the embedder answers",
        figure: figure.rate_text(),
        baseline: format!("read_file of as much {}/s", count(1.0 / baseline.median())),
        ratio: ratio(baseline.median() / figure.median()),
        target: "",
        met: None,
    }]
}

/// A worker: takes so many promises at once, answers them, takes the next.
pub fn work_child(arguments: &[&str]) {
    let (state, jobs) = (arguments[0], arguments[1].parse().unwrap());
    let runtime = Runtime::builder().state_dir(state).open().unwrap();
    let worker = runtime.worker(INTERFACE).unwrap();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        loop {
            let taken = worker.take(jobs).await.unwrap();
            if taken.jobs.is_empty() && taken.waiting == 0 {
                return;
            }
            let answers = taken.jobs.iter().map(|job| worker.resolve(job, "\"c2hvcnQ=\"", "bench"));
            for settled in join_all(answers).await {
                assert!(matches!(settled, Ok(Settlement::Done)), "{settled:?}");
            }
        }
    });
}

/// How long so many workers, with so many jobs at once each, take for so many promises, until the last guest has its answer.
fn worked(workers: usize, jobs: usize, promises: usize) -> Duration {
    let scratch = host::scratch();
    let state = scratch.path().join("state");
    let (runtime, mut waiting) = host::waiting(&state, 10_000);
    let files = UserCapability { timeout: Timeout::After(86_400_000), ..UserCapability::new(WIT) };
    let policy: SecurityPolicy = host::policy().define(INTERFACE, files);
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let guest = host::guest(guests::read_file_of(INTERFACE));
    let runs: Vec<_> = (0..promises)
        .map(|_| {
            let (runtime, guest, policy) = (runtime.clone(), guest.clone(), policy.clone());
            tokio.spawn(async move { runtime.run(guest, policy, host::options(1, Wait::All)).await })
        })
        .collect();
    for _ in 0..promises {
        waiting.blocking_recv().unwrap();
    }
    let start = Instant::now();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let children: Vec<Child> =
        (0..workers).map(|_| host::child(&["work", &text(&state), &jobs.to_string()]).spawn().unwrap()).collect();
    for run in runs {
        assert_eq!(tokio.block_on(run).unwrap().unwrap().exit_code(), 0);
    }
    let took = start.elapsed();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    took
}

pub fn work() -> Vec<Row> {
    const PROMISES: u32 = 400;
    let (mut one, mut eight, mut jobs) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        one.push_part(worked(1, 1, PROMISES as usize), PROMISES);
        eight.push_part(worked(8, 1, PROMISES as usize), PROMISES);
        jobs.push_part(worked(1, 8, PROMISES as usize), PROMISES);
    }
    let row = |what, samples: &Samples| Row {
        what,
        figure: samples.rate_text(),
        baseline: format!("one worker, one at a time {}/s", count(1.0 / one.median())),
        ratio: ratio(one.median() / samples.median()),
        target: "",
        met: None,
    };
    vec![row("calls that 8 workers answer, 400 pending", &eight), row("  the same of one worker, 8 at a time", &jobs)]
}
