//! `pause`, `drain` and `resume`: what operators stop, straight to the store.

use super::exit::{Ended, Failure, Outcome};
use super::operator::ActingArgs;
use super::output::{Table, print};
use super::{ConfigArgs, examples};
use crate::pauses::{self, PauseMode, PauseScope, Paused};
use crate::routing::ShardMap;
use crate::runtime::backend::Opening;
use clap::Args;
use serde_json::{Value, json};

/// `pause` and `drain`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast pause role=credit,shard=1 --reason 'its database is being moved'",
    "holdfast pause currency=EUR --reason 'the bank has closed'",
    "holdfast drain shard=1 --reason 'to be moved'",
    "holdfast drain merchant=shop --reason 'contract ended'",
))]
pub struct StopCommand {
    #[command(flatten)]
    what: What,
}

/// `resume`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast resume role=credit,shard=1 --reason 'it has been moved'",
    "holdfast resume currency=EUR --reason 'the bank has opened'",
))]
pub struct ResumeCommand {
    #[command(flatten)]
    what: What,
}

#[derive(Args, Debug)]
struct What {
    /// role=ROLE, role=ROLE,shard=N, role=ROLE,shard=N,partition=P, shard=N, shard=N,partition=P,
    /// currency=CODE, source=ACCOUNT or merchant=PRINCIPAL
    scope: PauseScope,
    #[command(flatten)]
    acting: ActingArgs,
}

/// Stops a scope.
pub async fn stop(command: StopCommand, mode: PauseMode, args: &ConfigArgs) -> Ended {
    command.what.scope.check(mode).map_err(Failure::Usage)?;
    command.what.run(Some(mode), args).await
}

/// Lets a scope go on.
pub async fn resume(command: ResumeCommand, args: &ConfigArgs) -> Ended {
    command.what.run(None, args).await
}

impl What {
    async fn run(self, mode: Option<PauseMode>, args: &ConfigArgs) -> Ended {
        let actor = self.acting.operator.actor_with_reason()?;
        let target = self.acting.target.open(args, Opening::AnyShard).await?;
        let store = &*target.context.store;
        fits(&self.scope, store.map())?;
        let set = pauses::set(store, &self.scope, mode, &actor).await;
        let changed = set.map_err(|error| {
            anyhow::anyhow!(
                "{error}; shards that answer know of it, and so does every process that reaches \
                 one of them: repeat it when this one is back"
            )
        })?;
        let mode = mode.map_or("resumed", PauseMode::as_str);
        let shown = json!({ "scope": self.scope.to_string(), "mode": mode, "changed": changed });
        let words = || match changed {
            true => format!("{}: {mode}; every process knows within a second.\n", self.scope),
            false => format!("{}: {mode}, as it was.\n", self.scope),
        };
        print(self.acting.output.format, words, || shown.clone());
        Ok(Outcome::Fine)
    }
}

/// Whether there is such a place.
fn fits(scope: &PauseScope, map: &ShardMap) -> Result<(), Failure> {
    let (PauseScope::Role(_, Some(shard), partition) | PauseScope::Shard(shard, partition)) = scope
    else {
        return Ok(());
    };
    if shard.0 >= map.shards() {
        let last = map.shards() - 1;
        return Err(Failure::Usage(format!("there is no shard {shard}: shards are 0 to {last}")));
    }
    match partition {
        Some(partition) if partition.0 >= map.partitions() => {
            let last = map.partitions() - 1;
            Err(Failure::Usage(format!("there is no partition {partition}: they are 0 to {last}")))
        }
        _ => Ok(()),
    }
}

/// For `status`.
pub fn table(paused: &Paused) -> String {
    if paused.is_empty() {
        return "Nothing is paused.\n".to_owned();
    }
    let mut table = Table::new(&["PAUSED", "HOW", "SINCE", "BY", "REASON"]);
    for (scope, standing) in paused.all() {
        let row = &standing.row;
        let (scope, since) = (scope.to_string(), row.since.to_string());
        let reason = row.reason.as_deref().unwrap_or("");
        table.row([scope.as_str(), standing.mode.as_str(), &since, &row.operator, reason]);
    }
    table.render()
}

/// The same for programs.
pub fn json(paused: &Paused) -> Vec<Value> {
    paused.all().map(|(scope, standing)| pauses::shown(scope, standing)).collect()
}
