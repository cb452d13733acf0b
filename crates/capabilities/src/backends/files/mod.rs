//! Files of granted directories.

pub(crate) mod kept;
pub mod unfinished;
