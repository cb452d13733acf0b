//! The capabilities that Parole ships: one file each.
//!
//! # How to read it
//!
//! [`ALL`] is the only list. A capability is one WIT file, one file in `capability/` and one line in
//! that list: its policy key, journal name, listing and check of answers come from its
//! [`Entry`]. [`call`] is the path of every call, [`backends`] are the means to perform one.
//! [`error`] is what guests see of errors.
//!
//! # What it does not do
//!
//! It does not decide (that is `parole_policy::decide`), it does not keep anything (that is
//! `parole_durable`), and it neither loads nor drives guests (that is `parole_runtime`).

pub mod backends;
pub mod call;
mod capability;
pub mod clock;
pub mod error;
pub mod inert;
pub mod lack;
pub mod meter;
pub mod sink;
pub mod stop;
pub mod stopping;
pub mod waiting_room;

use std::sync::{Arc, LazyLock};

use parole_durable::{EffectClass, PromiseId};
use parole_policy::{Catalogue, Definition, SecurityPolicy};
use wasmtime::component::LinkerInstance;

pub use call::opened::OpenedPolicy;
pub use call::validator::{Call, Validator};
pub use call::{Execution, StoreData};
pub use capability::ALL;
pub use error::Error;
pub use meter::Meter;
pub use sink::{Event, Sink};
pub use stop::Stop;

/// The capabilities as the policy crate wants them.
pub static CATALOGUE: LazyLock<Catalogue> =
    LazyLock::new(|| Catalogue::new(ALL.iter().map(|entry| Arc::clone(&entry.definition))));

/// A capability that Parole ships.
pub struct Entry {
    /// What policy and people know of it.
    pub definition: Arc<Definition>,
    /// The effect class of each of its functions.
    pub classes: &'static [EffectClass],
    /// Its WIT text.
    pub wit: &'static str,
    /// Defines its functions in the instance of its interface.
    pub link: fn(&mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()>,
    /// Of one that only sends: the channel of its frames in the journal.
    pub channel: Option<u8>,
    /// How the journal keeps its ok payload.
    pub payload: Payload,
    /// Turns the ok value of one of its functions, as a person tells it of a call in doubt (JSON), into what the
    /// journal keeps; the error says what was expected.
    pub done: fn(&str, &serde_json::Value) -> Result<Vec<u8>, String>,
    /// Takes away what a call that was cut short may have left where a policy let it, from its recorded arguments and
    /// its id; for each policy that the execution has had. `None`: nothing is ever left.
    pub sweep: Option<Sweep>,
}

impl Entry {
    /// The names that the journal has for its functions, with their effect classes.
    pub fn functions(&self) -> impl Iterator<Item = (&str, EffectClass)> {
        self.definition.functions.iter().map(|function| &*function.name).zip(self.classes.iter().copied())
    }
}

/// Takes away what a call has left; see [`Entry::sweep`].
pub type Sweep = fn(&SecurityPolicy, &[u8], &PromiseId);

/// How the journal keeps an ok payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// There is none.
    Unit,
    /// As JSON.
    Json,
    /// As it is.
    Bytes,
}

/// The entry of a capability.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Entry> {
    ALL.iter().copied().find(|entry| *entry.definition.name == *name)
}

/// The shared WIT: the package line with the `types` interface, and the worlds.
pub const WIT_SHARED: [&str; 2] = [include_str!("../../../wit/types.wit"), include_str!("../../../wit/worlds.wit")];
