//! The built program under load, and everything beneath it killed, stopped, slowed, cut off or
//! promoted. A binary of its own, whose tests run one after the other: each of them keeps a machine
//! busy, and other tests would wait for it.

mod callers;
mod cli;
mod crash;
mod outages;
mod promotion;
mod velocity;

#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/proxy.rs"]
mod proxy;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/services.rs"]
mod services;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/wait.rs"]
mod wait;

use tokio::sync::{Mutex, MutexGuard};

/// The turn of a test, until it is dropped.
pub async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}
