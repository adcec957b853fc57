//! Exactly what the pipeline writes for a transfer, by the stages' own decisions and the store's own
//! statements, on migrated shards: without HTTP, without a log between the stages. What the
//! stages decide about a shard shares its transaction, as it does for the workers of one process;
//! batches are full.

use crate::broker::envelope;
use crate::commit::{Commits, Settled};
use crate::context::Policy;
use crate::credit::Credits;
use crate::domain::{
    AccountId, AccountKind, AccountRow, AccountStatus, ClaimKey, Client, Currency, Event,
    EventType, Input, Money, NewTransfer, Outcome, PivotDecision, RequestDetails, Shard, Terms,
    TransferId, Velocity,
};
use crate::hold::Holds;
use crate::projector::projections;
use crate::random;
use crate::routing::slot_of;
use crate::store::mysql::{MySqlSettings, MySqlStore, migrate};
use crate::store::{AccountRecord, Opening, Store, StoreError, Tx, Work, transact};
use crate::turn::{Decision, Turns, newest};
use anyhow::bail;
use async_trait::async_trait;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

const PARTITIONS: u32 = 8;
/// Batches that may wait between two stages.
const WAITING: usize = 4;
/// Batches of a shard that are accepted and not committed, beside those that the credits of each
/// destination's shard gather: enough that every stage has work, and always as many, so that as
/// much is accepted as is committed whenever one looks.
const UNDER_WAY: usize = 8;
const ACCOUNTS_A_TRANSACTION: usize = 1000;
/// What an account may owe, in minor units: nobody runs out of money.
const OVERDRAFT: i64 = 1_000_000_000_000;
/// Rows that a relay takes off the outbox at once.
const OUTBOX_ROWS: u32 = 32;

/// Migrated shards with accounts.
pub struct Rows {
    store: Arc<MySqlStore>,
    /// By shard.
    accounts: Arc<Vec<Vec<AccountId>>>,
    batch: usize,
    committed: Arc<AtomicU64>,
    /// A permit for each transfer that may be accepted.
    room: Arc<Semaphore>,
}

type Batches = mpsc::Sender<Vec<Event>>;

impl Rows {
    /// Creates the databases at `urls`, their tables, and accounts.
    pub async fn prepare(urls: Vec<String>, accounts: u32, batch: usize) -> anyhow::Result<Self> {
        let settings = MySqlSettings { max_connections: 64, ..MySqlSettings::new(urls) };
        migrate(&settings, PARTITIONS).await?;
        let store = Arc::new(MySqlStore::open(&settings, Opening::AllShards).await?);
        let mut by_shard = vec![Vec::new(); usize::from(store.map().shards())];
        for number in 0..accounts {
            let id: AccountId = format!("bench-{number:07}").parse()?;
            by_shard[usize::from(store.map().shard_of(&id).0)].push(id);
        }
        for (shard, ids) in store.map().all_shards().zip(&by_shard) {
            if ids.is_empty() {
                bail!("shard {shard} has none of {accounts} accounts: ask for more");
            }
            for ids in ids.chunks(ACCOUNTS_A_TRANSACTION) {
                transact(&*store, shard, &MakeAccounts(ids)).await?;
            }
        }
        let committed = Arc::new(AtomicU64::new(0));
        let shards = by_shard.len();
        let room = Arc::new(Semaphore::new((UNDER_WAY + shards) * shards * batch));
        Ok(Self { store, accounts: Arc::new(by_shard), batch, committed, room })
    }

