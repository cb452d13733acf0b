//! What a list finds: entries, and beside them what cannot be read.

use std::sync::Arc;

use super::StoreError;
use crate::ids::ExecutionId;

/// A list that does not stop at an entry that is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    /// The entries that are whole, in their order.
    pub whole: Vec<T>,
    /// The others.
    pub damaged: Vec<Damaged>,
}

/// An entry that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Whose, where that can be told.
    pub execution: Option<ExecutionId>,
    /// What is wrong.
    pub what: Arc<str>,
}

impl<T> Listing<T> {
    /// The entries, where all of them must be whole.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names the first that is not.
    pub fn all(self) -> Result<Vec<T>, StoreError> {
        match self.damaged.into_iter().next() {
            None => Ok(self.whole),
            Some(damaged) => Err(StoreError::Damaged(damaged.what)),
        }
    }
}

impl<T> From<Vec<T>> for Listing<T> {
    fn from(whole: Vec<T>) -> Self {
        Self { whole, damaged: Vec::new() }
    }
}
