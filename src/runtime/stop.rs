//! The end of a process: the first signal asks for it, a second one does not wait.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that a second signal ended: the shell's 128 + SIGTERM.
const IMPATIENT: i32 = 143;

/// A token that SIGINT or SIGTERM cancels. From then on a further signal ends the process at once,
/// which is safe at any instruction and only costs what was under way.
pub fn on_signal() -> io::Result<CancellationToken> {
    let mut signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        any(&mut signals).await;
        asked.cancel();
        any(&mut signals).await;
        std::process::exit(IMPATIENT);
    });
    Ok(stop)
}

async fn any([first, second]: &mut [Signal; 2]) {
    tokio::select! {
        biased;
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}
