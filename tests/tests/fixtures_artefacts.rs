//! Artefacts that are no guests, and guests that are made to be expensive to compile (cases X01 to X14).
//!
//! Each is either rejected, before any of it runs, or compiled within time and memory.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use parole_tests::ensure;
use parole_tests::fixture::artefacts::{Module, component, index, number, run_sections, sized, with_module, with_run};
use parole_tests::fixture::{Failure, Ran, TIMEOUT, World};
use wasmtime::{Config, Engine};

/// Exit code for what is no guest.
const REJECTED: i32 = 65;
/// A limit of the policy is reached.
const EXHAUSTED: i32 = 137;
/// Time in which an artefact has to be done with. It is 10 s on a quiet machine.
const TIME: Duration = Duration::from_secs(30);
/// Memory for it: 1 GiB, and the host itself.
const MEMORY: u64 = (1 << 30) + (128 << 20);

fn io(error: std::io::Error) -> Failure {
    error.to_string().into()
}

fn run(world: &World, guest: &str) -> Result<Ran, Failure> {
    world.run_with(&["run", guest, "--level", "unrestricted", "--json"], None, TIMEOUT)
}

/// Runs these bytes as a guest of that name: they may not take too much, and end with one of these codes.
fn ends(name: &str, bytes: &[u8], codes: &[i32]) -> Result<(), Failure> {
    let world = World::plant()?;
    fs::write(world.path(name), bytes).map_err(io)?;
    check(&run(&world, name)?, codes)
}

fn check(ran: &Ran, codes: &[i32]) -> Result<(), Failure> {
    let right = ran.status.code().is_some_and(|code| codes.contains(&code));
    ensure!(right, "it did not end with {codes:?}\n{}", ran.report());
    ensure!(ran.took < TIME, "it took too long\n{}", ran.report());
    ensure!(ran.peak < MEMORY, "it took too much memory\n{}", ran.report());
    Ok(())
}

fn rejected(name: &str, bytes: &[u8]) -> Result<(), Failure> {
    ends(name, bytes, &[REJECTED])
}

/// Rejected, stopped at a limit of its compilation, or run as the harmless guest that it is otherwise.
fn bounded(bytes: &[u8]) -> Result<(), Failure> {
    ends("guest.wasm", bytes, &[REJECTED, EXHAUSTED, 0])
}

/// The twin of everything here: without a hostile part the same bytes are a guest.
#[test]
fn a_plain_component_runs() -> Result<(), Failure> {
    ends("guest.wasm", &component(&run_sections()), &[0])?;
    ends("guest.wasm", &with_module(Module::default().functions(10, &[0, 0x0b])), &[0])
}

#[test]
fn x01_precompiled() -> Result<(), Failure> {
    let plain = component(&run_sections());
    let module = Module::default().functions(1, &[0, 0x0b]).bytes();
    for epochs in [false, true] {
        let mut config = Config::new();
        config.epoch_interruption(epochs).concurrency_support(false);
        config.gc_support(false).wasm_gc(false).wasm_function_references(false).wasm_exceptions(false);
        let engine = Engine::new(&config).map_err(|error| error.to_string())?;
        let compiled = engine.precompile_component(&plain).map_err(|error| error.to_string())?;
        for name in ["guest.wasm", "guest.cwasm", "guest.wat"] {
            rejected(name, &compiled)?;
        }
        let compiled = engine.precompile_module(&module).map_err(|error| error.to_string())?;
        rejected("guest.wasm", &compiled)?;
        // A component that claims to be one, with compiled code behind its first bytes.
        rejected("guest.wasm", &[&plain[..8], &compiled].concat())?;
    }
    Ok(())
}

