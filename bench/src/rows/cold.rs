//! A whole process, from nothing to its end.

use std::process::{Command, Stdio};

use crate::host;
use crate::table::{Row, Samples, duration, ratio};

const WHAT: &str = "cold run of a small guest, compiled before";
const ROUNDS: usize = 61;
const HELLO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest-examples/wat/hello.wat");

pub fn cold() -> Vec<Row> {
    let (parole, bare) = (host::programs().join("parole"), host::programs().join("parole-bare"));
    for program in [&parole, &bare] {
        if !program.exists() {
            return Row::skipped(WHAT, &format!("no {}: cargo build --release", program.display()));
        }
    }
    let scratch = host::scratch();
    let (state, artefact) = (scratch.path().join("state"), scratch.path().join("artefact"));
    let run = |mut command: Command| {
        let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
        (output.status.success() && output.stdout.starts_with(b"Hello")).then_some(()).ok_or(output)
    };
    let compiled = Command::new(&bare).arg("compile").arg(HELLO).arg(&artefact).status().unwrap();
    assert!(compiled.success());
    let start_parole = || {
        let mut command = Command::new(&parole);
        command.arg("run").arg(HELLO).arg("--state").arg(&state);
        command
    };
    let start_bare = || {
        let mut command = Command::new(&bare);
        command.arg("run").arg(&artefact);
        command
    };
    if let Err(output) = run(start_parole()) {
        return Row::skipped(WHAT, String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("it fails"));
    }
    let (mut figure, mut baseline) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        baseline.time(|| run(start_bare()).unwrap());
        figure.time(|| run(start_parole()).unwrap());
    }
    let times = figure.median() / baseline.median();
    vec![Row {
        what: WHAT,
        figure: figure.text(),
        baseline: format!("bare program {}", duration(baseline.median())),
        ratio: ratio(times),
        target: "<= 1.2 x",
        met: Some(times <= 1.2),
    }]
}
