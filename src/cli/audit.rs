//! `audit`: who did what, when and why, and whether that is what was written.

use super::exit::{Ended, Outcome};
use super::output::{OutputArgs, list, print, value};
use super::target::TargetArgs;
use super::{ConfigArgs, PageArgs, audit_verify, examples};
use crate::ingress::ActPosition;
use crate::ingress::http::{ActAnswer, cursor};
use crate::runtime::backend::Opening;
use crate::store::{ActFilter, Action};
use clap::{Args, Subcommand};
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

/// Runs one of them.
pub async fn run(command: AuditCommand, args: &ConfigArgs) -> Ended {
    match command.what {
        What::List(command) => list_acts(command, args).await,
        What::Verify(command) => audit_verify::run(command, args).await,
    }
}

async fn list_acts(command: List, args: &ConfigArgs) -> Ended {
    let after: Option<ActPosition> = command.page.position()?;
    let filter = ActFilter { action: command.action, target: command.target };
    let target = command.store.open(args, Opening::AnyShard).await?;
    let listed = target.ingress().acts(&filter, after, command.page.limit).await;
    for error in listed.missing {
        eprintln!("holdfast: not all is listed: {error}");
    }
    let next = listed.end.as_ref().map(cursor);
    let data: Vec<Value> = listed.acts.into_iter().map(|act| value(ActAnswer::from(act))).collect();
    let columns =
        ["shard", ">id", "at", "operator", "action", "target", "reason", "before", "after"];
    let json = || json!({ "data": data, "next_cursor": next });
    print(command.output.format, || list(&columns, &data, next.as_deref()), json);
    Ok(Outcome::Fine)
}
