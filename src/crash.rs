//! Places between two effects of a role, where a test can have the process killed.
//!
//! They do nothing unless the crate `fail` is built with its `failpoints` feature: in the tests,
//! and in builds with `--features failpoints`. There, the environment variable `FAILPOINTS` says
//! which place kills, and at which visit: `FAILPOINTS='hold.applied=3*off->return'` sends the
//! process SIGKILL when hold has applied its fourth batch and announced nothing of it.

use crate::roles::Role;

/// A place between two effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A transaction was opened and nothing is written in it.
    Begun,
    /// All is written and no COMMIT was sent.
    Written,
    /// The COMMIT is confirmed; nobody has heard of it.
    Committed,
    /// Ingress: accepted, and not answered.
    Accepted,
    /// Relay: rows were read and nothing is sent. Workers: records were read.
    Read,
    /// Relay: records are acknowledged and their rows not marked.
    Acknowledged,
    /// Relay: rows are marked.
    Marked,
    /// Workers: a batch is applied and not announced.
    Applied,
    /// Workers: what a batch announced is acknowledged, and its offsets not committed.
    Announced,
    /// Workers: offsets were handed over to be committed.
    Offset,
    /// Projector: the balances are in the store and not in Redis.
    Projected,
    /// Reconciler: the mark has moved and nothing was driven on.
    Scanned,
    /// Reconciler: events were emitted again, and that is not noted.
    Emitted,
    /// Reconciler: a round is over.
    Seen,
}

impl Place {
    /// All places where a process that runs this role alone can be.
    pub fn of(role: Role) -> &'static [Self] {
        use Place::{
            Accepted, Acknowledged, Announced, Applied, Begun, Committed, Emitted, Marked, Offset,
            Projected, Read, Scanned, Seen, Written,
        };
        match role {
            Role::Ingress => &[Begun, Written, Committed, Accepted],
            Role::Relay => &[Read, Acknowledged, Marked],
            Role::Hold | Role::Credit | Role::Commit => {
                &[Read, Begun, Written, Committed, Applied, Announced, Offset]
            }
            Role::Projector => &[Read, Projected, Applied, Offset],
            Role::Reconciler => &[Scanned, Emitted, Seen],
        }
    }

    /// Its name in `FAILPOINTS`.
    pub fn name(self, role: Role) -> String {
        let place = format!("{self:?}").to_lowercase();
        match self {
            Self::Begun | Self::Written | Self::Committed => format!("transaction.{place}"),
            _ => format!("{role}.{place}"),
        }
    }
}

/// The process has come to a place of a role.
pub fn at(role: Role, place: Place) {
    // Not evaluated, and nothing at all, unless fail points are built in.
    fail::fail_point!(&place.name(role), |_| killed(&place.name(role)));
    let _ = (role, place);
}

/// A transaction has come to a place, whoever runs it.
pub fn in_transaction(place: Place) {
    at(Role::Ingress, place);
}

/// Reads `FAILPOINTS`; for as long as what it returns is kept.
pub fn points() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}

#[allow(dead_code, reason = "used where fail points are built in")]
fn killed(place: &str) {
    use rustix::process::{Signal, getpid, kill_process};
    // Written at once and by this thread: nothing else of the process lives on.
    eprintln!("killed at {place}");
    if kill_process(getpid(), Signal::KILL).is_err() {
        std::process::abort();
    }
    loop {
        std::thread::park();
    }
}
