//! Whole-program tests of Parole.

pub mod canary;
pub mod canary_pages;
pub mod canary_socket;
pub mod crash;
pub mod crash_acts;
pub mod crash_ends;
pub mod crash_fire;
pub mod crash_grants;
pub mod crash_held;
pub mod crash_load;
pub mod crash_outside;
pub mod crash_points;
pub mod crash_scenarios;
pub mod crash_schedules;
pub mod crash_trace;
pub mod crash_twice;
pub mod fixture;
pub mod netns;
pub mod netns_world;
pub mod postgres;
pub mod powercut;
pub mod powercut_scenarios;
pub mod powercut_trace;
pub mod readme;
pub mod stub_dns;
pub mod watch_chaos;
