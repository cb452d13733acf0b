//! Whole-program tests of Parole.

pub mod fixture;
