//! Other processes: settlements that come from them, and what they leave behind.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use parole_runtime::{PromiseFilter, Runtime, Wait};
use serde_json::json;

use crate::table::{Row, Samples, duration};
use crate::{guests, host};

/// Settles the promises whose ids come in, and says when each had become durable.
pub fn settle_child(arguments: &[&str]) {
    let runtime = Runtime::builder().state_dir(arguments[0]).open().unwrap();
    for id in std::io::stdin().lines() {
        runtime.blocking().resolve(&id.unwrap(), &json!("Ada"), "bench").unwrap();
        println!("{}", host::clock());
    }
}

pub fn other() -> Vec<Row> {
    const TIMES: u32 = 40;
    let scratch = host::scratch();
    let state = scratch.path().join("state");
    let (runtime, mut waiting) = host::waiting(&state, 10_000);
    let mut settler = host::child(&["settle", state.to_str().unwrap()]).spawn().unwrap();
    let (mut ask, mut told) = (settler.stdin.take().unwrap(), BufReader::new(settler.stdout.take().unwrap()));
    let guest = host::guest(guests::input());
    let run = |times| {
        let (runtime, guest) = (runtime.clone(), guest.clone());
        std::thread::spawn(move || runtime.blocking().run(guest, host::policy(), host::options(times, Wait::All)))
    };
    let first = run(TIMES);
    let mut figure = Samples::default();
    let mut id = waiting.blocking_recv().unwrap();
    for number in 1..TIMES {
        // Not in step with whatever looks now and then.
        std::thread::sleep(Duration::from_millis(300) + Duration::from_micros(u64::from(number) * 1237));
        writeln!(ask, "{id}").unwrap();
        let mut settled = String::new();
        told.read_line(&mut settled).unwrap();
        id = waiting.blocking_recv().unwrap();
        figure.push(Duration::from_secs_f64((host::clock() - settled.trim().parse::<f64>().unwrap()).max(0.0)));
    }
    writeln!(ask, "{id}").unwrap();
    first.join().unwrap().unwrap();

    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    for _ in 0..1000 {
        let (runtime, guest) = (runtime.clone(), guest.clone());
        tokio.spawn(async move { runtime.run(guest, host::policy(), host::options(1, Wait::All)).await });
    }
    for _ in 0..1000 {
        waiting.blocking_recv().unwrap();
    }
    std::thread::sleep(Duration::from_millis(500));
    let (before, start) = (host::processor(), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let idle = (host::processor() - before) / start.elapsed().as_secs_f64() * 100.0;
    drop(ask);
    settler.wait().unwrap();
    drop(tokio);
    vec![
        Row {
            what: "a settlement by another process, guest runs on",
            figure: figure.text(),
            baseline: format!("most {}", duration(figure.most())),
            ratio: String::new(),
            target: "<= 50 ms",
            met: Some(figure.most() <= 0.05),
        },
        Row {
            what: "  idle, 1,000 suspended",
            figure: format!("{idle:.2} % of a core"),
            baseline: String::new(),
            ratio: String::new(),
            target: "<= 1 %",
            met: Some(idle <= 1.0),
        },
    ]
}

/// Promises that are left pending.
const PENDING: usize = 10_000;

pub fn killed_child(arguments: &[&str]) {
    match arguments {
        ["leave", state] => {
            let (runtime, mut waiting) = host::waiting(Path::new(state), 1000);
            let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
            let guest = host::guest(guests::input());
            for _ in 0..PENDING {
                let (runtime, guest) = (runtime.clone(), guest.clone());
                tokio.spawn(async move { runtime.run(guest, host::policy(), host::options(1, Wait::All)).await });
            }
            for _ in 0..PENDING {
                waiting.blocking_recv().unwrap();
            }
            println!("ready");
            std::thread::sleep(Duration::from_secs(600));
        }
        ["ready", state] => {
            let start = Instant::now();
            let runtime = Runtime::builder().state_dir(*state).open().unwrap();
            let pending = runtime.promises().list(&PromiseFilter { pending: true, ..Default::default() }).unwrap();
            assert_eq!(pending.len(), PENDING);
            let listed = start.elapsed();
            assert_eq!(runtime.ready().unwrap(), []);
            let looked = start.elapsed();
            let promise = &pending[PENDING / 2];
            assert!(runtime.blocking().resolve(promise.record.id.as_str(), &json!("Ada"), "bench").unwrap().won);
            assert_eq!(runtime.ready().unwrap().len(), 1);
            let execution = promise.execution.parse().unwrap();
            assert_eq!(runtime.blocking().resume(execution, Default::default()).unwrap().exit_code(), 0);
            println!("{} {} {}", listed.as_secs_f64(), looked.as_secs_f64(), start.elapsed().as_secs_f64());
        }
        _ => panic!("{arguments:?}"),
    }
}

pub fn killed() -> Vec<Row> {
    let mut all = [Samples::default(), Samples::default(), Samples::default()];
    for _ in 0..3 {
        let scratch = host::scratch();
        let state = scratch.path().join("state");
        let state = state.to_str().unwrap();
        let mut child = host::child(&["killed", "leave", state]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        // By SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
        let text = host::output(host::child(&["killed", "ready", state]));
        for (samples, seconds) in all.iter_mut().zip(text.split_whitespace()) {
            samples.push(Duration::from_secs_f64(seconds.parse().unwrap()));
        }
    }
    let [listed, looked, resumed] = all;
    vec![Row {
        what: "10,000 pending after kill -9: listed, one resumed",
        figure: resumed.text(),
        baseline: format!("listed {}, looked at {}", duration(listed.median()), duration(looked.median())),
        ratio: String::new(),
        target: "<= 1 s",
        met: Some(resumed.median() <= 1.0),
    }]
}
