//! How far each stage has come: what tells a backlog from a transfer that stands still.

use crate::broker::{Broker, BrokerError, Group, Position, Topic};
use crate::domain::{EventType, Partition, Shard, Timestamp};
use crate::roles::Role;
use std::collections::HashMap;
use std::sync::{Arc, Mutex as SyncMutex};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long what was found is used.
const FRESH: Duration = Duration::from_secs(5);

/// The stages whose consumer groups move transfers on.
pub const STAGES: [Role; 3] = [Role::Hold, Role::Credit, Role::Commit];

/// The topics that a role reads; the projector those whose events carry rows.
pub fn topics(role: Role, shard: Shard) -> Vec<Topic> {
    use EventType::{Cancelled, Committed, Credited, Held, Refused, Rejected, Requested};
    let kinds: &[EventType] = match role {
        Role::Hold => &[Requested],
        Role::Credit => &[Held],
        Role::Commit => &[Credited, Refused],
        Role::Projector => &[Held, Credited, Committed, Rejected, Cancelled],
        Role::Ingress | Role::Relay | Role::Reconciler => &[],
    };
    kinds.iter().map(|kind| Topic::of(*kind, shard)).collect()
}

/// How far the consumer group of a role has come on one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Unread records, over all partitions.
    records: i64,
    /// Per partition with unread records: the timestamp of the oldest of them.
    oldest_unread: HashMap<Partition, Timestamp>,
    looked_at: Instant,
}

impl Progress {
    /// Whether the group has yet to read an event as old as `entered` in this partition. An event
    /// that is younger than this look may stand unread behind it: it counts as not read. `now` is
    /// database time.
    pub fn behind(&self, partition: Partition, entered: Timestamp, now: Timestamp) -> bool {
        let unread = self.oldest_unread.get(&partition).is_some_and(|oldest| *oldest <= entered);
        unread || entered >= self.asked(now)
    }

    /// Records that were unread when the broker was asked.
    pub fn records(&self) -> i64 {
        self.records
    }

    /// How long the oldest record had been unread when the broker was asked; `now` is database
    /// time.
    pub fn lag(&self, now: Timestamp) -> Duration {
        let asked = self.asked(now);
        self.oldest_unread.values().min().map_or(Duration::ZERO, |oldest| asked.since(*oldest))
    }

    /// When the broker was asked, in database time.
    fn asked(&self, now: Timestamp) -> Timestamp {
        now.minus(self.looked_at.elapsed())
    }
}

/// When the broker was asked about a stage of a shard, and what it said.
type Found = Option<(Instant, Option<Arc<Progress>>)>;
type OfStages = HashMap<(Role, Shard), Arc<Mutex<Found>>>;

/// What was found out, and when. Each stage of each shard is asked about by itself, so that one the
/// broker does not speak of holds up no other.
pub struct Backlog {
    fresh: Duration,
    found: SyncMutex<OfStages>,
}

impl Default for Backlog {
    fn default() -> Self {
        Self::fresh_for(FRESH)
    }
}

impl Backlog {
    /// Asks the broker again after this time.
    pub fn fresh_for(fresh: Duration) -> Self {
        Self { fresh, found: SyncMutex::default() }
    }

    /// How far a stage has come, a few seconds ago at most; none where the broker did not say:
    /// then everything is backlog.
    pub async fn of(&self, broker: &dyn Broker, role: Role, shard: Shard) -> Option<Arc<Progress>> {
        let of_stage = {
            let mut found = self.found.lock().expect("nothing panics while it is held");
            Arc::clone(found.entry((role, shard)).or_default())
        };
        let mut found = of_stage.lock().await;
        if let Some((at, progress)) = &*found
            && at.elapsed() < self.fresh
        {
            return progress.clone();
        }
        let progress = match look(broker, role, shard).await {
            Ok(progress) => Some(Arc::new(progress)),
            Err(error) => {
                tracing::debug!(%role, %shard, %error, "how far the stage has come is not known");
                None
            }
        };
        *found = Some((Instant::now(), progress.clone()));
        progress
    }
}

async fn look(broker: &dyn Broker, role: Role, shard: Shard) -> Result<Progress, BrokerError> {
    let looked_at = Instant::now();
    let group = Group { role: role.as_str(), shard };
    let mut oldest_unread: HashMap<Partition, Timestamp> = HashMap::new();
    let mut records = 0;
    for lag in broker.lag(&group, &topics(role, shard)).await? {
        if lag.records() == 0 {
            continue;
        }
        records += lag.records();
        let offset = lag.committed.unwrap_or(lag.start).max(lag.start);
        let position = Position { topic: lag.topic, partition: lag.partition, offset };
        if let Some(record) = broker.read_at(position).await? {
            let oldest = oldest_unread.entry(lag.partition).or_insert(record.timestamp);
            *oldest = record.timestamp.min(*oldest);
        }
    }
    Ok(Progress { records, oldest_unread, looked_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITION: Partition = Partition(1);
    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    fn looked(ago: Duration, oldest_unread: &[(Partition, Timestamp)]) -> Progress {
        let looked_at = Instant::now() - ago;
        let records = oldest_unread.len() as i64;
        Progress { records, oldest_unread: oldest_unread.iter().copied().collect(), looked_at }
    }

    #[tokio::test]
    async fn what_a_group_has_yet_to_read_is_behind_it_and_what_it_has_read_is_not() {
        let before = |seconds| NOW.minus(Duration::from_secs(seconds));
        let progress = looked(Duration::from_secs(1), &[(PARTITION, before(10))]);
        assert!(progress.behind(PARTITION, before(9), NOW));
        assert!(!progress.behind(PARTITION, before(11), NOW));
        assert!(!progress.behind(Partition(0), before(9), NOW), "another partition is read");
    }

    #[tokio::test]
    async fn an_old_look_says_nothing_about_an_event_that_came_after_it() {
        let before = |seconds| NOW.minus(Duration::from_secs(seconds));
        let progress = looked(Duration::from_secs(4), &[]);
        assert!(!progress.behind(PARTITION, before(5), NOW));
        assert!(progress.behind(PARTITION, before(3), NOW));
    }
}
