//! Callers and operators: they submit, repeat what was not answered, cancel, reverse, freeze, close,
//! and write down what they are told.

use crate::fleet::Fleet;
use crate::world::{State, World, pass};
use holdfast::domain::{
    AccountId, AccountKind, AccountRow, AccountStatus, Currency, Money, Reason, Shard, TransferId,
    Velocity,
};
use holdfast::ingress::{
    AccountPatch, Ingress, Refusal, ReversalRequest, Submitted, TransferRequest,
};
use holdfast::operator;
use holdfast::store::{AccountRecord, Actor};
use std::sync::Arc;
use std::time::Duration;

/// The accounts of a history, most of which exist.
#[derive(Clone, Default)]
pub struct Accounts {
    pub external: Vec<AccountId>,
    pub customers: Vec<AccountId>,
    pub unknown: Vec<AccountId>,
}

pub fn currency(code: &str) -> Currency {
    code.parse().expect("a currency")
}

/// An account that exists from the beginning, without money.
pub fn create(world: &World, id: &str, kind: AccountKind, code: &str, limit: i64) -> AccountId {
    let id: AccountId = id.parse().expect("an account id");
    let row = AccountRow {
        id: id.clone(),
        currency: currency(code),
        kind,
        status: AccountStatus::Active,
        quarantined: false,
        overdraft_limit: limit,
        posted: 0,
        held: 0,
        version: 1,
        velocity: Velocity::NONE,
    };
    let shard = world.map.shard_of(&id);
    let mut state = world.lock();
    let created_at = world.time(state.database(shard));
    let balance = holdfast::store::BalanceRow { row: row.clone(), as_of: created_at };
    let record = AccountRecord { row, metadata: "{}".to_owned(), created_at, owner: None };
    let staged = crate::store::Staged {
        accounts: [(id.clone(), record)].into(),
        balances: vec![balance],
        ..crate::store::Staged::default()
    };
    world.apply(&mut state, shard, usize::MAX, staged);
    id
}

/// A name on a shard that nothing else of the history has.
pub fn name(world: &World, word: &str, shard: u16) -> String {
    let names = (0..).map(|number| format!("{word}-{number}"));
    let mut on_shard = names.filter(|name| {
        name.parse().is_ok_and(|id: AccountId| world.map.shard_of(&id) == Shard(shard))
    });
    on_shard.next().expect("names never end")
}

pub fn accounts(world: &World) -> Accounts {
    let mut accounts = Accounts::default();
    let (customers, second) = {
        let mut state = world.lock();
        (3 + state.dice.below(4), state.dice.chance(3000))
    };
    for shard in 0..2 {
        let id = name(world, "world", shard);
        accounts.external.push(create(world, &id, AccountKind::External, "USD", 0));
    }
    for number in 0..customers {
        let (shard, limit) = {
            let mut state = world.lock();
            (state.dice.below(2) as u16, *state.dice.pick(&[0, 0, 0, 50]))
        };
        let code = if second && number == 0 { "JPY" } else { "USD" };
        let id = name(world, &format!("customer{number}"), shard);
        accounts.customers.push(create(world, &id, AccountKind::Customer, code, limit));
    }
    if second {
        let id = name(world, "tokyo", 0);
        accounts.external.push(create(world, &id, AccountKind::External, "JPY", 0));
    }
    let unknown = name(world, "nobody", 1);
    accounts.unknown.push(unknown.parse().expect("an account id"));
    accounts
}

/// One caller: a principal with a sequence of keys.
pub struct Caller {
    pub fleet: Arc<Fleet>,
    pub accounts: Accounts,
    pub name: String,
    pub number: u64,
}

