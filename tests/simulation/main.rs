//! Deterministic simulation of the whole saga: the product's roles in one thread, virtual time, and
//! a world in which everything fails that can. `docs/SIMULATION.md` says how to use it.

mod auditor;
mod book;
mod broker;
mod chaos;
mod clients;
mod dice;
mod faults;
mod fleet;
mod gate;
mod history;
mod limiter;
mod many;
mod promotion;
mod scenarios;
mod store;
mod trace;
mod world;
