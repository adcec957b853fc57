//! Steady open-loop load of single transfers between accounts that are made for it.

use super::client::{Api, ApiError, Sent};
use super::report::Report;
use rand::Rng;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// Transfers a second.
    pub rate: f64,
    /// For how long.
    pub duration: Duration,
    /// Between how many accounts.
    pub accounts: u32,
    /// In which currency.
    pub currency: String,
    /// Begins the names of accounts and keys, so that runs do not meet.
    pub name: String,
}

impl Load {
    fn account(&self, number: u32) -> String {
        format!("{}-{number:06}", self.name)
    }
}

/// Makes and funds the accounts, sends at the rate, waits for every end.
pub async fn steady(api: &Api, load: &Load) -> Result<Report, ApiError> {
    fund(api, load).await?;
    let report = Arc::new(Mutex::new(Report::default()));
    let began = Instant::now();
    let mut sending = JoinSet::new();
    let total = (load.rate * load.duration.as_secs_f64()) as u64;
    for number in 0..total {
        let due = began + Duration::from_secs_f64(number as f64 / load.rate);
        tokio::time::sleep_until(due).await;
        let transfer = transfer(load, number);
        let (api, report) = (api.clone(), Arc::clone(&report));
        sending.spawn(async move { one(&api, &transfer, due, began, &report).await });
        while let Some(ended) = sending.try_join_next() {
            ended.expect("sending does not panic")?;
        }
    }
    while let Some(ended) = sending.join_next().await {
        ended.expect("sending does not panic")?;
    }
    Ok(Arc::into_inner(report).expect("every sender has ended").into_inner())
}

async fn one(
    api: &Api,
    transfer: &Value,
    due: Instant,
    began: Instant,
    report: &Mutex<Report>,
) -> Result<(), ApiError> {
    let sent = api.send(transfer, false).await?;
    let accepted = due.elapsed();
    {
        let mut report = report.lock().await;
        report.sent += 1;
        report.accepting = began.elapsed();
        match sent {
            Sent::Accepted(_) => {
                report.accepted += 1;
                report.accept.record(accepted);
            }
            Sent::Refused(code) => {
                report.refuse(&code);
                return Ok(());
            }
        }
    }
    let ended = api.send(transfer, true).await?;
    let mut report = report.lock().await;
    report.finishing = began.elapsed();
    match ended {
        Sent::Accepted(status) => {
            report.complete.record(due.elapsed());
            report.end(&status);
        }
        Sent::Refused(code) => report.refuse(&code),
    }
    Ok(())
}

fn transfer(load: &Load, number: u64) -> Value {
    let mut rng = rand::rng();
    let source = rng.random_range(0..load.accounts);
    let destination = (source + rng.random_range(1..load.accounts)) % load.accounts;
    json!({
        "idempotency_key": format!("{}-{number}", load.name),
        "source": load.account(source),
        "destination": load.account(destination),
        "amount": rng.random_range(1..=9).to_string(),
        "currency": load.currency,
    })
}

async fn fund(api: &Api, load: &Load) -> Result<(), ApiError> {
    let world = format!("{}-world", load.name);
    let mut accounts = vec![json!({"id": world, "currency": load.currency, "kind": "external"})];
    let numbers = 0..load.accounts;
    accounts.extend(
        numbers
            .clone()
            .map(|number| json!({"id": load.account(number), "currency": load.currency})),
    );
    api.create_accounts(&accounts).await?;
    let funding: Vec<Value> = numbers
        .map(|number| {
            json!({
                "idempotency_key": format!("{}-fund-{number}", load.name),
                "source": world,
                "destination": load.account(number),
                "amount": "10000000",
                "currency": load.currency,
            })
        })
        .collect();
    super::replay::until_final(api, &funding, 1000).await
}
