//! `account`: the same as the API, straight to the store.

use super::exit::{Ended, Failure, Outcome};
use super::operator::ActingArgs;
use super::output::{OutputArgs, fields, list, print, value};
use super::target::{Target, TargetArgs};
use super::{ConfigArgs, PageArgs, account_import, account_limits, examples, metadata};
use crate::domain::{AccountId, AccountKind, AccountStatus, Client, Currency, Money};
use crate::ingress::http::{AccountAnswer, BalanceAnswer, cursor};
use crate::ingress::{AccountPatch, AccountRequest, Created};
use crate::operator;
use crate::runtime::backend::Opening;
use crate::store::AccountFilter;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// `account`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast account create alice --currency USD",
    "holdfast account show alice",
    "holdfast account import accounts.csv",
    "holdfast account release-quarantine alice --reason 'books agree again' --dry-run",
    "holdfast account limits alice --per day --max-amount 1000.00",
))]
pub struct AccountCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Create an account; the same again changes nothing
    Create(Create),
    /// Show an account and its balance
    Show(Show),
    /// List accounts by id
    List(List),
    /// Create accounts from a CSV file; the same again changes nothing
    Import(account_import::Import),
    /// Give accounts to the principal that sees and debits them
    Assign(Assign),
    /// Let a quarantined account make new holds again, once its books agree
    ReleaseQuarantine(Release),
    /// Show an account's velocity limits, set or remove them
    Limits(account_limits::Limits),
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast account create bank --currency USD --kind external",
    "holdfast account create alice --currency USD --overdraft-limit 50.00 --metadata team=blue",
))]
struct Create {
    /// Its id
    id: AccountId,
    /// An ISO 4217 code such as USD
    #[arg(long)]
    currency: Currency,
    /// customer, or external: the world outside, which may go negative
    #[arg(long, default_value = "customer")]
    kind: AccountKind,
    /// How far it may be overdrawn
    #[arg(long, value_name = "AMOUNT", default_value = "0")]
    overdraft_limit: String,
    /// Any number of name=value
    #[arg(long, value_name = "NAME=VALUE", value_parser = metadata::pair)]
    metadata: Vec<(String, String)>,
    /// The principal that it belongs to
    #[arg(long, value_name = "PRINCIPAL")]
    owner: Option<Client>,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast account show alice",
    "holdfast account show alice --format json",
))]
struct Show {
    /// Its id
    id: AccountId,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast account assign alice --owner alice@example.com --reason 'accounts from before access'",
))]
struct Assign {
    /// Ids of accounts
    #[arg(required = true)]
    ids: Vec<AccountId>,
    /// The principal: a token's subject, or the owner of keys
    #[arg(long, value_name = "PRINCIPAL")]
    owner: Client,
    #[command(flatten)]
    acting: ActingArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast account release-quarantine alice --reason 'books agree again' --dry-run",
    "holdfast account release-quarantine alice --reason 'books agree again'",
))]
struct Release {
    /// Its id
    id: AccountId,
    /// Also while its books do not agree; that is kept in the audit log
    #[arg(long)]
    force: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    acting: ActingArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast account list",
    "holdfast account list --prefix alice --status frozen --limit 500",
))]
struct List {
    /// Only ids that begin so
    #[arg(long)]
    prefix: Option<String>,
    /// Only this currency
    #[arg(long)]
    currency: Option<Currency>,
    /// Only active, frozen or closed ones
    #[arg(long)]
    status: Option<AccountStatus>,
    /// Only this principal's
    #[arg(long, value_name = "PRINCIPAL")]
    owner: Option<Client>,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is shown first of an account.
const FIRST: [&str; 10] = [
    "id",
    "owner",
    "status",
    "quarantined",
    "kind",
    "currency",
    "balance.posted",
    "balance.held",
    "balance.available",
    "overdraft_limit",
];

/// Runs one of them.
pub async fn run(command: AccountCommand, args: &ConfigArgs) -> Ended {
    match command.what {
        What::Create(command) => create(command, args).await,
        What::Show(command) => show(command, args).await,
        What::List(command) => list_accounts(command, args).await,
        What::Import(command) => account_import::run(command, args).await,
        What::Assign(command) => assign(command, args).await,
        What::ReleaseQuarantine(command) => release_quarantine(command, args).await,
        What::Limits(command) => account_limits::run(command, args).await,
    }
}

async fn create(command: Create, args: &ConfigArgs) -> Ended {
    let limit = Money::parse(&command.overdraft_limit, command.currency)
        .map_err(|error| Failure::Usage(format!("--overdraft-limit: {error}")))?;
    let request = AccountRequest {
        id: command.id,
        currency: command.currency,
        kind: command.kind,
        overdraft_limit: limit.minor(),
        metadata: command.metadata.into_iter().collect(),
        owner: command.owner,
    };
    let target = command.target.open(args, Opening::AnyShard).await?;
    let answers = target.ingress().create_accounts(vec![request]).await;
    let answer = answers.into_iter().next().expect("one answer a request");
    let Created { account, new } = target.accepted(answer).await?;
    if !new {
        eprintln!("holdfast: the account was there already, with the same attributes");
    }
    let shown = value(AccountAnswer::from(account));
    print(command.output.format, || fields(&FIRST, &shown), || shown.clone());
    Ok(Outcome::Fine)
}

async fn show(command: Show, args: &ConfigArgs) -> Ended {
    let target = command.target.open(args, Opening::AnyShard).await?;
    let shown = with_balance(&target, &command.id).await?;
    print(command.output.format, || fields(&FIRST, &shown), || shown.clone());
    Ok(Outcome::Fine)
}

/// The account, and its balance as its shard has it.
async fn with_balance(target: &Target, id: &AccountId) -> Result<Value, Failure> {
    let ingress = target.ingress();
    let account = target.accepted(ingress.account(id).await).await?;
    let balance = target.accepted(ingress.balance(id, true).await).await?;
    let mut shown = value(AccountAnswer::from(account));
    shown["balance"] = value(BalanceAnswer::from(balance));
    if shown["quarantined"] == json!(true) {
        let store = &target.context.store;
        let known = store.quarantine_of(store.map().shard_of(id), id).await?;
        shown["quarantine"] = operator::quarantined(known.as_ref());
    }
    Ok(shown)
}

async fn assign(command: Assign, args: &ConfigArgs) -> Ended {
    let actor = command.acting.operator.actor();
    let target = command.acting.target.open(args, Opening::AnyShard).await?;
    let mut data = Vec::with_capacity(command.ids.len());
    for id in &command.ids {
        let patch = AccountPatch { owner: Some(command.owner.clone()), ..AccountPatch::default() };
        let changed = target.ingress().patch_account(id, patch, &actor).await;
        data.push(value(AccountAnswer::from(target.accepted(changed).await?)));
    }
    let json = || json!({ "data": data });
    print(command.acting.output.format, || list(&["id", "owner", "status"], &data, None), json);
    Ok(Outcome::Fine)
}

async fn release_quarantine(command: Release, args: &ConfigArgs) -> Ended {
    let actor = command.acting.operator.actor_with_reason()?;
    let target = command.acting.target.open(args, Opening::AnyShard).await?;
    let id = &command.id;
    let Some(examined) = operator::examine(&target.context, id).await? else {
        let shown = json!({ "account": id, "result": "it is not in quarantine" });
        print(command.acting.output.format, || fields(&["account"], &shown), || shown.clone());
        return Ok(Outcome::Fine);
    };
    let refused = !examined.findings.is_empty() && !command.force;
    let result = if refused {
        "its books do not agree: repair them first, or say --force"
    } else if command.dry_run {
        "it would be released"
    } else if operator::release(&target.context, id, &examined, &actor).await? {
        "released"
    } else {
        "it was released meanwhile"
    };
    let shown = json!({
        "account": id,
        "result": result,
        "quarantine": operator::quarantined(examined.quarantine.as_ref()),
        "still_wrong": examined.findings.iter().map(value).collect::<Vec<_>>(),
    });
    print(
        command.acting.output.format,
        || fields(&["account", "result"], &shown),
        || shown.clone(),
    );
    if refused { Ok(Outcome::Found) } else { Ok(Outcome::Fine) }
}

async fn list_accounts(command: List, args: &ConfigArgs) -> Ended {
    let filter = AccountFilter {
        prefix: command.prefix,
        currency: command.currency,
        status: command.status,
        owner: command.owner,
    };
    let after: Option<AccountId> = command.page.position()?;
    let target = command.target.open(args, Opening::AllShards).await?;
    let found = target.ingress().accounts(&filter, after.as_ref(), command.page.limit).await;
    let found = target.accepted(found).await?;
    let next = found.last_if_more().map(|account| cursor(&account.row.id));
    let data: Vec<Value> =
        found.items.into_iter().map(|account| value(AccountAnswer::from(account))).collect();
    let columns = ["id", "currency", "kind", "status", "owner", ">overdraft_limit", "created_at"];
    let json = || json!({ "data": data, "next_cursor": next });
    print(command.output.format, || list(&columns, &data, next.as_deref()), json);
    Ok(Outcome::Fine)
}
