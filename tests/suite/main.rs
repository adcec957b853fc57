//! One test binary for everything that needs a store, a broker, HTTP or processes.

mod breakers;
mod broker_contract;
mod cli;
mod http_api;
mod pipeline;
mod proxy;
mod services;
mod store_contract;
mod wait;
