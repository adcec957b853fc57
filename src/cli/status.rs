//! `status`: one screen, in money.

use super::exit::{Ended, Outcome};
use super::lag::{self, Lag, seconds};
use super::output::{OutputArgs, Table, print};
use super::target::TargetArgs;
use super::{ConfigArgs, examples};
use crate::context::Context;
use crate::domain::{Currency, Shard, State, Timestamp, format_minor};
use crate::ingress::http::DependencyStatus;
use crate::operator;
use crate::roles::Role;
use crate::runtime::{Needs, Services, ask_all, backend::Opening};
use crate::store::{Quarantined, Standing, StoreError};
use clap::Args;
use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// `status`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast status",
    "holdfast status --data ./holdfast-data",
    "watch -n 1 holdfast status",
))]
pub struct StatusCommand {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Accounts in quarantine that are shown of each shard.
const MOST_QUARANTINED: u32 = 20;

/// Money of one currency that stands in one state, over all shards that answer.
struct Money {
    transfers: u64,
    amount: i128,
    age: Duration,
}

struct Outbox {
    shard: Shard,
    records: u64,
    age: Duration,
}

struct Status {
    money: BTreeMap<(Currency, &'static str), Money>,
    outboxes: Vec<Outbox>,
    lags: Result<Vec<Lag>, String>,
    dependencies: Vec<DependencyStatus>,
    quarantined: Vec<Quarantined>,
    faults: Vec<StoreError>,
}

/// Prints what is under way and how everything is.
pub async fn run(command: StatusCommand, args: &ConfigArgs) -> Ended {
    let target = command.target.open(args, Opening::AnyShard).await?;
    let context = &target.context;
    let status = look(context, target.services).await;
    for fault in &status.faults {
        eprintln!("holdfast: not all is counted: {fault}");
    }
    print(command.output.format, || table(&status), || json(&status));
    Ok(Outcome::Fine)
}

async fn look(context: &Context, services: Services) -> Status {
    let shards = context.store.map().all_shards().collect();
    let needs = Needs { roles: Role::ALL.to_vec(), shards, services };
    let dependencies = ask_all(context, &needs).await;
    let lags = lag::all(context).await.map_err(|error| error.to_string());
    let (mut money, mut outboxes, mut faults) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut quarantined = Vec::new();
    for answer in join_all(needs.shards.iter().map(|shard| of_shard(context, *shard))).await {
        match answer {
            Ok((now, standing, outbox, found)) => {
                quarantined.extend(found);
                standing.iter().for_each(|one| add(&mut money, now, one));
                outboxes.push(outbox);
            }
            Err(error) => faults.push(error),
        }
    }
    Status { money, outboxes, lags, dependencies, quarantined, faults }
}

async fn of_shard(
    context: &Context,
    shard: Shard,
) -> Result<(Timestamp, Vec<Standing>, Outbox, Vec<Quarantined>), StoreError> {
    let standing = context.store.standing(shard).await?;
    let (records, oldest) = context.store.outbox_depth(shard).await?;
    let now = context.store.now(shard).await?;
    let age = oldest.map_or(Duration::ZERO, |at| now.since(at));
    let quarantined = context.store.quarantines(shard, None, MOST_QUARANTINED).await?;
    Ok((now, standing, Outbox { shard, records, age }, quarantined))
}

fn add(money: &mut BTreeMap<(Currency, &'static str), Money>, now: Timestamp, one: &Standing) {
    let state = match one.state {
        State::Requested | State::Held => one.state.as_str(),
        State::Committed | State::Rejected | State::Cancelled => return,
    };
    let nothing = Money { transfers: 0, amount: 0, age: Duration::ZERO };
    let sum = money.entry((one.currency, state)).or_insert(nothing);
    sum.transfers += one.transfers;
    sum.amount += one.amount;
    sum.age = sum.age.max(now.since(one.oldest));
}

fn table(status: &Status) -> String {
    let sections = [
        money_table(status),
        outbox_table(&status.outboxes),
        lag_table(&status.lags),
        dependency_table(&status.dependencies),
        quarantine_table(&status.quarantined),
    ];
    sections.join("\n")
}

fn money_table(status: &Status) -> String {
    if status.money.is_empty() {
        return "No transfer is under way.\n".to_owned();
    }
    let mut table = Table::new(&["CURRENCY", "STATE", ">TRANSFERS", ">AMOUNT", ">OLDEST"]);
    for ((currency, state), money) in &status.money {
        let amount = format_minor(money.amount, *currency);
        let (transfers, age) = (money.transfers.to_string(), seconds(money.age));
        table.row([currency.as_str(), state, &transfers, &amount, &age]);
    }
    table.render()
}

fn outbox_table(outboxes: &[Outbox]) -> String {
    let mut table = Table::new(&["OUTBOX OF SHARD", ">RECORDS", ">OLDEST"]);
    for outbox in outboxes {
        let (shard, records) = (outbox.shard.to_string(), outbox.records.to_string());
        table.row([shard, records, seconds(outbox.age)]);
    }
    table.render()
}

/// One line a role: the sum of its topics and the worst of its ages.
fn lag_table(lags: &Result<Vec<Lag>, String>) -> String {
    let lags = match lags {
        Ok(lags) => lags,
        Err(error) => return format!("How far the roles are behind is not known: {error}\n"),
    };
    let mut roles: BTreeMap<Role, (i64, Duration)> = BTreeMap::new();
    for lag in lags {
        let (records, behind) = roles.entry(lag.role).or_default();
        *records += lag.records;
        *behind = lag.behind.max(*behind);
    }
    let mut table = Table::new(&["ROLE", ">RECORDS TO READ", ">BEHIND"]);
    for (role, (records, behind)) in roles {
        table.row([role.as_str(), &records.to_string(), &seconds(behind)]);
    }
    table.render()
}

fn dependency_table(dependencies: &[DependencyStatus]) -> String {
    let mut table = Table::new(&["DEPENDENCY", "STATUS", ">LATENCY", "DETAIL"]);
    for one in dependencies {
        let latency = format!("{:.1} ms", one.latency.as_secs_f64() * 1000.0);
        let detail = one.detail.as_deref().unwrap_or("");
        table.row([one.name.as_str(), one.health.as_str(), &latency, detail]);
    }
    table.render()
}

fn quarantine_table(quarantined: &[Quarantined]) -> String {
    if quarantined.is_empty() {
        return "No account is in quarantine.\n".to_owned();
    }
    let mut table = Table::new(&["ACCOUNT IN QUARANTINE", ">OFF BY", "SINCE", "REASON"]);
    for one in quarantined {
        let off = format!("{} {}", format_minor(one.suspicion.amount, one.currency), one.currency);
        let (account, since) = (one.account.to_string(), one.since.to_string());
        table.row([account.as_str(), &off, &since, &one.suspicion.reason]);
    }
    table.render()
}

fn json(status: &Status) -> Value {
    let money = |((currency, state), money): (&(Currency, &str), &Money)| {
        json!({
            "currency": currency,
            "state": state,
            "transfers": money.transfers,
            "amount": format_minor(money.amount, *currency),
            "oldest_seconds": money.age.as_secs_f64(),
        })
    };
    let outbox = |outbox: &Outbox| {
        json!({
            "shard": outbox.shard,
            "records": outbox.records,
            "oldest_seconds": outbox.age.as_secs_f64(),
        })
    };
    let dependency = |one: &DependencyStatus| {
        json!({
            "name": one.name,
            "status": one.health.as_str(),
            "latency_ms": one.latency.as_secs_f64() * 1000.0,
            "detail": one.detail,
        })
    };
    let quarantined = |one: &Quarantined| {
        let mut shown = operator::quarantined(Some(one));
        shown["account"] = json!(one.account);
        shown["currency"] = json!(one.currency);
        shown
    };
    json!({
        "quarantined": status.quarantined.iter().map(quarantined).collect::<Vec<_>>(),
        "in_flight": status.money.iter().map(money).collect::<Vec<_>>(),
        "outbox": status.outboxes.iter().map(outbox).collect::<Vec<_>>(),
        "lag": status.lags.as_ref().ok().map(|lags| lag::json(lags)),
        "dependencies": status.dependencies.iter().map(dependency).collect::<Vec<_>>(),
        "faults": status.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
