//! `shards`: the map, and who answers.

use super::exit::{Ended, Outcome};
use super::output::{OutputArgs, Table, print};
use super::target::TargetArgs;
use super::{ConfigArgs, examples};
use crate::domain::Shard;
use crate::runtime::backend::Opening;
use crate::store::{Store, StoreError};
use clap::Args;
use futures::future::join_all;
use serde_json::{Value, json};

/// `shards`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast shards",
    "holdfast shards --data ./holdfast-data --format json",
))]
pub struct ShardsCommand {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

struct Line {
    shard: Shard,
    address: String,
    slots: usize,
    fault: Option<StoreError>,
}

/// Prints the shard map.
pub async fn shards(command: ShardsCommand, args: &ConfigArgs) -> Ended {
    let target = command.target.open(args, Opening::AnyShard).await?;
    let context = &target.context;
    let store = context.store.as_ref();
    let lines = join_all(store.map().all_shards().map(|shard| look(store, shard))).await;
    print(command.output.format, || table(store, &lines), || json(store, &lines));
    Ok(Outcome::Fine)
}

async fn look(store: &dyn Store, shard: Shard) -> Line {
    Line {
        shard,
        address: store.address(shard),
        slots: store.map().slots_of(shard),
        fault: store.ping(shard).await.err(),
    }
}

fn table(store: &dyn Store, lines: &[Line]) -> String {
    let (map, identity) = (store.map(), store.identity());
    let mut table = Table::new(&["SHARD", ">SLOTS", "STATUS", "ADDRESS"]);
    for line in lines {
        let status = if line.fault.is_none() { "up" } else { "down" };
        let (shard, slots) = (line.shard.to_string(), line.slots.to_string());
        table.row([shard.as_str(), &slots, status, &line.address]);
    }
    format!(
        "cluster {}, generation {}\nmap version {}, {} partitions a topic, fingerprint {}\n\n{}",
        identity.cluster,
        identity.generation.0,
        map.version(),
        map.partitions(),
        map.fingerprint(),
        table.render()
    )
}

fn json(store: &dyn Store, lines: &[Line]) -> Value {
    let (map, identity) = (store.map(), store.identity());
    let line = |line: &Line| {
        json!({
            "shard": line.shard,
            "address": line.address,
            "slots": line.slots,
            "status": if line.fault.is_none() { "up" } else { "down" },
            "detail": line.fault.as_ref().map(ToString::to_string),
        })
    };
    json!({
        "cluster": identity.cluster,
        "generation": identity.generation,
        "map_version": map.version(),
        "partitions": map.partitions(),
        "fingerprint": map.fingerprint(),
        "data": lines.iter().map(line).collect::<Vec<_>>(),
    })
}
