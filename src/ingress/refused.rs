//! Refusals of access on record: in the audit log, many of one kind as one row a while, so that who
//! is refused a thousand times a second writes no more than who is refused once.

use super::Ingress;
use crate::domain::Shard;
use crate::store::{Action, Actor, record};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long refusals are gathered.
const GATHERED: Duration = Duration::from_secs(5);
/// Kinds that are told apart in that time; of more it is known only how many there were.
const KINDS: usize = 100;
/// Refusals that wait to be gathered. What finds no room is counted nowhere: whoever floods is in
/// the log already.
const WAITING: usize = 4096;

/// A request that was not let through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// The principal; of one that is not known the address.
    pub who: String,
    /// Method and route.
    pub what: String,
    /// The code of the answer.
    pub code: &'static str,
}

/// Where refusals are told. Cheap to clone; what was told is written before the last clone's
/// runtime ends, as far as a second allows.
#[derive(Clone)]
pub struct Refusals(mpsc::Sender<(Refused, String)>);

impl Refusals {
    /// Writes to the shards of this application.
    pub fn start(ingress: Ingress) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(gather(receiver, ingress));
        Self(sender)
    }

    /// Tells of one, with the request's id.
    pub fn tell(&self, refused: Refused, request: &str) {
        // Without room it is left out.
        let _ = self.0.try_send((refused, request.to_owned()));
    }
}

/// How often something was refused, and the id of the first such request.
type Gathered = BTreeMap<Refused, (u64, String)>;

async fn gather(mut receiver: mpsc::Receiver<(Refused, String)>, ingress: Ingress) {
    while let Some(first) = receiver.recv().await {
        let mut gathered = Gathered::new();
        let mut more = 0;
        add(&mut gathered, &mut more, first);
        let until = tokio::time::Instant::now() + GATHERED;
        while let Ok(Some(next)) = tokio::time::timeout_at(until, receiver.recv()).await {
            add(&mut gathered, &mut more, next);
        }
        write(&ingress, gathered, more).await;
    }
}

fn add(gathered: &mut Gathered, more: &mut u64, (refused, request): (Refused, String)) {
    if gathered.len() >= KINDS && !gathered.contains_key(&refused) {
        *more += 1;
        return;
    }
    gathered.entry(refused).or_insert((0, request)).0 += 1;
}

async fn write(ingress: &Ingress, gathered: Gathered, more: u64) {
    let mut acts = BTreeMap::<Shard, Vec<_>>::new();
    let others = (more > 0).then(|| {
        let refused = Refused { who: "others".to_owned(), what: "any".to_owned(), code: "refused" };
        (refused, (more, String::new()))
    });
    for (refused, (count, request)) in gathered.into_iter().chain(others) {
        let shard = ingress.context.store.map().shard_of_name(&refused.who);
        let actor = Actor {
            operator: refused.who.chars().take(128).collect(),
            reason: None,
            request: Some(request.chars().take(64).collect()),
        };
        let after = json!({ "code": refused.code, "times": count });
        let act = actor.act(Action::RefuseAccess, &refused.what, &Value::Null, &after);
        acts.entry(shard).or_default().push(act);
    }
    for (shard, acts) in acts {
        if let Err(error) = record(&*ingress.context.store, shard, &acts).await {
            tracing::warn!(%error, left_out = acts.len(), "refusals are not in the audit log");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(number: usize) -> (Refused, String) {
        let who = format!("shop-{number}");
        (Refused { who, what: "GET /x".to_owned(), code: "forbidden" }, number.to_string())
    }

    #[test]
    fn many_of_one_kind_are_one_row_and_kinds_are_bounded() {
        let (mut gathered, mut more) = (Gathered::new(), 0);
        for _ in 0..1000 {
            add(&mut gathered, &mut more, refused(0));
        }
        assert_eq!(gathered.values().next(), Some(&(1000, "0".to_owned())));
        (1..1000).for_each(|number| add(&mut gathered, &mut more, refused(number)));
        assert_eq!((gathered.len(), more), (KINDS, 1000 - KINDS as u64));
    }
}
