//! `key`: API keys, straight to the store.

use super::exit::{Ended, Outcome};
use super::operator::ActingArgs;
use super::output::{OutputArgs, fields, list, print};
use super::target::{Target, TargetArgs};
use super::{ConfigArgs, examples};
use crate::access::{self, ApiKey, KeyId, KeyRequest, Minted, Role, Scope, Scopes};
use crate::domain::{Client, Shard, Timestamp};
use crate::runtime::backend::Opening;
use crate::store::{StoreError, now_of_any};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::time::Duration;

/// `key`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast key create --principal shop --role merchant --name 'till 4'",
    "holdfast key list",
    "holdfast key rotate 8d3k0q2m7x1c --overlap 1h",
    "holdfast key revoke 8d3k0q2m7x1c --reason 'published by mistake'",
))]
pub struct KeyCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Make a key; it is shown this once
    Create(Create),
    /// List keys, without their secrets
    List(List),
    /// Make another key of the same principal and let this one end
    Rotate(Rotate),
    /// End a key at once, for good
    Revoke(Revoke),
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast key create --principal shop --role merchant --name 'till 4'",
    "holdfast key create --principal grafana --role auditor --scope metrics:read --expires-in 90d",
))]
struct Create {
    /// Who it stands for: idempotency keys and accounts belong to the principal, not to the key
    #[arg(long)]
    principal: Client,
    /// customer, merchant, operator, approver, auditor or admin; any number of times
    #[arg(long, required = true)]
    role: Vec<Role>,
    /// Only this of what the roles allow, such as transfers:read; any number of times
    #[arg(long)]
    scope: Vec<Scope>,
    /// What it is for
    #[arg(long, default_value = "", value_parser = name)]
    name: String,
    /// When it ends by itself, such as 90d
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    expires_in: Option<Duration>,
    #[command(flatten)]
    acting: ActingArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!("holdfast key list", "holdfast key list --format json"))]
struct List {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast key rotate 8d3k0q2m7x1c",
    "holdfast key rotate 8d3k0q2m7x1c --overlap 1h",
))]
struct Rotate {
    /// The id of the key, by which it is listed
    id: KeyId,
    /// How long the old key still holds
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    overlap: Duration,
    #[command(flatten)]
    acting: ActingArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!("holdfast key revoke 8d3k0q2m7x1c --reason 'published by mistake'"))]
struct Revoke {
    /// The id of the key, by which it is listed
    id: KeyId,
    #[command(flatten)]
    acting: ActingArgs,
}

fn name(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0..=128 => Ok(text.to_owned()),
        _ => Err("must have at most 128 characters".to_owned()),
    }
}

/// Runs one of them.
pub async fn run(command: KeyCommand, args: &ConfigArgs) -> Ended {
    match command.what {
        What::Create(command) => create(command, args).await,
        What::List(command) => list_keys(command, args).await,
        What::Rotate(command) => rotate(command, args).await,
        What::Revoke(command) => revoke(command, args).await,
    }
}

async fn create(command: Create, args: &ConfigArgs) -> Ended {
    let request = KeyRequest {
        name: command.name,
        principal: command.principal,
        roles: command.role,
        scopes: (!command.scope.is_empty()).then(|| Scopes::of(&command.scope)),
        expires_in: command.expires_in,
    };
    let target = command.acting.target.open(args, Opening::AllShards).await?;
    let actor = command.acting.operator.actor();
    let (key, minted) = access::create(&*target.context.store, &request, &actor).await?;
    show_new(&target, command.acting.output, &key, &minted).await
}

async fn rotate(command: Rotate, args: &ConfigArgs) -> Ended {
    let target = command.acting.target.open(args, Opening::AllShards).await?;
    let actor = command.acting.operator.actor();
    let store = &*target.context.store;
    let (key, minted) = access::rotate(store, &command.id, command.overlap, &actor).await?;
    show_new(&target, command.acting.output, &key, &minted).await
}

async fn show_new(target: &Target, output: OutputArgs, key: &ApiKey, minted: &Minted) -> Ended {
    let mut shown = shown(key, now(target).await?);
    shown["key"] = json!(minted.text);
    print(output.format, || fields(&["key", "id"], &shown), || shown.clone());
    eprintln!("holdfast: keep the key now: it is stored nowhere and cannot be shown again");
    Ok(Outcome::Fine)
}

async fn revoke(command: Revoke, args: &ConfigArgs) -> Ended {
    let actor = command.acting.operator.actor_with_reason()?;
    let target = command.acting.target.open(args, Opening::AnyShard).await?;
    let key = access::revoke(&*target.context.store, &command.id, &actor).await?;
    let shown = shown(&key, now(&target).await?);
    print(command.acting.output.format, || fields(&["id", "status"], &shown), || shown.clone());
    Ok(Outcome::Fine)
}

async fn list_keys(command: List, args: &ConfigArgs) -> Ended {
    let target = command.target.open(args, Opening::AnyShard).await?;
    let now = now(&target).await?;
    let keys = access::list(&*target.context.store).await?;
    let data: Vec<Value> = keys.iter().map(|key| shown(key, now)).collect();
    let columns = ["id", "principal", "roles", "scopes", "status", "expires_at", "name"];
    print(command.output.format, || list(&columns, &data, None), || json!({ "data": data }));
    Ok(Outcome::Fine)
}

/// Database time of a shard that answers.
async fn now(target: &Target) -> Result<Timestamp, StoreError> {
    now_of_any(&*target.context.store, Shard(0)).await
}

fn shown(key: &ApiKey, now: Timestamp) -> Value {
    let row = &key.row;
    json!({
        "id": row.id, "principal": row.principal, "roles": row.roles, "scopes": row.scopes,
        "status": key.status(now), "name": row.name, "created_at": row.created_at,
        "expires_at": row.expires_at, "revoked_at": row.revoked_at,
    })
}
