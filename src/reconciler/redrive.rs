//! One round over the transfers of a shard that stand still.

use super::decide::{Action, decide};
use super::sight::Sight;
use super::traced::Driven;
use crate::broker::{BrokerError, Producer, Record, envelope};
use crate::cancel::{cancel_requested, refuse};
use crate::context::Context;
use crate::crash::{self, Place};
use crate::domain::{
    Event, EventType, Reason, RequestDetails, Shard, State, Terms, Timestamp, TransferId,
};
use crate::meters::table::ACTIONS;
use crate::pauses::Candidate;
use crate::random;
use crate::roles::Role;
use crate::stage::announce_ends;
use crate::store::{ClaimKey, StoreError, StuckTransfer, TransferRecord};
use crate::trace::TraceContext;
use std::collections::{HashMap, HashSet};

/// Transfers looked at in one round.
const ROUND: u32 = 500;

/// What a round could not do.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The shard.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// A round over one shard.
pub struct Round<'a> {
    context: &'a Context,
    shard: Shard,
    producer: &'a dyn Producer,
    sight: Sight<'a>,
}

impl<'a> Round<'a> {
    /// Looks at the surroundings of the shard.
    pub async fn begin(
        context: &'a Context,
        shard: Shard,
        producer: &'a dyn Producer,
    ) -> Result<Self, RoundError> {
        Ok(Self { context, shard, producer, sight: Sight::of(context, shard).await? })
    }

    /// Drives on what is due, the oldest of a source first; returns how many were looked at.
    pub async fn run(&self) -> Result<usize, RoundError> {
        let due = self.context.store.stuck(self.shard, ROUND).await?;
        let pivots = self.sight.pivots(&due).await;
        let held_back = self.held_back(&due).await?;
        let decided: Vec<(&StuckTransfer, Action)> = due
            .iter()
            .map(|stuck| match held_back.contains(&stuck.row.terms.id) {
                true => (stuck, Action::Leave),
                false => (stuck, decide(stuck, &self.sight.surroundings(stuck, &pivots))),
            })
            .collect();
        let (ended, decided): (Vec<_>, Vec<_>) =
            decided.into_iter().partition(|(_, action)| matches!(action, Action::Announce(_)));
        let ends: Vec<TransferId> = ended.iter().map(|(stuck, _)| stuck.row.terms.id).collect();
        let requests = self.requests(&decided).await?;
        let mut records = Vec::new();
        let mut seen = Vec::new();
        for (stuck, action) in decided {
            let id = stuck.row.terms.id;
            let request = requests.get(&id).cloned();
            let attempts = match self.act(stuck, action, request, &mut records).await {
                Ok(attempts) => attempts,
                Err(error) => {
                    let trace_id = TraceContext::of_transfer(id).trace_id();
                    tracing::info!(transfer = %id, %trace_id, %error, "a transfer that stands still is looked at later");
                    stuck.attempts
                }
            };
            seen.push((id, attempts, self.next_look(attempts, action)));
        }
        if !records.is_empty() {
            self.producer.send(records).await?;
            crash::at(Role::Reconciler, Place::Emitted);
        }
        self.context.store.stuck_seen(self.shard, &seen).await?;
        self.announce(&ends).await?;
        Ok(due.len())
    }

    /// Those that are not to be held yet because an operator has paused them.
    async fn held_back(&self, due: &[StuckTransfer]) -> Result<HashSet<TransferId>, StoreError> {
        let paused = self.context.pauses.now();
        let requested = due.iter().filter(|stuck| stuck.row.state == State::Requested);
        let requested: Vec<&Terms> = requested.map(|stuck| &stuck.row.terms).collect();
        if paused.is_empty() || requested.is_empty() {
            return Ok(HashSet::new());
        }
        let mut clients = HashMap::new();
        if paused.needs_clients() {
            let ids: Vec<TransferId> = requested.iter().map(|terms| terms.id).collect();
            let records = self.context.store.transfer_records(self.shard, &ids).await?;
            clients.extend(
                records.into_iter().map(|record| (record.row.terms.id, record.claim.client)),
            );
        }
        let held_back = |terms: &&Terms| {
            let (source, currency) = (&terms.source, terms.amount.currency());
            paused.holds_back(&Candidate { source, currency, client: clients.get(&terms.id) })
        };
        Ok(requested.into_iter().filter(held_back).map(|terms| terms.id).collect())
    }

