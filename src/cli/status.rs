//! `status`: one screen, in money.

use super::exit::{Ended, Outcome};
use super::lag::{self, Lag, seconds};
use super::output::{Format, OutputArgs, Table, print, write};
use super::target::TargetArgs;
use super::verdict::{self, Behind, Finding, UnderWay};
use super::{ConfigArgs, examples, pause};
use crate::context::Context;
use crate::domain::{Shard, State, format_minor};
use crate::ingress::http::DependencyStatus;
use crate::operator;
use crate::pauses::{self, Paused};
use crate::roles::Role;
use crate::runtime::{Needs, Services, ask_all, backend::Opening};
use crate::store::{Quarantined, Standing, StoreError};
use clap::Args;
use futures::future::join_all;
use futures::join;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

/// `status`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast status",
    "holdfast status --data ./holdfast-data",
    "holdfast status --watch",
))]
pub struct StatusCommand {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Show it again every so often, 2s where nothing is said, until Ctrl-C
    #[arg(long, value_name = "EVERY", num_args = 0..=1, default_missing_value = "2s",
        value_parser = humantime::parse_duration)]
    watch: Option<Duration>,
}

/// Clears a terminal and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// What the broker may take to say how far the roles are.
const LAG_BOUND: Duration = Duration::from_secs(5);

/// Accounts in quarantine that are shown of each shard.
const MOST_QUARANTINED: u32 = 20;

/// What is under way and how everything is.
pub(super) struct Status {
    pub(super) findings: Vec<Finding>,
    shards: Vec<UnderWay>,
    lags: Result<Vec<Lag>, String>,
    dependencies: Vec<DependencyStatus>,
    quarantined: Vec<Quarantined>,
    pub(super) paused: Paused,
    faults: Vec<StoreError>,
}

/// Prints what is under way and how everything is.
pub async fn run(command: StatusCommand, args: &ConfigArgs) -> Ended {
    let target = command.target.open(args, Opening::AnyShard).await?;
    let context = &target.context;
    loop {
        let status = look(context, target.services).await;
        let on_terminal = command.output.format == Format::Table && io::stdout().is_terminal();
        if command.watch.is_some() && on_terminal {
            write(CLEAR);
        }
        for fault in &status.faults {
            eprintln!("holdfast: not all is counted: {fault}");
        }
        print(command.output.format, || table(&status), || json(&status));
        let Some(every) = command.watch else { return Ok(Outcome::Fine) };
        tokio::select! {
            biased;
            ended = tokio::signal::ctrl_c() => return Ok(ended.map(|()| Outcome::Fine)?),
            () = tokio::time::sleep(every) => {}
        }
    }
}

/// Asks everything once.
pub(super) async fn look(context: &Context, services: Services) -> Status {
    let shards = context.store.map().all_shards().collect();
    let needs = Needs { roles: Role::ALL.to_vec(), shards, services };
    // All at once: what is down takes as long as it may, and the others wait for none of it. A shard
    // that does not say what is paused is among the faults already.
    let (dependencies, lags, of_shards, (paused, _)) = join!(
        ask_all(context, &needs),
        lags(context),
        join_all(needs.shards.iter().map(|shard| of_shard(context, *shard))),
        pauses::read(&*context.store),
    );
    let (mut shards, mut quarantined, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    for answer in of_shards {
        match answer {
            Ok((under_way, found)) => {
                quarantined.extend(found);
                shards.push(under_way);
            }
            Err(error) => faults.push(error),
        }
    }
    let behind: Vec<Behind> = lags.iter().flatten().map(behind).collect();
    let findings = verdict::findings(&dependencies, &shards, &behind, &quarantined);
    Status { findings, shards, lags, dependencies, quarantined, paused, faults }
}

async fn lags(context: &Context) -> Result<Vec<Lag>, String> {
    match tokio::time::timeout(LAG_BOUND, lag::all(context)).await {
        Ok(lags) => lags.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the broker says nothing within {LAG_BOUND:?}")),
    }
}

async fn of_shard(
    context: &Context,
    shard: Shard,
) -> Result<(UnderWay, Vec<Quarantined>), StoreError> {
    let mut standing = context.store.standing(shard).await?;
    standing.retain(|one| matches!(one.state, State::Requested | State::Held));
    let (records, oldest) = context.store.outbox_depth(shard).await?;
    let now = context.store.now(shard).await?;
    let outbox = (records, oldest.map_or(Duration::ZERO, |at| now.since(at)));
    let quarantined = context.store.quarantines(shard, None, MOST_QUARANTINED).await?;
    Ok((UnderWay { shard, standing, now, outbox }, quarantined))
}

fn behind(lag: &Lag) -> Behind {
    Behind { role: lag.role, shard: lag.topic.shard, records: lag.records, age: lag.behind }
}

fn table(status: &Status) -> String {
    let sections = [
        verdict::text(&status.findings),
        money_table(&status.shards),
        outbox_table(&status.shards),
        lag_table(&status.lags),
        dependency_table(&status.dependencies),
        quarantine_table(&status.quarantined),
        pause::table(&status.paused),
    ];
    sections.join("\n")
}

fn money_table(shards: &[UnderWay]) -> String {
    if shards.iter().all(|of| of.standing.is_empty()) {
        return "No transfer is under way.\n".to_owned();
    }
    let mut table = Table::new(&["SHARD", "CURRENCY", "STATE", ">TRANSFERS", ">AMOUNT", ">OLDEST"]);
    for of in shards {
        for one in &of.standing {
            let (shard, transfers) = (of.shard.to_string(), one.transfers.to_string());
            let amount = format_minor(one.amount, one.currency);
            let age = seconds(of.now.since(one.oldest));
            let (currency, state) = (one.currency.as_str(), one.state.as_str());
            table.row([shard.as_str(), currency, state, &transfers, &amount, &age]);
        }
    }
    table.render()
}

fn outbox_table(shards: &[UnderWay]) -> String {
    let mut table = Table::new(&["OUTBOX OF SHARD", ">RECORDS", ">OLDEST"]);
    for of in shards {
        let (records, age) = of.outbox;
        table.row([of.shard.to_string(), records.to_string(), seconds(age)]);
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
    let money = |of: &UnderWay| {
        let (shard, now) = (of.shard, of.now);
        let one = |one: &Standing| {
            json!({
                "shard": shard,
                "currency": one.currency,
                "state": one.state.as_str(),
                "transfers": one.transfers,
                "amount": format_minor(one.amount, one.currency),
                "oldest_seconds": now.since(one.oldest).as_secs_f64(),
            })
        };
        of.standing.iter().map(one).collect::<Vec<_>>()
    };
    let outbox = |of: &UnderWay| {
        let (records, age) = of.outbox;
        json!({ "shard": of.shard, "records": records, "oldest_seconds": age.as_secs_f64() })
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
        "well": status.findings.is_empty(),
        "findings": status.findings,
        "paused": pause::json(&status.paused),
        "quarantined": status.quarantined.iter().map(quarantined).collect::<Vec<_>>(),
        "in_flight": status.shards.iter().flat_map(money).collect::<Vec<_>>(),
        "outbox": status.shards.iter().map(outbox).collect::<Vec<_>>(),
        "lag": status.lags.as_ref().ok().map(|lags| lag::json(lags)),
        "dependencies": status.dependencies.iter().map(dependency).collect::<Vec<_>>(),
        "faults": status.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
