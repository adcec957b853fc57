//! A process that runs roles: it opens its HTTP door first, waits for the services it needs,
//! starts the roles, watches them, and stops all of it in order.

pub mod backend;
mod door;
mod limits;
pub mod migration;
mod process;
mod readiness;
pub(crate) mod stop;
pub(crate) mod supervisor;
mod waiting;

pub use door::{Door, HttpLimits};
pub use process::{ANYBODY, dev, serve};
pub use readiness::{Needs, Services, ask_all};
