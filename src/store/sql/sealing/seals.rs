//! The data keys of all shards, as far as this process has read them.

use crate::domain::{ClusterId, Sealed, Shard, Timestamp};
use crate::sealing::{
    DataKey, KeyFault, LookupKey, MasterKeys, Of, Place, Purpose, ROWS_PER_KEY, Sealer, Wrapped,
    key_of,
};
use crate::seldom::Seldom;
use crate::store::StoreError;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// Values that a process may seal before it asks for more. Each process that starts takes one grant.
pub(super) const GRANT: i64 = 1 << 20;
/// A process asks for more before it has none left.
const LOW: i64 = GRANT / 4;
/// From here on a key gets a successor. It goes on for as long as one must wait to settle.
const WORN: i64 = ROWS_PER_KEY / 2;
/// A key that has a predecessor is used once it is so old, for until then a promotion might lose it
/// with all that it has sealed.
const SETTLES: Duration = Duration::from_secs(60);
/// How often a process looks for newer keys.
const LOOKS: Duration = Duration::from_secs(60);
/// How soon it looks again for a key that was not there or could not be opened.
const LOOKS_AGAIN: Duration = Duration::from_secs(5);

/// Numbers that rows name and that no key has: so many are remembered.
const MOST_ABSENT: usize = 1000;

/// A row of `data_keys`.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub id: u32,
    pub purpose: Purpose,
    pub wrapped: Wrapped,
    pub sealed: i64,
    pub created_at: Timestamp,
}

/// What a shard's keys lack before something can be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// These are to be made.
    Keys(&'static [Purpose]),
    /// The current one needs a grant.
    Grant(u32),
    Nothing,
}

/// The configured keys and what they have opened.
pub(in crate::store::sql) struct Seals {
    pub(super) masters: Arc<MasterKeys>,
    cluster: ClusterId,
    shards: Vec<OfShard>,
}

#[derive(Default)]
struct OfShard {
    /// Somebody is to read the keys, and to make those that lack, before the next transaction.
    wanted: AtomicBool,
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    data: HashMap<u32, Arc<DataKey>>,
    lookup: Option<Arc<LookupKey>>,
    /// The one that seals new rows.
    current: Option<u32>,
    /// Those that were looked for in vain, or are being looked for.
    absent: HashSet<u32>,
    /// Why nothing can be sealed, where keys are there that do not open.
    fault: Option<String>,
    read: Option<Instant>,
    chosen: Option<Instant>,
}

impl Seals {
    pub fn new(masters: Arc<MasterKeys>, cluster: ClusterId, shards: usize) -> Self {
        Self { masters, cluster, shards: (0..shards).map(|_| OfShard::default()).collect() }
    }

    pub(super) fn place(&self, shard: Shard) -> Place {
        Place { cluster: self.cluster, shard }
    }

    fn of(&self, shard: Shard) -> &OfShard {
        &self.shards[usize::from(shard.0)]
    }