impl Caller {
    fn world(&self) -> &World {
        &self.fleet.world
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut State) -> T) -> T {
        draw(&mut self.world().lock())
    }

    /// Any process that can be reached.
    fn door(&self) -> Option<Ingress> {
        let doors: Vec<Ingress> =
            self.world().doors.lock().expect("no panic").values().cloned().collect();
        if doors.is_empty() {
            return None;
        }
        Some(self.draw(|state| state.dice.pick(&doors).clone()))
    }

    fn say(&self, line: impl FnOnce() -> String) {
        self.world().say(|| format!("{}: {}", self.name, line()));
    }

    /// Waits for an answer as long as a caller does.
    async fn wait<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let patience = self.draw(|state| state.dice.millis(500, 6000));
        tokio::time::timeout(patience, answer).await.ok()
    }

    /// Does so many things, one after the other.
    pub async fn run(mut self, things: u64) {
        for _ in 0..things {
            let (choice, pause) =
                self.draw(|state| (state.dice.below(100), state.dice.millis(0, 900)));
            match choice {
                0..70 => self.pay().await,
                70..75 => self.burst().await,
                75..83 => self.cancel().await,
                83..89 => self.reverse().await,
                89..92 => self.retry().await,
                _ => self.change_account().await,
            }
            if self.draw(|state| state.dice.chance(6000)) {
                pass(pause).await;
            }
        }
    }

    fn request(&mut self) -> TransferRequest {
        self.number += 1;
        let (number, accounts) = (self.number, self.accounts.clone());
        let (source, destination, minor) = self.draw(|state| {
            let dice = &mut state.dice;
            let hot = dice.chance(3000);
            let customer = |dice: &mut crate::dice::Dice| {
                let index = if hot { 0 } else { dice.index(accounts.customers.len()) };
                accounts.customers[index].clone()
            };
            let source = match dice.chance(4500) {
                true => dice.pick(&accounts.external).clone(),
                false => dice.pick(&accounts.customers).clone(),
            };
            let mut destination = match dice.below(20) {
                0 => dice.pick(&accounts.unknown).clone(),
                1..4 => dice.pick(&accounts.external).clone(),
                _ => customer(dice),
            };
            if destination == source {
                destination = accounts.unknown[0].clone();
            }
            (source, destination, 1 + dice.below(120) as i64)
        });
        let code = if destination.as_str().starts_with("tokyo") { "JPY" } else { "USD" };
        TransferRequest {
            client: self.name.parse().expect("a client"),
            key: format!("{}-{number}", self.name).parse().expect("a key"),
            source,
            destination,
            amount: Money::from_minor(minor, currency(code)).expect("a small amount"),
            currency_given: true,
            description: None,
            reference: None,
            metadata: None,
            reverses: None,
            traceparent: None,
        }
    }

    fn told(&self, request: &TransferRequest, answer: Option<&Result<Submitted, Refusal>>) {
        self.say(|| {
            let told = match answer {
                None => "nothing".to_owned(),
                Some(Ok(submitted)) => submitted.transfer.row.terms.id.to_string(),
                Some(Err(refusal)) => refusal.to_string(),
            };
            let (from, to) = (&request.source, &request.destination);
            format!("{} from {from} to {to} over {}: {told}", request.key, request.amount)
        });
        let mut state = self.world().lock();
        let state = &mut *state;
        let verdict =
            state.book.answered(&request.source, request.key.as_str(), answer, &state.auditor);
        self.world().judge(state, verdict);
    }

    /// Pays, and asks again with the same key until it knows.
    async fn pay(&mut self) {
        let request = self.request();
        let tries = self.draw(|state| 1 + state.dice.below(6));
        for _ in 0..tries {
            let Some(door) = self.door() else {
                pass(Duration::from_millis(300)).await;
                continue;
            };
            let answer = self.wait(door.submit(request.clone())).await;
            self.told(&request, answer.as_ref());
            let known = matches!(&answer, Some(Ok(_)));
            if known && self.draw(|state| state.dice.chance(8500)) {
                if self.draw(|state| state.dice.chance(1000)) {
                    self.reuse(&door, &request).await;
                }
                return;
            }
            let pause = self.draw(|state| state.dice.millis(0, 1500));
            pass(pause).await;
        }
    }

    /// The same key for another request.
    async fn reuse(&self, door: &Ingress, request: &TransferRequest) {
        let mut other = request.clone();
        other.amount = Money::from_minor(request.amount.minor() + 1, request.amount.currency())
            .expect("a small amount");
        let Some(answer) = self.wait(door.submit(other)).await else { return };
        let mut state = self.world().lock();
        let state = &mut *state;
        state.counts.add("key used again");
        let verdict = state.book.reused(request.key.as_str(), &answer);
        self.world().judge(state, verdict);
    }

    /// Many at once, one of them twice.
    async fn burst(&mut self) {
        let Some(door) = self.door() else { return };
        let size = self.draw(|state| 2 + state.dice.below(4));
        let mut requests: Vec<TransferRequest> = (0..size).map(|_| self.request()).collect();
        requests.push(requests[0].clone());
        self.draw(|state| state.counts.add("burst"));
        match self.wait(door.submit_many(requests.clone())).await {
            Some(answers) => {
                for (request, answer) in requests.iter().zip(&answers) {
                    self.told(request, Some(answer));
                }
            }
            None => requests.iter().for_each(|request| self.told(request, None)),
        }
    }

    fn any_accepted(&self) -> Option<TransferId> {
        self.draw(|state| {
            let accepted = &state.book.accepted;
            (!accepted.is_empty()).then(|| accepted[state.dice.index(accepted.len())])
        })
    }

    async fn cancel(&self) {
        let (Some(door), Some(id)) = (self.door(), self.any_accepted()) else { return };
        let Some(answer) = self.wait(door.cancel(id, Reason::CancelledByClient)).await else {
            return;
        };
        self.say(|| format!("cancel {id}: {:?}", answer.as_ref().map(|_| "accepted")));
        self.draw(|state| match answer {
            Ok(_) => {
                state.counts.add("cancel accepted");
                state.book.promise(id, "cancelled");
            }
            Err(Refusal::TransferCredited(_)) => state.book.promise(id, "committed"),
            Err(Refusal::TransferFinal(_)) => state.book.promise(id, "not cancelled"),
            Err(_) => {}
        });
    }

    async fn reverse(&mut self) {
        let (Some(door), Some(id)) = (self.door(), self.any_accepted()) else { return };
        let original = self.draw(|state| state.auditor.transfers.get(&id).cloned());
        let Some(original) = original else { return };
        self.number += 1;
        let minor = self.draw(|state| 1 + state.dice.below(original.amount as u64) as i64);
        let request = ReversalRequest {
            client: self.name.parse().expect("a client"),
            key: format!("{}-{}", self.name, self.number).parse().expect("a key"),
            original: id,
            amount: Money::from_minor(minor, original.currency).expect("a small amount"),
            traceparent: None,
        };
        let tries = self.draw(|state| 1 + state.dice.below(3));
        for _ in 0..tries {
            let answer = self.wait(door.reverse(request.clone())).await;
            self.say(|| {
                let told = answer.as_ref().map(|answer| answer.as_ref().map(|_| "accepted"));
                format!("{} reverses {minor} of {id}: {told:?}", request.key)
            });
            let mut state = self.world().lock();
            let state = &mut *state;
            if let Some(Ok(_)) = &answer {
                state.counts.add("reversal accepted");
            }
            let verdict = state.book.answered(
                &original.destination,
                request.key.as_str(),
                answer.as_ref(),
                &state.auditor,
            );
            self.world().judge(state, verdict);
        }
    }

    async fn retry(&self) {
        let Some(id) = self.any_accepted() else { return };
        let machines = self.fleet.machines.lock().expect("no panic").len();
        let context = self.fleet.context_of(self.draw(|state| state.dice.index(machines)));
        if let Some(Ok(_)) = self.wait(operator::retry(&context, id, &Actor::itself())).await {
            self.draw(|state| state.counts.add("operator's retry"));
            self.say(|| format!("an operator retries {id}"));
        }
    }

    async fn change_account(&self) {
        let Some(door) = self.door() else { return };
        let customers = self.accounts.customers.clone();
        let (id, choice) =
            self.draw(|state| (state.dice.pick(&customers).clone(), state.dice.below(10)));
        let by = Actor::itself();
        let (what, answer) = match choice {
            0..3 => ("freeze", self.wait(door.freeze_account(&id, &by)).await),
            3..7 => ("unfreeze", self.wait(door.unfreeze_account(&id, &by)).await),
            7 => ("close", self.wait(door.close_account(&id, &by)).await),
            _ => {
                let overdraft_limit = Some(self.draw(|state| state.dice.below(80) as i64));
                let patch = AccountPatch { overdraft_limit, ..AccountPatch::default() };
                ("limit", self.wait(door.patch_account(&id, patch, &by)).await)
            }
        };
        if let Some(Ok(_)) = answer {
            self.draw(|state| state.counts.add(what));
        }
        self.say(|| {
            let told = answer.map(|answer| answer.map(|_| "done"));
            format!("{what} of {id}: {told:?}")
        });
    }
}
