//! A store that can be taken away, shard by shard.

use super::tx::FaultyTx;
use async_trait::async_trait;
use holdfast::domain::{
    AccountId, Client, EntryRow, Generation, IdempotencyKey, Partition, Proposal, ProposalId,
    ProposalState, Shard, Timestamp, TransferId,
};
use holdfast::routing::ShardMap;
use holdfast::store::chain::ChainPage;
use holdfast::store::{
    AccountFilter, AccountRecord, AccountSums, ActFilter, Actor, ApiKeyRow, Audit, AuditSnapshot,
    BalanceRow, Credentials, CreditFact, DataKeyRow, Drift, EntryFault, Executed, Identity, Lease,
    LetterMark, LoggedAct, Mark, Operations, OutboxRow, Pass, PauseReads, PauseRow, Progress,
    Proposals, Quarantined, Recovery, Replication, Sealing, SourceFact, Standing, Store,
    StoreError, StuckTransfer, TransferFilter, TransferRecord, Tx,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// A COMMIT that nobody confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unconfirmed {
    /// It happened.
    Written,
    /// It did not.
    Lost,
}

/// The switches of one shard.
pub struct ShardFaults {
    down: AtomicBool,
    hanging: watch::Sender<bool>,
    commits: Mutex<VecDeque<Unconfirmed>>,
    asked: AtomicU64,
}

impl ShardFaults {
    fn new() -> Self {
        Self {
            down: AtomicBool::new(false),
            hanging: watch::Sender::new(false),
            commits: Mutex::default(),
            asked: AtomicU64::new(0),
        }
    }

    /// Every call is answered with an error from now on, also inside transactions, or no longer.
    pub fn down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// No call is answered from now on; when it is over, those that wait go on.
    pub fn hang(&self, hanging: bool) {
        self.hanging.send_replace(hanging);
    }

    /// The next COMMITs are not confirmed.
    pub fn unconfirmed(&self, commits: impl IntoIterator<Item = Unconfirmed>) {
        self.commits.lock().unwrap().extend(commits);
    }

    /// Whether every COMMIT that was to be unconfirmed has been sent.
    pub fn all_commits_sent(&self) -> bool {
        self.commits.lock().unwrap().is_empty()
    }

    /// How often the shard was asked for something so far, also in vain.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn next_commit(&self) -> Option<Unconfirmed> {
        self.commits.lock().unwrap().pop_front()
    }

    pub(super) async fn reach(&self, shard: Shard) -> Result<(), StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut hanging = self.hanging.subscribe();
        let _ = hanging.wait_for(|hanging| !hanging).await;
        if self.down.load(Ordering::SeqCst) {
            let (address, detail) = ("taken away".to_owned(), "by the test".to_owned());
            return Err(StoreError::Unavailable { shard, address, detail });
        }
        Ok(())
    }
}

/// The switches of all shards, for one process.
pub struct StoreFaults {
    shards: Vec<Arc<ShardFaults>>,
}

impl StoreFaults {
    pub fn new(shards: u16) -> Self {
        Self { shards: (0..shards).map(|_| Arc::new(ShardFaults::new())).collect() }
    }

    pub fn shard(&self, shard: Shard) -> &Arc<ShardFaults> {
        &self.shards[usize::from(shard.0)]
    }
}

/// A store behind [`StoreFaults`].
pub struct FaultyStore {
    pub inner: Arc<dyn Store>,
    pub faults: Arc<StoreFaults>,
}

impl FaultyStore {
    async fn reach(&self, shard: Shard) -> Result<&dyn Store, StoreError> {
        self.faults.shard(shard).reach(shard).await?;
        Ok(&*self.inner)
    }
}

