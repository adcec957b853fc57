//! A cluster for one test: two shards, a broker, Redis where there is one, and processes.

use super::backend::{Backend, Ports, RawRedis, answered};
use super::faults::{BrokerFaults, FaultyBroker, FaultyStore, StoreFaults};
use super::process::Process;
use super::witness::Witness;
use crate::wait::{DEADLINE, eventually, within};
use holdfast::backlog::Backlog;
use holdfast::broker::{
    Broker, Delivered, Family, Group, Incoming, PartitionLag, Record, Topic, envelope,
};
use holdfast::cache::BalanceCache;
use holdfast::context::{Context, Policy};
use holdfast::domain::{
    AccountId, AccountKind, AccountRow, Currency, EventType, Reason, Shard, State, TransferId,
};
use holdfast::ingress::AccountRequest;
use holdfast::reconciler::audit;
use holdfast::routing::slot_of;
use holdfast::store::{SourceFact, Store, TransferRecord};
use holdfast::trace::Traces;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Shards of every cluster.
pub const SHARDS: u16 = 2;
/// All tables that commits of the pipeline go to.
const LEDGER: [&str; 11] = [
    "account_mst",
    "balances",
    "ledger_entries",
    "outbox",
    "idempotency_keys",
    "transaction_status",
    "reversals",
    "leases",
    "reconciler_mark",
    "stuck_transfers",
    "velocity_limits",
];
/// Partitions of every topic.
pub const PARTITIONS: u32 = 3;

/// Two shards and what runs on them.
pub struct Cluster {
    ports: Ports,
    witness: Witness,
    names: AtomicU32,
    pub policy: Policy,
    /// Where the processes' spans go.
    pub traces: Traces,
}

/// Times that a test can wait for. Holds stand long enough that none ends by itself.
pub fn policy() -> Policy {
    Policy {
        hold_timeout: Duration::from_secs(300),
        foreign_shard_timeout: Duration::from_millis(500),
        scan_lag: Duration::from_millis(300),
        reconcile_interval: Duration::from_millis(100),
        full_sweep_interval: Duration::from_secs(2),
        drift_interval: Duration::from_millis(500),
        drift_full_interval: Duration::from_secs(2),
        redrive_backoff: Duration::from_millis(250),
        ..Policy::default()
    }
}

impl Cluster {
    /// Migrated and empty; nothing runs yet.
    pub async fn new(backend: Backend) -> Self {
        Self::with(backend, |_| {}).await
    }

    /// The same with other times and bounds.
    pub async fn with(backend: Backend, adjust: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = policy();
        adjust(&mut policy);
        let ports = backend.create(SHARDS, PARTITIONS).await;
        let witness = Witness::start(&ports.store, &ports.broker).await;
        Self { ports, witness, names: AtomicU32::new(0), policy, traces: Traces::default() }
    }

    /// A new process with ingress; the other roles are to be started. It shares nothing with other
    /// processes but the shards, the broker and Redis.
    pub fn process(&self) -> Process {
        self.process_with(self.ports.cache())
    }

    /// A process whose Redis does not answer.
    pub fn without_redis(&self) -> Process {
        self.process_with(Some(BalanceCache::new("redis://127.0.0.1:1", "nobody:").unwrap()))
    }

    fn process_with(&self, cache: Option<BalanceCache>) -> Process {
        let stores = Arc::new(StoreFaults::new(SHARDS));
        let brokers = Arc::new(BrokerFaults::new());
        let instance = format!("process-{}", self.names.fetch_add(1, Ordering::Relaxed));
        let store = Arc::new(FaultyStore {
            inner: Arc::clone(&self.ports.store),
            faults: Arc::clone(&stores),
        });
        let broker = Arc::new(FaultyBroker {
            inner: Arc::clone(&self.ports.broker),
            faults: Arc::clone(&brokers),
        });
        let policy = Policy { instance, ..self.policy.clone() };
        let backlog = Backlog::fresh_for(Duration::from_millis(300));
        let context = Context {
            traces: self.traces.clone(),
            ..Context::new(store, broker, cache, policy, backlog)
        };
        Process::new(Arc::new(context), stores, brokers)
    }

