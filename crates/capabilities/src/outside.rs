//! What lies outside of the machine: the network client of the process, the secrets that policies name, and
//! the connections of one execution.

use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;

use crate::net::{Client, Connections};
use crate::query::postgres;
use crate::websocket::Sockets;

/// Looks up a variable that a policy names with `url_env`.
pub type Variables = dyn Fn(&str) -> Option<String> + Send + Sync;

/// What all executions of a runtime share.
pub struct Outside {
    /// Dials and speaks.
    pub client: Client,
    /// What certificates of database servers are trusted.
    pub databases: Arc<ClientConfig>,
    /// The library never looks at the environment: its user does.
    pub variables: Arc<Variables>,
}

impl Outside {
    /// The outside as it is, with more roots of trust (PEM) than the public ones.
    ///
    /// # Errors
    /// A text is not one of certificates.
    pub fn new(roots: &[Vec<u8>], variables: Arc<Variables>) -> Result<Self, String> {
        let roots: Vec<&[u8]> = roots.iter().map(Vec::as_slice).collect();
        let client = Client::new(&roots).map_err(|failure| failure.to_string())?;
        let databases = postgres::trust(&roots).map_err(|_| "a root certificate cannot be used".to_owned())?;
        Ok(Self { client, databases, variables })
    }
}

/// The connections of one execution; they are never shared, and do not outlive the process.
#[derive(Default)]
pub(crate) struct Links {
    pub(crate) http: Connections,
    pub(crate) sockets: Sockets,
}
