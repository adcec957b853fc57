//! The REST API in process, on the embedded store, without any worker running.

mod access;
mod accounts;
mod connections;
mod description;
mod operations;
mod outages;
mod proposals;
mod refusals;
mod sealing;
mod table;
mod traces;
mod transfers;
mod world;
