//! Who owns which account: what is remembered, and one look at a shard for all who ask meanwhile.

use super::queue::refused;
use super::request::Refusal;
use crate::context::Context;
use crate::domain::{AccountId, Client, Shard};
use moka::sync::Cache;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Owners that are remembered.
const REMEMBERED: u64 = 100_000;
/// How long: an account that is given to somebody else is that one's for sure after this.
const FOR: Duration = Duration::from_secs(30);
/// Requests that wait for a look.
const WAITING: usize = 16_384;
/// Requests that one look is for; each asks for at most as many accounts as a batch has transfers.
const TOGETHER: usize = 512;
/// Accounts from which on nobody else joins a look.
const ENOUGH: usize = 1000;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Owners {
    context: Arc<Context>,
    remembered: Cache<AccountId, Client>,
    lanes: Arc<[mpsc::Sender<Asked>]>,
}

struct Asked {
    ids: BTreeSet<AccountId>,
    answer: oneshot::Sender<Answer>,
}

/// Shared by all who asked: those of the accounts that exist.
type Answer = Result<Arc<BTreeMap<AccountId, Option<Client>>>, Refusal>;

impl Owners {
    /// Starts a lane for each shard; they end when the last clone is dropped.
    pub(super) fn start(context: &Arc<Context>) -> Self {
        let lane = |shard| {
            let (asking, asked) = mpsc::channel(WAITING);
            tokio::spawn(look(Arc::clone(context), shard, asked));
            asking
        };
        Self {
            context: Arc::clone(context),
            remembered: Cache::builder().max_capacity(REMEMBERED).time_to_live(FOR).build(),
            lanes: context.store.map().all_shards().map(lane).collect(),
        }
    }

    /// The account may have another owner from now on.
    pub(super) fn forget(&self, id: &AccountId) {
        self.remembered.invalidate(id);
    }

    /// Whether the client owns each of the accounts; of those on a shard that cannot say, what they
    /// are refused with. Only what is remembered as its own is not read again: an account of
    /// somebody else is looked for just as one that does not exist.
    pub(super) async fn owns(
        &self,
        client: &Client,
        accounts: BTreeSet<AccountId>,
    ) -> BTreeMap<AccountId, Result<bool, Refusal>> {
        let mut owns = BTreeMap::new();
        let mut unknown = BTreeMap::<Shard, BTreeSet<AccountId>>::new();
        for id in accounts {
            if self.remembered.get(&id).as_ref() == Some(client) {
                owns.insert(id, Ok(true));
            } else {
                unknown.entry(self.context.store.map().shard_of(&id)).or_default().insert(id);
            }
        }
        let asked = unknown.iter().map(|(shard, ids)| self.ask(*shard, ids.clone()));
        let answers = futures::future::join_all(asked).await;
        for (ids, answer) in unknown.into_values().zip(answers) {
            for id in ids {
                let owner = answer.as_ref().map(|owners| owners.get(&id).and_then(Option::as_ref));
                let own = owner.map(|owner| owner == Some(client)).map_err(Clone::clone);
                if matches!(own, Ok(true)) {
                    self.remembered.insert(id.clone(), client.clone());
                }
                owns.insert(id, own);
            }
        }
        owns
    }

    async fn ask(&self, shard: Shard, ids: BTreeSet<AccountId>) -> Answer {
        let (answer, answered) = oneshot::channel();
        if self.lanes[usize::from(shard.0)].try_send(Asked { ids, answer }).is_err() {
            return Err(refused(shard, "full"));
        }
        answered.await.unwrap_or(Err(Refusal::ShardUnavailable))
    }
}

async fn look(context: Arc<Context>, shard: Shard, mut asked: mpsc::Receiver<Asked>) {
    let mut together = Vec::with_capacity(TOGETHER);
    while let Some(first) = asked.recv().await {
        let mut ids = BTreeSet::new();
        let mut next = Some(first);
        while let Some(Asked { ids: more, answer }) = next {
            ids.extend(more);
            together.push(answer);
            let room = ids.len() < ENOUGH && together.len() < TOGETHER;
            next = if room { asked.try_recv().ok() } else { None };
        }
        let found = context.store.owners(shard, &ids).await.map(Arc::new).map_err(Refusal::from);
        for answer in together.drain(..) {
            // Who asked may have gone.
            let _ = answer.send(found.clone());
        }
    }
}
