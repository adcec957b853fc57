//! A member of a group, as a process sees it.

use super::groups::{Claim, Member};
use super::{Place, unavailable};
use crate::gate::Gate;
use crate::world::State;
use async_trait::async_trait;
use holdfast::broker::{
    BrokerError, Consumer, Delivered, DrainToken, Group, Incoming, Position, Topic,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Where a member reads a partition.
struct Cursor {
    epoch: u64,
    /// Where this ownership began.
    begun: i64,
    offset: i64,
}

pub struct SimConsumer {
    gate: Gate,
    group: Group,
    subscribed: BTreeSet<Place>,
    member: u64,
    cursors: BTreeMap<Place, Cursor>,
    /// Marked as done and not committed yet. A mark is of one ownership: the same partition given
    /// anew is read from what is committed, and an old mark would take that back.
    marked: BTreeMap<Place, (Claim, i64)>,
    commit_at: Instant,
}

enum Step {
    Revoked(Vec<(Place, u64)>),
    Records(Vec<Delivered>),
    Wait(Instant),
}

impl SimConsumer {
    pub fn join(gate: Gate, group: &Group, topics: &[Topic]) -> Self {
        let world = gate.world.clone();
        let mut state = world.lock();
        let state = &mut *state;
        let subscribed: BTreeSet<Place> =
            topics.iter().flat_map(|topic| state.log.places(*topic)).collect();
        let mut consumer = Self {
            gate,
            group: group.clone(),
            subscribed,
            member: 0,
            cursors: BTreeMap::new(),
            marked: BTreeMap::new(),
            commit_at: Instant::now(),
        };
        consumer.enlist(state);
        consumer
    }

    fn enlist(&mut self, state: &mut State) {
        self.member = state.number();
        let member = Member { process: self.gate.process, subscribed: self.subscribed.clone() };
        let group = state.log.groups.entry(self.group.clone()).or_default();
        group.join(self.member, member, &mut state.dice);
    }

    fn flush(&mut self, state: &mut State) {
        let group = state.log.groups.entry(self.group.clone()).or_default();
        for (place, (claim, offset)) in std::mem::take(&mut self.marked) {
            group.commit(claim, place, offset);
        }
        self.commit_at = Instant::now() + state.dice.millis(0, 500);
    }

    /// What to do next: revocations first, so that nothing of those partitions is read after.
    fn step(&mut self, max: usize) -> Step {
        let world = self.gate.world.clone();
        let mut state = world.lock();
        let state = &mut *state;
        if self.commit_at <= Instant::now() && !self.marked.is_empty() && !state.log.down {
            self.flush(state);
        }
        if let Some(group) = state.log.groups.get(&self.group)
            && !group.members.contains_key(&self.member)
        {
            // It was away for too long: what it had belongs to others by now. It drains that first,
            // and what it marks meanwhile is nobody's; then it joins again.
            self.marked.clear();
            let lost = std::mem::take(&mut self.cursors);
            if !lost.is_empty() {
                let lost = lost.into_iter().map(|(place, at)| (place, at.epoch));
                return Step::Revoked(lost.collect());
            }
            self.enlist(state);
        }
        let group = state.log.groups.get_mut(&self.group).expect("it has joined");
        group.expire(&mut state.dice);
        let revoked = group.take_revoked(self.member);
        if !revoked.is_empty() {
            for (place, _) in &revoked {
                self.cursors.remove(place);
            }
            return Step::Revoked(revoked);
        }
        if state.log.down {
            return Step::Wait(Instant::now() + Duration::from_millis(500));
        }
        let records = self.read(state, max);
        if !records.is_empty() {
            return Step::Records(records);
        }
        let group = &state.log.groups[&self.group];
        let far = Instant::now() + Duration::from_secs(600);
        let commit = if self.marked.is_empty() { far } else { self.commit_at };
        Step::Wait(group.deadline().map_or(commit, |deadline| deadline.min(commit)))
    }

    /// Takes what is there, from some partitions more than from others.
    fn read(&mut self, state: &mut State, max: usize) -> Vec<Delivered> {
        let owned = state.log.groups[&self.group].owned(self.member);
        self.cursors.retain(|place, at| owned.contains(&(*place, at.epoch)));
        let mut records = Vec::new();
        let first = state.dice.index(owned.len().max(1));
        for turn in 0..owned.len() {
            let (place, epoch) = owned[(first + turn) % owned.len()];
            let committed = &state.log.groups[&self.group].committed;
            let begin = committed.get(&place).copied().unwrap_or(0);
            let cursor =
                self.cursors.entry(place).or_insert(Cursor { epoch, begun: begin, offset: begin });
            let log = &state.log.partitions[&place];
            let from = usize::try_from(cursor.offset).unwrap_or(0).min(log.len());
            let most = (max - records.len()).min(1 + state.dice.index(12));
            let to = (from + most).min(log.len());
            records.extend_from_slice(&log[from..to]);
            cursor.offset = to as i64;
            if records.len() == max {
                break;
            }
        }
        records
    }

    /// The partitions are free when the token is dropped, or at the bound.
    fn revoke(&mut self, revoked: Vec<(Place, u64)>) -> Incoming {
        let (token, drained) = oneshot::channel::<()>();
        let (world, group) = (self.gate.world.clone(), self.group.clone());
        let (process, member) = (self.gate.process, self.member);
        let places = revoked.iter().map(|(place, _)| *place).collect();
        tokio::spawn(async move {
            let _ = drained.await;
            let mut state = world.lock();
            let state = &mut *state;
            if state.lives[process].dead {
                return;
            }
            if let Some(group) = state.log.groups.get_mut(&group)
                && group.members.contains_key(&member)
            {
                group.drained(&revoked, &mut state.dice);
            }
        });
        Incoming::Revoked(places, DrainToken(token))
    }
}

#[async_trait]
impl Consumer for SimConsumer {
    async fn next(&mut self, max: usize) -> Result<Incoming, BrokerError> {
        loop {
            self.gate.enter("poll", Some(self.group.shard)).await.map_err(|_| unavailable())?;
            match self.step(max) {
                Step::Revoked(revoked) => return Ok(self.revoke(revoked)),
                Step::Records(records) => return Ok(Incoming::Records(records)),
                Step::Wait(until) => {
                    let wake = {
                        let state = self.gate.world.lock();
                        state.log.groups[&self.group].wake.clone()
                    };
                    // Woken or not: the next step looks for itself.
                    let _ = tokio::time::timeout_at(until, wake.notified()).await;
                }
            }
        }
    }

    fn commit(&mut self, positions: &[Position]) {
        let world = self.gate.world.clone();
        let mut state = world.lock();
        let group = state.log.groups.entry(self.group.clone()).or_default();
        for position in positions {
            let place = (position.topic, position.partition);
            // Of a partition that came back, others have read on: what is marked from before it
            // went does not count.
            let read = self.cursors.get(&place).filter(|at| at.begun < position.offset);
            let epoch = read.map(|at| at.epoch);
            let owned = group.claim(self.member, place).filter(|claim| epoch == Some(claim.epoch));
            if let Some(claim) = owned.or(group.draining(self.member, place)) {
                self.marked.insert(place, (claim, position.offset));
            }
        }
        if state.dice.chance(2500) && !state.log.down && !state.lives[self.gate.process].dead {
            self.flush(&mut state);
        }
    }
}

impl Drop for SimConsumer {
    /// Commits what was marked and leaves; a dead process does neither.
    fn drop(&mut self) {
        let world = self.gate.world.clone();
        let Ok(mut state) = world.state.lock() else { return };
        let state = &mut *state;
        if state.lives[self.gate.process].dead {
            return;
        }
        if !state.log.down {
            self.flush(state);
        }
        if let Some(group) = state.log.groups.get_mut(&self.group) {
            group.leave(self.member, &mut state.dice);
        }
    }
}
