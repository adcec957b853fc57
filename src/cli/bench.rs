//! `bench`: load on a running Holdfast, and what its callers saw.

use super::bench_ceiling::{self, CeilingCommand};
use super::bench_reads::{self, ReadsCommand};
use super::bench_stages::{self, StagesCommand};
use super::exit::{Ended, Failure, Outcome};
use super::output::{OutputArgs, print, value};
use super::target::TargetArgs;
use super::{ConfigArgs, examples};
use crate::bench::cost::{GENERATOR, HOLDFAST, Measured};
use crate::bench::load::{Instruments, Load, LoadReport, Mix, Pace, load};
use crate::bench::metrics::Scraper;
use crate::bench::mysql::Server;
use crate::bench::process::Processes;
use crate::bench::replay::{ReplayReport, Row, replay};
use crate::bench::{Api, Credential, Target};
use crate::config::Config;
use crate::domain::AccountId;
use crate::routing::ShardMap;
use crate::runtime::backend::Opening;
use crate::runtime::stop;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For how long where nothing is said.
const A_RUN: Duration = Duration::from_secs(30);

/// `bench`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, after_help = examples!(
    "holdfast bench --rate 1000 --duration 60s             single transfers, open loop",
    "holdfast bench --rate max --batch 500                 as many as it takes, closed loop",
    "holdfast bench --rate max --batch 500 --transfers 1000000",
    "holdfast bench --rate 500 --mix zipf --skew 1.2       some accounts more than others",
    "holdfast bench --rate 500 --mix hot-destination --hot-share 1",
    "holdfast bench --csv transfers.csv --batch 1000       a file through the batch call",
    "holdfast bench --rate 300 --format json               for a script",
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
    /// Measure histories, balances and lookups by id, beside whatever load there is
    Reads(ReadsCommand),
    /// Measure each stage of the pipeline alone, on configured services and with no role running
    Stages(StagesCommand),
}

/// The load, where nothing else is measured.
#[derive(Args, Debug)]
struct LoadArgs {
    /// Where Holdfast listens
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// A file with the API key or token to show; its principal must see the accounts and metrics
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Transfers a second, whatever the answers do; or `max`: each connection sends the next
    /// request when the last is answered
    #[arg(long, default_value = "100", value_parser = pace)]
    rate: Pace,
    /// For how long, after the warm-up [default: 30s; with --transfers until there are so many]
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Until so many were accepted after the warm-up; those under way by then still come on top
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    transfers: Option<u64>,
    /// For how long the same is sent before that, and left out of the figures
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    warmup: Duration,
    /// How long the ends of what was accepted are waited for
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    drain: Duration,
    /// Transfers a request: 1 is the single call, more is the batch call [default: 1; with --csv
    /// 1000]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: Option<u16>,
    /// Connections, each with one request at a time [default: 128; with batches 8]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: Option<u16>,
    /// Between how many accounts, which it creates; each may owe as much as it likes
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(3..=10_000_000))]
    accounts: u32,
    /// Begins the names of the accounts; those that exist are used again
    #[arg(long, value_name = "PREFIX", default_value = "bench", value_parser = prefix)]
    accounts_prefix: String,
    /// The accounts are there: do not create them
    #[arg(long)]
    reuse: bool,
    /// In which currency
    #[arg(long, default_value = "USD")]
    currency: crate::domain::Currency,
    /// uniform, zipf, hot-source or hot-destination
    #[arg(long, default_value = "uniform")]
    mix: Mix,
    /// With `zipf`: the exponent. The account of rank k pays and is paid in proportion to 1/k^SKEW
    #[arg(long, default_value = "1.0", value_parser = skew)]
    skew: f64,
    /// With hot mixes: the share of all transfers that touch the one hot account, 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0.5", value_parser = share)]
    hot_share: f64,
    /// The share of all transfers that leave their source's shard, 0 to 1. Needs to know the shards:
    /// from the configuration, or from --data [default: as it comes]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    cross_shard: Option<f64>,
    /// The share of the transfers that are followed to their end, 0 to 1; at most 100 a second are
    #[arg(long, value_name = "SHARE", default_value = "0.01", value_parser = share)]
    sample: f64,
    /// Send again what was answered with 503 or not at all
    #[arg(long)]
    retry: bool,
    /// Where a process of Holdfast shows its counters, once for each that ends transfers [default:
    /// that of --url]
    #[arg(long, value_name = "URL")]
    metrics: Vec<String>,
    /// A process whose processor time is to be in the report, in the place of the one found under
    /// this name: holdfast, mysql, kafka, redis or another
    #[arg(long, value_name = "NAME=PID", value_parser = process)]
    process: Vec<(String, u32)>,
    /// Instead: send these transfers (source,destination,amount,currency,idempotency_key), between
    /// accounts that exist
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// With --csv: requests at once
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