    /// How many transfers are committed, counted while it runs.
    pub fn committed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.committed)
    }

    /// Starts the stages of every shard; they run until the set is dropped. One that ends has
    /// failed.
    pub fn start(self) -> JoinSet<anyhow::Error> {
        let mut tasks = JoinSet::new();
        let stage = Stage {
            store: Arc::clone(&self.store),
            turns: Arc::new(Turns::without_rest(self.store.clone())),
            batch: self.batch,
            room: self.room,
        };
        let shards: Vec<Shard> = self.store.map().all_shards().collect();
        let mut projections = Vec::new();
        for shard in &shards {
            let (entrance, inbox) = mpsc::channel(WAITING);
            projections.push(entrance);
            spawn(&mut tasks, stage.clone().project(*shard, inbox));
        }
        for shard in &shards {
            let (to_commit, settled) = mpsc::channel(WAITING);
            let project =
                Projections { store: Arc::clone(&self.store), shards: projections.clone() };
            let counted = Arc::clone(&self.committed);
            spawn(&mut tasks, stage.clone().commit(*shard, settled, project.clone(), counted));
            let mut credits = Vec::new();
            for destination in &shards {
                let (entrance, inbox) = mpsc::channel(WAITING);
                credits.push(entrance);
                let next = (to_commit.clone(), project.clone());
                spawn(&mut tasks, stage.clone().credit(*destination, inbox, next));
            }
            let (to_hold, requested) = mpsc::channel(WAITING);
            let counted = Arc::clone(&self.committed);
            let next = (credits, project, counted);
            spawn(&mut tasks, stage.clone().hold(*shard, requested, next));
            let (to_relay, accepted) = mpsc::channel(WAITING);
            spawn(&mut tasks, stage.clone().relay(*shard, accepted, to_hold));
            spawn(&mut tasks, stage.clone().accept(*shard, Arc::clone(&self.accounts), to_relay));
        }
        tasks
    }
}

fn spawn(
    tasks: &mut JoinSet<anyhow::Error>,
    stage: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) {
    tasks.spawn(async move {
        match stage.await {
            Ok(()) => anyhow::anyhow!("a stage ended because the one behind it did"),
            Err(error) => error,
        }
    });
}

#[derive(Clone)]
struct Stage {
    store: Arc<MySqlStore>,
    turns: Arc<Turns>,
    batch: usize,
    room: Arc<Semaphore>,
}

impl Stage {
    async fn accept(
        self,
        shard: Shard,
        accounts: Arc<Vec<Vec<AccountId>>>,
        relay: Batches,
    ) -> anyhow::Result<()> {
        let mut rng = SmallRng::seed_from_u64(random::bits());
        let (own, all) = (&accounts[usize::from(shard.0)], accounts.concat());
        loop {
            let pick = |_| {
                let source = &own[rng.random_range(0..own.len())];
                let other = |other: &&AccountId| *other != source;
                let destination = std::iter::repeat_with(|| &all[rng.random_range(0..all.len())])
                    .find(other)
                    .expect("it goes on until there is one");
                Asked {
                    source: source.clone(),
                    destination: destination.clone(),
                    minor: rng.random_range(1..=900),
                    key: format!("bench-{:016x}", rng.random::<u64>()),
                    fingerprint: rng.random(),
                }
            };
            let permits = u32::try_from(self.batch)?;
            self.room.acquire_many(permits).await?.forget();
            let asked: Vec<Asked> = (0..self.batch).map(pick).collect();
            let events =
                transact(&*self.store, shard, &Accept { store: &self.store, asked }).await?;
            relay.send(events).await?;
        }
    }

    /// The outbox is read and emptied; what stands in it goes on as it was, for there is no log.
    async fn relay(
        self,
        shard: Shard,
        mut accepted: mpsc::Receiver<Vec<Event>>,
        hold: Batches,
    ) -> anyhow::Result<()> {
        while let Some(events) = accepted.recv().await {
            let rows = self.store.outbox(shard, 0, OUTBOX_ROWS).await?;
            let ids: Vec<u64> = rows.iter().map(|row| row.id).collect();
            self.store.outbox_sent(shard, &ids).await?;
            hold.send(events).await?;
        }
        Ok(())
    }

