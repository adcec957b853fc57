//! SQLite: one file a shard, for the embedded mode. Same semantics, one writer at a time.

mod batch;
mod driver;
mod migrate;
mod statements;

pub use driver::{SqliteSettings, SqliteStore};
pub use migrate::{migrate, pending};
