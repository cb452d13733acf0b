//! Whole-program tests of Parole.

pub mod canary;
pub mod crash;
pub mod crash_ends;
pub mod crash_load;
pub mod crash_points;
pub mod crash_scenarios;
pub mod crash_trace;
pub mod fixture;
pub mod netns;
pub mod pages;
pub mod stub_dns;
pub mod websocket;
pub mod postgres;
