//! A load generator for a running Holdfast: what a caller sees, over HTTP, nothing else.
//!
//! Load is open-loop: a request's latency counts from the moment it was due, so that a server that
//! stalls cannot hide it (no coordinated omission). Each transfer is sent once, and once more with
//! the same key and `Prefer: wait` to learn when its end is visible to its caller.

pub mod ceiling;
mod client;
mod host;
mod load;
pub mod mysql;
mod process;
mod replay;
mod report;
mod text;

pub use client::{Api, ApiError};
pub use load::{Load, steady};
pub use replay::{Row, replay};
pub use report::{Latency, Report};