    async fn hold(
        self,
        shard: Shard,
        mut requested: mpsc::Receiver<Vec<Event>>,
        (credits, project, counted): (Vec<Batches>, Projections, Arc<AtomicU64>),
    ) -> anyhow::Result<()> {
        let mut waiting = Waiting::default();
        while let Some(batch) = waiting.take(&mut requested, self.batch).await {
            let said = self.apply(shard, Kind::Hold, batch).await?;
            project.send(&said).await?;
            let (held, ended): (Vec<Event>, Vec<Event>) =
                said.into_iter().partition(|event| event.kind == EventType::Held);
            self.count(&ended, &counted);
            let map = self.store.map();
            let mut by_shard: BTreeMap<Shard, Vec<Event>> = BTreeMap::new();
            for event in held {
                by_shard.entry(map.shard_of(&event.terms.destination)).or_default().push(event);
            }
            for (destination, events) in by_shard {
                credits[usize::from(destination.0)].send(events).await?;
            }
        }
        Ok(())
    }

    async fn credit(
        self,
        shard: Shard,
        mut held: mpsc::Receiver<Vec<Event>>,
        (commit, project): (Batches, Projections),
    ) -> anyhow::Result<()> {
        let mut waiting = Waiting::default();
        while let Some(batch) = waiting.take(&mut held, self.batch).await {
            let credited = self.apply(shard, Kind::Credit, batch).await?;
            project.send(&credited).await?;
            commit.send(credited).await?;
        }
        Ok(())
    }

    async fn commit(
        self,
        shard: Shard,
        mut credited: mpsc::Receiver<Vec<Event>>,
        project: Projections,
        counted: Arc<AtomicU64>,
    ) -> anyhow::Result<()> {
        let mut waiting = Waiting::default();
        while let Some(batch) = waiting.take(&mut credited, self.batch).await {
            let committed = self.apply(shard, Kind::Commit, batch).await?;
            self.count(&committed, &counted);
            project.send(&committed).await?;
        }
        Ok(())
    }

    fn count(&self, committed: &[Event], counted: &AtomicU64) {
        counted.fetch_add(committed.len() as u64, Ordering::Relaxed);
        self.room.add_permits(committed.len());
    }

    async fn project(
        self,
        shard: Shard,
        mut said: mpsc::Receiver<Vec<Event>>,
    ) -> anyhow::Result<()> {
        let mut waiting = Waiting::default();
        while let Some(batch) = waiting.take(&mut said, self.batch).await {
            let rows = newest(batch.iter().flat_map(|input| projections(&input.event)));
            self.store.project_balances(shard, &rows).await?;
        }
        Ok(())
    }

    async fn apply(
        &self,
        shard: Shard,
        kind: Kind,
        batch: Vec<Input>,
    ) -> anyhow::Result<Vec<Event>> {
        let decision: Arc<dyn Decision> = match kind {
            Kind::Hold => {
                let timeout = Policy::default().hold_timeout;
                let map = Some(self.store.map().clone());
                Arc::new(Holds { batch: Arc::new(batch), timeout, map })
            }
            Kind::Credit => Arc::new(Credits { batch: Arc::new(batch) }),
            Kind::Commit => {
                let settled = |input| Settled { input, decision: PivotDecision::Credited };
                Arc::new(Commits { batch: batch.into_iter().map(settled).collect() })
            }
        };
        let outcomes = self.turns.take(shard, decision).await?;
        let moved = |event: &Event| {
            matches!(event.kind, EventType::Held | EventType::Credited | EventType::Committed)
        };
        let event = |outcome| match outcome {
            Outcome::Emit(event) if moved(&event) => Ok(event),
            Outcome::Emit(_) | Outcome::Done | Outcome::LetGo(_) | Outcome::Dead { .. } => {
                bail!("{kind:?} of shard {shard} did not move a transfer on: {outcome:?}")
            }
        };
        outcomes.into_iter().map(event).collect()
    }
}

/// Events that wait until they are a full batch.
#[derive(Default)]
struct Waiting {
    events: Vec<Event>,
    offset: i64,
}

