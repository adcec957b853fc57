//! What happened to a transfer: from the columns that its steps wrote on both shards.

use super::{Ingress, Refusal};
use crate::broker::Topic;
use crate::domain::{EventType, Reason, Shard, State, Timestamp, TransferId};
use crate::store::{Cause, EntryRow, TransferRecord};

/// One thing that happened to a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineEvent {
    /// What happened: `requested`, `held`, `credited`, `refused`, `committed`, `rejected` or
    /// `cancelled`.
    pub event: &'static str,
    /// When, by the database time of the shard it happened on.
    pub at: Timestamp,
    /// The role that did it.
    pub stage: &'static str,
    /// The shard it happened on.
    pub shard: Shard,
    /// Topic of the event that caused it; none where no event did.
    pub topic: Option<Topic>,
    /// Its partition.
    pub partition: Option<u32>,
    /// Its offset.
    pub offset: Option<i64>,
    /// Its attempt: 1, and one more for each time the reconciler drove it.
    pub attempt: u32,
    /// Why, where it was refused.
    pub detail: Option<Reason>,
}

/// The steps of a transfer in the order of the pipeline, which is that of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Oldest first.
    pub events: Vec<TimelineEvent>,
    /// False while the destination's shard does not answer: its step is missing then.
    pub complete: bool,
}

impl Ingress {
    /// What happened to a transfer so far.
    pub async fn timeline(&self, id: TransferId) -> Result<Timeline, Refusal> {
        let transfer = self.transfer_record(id).await?;
        let pivot =
            if transfer.row.held_at.is_some() { self.pivot_row(&transfer).await } else { Ok(None) };
        let complete = pivot.is_ok();
        let scene = Scene::new(self, &transfer);
        let pivot = pivot.ok().flatten();
        let events = [
            Some(scene.requested()),
            scene.held(),
            pivot.as_ref().map(|pivot| scene.decided(pivot)),
            scene.completed(pivot.as_ref()),
        ];
        Ok(Timeline { events: events.into_iter().flatten().collect(), complete })
    }
}

/// The transfer and where its steps take place.
struct Scene<'a> {
    transfer: &'a TransferRecord,
    source: Shard,
    destination: Shard,
    partition: u32,
}

impl<'a> Scene<'a> {
    fn new(ingress: &Ingress, transfer: &'a TransferRecord) -> Self {
        let map = ingress.context.store.map();
        let terms = &transfer.row.terms;
        Self {
            transfer,
            source: map.shard_of(&terms.source),
            destination: map.shard_of(&terms.destination),
            partition: map.partition_of_slot(terms.id.slot()).0,
        }
    }

    fn requested(&self) -> TimelineEvent {
        let nothing = Cause { offset: None, attempt: 1 };
        self.event(State::Requested.as_str(), self.transfer.row.requested_at, "ingress", nothing)
    }

    fn held(&self) -> Option<TimelineEvent> {
        let at = self.transfer.row.held_at?;
        let held = self.event(State::Held.as_str(), at, "hold", self.transfer.hold_cause);
        Some(self.caused(held, EventType::Requested))
    }

    /// The pivot: CREDITED, or REFUSED by the role that its reason is of.
    fn decided(&self, pivot: &EntryRow) -> TimelineEvent {
        let (name, stage, detail) = match pivot.outcome {
            Ok(_) => ("credited", "credit", None),
            Err(reason) => ("refused", refusing_stage(reason, "credit"), Some(reason)),
        };
        let event = self.event(name, pivot.at, stage, pivot.cause);
        let event = TimelineEvent { shard: self.destination, detail, ..event };
        self.caused(event, if self.at_once() { EventType::Requested } else { EventType::Held })
    }

    /// Held and ended in one transaction, for its accounts are on one shard: what caused the hold
    /// caused it all.
    fn at_once(&self) -> bool {
        let row = &self.transfer.row;
        self.source == self.destination && row.held_at.is_some() && row.held_at == row.completed_at
    }

    fn completed(&self, pivot: Option<&EntryRow>) -> Option<TimelineEvent> {
        let row = &self.transfer.row;
        let at = row.completed_at?;
        let name = row.state.as_str();
        let event = if row.held_at.is_some() {
            let credited = match pivot {
                Some(pivot) => pivot.outcome.is_ok(),
                None => row.state == State::Committed,
            };
            let cause = match credited {
                _ if self.at_once() => EventType::Requested,
                true => EventType::Credited,
                false => EventType::Refused,
            };
            self.caused(self.event(name, at, "commit", self.transfer.final_cause), cause)
        } else {
            let stage = row.reason.map_or("hold", |reason| refusing_stage(reason, "hold"));
            let cause = match stage {
                "hold" => self.transfer.hold_cause,
                _ => self.transfer.final_cause,
            };
            self.caused(self.event(name, at, stage, cause), EventType::Requested)
        };
        Some(TimelineEvent { detail: row.reason, ..event })
    }

    fn event(
        &self,
        event: &'static str,
        at: Timestamp,
        stage: &'static str,
        cause: Cause,
    ) -> TimelineEvent {
        TimelineEvent {
            event,
            at,
            stage,
            shard: self.source,
            topic: None,
            partition: None,
            offset: cause.offset,
            attempt: cause.attempt.max(1),
            detail: None,
        }
    }

    /// With the place of the event behind the step, where there was one.
    fn caused(&self, event: TimelineEvent, kind: EventType) -> TimelineEvent {
        if event.offset.is_none() {
            return event;
        }
        TimelineEvent {
            topic: Some(Topic::of(kind, self.source)),
            partition: Some(self.partition),
            ..event
        }
    }
}

/// Who refuses for this reason: `deciding` where it follows from the accounts, hold before the
/// hold and credit after it.
fn refusing_stage(reason: Reason, deciding: &'static str) -> &'static str {
    match reason {
        Reason::HoldTimeout | Reason::Undeliverable => "reconciler",
        Reason::CancelledByClient | Reason::CancelledByOperator => "ingress",
        Reason::InsufficientFunds
        | Reason::SourceNotFound
        | Reason::SourceFrozen
        | Reason::SourceClosed
        | Reason::DestinationNotFound
        | Reason::DestinationFrozen
        | Reason::DestinationClosed
        | Reason::CurrencyMismatch
        | Reason::BalanceLimit
        | Reason::AccountQuarantined
        | Reason::VelocityLimitExceeded => deciding,
    }
}
