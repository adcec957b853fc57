//! `bench reads`: how long reads take, beside whatever load there is.

use super::bench::{Progress, duration, prefix};
use super::examples;
use super::exit::{Ended, Failure, Outcome};
use super::output::{OutputArgs, print, value};
use crate::bench::cost::{GENERATOR, HOLDFAST, Measured};
use crate::bench::metrics::Scraper;
use crate::bench::reads::{Reads, reads};
use crate::bench::{Credential, Target};
use crate::domain::AccountId;
use crate::runtime::stop;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// `bench reads`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast bench reads --rate 50 --duration 60s",
    "holdfast bench reads --account merchant-1 --accounts 10000 --format json",
))]
pub struct ReadsCommand {
    /// Where Holdfast listens
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// A file with the API key or token to show; its principal must see the accounts and metrics
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Reads a second of each of the four kinds, whatever the answers do
    #[arg(long, default_value = "50", value_parser = rate)]
    rate: f64,
    /// For how long, after the warm-up
    #[arg(long, default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// For how long the same is read before that, and left out of the figures
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    warmup: Duration,
    /// Connections of each kind, each with one request at a time
    #[arg(long, default_value = "32", value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// Whose history is read; it is walked to its end first [default: number 0 of the accounts,
    /// the hot one of the hot mixes]
    #[arg(long)]
    account: Option<AccountId>,
    /// Of how many accounts balances are read; they exist
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    accounts: u32,
    /// Begins their names
    #[arg(long, value_name = "PREFIX", default_value = "bench", value_parser = prefix)]
    accounts_prefix: String,
    #[command(flatten)]
    output: OutputArgs,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 100_000.0 => Ok(rate),
        _ => Err("a rate is a number over 0, at most 100000".to_owned()),
    }
}

/// Reads and prints.
pub async fn run(command: ReadsCommand) -> Ended {
    let target =
        Target::new(&command.url).map_err(|error| Failure::Usage(format!("--url: {error}")))?;
    let credential = Credential::of_file(command.key_file.as_deref())?;
    let target = target.shown(credential.clone());
    let mut measured = Measured::new(GENERATOR, &[]);
    measured.processes.add_listener(HOLDFAST, &target.address());
    let scraper = Scraper::new(std::slice::from_ref(&command.url), &credential)?;
    let prefix = command.accounts_prefix;
    let what = Reads {
        target,
        rate: command.rate,
        warmup: command.warmup,
        duration: command.duration,
        connections: command.connections.into(),
        account: command.account.map_or_else(|| format!("{prefix}-{:07}", 0), |id| id.to_string()),
        accounts: command.accounts,
        prefix,
    };
    let stop = stop::on_signal()?;
    let progress = Progress::new();
    let report = reads(&what, &scraper, &measured, &stop, &|words| progress.say(words)).await;
    progress.end();
    let report = report?;
    print(command.output.format, || report.table(), || value(&report));
    Ok(Outcome::Fine)
}