impl Waiting {
    async fn take(
        &mut self,
        inbox: &mut mpsc::Receiver<Vec<Event>>,
        most: usize,
    ) -> Option<Vec<Input>> {
        while self.events.len() < most {
            self.events.extend(inbox.recv().await?);
        }
        let offsets = self.offset..;
        self.offset += most as i64;
        let events = self.events.drain(..most).zip(offsets);
        Some(events.map(|(event, offset)| Input { event, offset }).collect())
    }
}

/// Where the rows go that events carry.
#[derive(Clone)]
struct Projections {
    store: Arc<MySqlStore>,
    shards: Vec<Batches>,
}

impl Projections {
    async fn send(&self, events: &[Event]) -> anyhow::Result<()> {
        let mut by_shard: BTreeMap<Shard, Vec<Event>> = BTreeMap::new();
        for event in events {
            let Some(account) = event.accounts().next() else { continue };
            let shard = self.store.map().shard_of(&account.id);
            by_shard.entry(shard).or_default().push(event.clone());
        }
        for (shard, events) in by_shard {
            self.shards[usize::from(shard.0)].send(events).await?;
        }
        Ok(())
    }
}

fn currency() -> Currency {
    "USD".parse().expect("USD is a currency")
}

struct MakeAccounts<'a>(&'a [AccountId]);

#[async_trait]
impl Work for MakeAccounts<'_> {
    type Output = ();

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<(), StoreError> {
        let record = |id: &AccountId| AccountRecord {
            row: AccountRow {
                id: id.clone(),
                currency: currency(),
                kind: AccountKind::Customer,
                status: AccountStatus::Active,
                quarantined: false,
                overdraft_limit: OVERDRAFT,
                posted: 0,
                held: 0,
                version: 1,
                velocity: Velocity::NONE,
            },
            metadata: "{}".to_owned(),
            created_at: tx.now(),
            owner: None,
        };
        let records: Vec<AccountRecord> = self.0.iter().map(record).collect();
        tx.insert_accounts(&records).await.map(drop)
    }
}

/// What ingress is asked for.
struct Asked {
    source: AccountId,
    destination: AccountId,
    minor: i64,
    key: String,
    fingerprint: [u8; 32],
}

/// A group commit of ingress.
struct Accept<'a> {
    store: &'a MySqlStore,
    asked: Vec<Asked>,
}

impl Accept<'_> {
    fn transfer(&self, tx: &dyn Tx, (index, asked): (usize, &Asked)) -> NewTransfer {
        let client: Client = crate::runtime::ANYBODY.parse().expect("a valid client name");
        let key = asked.key.parse().expect("a valid key");
        let sequence = u32::try_from(index).unwrap_or(u32::MAX);
        NewTransfer {
            terms: Terms {
                id: TransferId::mint(tx.now(), slot_of(&asked.source), sequence, random::bits()),
                source: asked.source.clone(),
                destination: asked.destination.clone(),
                amount: Money::from_minor(asked.minor, currency()).expect("a small amount"),
                reverses: None,
            },
            claim: ClaimKey { source: asked.source.clone(), client, key },
            fingerprint: asked.fingerprint,
            fingerprint_version: 1,
            description: None,
            reference: None,
            metadata: None,
            sealed: None,
            at: tx.now(),
        }
    }
}

#[async_trait]
impl Work for Accept<'_> {
    type Output = Vec<Event>;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Vec<Event>, StoreError> {
        let transfers: Vec<NewTransfer> =
            self.asked.iter().enumerate().map(|asked| self.transfer(tx, asked)).collect();
        tx.insert_transfers(&transfers).await?;
        let stamp = self.store.identity().stamp(tx.now());
        let event = |transfer: &NewTransfer| Event {
            request: Some(RequestDetails::of(transfer)),
            ..stamp.event(EventType::Requested, &transfer.terms)
        };
        let events: Vec<Event> = transfers.iter().map(event).collect();
        let map = self.store.map();
        let records: Vec<_> = events.iter().map(|event| envelope::record(event, map)).collect();
        tx.insert_outbox(&records).await?;
        Ok(events)
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Hold,
    Credit,
    Commit,
}
