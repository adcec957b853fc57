//! What is stopped now, as one process knows it: pure.

use super::scope::{PauseMode, PauseScope};
use crate::domain::{AccountId, Client, Currency, Partition, Shard};
use crate::roles::Role;
use crate::routing::{ShardMap, slot_of};
use crate::store::PauseRow;
use std::collections::{BTreeMap, BTreeSet};

/// A scope that is stopped, and who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How.
    pub mode: PauseMode,
    /// As it is stored.
    pub row: PauseRow,
}

/// All that is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paused {
    standing: BTreeMap<PauseScope, Standing>,
}

/// A transfer that is asked for, or was.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Who pays.
    pub source: &'a AccountId,
    /// In which currency.
    pub currency: Currency,
    /// Who asked, where that is known.
    pub client: Option<&'a Client>,
}

impl Paused {
    /// From the rows of all shards: of each scope the newest counts. What cannot be read, a later
    /// release has written, and it is left out.
    pub fn of(rows: impl IntoIterator<Item = PauseRow>) -> Self {
        let mut newest = BTreeMap::<String, PauseRow>::new();
        for row in rows {
            match newest.get(&row.scope) {
                Some(known) if known.revision >= row.revision => {}
                _ => drop(newest.insert(row.scope.clone(), row)),
            }
        }
        let standing = newest.into_values().filter_map(|row| {
            let mode = match row.mode.as_str() {
                "pause" => PauseMode::Pause,
                "drain" => PauseMode::Drain,
                _ => return None,
            };
            Some((row.scope.parse().ok()?, Standing { mode, row }))
        });
        Self { standing: standing.collect() }
    }

    /// Whether nothing is stopped.
    pub fn is_empty(&self) -> bool {
        self.standing.is_empty()
    }

    /// All of it.
    pub fn all(&self) -> impl Iterator<Item = (&PauseScope, &Standing)> {
        self.standing.iter()
    }

    /// Whether a role takes nothing of a shard.
    pub fn stops(&self, role: Role, shard: Shard) -> bool {
        self.paused(&PauseScope::Role(role, None, None))
            || self.paused(&PauseScope::Role(role, Some(shard), None))
            || self.paused(&PauseScope::Shard(shard, None))
    }

    /// Whether a role takes nothing of a partition of a shard.
    pub fn stops_partition(&self, role: Role, shard: Shard, partition: Partition) -> bool {
        !self.is_empty()
            && (self.stops(role, shard)
                || self.paused(&PauseScope::Role(role, Some(shard), Some(partition)))
                || self.paused(&PauseScope::Shard(shard, Some(partition))))
    }

    /// What keeps a transfer from being accepted.
    pub fn refuses(&self, asked: &Candidate<'_>, map: &ShardMap) -> Option<&PauseScope> {
        if self.is_empty() {
            return None;
        }
        let slot = slot_of(asked.source);
        let (shard, partition) = (map.shard_of_slot(slot), map.partition_of_slot(slot));
        let places = [
            PauseScope::Role(Role::Ingress, None, None),
            PauseScope::Role(Role::Ingress, Some(shard), None),
            PauseScope::Role(Role::Ingress, Some(shard), Some(partition)),
            PauseScope::Shard(shard, None),
            PauseScope::Shard(shard, Some(partition)),
        ];
        let scopes = places.into_iter().chain(of(asked));
        scopes.into_iter().find_map(|scope| Some(self.standing.get_key_value(&scope)?.0))
    }

    /// Whether a transfer that was accepted is not to be held yet.
    pub fn holds_back(&self, accepted: &Candidate<'_>) -> bool {
        !self.is_empty() && of(accepted).any(|scope| self.paused(&scope))
    }

    /// Whether it must be known who asked for a transfer.
    pub fn needs_clients(&self) -> bool {
        let paused = |(scope, standing): (&PauseScope, &Standing)| {
            matches!(scope, PauseScope::Merchant(_)) && standing.mode == PauseMode::Pause
        };
        self.standing.iter().any(paused)
    }

    /// Partitions of a shard that a role takes nothing of, of so many.
    pub fn stopped(&self, role: Role, shard: Shard, partitions: u32) -> BTreeSet<Partition> {
        let all = (0..partitions).map(Partition);
        all.filter(|partition| self.stops_partition(role, shard, *partition)).collect()
    }

