//! A shard fails over to a state that has lost its last commits, and the documented procedure:
//! every role ends, the generation is raised on every shard, recovery runs until it is finished,
//! the roles start.

use crate::fleet::{Fleet, context};
use crate::gate::Gate;
use crate::store::SimStore;
use crate::world::{Life, World, pass};
use holdfast::domain::Shard;
use holdfast::reconciler::recover::{self, RecoverError, Report, Scope};
use holdfast::store::StoreError;
use std::sync::Arc;
use std::time::Duration;

/// How often recovery may be begun again.
const TRIES: u32 = 400;
/// From which on nothing goes wrong for it any more: it is to be interrupted, not starved.
const SPARED: u32 = 20;
/// How long one run may take before it counts as interrupted.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes a shard back by so many commits and recovers the cluster.
pub async fn promote(fleet: &Arc<Fleet>, shard: Shard, commits: usize) {
    let world = &fleet.world;
    fleet.halt();
    let lost = {
        let mut state = world.lock();
        let state = &mut *state;
        state.auditor.suspended = true;
        let database = state.database(shard);
        database.disconnect_all();
        let lost = database.lose(commits);
        state.counts.add("promotion");
        state.trace.mix(lost as u64);
        lost
    };
    world.say(|| format!("shard {shard} was promoted and has lost {lost} commits"));
    let mut last = None;
    for attempts in 0..TRIES {
        let run = attempt(fleet, shard, attempts >= SPARED);
        match tokio::time::timeout(PATIENCE, run).await {
            Ok(Ok(report)) if report.finished => {
                world.say(|| format!("recovered: {:?}", report.repairs));
                resume(fleet, shard);
                return;
            }
            Ok(Ok(report)) => last = Some(format!("{:?}", report.findings)),
            Ok(Err(error)) => {
                world.say(|| format!("recovery begins again: {error}"));
                last = Some(error.to_string());
            }
            Err(_) => world.say(|| "recovery was interrupted".to_owned()),
        }
        if world.lock().violation.is_some() {
            return;
        }
        pass(Duration::from_secs(1)).await;
    }
    let mut state = world.lock();
    world.violate(&mut state, format!("recovery does not come to its end: {last:?}"));
}

fn gate(world: &Arc<World>, spared: bool) -> Gate {
    let mut state = world.lock();
    state.lives.push(Life { spared, ..Life::default() });
    Gate { world: world.clone(), process: state.lives.len() - 1 }
}

/// Raises the generation and recovers, in a process of its own.
async fn attempt(fleet: &Arc<Fleet>, shard: Shard, spared: bool) -> Result<Report, RecoverError> {
    let scope = Scope { lost: [shard].into(), since: None };
    recover::raise(&SimStore::of_any_generation(gate(&fleet.world, spared))).await?;
    let generations: Vec<_> =
        fleet.world.lock().databases.iter().map(|database| database.generation.0).collect();
    if generations.windows(2).any(|pair| pair[0] != pair[1]) {
        let detail = "the shards are not of one generation".to_owned();
        return Err(StoreError::Identity { shard, detail }.into());
    }
    let context = context(gate(&fleet.world, spared), 20);
    recover::recover(&context, &scope).await
}

/// From here on everything is as the rows say: the auditor learns them, callers forget what was
/// lost, and the roles start.
fn resume(fleet: &Arc<Fleet>, shard: Shard) {
    {
        let mut state = fleet.world.lock();
        let state = &mut *state;
        let tables: Vec<_> = state.databases.iter().map(|database| &database.tables).collect();
        let verdict = state.auditor.learn(&tables, shard);
        state.book.forget(&state.auditor, shard, &fleet.world.map);
        fleet.world.judge(state, verdict);
    }
    fleet.resume();
}
