//! The means to perform a call: files, network, databases, the calendar; and what all executions of a runtime share of them.

pub mod calendar;
pub mod files;
pub mod net;
pub mod sql;
pub mod trust;

use std::sync::Arc;

use parole_policy::Authority;
use tokio_rustls::rustls::ClientConfig;

use crate::backends::net::{Client, Failure};
use crate::backends::sql::{engine, postgres};

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
    /// The roots of trust of the runtime beside the public ones, PEM.
    roots: Vec<Vec<u8>>,
}

impl Outside {
    /// The outside as it is, with more roots of trust (PEM) than the public ones.
    ///
    /// # Errors
    /// A text is not one of certificates.
    pub fn new(roots: &[Vec<u8>], variables: Arc<Variables>) -> Result<Self, String> {
        let all: Vec<&[u8]> = roots.iter().map(Vec::as_slice).collect();
        let client = Client::new(&all).map_err(|failure| failure.to_string())?;
        let databases = postgres::trust(&all).map_err(|_| "a root certificate cannot be used".to_owned())?;
        Ok(Self { client, databases, variables, roots: roots.to_vec() })
    }

    /// The client for a grant that trusts these authorities too.
    pub(crate) fn client_for(&self, authorities: &[Authority]) -> Result<Client, Failure> {
        if authorities.is_empty() {
            return Ok(self.client.clone());
        }
        Ok(self.client.trusting(Client::new(&self.with(authorities))?))
    }

    /// What certificates are trusted of the server of a database with these authorities.
    pub(crate) fn databases_for(
        &self,
        authorities: Option<&Vec<Authority>>,
    ) -> Result<Arc<ClientConfig>, engine::Failure> {
        match authorities {
            None => Ok(Arc::clone(&self.databases)),
            Some(authorities) => postgres::trust(&self.with(authorities)),
        }
    }

    fn with<'r>(&'r self, authorities: &'r [Authority]) -> Vec<&'r [u8]> {
        self.roots.iter().map(Vec::as_slice).chain(trust::pems(authorities)).collect()
    }
}
