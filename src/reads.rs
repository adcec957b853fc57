//! Reads that may be a little old: from the replica of a shard as long as that is known to be no
//! older than a bound, else from the shard itself.
//!
//! A replica's own figure of how far it is behind is about what it was sent. So it is not asked for
//! one: the shard says what it has executed, and once the replica has executed all of that, it is as
//! new as the moment of that question was. Nothing is written for it, and no two clocks are compared.

use crate::domain::{AccountId, EntryRow, Shard, TransferId};
use crate::meters::table::{READS, REPLICA_AGE};
use crate::meters::{Counter, Gauge};
use crate::store::{
    AccountFilter, AccountRecord, BalanceRow, Executed, Store, StoreError, TransferFilter,
    TransferRecord,
};
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Questions in the time of the bound: a replica counts as older than it is by one interval of them.
const QUESTIONS: u32 = 8;
/// The shortest and the longest time between two of them.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(5));
/// How long a replica is left alone that has refused a read.
const REST: Duration = Duration::from_secs(5);
/// Said of a replica whose shard cannot say what it has executed.
const NOT_NUMBERED: &str = "the shard does not number its transactions: it needs gtid_mode=ON";

/// Where lists, histories and projected balances are read.
pub struct Reads {
    store: Arc<dyn Store>,
    replicas: Option<Replicas>,
    of_shards: Vec<Counter>,
}

struct Replicas {
    store: Arc<dyn Store>,
    bound: Duration,
    of_shards: Vec<Arc<Replica>>,
}

/// What is known of one.
struct Replica {
    shard: Shard,
    known: Mutex<Known>,
    reads: Counter,
    age: Gauge,
}

struct Known {
    /// It has all that was committed before this moment; of no meaning before it was looked at.
    as_of: Instant,
    /// Why it is not read from.
    fault: Option<String>,
    /// It has refused a read, and is left alone until then.
    rests: Option<Instant>,
}

impl Reads {
    /// From the shards alone.
    pub fn of(store: Arc<dyn Store>) -> Self {
        let of_shards = store.map().all_shards().map(|shard| reads(shard, "primary")).collect();
        Self { store, replicas: None, of_shards }
    }

    /// From these replicas where they are no older than the bound. Looks at them again and again, as
    /// long as this is there.
    pub fn with_replicas(self, replicas: Arc<dyn Store>, bound: Duration) -> Self {
        let shards = self.store.map().all_shards();
        let of_shards: Vec<_> = shards.map(|shard| Arc::new(Replica::unknown(shard))).collect();
        for replica in &of_shards {
            let (shard, other) = (Arc::clone(&self.store), Arc::clone(&replicas));
            tokio::spawn(follow(Arc::downgrade(replica), shard, other, bound));
        }
        Self { replicas: Some(Replicas { store: replicas, bound, of_shards }), ..self }
    }

    /// Of each shard, why its replica is not read from, or nothing while it is; empty where there are
    /// no replicas.
    pub fn faults(&self) -> Vec<(Shard, Option<String>)> {
        let Some(replicas) = &self.replicas else { return Vec::new() };
        let fault = |replica: &Arc<Replica>| (replica.shard, replica.fault(replicas.bound));
        replicas.of_shards.iter().map(fault).collect()
    }

