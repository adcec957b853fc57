//! Measuring: load on a running Holdfast over HTTP, reads beside it, and what MySQL alone can do.
//!
//! The load is open-loop: a request's latency counts from the moment it was due, so that a server
//! that stalls cannot hide it (no coordinated omission). What callers see of the end is learnt from
//! a sample that is sent once more with the same key and `Prefer: wait`; how many end is read from
//! the processes' own counters. The generator shares its machine with what it measures: one thread,
//! few objects, and its own processor time in the report.

pub mod ceiling;
mod client;
pub mod cost;
mod credential;
mod host;
mod latency;
pub mod load;
pub mod metrics;
pub mod mysql;
pub mod process;
pub mod reads;
pub mod replay;
pub mod stages;
mod text;
mod wire;

pub use client::{Api, ApiError};
pub use credential::Credential;
pub use wire::Target;
