//! The command line as its users have it: the built program, its exit codes and what it prints.

mod bench;
mod bench_servers;
mod configuration;
mod documents;
mod embedded;
mod encryption;
mod imports;
mod metrics;
mod operators;
mod privacy;
#[allow(dead_code, reason = "tests/faults uses the rest")]
pub mod program;
mod recovery;
mod released;
mod serving;
mod traces;
mod usage;
