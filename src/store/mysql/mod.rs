//! MySQL 8.0 and later: one database a shard.

mod driver;
mod migrate;
mod statements;

pub use driver::{MySqlSettings, MySqlStore, encrypted};
pub use migrate::{migrate, pending};
