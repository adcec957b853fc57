//! The stage that a transfer stands in, and its event once more: what operators, the reconciler
//! and a recovery announce again is made here.

use crate::broker::{Record, envelope};
use crate::context::Context;
use crate::domain::{
    AccountRow, AccountSnapshot, Event, EventType, Reason, RequestDetails, Shard, Stamp, State,
    TransferId,
};
use crate::store::{StoreError, TransferRecord, Tx, Work, transact};
use async_trait::async_trait;

/// What holds for a transfer now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// As it is stored.
    pub transfer: TransferRecord,
    /// The event that announces it.
    pub kind: EventType,
    /// Why, where it is refused or ended for a reason.
    pub reason: Option<Reason>,
}

impl Stage {
    /// The stage that the row alone says. One that is HELD may have a pivot, and is further then.
    pub fn by_row(transfer: TransferRecord) -> Self {
        let (kind, reason) = (EventType::announcing(transfer.row.state), transfer.row.reason);
        Self { transfer, kind, reason }
    }

    /// Whether it is the end of a transfer that was held, which has changed its source's money.
    pub fn ended_a_hold(&self) -> bool {
        self.transfer.row.state.is_final() && self.transfer.row.held_at.is_some()
    }

    /// The event that announces it. With the end of a hold goes the source's row, as it is now: a
    /// reader who missed the step that changed it has it from here.
    pub fn event(&self, stamp: &Stamp, source: Option<&AccountRow>) -> Event {
        let causes = [self.transfer.hold_cause, self.transfer.final_cause];
        let attempt = causes.iter().map(|cause| cause.attempt).max().unwrap_or(0) + 1;
        let account = source.filter(|_| self.ended_a_hold()).map(AccountSnapshot::from);
        let event = stamp.event(self.kind, &self.transfer.row.terms);
        Event { attempt, reason: self.reason, account, ..event }
    }

    /// Its record, for the outbox of the transfer's shard. With a requested event goes what was
    /// asked for, so that the transfer could be made again from it.
    pub async fn record(&self, context: &Context, tx: &mut dyn Tx) -> Result<Record, StoreError> {
        let stamp = context.store.identity().stamp(tx.now());
        let request = match self.kind {
            EventType::Requested => self.request(tx).await?,
            _ => None,
        };
        let source = if self.ended_a_hold() {
            let id = &self.transfer.row.terms.source;
            tx.lock_accounts(&[id.clone()].into()).await?.remove(id)
        } else {
            None
        };
        let event = Event { request, ..self.event(&stamp, source.as_ref()) };
        Ok(envelope::record(&event, context.store.map()))
    }

    async fn request(&self, tx: &mut dyn Tx) -> Result<Option<RequestDetails>, StoreError> {
        let (key, id) = (&self.transfer.claim, self.transfer.row.terms.id);
        let claims = tx.claims(std::slice::from_ref(key)).await?;
        let claim = claims.get(key).filter(|claim| claim.transfer == id);
        Ok(claim.map(|claim| RequestDetails::of(&self.transfer.clone().into_new(claim))))
    }
}

/// Announces the ends of those of these transfers that are final, through the outbox of their
/// shard, and returns how many. Nothing of a transfer changes after its end, and its readers know
/// what to do with an end that they know.
pub async fn announce_ends(
    context: &Context,
    shard: Shard,
    ids: &[TransferId],
) -> Result<u64, StoreError> {
    let ended = context.store.transfer_records(shard, ids).await?;
    let announced = transact(&*context.store, shard, &AnnounceEnds { context, ended }).await?;
    context.wake.outbox_written(shard);
    Ok(announced)
}

struct AnnounceEnds<'a> {
    context: &'a Context,
    ended: Vec<TransferRecord>,
}

#[async_trait]
impl Work for AnnounceEnds<'_> {
    type Output = u64;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<u64, StoreError> {
        let terms = || self.ended.iter().map(|transfer| &transfer.row.terms);
        let sources =
            tx.lock_accounts(&terms().map(|terms| terms.source.clone()).collect()).await?;
        let ids: Vec<TransferId> = terms().map(|terms| terms.id).collect();
        let rows = tx.transfers(&ids).await?;
        let (stamp, map) =
            (self.context.store.identity().stamp(tx.now()), self.context.store.map());
        let is_final = |state: State| state.is_final();
        let stages = self.ended.iter().filter_map(|transfer| {
            let row = rows.get(&transfer.row.terms.id).filter(|row| is_final(row.state))?;
            Some(Stage::by_row(TransferRecord { row: row.clone(), ..transfer.clone() }))
        });
        let event =
            |stage: Stage| stage.event(&stamp, sources.get(&stage.transfer.row.terms.source));
        let records: Vec<_> = stages.map(|stage| envelope::record(&event(stage), map)).collect();
        tx.insert_outbox(&records).await?;
        Ok(records.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::{account, ended, held, requested, stamp, terms};
    use crate::domain::{Cause, ClaimKey, TransferRow};

    fn by_row(row: TransferRow) -> Stage {
        let (source, client) = (row.terms.source.clone(), "client".parse().unwrap());
        Stage::by_row(TransferRecord {
            row,
            claim: ClaimKey { source, client, key: "key".parse().unwrap() },
            description: None,
            reference: None,
            metadata: None,
            sealed: None,
            hold_cause: Cause { offset: Some(3), attempt: 1 },
            final_cause: Cause::default(),
        })
    }

    #[test]
    fn the_end_of_a_hold_carries_the_row_of_its_source_and_nothing_else_does() {
        let (terms, row) = (terms(1, "a", "b", 10), account("a", 5));
        let carried = |stage: TransferRow| by_row(stage).event(&stamp(), Some(&row)).account;
        let frozen = Some(Reason::DestinationFrozen);
        let refused = ended(held(&terms), State::Rejected, frozen);
        assert_eq!(carried(refused), Some(AccountSnapshot::from(&row)));
        assert_eq!(carried(ended(requested(&terms), State::Rejected, frozen)), None);
        assert_eq!(carried(held(&terms)), None);
    }

    #[test]
    fn an_event_says_what_its_row_says_and_that_it_was_said_before() {
        let terms = terms(1, "a", "b", 10);
        let why = Some(Reason::HoldTimeout);
        let event = by_row(ended(held(&terms), State::Cancelled, why)).event(&stamp(), None);
        assert_eq!((event.kind, event.reason, event.attempt), (EventType::Cancelled, why, 2));
        assert_eq!(event.terms, terms);
    }
}
