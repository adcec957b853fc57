//! `audit`: who did what, when and why, and whether that is what was written.

use super::exit::{Ended, Outcome};
use super::output::{OutputArgs, list, print};
use super::target::TargetArgs;
use super::{ConfigArgs, PageArgs, audit_verify, examples};
use crate::context::Context;
use crate::domain::{Shard, Timestamp};
use crate::ingress::http::{Position, cursor};
use crate::runtime::backend::Opening;
use crate::store::{ActFilter, Action, LoggedAct, NEWEST};
use clap::{Args, Subcommand};
use futures::future::join_all;
use serde_json::{Value, json};

/// `audit`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast audit list",
    "holdfast audit list --target 019b1c5e-7a10-7abc-9def-0123456789ab",
    "holdfast audit verify --format json || page-somebody",
))]
pub struct AuditCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List what operators did, newest first
    List(List),
    /// Verify the chain of hashes of every shard's audit log; exit with 3 if anything is wrong
    Verify(audit_verify::Verify),
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast audit list",
    "holdfast audit list --action transfer.cancel --limit 500 --format json",
    "holdfast audit list --target alice",
))]
struct List {
    /// Only this action, such as transfer.cancel
    #[arg(long)]
    action: Option<Action>,
    /// Only what was done to this transfer, account or dead letter
    #[arg(long, value_name = "ID")]
    target: Option<String>,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    store: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Where a part of the merged logs ended.
#[derive(Clone, Copy)]
struct Place {
    at: Timestamp,
    shard: Shard,
    id: i64,
}

impl Position for Place {
    const TAG: &'static str = "l1.";

    fn write(&self) -> String {
        format!("{}|{}|{}", self.at.micros(), self.shard, self.id)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('|');
        let at = Timestamp::from_micros(parts.next()?.parse().ok()?);
        let (shard, id) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(Self { at, shard: Shard(shard), id })
    }
}

/// Runs one of them.
pub async fn run(command: AuditCommand, args: &ConfigArgs) -> Ended {
    match command.what {
        What::List(command) => list_acts(command, args).await,
        What::Verify(command) => audit_verify::run(command, args).await,
    }
}

async fn list_acts(command: List, args: &ConfigArgs) -> Ended {
    let after: Option<Place> = command.page.position()?;
    let filter = ActFilter { action: command.action, target: command.target };
    let target = command.store.open(args, Opening::AnyShard).await?;
    let (acts, next) = merged(&target.context, &filter, after, command.page.limit).await;
    let data: Vec<Value> = acts.iter().map(|(shard, act)| shown(*shard, act)).collect();
    let next = next.as_ref().map(cursor);
    let columns =
        ["shard", ">id", "at", "operator", "action", "target", "reason", "before", "after"];
    let json = || json!({ "data": data, "next_cursor": next });
    print(command.output.format, || list(&columns, &data, next.as_deref()), json);
    Ok(Outcome::Fine)
}

/// The logs of all shards that answer, newest first; of one moment, lower shards first.
async fn merged(
    context: &Context,
    filter: &ActFilter,
    after: Option<Place>,
    limit: u32,
) -> (Vec<(Shard, LoggedAct)>, Option<Place>) {
    let shards: Vec<Shard> = context.store.map().all_shards().collect();
    let reads = shards.iter().map(|shard| {
        let before = after.map_or(NEWEST, |place| before(place, *shard));
        context.store.acts(*shard, filter, before, limit + 1)
    });
    let mut acts = Vec::new();
    for (shard, answer) in shards.iter().zip(join_all(reads).await) {
        match answer {
            Ok(found) => acts.extend(found.into_iter().map(|act| (*shard, act))),
            Err(error) => eprintln!("holdfast: not all is listed: {error}"),
        }
    }
    acts.sort_by_key(|(shard, act)| (std::cmp::Reverse(act.at), *shard, std::cmp::Reverse(act.id)));
    let more = acts.len() > limit as usize;
    acts.truncate(limit as usize);
    let last = acts.last().map(|(shard, act)| Place { at: act.at, shard: *shard, id: act.id });
    (acts, last.filter(|_| more))
}

/// Where the rest of one shard's log begins.
fn before(place: Place, shard: Shard) -> (Timestamp, i64) {
    let id = match shard.cmp(&place.shard) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => place.id,
        std::cmp::Ordering::Greater => i64::MAX,
    };
    (place.at, id)
}

fn shown(shard: Shard, logged: &LoggedAct) -> Value {
    let act = &logged.act;
    let state = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    json!({
        "shard": shard,
        "id": logged.id,
        "at": logged.at,
        "operator": act.actor.operator,
        "action": act.action,
        "target": act.target,
        "reason": act.actor.reason,
        "before": state(&act.before),
        "after": state(&act.after),
        "request_id": act.actor.request,
    })
}