/// What the host compiled itself and keeps is not taken from the hand of a user either.
#[test]
fn x01_own_cache() -> Result<(), Failure> {
    let world = World::plant()?;
    fs::write(world.path("guest.wasm"), component(&run_sections())).map_err(io)?;
    check(&run(&world, "guest.wasm")?, &[0])?;
    let mut todo = vec![world.path("state"), world.path("home")];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).map_err(io)?.filter_map(Result::ok).map(|entry| entry.path()));
        } else if path.is_file() {
            fs::copy(&path, world.path("kept.wasm")).map_err(io)?;
            check(&run(&world, "kept.wasm")?, &[REJECTED])?;
        }
    }
    Ok(())
}

/// What was compiled is used only as it was kept, and for the guest that it was made from.
#[test]
fn x01_tampered_cache() -> Result<(), Failure> {
    let world = World::plant()?;
    let guests = ["start-prints", "voices"].map(parole_tests::fixture::play::guest);
    let calls = [&["run"][..], &["run", "--invoke", "print(\"voices\")"]];
    let outputs = ["started\n", "voices\n"];
    let run_both = || -> Result<(), Failure> {
        for ((guest, call), output) in guests.iter().zip(calls).zip(outputs) {
            let mut arguments = call.to_vec();
            arguments.extend([guest.to_str().unwrap_or_default(), "--json"]);
            let ran = world.run(&arguments)?;
            ensure!(ran.exits(0)?.json()?["output"] == output, "another guest ran\n{}", ran.report());
        }
        Ok(())
    };
    run_both()?;
    let kept: Vec<_> = fs::read_dir(world.path("state/cache")).map_err(io)?.filter_map(Result::ok).collect();
    let kept: Vec<_> = kept
        .iter()
        .map(|entry| entry.path())
        .filter(|path| fs::metadata(path).is_ok_and(|about| about.len() > 1000))
        .collect();
    let [one, other] = &kept[..] else {
        return Err(format!("not two artefacts are kept, but {}", kept.len()).into());
    };
    let both = [fs::read(one).map_err(io)?, fs::read(other).map_err(io)?];
    fs::write(one, &both[1]).map_err(io)?;
    fs::write(other, &both[0]).map_err(io)?;
    run_both().map_err(|failure| format!("exchanged: {failure}"))?;
    for place in [0, 100, 5_000, both[0].len() / 2, both[0].len() - 1] {
        let mut bytes = both[0].clone();
        let place = place.min(bytes.len() - 1);
        bytes[place] ^= 4;
        fs::write(one, &bytes).map_err(io)?;
        run_both().map_err(|failure| format!("a bit at {place}: {failure}"))?;
    }
    for length in [0, 1, 31, 32, 33, both[0].len() / 2] {
        fs::write(one, &both[0][..length]).map_err(io)?;
        run_both().map_err(|failure| format!("cut at {length}: {failure}"))?;
    }
    Ok(())
}

#[test]
fn x02_other_files() -> Result<(), Failure> {
    let program = fs::read("/bin/true").map_err(io)?;
    rejected("guest.wasm", &program)?;
    for bytes in [
        &b""[..],
        b"\0",
        b"\0asm",
        b"\0asm\x01\0\0",
        b"\0asm\x01\0\0\0",
        b"\0asm\x02\0\0\0",
        b"\0asm\x0d\0\x02\0",
        b"\0asm\x0e\0\x01\0",
        b"#!/bin/sh\ntouch escaped\n",
        b"PK\x03\x04",
        b"\x89PNG\r\n",
        b"\xff\xfe",
        b"\xef\xbb\xbf(component)",
        b"import os",
        b"BC\xc0\xde",
        b"\x7fELF",
    ] {
        for name in ["guest.wasm", "guest.wat", "guest"] {
            rejected(name, bytes)
                .map_err(|failure| format!("{name} {:?}: {failure}", String::from_utf8_lossy(bytes)))?;
        }
    }
    Ok(())
}

