//! One round over the transfers of a shard that stand still.

use super::decide::{Action, PivotLook, Surroundings, decide};
use crate::backlog::Progress;
use crate::broker::{BrokerError, Producer, Record, envelope};
use crate::cancel::{cancel_requested, refuse};
use crate::context::Context;
use crate::crash::{self, Place};
use crate::domain::{
    EntryRow, Event, EventType, PivotDecision, Reason, RequestDetails, Shard, State, Timestamp,
    TransferId,
};
use crate::random;
use crate::roles::Role;
use crate::store::{ClaimKey, StoreError, StuckTransfer, TransferRecord};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Transfers looked at in one round.
const ROUND: u32 = 500;
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

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

/// A round's view of one shard.
pub struct Round<'a> {
    context: &'a Context,
    shard: Shard,
    producer: &'a dyn Producer,
    now: Timestamp,
    /// When the oldest unsent outbox row was written.
    unsent: Option<Timestamp>,
    hold: Option<Arc<Progress>>,
    credit: Option<Arc<Progress>>,
    commit: Option<Arc<Progress>>,
}

/// A pivot and when it was decided, by its own shard's time.
type Decided = (PivotDecision, Timestamp);

impl<'a> Round<'a> {
    /// Looks at the surroundings of the shard.
    pub async fn begin(
        context: &'a Context,
        shard: Shard,
        producer: &'a dyn Producer,
    ) -> Result<Self, RoundError> {
        let progress = |role| context.backlog.of(&*context.broker, role, shard);
        Ok(Self {
            context,
            shard,
            producer,
            now: context.store.now(shard).await?,
            unsent: context.store.outbox_depth(shard).await?.1,
            hold: progress(Role::Hold).await,
            credit: progress(Role::Credit).await,
            commit: progress(Role::Commit).await,
        })
    }

    /// Drives on what is due, the oldest of a source first; returns how many were looked at.
    pub async fn run(&self) -> Result<usize, RoundError> {
        let due = self.context.store.stuck(self.shard, ROUND).await?;
        let pivots = self.pivots(&due).await;
        let decided: Vec<(&StuckTransfer, Action)> = due
            .iter()
            .map(|stuck| {
                let pivot = pivots.get(&stuck.row.terms.id).copied().unwrap_or(None);
                (stuck, decide(stuck, &self.surroundings(stuck, pivot)))
            })
            .collect();
        let requests = self.requests(&decided).await?;
        let mut records = Vec::new();
        let mut seen = Vec::new();
        for (stuck, action) in decided {
            let id = stuck.row.terms.id;
            let request = requests.get(&id).cloned();
            let attempts = match self.act(stuck, action, request, &mut records).await {
                Ok(attempts) => attempts,
                Err(error) => {
                    tracing::info!(transfer = %id, %error, "a transfer that stands still is looked at later");
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
        Ok(due.len())
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
            Action::Leave | Action::Forget => return Ok(stuck.attempts),
            Action::Emit(kind) => {
                records.push(self.event(stuck, kind, request));
                kind.as_str()
            }
            Action::Refuse => {
                refuse(self.context, terms, Reason::HoldTimeout, None).await?;
                "hold_timeout"
            }
            Action::Cancel => {
                cancel_requested(self.context, terms, Reason::Undeliverable, None).await?;
                "undeliverable"
            }
        };
        tracing::info!(transfer = %terms.id, state = stuck.row.state.as_str(), attempt = stuck.attempts + 1, action = name, "driven on");
        metrics::counter!("holdfast_reconciler_actions_total", "shard" => self.shard.to_string(), "action" => name).increment(1);
        Ok(stuck.attempts + 1)
    }

    fn event(
        &self,
        stuck: &StuckTransfer,
        kind: EventType,
        request: Option<RequestDetails>,
    ) -> Record {
        let stamp = self.context.store.identity().stamp(self.now);
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

    fn surroundings(&self, stuck: &StuckTransfer, pivot: Option<Option<Decided>>) -> Surroundings {
        let row = &stuck.row;
        let driven = (stuck.attempts > 0).then(|| stuck.due_at.minus(self.backoff(stuck.attempts)));
        let (progress, entered) = match (row.state, pivot) {
            (State::Held, Some(Some((_, at)))) => (&self.commit, at),
            (State::Held, _) => (&self.credit, row.held_at.unwrap_or(row.requested_at)),
            _ => (&self.hold, row.requested_at),
        };
        let entered = driven.map_or(entered, |driven| driven.max(entered));
        let partition = self.context.store.map().partition_of_slot(row.terms.id.slot());
        Surroundings {
            now: self.now,
            unsent: self.unsent.is_some_and(|oldest| oldest <= row.requested_at),
            behind: progress
                .as_ref()
                .is_none_or(|progress| progress.behind(partition, entered, self.now)),
            pivot: match pivot {
                None => PivotLook::Unknown,
                Some(None) => PivotLook::None,
                Some(Some((decision, _))) => PivotLook::Decided(decision),
            },
        }
    }

    /// The pivots of held transfers; those of a shard that did not answer in time are left out.
    async fn pivots(&self, due: &[StuckTransfer]) -> HashMap<TransferId, Option<Option<Decided>>> {
        let mut by_shard: BTreeMap<Shard, Vec<TransferId>> = BTreeMap::new();
        for stuck in due.iter().filter(|stuck| stuck.row.state == State::Held) {
            let shard = self.context.store.map().shard_of(&stuck.row.terms.destination);
            by_shard.entry(shard).or_default().push(stuck.row.terms.id);
        }
        let mut pivots = HashMap::new();
        for (shard, ids) in by_shard {
            let (store, asked) = (Arc::clone(&self.context.store), ids.clone());
            let lookup = tokio::spawn(async move { store.entries_of(shard, &asked).await });
            let bound = self.context.policy.foreign_shard_timeout;
            if let Ok(Ok(Ok(entries))) = tokio::time::timeout(bound, lookup).await {
                pivots.extend(ids.into_iter().map(|id| (id, Some(None))));
                pivots.extend(entries.iter().filter_map(decided));
            }
        }
        pivots
    }

    fn next_look(&self, attempts: u32, action: Action) -> Timestamp {
        let wait = match action {
            Action::Leave => self.context.policy.redrive_backoff,
            Action::Emit(_) | Action::Refuse | Action::Cancel | Action::Forget => {
                let backoff = self.backoff(attempts);
                backoff + random::up_to(backoff / 4)
            }
        };
        self.now.plus(wait)
    }

    fn backoff(&self, attempts: u32) -> Duration {
        let doubled = 1_u32 << attempts.saturating_sub(1).min(16);
        (self.context.policy.redrive_backoff * doubled).min(LONGEST_BACKOFF)
    }
}

fn decided(entry: &EntryRow) -> Option<(TransferId, Option<Option<Decided>>)> {
    let pivot = entry.pivot()?;
    Some((pivot.transfer, Some(Some((pivot.decision, entry.at)))))
}
