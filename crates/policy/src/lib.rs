//! Levels, grants, limits, the policy file and the one decide function of Parole.
//!
//! **What it is.** A [`SecurityPolicy`] says what one guest may do: a [`Level`], a block list, what each
//! granted capability may reach (a [`Grant`]) and how much of the machine the guest may use ([`Limits`]).
//! It comes from a TOML file ([`SecurityPolicy::parse`]), from command-line flags
//! ([`SecurityPolicy::from_flags`], [`SecurityPolicy::narrow`]) or from Rust (the builder methods).
//! Two questions are put to it: may this import be linked ([`SecurityPolicy::link`]), and may this call be
//! made ([`decide`])?
//!
//! **How to read it.** `level` and `capability` are the words, `limits` and `timeout` the numbers, `grant`
//! what one capability may reach, `policy` the whole. `file` (with `reader` and `file_grants`) and `flags` are
//! the two ways in. `link` (with `name`) and `decide` (with `paths`) are the two questions. `explain` says
//! which line of the file gave the answer. `nearest` makes the words of an error.
//!
//! **What it does not do.** No I/O, no clock, no environment, no wasmtime, no terminal: a host path is only
//! text here, so whoever calls it makes paths canonical first (see [`SecurityPolicy::stays_within`] and
//! [`SecurityPolicy::overlap`]). It does not count quotas or bytes that were read: those are state of the
//! host. The table of capabilities lives in the crate above and is handed in as a [`Catalogue`].

mod capability;
mod decide;
mod explain;
mod file;
mod file_grants;
mod flags;
mod grant;
mod level;
mod limits;
mod link;
mod name;
mod nearest;
mod paths;
mod policy;
mod reader;
mod timeout;

pub use capability::{Capability, Catalogue, GrantKey, Kind, READ_FILE, TYPES_INTERFACE, WRITE_FILE};
pub use decide::{Arguments, Denial, DenialKind, Permit, Verdict, decide};
pub use explain::Explanation;
pub use file::{MAX_ERRORS, MAX_FILE, PolicyError};
pub use flags::{FlagError, Flags};
pub use grant::{
    DEFAULT_MAX_BYTES, DEFAULT_MAX_FILES, DEFAULT_QUOTA, DirGrant, Grant, HOST_TIMEOUT, MAX_BYTES, MAX_DIRS, MAX_FILES,
    MAX_QUOTA,
};
pub use level::{Level, LevelRow, UnknownLevel, levels};
pub use limits::{LimitKey, Limits, Unit, parse_size, size_text};
pub use link::{Link, LinkDenial};
pub use paths::{MAX_GUEST_PATH, MAX_HOST_PATH};
pub use policy::{Overlap, PinError, SecurityPolicy};
pub use timeout::{BadDuration, MAX_TIMEOUT_MS, Timeout};
