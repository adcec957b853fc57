//! Rate limits: who may call how often. Rules come from the configuration, buckets are in Redis.

mod limiter;
mod rules;

pub use limiter::{Limiter, Verdict};
pub use rules::{Class, Rate, Rule, Rules, Subject};
