//! The one path of every call of a guest: from the door by which it comes, through the gate, to its effect or to who
//! answers it, and back.
//!
//! # How to read it
//!
//! [`Execution`] is a running guest as its calls see it; what it has is in [`state`]. A call comes in by a [`door`] and
//! is answered from the journal, or open; while it waits the [`driver`] carries it on. An open one is decided at the [`gate`], which may ask a person
//! ([`asking`]); it is performed, or waits for a promise ([`wait`]). [`barrier`] makes durable what was recorded.
//!
//! # What it does not do
//!
//! It knows no capability by its name, and nothing of what lies outside.

mod asking;
pub mod audit;
mod barrier;
mod call_request;
pub(crate) mod door;
pub mod driver;
pub mod effect;
mod execution;
pub mod failure;
mod gate;
pub mod hosted;
pub(crate) mod immediate;
pub mod opened;
mod perform;
pub mod permit;
pub mod question;
mod refusals;
pub mod retry;
pub mod slot;
mod state;
pub mod untyped;
pub mod validator;
mod view;
mod wait;
pub mod wire;

use barrier::OUTPUT_DELAY;
use call_request::CallRequest;
pub use execution::{
    Creation, Execution, ExecutionConfig, Gathered, Parking, Rescope, StoreData, capability_of, entry_of, is_users,
    show,
};
use gate::Gate;
pub use perform::REDIRECTS_MAX;
pub(crate) use perform::{act, ask};
use state::State;
