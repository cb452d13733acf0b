//! What lies outside of the machine: the network client of the process, the secrets that policies name, and
//! the connections of one execution.

use std::sync::Arc;

use crate::net::{Client, Connections};
use crate::websocket::Sockets;

/// Looks up a variable that a policy names with `url_env`.
pub type Variables = dyn Fn(&str) -> Option<String> + Send + Sync;

/// What all executions of a runtime share.
pub struct Outside {
    /// Dials and speaks.
    pub client: Client,
    /// The library never looks at the environment: its user does.
    pub variables: Arc<Variables>,
}

/// The connections of one execution; they are never shared, and do not outlive the process.
#[derive(Default)]
pub(crate) struct Links {
    pub(crate) http: Connections,
    pub(crate) sockets: Sockets,
}
