//! The `parole` program: everything that touches a terminal, the environment or the home directory.
//!
//! # How to read it
//!
//! [`commands`] has one file per word: an `Args` struct whose doc comment is the help, and a
//! function. What they share: [`state`] finds the state directory and opens the runtime,
//! [`console`] shows what guests put out, [`session`] drives a run while it listens for
//! signals and answers, [`ask`] and [`terminal`] put questions to a person, [`question`] is a call that one decides
//! about, [`texts`] reads text files, [`supervisor`] and [`watcher`] are the two processes of `resume --all --watch`,
//! [`output`] is the only file that writes to stdout or stderr, [`fail`] maps every failure to an exit code.
//!
//! # What it does not do
//!
//! It decides nothing about guests: that is the policy's, and it keeps nothing itself.

mod ask;
mod commands;
mod console;
mod diagnostics;
mod fail;
mod json;
mod lines;
mod output;
mod policy_flags;
mod program;
mod question;
mod report;
mod session;
mod shell;
mod start;
mod state;
mod supervisor;
mod table;
mod terminal;
mod texts;
mod times;
mod watch;
mod watcher;
mod who;

fn main() -> std::process::ExitCode {
    start::main()
}