    /// A process in which every role runs for every shard.
    pub fn running(&self) -> Process {
        let process = self.process();
        process.start_all();
        process
    }

    /// Keeps a copy of all that a shard holds now. No role may be at work.
    pub async fn remember(&self, shard: u16) {
        let copy = |table: &str| format!("CREATE TABLE old_{table} AS SELECT * FROM {table};");
        let copies: String = LEDGER.into_iter().map(copy).collect();
        self.sql(shard, &copies).await;
    }

    /// Puts the copy back: all that was committed since is lost. No role may be at work; leases of
    /// those that were have run out, and nothing of theirs is on its way any more.
    pub async fn forget(&self, shard: u16) {
        self.arrived().await;
        let back = |table: &str| {
            format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM old_{table};")
        };
        let copies: String = LEDGER.into_iter().map(back).collect();
        self.sql(shard, &copies).await;
        self.end_leases().await;
    }

    /// Waits until what processes that were killed had handed to the broker is there. One that
    /// joins the embedded log is written behind everything that was.
    async fn arrived(&self) {
        let (broker, topics) = (self.broker(), Topic::all((0..SHARDS).map(Shard)));
        let mut before = None;
        loop {
            let group = new_group(Shard(0));
            drop(answered(|| broker.consumer(&group, &topics)).await.unwrap());
            let lags = answered(|| broker.lag(&group, &topics)).await.unwrap();
            let now: i64 = lags.iter().map(PartitionLag::records).sum();
            if before == Some(now) {
                return;
            }
            before = Some(now);
        }
    }

    /// Every lease has run out.
    pub async fn end_leases(&self) {
        self.set_leases("0").await;
    }

    /// Whoever was killed was so a moment ago, however long the test took since.
    pub async fn prolong_leases(&self) {
        self.set_leases("expires_at + 3600000000").await;
    }

    async fn set_leases(&self, until: &str) {
        for shard in 0..SHARDS {
            self.sql(shard, &format!("UPDATE leases SET expires_at = {until}")).await;
        }
    }

    /// Does to a shard what the product never does.
    pub async fn sql(&self, shard: u16, statements: &str) {
        self.ports.sql(Shard(shard), statements).await;
    }

    /// Processes of this cluster are of a newer generation from now on.
    pub async fn reopen(&mut self) {
        self.ports.store = self.ports.open().await;
    }

    pub fn store(&self) -> &dyn Store {
        &*self.ports.store
    }

    pub fn broker(&self) -> &dyn Broker {
        &*self.ports.broker
    }

    /// The Redis of this cluster, where it has one.
    pub fn cache(&self) -> Option<BalanceCache> {
        self.ports.cache()
    }

    /// The same, to do to it what the product never does.
    pub fn redis(&self) -> Option<RawRedis> {
        self.ports.raw_redis()
    }

    /// Runs the migration again with another number of partitions; returns the number that the
    /// shards say, or none where it is refused.
    pub async fn migrated_again(&self, partitions: u32) -> Option<u32> {
        self.ports.migrate(partitions).await
    }

    /// An id that lives on a shard and that no other account of the test has.
    pub fn name(&self, shard: u16) -> AccountId {
        let map = self.ports.store.map();
        loop {
            let number = self.names.fetch_add(1, Ordering::Relaxed);
            let id = format!("account-{number}").parse().unwrap();
            if map.shard_of(&id) == Shard(shard) {
                return id;
            }
        }
    }

    /// A customer's account in USD on a shard that may be overdrawn by so many minor units.
    pub async fn account(&self, shard: u16, overdraft_limit: i64) -> AccountId {
        self.account_of(self.name(shard), AccountKind::Customer, usd(), overdraft_limit).await
    }

    /// An account of shard 0 whose events are in another partition than those of this one.
    pub async fn in_another_partition(&self, account: &AccountId) -> AccountId {
        let partition =
            |account: &AccountId| self.store().map().partition_of_slot(slot_of(account));
        loop {
            let other = self.account(0, 1000).await;
            if partition(&other) != partition(account) {
                return other;
            }
        }
    }

