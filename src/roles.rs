//! The roles that a process can take.

use std::fmt;
use std::str::FromStr;

/// A role; a process runs any set of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Takes requests over HTTP and writes them with their outbox records.
    Ingress,
    /// Publishes the outbox.
    Relay,
    /// Holds the amount at the source.
    Hold,
    /// Credits the destination.
    Credit,
    /// Debits the source, or releases the hold.
    Commit,
    /// Keeps balances for reading.
    Projector,
    /// Drives on what stands still.
    Reconciler,
}

impl Role {
    /// All of them, in the order of the pipeline.
    pub const ALL: [Self; 7] = [
        Self::Ingress,
        Self::Relay,
        Self::Hold,
        Self::Credit,
        Self::Commit,
        Self::Projector,
        Self::Reconciler,
    ];

    /// Those that read events, in the order of the pipeline.
    pub const STEPS: [Self; 4] = [Self::Hold, Self::Credit, Self::Commit, Self::Projector];

    /// The name in configuration, metrics and consumer groups.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Relay => "relay",
            Self::Hold => "hold",
            Self::Credit => "credit",
            Self::Commit => "commit",
            Self::Projector => "projector",
            Self::Reconciler => "reconciler",
        }
    }

    /// Whether the role cannot work without the broker. Ingress can: it writes to the outbox.
    pub const fn needs_broker(self) -> bool {
        !matches!(self, Self::Ingress)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("'{text}' is not a role: use all, or any of {names}")
        })
    }
}
