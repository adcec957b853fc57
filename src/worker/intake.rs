//! From a record to an event that a step may act on.

use crate::broker::envelope::{self, Verdict};
use crate::broker::{Delivered, Record};
use crate::context::Context;
use crate::domain::{
    ClusterId, DeadReason, Event, EventError, Generation, Input, Shard, Timestamp,
};
use crate::meters::IntakeMeter;
use crate::roles::Role;
use crate::routing::{ShardMap, slot_of};

/// Reads records on behalf of one role.
pub struct Intake {
    role: Role,
    cluster: ClusterId,
    generation: Generation,
    map: ShardMap,
    /// What is counted of what was read.
    pub meter: IntakeMeter,
}

/// What a record is.
pub enum Read {
    /// To be acted on.
    Event(Box<Input>, Delivered),
    /// Of an older generation: the reconciler drives from the rows.
    Stale,
    /// To be written to the dead letters.
    Dead(Record),
    /// Of a later release: wait for the upgrade.
    Newer(String),
}

impl Intake {
    pub fn new(context: &Context, role: Role, shard: Shard) -> Self {
        let identity = context.store.identity();
        Self {
            role,
            cluster: identity.cluster,
            generation: identity.generation,
            map: context.store.map().clone(),
            meter: IntakeMeter::new(role, shard),
        }
    }

    pub fn read(&self, delivered: Delivered) -> Read {
        let event = match envelope::event(&delivered) {
            Ok(event) => event,
            Err(error @ EventError::Newer(_)) => return Read::Newer(error.to_string()),
            Err(EventError::Malformed(detail)) => {
                return self.dead(&delivered, DeadReason::Malformed, &detail);
            }
        };
        if event.cluster != self.cluster {
            let detail = format!("the event belongs to cluster {}", event.cluster);
            return self.dead(&delivered, DeadReason::ForeignCluster, &detail);
        }
        if event.generation < self.generation {
            self.meter.stale();
            return Read::Stale;
        }
        if event.generation > self.generation {
            let detail = "the cluster's generation was raised: restart this process";
            return Read::Newer(detail.to_owned());
        }
        if let Some(detail) = self.misplaced(&event, &delivered) {
            return self.dead(&delivered, DeadReason::Contradiction, detail);
        }
        let offset = delivered.position.offset;
        Read::Event(Box::new(Input { event, offset }), delivered)
    }

    fn misplaced(&self, event: &Event, delivered: &Delivered) -> Option<&'static str> {
        let slot = slot_of(&event.terms.source);
        let topic = delivered.position.topic;
        if event.terms.id.slot() != slot {
            Some("the transfer's id does not carry its source's slot")
        } else if topic.shard != self.map.shard_of_slot(slot) {
            Some("the event stands in another shard's topic")
        } else if topic.family != crate::broker::Family::Event(event.kind) {
            Some("the event stands in another event's topic")
        } else if delivered.position.partition != self.map.partition_of_slot(slot) {
            Some("the event stands in another partition than its source's")
        } else {
            None
        }
    }

    fn dead(&self, delivered: &Delivered, reason: DeadReason, detail: &str) -> Read {
        self.meter.dead(reason);
        // Broker time: there is no row, so no database has a say in when this was.
        let at: Timestamp = delivered.timestamp;
        Read::Dead(envelope::dead_letter(
            delivered,
            &Verdict { reason, detail, role: self.role, at },
        ))
    }
}
