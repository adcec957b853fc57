//! Holdfast: moves money between accounts on different MySQL shards, exactly once, through seven
//! steps joined by Kafka. `docs/ARCHITECTURE.md` walks through one transfer.

pub mod broker;
pub mod domain;
pub mod routing;
pub mod store;
