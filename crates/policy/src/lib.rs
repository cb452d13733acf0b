//! Levels, grants, limits, the policy file and the one decide function of Parole.
//!
//! **What it is.** A [`SecurityPolicy`] says what one guest may do: a [`Level`], a block list, what each
//! granted capability may reach (a [`Grant`]) and how much of the machine the guest may use ([`Limits`]).
//! It comes from a TOML file ([`SecurityPolicy::parse`]), from command-line flags
//! ([`SecurityPolicy::from_flags`], [`SecurityPolicy::narrow`]) or from Rust (the builder methods).
//! Two questions are put to it: may this import be linked ([`SecurityPolicy::link`]), and may this call be
//! made ([`decide`])?
//!
//! **How to read it.** `level` and `capability` are the words, `limits` and `timeout` the numbers, `grant` (with
//! `origin`, `database`, `database_url` and `authority`) what one capability may reach, `rule` (with `condition` and `argtype`) what is looked at
//! call by call, `policy` the whole. `file` (with `reader`, `file_grants`, `file_net` and `file_rules`) and `flags`
//! (with `flags_net`) are the two ways in; `change` grants and revokes, `within` and `validate` compare and check.
//! `link` (with `name`) and `decide` (with `paths` and `denial`) are the two questions; `guest_path`, `target` (with
//! `percent`) and `headers` make the one form of what is decided on, and `looks` says which parts rules look at; `dial` is the same
//! question once a name has become an address. `cel` checks and evaluates conditions. `explain` says which line of
//! the file gave the answer. `nearest` makes the words of an error.
//!
//! **What it does not do.** No I/O, no clock, no environment, no wasmtime, no terminal: a host path is only
//! text here, so whoever calls it makes paths canonical first (see [`SecurityPolicy::stays_within`] and
//! [`SecurityPolicy::overlap`]). It does not count quotas or bytes that were read: those are state of the
//! host. The table of capabilities lives in the crate above and is handed in as a [`Catalogue`].

mod argtype;
mod authority;
mod cel;
mod change;
mod condition;
mod database;
mod database_url;
mod decide;
mod definition;
mod denial;
mod dial;
mod explain;
mod facts;
mod file;
mod file_capability;
mod file_grants;
mod file_net;
mod file_rules;
mod flags;
mod flags_net;
mod grant;
mod guest_path;
mod headers;
pub mod json;
mod level;
mod limits;
mod link;
mod looks;
mod name;
mod nearest;
mod origin;
mod owned;
mod paths;
mod percent;
mod policy;
mod reader;
mod rule;
mod schema;
mod target;
mod timeout;
mod typed;
mod user;
mod validate;
mod wit;
mod within;

pub use argtype::{MAX_ITEMS, MAX_SEEN};
pub use authority::{Authority, Certificates, MAX_AUTHORITIES, MAX_AUTHORITY, ReadAuthority};
pub use condition::{BadCondition, Condition, MAX_COST, MAX_DEPTH, MAX_EXPRESSION, MAX_HELD, MAX_NESTING};
pub use database::{Database, MAX_DATABASE_NAME, MAX_DATABASES, Mode, Source};
pub use database_url::{DatabaseOptions, Security, database_options};
pub use decide::{Asked, Permit, Verdict, decide, reach};
pub use definition::{Catalogue, Definition, Flag, GrantKey, Key, Kind, ScopeKind, TYPES_INTERFACE};
pub use denial::{Denial, DenialKind};
pub use dial::{MAX_PRIVATE, is_global, may_dial};
pub use explain::Explanation;
pub use facts::{Fact, Facts, Fields, PlainFacts, QueryValue, Resource};
pub use file::{Files, MAX_ERRORS, MAX_FILE, PolicyError};
pub use flags::{FlagError, Flags};
pub use grant::{
    DEFAULT_ANSWER_BYTES, DEFAULT_MAX_BYTES, DEFAULT_MAX_FILES, DEFAULT_MAX_ROWS, DEFAULT_METHODS, DEFAULT_QUOTA,
    DirGrant, FORBIDDEN_METHODS, Grant, GrantEffect, HOST_TIMEOUT, MAX_ATTEMPTS, MAX_BACKOFF_MS, MAX_BYTES, MAX_DIRS,
    MAX_FILES, MAX_METHOD, MAX_METHODS, MAX_QUOTA, MAX_ROWS, Retry,
};
pub use guest_path::GuestPath;
pub use headers::Headers;
pub use ipnet::IpNet;
pub use level::{Level, LevelRow, UnknownLevel, levels};
pub use limits::{LimitKey, Limits, Unit, parse_size, size_text};
pub use link::{Link, LinkDenial};
pub use looks::Looks;
pub use origin::{BadOrigin, Host, MAX_ORIGIN, MAX_ORIGINS, Origin, Scheme};
pub use owned::{OwnedFact, OwnedFields};
pub use paths::{MAX_GUEST_PATH, MAX_HOST_PATH};
pub use policy::{PinError, SecurityPolicy};
pub use rule::{MAX_RULE_NAME, MAX_RULES, Rule, Then};
pub use schema::{ErrorType, Field, Function, Int, Type, field};
pub use target::{MAX_URL, Target};
pub use timeout::{BadDuration, MAX_TIMEOUT_MS, Timeout};
pub use typed::{Mistyped, Typed};
pub use url::Url;
pub use user::{MAX_DEFINED, MAX_INTERFACE, ReadWit, UserCapability, Via, WORK_TIMEOUT, WorkEffect};
pub use wit::{MAX_FUNCTIONS, MAX_TYPE_DEPTH, MAX_TYPES, MAX_WIT};
pub use within::Overlap;
