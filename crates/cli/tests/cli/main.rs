//! Tests of the `parole` program from outside: arguments, exit codes, JSON, the terminal.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what is wrong by failing")]

mod bad_input;
mod beside;
mod clocks;
mod consent;
mod damaged;
mod decisions;
mod grants;
mod help;
mod lifecycle;
mod listings;
mod names;
mod policy;
mod pty;
mod schedules;
mod scratch;
mod short;
mod signals;
mod stop;
mod supervised;
mod terminal;
mod typed;
mod watch;
