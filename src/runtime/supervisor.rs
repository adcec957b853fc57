//! The role tasks of a process: started together, watched, stopped together. None ends in silence.

use crate::context::Context;
use crate::domain::Shard;
use crate::roles::Role;
use anyhow::{Context as _, anyhow};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Running role tasks.
pub struct Supervisor {
    tasks: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, String>,
    stop: CancellationToken,
}

impl Supervisor {
    /// With nothing to watch yet.
    pub fn new() -> Self {
        let stop = CancellationToken::new();
        Self { tasks: JoinSet::new(), names: HashMap::new(), stop }
    }

    /// Starts every role but ingress for each of the shards.
    pub fn start(&mut self, context: &Arc<Context>, roles: &[Role], shards: &[Shard]) {
        for role in roles.iter().filter(|role| **role != Role::Ingress) {
            for shard in shards {
                let task = run(Arc::clone(context), *role, *shard, self.stop.clone());
                self.watch(format!("{role} of shard {shard}"), task);
            }
        }
    }

    fn watch(
        &mut self,
        name: String,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits until a task ends although nobody told it to, and says why. Never returns while all
    /// is well.
    pub async fn failure(&mut self) -> anyhow::Error {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.explain(ended),
            None => std::future::pending().await,
        }
    }

    fn explain(&self, ended: Result<(Id, anyhow::Result<()>), JoinError>) -> anyhow::Error {
        let name = |id: Id| self.names.get(&id).map_or("a role", String::as_str).to_owned();
        match ended {
            Ok((id, Ok(()))) => anyhow!("{} ended although nobody told it to", name(id)),
            Ok((id, Err(error))) => error.context(format!("{} gave up", name(id))),
            Err(died) if died.is_panic() => {
                anyhow!("{} panicked; the log says where, start the process again", name(died.id()))
            }
            Err(died) => anyhow!("{} was aborted: {died}", name(died.id())),
        }
    }

    /// Tells all tasks to stop and waits for them, at most `bound`; those that are not done by
    /// then are dropped where they stand, which is safe. An error is what a task that failed
    /// meanwhile said.
    pub async fn stop(&mut self, bound: Duration) -> anyhow::Result<()> {
        self.stop.cancel();
        let all = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                match ended {
                    Ok((_, Ok(()))) => {}
                    failed => return Err(self.explain(failed)),
                }
            }
            Ok(())
        };
        match tokio::time::timeout(bound, all).await {
            Ok(result) => result.context("a role failed while the process was stopping"),
            Err(_) => {
                tracing::warn!(tasks = self.tasks.len(), "some roles did not stop in time");
                Ok(())
            }
        }
    }
}

async fn run(
    context: Arc<Context>,
    role: Role,
    shard: Shard,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    match role {
        Role::Ingress => unreachable!("ingress is served over HTTP and has no task"),
        Role::Relay => crate::relay::run(context, shard, stop).await,
        Role::Hold => crate::hold::run(context, shard, stop).await,
        Role::Credit => crate::credit::run(context, shard, stop).await,
        Role::Commit => crate::commit::run(context, shard, stop).await,
        Role::Projector => crate::projector::run(context, shard, stop).await,
        Role::Reconciler => crate::reconciler::run(context, shard, stop).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said(task: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> String {
        let mut supervisor = Supervisor::new();
        supervisor.watch("other".to_owned(), std::future::pending());
        supervisor.watch("hold of shard 3".to_owned(), task);
        format!("{:#}", supervisor.failure().await)
    }

    #[tokio::test]
    async fn no_task_ends_in_silence() {
        let panicked = said(async { panic!("money out of nothing") }).await;
        assert!(panicked.starts_with("hold of shard 3 panicked"), "{panicked}");
        let gave_up = said(async { Err(anyhow!("another cluster")) }).await;
        assert_eq!(gave_up, "hold of shard 3 gave up: another cluster");
        let ended = said(async { Ok(()) }).await;
        assert!(ended.starts_with("hold of shard 3 ended"), "{ended}");
    }

    #[tokio::test]
    async fn tasks_that_stop_when_told_are_waited_for() {
        let mut supervisor = Supervisor::new();
        let stop = supervisor.stop.clone();
        supervisor.watch("hold".to_owned(), async move {
            stop.cancelled().await;
            Ok(())
        });
        supervisor.stop(Duration::from_secs(3600)).await.unwrap();
        assert!(supervisor.tasks.is_empty());
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_holds_the_end_up_for_a_bounded_time() {
        let mut supervisor = Supervisor::new();
        supervisor.watch("hold".to_owned(), std::future::pending());
        supervisor.stop(Duration::from_millis(1)).await.unwrap();
        assert_eq!(supervisor.tasks.len(), 1);
    }
}
