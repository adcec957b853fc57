//! One test binary for everything that needs a store, a broker, HTTP or processes.

mod breakers;
mod broker_contract;
mod cli;
mod collector;
mod http_api;
mod log;
mod oidc;
mod pipeline;
#[allow(dead_code, reason = "tests/faults uses the rest")]
mod proxy;
#[allow(dead_code, reason = "tests/faults uses the rest")]
mod services;
mod store_contract;
mod transport;
#[allow(dead_code, reason = "tests/faults uses the rest")]
mod wait;