    fn paused(&self, scope: &PauseScope) -> bool {
        self.standing.get(scope).is_some_and(|standing| standing.mode == PauseMode::Pause)
    }
}

/// The scopes that say something of the transfer itself.
fn of(transfer: &Candidate<'_>) -> impl Iterator<Item = PauseScope> {
    let merchant = transfer.client.map(|client| PauseScope::Merchant(client.clone()));
    [PauseScope::Currency(transfer.currency), PauseScope::Source(transfer.source.clone())]
        .into_iter()
        .chain(merchant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn row(scope: &str, mode: &str, revision: i64) -> PauseRow {
        PauseRow {
            scope: scope.to_owned(),
            mode: mode.to_owned(),
            revision,
            since: Timestamp::from_micros(0),
            operator: "ops".to_owned(),
            reason: None,
        }
    }

    fn paused(rows: &[(&str, &str)]) -> Paused {
        Paused::of(rows.iter().map(|(scope, mode)| row(scope, mode, 1)))
    }

    /// What refuses a transfer of `alice`, in EUR, that `shop` asks for.
    fn refused(paused: &Paused) -> Option<String> {
        let (source, client) = ("alice".parse().unwrap(), "shop".parse().unwrap());
        let currency = "EUR".parse().unwrap();
        let asked = Candidate { source: &source, currency, client: Some(&client) };
        paused.refuses(&asked, &ShardMap::lay_out(2, 4)).map(ToString::to_string)
    }

    #[test]
    fn of_a_scope_the_newest_row_counts_whichever_shard_has_it() {
        let newer = [row("shard=0", "pause", 1), row("shard=0", "resumed", 2)];
        assert!(Paused::of(newer.clone()).is_empty());
        assert!(Paused::of(newer.into_iter().rev()).is_empty());
        assert!(Paused::of([row("planet=3", "pause", 1), row("shard=0", "halt", 1)]).is_empty());
    }

    #[test]
    fn a_pause_stops_what_it_names_and_nothing_else() {
        let map = ShardMap::lay_out(2, 4);
        let slot = slot_of(&"alice".parse().unwrap());
        let (shard, partition) = (map.shard_of_slot(slot), map.partition_of_slot(slot));
        let other = Partition((partition.0 + 1) % 4);
        let place = format!("shard={shard},partition={partition}");

        let role = paused(&[(&format!("role=hold,{place}"), "pause")]);
        assert!(role.stops_partition(Role::Hold, shard, partition));
        assert!(!role.stops_partition(Role::Hold, shard, other));
        assert!(!role.stops_partition(Role::Commit, shard, partition));
        assert!(!role.stops(Role::Hold, shard));
        assert_eq!(refused(&role), None);
        assert_eq!(role.stopped(Role::Hold, shard, 4), [partition].into());

        let whole = paused(&[(&format!("shard={shard}"), "pause")]);
        assert!(Role::ALL.iter().all(|role| whole.stops(*role, shard)));
        assert!(!whole.stops(Role::Hold, Shard(1 - shard.0)));
        assert_eq!(refused(&whole), Some(format!("shard={shard}")));
    }

    #[test]
    fn a_drain_refuses_what_is_new_and_stops_nothing() {
        for scope in ["currency=EUR", "source=alice", "merchant=shop", "role=ingress"] {
            let drained = paused(&[(scope, "drain")]);
            assert_eq!(refused(&drained).as_deref(), Some(scope));
            assert!(!drained.stops(Role::Hold, Shard(0)) && !drained.needs_clients());
        }
        assert_eq!(refused(&paused(&[("currency=USD", "drain"), ("source=Alice", "pause")])), None);
    }

    #[test]
    fn what_was_accepted_is_held_back_by_a_pause_only() {
        let (source, client) = ("alice".parse().unwrap(), "shop".parse().unwrap());
        let currency = "EUR".parse().unwrap();
        let known = Candidate { source: &source, currency, client: Some(&client) };
        let unknown = Candidate { client: None, ..known };
        for scope in ["currency=EUR", "source=alice", "merchant=shop"] {
            assert!(paused(&[(scope, "pause")]).holds_back(&known), "{scope}");
            assert!(!paused(&[(scope, "drain")]).holds_back(&known), "{scope}");
        }
        let merchant = paused(&[("merchant=shop", "pause")]);
        assert!(merchant.needs_clients() && !merchant.holds_back(&unknown));
    }
}
