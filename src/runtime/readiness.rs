//! Whether the process can do its work: what it depends on, asked at most once a second.

use crate::context::Context;
use crate::domain::Shard;
use crate::ingress::http::{DependencyStatus, Health, Readiness};
use crate::roles::Role;
use futures::future::{BoxFuture, FutureExt, join_all};
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex as SyncMutex};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long an answer is good for.
const FRESH: Duration = Duration::from_secs(1);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one that was up may say nothing and still count as up. Under more load than it can take
/// every answer takes long, and a process that says it is not ready for that sends its load to the
/// others, until none is. What is down refuses, or has its breaker opened, and is told at once.
const SILENCE: Duration = Duration::from_secs(10);

/// Said of a shard that is up.
const MAY_LOSE_COMMITS: &str = "confirmed commits can be lost with this server: it replicates \
    neither semi-synchronously (AFTER_SYNC) nor in a group";

/// What `/readyz` answers through every phase of a process's life. Cheap to clone.
#[derive(Clone)]
pub struct Condition {
    phase: Arc<SyncMutex<Phase>>,
    last: Arc<Mutex<Option<Answer>>>,
}

/// What was answered, and when.
struct Answer {
    at: Instant,
    statuses: Vec<DependencyStatus>,
    /// When each was last seen to be up.
    up: HashMap<String, Instant>,
}

#[derive(Clone)]
enum Phase {
    /// Not connected yet; these were asked last.
    Starting(Vec<DependencyStatus>),
    Running(Arc<Context>, Arc<Needs>),
    Stopping,
}

/// What the roles of a process need.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Its roles.
    pub roles: Vec<Role>,
    /// The shards of those roles other than ingress.
    pub shards: Vec<Shard>,
    /// What the dependencies are called.
    pub services: Services,
}

/// What a backend's services are called in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Services {
    /// Of the store; a shard is this, a dot and its number.
    pub store: &'static str,
    /// Of the log.
    pub broker: &'static str,
}

impl Needs {
    fn broker(&self) -> bool {
        self.roles.iter().any(|role| role.needs_broker())
    }

    /// A worker cannot work without its shard; ingress can, as long as it has any.
    fn shard(&self, shard: Shard) -> bool {
        self.broker() && self.shards.contains(&shard)
    }

    fn any_shard(&self) -> bool {
        self.roles.contains(&Role::Ingress)
    }
}

impl Condition {
    /// Of a process that has just begun.
    pub fn starting() -> Self {
        Self {
            phase: Arc::new(SyncMutex::new(Phase::Starting(Vec::new()))),
            last: Arc::new(Mutex::new(None)),
        }
    }

    /// Notes how the services are that the start waits for.
    pub fn waits_for(&self, absent: Vec<DependencyStatus>) {
        self.enter(Phase::Starting(absent));
    }

    /// From now on the dependencies are asked.
    pub fn runs(&self, context: Arc<Context>, needs: Needs) {
        self.enter(Phase::Running(context, Arc::new(needs)));
    }

    /// From now on the process is not ready, whatever its dependencies are.
    pub fn stops(&self) {
        self.enter(Phase::Stopping);
    }

    fn enter(&self, phase: Phase) {
        *self.phase.lock().expect("nothing panics while it is held") = phase;
    }

    /// For the HTTP side.
    pub fn readiness(&self) -> Readiness {
        let condition = self.clone();
        Arc::new(move || {
            let condition = condition.clone();
            async move { condition.ask().await }.boxed()
        })
    }

    async fn ask(&self) -> Vec<DependencyStatus> {
        let phase = self.phase.lock().expect("nothing panics while it is held").clone();
        match phase {
            Phase::Starting(mut absent) => {
                absent.push(not_serving("the process is starting"));
                absent
            }
            Phase::Stopping => vec![not_serving("the process is stopping")],
            Phase::Running(context, needs) => self.asked_lately(&context, &needs).await,
        }
    }

    /// One question at a time; those who wait for it share its answer.
    async fn asked_lately(&self, context: &Context, needs: &Needs) -> Vec<DependencyStatus> {
        let mut last = self.last.lock().await;
        if let Some(answer) = last.as_ref().filter(|answer| answer.at.elapsed() < FRESH) {
            return answer.statuses.clone();
        }
        let mut up = last.take().map(|answer| answer.up).unwrap_or_default();
        let mut statuses = ask_all(context, needs).await;
        statuses.iter_mut().for_each(|status| bear_with(status, &mut up, Instant::now()));
        *last = Some(Answer { at: Instant::now(), statuses: statuses.clone(), up });
        statuses
    }
}

