//! What a guest of Parole may ask of its host, as plain Rust functions.
//!
//! ```no_run
//! fn run() -> Result<(), parole_guest::Error> {
//!     let name = parole_guest::input("What is your name?")?;
//!     parole_guest::print(&format!("Hello, {name}!"));
//!     Ok(())
//! }
//!
//! parole_guest::export!(run);
//! # fn main() {}
//! ```
//!
//! A guest is a library (`crate-type = ["cdylib"]`) compiled for `wasm32-unknown-unknown` and
//! then made a component. It imports an interface only if it calls a function of it, so its list
//! of imports says what it can do at most. To have the compiler hold a guest to a level, choose it
//! as a feature: `default-features = false, features = ["sandbox"]`.
//!
//! Every call waits until the host has the answer. That can be weeks for [`input`], [`approve`]
//! and [`review`], and for any other call about which the policy wants a person asked: the host
//! may stop meanwhile, and runs the guest again up to the same place. A guest needs to do nothing
//! for that: the time and random bytes come from the host, which gives a second run the same ones,
//! and there are no threads that could make it differ.
//!
//! | from level | functions |
//! |---|---|
//! | `sandbox` | [`print()`], [`log`], [`display`], [`now`], [`random_bytes`] |
//! | `restricted` | [`input`], [`approve`], [`review`], [`sleep`], [`schedule`], [`read_file`] |
//! | `standard` | [`write_file`], [`fetch`] |
//! | `trusted` | [`query()`], [`websocket`] |
//!
//! A panic ends the guest with a trap, and its message is lost: return an error instead.

mod error;
#[cfg(feature = "standard")]
pub mod fetch;
#[cfg(feature = "trusted")]
pub mod query;
#[cfg(feature = "trusted")]
pub mod websocket;

pub use error::Error;
#[cfg(feature = "trusted")]
pub use query::query;

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The bindings that wit-bindgen made. Use the functions of this crate.
#[doc(hidden)]
#[allow(missing_docs, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "guest",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_world",
        default_bindings_module: "parole_guest::bindings",
    });
}

use bindings::parole::capabilities as wit;

/// How much a log record matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Step by step.
    Trace,
    /// For whoever looks for a mistake.
    Debug,
    /// Worth knowing.
    Info,
    /// Perhaps wrong.
    Warn,
    /// Wrong.
    Error,
}

/// What a person said about a text: see [`review`].
#[cfg(feature = "restricted")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Whether the text may be used.
    pub accepted: bool,
    /// The text as the person left it: it may have been edited.
    pub text: String,
    /// What the person had to say about it.
    pub comment: Option<String>,
}

/// Writes the text and a line end to the output of the execution. From level `sandbox`.
pub fn print(text: &str) {
    wit::print::print(text);
}

/// Writes one record to the log of the host; it is not part of the output. From level `sandbox`.
pub fn log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => wit::log::Level::Trace,
        Level::Debug => wit::log::Level::Debug,
        Level::Info => wit::log::Level::Info,
        Level::Warn => wit::log::Level::Warn,
        Level::Error => wit::log::Level::Error,
    };
    wit::log::log(level, message);
}

/// Shows data to a person. From level `sandbox`.
///
/// `text/plain`, `text/markdown`, `application/json`, `image/png` and `image/svg+xml` are known;
/// of others only type and size are shown.
pub fn display(mime: &str, data: &[u8]) {
    wit::display::display(mime, data);
}

/// The time, in whole milliseconds. From level `sandbox`.
///
/// It never goes back. A guest that is run again gets the same times again.
pub fn now() -> SystemTime {
    time(wit::clock::now())
}

fn time(unix_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(unix_ms)
}

/// So many random bytes, 1 MiB at most: more ends the execution. From level `sandbox`.
///
/// They are fit for keys and tokens. A guest that is run again gets the same bytes again.
pub fn random_bytes(length: u32) -> Vec<u8> {
    wit::random::bytes(length)
}

/// Asks a person for a line of text. From level `restricted`.
///
/// # Errors
///
/// [`Error::Expired`] if nobody answered in time, [`Error::Canceled`], [`Error::Denied`].
#[cfg(feature = "restricted")]
pub fn input(prompt: &str) -> Result<String, Error> {
    Ok(wit::input::input(prompt)?)
}

