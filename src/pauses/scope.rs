//! What can be stopped, and how it is written.

use crate::domain::{AccountId, Client, Currency, Partition, Shard};
use crate::roles::Role;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// How a scope is written, for messages.
pub const SCOPES: &str = "role=ROLE, role=ROLE,shard=N, role=ROLE,shard=N,partition=P, shard=N, \
    shard=N,partition=P, currency=CODE, source=ACCOUNT or merchant=PRINCIPAL";

/// What is stopped. Shards and partitions are those of the source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PauseScope {
    /// One role.
    Role(Role, Option<Shard>, Option<Partition>),
    /// All roles, of what starts there.
    Shard(Shard, Option<Partition>),
    /// Transfers in a currency.
    Currency(Currency),
    /// Transfers that an account pays.
    Source(AccountId),
    /// Transfers that a principal asked for.
    Merchant(Client),
}

/// How it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PauseMode {
    /// Nothing new is accepted, and what was accepted stands still.
    Pause,
    /// Nothing new is accepted; what was accepted is finished.
    Drain,
}

impl PauseMode {
    /// The name in tables, metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Drain => "drain",
        }
    }
}

impl PauseScope {
    /// Nothing, if this can be stopped so; else what to do instead.
    pub fn check(&self, mode: PauseMode) -> Result<(), String> {
        match self {
            Self::Role(role, ..) if mode == PauseMode::Drain && *role != Role::Ingress => {
                Err(format!(
                    "{role} accepts nothing that could be drained: pause it, or drain the shard"
                ))
            }
            Self::Role(role @ (Role::Relay | Role::Reconciler), _, Some(_)) => {
                Err(format!("{role} works on whole shards: leave the partition out"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for PauseScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shard, partition) = match self {
            Self::Role(role, shard, partition) => {
                write!(f, "role={role}")?;
                (shard.map(|shard| format!(",shard={shard}")), partition)
            }
            Self::Shard(shard, partition) => (Some(format!("shard={shard}")), partition),
            Self::Currency(currency) => return write!(f, "currency={currency}"),
            Self::Source(account) => return write!(f, "source={}", account.as_str()),
            Self::Merchant(client) => return write!(f, "merchant={client}"),
        };
        f.write_str(&shard.unwrap_or_default())?;
        partition.map_or(Ok(()), |partition| write!(f, ",partition={partition}"))
    }
}

impl FromStr for PauseScope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is no scope: use {SCOPES}");
        let (name, rest) = text.split_once('=').ok_or_else(bad)?;
        let whole = |error: &dyn fmt::Display| format!("'{text}' is no scope: {error}");
        match name {
            "currency" => rest.parse().map(Self::Currency).map_err(|error| whole(&error)),
            "source" => rest.parse().map(Self::Source).map_err(|error| whole(&error)),
            "merchant" => rest.parse().map(Self::Merchant).map_err(|error| whole(&error)),
            "role" => {
                let mut parts = rest.split(',');
                let role = parts.next().unwrap_or_default().parse()?;
                let place = parts.collect::<Vec<_>>().join(",");
                let (shard, partition) = place_of(&place).ok_or_else(bad)?;
                Ok(Self::Role(role, shard, partition))
            }
            "shard" => match place_of(text).ok_or_else(bad)? {
                (Some(shard), partition) => Ok(Self::Shard(shard, partition)),
                (None, _) => Err(bad()),
            },
            _ => Err(bad()),
        }
    }
}

/// Of `shard=N,partition=P`, both or the first or nothing.
fn place_of(text: &str) -> Option<(Option<Shard>, Option<Partition>)> {
    if text.is_empty() {
        return Some((None, None));
    }
    let (shard, partition) = match text.split_once(',') {
        Some((shard, partition)) => (shard, Some(partition)),
        None => (text, None),
    };
    let shard = Shard(shard.strip_prefix("shard=")?.parse().ok()?);
    match partition {
        None => Some((Some(shard), None)),
        Some(text) => {
            let partition = Partition(text.strip_prefix("partition=")?.parse().ok()?);
            Some((Some(shard), Some(partition)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_written_as_it_is_read() {
        let scopes = [
            "role=ingress",
            "role=credit,shard=1",
            "role=credit,shard=1,partition=3",
            "shard=0",
            "shard=0,partition=7",
            "currency=EUR",
            "source=alice",
            "merchant=shop",
        ];
        for text in scopes {
            let scope: PauseScope = text.parse().unwrap();
            assert_eq!(scope.to_string(), text);
        }
        let bad = [
            "",
            "all",
            "role=",
            "role=seller",
            "role=hold,partition=1",
            "role=hold,shard=x",
            "shard=",
            "shard=1,partition=",
            "shard=1,role=hold",
            "currency=eur",
            "source=",
            "merchant=",
            "partition=1",
            "role=hold,shard=1,partition=2,",
        ];
        for text in bad {
            assert!(text.parse::<PauseScope>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_accepts_is_drained_and_only_what_reads_partitions_stops_for_one() {
        let check = |text: &str, mode| text.parse::<PauseScope>().unwrap().check(mode);
        assert!(check("role=ingress", PauseMode::Drain).is_ok());
        assert!(check("role=hold", PauseMode::Drain).is_err());
        assert!(check("role=hold,shard=1,partition=1", PauseMode::Pause).is_ok());
        assert!(check("role=relay,shard=1,partition=1", PauseMode::Pause).is_err());
        assert!(check("shard=1", PauseMode::Drain).is_ok());
    }
}