    /// As [`Store::accounts`].
    pub async fn accounts(
        &self,
        shard: Shard,
        filter: &AccountFilter,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<Vec<AccountRecord>, StoreError> {
        self.read(shard, |store| store.accounts(shard, filter, after, limit)).await
    }

    /// As [`Store::balance`].
    pub async fn balance(
        &self,
        shard: Shard,
        id: &AccountId,
    ) -> Result<Option<BalanceRow>, StoreError> {
        self.read(shard, |store| store.balance(shard, id)).await
    }

    /// As [`Store::entries`].
    pub async fn entries(
        &self,
        shard: Shard,
        account: &AccountId,
        before_version: Option<i64>,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError> {
        self.read(shard, |store| store.entries(shard, account, before_version, limit)).await
    }

    /// As [`Store::outgoing`].
    pub async fn outgoing(
        &self,
        shard: Shard,
        source: &AccountId,
        filter: &TransferFilter,
        before: Option<TransferId>,
        limit: u32,
    ) -> Result<Vec<TransferRecord>, StoreError> {
        self.read(shard, |store| store.outgoing(shard, source, filter, before, limit)).await
    }

    /// As [`Store::incoming`].
    pub async fn incoming(
        &self,
        shard: Shard,
        destination: &AccountId,
        filter: &TransferFilter,
        before_version: Option<i64>,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError> {
        self.read(shard, |store| store.incoming(shard, destination, filter, before_version, limit))
            .await
    }

    /// Whatever a replica says that is no answer, the shard is asked.
    async fn read<'a, T>(
        &'a self,
        shard: Shard,
        at: impl Fn(&'a dyn Store) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if let Some(replicas) = &self.replicas {
            let replica = &replicas.of_shards[usize::from(shard.0)];
            if replica.fault(replicas.bound).is_none() {
                match at(&*replicas.store).await {
                    Ok(answer) => {
                        replica.reads.increment(1);
                        return Ok(answer);
                    }
                    Err(error) => replica.fails(&error),
                }
            }
        }
        self.of_shards[usize::from(shard.0)].increment(1);
        at(&*self.store).await
    }
}

fn reads(shard: Shard, from: &str) -> Counter {
    READS.counter(&[&shard.to_string(), from])
}

impl Replica {
    fn unknown(shard: Shard) -> Self {
        let fault = Some("it was not looked at yet".to_owned());
        let known = Mutex::new(Known { as_of: Instant::now(), fault, rests: None });
        let age = REPLICA_AGE.gauge(&[&shard.to_string()]);
        Self { shard, known, reads: reads(shard, "replica"), age }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics while it is held")
    }

    /// Why it is not to be read from now.
    fn fault(&self, bound: Duration) -> Option<String> {
        let known = self.known();
        known.fault.clone().or_else(|| known.behind(bound))
    }

    /// It has all that was committed before that moment.
    fn is_as_new_as(&self, moment: Instant) {
        self.known().as_of = moment;
    }

    /// It has refused a read. It may answer the looks all the same.
    fn fails(&self, error: &StoreError) {
        self.known().rests = Some(Instant::now() + REST);
        self.is_found(Some(error.to_string()));
    }

    /// What is wrong with it, if anything is; the log has it when that begins and when it is over.
    fn is_found(&self, fault: Option<String>) {
        let mut known = self.known();
        if fault.is_none() && known.rests.is_some_and(|until| until > Instant::now()) {
            return;
        }
        match (&known.fault, &fault) {
            (Some(_), None) => tracing::info!(shard = %self.shard, "the replica is read from"),
            (None, Some(why)) => {
                tracing::warn!(shard = %self.shard, why, "the replica is not read from");
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        known.fault = fault;
    }
}

impl Known {
    fn behind(&self, bound: Duration) -> Option<String> {
        let age = self.as_of.elapsed();
        let words = || {
            format!(
                "it may be {} ms behind, and {} are allowed",
                age.as_millis(),
                bound.as_millis()
            )
        };
        (age > bound).then(words)
    }
}

/// Looks at a replica as long as anybody reads from it.
async fn follow(
    replica: Weak<Replica>,
    shards: Arc<dyn Store>,
    other: Arc<dyn Store>,
    bound: Duration,
) {
    let mut asked = VecDeque::new();
    loop {
        let Some(replica) = replica.upgrade() else { return };
        let fault = match look(&replica, &*shards, &*other, &mut asked).await {
            Ok(()) => replica.known().behind(bound),
            Err(fault) => Some(fault),
        };
        replica.is_found(fault);
        replica.age.set(replica.known().as_of.elapsed().as_secs_f64());
        // What it comes to later than that does not make it new enough.
        asked.retain(|(at, _)| at.elapsed() <= bound);
        drop(replica);
        tokio::time::sleep((bound / QUESTIONS).clamp(INTERVALS.0, INTERVALS.1)).await;
    }
}

/// Asks the shard what it has executed, and the replica for that and for what the shard said before.
async fn look(
    replica: &Replica,
    shards: &dyn Store,
    other: &dyn Store,
    asked: &mut VecDeque<(Instant, Executed)>,
) -> Result<(), String> {
    let (shard, now) = (replica.shard, Instant::now());
    match shards.executed(shard).await {
        Ok(Some(executed)) => asked.push_back((now, executed)),
        Ok(None) => return Err(NOT_NUMBERED.to_owned()),
        // The replica is as old as it is: that says whether it is read from.
        Err(error) => tracing::debug!(%error, "the shard does not say what it has executed"),
    }
    while let Some((at, executed)) = asked.front() {
        if !other.has_executed(shard, executed).await.map_err(|error| error.to_string())? {
            break;
        }
        replica.is_as_new_as(*at);
        asked.pop_front();
    }
    Ok(())
}
