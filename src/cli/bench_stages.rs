//! `bench stages`: each stage of the pipeline alone.

use super::bench::{Progress, add_services, servers};
use super::exit::{Ended, Failure, Outcome};
use super::output::{OutputArgs, print, value};
use super::{ConfigArgs, examples};
use crate::bench::cost::{HOLDFAST, Measured};
use crate::bench::stages::{Stages, stages};
use crate::config::{self, Sources};
use crate::context::Policy;
use crate::runtime::backend::{self, Opening};
use crate::runtime::stop;
use crate::telemetry::{self, Metrics};
use clap::Args;
use std::sync::Arc;
use std::time::Duration;

/// Everything is accepted before anything is held.
const PATIENT: Duration = Duration::from_secs(86_400);

/// `bench stages`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast bench stages",
    "holdfast bench stages --transfers 100000 --format json",
))]
pub struct StagesCommand {
    /// How many transfers
    #[arg(long, default_value = "20000", value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    transfers: u32,
    /// Between how many accounts, which it creates
    #[arg(long, default_value = "10000", value_parser = clap::value_parser!(u32).range(3..=1_000_000))]
    accounts: u32,
    #[command(flatten)]
    output: OutputArgs,
}

/// Measures and prints.
pub async fn run(command: StagesCommand, args: &ConfigArgs) -> Ended {
    let loaded = config::load(&Sources::of_process(args.config.clone(), Vec::new()));
    let config = loaded.config.map_err(Failure::Configuration)?;
    telemetry::start_log(config.log, "warn");
    if config.mysql.is_none() {
        let words = "bench stages works on configured shards and Kafka: set HOLDFAST_MYSQL_SHARDS \
            and HOLDFAST_KAFKA_BROKERS, and stop every role";
        return Err(Failure::Usage(words.to_owned()));
    }
    let mut measured = Measured::new(HOLDFAST, &servers(&config)?);
    add_services(&config, &mut measured.processes);
    let shown = Metrics::start()?.render();
    let backend = backend::open_for_command(&config, Opening::AllShards).await?;
    let policy =
        Policy { hold_timeout: PATIENT, outbox_limit: u32::MAX.into(), ..config.policy.clone() };
    let what = Stages {
        context: Arc::new(backend.into_context(policy)),
        shown,
        measured,
        transfers: command.transfers,
        accounts: command.accounts,
    };
    let stop = stop::on_signal()?;
    let progress = Progress::new();
    let report = stages(&what, &stop, &|words| progress.say(words)).await;
    progress.end();
    let report = report?;
    print(command.output.format, || report.table(), || value(&report));
    Ok(Outcome::Fine)
}
