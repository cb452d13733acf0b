//! The network module against servers on loopback that misbehave on purpose, and the engines of `query` on real
//! databases. Every refusal has a twin that passes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod canceled;
mod exchange;
mod limits;
mod odd;
mod peer;
mod query;
mod query_places;
mod reuse;
mod smuggling;
mod tls;
mod websocket;
mod where_to;
mod wire;
mod zipped;