#[test]
fn x02_other_things() -> Result<(), Failure> {
    let world = World::plant()?;
    for dangling in ["nowhere.wasm", "G", "G/loop", "G/dangling", "G/socket"] {
        let ran = run(&world, dangling)?;
        check(&ran, &[2, REJECTED])?;
    }
    // What never ends, and what is never written to.
    for endless in ["/dev/zero", "/dev/null", "G/pipe", "G/dev-zero"] {
        let ran = run(&world, endless).map_err(|failure| format!("{endless}: {failure}"))?;
        check(&ran, &[2, REJECTED])?;
    }
    // A guest may be a link: who runs it chose it.
    fs::write(world.path("real.wasm"), component(&run_sections())).map_err(io)?;
    symlink("real.wasm", world.path("link.wasm")).map_err(io)?;
    check(&run(&world, "link.wasm")?, &[0])
}

#[test]
fn x03_cut_anywhere() -> Result<(), Failure> {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-examples/prebuilt/greet.wasm");
    let whole = fs::read(whole).map_err(io)?;
    let world = World::plant()?;
    for place in 0..1000 {
        let cut = if place < 100 { place } else { whole.len() * place / 1000 };
        fs::write(world.path("guest.wasm"), &whole[..cut]).map_err(io)?;
        check(&run(&world, "guest.wasm")?, &[REJECTED]).map_err(|failure| format!("cut at {cut}: {failure}"))?;
    }
    Ok(())
}

/// One bit changed at each of 300 places: rejected, or some other guest, but never the end of the host.
#[test]
fn x03_bit_flips() -> Result<(), Failure> {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-examples/prebuilt/greet.wasm");
    let whole = fs::read(whole).map_err(io)?;
    let world = World::plant()?;
    for place in 0..300 {
        let mut bytes = whole.clone();
        let at = bytes.len() * place / 300;
        bytes[at] ^= 1 << (place % 8);
        fs::write(world.path("guest.wasm"), &bytes).map_err(io)?;
        let ran = run(&world, "guest.wasm")?;
        check(&ran, &[0, 1, 2, REJECTED, 75, 77, 124, 134, 137])
            .map_err(|failure| format!("bit at {at}: {failure}"))?;
    }
    Ok(())
}

#[test]
fn x04_one_gibibyte() -> Result<(), Failure> {
    let world = World::plant()?;
    for (name, start) in
        [("zeros.wasm", &b""[..]), ("component.wasm", b"\0asm\x0d\0\x01\0"), ("text.wat", b"(component)")]
    {
        fs::write(world.path(name), start).map_err(io)?;
        File::options().write(true).open(world.path(name)).map_err(io)?.set_len(1 << 30).map_err(io)?;
        let ran = run(&world, name)?;
        check(&ran, &[REJECTED])?;
        ensure!(ran.peak < 256 << 20, "it read the whole file\n{}", ran.report());
    }
    Ok(())
}

#[test]
fn x05_huge_function() -> Result<(), Failure> {
    // i32.const 1, drop, up to the greatest body that the format allows, and beyond.
    for instructions in [2_551_000, 2_600_000, 20_000_000] {
        let body = [&[0][..], &[0x41, 1, 0x1a].repeat(instructions), &[0x0b]].concat();
        bounded(&with_module(Module::default().functions(1, &body)))?;
    }
    // The same with a call to itself, which the compiler can't drop.
    let body = [&[0][..], &[0x10, 0].repeat(1_000_000), &[0x0b]].concat();
    bounded(&with_module(Module::default().functions(1, &body)))
}

#[test]
fn x05_many_functions() -> Result<(), Failure> {
    bounded(&with_module(Module::default().functions(999_999, &[0, 0x0b])))?;
    rejected("guest.wasm", &with_module(Module::default().functions(2_000_000, &[0, 0x0b])))
}

#[test]
fn x06_many_locals() -> Result<(), Failure> {
    let locals = |count: u32, kind: u8| [&[1][..], &number(count), &[kind]].concat();
    let body = [locals(49_999, 0x7b), vec![0x0b]].concat();
    bounded(&with_module(Module::default().functions(1000, &body)))?;
    for count in [50_001, u32::MAX] {
        let body = [locals(count, 0x7b), vec![0x0b]].concat();
        rejected("guest.wasm", &with_module(Module::default().functions(1, &body)))?;
    }
    Ok(())
}

