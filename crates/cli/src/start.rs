//! From the command line to an exit code.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::commands::Cli;
use crate::fail::{Failure, Kind};
use crate::{output, terminal};

pub fn main() -> ExitCode {
    // A fault of ours must not look like one of the guest, and the hook's text passes no filter.
    std::panic::set_hook(Box::new(|panic| {
        terminal::restore();
        output::err(&format!("parole: internal error: {panic}"));
    }));
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Before anything else: this child bounds its own memory.
    if arguments.get(1).is_some_and(|argument| argument == crate::state::COMPILE) {
        return parole_runtime::compiler::serve();
    }
    crate::shell::look_for_state(&arguments);
    let json = arguments.iter().any(|argument| argument == "--json");
    let code = catch_unwind(AssertUnwindSafe(|| run(&arguments, json))).unwrap_or(Kind::Internal.exit_code());
    terminal::finish();
    match output::lost() {
        Some(why) => {
            output::err(&format!("parole: stdout could not be written: {why}"));
            ExitCode::from(if code == 0 { Kind::Internal.exit_code() } else { code })
        }
        None => ExitCode::from(code),
    }
}

fn run(arguments: &[OsString], json: bool) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return unparsed(&error, arguments, json),
    };
    listen();
    match cli.command.run() {
        Ok(code) => code,
        Err(failure) => failure.report(json),
    }
}

/// Help, version, and everything that is wrong with the arguments.
fn unparsed(error: &clap::Error, arguments: &[OsString], json: bool) -> u8 {
    let strange = arguments.iter().find(|argument| argument.to_str().is_none());
    if let (ErrorKind::InvalidUtf8, Some(argument)) = (error.kind(), strange) {
        let message = format!("the argument {argument:?} is not UTF-8 text, which is expected here");
        return Failure::usage(message).report(json);
    }
    let text = error.render().to_string();
    if !error.use_stderr() {
        output::out(text.trim_end());
        return 0;
    }
    if json {
        let message = text.trim_start_matches("error: ").lines().next().unwrap_or_default();
        output::json(&Failure::usage(message).to_json());
    }
    output::err(text.trim_end());
    Kind::Usage.exit_code()
}

/// Warnings of the library go to stderr, a line each.
fn listen() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_level(false)
        .with_writer(|| Inert)
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Inert;

impl std::io::Write for Inert {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        output::err(&format!("parole: {}", output::cell(String::from_utf8_lossy(bytes).trim_end())));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
