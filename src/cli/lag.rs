//! `lag`: what every stage has yet to do.

use super::exit::{Ended, Outcome};
use super::output::{OutputArgs, Table, print};
use super::target::TargetArgs;
use super::{ConfigArgs, examples};
use crate::backlog;
use crate::broker::{BrokerError, Group, PartitionLag, Position, Topic};
use crate::context::Context;
use crate::domain::{Shard, Timestamp};
use crate::roles::Role;
use crate::runtime::backend::Opening;
use clap::Args;
use futures::future::{join_all, try_join_all};
use serde_json::{Value, json};
use std::time::Duration;

/// `lag`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast lag",
    "holdfast lag --format json",
))]
pub struct LagCommand {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a role's group has yet to read of one topic.
pub struct Lag {
    /// The role.
    pub role: Role,
    /// The topic, its shard included.
    pub topic: Topic,
    /// Records, over all partitions.
    pub records: i64,
    /// Age of the oldest of them, by the shard's database time.
    pub behind: Duration,
}

/// Prints the lag of every role, shard and topic.
pub async fn run(command: LagCommand, args: &ConfigArgs) -> Ended {
    let target = command.target.open(args, Opening::AnyShard).await?;
    let context = &target.context;
    let lags = all(context).await?;
    print(command.output.format, || table(&lags), || json!({ "data": json(&lags) }));
    Ok(Outcome::Fine)
}

/// The lag of every role, shard and topic, in the order of the pipeline.
pub async fn all(context: &Context) -> Result<Vec<Lag>, BrokerError> {
    let pairs = Role::STEPS
        .into_iter()
        .flat_map(|role| context.store.map().all_shards().map(move |shard| (role, shard)));
    let lags = try_join_all(pairs.map(|(role, shard)| of_group(context, role, shard))).await?;
    Ok(lags.into_iter().flatten().collect())
}

async fn of_group(context: &Context, role: Role, shard: Shard) -> Result<Vec<Lag>, BrokerError> {
    let group = Group { role: role.as_str(), shard };
    let topics = backlog::topics(role, shard);
    let partitions = context.broker.lag(&group, &topics).await?;
    let now = context.store.now(shard).await.unwrap_or_else(|_| by_clock());
    let of_topic = |topic: Topic| {
        let own: Vec<&PartitionLag> = partitions.iter().filter(|lag| lag.topic == topic).collect();
        async move {
            let records = own.iter().map(|lag| lag.records()).sum();
            let oldest = join_all(own.into_iter().map(|lag| oldest(context, lag))).await;
            let behind =
                oldest.into_iter().flatten().min().map_or(Duration::ZERO, |at| now.since(at));
            Lag { role, topic, records, behind }
        }
    };
    Ok(join_all(topics.into_iter().map(of_topic)).await)
}

/// When the first unread record of a partition was written; none where all are read, or where it
/// cannot be read now.
async fn oldest(context: &Context, lag: &PartitionLag) -> Option<Timestamp> {
    if lag.records() == 0 {
        return None;
    }
    let offset = lag.committed.unwrap_or(lag.start).max(lag.start);
    let position = Position { topic: lag.topic, partition: lag.partition, offset };
    let record = context.broker.read_at(position).await.ok()??;
    Some(record.timestamp)
}

fn by_clock() -> Timestamp {
    Timestamp::from_micros(chrono::Utc::now().timestamp_micros())
}

fn table(lags: &[Lag]) -> String {
    let mut table = Table::new(&["ROLE", "SHARD", "TOPIC", ">RECORDS", ">BEHIND"]);
    for lag in lags {
        let (shard, topic) = (lag.topic.shard.to_string(), lag.topic.to_string());
        let (records, behind) = (lag.records.to_string(), seconds(lag.behind));
        table.row([lag.role.as_str(), &shard, &topic, &records, &behind]);
    }
    table.render()
}

/// One object a line of the table.
pub fn json(lags: &[Lag]) -> Vec<Value> {
    let line = |lag: &Lag| {
        json!({
            "role": lag.role.as_str(),
            "shard": lag.topic.shard,
            "topic": lag.topic.to_string(),
            "records": lag.records,
            "seconds_behind": lag.behind.as_secs_f64(),
        })
    };
    lags.iter().map(line).collect()
}

/// `4.2 s`.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
