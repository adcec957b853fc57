//! Holdfast: moves money between accounts on different MySQL shards, exactly once, through seven
//! steps joined by Kafka. `docs/ARCHITECTURE.md` walks through one transfer.

pub mod access;
pub mod backlog;
pub mod bench;
pub mod breaker;
pub mod broker;
pub mod cache;
pub mod cancel;
pub mod cli;
pub mod commit;
pub mod config;
pub mod context;
pub mod crash;
pub mod credit;
pub mod domain;
pub mod ease;
pub mod hold;
pub mod ingress;
pub mod limits;
pub mod operator;
pub mod projector;
pub mod proposals;
pub mod quarantine;
pub mod random;
pub mod reconciler;
pub mod relay;
pub mod roles;
pub mod routing;
pub mod runtime;
pub mod seldom;
pub mod stage;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod turn;
pub mod worker;