#[test]
fn x07_nested_blocks() -> Result<(), Failure> {
    for (open, tail) in [(&[0x02, 0x40][..], &[][..]), (&[0x03, 0x40], &[]), (&[0x41, 0, 0x04, 0x40], &[])] {
        for depth in [10_000, 1_000_000] {
            let body = [&[0][..], &open.repeat(depth), tail, &vec![0x0b; depth], &[0x0b]].concat();
            bounded(&with_module(Module::default().functions(1, &body)))?;
        }
    }
    Ok(())
}

#[test]
fn x07_nested_text() -> Result<(), Failure> {
    for opening in
        ["(", "(component ", "(module (func (block ", "(component (core module (func (i32.add ", "(;", "(@a "]
    {
        for depth in [1_000, 1_000_000] {
            rejected("guest.wat", opening.repeat(depth).as_bytes())?;
        }
    }
    let nested = format!("{}{}", "(component ".repeat(100_000), ")".repeat(100_000));
    rejected("guest.wat", nested.as_bytes())?;
    let folded = format!("(component (core module (func {}(nop){}))", "(block ".repeat(200_000), ")".repeat(200_000));
    rejected("guest.wat", folded.as_bytes())
}

#[test]
fn x08_nested_components() -> Result<(), Failure> {
    for depth in [99, 1_000, 20_000] {
        let mut inner = component(&[]);
        for _ in 0..depth {
            inner = component(&[(4, inner)]);
        }
        let bytes = with_run(&[(4, inner)]);
        if depth < 100 { bounded(&bytes)? } else { rejected("guest.wasm", &bytes)? }
    }
    Ok(())
}

/// A type section whose first type is `u8`-based and each later one is made of the one before.
fn type_chain(count: u32, first: &[u8], next: impl Fn(u32) -> Vec<u8>) -> (u8, Vec<u8>) {
    let mut types = number(count + 1);
    types.extend_from_slice(first);
    for index in 0..count {
        types.extend(next(index));
    }
    (7, types)
}

#[test]
fn x09_doubling_types() -> Result<(), Failure> {
    // `run_sections` has type 0, so the chain starts at 1. A tuple of the last type twice, sixty times.
    let tuple = |before: u32| [&[0x6f, 2][..], &index(before + 1), &index(before + 1)].concat();
    for doublings in [60, 10_000] {
        let world = World::plant()?;
        fs::write(world.path("guest.wasm"), with_run(&[type_chain(doublings, &[0x7d], tuple)])).map_err(io)?;
        let ran = run(&world, "guest.wasm")?;
        check(&ran, &[REJECTED])?;
        ensure!(ran.took < Duration::from_secs(3), "it took too long\n{}", ran.report());
    }
    // The same in records and in functions that take and give them.
    let record =
        |before: u32| [&[0x72, 2][..], &sized(b"a"), &index(before + 1), &sized(b"b"), &index(before + 1)].concat();
    rejected("guest.wasm", &with_run(&[type_chain(60, &[0x7d], record)]))
}

#[test]
fn x09_doubling_instances() -> Result<(), Failure> {
    // Each component holds two of the one before: thirty levels are a billion instances.
    let mut inner = component(&[]);
    for _ in 0..30 {
        inner = component(&[(4, inner), (5, vec![2, 0, 0, 0, 0, 0, 0])]);
    }
    bounded(&with_run(&[(4, inner), (5, vec![1, 0, 0, 0])]))
}

#[test]
fn x10_nested_lists() -> Result<(), Failure> {
    let list = |before: u32| [&[0x70][..], &index(before + 1)].concat();
    let option = |before: u32| [&[0x6b][..], &index(before + 1)].concat();
    for depth in [200, 10_000, 200_000] {
        rejected("guest.wasm", &with_run(&[type_chain(depth, &[0x7d], list)]))?;
        rejected("guest.wasm", &with_run(&[type_chain(depth, &[0x7d], option)]))?;
    }
    bounded(&with_run(&[type_chain(50, &[0x7d], list)]))
}