    fn keys(&self, shard: Shard) -> MutexGuard<'_, Keys> {
        self.of(shard).keys.lock().expect("nothing panics while it holds this")
    }

    /// Has the keys looked at before the next transaction.
    pub(super) fn want(&self, shard: Shard) {
        self.of(shard).wanted.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked for that; it is this caller's to do then.
    pub fn take_wanted(&self, shard: Shard) -> bool {
        self.of(shard).wanted.load(Ordering::Relaxed)
            && self.of(shard).wanted.swap(false, Ordering::Relaxed)
    }

    /// What seals rows of the shard. Where its keys were not read yet the transaction is to be run
    /// again: they are read before it begins.
    pub fn sealer(&self, shard: Shard) -> Result<Sealer, StoreError> {
        let keys = self.keys(shard);
        let current = keys.current.and_then(|id| keys.data.get(&id));
        let (Some(data), Some(lookup), None) = (current, &keys.lookup, &keys.fault) else {
            self.want(shard);
            return Err(match &keys.fault {
                Some(fault) => StoreError::Failed { shard, detail: fault.clone() },
                None => not_ready(shard),
            });
        };
        let old = keys.chosen.is_none_or(|chosen| chosen.elapsed() > LOOKS);
        if data.left() < LOW || old {
            self.want(shard);
        }
        if data.left() <= 0 {
            return Err(not_ready(shard));
        }
        Ok(Sealer::new(self.place(shard), Arc::clone(data), Arc::clone(lookup)))
    }

    /// Opens what was not open yet of these.
    pub(super) fn absorb(&self, shard: Shard, stored: &[Stored]) {
        let place = self.place(shard);
        let mut keys = self.keys(shard);
        for key in stored {
            let opened = match key.purpose {
                Purpose::Fields if keys.data.contains_key(&key.id) => Ok(()),
                Purpose::Fields => DataKey::open(&self.masters, place, key.id, &key.wrapped)
                    .map(|data| drop(keys.data.insert(key.id, Arc::new(data)))),
                Purpose::Lookup if keys.lookup.is_some() => Ok(()),
                Purpose::Lookup => LookupKey::open(&self.masters, place, key.id, &key.wrapped)
                    .map(|lookup| keys.lookup = Some(Arc::new(lookup))),
            };
            if let Err(fault) = opened {
                tell(shard, key.id, &fault);
            }
        }
        keys.read = Some(Instant::now());
    }

    /// Chooses what seals new rows among keys that were absorbed, at this database time.
    pub(super) fn choose(&self, shard: Shard, stored: &[Stored], now: Timestamp) -> Need {
        let mut keys = self.keys(shard);
        let lookup = stored.iter().find(|key| key.purpose == Purpose::Lookup);
        let fields = || stored.iter().filter(|key| key.purpose == Purpose::Fields);
        keys.fault = None;
        match lookup {
            None if fields().next().is_none() => {
                return Need::Keys(&[Purpose::Lookup, Purpose::Fields]);
            }
            None => {
                let what = "the data key for lookups is gone: restore its row";
                keys.fault = Some(what.to_owned());
                return Need::Nothing;
            }
            Some(lookup) if keys.lookup.is_none() => {
                let opened =
                    LookupKey::open(&self.masters, self.place(shard), lookup.id, &lookup.wrapped);
                let fault = opened.err().map(|fault| format!("data key {}: {fault}", lookup.id));
                keys.fault = fault;
                return Need::Nothing;
            }
            Some(_) => {}
        }
        let usable: Vec<&Stored> = fields()
            .filter(|key| keys.data.contains_key(&key.id) && key.sealed < ROWS_PER_KEY - GRANT)
            .collect();
        if usable.last().is_none_or(|newest| newest.sealed >= WORN) {
            return Need::Keys(&[Purpose::Fields]);
        }
        let settled = |key: &&&Stored| key.created_at.plus(SETTLES) <= now;
        let chosen = usable.iter().rev().find(settled).or(usable.first());
        let chosen = chosen.expect("there is a newest").id;
        keys.current = Some(chosen);
        keys.chosen = Some(Instant::now());
        if keys.data[&chosen].left() < LOW { Need::Grant(chosen) } else { Need::Nothing }
    }

    /// So many more values may be sealed with it.
    pub(super) fn grant(&self, shard: Shard, id: u32, rows: i64) {
        if let Some(key) = self.keys(shard).data.get(&id) {
            key.grant(rows);
        }
    }

    pub(super) fn lookup(&self, shard: Shard) -> Option<Arc<LookupKey>> {
        self.keys(shard).lookup.clone()
    }

    /// Whether keys have to be read to open these; not again and again for one that is not there.
    /// The caller reads them then.
    pub(super) fn lacks<'a>(&self, shard: Shard, sealed: impl Iterator<Item = &'a Sealed>) -> bool {
        let mut keys = self.keys(shard);
        if keys.absent.len() > MOST_ABSENT {
            keys.absent.clear();
        }
        let again = keys.read.is_none_or(|read| read.elapsed() > LOOKS_AGAIN);
        let mut lacking = false;
        for id in sealed.filter_map(key_of) {
            if !keys.data.contains_key(&id) {
                lacking |= keys.absent.insert(id) || again;
            }
        }
        lacking
    }

    /// What was sealed; none where its key is not there, or it was changed or sealed elsewhere.
    pub(super) fn open(&self, shard: Shard, of: Of<'_>, sealed: &Sealed) -> Option<Vec<u8>> {
        let key = self.keys(shard).data.get(&key_of(sealed)?).cloned();
        key?.unseal(self.place(shard), of, sealed)
    }
}

fn not_ready(shard: Shard) -> StoreError {
    let detail = "the data keys are to be read first".to_owned();
    StoreError::Retry { shard, detail }
}

/// Every transaction that needs it would say the same.
fn tell(shard: Shard, id: u32, fault: &KeyFault) {
    static UNOPENED: Seldom = Seldom::unsaid();
    if let Some(left_out) = UNOPENED.due() {
        tracing::error!(%shard, data_key = id, %fault, left_out, "a data_key cannot be opened");
    }
}