    pub async fn account_of(
        &self,
        id: AccountId,
        kind: AccountKind,
        currency: Currency,
        overdraft_limit: i64,
    ) -> AccountId {
        let metadata = BTreeMap::new();
        let (id_of, owner) = (id.clone(), None);
        let request =
            AccountRequest { id: id_of, currency, kind, overdraft_limit, metadata, owner };
        for created in self.process().ingress.create_accounts(vec![request]).await {
            assert!(created.unwrap().new);
        }
        id
    }

    /// The decision row.
    pub async fn row(&self, id: &AccountId) -> AccountRow {
        let store = self.store();
        store.account(store.map().shard_of(id), id).await.unwrap().expect("the account exists").row
    }

    /// Posted and held in minor units, by the decision row.
    pub async fn money(&self, id: &AccountId) -> (i64, i64) {
        let row = self.row(id).await;
        (row.posted, row.held)
    }

    pub async fn transfer(&self, id: TransferId) -> TransferRecord {
        let store = self.store();
        let shard = store.map().shard_of_transfer(id);
        let found = store.transfer_records(shard, &[id]).await.unwrap().into_iter().next();
        found.expect("the transfer exists")
    }

    /// The stored state and its reason.
    pub async fn state(&self, id: TransferId) -> (State, Option<Reason>) {
        let row = self.transfer(id).await.row;
        (row.state, row.reason)
    }

    /// Waits until the transfer is final and returns how it ended.
    pub async fn end_of(&self, id: TransferId) -> (State, Option<Reason>) {
        eventually("a final state", || async { self.state(id).await.0.is_final() }).await;
        self.state(id).await
    }

    pub async fn assert_committed(&self, id: TransferId) {
        assert_eq!(self.end_of(id).await, (State::Committed, None), "{id}");
    }

    /// Waits until the transfer is final: it must have been refused for this reason.
    pub async fn assert_refused(&self, id: TransferId, reason: Reason) {
        assert_eq!(self.end_of(id).await, (reason.final_state(), Some(reason)), "{id}");
    }

    /// Waits until the transfer's amount was held.
    pub async fn until_held(&self, id: TransferId) {
        let held = || async { self.transfer(id).await.row.held_at.is_some() };
        eventually("a hold", held).await;
    }

    /// Waits until the hold was announced too, so that credit is behind until it has read of it.
    pub async fn until_hold_is_known(&self, id: TransferId) {
        self.until_held(id).await;
        let source = self.store().map().shard_of_transfer(id);
        let is_it =
            |record: &Delivered| envelope::event(record).is_ok_and(|event| event.terms.id == id);
        let (broker, group) = (self.broker(), new_group(source));
        let topics = [Topic::of(EventType::Held, source)];
        let mut reader = answered(|| broker.consumer(&group, &topics)).await.unwrap();
        within("the event of a hold", async {
            loop {
                match reader.next(100).await.unwrap() {
                    Incoming::Records(records) if records.iter().any(is_it) => return,
                    Incoming::Records(_) | Incoming::Revoked(..) => {}
                }
            }
        })
        .await;
    }

    /// Waits until the transfer has a pivot; returns whether it is credited, or why not.
    pub async fn pivot(&self, id: TransferId) -> Result<(), Reason> {
        let shard = self.store().map().shard_of(&self.transfer(id).await.row.terms.destination);
        let pivot = || async { self.store().credit_facts_of(shard, &[id]).await.unwrap().pop() };
        eventually("a pivot", || async { pivot().await.is_some() }).await;
        match pivot().await.unwrap().decision {
            holdfast::domain::PivotDecision::Credited => Ok(()),
            holdfast::domain::PivotDecision::Refused(reason) => Err(reason),
        }
    }

    /// Every transfer of every shard.
    pub async fn transfers(&self) -> Vec<SourceFact> {
        let [first, last] = [0, 0xFF].map(|byte| TransferId::from_bytes([byte; 16]));
        let mut all = Vec::new();
        for shard in self.store().map().all_shards() {
            all.extend(self.store().source_facts(shard, first, last, 1_000_000).await.unwrap());
        }
        all
    }

    /// Writes records as anybody with access to the broker could.
    pub async fn produce(&self, records: Vec<Record>) {
        self.broker().producer().await.unwrap().send(records).await.unwrap();
    }

