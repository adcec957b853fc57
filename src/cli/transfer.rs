//! `transfer`: the same as the API, straight to the store.

use super::exit::{Ended, Failure, Outcome};
use super::operator::ActingArgs;
use super::output::{OutputArgs, fields, list, print, value};
use super::target::{Target, TargetArgs};
use super::{ConfigArgs, PageArgs, PrincipalArgs, examples, metadata, transfer_import, waiting};
use crate::domain::{AccountId, Currency, IdempotencyKey, Money, Timestamp, TransferId};
use crate::ingress::http::{TimelineAnswer, TransferAnswer, cursor};
use crate::ingress::{
    Direction, ListedTransfer, TransferListing, TransferRequest, TransferView, ViewState,
};
use crate::operator;
use crate::runtime::backend::Opening;
use crate::store::TransferRecord;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::time::Duration;

/// `transfer`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast transfer create --source bank --destination alice --amount 25.00 --currency USD --key rent-2026-07 --wait 5s",
    "holdfast transfer show 019b1c5e-7a10-7abc-9def-0123456789ab",
    "holdfast transfer list --account alice --status held",
))]
pub struct TransferCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Ask for a transfer; the same key again finds the same transfer
    Create(Create),
    /// Show a transfer and what happened to it
    Show(One),
    /// List the transfers of an account, newest first
    List(List),
    /// Cancel a transfer that is not credited
    Cancel(Acting),
    /// Emit once more what holds for a transfer, for the workers to act on; harmless
    Retry(Acting),
    /// Ask for the transfers of a CSV file; the same file again finds the same transfers
    Import(transfer_import::Import),
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast transfer create --source bank --destination alice --amount 25.00 --currency USD --key rent-2026-07",
    "holdfast transfer create --source a --destination b --amount 3 --currency JPY --key k1 --wait 5s --format json",
))]
struct Create {
    /// The account that pays
    #[arg(long, value_name = "ACCOUNT")]
    source: AccountId,
    /// The account that is paid
    #[arg(long, value_name = "ACCOUNT")]
    destination: AccountId,
    /// How much, such as 25.00
    #[arg(long)]
    amount: String,
    /// An ISO 4217 code such as USD
    #[arg(long)]
    currency: Currency,
    /// Idempotency key: name the payment, so that it is made once however often this is run
    #[arg(long)]
    key: IdempotencyKey,
    /// Up to 255 characters
    #[arg(long, value_parser = at_most::<255>)]
    description: Option<String>,
    /// Up to 64 characters
    #[arg(long, value_parser = at_most::<64>)]
    reference: Option<String>,
    /// Any number of name=value
    #[arg(long, value_name = "NAME=VALUE", value_parser = metadata::pair)]
    metadata: Vec<(String, String)>,
    /// How long to wait for its end, such as 5s
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    wait: Duration,
    #[command(flatten)]
    principal: PrincipalArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast transfer show 019b1c5e-7a10-7abc-9def-0123456789ab",
    "holdfast transfer show 019b1c5e-7a10-7abc-9def-0123456789ab --format json",
))]
struct One {
    /// Its id
    id: TransferId,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast transfer cancel 019b1c5e-7a10-7abc-9def-0123456789ab --dry-run",
    "holdfast transfer cancel 019b1c5e-7a10-7abc-9def-0123456789ab --reason 'asked for by phone'",
    "holdfast transfer retry 019b1c5e-7a10-7abc-9def-0123456789ab",
))]
struct Acting {
    /// Its id
    id: TransferId,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    acting: ActingArgs,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast transfer list --account alice",
    "holdfast transfer list --account alice --direction out --status held",
    "holdfast transfer list --account alice --key rent-2026-07",
))]
struct List {
    /// The account
    #[arg(long)]
    account: AccountId,
    /// out or in
    #[arg(long)]
    direction: Option<Direction>,
    /// requested, held, credited, committed, rejected or cancelled
    #[arg(long)]
    status: Option<ViewState>,
    /// Accepted at or after this time, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Accepted before this time
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// Only those out of the account with this reference
    #[arg(long, conflicts_with_all = ["direction", "status", "from", "to", "key"])]
    reference: Option<String>,
    /// Only the one out of the account with this idempotency key
    #[arg(long, conflicts_with_all = ["direction", "status", "from", "to", "cursor"])]
    key: Option<IdempotencyKey>,
    #[command(flatten)]
    principal: PrincipalArgs,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is shown first of a transfer.
const FIRST: [&str; 7] = ["id", "status", "reason", "source", "destination", "amount", "currency"];

/// Runs one of them.
pub async fn run(command: TransferCommand, args: &ConfigArgs) -> Ended {
    match command.what {
        What::Create(command) => create(command, args).await,
        What::Show(command) => show(command, args).await,
        What::List(command) => list_transfers(command, args).await,
        What::Cancel(command) => cancel(command, args).await,
        What::Retry(command) => retry(command, args).await,
        What::Import(command) => transfer_import::run(command, args).await,
    }
}

fn at_most<const MOST: usize>(text: &str) -> Result<String, String> {
    if text.chars().count() <= MOST {
        Ok(text.to_owned())
    } else {
        Err(format!("must be at most {MOST} characters"))
    }
}

impl Create {
    fn request(&self) -> Result<TransferRequest, Failure> {
        let amount = Money::parse(&self.amount, self.currency)
            .map_err(|error| Failure::Usage(format!("--amount: {error}")))?;
        if amount.minor() == 0 {
            return Err(Failure::Usage("--amount: must be over zero".to_owned()));
        }
        if self.source == self.destination {
            return Err(Failure::Usage("--destination: must differ from --source".to_owned()));
        }
        let metadata = self.metadata.iter().cloned().collect();
        Ok(TransferRequest {
            client: self.principal.client.clone(),
            key: self.key.clone(),
            source: self.source.clone(),
            destination: self.destination.clone(),
            amount,
            currency_given: true,
            description: self.description.clone(),
            reference: self.reference.clone(),
            metadata: (!self.metadata.is_empty()).then_some(metadata),
            reverses: None,
            traceparent: None,
        })
    }
}

async fn create(command: Create, args: &ConfigArgs) -> Ended {
    let request = command.request()?;
    let target = command.target.open(args, Opening::AnyShard).await?;
    let ingress = target.ingress();
    let submitted = target.accepted(ingress.submit(request).await).await?;
    if submitted.replayed {
        eprintln!("holdfast: this key was used before; this is the transfer it made");
    }
    let waited = ingress.wait_final(submitted.transfer, command.wait).await;
    let view = TransferView::from(target.accepted(waited).await?);
    let shown = value(TransferAnswer::from(view));
    print(command.output.format, || fields(&FIRST, &shown), || shown.clone());
    Ok(Outcome::Fine)
}

async fn show(command: One, args: &ConfigArgs) -> Ended {
    let target = command.target.open(args, Opening::AnyShard).await?;
    let ingress = target.ingress();
    let transfer = target.accepted(ingress.transfer(command.id).await).await?;
    let timeline = target.accepted(ingress.timeline(command.id).await).await?;
    if !timeline.complete {
        eprintln!("holdfast: the destination's shard does not answer; its step is missing");
    }
    let credited = timeline.events.iter().any(|event| event.stage == "credit");
    let record = target.accepted(ingress.transfer_record(command.id).await).await?;
    let waiting = waiting::look(&target.context, target.services, &record, credited).await;
    let shown = value(TransferAnswer::from(transfer));
    let events: Vec<Value> =
        timeline.events.into_iter().map(|event| value(TimelineAnswer::from(event))).collect();
    let columns =
        ["at", "event", "stage", "shard", "topic", "partition", "offset", "attempt", "detail"];
    let why = waiting.as_ref().map(|waiting| format!("\n{}", waiting.text())).unwrap_or_default();
    let table = || format!("{}\n{}{why}", fields(&FIRST, &shown), list(&columns, &events, None));
    let json = || {
        let mut json = shown.clone();
        json["timeline"] = json!(events);
        if let Some(waiting) = &waiting {
            json["waiting"] = json!(waiting);
        }
        json
    };
    print(command.output.format, table, json);
    Ok(Outcome::Fine)
}

async fn cancel(command: Acting, args: &ConfigArgs) -> Ended {
    let target = command.acting.target.open(args, Opening::AnyShard).await?;
    if command.dry_run {
        let would = target.accepted(target.ingress().would_cancel(command.id).await).await?;
        let transfer = target.accepted(target.ingress().transfer(command.id).await).await?;
        say_what_would_be_done(&command, transfer, would);
        return Ok(Outcome::Fine);
    }
    let actor = command.acting.operator.actor();
    let cancelled = target.accepted(target.ingress().cancel_by(command.id, &actor).await).await?;
    let shown = value(TransferAnswer::from(TransferView::from(cancelled.transfer)));
    print(command.acting.output.format, || fields(&FIRST, &shown), || shown.clone());
    Ok(Outcome::Fine)
}

async fn retry(command: Acting, args: &ConfigArgs) -> Ended {
    let target = command.acting.target.open(args, Opening::AnyShard).await?;
    if command.dry_run {
        let stage = operator::stage(&target.context, command.id).await?;
        let would = format!("emit {} once more", stage.kind.as_str());
        say_what_would_be_done(&command, TransferView::from(stage.transfer), &would);
        return Ok(Outcome::Fine);
    }
    let actor = command.acting.operator.actor();
    let stage = operator::retry(&target.context, command.id, &actor).await?;
    let mut shown = value(TransferAnswer::from(TransferView::from(stage.transfer)));
    shown["emitted"] = json!(stage.kind.as_str());
    print(command.acting.output.format, || fields(&FIRST, &shown), || shown.clone());
    Ok(Outcome::Fine)
}

fn say_what_would_be_done(command: &Acting, transfer: TransferView, would: &str) {
    let mut shown = value(TransferAnswer::from(transfer));
    shown["would"] = json!(would);
    print(command.acting.output.format, || fields(&FIRST, &shown), || shown.clone());
}

async fn list_transfers(command: List, args: &ConfigArgs) -> Ended {
    let target = command.target.open(args, Opening::AnyShard).await?;
    let (found, next) = find(&command, &target).await?;
    let data: Vec<Value> =
        found.into_iter().filter_map(TransferAnswer::listed).map(value).collect();
    let columns =
        ["id", "status", "source", "destination", ">amount", "currency", "reason", "updated_at"];
    let json = || json!({ "data": data, "next_cursor": next });
    print(command.output.format, || list(&columns, &data, next.as_deref()), json);
    Ok(Outcome::Fine)
}

type Page = (Vec<ListedTransfer>, Option<String>);

fn outgoing(record: TransferRecord) -> ListedTransfer {
    ListedTransfer::Outgoing(Box::new(record))
}

async fn find(command: &List, target: &Target) -> Result<Page, Failure> {
    let (ingress, account, limit) = (target.ingress(), &command.account, command.page.limit);
    if let Some(key) = &command.key {
        let found = ingress.transfer_by_key(&command.principal.client, account, key).await;
        let found = target.accepted(found).await?;
        return Ok((found.into_iter().map(outgoing).collect(), None));
    }
    if let Some(reference) = command.reference.clone() {
        let before = command.page.position()?;
        let found = ingress.transfers_by_reference(account, reference, before, limit).await;
        let found = target.accepted(found).await?;
        let next = found.last_if_more().map(|record| cursor(&record.row.terms.id));
        return Ok((found.items.into_iter().map(outgoing).collect(), next));
    }
    let listing = TransferListing {
        direction: command.direction,
        status: command.status,
        from: command.from,
        to: command.to,
        before: command.page.position()?.unwrap_or_default(),
    };
    let found = ingress.account_transfers(account, &listing, limit).await;
    let (transfers, end) = target.accepted(found).await?;
    Ok((transfers, end.as_ref().map(cursor)))
}
