//! Load, link, run, suspend, park and resume guests under a policy.
//!
//! # How to read it
//!
//! [`builder`] puts a [`Runtime`] together, [`runtime`] has its entry points, [`drive`] takes an
//! execution from its start to its end or its next wait, [`attempt`] is one instance of a guest
//! from its first instruction to its last. [`link`] decides before the start, [`compiler`]
//! and [`artefact`] turn bytes into machine code, [`view`] reads what is stored.
//!
//! # What it does not do
//!
//! It never touches a terminal, the environment or the home directory, and it never looks into
//! guest code: what a guest may do is what it imports and the policy grants.

mod artefact;
mod attempt;
mod blame;
pub mod block_on;
mod blocking;
pub mod builder;
pub mod compiler;
pub mod drive;
pub mod engine;
pub mod error;
mod exported;
pub mod felled;
pub mod grants;
pub mod guest;
pub mod invoke;
mod limiter;
pub mod link;
mod prepared;
pub mod promises;
pub mod report;
pub mod runtime;
pub mod schedules;
mod scope;
mod setup;
pub mod standing;
pub mod stop;
pub(crate) mod surface;
mod under_way;
mod unfinished;
pub mod view;
pub mod work;

pub use blocking::Blocking;
pub use builder::Builder;
pub use compiler::Compiler;
pub use drive::Replayed;
pub use error::Error;
pub use exported::Exported;
pub use guest::Guest;
pub use parole_capabilities::sink::NotShown;
pub use promises::{Held, Listed, Promises, Settled};
pub use report::{At, Denied, Outcome, Pending, Report};
pub use runtime::{Inspection, ResumeOptions, RunOptions, Runtime, Wait};
pub use schedules::{Missed, Overlap, Planned, Schedule, Spec, When};

pub use parole_capabilities::backends::trust::read_authority;
pub use parole_capabilities::call::audit;
pub use parole_capabilities::call::hosted::{Answered, CallError, Capability, Reply, Request};
pub use parole_capabilities::call::question::{self, Question};
pub use parole_capabilities::call::wire;
pub use parole_capabilities::{ALL, CATALOGUE, Call, Event, Sink, Validator};
pub use parole_durable::store::PromiseFilter;
pub use parole_durable::{ExecutionId, ScheduleId};
pub use parole_policy::{Level, SecurityPolicy};
