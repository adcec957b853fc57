//! `account limits`: the velocity limits of an account, shown, set and removed.

use super::exit::{Ended, Failure, Outcome};
use super::operator::ActingArgs;
use super::output::{list, print, value};
use super::{ConfigArgs, examples};
use crate::domain::{AccountId, Currency, Limit, MAX_COUNT, Money, Period};
use crate::ingress::VelocityChange;
use crate::ingress::http::LimitsAnswer;
use crate::runtime::backend::Opening;
use clap::Args;
use std::collections::BTreeMap;

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast account limits alice",
    "holdfast account limits alice --per day --max-amount 1000.00",
    "holdfast account limits alice --per minute --max-count 5 --max-amount 100.00",
    "holdfast account limits alice --per minute --remove",
    "holdfast account limits alice --remove",
))]
pub struct Limits {
    /// Its id
    id: AccountId,
    /// minute, hour or day: which limit to set or to remove
    #[arg(long)]
    per: Option<Period>,
    /// The most transfers out of it within that time
    #[arg(long, value_name = "N", requires = "per", conflicts_with = "remove",
        value_parser = clap::value_parser!(i64).range(0..=MAX_COUNT))]
    max_count: Option<i64>,
    /// The most that they may be together
    #[arg(long, value_name = "AMOUNT", requires = "per", conflicts_with = "remove")]
    max_amount: Option<String>,
    /// Remove the limit of that time; all limits where none is named
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    acting: ActingArgs,
}

impl Limits {
    /// What is to be changed, if anything.
    fn change(&self, currency: Currency) -> Result<Option<VelocityChange>, Failure> {
        Ok(match (self.per, self.remove) {
            (None, false) => None,
            (None, true) => Some(VelocityChange::Replace(BTreeMap::new())),
            (Some(period), true) => Some(VelocityChange::Remove(period)),
            (Some(period), false) => Some(VelocityChange::Set(period, self.limit(currency)?)),
        })
    }

    fn limit(&self, currency: Currency) -> Result<Limit, Failure> {
        let parse = |text: &String| {
            Money::parse(text, currency)
                .map(Money::minor)
                .map_err(|error| Failure::Usage(format!("--max-amount: {error}")))
        };
        let amount = self.max_amount.as_ref().map(parse).transpose()?;
        Limit::new(self.max_count, amount).ok_or_else(|| {
            Failure::Usage("--per needs --max-count, --max-amount or --remove".to_owned())
        })
    }
}

/// Shows the limits, or changes them and shows them then.
pub async fn run(command: Limits, args: &ConfigArgs) -> Ended {
    let target = command.acting.target.open(args, Opening::AnyShard).await?;
    let ingress = target.ingress();
    let account = target.accepted(ingress.account(&command.id).await).await?;
    let view = match command.change(account.row.currency)? {
        None => ingress.velocity(&command.id).await,
        Some(change) => {
            ingress.set_velocity(&command.id, &change, &command.acting.operator.actor()).await
        }
    };
    let shown = value(LimitsAnswer::from(target.accepted(view).await?));
    let limits = shown["data"].as_array().cloned().unwrap_or_default();
    let columns =
        ["period", ">max_count", ">used_count", ">max_amount", ">used_amount", "window_start"];
    print(command.acting.output.format, || list(&columns, &limits, None), || shown.clone());
    Ok(Outcome::Fine)
}
