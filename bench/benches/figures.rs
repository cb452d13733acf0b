//! `cargo bench -p parole-bench -- [NAME…]`: see `src/main.rs`.

#![allow(clippy::print_stdout, reason = "a program that measures")]

fn main() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_parole-bench"));
    let status = std::process::Command::new(program).args(std::env::args_os().skip(1)).status();
    std::process::exit(status.ok().and_then(|status| status.code()).unwrap_or(1));
}
