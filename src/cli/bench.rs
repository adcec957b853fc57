//! `bench`: load on a running Holdfast, and what its callers saw.

use super::exit::{Ended, Failure, Outcome};
use super::output::{Format, OutputArgs, write};
use super::{ConfigArgs, bench_ceiling, examples};
use crate::bench::{Api, Load, Row, replay, steady};
use anyhow::Context as _;
use bench_ceiling::CeilingCommand;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `bench`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, after_help = examples!(
    "holdfast bench --rate 100 --duration 30s          single transfers, open loop",
    "holdfast bench --csv transfers.csv --batch 1000   a file through the batch call",
    "holdfast bench --rate 300 --format json           for a script",
))]
pub struct BenchCommand {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    load: LoadArgs,
}

/// What can be measured besides.
#[derive(Subcommand, Debug)]
enum Other {
    /// Measure what MySQL alone can do: a plain stored procedure, and the pipeline's rows
    Ceiling(CeilingCommand),
}

/// The load, where nothing else is measured.
#[derive(Args, Debug)]
struct LoadArgs {
    /// Where Holdfast listens
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Single transfers a second
    #[arg(long, default_value = "100", value_parser = positive)]
    rate: f64,
    /// For how long
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Between how many accounts, which it creates and funds
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    accounts: u32,
    /// In which currency
    #[arg(long, default_value = "USD")]
    currency: crate::domain::Currency,
    /// Instead: send these transfers (source,destination,amount,currency,idempotency_key), between
    /// accounts that exist
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// With --csv: transfers a request
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
    /// With --csv: requests at once
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    #[command(flatten)]
    output: OutputArgs,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1_000_000.0 => Ok(rate),
        _ => Err("a rate is a number over 0, at most 1000000".to_owned()),
    }
}

/// Drives the load and prints what came of it.
pub async fn run(command: BenchCommand, args: &ConfigArgs) -> Ended {
    match command.other {
        Some(Other::Ceiling(ceiling)) => bench_ceiling::run(ceiling, args).await,
        None => load(command.load).await,
    }
}

async fn load(command: LoadArgs) -> Ended {
    let api = Api::new(&command.url)?;
    let report = match &command.csv {
        Some(file) => {
            let rows = rows(file)?;
            replay(&api, &rows, command.batch.into(), command.concurrency.into()).await?
        }
        None => {
            let load = Load {
                rate: command.rate,
                duration: command.duration,
                accounts: command.accounts,
                currency: command.currency.to_string(),
                name: format!("bench-{:08x}", rand::random::<u32>()),
            };
            steady(&api, &load).await?
        }
    };
    match command.output.format {
        Format::Table => write(&report.table()),
        Format::Json => write(&(report.json() + "\n")),
    }
    Ok(Outcome::Fine)
}

fn rows(file: &Path) -> Result<Vec<Row>, Failure> {
    let opened = csv::Reader::from_path(file);
    let mut reader = opened.with_context(|| format!("cannot open {}", file.display()))?;
    let rows: Result<Vec<Row>, csv::Error> = reader.deserialize().collect();
    Ok(rows.with_context(|| format!("{} cannot be read", file.display()))?)
}

/// A line on stderr that says what is going on, where somebody looks at it.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Hidden where stderr is not a terminal.
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
        bar.set_style(style.expect("the template is valid"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// What is being done.
    pub(super) fn say(&self, words: &str) {
        self.0.set_message(words.to_owned());
    }

    /// Takes the line away.
    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}