/// Methods that ask one shard.
macro_rules! delegate {
    ($port:ident { $($other:tt)* }
        $($name:ident($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        #[async_trait]
        impl $port for FaultyStore {
            $($other)*
            $(async fn $name(&self, shard: Shard, $($arg: $kind),*) -> Result<$out, StoreError> {
                self.reach(shard).await?.$name(shard, $($arg),*).await
            })*
        }
    };
}

delegate! {
    Audit {}
    audit_snapshot() -> AuditSnapshot;
    source_facts(after: TransferId, before: TransferId, limit: u32) -> Vec<SourceFact>;
    source_facts_of(ids: &[TransferId]) -> Vec<SourceFact>;
    credit_facts(after: TransferId, before: TransferId, limit: u32) -> Vec<CreditFact>;
    credit_facts_of(ids: &[TransferId]) -> Vec<CreditFact>;
    debits_without_transfer(after: TransferId, before: TransferId, limit: u32) -> Vec<TransferId>;
    decision_rows(after: Option<&AccountId>, limit: u32) -> Vec<holdfast::domain::AccountRow>;
}

delegate! {
    PauseReads {}
    pauses() -> Vec<PauseRow>;
}

delegate! {
    Replication {}
    executed() -> Option<Executed>;
    has_executed(executed: &Executed) -> bool;
}

delegate! {
    Credentials {}
    api_key(id: &str) -> Option<ApiKeyRow>;
    api_keys(after: &str, limit: u32) -> Vec<ApiKeyRow>;
    owners(ids: &BTreeSet<AccountId>) -> BTreeMap<AccountId, Option<Client>>;
}

delegate! {
    Drift {}
    account_page(after: Option<&AccountId>, limit: u32) -> Vec<AccountSums>;
    account_sums_of(ids: &[AccountId]) -> Vec<AccountSums>;
    account_glances(ids: &[AccountId]) -> Vec<AccountSums>;
    entry_faults_of(ids: &[TransferId]) -> Vec<EntryFault>;
    chain_faults_of(ids: &[AccountId]) -> Vec<EntryFault>;
    drift_progress(pass: Pass) -> Option<Progress>;
    move_drift(
        pass: Pass, from: Option<&Progress>, to: &Progress, watch: &[TransferId]
    ) -> bool;
    drift_watched(after: TransferId, limit: u32) -> Vec<TransferId>;
    drift_seen(ids: &[TransferId]) -> ();
}

delegate! {
    Operations {}
    acts(filter: &ActFilter, before: (Timestamp, i64), limit: u32) -> Vec<LoggedAct>;
    chained_acts(after: i64, limit: u32) -> ChainPage;
    quarantines(after: Option<&AccountId>, limit: u32) -> Vec<Quarantined>;
    quarantine_of(account: &AccountId) -> Option<Quarantined>;
    open_transfers(after: TransferId, until: Timestamp, limit: u32) -> Vec<StuckTransfer>;
    letter_marks(partition: Partition, from: i64, to: i64) -> Vec<LetterMark>;
}

delegate! {
    Proposals {}
    proposal(id: ProposalId) -> Option<Proposal>;
    claimed_proposal(by: &Client, target: &str, key: &IdempotencyKey) -> Option<Proposal>;
    proposals(
        state: Option<(ProposalState, Timestamp)>, before: Option<ProposalId>, limit: u32
    ) -> Vec<Proposal>;
}

delegate! {
    Sealing {}
    data_keys() -> Vec<DataKeyRow>;
    rotate_data_key(older_than: Duration, actor: &Actor) -> Option<u32>;
    rewrap_data_keys(actor: &Actor) -> u32;
}

delegate! {
    Recovery {}
    stored_generation() -> Generation;
    raise_generation(to: Generation) -> ();
    recovery_unfinished() -> bool;
    finish_recovery() -> ();
    keeps_commits() -> bool;
    leases() -> Vec<Lease>;
    watch(ids: &[TransferId]) -> ();
}

delegate! {
    Store {
        fn map(&self) -> &ShardMap {
            self.inner.map()
        }

        fn identity(&self) -> &Identity {
            self.inner.identity()
        }

        fn address(&self, shard: Shard) -> String {
            self.inner.address(shard)
        }

        async fn begin(&self, shard: Shard) -> Result<Box<dyn Tx>, StoreError> {
            let faults = self.faults.shard(shard);
            let inner = self.reach(shard).await?.begin(shard).await?;
            Ok(Box::new(FaultyTx { inner, faults: Arc::clone(faults) }))
        }
    }
    ping() -> ();
    now() -> Timestamp;
    account(id: &AccountId) -> Option<AccountRecord>;
    velocity(id: &AccountId) -> holdfast::domain::Velocity;
    accounts(
        filter: &AccountFilter, after: Option<&AccountId>, limit: u32
    ) -> Vec<AccountRecord>;
    balance(id: &AccountId) -> Option<BalanceRow>;
    project_balances(rows: &[BalanceRow]) -> ();
    refresh_balances(
        after: Option<&AccountId>, limit: u32
    ) -> (Vec<BalanceRow>, Option<AccountId>);
    entries(account: &AccountId, before_version: Option<i64>, limit: u32) -> Vec<EntryRow>;
    transfer_records(ids: &[TransferId]) -> Vec<TransferRecord>;
    outgoing(
        source: &AccountId, filter: &TransferFilter, before: Option<TransferId>, limit: u32
    ) -> Vec<TransferRecord>;
    incoming(
        destination: &AccountId, filter: &TransferFilter, before_version: Option<i64>, limit: u32
    ) -> Vec<EntryRow>;
    claimed_transfer(
        client: &Client, source: &AccountId, key: &IdempotencyKey
    ) -> Option<TransferId>;
    entries_of(ids: &[TransferId]) -> Vec<EntryRow>;
    outbox(after: u64, limit: u32) -> Vec<OutboxRow>;
    outbox_but(known: &BTreeSet<u64>, limit: u32) -> Vec<OutboxRow>;
    outbox_sent(ids: &[u64]) -> ();
    outbox_depth() -> (u64, Option<Timestamp>);
    lease(name: &str, holder: &str, ttl: Duration) -> bool;
    scan_unfinished(mark: Mark, until: Timestamp, limit: u32) -> u32;
    stuck(limit: u32) -> Vec<StuckTransfer>;
    stuck_seen(seen: &[(TransferId, u32, Timestamp)]) -> ();
    stuck_over(ids: &[TransferId]) -> ();
    standing() -> Vec<Standing>;
    expire_claims(before: Timestamp, limit: u32) -> u32;
}
