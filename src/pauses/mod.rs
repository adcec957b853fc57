//! What operators have stopped: roles, shards, partitions, currencies, accounts, merchants.
//!
//! Every shard has all of it, so that any one that answers is enough to know it; each process reads
//! it twice a second. State before: running, paused or draining. State after: another of them, with
//! the act in the audit log.

mod paused;
mod scope;

pub use paused::{Candidate, Paused, Standing};
pub use scope::{PauseMode, PauseScope, SCOPES};

use crate::domain::Shard;
use crate::meters::table::PAUSED;
use crate::roles::Role;
use crate::store::{
    Act, Action, Actor, PauseRow, Store, StoreError, Tx, Work, now_of_any, transact_repeatable,
};
use async_trait::async_trait;
use futures::future::join_all;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks at a shard.
const EVERY: Duration = Duration::from_millis(400);
/// How long the first look may take before a process begins without what that shard says.
const FIRST: Duration = Duration::from_secs(2);

/// What is stopped, kept up to date. Cheap to clone.
#[derive(Clone)]
pub struct Pauses {
    known: Arc<watch::Sender<Arc<Paused>>>,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { known: Arc::new(watch::Sender::new(Arc::default())) }
    }
}

impl Pauses {
    /// As it is known now.
    pub fn now(&self) -> Arc<Paused> {
        Arc::clone(&self.known.borrow())
    }

    /// Tells of changes.
    pub fn changes(&self) -> watch::Receiver<Arc<Paused>> {
        self.known.subscribe()
    }

    /// Until a role of a shard is not paused; at once where it is not.
    pub async fn running(&self, role: Role, shard: Shard) {
        if self.known.borrow().stops(role, shard) {
            // The sender is this.
            let _ = self.changes().wait_for(|paused| !paused.stops(role, shard)).await;
        }
    }

    /// Looks at every shard once, and from then on again and again, as long as anybody has this. A
    /// shard that does not answer leaves what it said last.
    pub async fn follow(&self, store: &Arc<dyn Store>) {
        let shards: Vec<Shard> = store.map().all_shards().collect();
        let rows = Arc::new(Mutex::new(vec![Vec::new(); shards.len()]));
        let (first, mut looked) = watch::channel(0_usize);
        for (place, shard) in shards.iter().copied().enumerate() {
            let (known, store) = (Arc::downgrade(&self.known), Arc::clone(store));
            let (rows, first) = (Arc::clone(&rows), first.clone());
            tokio::spawn(async move {
                let mut seen = false;
                loop {
                    let found = store.pauses(shard).await;
                    let Some(known) = known.upgrade() else { return };
                    if let Ok(found) = found {
                        let mut rows = rows.lock().expect("nothing panics while it is held");
                        rows[place] = found;
                        Self { known }.learn(Paused::of(rows.iter().flatten().cloned()));
                    }
                    if !std::mem::replace(&mut seen, true) {
                        first.send_modify(|looked| *looked += 1);
                    }
                    tokio::time::sleep(EVERY).await;
                }
            });
        }
        let all = looked.wait_for(|looked| *looked == shards.len());
        if tokio::time::timeout(FIRST, all).await.is_err() {
            tracing::warn!("not every shard has said in time what is paused");
        }
    }

    fn learn(&self, paused: Paused) {
        self.known.send_if_modified(|known| {
            if **known == paused {
                return false;
            }
            let scopes: Vec<String> = paused.all().map(said).collect();
            tracing::warn!(?scopes, "what is paused has changed");
            for mode in [PauseMode::Pause, PauseMode::Drain] {
                let scopes = paused.all().filter(|(_, standing)| standing.mode == mode).count();
                PAUSED.gauge(&[mode.as_str()]).set(scopes as f64);
            }
            *known = Arc::new(paused);
            true
        });
    }
}

/// For the log: whose accounts and whose principals are nobody's business there.
fn said((scope, standing): (&PauseScope, &Standing)) -> String {
    let scope = match scope {
        PauseScope::Source(account) => format!("source={account}"),
        PauseScope::Merchant(_) => "merchant=****".to_owned(),
        other => other.to_string(),
    };
    format!("{} {scope}", standing.mode.as_str())
}

/// What is stopped, read now from every shard that answers, and what those that do not said.
pub async fn read(store: &dyn Store) -> (Paused, Vec<StoreError>) {
    let (rows, faults) = rows(store).await;
    (Paused::of(rows), faults)
}

async fn rows(store: &dyn Store) -> (Vec<PauseRow>, Vec<StoreError>) {
    let answers = join_all(store.map().all_shards().map(|shard| store.pauses(shard))).await;
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(found) => rows.extend(found),
            Err(fault) => faults.push(fault),
        }
    }
    (rows, faults)
}

/// Stops a scope, or lets it go on (no mode), on every shard. A repeat changes nothing where it is
/// so already, and brings it to shards that had not heard of it. An error where a shard does not
/// answer: the others know, which is enough for every process that reaches one of them.
pub async fn set(
    store: &dyn Store,
    scope: &PauseScope,
    mode: Option<PauseMode>,
    actor: &Actor,
) -> Result<bool, StoreError> {
    let (rows, faults) = rows(store).await;
    let mut failed = faults.into_iter().next();
    let name = scope.to_string();
    let of_scope = rows.into_iter().filter(|row| row.scope == name);
    let known = of_scope.max_by_key(|row| row.revision);
    let wanted = mode.map_or("resumed", PauseMode::as_str);
    let before = known.as_ref().map_or("resumed", |row| row.mode.as_str()).to_owned();
    let changes = before != wanted;
    let home = store.map().shard_of_name(&name);
    let at = now_of_any(store, home).await?;
    let row = match known {
        Some(row) if !changes => row,
        None if !changes => return failed.map_or(Ok(false), Err),
        known => PauseRow {
            scope: name.clone(),
            mode: wanted.to_owned(),
            // Above what a shard that does not answer now was told of before, too.
            revision: at.micros().max(known.map_or(0, |row| row.revision) + 1),
            since: at,
            operator: actor.operator.clone(),
            reason: actor.reason.clone(),
        },
    };
    let action = match mode {
        Some(PauseMode::Pause) => Action::Pause,
        Some(PauseMode::Drain) => Action::Drain,
        None => Action::Resume,
    };
    let mut recorded = !changes;
    // Where its acts belong first; on another shard where that one does not answer.
    let others = store.map().all_shards().filter(|shard| *shard != home);
    for shard in std::iter::once(home).chain(others) {
        let act = (!recorded).then(|| {
            actor.act(action, &name, &json!({ "mode": before }), &json!({ "mode": wanted }))
        });
        let work = Put { row: &row, act };
        match transact_repeatable(store, shard, &work).await {
            Ok(()) => recorded = true,
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(changes), Err)
}

struct Put<'a> {
    row: &'a PauseRow,
    act: Option<Act>,
}

#[async_trait]
impl Work for Put<'_> {
    type Output = ();

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<(), StoreError> {
        if tx.put_pause(self.row).await?
            && let Some(act) = &self.act
        {
            tx.record_acts(std::slice::from_ref(act)).await?;
        }
        Ok(())
    }
}

/// As it is shown.
pub fn shown(scope: &PauseScope, standing: &Standing) -> Value {
    json!({
        "scope": scope.to_string(), "mode": standing.mode, "since": standing.row.since,
        "operator": standing.row.operator, "reason": standing.row.reason,
    })
}
