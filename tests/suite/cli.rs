//! The command line as its users have it: the built program, its exit codes and what it prints.

mod configuration;
mod documents;
mod embedded;
mod imports;
mod operators;
pub mod program;
mod recovery;
mod serving;
mod usage;
