//! What the system is told about a process that serves.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Keeps secrets out of core dumps, and lets the process have as many connections as it may.
/// What the system refuses is a warning: it is no reason not to serve.
pub fn set(core_dumps: bool) {
    if !core_dumps {
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        if let Err(error) = setrlimit(Resource::Core, none) {
            tracing::warn!(%error, "core dumps cannot be switched off: one would hold secrets");
        }
    }
    // The soft limit is 1024 in most places, for the sake of programs that use select(2).
    let files = getrlimit(Resource::Nofile);
    if files.current != files.maximum {
        let most = Rlimit { current: files.maximum, maximum: files.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, most) {
            tracing::warn!(%error, "the number of open files stays at {:?}", files.current);
        }
    }
}
