//! The capabilities: one file each. Nowhere else is one of them known by its name.

pub(crate) mod approve;
pub(crate) mod display;
pub(crate) mod fetch;
pub(crate) mod input;
pub(crate) mod log;
mod person;
pub(crate) mod print;
pub(crate) mod query;
pub(crate) mod read_file;
pub(crate) mod review;
pub(crate) mod sleep;
pub(crate) mod websocket;
pub(crate) mod write_file;
