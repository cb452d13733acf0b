//! Promises, the journal of an execution, its replay, and the stores that keep them.
//!
//! # How to read it
//!
//! [`ids`], [`promise`] and [`schedule`] are the words; [`step`] is what one recorded host call is;
//! [`journal`] is the replay core, a state machine that is told time, randomness and
//! records and does no I/O; [`store`] is what a store must do, [`memory`] its model and
//! [`sqlite`] the one that lasts, in a [`state_dir`]; [`owner`] is how processes tell
//! whether another one lives; [`hub`] commits the work of all executions of a
//! process as a group and wakes those that wait.
//!
//! # What it does not do
//!
//! It knows nothing of WebAssembly, of capabilities or of policies: arguments and results
//! are bytes to it. It never touches a terminal, the environment or the home directory.

pub mod hub;
pub mod ids;
pub mod journal;
pub mod memory;
pub mod owner;
pub mod promise;
pub mod schedule;
pub mod sqlite;
pub mod state_dir;
pub mod step;
pub mod store;

pub use hub::{Hub, WriteError};
pub use ids::{Digest, ExecutionId, Fence, OwnerId, PromiseId, ScheduleId, Secret, UnixMs};
pub use journal::Journal;
pub use promise::{PromiseRecord, PromiseState, Value};
pub use schedule::ScheduleRecord;
pub use step::{Completion, EffectClass, Stage, Step, StepResult};
pub use store::{Claim, Commit, GrantRecord, Reader, Store, StoreError, Write, Written};