#[test]
fn x11_jump_tables() -> Result<(), Failure> {
    let table =
        |targets: u32| [&[0, 0x41, 0, 0x0e][..], &number(targets), &vec![0; targets as usize + 1], &[0x0b]].concat();
    bounded(&with_module(Module::default().functions(100, &table(10_000))))?;
    bounded(&with_module(Module::default().functions(100, &table(1_000_000))))
}

#[test]
fn x12_custom_sections() -> Result<(), Failure> {
    let custom = |name: &[u8], size: usize| (0, [sized(name), vec![0x55; size]].concat());
    let world = World::plant()?;
    fs::write(world.path("guest.wasm"), with_run(&[custom(b"ballast", 100 << 20)])).map_err(io)?;
    let ran = run(&world, "guest.wasm")?;
    check(&ran, &[0, REJECTED])?;
    ensure!(ran.peak < 512 << 20, "a section that nobody needs took too much memory\n{}", ran.report());
    bounded(&with_run(&[custom(b"\xff\xfe", 10)]))?;
    bounded(&with_run(&[
        custom(b"name", 1000),
        custom(b"component-name", 1000),
        custom(b"producers", 1000),
        custom(b"dylink.0", 1000),
    ]))?;
    bounded(&with_run(&vec![custom(b"a", 1); 1_000_000]))
}

#[test]
fn x12_names() -> Result<(), Failure> {
    let export = |name: &[u8]| (11, [&[1, 0], &sized(name)[..], &[1, 0, 0]].concat());
    for name in [&b"\xff"[..], b"", b"run", b"RUN", b"rUn", b"run\0", b"../run", b"a b", &b"a".repeat(200_000)] {
        rejected("guest.wasm", &with_run(&[export(name)]))?;
    }
    bounded(&with_run(&[export(b"other")]))
}

#[test]
fn x13_many_segments() -> Result<(), Failure> {
    let segment = [&[0, 0x41, 0, 0x0b][..], &sized(b"a")].concat();
    for count in [100_000, 1_000_000] {
        let data = [number(count), segment.repeat(count as usize)].concat();
        bounded(&with_module(Module::default().section(5, &[1, 0, 1]).section(11, &data)))?;
    }
    let elements = [number(100_000), [&[1, 0][..], &number(0)].concat().repeat(100_000)].concat();
    bounded(&with_module(Module::default().section(9, &elements)))
}

#[test]
fn x13_many_of_everything() -> Result<(), Failure> {
    let many = |count: u32, one: &[u8]| [number(count), one.repeat(count as usize)].concat();
    // Core types, globals, exports, imports, tables, memories.
    bounded(&with_module(Module::default().section(1, &many(1_000_000, &[0x60, 0, 0]))))?;
    bounded(&with_module(Module::default().section(6, &many(1_000_000, &[0x7f, 0, 0x41, 0, 0x0b]))))?;
    bounded(&with_module(Module::default().section(4, &many(100_000, &[0x70, 0, 0]))))?;
    bounded(&with_module(Module::default().section(5, &many(100_000, &[0, 0]))))?;
    // A count of four billion with nothing behind it.
    for section in 1..=13 {
        rejected("guest.wasm", &with_module(Module::default().section(section, &number(u32::MAX))))?;
    }
    for section in 1..=12 {
        if section != 1 && section != 4 {
            rejected("guest.wasm", &with_run(&[(section, number(u32::MAX))]))?;
        }
    }
    // Instances of the first module: within the limits of the policy, or not at all.
    ends("guest.wasm", &with_run(&[(2, many(100_000, &[0, 0, 0]))]), &[0, REJECTED, 137])?;
    // A type with a hundred thousand parameters, and a hundred thousand types.
    let parameters: Vec<u8> =
        (0..100_000).flat_map(|index| [&sized(format!("p{index}").as_bytes())[..], &[0x7f]].concat()).collect();
    bounded(&with_run(&[(7, [&[1, 0x40][..], &number(100_000), &parameters, &[1, 0]].concat())]))?;
    bounded(&with_run(&[(7, many(500_000, &[0x40, 0, 1, 0]))]))
}

