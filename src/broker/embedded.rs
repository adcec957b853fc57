//! Embedded durable log.
