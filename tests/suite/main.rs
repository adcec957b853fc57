//! One test binary for everything that needs a store, a broker, HTTP or processes.

mod broker_contract;
mod services;
mod store_contract;