#[test]
fn x13_largest_memories() -> Result<(), Failure> {
    let memory = [&[0][..], &number(65_536)].concat();
    let module = Module::default().section(5, &[&[1][..], &memory].concat());
    ends("guest.wasm", &with_run(&[(1, module.clone().bytes()), (2, vec![1, 0, 1, 0])]), &[REJECTED, 137])?;
    // A hundred of them, in one module and in a hundred instances.
    let hundred = Module::default().section(5, &[number(100), memory.repeat(100)].concat());
    ends("guest.wasm", &with_run(&[(1, hundred.bytes()), (2, vec![1, 0, 1, 0])]), &[REJECTED, 137])?;
    let instances = [number(1000), [0, 1, 0].repeat(1000)].concat();
    ends("guest.wasm", &with_run(&[(1, module.bytes()), (2, instances)]), &[REJECTED, 137])?;
    // A table of four billion entries.
    let table = Module::default().section(4, &[&[1, 0x70, 0][..], &number(u32::MAX)].concat());
    ends("guest.wasm", &with_run(&[(1, table.bytes()), (2, vec![1, 0, 1, 0])]), &[REJECTED, 137])
}

/// Text is taken for what it is, whatever its name, and under the same rules.
#[test]
fn x14_text() -> Result<(), Failure> {
    let text = br#"(component
      (core module $m (func (export "run")))
      (core instance $i (instantiate $m))
      (func (export "run") (canon lift (core func $i "run"))))"#;
    ends("guest.wat", text, &[0])?;
    ends("guest.wasm", text, &[0, REJECTED])?;
    ends("guest.wat", &component(&run_sections()), &[0, REJECTED])?;
    for text in [
        "(component quote \"(component)\")",
        "(component binary \"\\00asm\")",
        "(component) (component)",
        "(component (import \"a\" (func)) (export \"run\" (func 7)))",
        "(include \"secret.txt\")",
        "(component (core module (data (i32.const 0) @secret.txt)))",
    ] {
        rejected("guest.wat", text.as_bytes())?;
    }
    rejected("guest.wat", &[b"(component ;; ".to_vec(), vec![b'x'; 64 << 20]].concat())
}

/// The terminal is not told what an artefact is called.
#[test]
fn hostile_file_name() -> Result<(), Failure> {
    let world = World::plant()?;
    let name = "a\u{1b}[2J\u{9b}31m\r\nb\u{202e}.wasm";
    fs::write(world.path(name), b"\0asm").map_err(io)?;
    let ran = Ran::new(world.parole()?.args(["run", name, "--state"]).arg(world.path("state")), None, TIMEOUT)?;
    check(&ran, &[REJECTED])?;
    let bad = |text: &str| text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}');
    ensure!(!bad(&ran.err()), "stderr has the raw name\n{:?}", ran.err());
    Ok(())
}

/// A guest that is exchanged while it is loaded is one or the other, never a mix.
#[test]
fn swapped_while_loading() -> Result<(), Failure> {
    let world = World::plant()?;
    let (one, other) = (component(&run_sections()), with_run(&[(0, sized(b"other"))]));
    for round in 0..50 {
        let bytes = if round % 2 == 0 { &one } else { &other };
        fs::write(world.path("next.wasm"), bytes).map_err(io)?;
        let mut mover = Command::new("/bin/mv");
        mover.arg(world.path("next.wasm")).arg(world.path("guest.wasm"));
        if round == 0 {
            mover.status().map_err(io)?;
            continue;
        }
        let mut moving = mover.spawn().map_err(io)?;
        check(&run(&world, "guest.wasm")?, &[0])?;
        moving.wait().map_err(io)?;
    }
    Ok(())
}