fn pace(text: &str) -> Result<Pace, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1_000_000.0 => Ok(Pace::Rate(rate)),
        _ if text == "max" => Ok(Pace::Max),
        _ => Err("a rate is a number over 0, at most 1000000, or max".to_owned()),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("it must be over 0s".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 1".to_owned()),
    }
}

fn skew(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(skew) if (0.0..=10.0).contains(&skew) => Ok(skew),
        _ => Err("a skew is a number from 0 to 10".to_owned()),
    }
}

/// Names of accounts and keys begin with it: letters, digits and what an account's id may have
/// besides.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    match (text.parse::<AccountId>(), text.len()) {
        (Ok(_), ..=40) => Ok(text.to_owned()),
        _ => {
            Err("a prefix has 1 to 40 characters of A-Z a-z 0-9 . _ : - and begins with a letter \
                or digit"
                .to_owned())
        }
    }
}

fn process(text: &str) -> Result<(String, u32), String> {
    let named = text.split_once('=').and_then(|(name, pid)| Some((name, pid.parse().ok()?)));
    match named {
        Some((name, pid)) if !name.is_empty() => Ok((name.to_owned(), pid)),
        _ => Err("it must be a name and a process id, such as mysql=4711".to_owned()),
    }
}

/// Drives the load and prints what came of it.
pub async fn run(command: BenchCommand, args: &ConfigArgs) -> Ended {
    match command.other {
        Some(Other::Ceiling(ceiling)) => bench_ceiling::run(ceiling, args).await,
        Some(Other::Reads(reads)) => bench_reads::run(reads).await,
        Some(Other::Stages(stages)) => bench_stages::run(stages, args).await,
        None => run_load(command.load, args).await,
    }
}

async fn run_load(command: LoadArgs, args: &ConfigArgs) -> Ended {
    let format = command.output.format;
    if let Some(file) = &command.csv {
        let report = send_file(&command, file).await?;
        print(format, || report.table(), || report.json());
        return Ok(Outcome::Fine);
    }
    let report = send_load(&command, args).await?;
    print(format, || report.table(), || value(&report));
    Ok(Outcome::Fine)
}

async fn send_file(command: &LoadArgs, file: &Path) -> Result<ReplayReport, Failure> {
    let credential = Credential::of_file(command.key_file.as_deref())?;
    let (api, rows) = (Api::new(&command.url, &credential)?, rows(file)?);
    let batch = command.batch.unwrap_or(1000).into();
    Ok(replay(&api, &rows, batch, command.concurrency.into()).await?)
}

async fn send_load(command: &LoadArgs, args: &ConfigArgs) -> Result<LoadReport, Failure> {
    let target =
        Target::new(&command.url).map_err(|error| Failure::Usage(format!("--url: {error}")))?;
    let credential = Credential::of_file(command.key_file.as_deref())?;
    let target = target.shown(credential.clone());
    let config = command.target.configure(args)?;
    let instruments = instruments(command, args, &config, &target, &credential).await?;
    let what = what(command, target);
    let stop = stop::on_signal()?;
    let progress = Progress::new();
    let report = load(&what, &instruments, &stop, &|words| progress.say(words)).await;
    progress.end();
    Ok(report?)
}

