//! What goes wrong between one process and its stores and broker: wrappers of the real adapters
//! with switches. Other processes of the same cluster notice nothing.

mod broker;
mod store;
mod tx;

pub use broker::{BrokerFaults, FaultyBroker, SendFault};
pub use store::{FaultyStore, ShardFaults, StoreFaults, Unconfirmed};