/// One that was up not long ago and says nothing is slow.
fn bear_with(status: &mut DependencyStatus, up: &mut HashMap<String, Instant>, now: Instant) {
    if status.health == Health::Up {
        up.insert(status.name.clone(), now);
    } else if status.latency >= PATIENCE
        && up.get(&status.name).is_some_and(|at| now - *at < SILENCE)
    {
        status.health = Health::Up;
    }
}

/// A line that makes the whole not ready.
fn not_serving(why: &str) -> DependencyStatus {
    DependencyStatus {
        name: "process".to_owned(),
        health: Health::Down,
        latency: Duration::ZERO,
        required: true,
        detail: Some(why.to_owned()),
    }
}

/// Asks every dependency, all at the same time.
pub async fn ask_all(context: &Context, needs: &Needs) -> Vec<DependencyStatus> {
    let mut questions: Vec<BoxFuture<'_, DependencyStatus>> = Vec::new();
    for shard in context.store.map().all_shards() {
        let question = context.store.ping(shard);
        let name = format!("{}.{shard}", needs.services.store);
        questions.push(ask(name, needs.shard(shard), question).boxed());
    }
    let shards = questions.len();
    questions
        .push(ask(needs.services.broker.to_owned(), needs.broker(), context.broker.ping()).boxed());
    if let Some(cache) = &context.cache {
        questions.push(ask("redis".to_owned(), false, cache.ping()).boxed());
    }
    let mut statuses = join_all(questions).await;
    statuses.extend(context.reads.faults().into_iter().map(replica));
    let of_shards = &mut statuses[..shards];
    let of_each = context.store.map().all_shards().zip(of_shards.iter_mut());
    join_all(of_each.map(|(shard, status)| warn_of_losses(context, shard, status))).await;
    if needs.any_shard() && of_shards.iter().all(|status| status.health == Health::Down) {
        of_shards.iter_mut().for_each(|status| status.required = true);
    }
    statuses
}

/// What is known of a shard's replica, which is looked at all the time.
fn replica((shard, fault): (Shard, Option<String>)) -> DependencyStatus {
    let why = |fault| format!("the shard is read in its place: {fault}");
    DependencyStatus {
        name: format!("mysql-replica.{shard}"),
        health: if fault.is_none() { Health::Up } else { Health::Down },
        latency: Duration::ZERO,
        required: false,
        detail: fault.map(why),
    }
}

/// A shard that answers can work all the same: what it confirms may be lost with its server.
async fn warn_of_losses(context: &Context, shard: Shard, status: &mut DependencyStatus) {
    if status.health == Health::Up {
        let question = context.store.keeps_commits(shard);
        if let Ok(Ok(false)) = tokio::time::timeout(PATIENCE, question).await {
            status.detail = Some(MAY_LOSE_COMMITS.to_owned());
        }
    }
}

async fn ask<E: Display>(
    name: String,
    required: bool,
    question: impl Future<Output = Result<(), E>>,
) -> DependencyStatus {
    let asked = Instant::now();
    let detail = match tokio::time::timeout(PATIENCE, question).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} ms", PATIENCE.as_millis())),
    };
    let health = if detail.is_none() { Health::Up } else { Health::Down };
    DependencyStatus { name, health, latency: asked.elapsed(), required, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(health: Health, latency: Duration) -> DependencyStatus {
        DependencyStatus {
            name: "mysql.0".to_owned(),
            health,
            latency,
            required: true,
            detail: None,
        }
    }

    #[test]
    fn what_was_up_and_says_nothing_is_slow_for_a_while_and_what_refuses_is_down_at_once() {
        let (mut up, began) = (HashMap::new(), Instant::now());
        let mut after = |health, latency, seconds| {
            let mut status = status(health, latency);
            bear_with(&mut status, &mut up, began + Duration::from_secs(seconds));
            status.health
        };
        assert_eq!(after(Health::Down, PATIENCE, 0), Health::Down, "it was never up");
        assert_eq!(after(Health::Up, Duration::ZERO, 1), Health::Up);
        assert_eq!(after(Health::Down, PATIENCE, 2), Health::Up, "it is slow");
        assert_eq!(after(Health::Down, Duration::ZERO, 3), Health::Down, "it refuses");
        assert_eq!(after(Health::Down, PATIENCE, 10), Health::Up);
        assert_eq!(after(Health::Down, PATIENCE, 11), Health::Down, "for too long");
    }
}
