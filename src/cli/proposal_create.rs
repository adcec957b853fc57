//! `proposal create`: what can be proposed.

use super::exit::{Ended, Failure};
use super::operator::ActingArgs;
use super::proposal::{principal, show_one};
use super::target::Target;
use super::{ConfigArgs, examples};
use crate::domain::{
    AccountId, Currency, IdempotencyKey, LetterId, Limit, MAX_COUNT, Money, Operation, Period,
    TransferId,
};
use crate::proposals::{Asked, Proposals};
use crate::runtime::backend::Opening;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;

/// `proposal create`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast proposal create cancel-transfer 019b1c5e-7a10-7abc-9def-0123456789ab --reason 'fraud'",
    "holdfast proposal create change-limit alice 50.00 --reason 'asked for in writing'",
))]
pub struct Create {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// To end a transfer that is not credited
    CancelTransfer(CancelTransfer),
    /// To let a quarantined account make holds again
    ReleaseQuarantine(ReleaseQuarantine),
    /// To mark a dead letter as dealt with
    DiscardLetter(DiscardLetter),
    /// To give an account another overdraft limit
    ChangeLimit(ChangeLimit),
    /// To give an account other velocity limits
    ChangeVelocity(ChangeVelocity),
    /// To make a transfer from an external account
    Adjust(Adjust),
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast proposal create cancel-transfer 019b1c5e-7a10-7abc-9def-0123456789ab --reason 'fraud'",
))]
struct CancelTransfer {
    /// The transfer's id
    transfer: TransferId,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast proposal create release-quarantine alice --reason 'entered twice by hand, mended'",
))]
struct ReleaseQuarantine {
    /// The account's id
    account: AccountId,
    /// Also while its books do not agree
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast proposal create discard-letter 0.3.17 --reason 'of the old cluster'",
))]
struct DiscardLetter {
    /// Shard, partition and offset, as `dlq list` prints them
    letter: LetterId,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast proposal create change-limit alice 50.00 --reason 'asked for in writing'",
))]
struct ChangeLimit {
    /// The account's id
    account: AccountId,
    /// How far it may be overdrawn
    limit: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast proposal create change-velocity alice --limit day:100:1000.00 --limit minute:5: --reason 'a new contract'",
    "holdfast proposal create change-velocity alice --reason 'no limits any more'",
))]
struct ChangeVelocity {
    /// The account's id
    account: AccountId,
    /// minute, hour or day, the most transfers within it and the most that they may be together;
    /// either may be left out. These and no others: none at all where none is given
    #[arg(long, value_name = "PERIOD:COUNT:AMOUNT")]
    limit: Vec<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast proposal create adjust --source bank --destination alice --amount 5.00 --currency USD --reason 'a fee that was wrong'",
))]
struct Adjust {
    /// The external account that pays
    #[arg(long)]
    source: AccountId,
    /// The account that is paid
    #[arg(long)]
    destination: AccountId,
    /// How much
    #[arg(long)]
    amount: String,
    /// An ISO 4217 code such as USD
    #[arg(long)]
    currency: Currency,
    /// For the transfer
    #[arg(long, value_parser = description)]
    description: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct Common {
    /// The idempotency key: the same again finds the same proposal [default: made up]
    #[arg(long)]
    key: Option<IdempotencyKey>,
    #[command(flatten)]
    acting: ActingArgs,
}

fn description(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0..=255 => Ok(text.to_owned()),
        _ => Err("must be at most 255 characters".to_owned()),
    }
}

