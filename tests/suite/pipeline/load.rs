//! Many transfers at once, held against a model of the balances.

use super::backend::Backend;
use super::cluster::Cluster;
use super::process::{Process, request};
use crate::wait::eventually;
use holdfast::domain::{AccountId, State, TransferId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

scenarios! {
    money_is_conserved_at_every_look_under_load
    a_busy_account_gets_its_own_payments_through
}

/// Between which accounts.
#[derive(Clone, Copy)]
pub struct Mix {
    pub accounts: u16,
    pub overdraft: i64,
}

/// Random transfers; the seed is printed with a failure.
pub struct Load {
    accounts: Vec<AccountId>,
    random: StdRng,
    accepted: Vec<TransferId>,
}

impl Load {
    pub async fn open(cluster: &Cluster, mix: Mix) -> Self {
        let seed = rand::random();
        eprintln!("seed {seed}");
        let mut accounts = Vec::new();
        for number in 0..mix.accounts {
            accounts.push(cluster.account(number % 2, mix.overdraft).await);
        }
        Self { accounts, random: StdRng::seed_from_u64(seed), accepted: Vec::new() }
    }

    /// Asks for so many; all are accepted, some will be refused.
    pub async fn submit(&mut self, process: &Process, count: usize) {
        let requests: Vec<_> = (0..count)
            .map(|_| {
                let from = self.random.random_range(0..self.accounts.len());
                let away = self.random.random_range(1..self.accounts.len());
                let to = (from + away) % self.accounts.len();
                let amount = self.random.random_range(1..=100);
                request(&self.accounts[from], &self.accounts[to], amount)
            })
            .collect();
        for (request, answer) in
            requests.iter().zip(process.ingress.submit_many(requests.clone()).await)
        {
            let submitted = match answer {
                Ok(submitted) => submitted,
                Err(_) => process.submit(request).await,
            };
            self.accepted.push(submitted.transfer.row.terms.id);
        }
    }

    /// Waits for all ends: the balances are exactly what the committed ones make of them.
    pub async fn assert_model(&self, cluster: &Cluster) {
        cluster.settled().await;
        let mut model: BTreeMap<AccountId, i64> =
            self.accounts.iter().map(|account| (account.clone(), 0)).collect();
        let facts = cluster.transfers().await;
        let known: BTreeMap<TransferId, State> =
            facts.iter().map(|fact| (fact.terms.id, fact.state)).collect();
        assert_eq!(known.len(), self.accepted.len(), "each was accepted once");
        assert!(self.accepted.iter().all(|id| known[id].is_final()));
        for fact in facts.iter().filter(|fact| fact.state == State::Committed) {
            *model.get_mut(&fact.terms.source).unwrap() -= fact.terms.amount.minor();
            *model.get_mut(&fact.terms.destination).unwrap() += fact.terms.amount.minor();
        }
        for (account, posted) in model {
            assert_eq!(cluster.money(&account).await, (posted, 0), "{account}");
        }
    }
}

async fn money_is_conserved_at_every_look_under_load(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let processes = [cluster.running(), cluster.running()];
    let mut load = Load::open(&cluster, Mix { accounts: 50, overdraft: 300 }).await;
    for round in 0..8 {
        load.submit(&processes[round % 2], 250).await;
        if round % 4 == 1 {
            cluster.audit().await;
        }
    }
    load.assert_model(&cluster).await;
    let states: Vec<State> = cluster.transfers().await.iter().map(|fact| fact.state).collect();
    assert!(states.contains(&State::Committed) && states.contains(&State::Rejected));
    cluster.finish(processes).await;
}

/// Hazard 13: an account that is paid all the time pays, and its holds compare their version with
/// one that credits raise all the time: the payer never gets through.
async fn a_busy_account_gets_its_own_payments_through(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let merchant = cluster.account(0, 0).await;
    let supplier = cluster.account(1, 0).await;
    let customers = [cluster.account(0, 1_000_000).await, cluster.account(1, 1_000_000).await];
    let first = process.transfer(&customers[0], &merchant, 1000).await;
    cluster.assert_committed(first).await;
    let mut paid = Vec::new();
    for _ in 0..10 {
        let sales: Vec<_> =
            (0..60).map(|number| request(&customers[number % 2], &merchant, 1)).collect();
        let sales = process.ingress.submit_many(sales);
        let payment = async { process.transfer(&merchant, &supplier, 100).await };
        let (sales, payment) = tokio::join!(sales, payment);
        sales.into_iter().for_each(|sale| drop(sale.unwrap()));
        paid.push(payment);
    }
    for payment in paid {
        cluster.assert_committed(payment).await;
    }
    eventually("all sales", || async { cluster.money(&merchant).await == (600, 0) }).await;
    cluster.finish([process]).await;
}
