//! What a scenario is played on: a world in which nothing goes wrong but what the script places.

use crate::clients::{self, currency};
use crate::faults::{Act, Faults, Rule, Side};
use crate::fleet::{Fleet, ROLES};
use crate::history;
use crate::world::{State, World, pass};
use holdfast::broker::{Family, Topic};
use holdfast::domain::{
    AccountId, AccountKind, AccountRow, EventType, Money, Partition, Reason, Shard,
    State as Stored, TransferId,
};
use holdfast::ingress::{Ingress, Refusal, ReversalRequest, Submitted, TransferRequest};
use holdfast::roles::Role;
use std::sync::Arc;
use std::time::Duration;

/// Virtual time that a condition may take.
const LIMIT: Duration = Duration::from_secs(300);

pub struct Stage {
    pub world: Arc<World>,
    pub fleet: Arc<Fleet>,
}

/// Plays a script, then lets everything come to rest and has it audited.
pub fn play(script: impl AsyncFnOnce(&Stage)) {
    let mut kept = None;
    let done = history::simulate(1, async {
        let world = World::new(1, 1, Faults::none(), true);
        kept = Some(world.clone());
        let fleet = Fleet::new(&world, 20);
        tokio::spawn(fleet.clone().supervise());
        let stage = Stage { world, fleet };
        let all = async {
            script(&stage).await;
            history::calm(&stage.world);
            history::rest(&stage.fleet, LIMIT).await;
        };
        tokio::select! {
            biased;
            () = stage.world.violated.notified() => {}
            () = all => {}
        }
    });
    let mut state = match &kept {
        Some(world) => world.lock(),
        None => panic!("{done:?}"),
    };
    let fault = done.err().or(state.violation.take());
    if let Some(fault) = fault {
        state.trace.take_lines().iter().for_each(|line| println!("{line}"));
        panic!("{fault}");
    }
    let left: Vec<&'static str> = state.rules.iter().map(|rule| rule.call).collect();
    assert!(left.is_empty(), "faults that never came: {left:?}");
}

impl Stage {
    /// A process with these roles on a machine of its own.
    pub fn machine(&self, roles: &[Role]) -> usize {
        self.fleet.add(roles)
    }

    pub fn everything(&self) -> usize {
        self.machine(&ROLES)
    }

    pub fn everything_but(&self, without: &[Role]) -> usize {
        let roles: Vec<Role> = ROLES.into_iter().filter(|role| !without.contains(role)).collect();
        self.machine(&roles)
    }

    pub fn door(&self, machine: usize) -> Ingress {
        self.world.doors.lock().unwrap()[&machine].clone()
    }

    /// A customer on a shard that may be overdrawn by so many minor units.
    pub fn account(&self, word: &str, shard: u16, limit: i64) -> AccountId {
        let name = clients::name(&self.world, word, shard);
        clients::create(&self.world, &name, AccountKind::Customer, "USD", limit)
    }

    /// The next call of this name by a machine's process meets this.
    pub fn fault(&self, machine: usize, call: &'static str, side: Side, act: Act) {
        self.fault_on(machine, call, side, None, act);
    }

    /// The second such call meets this.
    pub fn second_fault(&self, machine: usize, call: &'static str, side: Side, act: Act) {
        let process = Some(self.fleet.process_of(machine));
        self.world.lock().rules.push(Rule { process, call, side, shard: None, skip: 1, act });
    }

    pub fn fault_on(
        &self,
        machine: usize,
        call: &'static str,
        side: Side,
        shard: Option<u16>,
        act: Act,
    ) {
        let (process, shard) = (Some(self.fleet.process_of(machine)), shard.map(Shard));
        self.world.lock().rules.push(Rule { process, call, side, shard, skip: 0, act });
    }

    pub fn request(
        &self,
        key: &str,
        source: &AccountId,
        destination: &AccountId,
        minor: i64,
    ) -> TransferRequest {
        TransferRequest {
            client: "caller".parse().unwrap(),
            key: key.parse().unwrap(),
            source: source.clone(),
            destination: destination.clone(),
            amount: Money::from_minor(minor, currency("USD")).unwrap(),
            currency_given: true,
            description: None,
            reference: None,
            metadata: None,
            reverses: None,
            traceparent: None,
        }
    }

    /// Submits once, and writes the answer down.
    pub async fn submit(
        &self,
        machine: usize,
        request: &TransferRequest,
    ) -> Result<Submitted, Refusal> {
        let answer = self.door(machine).submit(request.clone()).await;
        let mut state = self.world.lock();
        let state = &mut *state;
        let (source, key) = (&request.source, request.key.as_str());
        let verdict = state.book.answered(source, key, Some(&answer), &state.auditor);
        self.world.judge(state, verdict);
        answer
    }

    /// A transfer that is accepted.
    pub async fn pay(
        &self,
        machine: usize,
        key: &str,
        source: &AccountId,
        destination: &AccountId,
        minor: i64,
    ) -> TransferId {
        let request = self.request(key, source, destination, minor);
        self.submit(machine, &request).await.unwrap().transfer.row.terms.id
    }

    pub async fn reverse(
        &self,
        machine: usize,
        key: &str,
        original: TransferId,
        minor: i64,
    ) -> Result<Submitted, Refusal> {
        let request = ReversalRequest {
            client: "caller".parse().unwrap(),
            key: key.parse().unwrap(),
            original,
            amount: Money::from_minor(minor, currency("USD")).unwrap(),
            traceparent: None,
        };
        self.door(machine).reverse(request).await
    }

    pub async fn cancel(&self, machine: usize, id: TransferId) -> Result<bool, Refusal> {
        let answer = self.door(machine).cancel(id, Reason::CancelledByClient).await;
        if answer.is_ok() {
            self.world.lock().book.promise(id, "cancelled");
        }
        answer.map(|cancelled| cancelled.repeated)
    }

    /// Waits in virtual time until something holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let begun = self.world.elapsed();
        while !holds(&self.world.lock()) {
            assert!(self.world.elapsed() < begun + LIMIT, "waited in vain for {what}");
            pass(Duration::from_millis(5)).await;
        }
    }

    pub async fn until_state(&self, id: TransferId, wanted: Stored) {
        let is = |state: &State| {
            state.auditor.transfers.get(&id).is_some_and(|seen| seen.state == wanted)
        };
        self.until(wanted.as_str(), is).await;
    }

    pub fn state(&self, id: TransferId) -> (Stored, Option<Reason>) {
        let state = self.world.lock();
        let seen = &state.auditor.transfers[&id];
        (seen.state, seen.reason)
    }

    pub fn row(&self, id: &AccountId) -> AccountRow {
        let shard = self.world.map.shard_of(id);
        self.world.lock().database(shard).tables.accounts[id].row.clone()
    }

    /// How many records of a type were published on a shard.
    pub fn published(&self, kind: EventType, shard: u16) -> i64 {
        let place = (Topic::of(kind, Shard(shard)), Partition(0));
        self.world.lock().log.end(place)
    }

    pub fn dead_letters(&self, shard: u16) -> i64 {
        let topic = Topic { family: Family::DeadLetter, shard: Shard(shard) };
        self.world.lock().log.end((topic, Partition(0)))
    }

    pub async fn pass(&self, seconds: u64) {
        pass(Duration::from_secs(seconds)).await;
    }
}
