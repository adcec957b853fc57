//! `topics`: what is in each, and who has yet to read it.

use super::exit::{Ended, Outcome};
use super::output::{OutputArgs, Table, print};
use super::target::TargetArgs;
use super::{ConfigArgs, examples};
use crate::backlog;
use crate::broker::{BrokerError, Group, PartitionLag, Topic};
use crate::context::Context;
use crate::roles::Role;
use crate::runtime::backend::Opening;
use clap::Args;
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `topics`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast topics",
    "holdfast topics --data ./holdfast-data --format json",
))]
pub struct TopicsCommand {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A topic, as the broker has it.
struct Line {
    topic: Topic,
    /// None where it is missing.
    found: Option<Found>,
}

#[derive(Default)]
struct Found {
    partitions: usize,
    /// Those that still exist, over all partitions.
    records: i64,
    /// How many each role that reads it has yet to read.
    unread: BTreeMap<Role, i64>,
}

/// Prints every topic. Exit code 3 where one is missing.
pub async fn run(command: TopicsCommand, args: &ConfigArgs) -> Ended {
    let target = command.target.open(args, Opening::AnyShard).await?;
    let lines = look(&target.context).await?;
    print(command.output.format, || table(&lines), || json!({ "data": json(&lines) }));
    let whole = lines.iter().all(|line| line.found.is_some());
    Ok(if whole { Outcome::Fine } else { Outcome::Found })
}

async fn look(context: &Context) -> Result<Vec<Line>, BrokerError> {
    let map = context.store.map();
    let topics = Topic::all(map.all_shards());
    let missing = context.broker.missing_topics(&topics, map.partitions()).await?;
    let there = |topic: &Topic| !missing.contains(topic);
    let mut found: BTreeMap<Topic, Found> =
        topics.iter().copied().filter(there).map(|topic| (topic, Found::default())).collect();
    // Any group knows how much there is, also of what it does not read.
    let all: Vec<Topic> = found.keys().copied().collect();
    let anybody = map.all_shards().next().map(|shard| Group { role: Role::Hold.as_str(), shard });
    if let Some(group) = anybody {
        for lag in context.broker.lag(&group, &all).await? {
            let found = found.entry(lag.topic).or_default();
            found.partitions += 1;
            found.records += lag.end - lag.start;
        }
    }
    for (role, lags) in unread(context, &there).await? {
        for lag in lags {
            *found.entry(lag.topic).or_default().unread.entry(role).or_default() += lag.records();
        }
    }
    let line = |topic: Topic| Line { topic, found: found.remove(&topic) };
    Ok(topics.into_iter().map(line).collect())
}

/// What each role has yet to read of the topics that are there.
async fn unread(
    context: &Context,
    there: &impl Fn(&Topic) -> bool,
) -> Result<Vec<(Role, Vec<PartitionLag>)>, BrokerError> {
    let shards = context.store.map().all_shards();
    let pairs = shards.flat_map(|shard| Role::STEPS.map(|role| (role, shard)));
    let asked = pairs.map(|(role, shard)| async move {
        let topics: Vec<Topic> = backlog::topics(role, shard).into_iter().filter(there).collect();
        let group = Group { role: role.as_str(), shard };
        Ok((role, context.broker.lag(&group, &topics).await?))
    });
    try_join_all(asked).await
}

fn table(lines: &[Line]) -> String {
    let mut table = Table::new(&["TOPIC", "STATUS", ">PARTITIONS", ">RECORDS", "YET TO BE READ"]);
    for Line { topic, found } in lines {
        let topic = topic.to_string();
        let Some(found) = found else {
            table.row([topic.as_str(), "missing: run `holdfast migrate`", "", "", ""]);
            continue;
        };
        let unread = |(role, records): (&Role, &i64)| format!("{} {records}", role.as_str());
        let unread: Vec<String> = found.unread.iter().map(unread).collect();
        let (partitions, records) = (found.partitions.to_string(), found.records.to_string());
        table.row([topic.as_str(), "up", &partitions, &records, &unread.join(", ")]);
    }
    table.render()
}

fn json(lines: &[Line]) -> Vec<Value> {
    let line = |Line { topic, found }: &Line| {
        let unread = |(role, records): (&Role, &i64)| (role.as_str(), *records);
        json!({
            "topic": topic.to_string(),
            "shard": topic.shard,
            "status": if found.is_some() { "up" } else { "missing" },
            "partitions": found.as_ref().map(|found| found.partitions),
            "records": found.as_ref().map(|found| found.records),
            "unread": found.as_ref().map(|found| found.unread.iter().map(unread).collect::<BTreeMap<_, _>>()),
        })
    };
    lines.iter().map(line).collect()
}
