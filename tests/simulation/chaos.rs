//! What happens to the world, beside what happens at the gates.

use crate::fleet::Fleet;
use crate::promotion;
use crate::world::{SHARDS, State, pass};
use holdfast::broker::{Group, Record};
use holdfast::domain::Shard;
use holdfast::reconciler::audit;
use std::sync::Arc;
use std::time::Duration;

/// Happenings from which a history takes some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    ShardDown,
    BrokerDown,
    Reset,
    Replay,
    ClockForward,
    ClockBack,
    Rebalance,
    Roll,
    Audit,
    Promotion,
}

const ALL: [Happening; 9] = [
    Happening::ShardDown,
    Happening::BrokerDown,
    Happening::Reset,
    Happening::Replay,
    Happening::ClockForward,
    Happening::ClockBack,
    Happening::Rebalance,
    Happening::Roll,
    Happening::Audit,
];

/// Lets so many things happen, with time between them.
pub async fn run(fleet: Arc<Fleet>, things: u64) {
    for _ in 0..things {
        let (pause, happening) = {
            let mut state = fleet.world.lock();
            (state.dice.millis(0, 2500), *state.dice.pick(&ALL))
        };
        pass(pause).await;
        happen(&fleet, happening).await;
    }
}

pub async fn happen(fleet: &Arc<Fleet>, happening: Happening) {
    let world = &fleet.world;
    world.say(|| format!("{happening:?}"));
    match happening {
        Happening::ShardDown => {
            let (shard, time) = {
                let mut state = world.lock();
                let shard = state.dice.index(usize::from(SHARDS));
                let long = state.dice.chance(2500);
                let time = state.dice.millis(50, if long { 14_000 } else { 3000 });
                state.counts.add(if long { "shard down for long" } else { "shard down" });
                state.databases[shard].down = true;
                state.databases[shard].disconnect_all();
                (shard, time)
            };
            pass(time).await;
            world.lock().databases[shard].down = false;
            world.say(|| format!("shard {shard} is up again after {time:?}"));
        }
        Happening::BrokerDown => {
            let time = {
                let mut state = world.lock();
                state.counts.add("broker down");
                state.log.down = true;
                state.dice.millis(50, 6000)
            };
            pass(time).await;
            world.lock().log.down = false;
            world.say(|| format!("the broker is up again after {time:?}"));
        }
        Happening::Reset => with_group(&mut world.lock(), "offsets reset", |state, group| {
            if let Some(group) = state.log.groups.get_mut(&group) {
                group.reset(&mut state.dice);
            }
        }),
        Happening::Rebalance => with_group(&mut world.lock(), "rebalance", |state, group| {
            if let Some(group) = state.log.groups.get_mut(&group) {
                group.rebalance(&mut state.dice);
            }
        }),
        Happening::Replay => {
            let mut state = world.lock();
            let state = &mut *state;
            let places: Vec<_> = state.log.partitions.keys().copied().collect();
            let place = *state.dice.pick(&places);
            let records: Vec<Record> = state.log.partitions[&place]
                .iter()
                .map(|delivered| Record {
                    topic: place.0,
                    partition: place.1,
                    key: delivered.key.clone(),
                    value: delivered.value.clone(),
                    headers: delivered.headers.clone(),
                    timestamp: delivered.timestamp,
                })
                .collect();
            state.counts.add("topic replayed");
            // What was said before a promotion may not be true of the rows after it.
            let audited = std::mem::replace(&mut state.auditor.silent, state.auditor.recovered);
            world.publish(state, usize::MAX, &records);
            state.auditor.silent = audited;
        }
        Happening::ClockForward | Happening::ClockBack => {
            let mut state = world.lock();
            let far = if state.dice.chance(2000) { 90_000 } else { 6000 };
            let jump = state.dice.millis(200, far).as_micros() as i64;
            let back = happening == Happening::ClockBack;
            state.counts.add(if back { "clock jumps back" } else { "clock jumps ahead" });
            state.auditor.clocks_jumped = true;
            let shard = state.dice.index(usize::from(SHARDS));
            state.databases[shard].clock_offset += if back { -jump } else { jump };
        }
        Happening::Roll => {
            let machine = {
                let mut state = world.lock();
                state.counts.add("process replaced");
                let machines = fleet.machines.lock().expect("no panic").len();
                state.dice.index(machines)
            };
            fleet.roll(machine).await;
        }
        Happening::Audit => audit_now(fleet).await,
        Happening::Promotion => {
            let (shard, commits) = {
                let mut state = world.lock();
                (Shard(state.dice.below(u64::from(SHARDS)) as u16), 1 + state.dice.index(6))
            };
            promotion::promote(fleet, shard, commits).await;
        }
    }
}

fn with_group(state: &mut State, what: &'static str, change: impl FnOnce(&mut State, Group)) {
    let groups: Vec<Group> = state.log.groups.keys().cloned().collect();
    if groups.is_empty() {
        return;
    }
    let group = state.dice.pick(&groups).clone();
    state.counts.add(what);
    change(state, group);
}

/// The product's own audit, while everything runs: what it reports is there, or it is wrong.
pub async fn audit_now(fleet: &Arc<Fleet>) {
    let context = fleet.context_of(0);
    let bound = Duration::from_secs(30);
    let Ok(Ok(report)) = tokio::time::timeout(bound, audit::check(&context)).await else { return };
    let mut state = fleet.world.lock();
    state.counts.add("audit");
    // While things fail a projection may well stay behind: the audit is right to say so.
    let calm = state.faults.over;
    let wrong = |finding: &&audit::Finding| calm || finding.what != audit::PROJECTION_BEHIND;
    if let Some(finding) = report.findings.iter().find(wrong) {
        let what = format!("the product's audit finds {finding:?}");
        fleet.world.violate(&mut state, what);
    }
}
