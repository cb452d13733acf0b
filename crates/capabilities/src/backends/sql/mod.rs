//! Databases: one statement of SQL, by the engine that a policy names.

pub mod engine;
pub mod postgres;
pub mod sqlite;