/// Asks a person for a yes or no. From level `restricted`.
///
/// # Errors
///
/// [`Error::Expired`] if nobody answered in time, [`Error::Canceled`], [`Error::Denied`].
#[cfg(feature = "restricted")]
pub fn approve(question: &str) -> Result<bool, Error> {
    Ok(wit::approve::approve(question)?)
}

/// Lets a person read, edit, and accept or refuse a text. From level `restricted`.
///
/// # Errors
///
/// [`Error::Expired`] if nobody answered in time, [`Error::Canceled`], [`Error::Denied`]. A
/// refused text is no error: see [`Decision::accepted`].
#[cfg(feature = "restricted")]
pub fn review(title: &str, text: &str) -> Result<Decision, Error> {
    let wit::review::Decision { accepted, text, comment } = wit::review::review(title, text)?;
    Ok(Decision { accepted, text, comment })
}

/// Waits at least this long, across restarts of the host. From level `restricted`.
///
/// The host counts in milliseconds: a part of one counts as a whole.
///
/// # Errors
///
/// [`Error::Canceled`], or [`Error::Exhausted`] if the execution may not wait that long.
#[cfg(feature = "restricted")]
pub fn sleep(duration: Duration) -> Result<(), Error> {
    Ok(wit::sleep::sleep(milliseconds(duration))?)
}

/// Waits for the next time at which a cron pattern of five fields (`30 9 * * mon-fri`) matches on
/// the clock of a time zone (`Europe/Berlin`), across restarts of the host, and says which time
/// that was. From level `restricted`.
///
/// # Errors
///
/// [`Error::Invalid`] if the pattern or the zone cannot be read, [`Error::Canceled`], or
/// [`Error::Exhausted`] if the execution may not wait.
#[cfg(feature = "restricted")]
pub fn schedule(pattern: &str, zone: &str) -> Result<SystemTime, Error> {
    Ok(time(wit::schedule::wait(pattern, zone)?))
}

#[cfg(feature = "restricted")]
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Reads a whole regular file of a directory that the policy grants. From level `restricted`.
///
/// # Errors
///
/// [`Error::Denied`] if the policy does not grant it, [`Error::NotFound`], [`Error::TooLarge`].
#[cfg(feature = "restricted")]
pub fn read_file(path: &str) -> Result<Vec<u8>, Error> {
    Ok(wit::read_file::read_file(path)?)
}

/// Replaces a file of a directory that the policy grants, all or nothing. From level `standard`.
///
/// Its parent directory must exist.
///
/// # Errors
///
/// [`Error::Denied`] if the policy does not grant it, [`Error::NotFound`] if the directory is
/// missing, [`Error::TooLarge`], [`Error::Exhausted`].
#[cfg(feature = "standard")]
pub fn write_file(path: &str, contents: &[u8]) -> Result<(), Error> {
    Ok(wit::write_file::write_file(path, contents)?)
}

/// Makes a function the `run` of this guest.
///
/// The function takes nothing and returns `Result<(), E>` where `E` is [`Display`]: [`Error`],
/// `String`, `Box<dyn std::error::Error>`. The text of an error is the result of the execution.
#[macro_export]
macro_rules! export {
    ($run:path) => {
        const _: () = {
            struct Guest;

            impl $crate::bindings::Guest for Guest {
                fn run() -> ::core::result::Result<(), ::std::string::String> {
                    $crate::outcome($run())
                }
            }

    $crate::bindings::export_world!(Guest with_types_in $crate::bindings);
        };
    };
}

#[doc(hidden)]
pub fn outcome<E: Display>(result: Result<(), E>) -> Result<(), String> {
    result.map_err(|error| error.to_string())
}

#[cfg(all(test, feature = "restricted"))]
mod tests {
    use super::*;

    #[test]
    fn no_sleep_is_shorter_than_asked() {
        assert_eq!(milliseconds(Duration::ZERO), 0);
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_millis(300)), 300);
        assert_eq!(milliseconds(Duration::MAX), u64::MAX);
    }

    #[test]
    fn the_text_of_an_error_is_the_result() {
        let denied = Error::Denied("read_file /secret".to_owned());
        assert_eq!(outcome(Err(denied)), Err("denied: read_file /secret".to_owned()));
        assert_eq!(outcome::<Error>(Ok(())), Ok(()));
    }
}
