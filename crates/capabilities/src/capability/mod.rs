//! The capabilities: one file each. Nowhere else is one of them known by its name.

pub(crate) mod approve;
pub(crate) mod clock;
pub(crate) mod display;
pub(crate) mod fetch;
pub(crate) mod input;
pub(crate) mod log;
mod person;
pub(crate) mod print;
pub(crate) mod query;
pub(crate) mod random;
pub(crate) mod read_file;
pub(crate) mod review;
pub(crate) mod schedule;
pub(crate) mod sleep;
pub(crate) mod websocket;
pub(crate) mod write_file;

use std::sync::LazyLock;

use crate::Entry;

/// Every capability, by level and then by name. A new one is one line here.
pub static ALL: LazyLock<Vec<&'static Entry>> = LazyLock::new(|| {
    vec![
        &clock::ENTRY,
        &display::ENTRY,
        &log::ENTRY,
        &print::ENTRY,
        &random::ENTRY,
        &approve::ENTRY,
        &input::ENTRY,
        &read_file::ENTRY,
        &review::ENTRY,
        &schedule::ENTRY,
        &sleep::ENTRY,
        &fetch::ENTRY,
        &write_file::ENTRY,
        &query::ENTRY,
        &websocket::ENTRY,
    ]
});
