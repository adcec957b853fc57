//! `encryption`: the data keys that personal fields are encrypted with at rest.

use super::exit::{Ended, Failure, Outcome};
use super::operator::ActingArgs;
use super::output::{OutputArgs, Table, print};
use super::target::TargetArgs;
use super::{ConfigArgs, examples};
use crate::domain::Shard;
use crate::runtime::backend::Opening;
use crate::sealing::ROWS_PER_KEY;
use crate::store::{DataKeyRow, Store};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::time::Duration;

/// `encryption`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast encryption status",
    "holdfast encryption rotate --reason 'once a year'",
    "holdfast encryption rewrap --reason 'the key of 2025 is taken out'",
))]
pub struct EncryptionCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Show the data keys of every shard, and which configured key each needs
    Status(Status),
    /// Make another data key on every shard, for new rows
    Rotate(Rotate),
    /// Wrap all data keys with the first configured key, so that the others can be taken out
    Rewrap(Rewrap),
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast encryption status",
    "holdfast encryption status --format json",
))]
struct Status {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast encryption rotate",
    "holdfast encryption rotate --older-than 0s    also where the newest was made just now",
))]
struct Rotate {
    /// Shards whose newest data key is younger are left alone, so that a repeat completes what was
    /// interrupted
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    older_than: Duration,
    #[command(flatten)]
    acting: ActingArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast encryption rewrap",
    "holdfast encryption rewrap --reason 'the key of 2025 is taken out'",
))]
struct Rewrap {
    #[command(flatten)]
    acting: ActingArgs,
}

/// Runs one of them.
pub async fn run(command: EncryptionCommand, args: &ConfigArgs) -> Ended {
    match command.what {
        What::Status(command) => status(command, args).await,
        What::Rotate(command) => rotate(command, args).await,
        What::Rewrap(command) => rewrap(command, args).await,
    }
}

async fn status(command: Status, args: &ConfigArgs) -> Ended {
    let target = command.target.open(args, Opening::AllShards).await?;
    let keys = all_keys(&*target.context.store).await?;
    let first = target.wraps.as_deref();
    print(command.output.format, || table(first, &keys), || answer(first, &keys));
    let closed = keys.iter().any(|(_, key)| key.fault.is_some());
    if closed { Ok(Outcome::Found) } else { Ok(Outcome::Fine) }
}

async fn all_keys(store: &dyn Store) -> Result<Vec<(Shard, DataKeyRow)>, Failure> {
    let mut keys = Vec::new();
    for shard in store.map().all_shards() {
        let of_shard = store.data_keys(shard).await?;
        keys.extend(of_shard.into_iter().map(|key| (shard, key)));
    }
    Ok(keys)
}

/// How much of what a data key may seal is granted, in percent.
fn used(key: &DataKeyRow) -> i64 {
    key.sealed.saturating_mul(100) / ROWS_PER_KEY
}

fn table(first: Option<&str>, keys: &[(Shard, DataKeyRow)]) -> String {
    let mut table =
        Table::new(&["shard", ">key", "for", "wrapped by", ">used %", "made", "usable"]);
    for (shard, key) in keys {
        let usable = match &key.fault {
            None => "yes".to_owned(),
            Some(fault) => format!("no: {fault}"),
        };
        table.row([
            shard.to_string(),
            key.id.to_string(),
            key.purpose.as_str().to_owned(),
            key.wrapped_by.clone(),
            used(key).to_string(),
            key.created_at.to_string(),
            usable,
        ]);
    }
    let text = match (first, keys.is_empty()) {
        (None, true) => return "nothing is encrypted\n".to_owned(),
        (None, false) => "no key is configured: new rows are not encrypted".to_owned(),
        (Some(first), _) => format!("new data keys are wrapped by {first}"),
    };
    if keys.is_empty() {
        return format!("{text}; none is made yet\n");
    }
    format!("{text}\n\n{}", table.render())
}

fn answer(first: Option<&str>, keys: &[(Shard, DataKeyRow)]) -> Value {
    let key = |(shard, key): &(Shard, DataKeyRow)| {
        json!({
            "shard": shard,
            "id": key.id,
            "purpose": key.purpose.as_str(),
            "wrapped_by": key.wrapped_by,
            "sealed_at_most": key.sealed,
            "created_at": key.created_at,
            "fault": key.fault.as_ref().map(ToString::to_string),
        })
    };
    json!({ "wraps": first, "data_keys": keys.iter().map(key).collect::<Vec<_>>() })
}

async fn rotate(command: Rotate, args: &ConfigArgs) -> Ended {
    let target = command.acting.target.open(args, Opening::AllShards).await?;
    let (store, actor) = (&*target.context.store, command.acting.operator.actor());
    let mut done = Vec::new();
    for shard in store.map().all_shards() {
        let made = store.rotate_data_key(shard, command.older_than, &actor).await?;
        done.push(json!({ "shard": shard, "data_key": made }));
    }
    let text = |line: &Value| match line["data_key"].as_u64() {
        Some(id) => format!("shard {}: new rows are sealed with data key {id}\n", line["shard"]),
        None => format!("shard {}: its newest data key is young enough\n", line["shard"]),
    };
    print(command.acting.output.format, || done.iter().map(text).collect(), || json!(done));
    Ok(Outcome::Fine)
}

async fn rewrap(command: Rewrap, args: &ConfigArgs) -> Ended {
    let target = command.acting.target.open(args, Opening::AllShards).await?;
    let (store, actor) = (&*target.context.store, command.acting.operator.actor());
    let mut done = Vec::new();
    for shard in store.map().all_shards() {
        let count = store.rewrap_data_keys(shard, &actor).await?;
        done.push(json!({ "shard": shard, "rewrapped": count }));
    }
    let text = |line: &Value| format!("shard {}: {} rewrapped\n", line["shard"], line["rewrapped"]);
    print(command.acting.output.format, || done.iter().map(text).collect(), || json!(done));
    Ok(Outcome::Fine)
}