fn what(command: &LoadArgs, target: Target) -> Load {
    let batch: usize = command.batch.unwrap_or(1).into();
    let connections = command.connections.map_or(if batch == 1 { 128 } else { 8 }, usize::from);
    Load {
        target,
        pace: command.rate,
        batch,
        connections,
        warmup: command.warmup,
        duration: command.duration.or(command.transfers.is_none().then_some(A_RUN)),
        transfers: command.transfers,
        drain: command.drain,
        accounts: command.accounts,
        prefix: command.accounts_prefix.clone(),
        reuse: command.reuse,
        currency: command.currency.to_string(),
        mix: command.mix,
        skew: command.skew,
        hot_share: command.hot_share,
        cross_shard: command.cross_shard,
        sample: command.sample,
        retry: command.retry,
    }
}

async fn instruments(
    command: &LoadArgs,
    args: &ConfigArgs,
    config: &Config,
    target: &Target,
    credential: &Credential,
) -> Result<Instruments, Failure> {
    let mut measured = Measured::new(GENERATOR, &servers(config)?);
    let processes = &mut measured.processes;
    processes.add_listener(HOLDFAST, &target.address());
    add_services(config, processes);
    let mut named: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (name, pid) in &command.process {
        named.entry(name).or_default().push(*pid);
    }
    for (name, pids) in named {
        processes.replace(name, pids);
    }
    let metrics = [command.url.clone()];
    let metrics = if command.metrics.is_empty() { &metrics[..] } else { &command.metrics };
    Ok(Instruments {
        api: Api::new(&command.url, credential)?,
        scraper: Scraper::new(metrics, credential)?,
        measured,
        map: map(command, args, config).await?,
    })
}

/// The servers of the configured shards, one for each shard.
pub(super) fn servers(config: &Config) -> anyhow::Result<Vec<Server>> {
    let shards = config.mysql.iter().flat_map(|mysql| &mysql.shards);
    shards.map(|url| Server::new(url.expose())).collect()
}

/// The configured services beside MySQL.
pub(super) fn add_services(config: &Config, processes: &mut Processes) {
    if config.mysql.is_none() {
        return;
    }
    for broker in &config.kafka.brokers {
        processes.add_listener("kafka", broker);
    }
    if let Some(redis) = &config.redis {
        processes.add_listener("redis", &address_of(redis.url.expose()));
    }
}

/// `host:port` of a Redis.
fn address_of(url: &str) -> String {
    let url = url::Url::parse(url).ok();
    let host = url.as_ref().and_then(url::Url::host_str).unwrap_or("127.0.0.1");
    format!("{host}:{}", url.as_ref().and_then(url::Url::port).unwrap_or(6379))
}

/// The shard map, where the shards are configured or asked for.
async fn map(
    command: &LoadArgs,
    args: &ConfigArgs,
    config: &Config,
) -> Result<Option<ShardMap>, Failure> {
    if config.mysql.is_none() && command.cross_shard.is_none() {
        return Ok(None);
    }
    let opened = command.target.open(args, Opening::AnyShard).await;
    let map = match (opened, command.cross_shard) {
        (Ok(target), _) => target.context.store.map().clone(),
        (Err(_), None) => return Ok(None),
        (Err(Failure::Running(error)), Some(_)) => {
            return Err(Failure::Running(error.context(
                "--cross-shard needs to know the shards: set HOLDFAST_MYSQL_SHARDS, or name the \
                 embedded store with --data",
            )));
        }
        (Err(failure), Some(_)) => return Err(failure),
    };
    if command.cross_shard.is_some_and(|share| share > 0.0) && map.shards() == 1 {
        let words = "--cross-shard: there is one shard, nothing can leave it".to_owned();
        return Err(Failure::Usage(words));
    }
    Ok(Some(map))
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