    /// Last of all: it locks accounts, and a row that somebody else holds must not keep what stands
    /// still from being driven on.
    async fn announce(&self, ends: &[TransferId]) -> Result<(), StoreError> {
        if ends.is_empty() {
            return Ok(());
        }
        let announced = announce_ends(self.context, self.shard, ends).await?;
        tracing::info!(shard = %self.shard, announced, "ends are announced again");
        ACTIONS.counter(&[&self.shard.to_string(), "announce"]).increment(announced);
        self.context.store.stuck_over(self.shard, ends).await
    }

    /// Does what is to be done and returns how often the transfer was driven by now.
    async fn act(
        &self,
        stuck: &StuckTransfer,
        action: Action,
        request: Option<RequestDetails>,
        records: &mut Vec<Record>,
    ) -> Result<u32, StoreError> {
        let terms = &stuck.row.terms;
        let name = match action {
            Action::Leave | Action::Announce(_) => return Ok(stuck.attempts),
            Action::Emit(kind) => {
                let mut record = self.event(stuck, kind, request);
                let name = kind.as_str();
                if let Some(trace) = self.traced(stuck, name) {
                    envelope::set_traceparent(&mut record, &trace.to_string());
                }
                records.push(record);
                name
            }
            Action::Refuse => {
                refuse(self.context, terms, Reason::HoldTimeout, None).await?;
                self.traced(stuck, "hold_timeout");
                "hold_timeout"
            }
            Action::Cancel => {
                cancel_requested(self.context, terms, Reason::Undeliverable, None).await?;
                self.traced(stuck, "undeliverable");
                "undeliverable"
            }
        };
        let trace_id = TraceContext::of_transfer(terms.id).trace_id();
        tracing::info!(transfer = %terms.id, %trace_id, state = stuck.row.state.as_str(), attempt = stuck.attempts + 1, action = name, "driven on");
        ACTIONS.counter(&[&self.shard.to_string(), name]).increment(1);
        Ok(stuck.attempts + 1)
    }

    fn traced(&self, stuck: &StuckTransfer, action: &'static str) -> Option<TraceContext> {
        let (transfer, state) = (stuck.row.terms.id, stuck.row.state);
        let attempt = stuck.attempts + 1;
        let driven = Driven { shard: self.shard, transfer, state, attempt, action };
        driven.traced(&self.context.traces)
    }

    fn event(
        &self,
        stuck: &StuckTransfer,
        kind: EventType,
        request: Option<RequestDetails>,
    ) -> Record {
        let stamp = self.context.store.identity().stamp(self.sight.now);
        let attempt = stuck.attempts + 2;
        let event = Event { attempt, request, ..stamp.event(kind, &stuck.row.terms) };
        envelope::record(&event, self.context.store.map())
    }

    /// What ingress was asked for, of the transfers that are to be emitted as requested again: with
    /// it they can be made again, with their claims, should the shard lose them.
    async fn requests(
        &self,
        decided: &[(&StuckTransfer, Action)],
    ) -> Result<HashMap<TransferId, RequestDetails>, StoreError> {
        let requested = decided
            .iter()
            .filter(|(_, action)| *action == Action::Emit(EventType::Requested))
            .map(|(stuck, _)| stuck.row.terms.id);
        let ids: Vec<TransferId> = requested.collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let (store, shard) = (&self.context.store, self.shard);
        let records = store.transfer_records(shard, &ids).await?;
        let keys: Vec<ClaimKey> = records.iter().map(|record| record.claim.clone()).collect();
        let claims = store.begin(shard).await?.claims(&keys).await?;
        let details = |record: TransferRecord| {
            let claim = claims.get(&record.claim)?;
            let id = record.row.terms.id;
            (claim.transfer == id).then(|| (id, RequestDetails::of(&record.into_new(claim))))
        };
        Ok(records.into_iter().filter_map(details).collect())
    }

    fn next_look(&self, attempts: u32, action: Action) -> Timestamp {
        let wait = match action {
            Action::Leave | Action::Announce(_) => self.context.policy.redrive_backoff,
            Action::Emit(_) | Action::Refuse | Action::Cancel => {
                let backoff = self.sight.backoff(attempts);
                backoff + random::up_to(backoff / 4)
            }
        };
        self.sight.now.plus(wait)
    }
}
