//! `audit verify`: whether the audit logs are what was written.

use super::exit::{Ended, Failure, Outcome};
use super::output::{OutputArgs, Table, print};
use super::target::TargetArgs;
use super::{ConfigArgs, examples};
use crate::domain::Shard;
use crate::routing::ShardMap;
use crate::runtime::backend::Opening;
use crate::store::chain::{ChainFault, ChainHead, ChainReport, Noted, audit_chain};
use clap::Args;
use serde_json::{Value, json};

/// `audit verify`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast audit verify",
    "holdfast audit verify --format json > \"heads-$(date +%F).json\"    note the heads elsewhere",
    "holdfast audit verify --expect 0:1041:5f0e…    row 1041 of shard 0 must still have that hash",
))]
pub struct Verify {
    /// Only this shard; the others need not answer
    #[arg(long, value_name = "N")]
    shard: Option<u16>,
    /// A row that must still have this hash, noted before; may be repeated
    #[arg(long = "expect", value_name = "SHARD:ID:HASH")]
    expected: Vec<Noted>,
    #[command(flatten)]
    store: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs it.
pub async fn run(command: Verify, args: &ConfigArgs) -> Ended {
    let opening = if command.shard.is_some() { Opening::AnyShard } else { Opening::AllShards };
    let target = command.store.open(args, opening).await?;
    let store = &*target.context.store;
    let shards = chosen(&command, store.map())?;
    let mut reports = Vec::new();
    for shard in shards {
        reports.push((shard, audit_chain(store, shard, &command.expected).await?));
    }
    print(command.output.format, || table(&reports), || answer(&reports));
    let clean = reports.iter().all(|(_, report)| report.faults.is_empty());
    if clean { Ok(Outcome::Fine) } else { Ok(Outcome::Found) }
}

/// The shards to verify. What is expected of another one would be left out without a word.
fn chosen(command: &Verify, map: &ShardMap) -> Result<Vec<Shard>, Failure> {
    let all = map.all_shards();
    let chosen: Vec<Shard> =
        all.filter(|shard| command.shard.is_none_or(|only| only == shard.0)).collect();
    if chosen.is_empty() {
        let words = format!("--shard: there are {} shards, from 0", map.shards());
        return Err(Failure::Usage(words));
    }
    match command.expected.iter().find(|noted| !chosen.contains(&noted.shard)) {
        Some(noted) => {
            Err(Failure::Usage(format!("--expect: shard {} is not verified", noted.shard)))
        }
        None => Ok(chosen),
    }
}

/// The newest row's id and hash, by the head's own word; none where nothing is chained yet.
fn head(report: &ChainReport) -> Option<(i64, String)> {
    let head: &ChainHead = report.head.as_ref()?;
    Some((head.last_id, head.hash()?.to_string()))
}

fn answer(reports: &[(Shard, ChainReport)]) -> Value {
    let fault = |fault: &ChainFault| {
        json!({
            "what": fault.what.as_str(),
            "from": fault.from,
            "through": fault.through,
            "detail": fault.what.sentence(),
        })
    };
    let shard = |(shard, report): &(Shard, ChainReport)| {
        json!({
            "shard": shard,
            "rows": report.rows,
            "before_chain": report.before,
            "head": head(report).map(|(id, hash)| json!({ "id": id, "hash": hash })),
            "faults": report.faults.iter().map(fault).collect::<Vec<_>>(),
            "more_faults": report.more,
        })
    };
    json!({ "shards": reports.iter().map(shard).collect::<Vec<_>>() })
}

fn table(reports: &[(Shard, ChainReport)]) -> String {
    let mut shards = Table::new(&["shard", ">rows", ">before the chain", ">head", "hash"]);
    let mut faults = Table::new(&["shard", "ids", "what", "meaning"]);
    let (mut found, mut more) = (false, 0);
    for (shard, report) in reports {
        let (id, hash) = head(report)
            .map_or_else(|| ("-".to_owned(), "-".to_owned()), |(id, hash)| (id.to_string(), hash));
        let (rows, before) = (report.rows.to_string(), report.before.to_string());
        shards.row([shard.to_string(), rows, before, id, hash]);
        for fault in &report.faults {
            found = true;
            let what = [fault.what.as_str(), fault.what.sentence()].map(str::to_owned);
            let [what, meaning] = what;
            faults.row([shard.to_string(), ids(fault), what, meaning]);
        }
        more += report.more;
    }
    let shards = shards.render();
    if !found {
        return format!("{shards}\nEvery row is what was written.\n");
    }
    let more = if more > 0 { format!("and {more} more\n") } else { String::new() };
    format!("{shards}\n{}{more}", faults.render())
}

fn ids(fault: &ChainFault) -> String {
    if fault.from == fault.through {
        return fault.from.to_string();
    }
    format!("{}..{}", fault.from, fault.through)
}
