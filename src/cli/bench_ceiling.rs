//! `bench ceiling`: what MySQL alone can do, to compare Holdfast's figures with.

use super::bench::{self, Progress};
use super::exit::{Ended, Failure, Outcome};
use super::output::{OutputArgs, print, value};
use super::{ConfigArgs, examples};
use crate::bench::ceiling::{Ceiling, ceiling};
use crate::bench::mysql::Server;
use crate::config::{self, Sources};
use crate::runtime::stop;
use clap::Args;
use std::time::Duration;

/// `bench ceiling`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast bench ceiling --mysql mysql://root@127.0.0.1:3306 --mysql mysql://root@127.0.0.1:3307",
    "holdfast bench ceiling --duration 60s --format json    on the servers of the configured shards",
))]
pub struct CeilingCommand {
    /// A server, once for each shard; its user must be able to create databases. The first one is
    /// where `naive` runs [default: those of the configured shards]
    #[arg(long, value_name = "URL")]
    mysql: Vec<String>,
    /// How long each of the two yardsticks is measured
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How long each runs before that
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    warmup: Duration,
    /// Between how many accounts
    #[arg(long, default_value = "10000", value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    accounts: u32,
    /// Over how many connections the stored procedure is called
    #[arg(long, default_value = "32", value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// Transfers of one transaction of `rows`
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u16).range(1..=5000))]
    batch: u16,
    #[command(flatten)]
    output: OutputArgs,
}

/// Measures and prints.
pub async fn run(command: CeilingCommand, args: &ConfigArgs) -> Ended {
    let servers = servers(&command.mysql, args)?;
    let stop = stop::on_signal()?;
    let what = Ceiling {
        servers,
        duration: command.duration,
        warmup: command.warmup,
        accounts: command.accounts,
        connections: command.connections,
        batch: command.batch.into(),
    };
    let progress = Progress::new();
    let report = ceiling(&what, &stop, &|words| progress.say(words)).await;
    progress.end();
    let report = report?;
    print(command.output.format, || report.table(), || value(&report));
    Ok(Outcome::Fine)
}

fn servers(given: &[String], args: &ConfigArgs) -> Result<Vec<Server>, Failure> {
    if !given.is_empty() {
        let parse = |url: &String| {
            Server::new(url).map_err(|error| Failure::Usage(format!("--mysql: {error:#}")))
        };
        return given.iter().map(parse).collect();
    }
    let loaded = config::load(&Sources::of_process(args.config.clone(), Vec::new()));
    let config = loaded.config.map_err(Failure::Configuration)?;
    if config.mysql.is_none() {
        let words =
            "name a server with --mysql mysql://user:password@host:port, once for each shard";
        return Err(Failure::Usage(words.to_owned()));
    }
    Ok(bench::servers(&config)?)
}