    /// Everything that a topic holds, in order within each partition.
    pub async fn records(&self, topic: Topic) -> Vec<Delivered> {
        let (broker, group, topics) = (self.broker(), new_group(topic.shard), [topic]);
        let lags = answered(|| broker.lag(&group, &topics)).await.unwrap();
        let expected = lags.iter().map(|lag| lag.records() as usize).sum();
        let mut records: Vec<Delivered> = Vec::new();
        if expected == 0 {
            return records;
        }
        let mut consumer = answered(|| broker.consumer(&group, &topics)).await.unwrap();
        while records.len() < expected {
            if let Incoming::Records(more) = consumer.next(expected).await.unwrap() {
                records.extend(more);
            }
        }
        records
    }

    pub async fn events(&self, kind: EventType, shard: u16) -> Vec<Delivered> {
        self.records(Topic::of(kind, Shard(shard))).await
    }

    /// The dead letters of a shard.
    pub async fn dead_letters(&self, shard: u16) -> Vec<holdfast::domain::DeadLetter> {
        let topic = Topic { family: Family::DeadLetter, shard: Shard(shard) };
        let letter = |delivered: &Delivered| {
            holdfast::broker::envelope::read_dead_letter(delivered).expect("a dead letter")
        };
        self.records(topic).await.iter().map(letter).collect()
    }

    /// Waits until nothing is left to be done: every transfer final, every outbox empty, every
    /// projection equal to its row.
    pub async fn settled(&self) {
        eventually("every transfer final", || async {
            self.transfers().await.iter().all(|fact| fact.state.is_final())
        })
        .await;
        for shard in self.store().map().all_shards() {
            eventually("an empty outbox", || async {
                self.store().outbox_depth(shard).await.unwrap().0 == 0
            })
            .await;
            eventually("projections equal to their rows", || async {
                self.store().audit_snapshot(shard).await.unwrap().faulty_accounts.is_empty()
            })
            .await;
            eventually("Redis equal to the rows", || self.redis_agrees(shard)).await;
        }
    }

    async fn redis_agrees(&self, shard: Shard) -> bool {
        let Some(cache) = self.cache() else { return true };
        let rows = self.store().decision_rows(shard, None, 1_000_000).await.unwrap();
        let ids: Vec<AccountId> = rows.iter().map(|row| row.id.clone()).collect();
        let Ok(cached) = cache.get_many(&ids).await else { return false };
        rows.iter().zip(cached).all(|(row, cached)| {
            cached.is_none_or(|cached| {
                (cached.row.posted, cached.row.held, cached.row.version)
                    == (row.posted, row.held, row.version)
            })
        })
    }

    /// No invariant is broken at this moment, whatever runs. A projection may be behind, but it
    /// moves.
    pub async fn audit(&self) -> audit::Report {
        let process = self.process();
        let deadline = Instant::now() + DEADLINE;
        loop {
            let report = audit::check(&process.context).await.unwrap();
            if report.findings.is_empty() {
                return report;
            }
            let lag = report.findings.iter().all(|one| one.what == audit::PROJECTION_BEHIND);
            assert!(lag && Instant::now() < deadline, "{:#?}", report.findings);
        }
    }

    /// Waits until an end of every transfer was announced; returns which there are.
    pub async fn all_announced(&self) -> Vec<TransferId> {
        let transfers: Vec<TransferId> =
            self.transfers().await.iter().map(|fact| fact.terms.id).collect();
        self.witness.all_ended(&transfers).await;
        transfers
    }

    /// How every scenario ends: all is settled, the audit finds nothing, every event that was ever
    /// announced was true when it was, and every role stops when it is told to.
    pub async fn finish(self, processes: impl IntoIterator<Item = Process>) {
        self.settled().await;
        self.audit().await;
        let transfers = self.all_announced().await;
        for process in processes {
            process.stop_all().await;
        }
        self.witness.all_was_true(self.broker(), &transfers).await;
    }
}

pub fn usd() -> Currency {
    "USD".parse().unwrap()
}

/// One that nobody else is in, and that has read nothing.
fn new_group(shard: Shard) -> Group {
    Group { role: format!("reader-{:016x}", rand::random::<u64>()).leak(), shard }
}
