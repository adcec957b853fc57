//! One test binary for everything that needs a store, a broker, HTTP or processes.

mod breakers;
mod broker_contract;
mod callers;
mod cli;
mod crash;
mod http_api;
mod outages;
mod pipeline;
mod promotion;
mod proxy;
mod services;
mod store_contract;
mod wait;