/// Runs it.
pub async fn run(command: Create, args: &ConfigArgs) -> Ended {
    match command.what {
        What::CancelTransfer(CancelTransfer { transfer, common }) => {
            let target = common.acting.target.open(args, Opening::AnyShard).await?;
            propose(&target, Operation::CancelTransfer(transfer), common).await
        }
        What::ReleaseQuarantine(ReleaseQuarantine { account, force, common }) => {
            let target = common.acting.target.open(args, Opening::AnyShard).await?;
            propose(&target, Operation::ReleaseQuarantine { account, force }, common).await
        }
        What::DiscardLetter(DiscardLetter { letter, common }) => {
            let target = common.acting.target.open(args, Opening::AnyShard).await?;
            propose(&target, Operation::DiscardLetter(letter), common).await
        }
        What::ChangeLimit(ChangeLimit { account, limit, common }) => {
            let target = common.acting.target.open(args, Opening::AnyShard).await?;
            let known = target.ingress().account(&account).await;
            let limit = money(&limit, target.accepted(known).await?.row.currency, "LIMIT")?;
            propose(&target, Operation::ChangeLimit { account, limit }, common).await
        }
        What::ChangeVelocity(ChangeVelocity { account, limit, common }) => {
            let target = common.acting.target.open(args, Opening::AnyShard).await?;
            let known = target.ingress().account(&account).await;
            let currency = target.accepted(known).await?.row.currency;
            let limits = velocity(&limit, currency)?;
            propose(&target, Operation::ChangeVelocity { account, currency, limits }, common).await
        }
        What::Adjust(command) => adjust(command, args).await,
    }
}

async fn adjust(command: Adjust, args: &ConfigArgs) -> Ended {
    let Adjust { source, destination, amount, currency, description, common } = command;
    let amount = money(&amount, currency, "--amount")?;
    if amount.minor() == 0 {
        return Err(Failure::Usage("--amount: must be over zero".to_owned()));
    }
    if source == destination {
        return Err(Failure::Usage("--destination: must differ from --source".to_owned()));
    }
    let target = common.acting.target.open(args, Opening::AnyShard).await?;
    propose(&target, Operation::Adjust { source, destination, amount, description }, common).await
}

/// Limits as `--limit` gives them.
fn velocity(given: &[String], currency: Currency) -> Result<BTreeMap<Period, Limit>, Failure> {
    let mut limits = BTreeMap::new();
    for text in given {
        let wrong = |what: String| Failure::Usage(format!("--limit {text}: {what}"));
        let parts: Vec<&str> = text.split(':').collect();
        let [period, count, amount] = parts[..] else {
            return Err(wrong("must be PERIOD:COUNT:AMOUNT, such as day:100:1000.00".to_owned()));
        };
        let period: Period = period.parse().map_err(wrong)?;
        let count = match count {
            "" => None,
            count => match count.parse() {
                Ok(count @ 0..=MAX_COUNT) => Some(count),
                _ => return Err(wrong(format!("COUNT must be from 0 to {MAX_COUNT}"))),
            },
        };
        let amount = match amount {
            "" => None,
            amount => Some(money(amount, currency, "--limit")?.minor()),
        };
        let limit = Limit::new(count, amount)
            .ok_or_else(|| wrong("needs COUNT, AMOUNT or both".to_owned()))?;
        if limits.insert(period, limit).is_some() {
            return Err(wrong(format!("there is another limit for this {}", period.as_str())));
        }
    }
    Ok(limits)
}

fn money(text: &str, currency: Currency, name: &str) -> Result<Money, Failure> {
    Money::parse(text, currency).map_err(|error| Failure::Usage(format!("{name}: {error}")))
}

async fn propose(target: &Target, operation: Operation, common: Common) -> Ended {
    let actor = common.acting.operator.actor_with_reason()?;
    let made_up = || -> IdempotencyKey {
        format!("{:032x}", rand::random::<u128>()).parse().expect("32 digits are a key")
    };
    let asked = Asked {
        by: principal(&common.acting.operator)?,
        key: common.key.unwrap_or_else(made_up),
        operation,
        reason: actor.reason.clone().unwrap_or_default(),
    };
    let (view, new) = Proposals::new(target.ingress()).propose(asked, &actor).await?;
    if !new {
        eprintln!("holdfast: this key was used before; this is what it had proposed");
    }
    show_one(common.acting.output, view)
}
