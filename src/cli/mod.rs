//! The command line: one file a command family.

pub mod account;
mod account_import;
mod account_limits;
pub mod audit;
mod audit_verify;
pub mod bench;
mod bench_ceiling;
mod bench_reads;
mod bench_stages;
pub mod cluster;
pub mod config;
mod csv_file;
pub mod dev;
pub mod dlq;
pub mod encryption;
mod exit;
pub mod key;
pub mod lag;
mod metadata;
pub mod migrate;
mod operator;
mod output;
pub mod pause;
pub mod proposal;
mod proposal_create;
pub mod reconcile;
mod reconcile_recover;
mod reconcile_repair;
pub mod serve;
pub mod status;
mod target;
pub mod topics;
pub mod transfer;
mod transfer_import;
mod verdict;
mod waiting;

pub use exit::{Ended, Failure, Outcome, report};

use crate::config::Flag;
use crate::domain::Client;
use crate::ingress::http::{Position, position};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// The words of a command's examples, for the end of its help.
macro_rules! examples {
    ($($example:literal),+ $(,)?) => {
        concat!("Examples:", $("\n  ", $example),+)
    };
}
use examples;

/// Moves money between accounts on different MySQL shards, exactly once.
#[derive(Parser, Debug)]
#[command(name = "holdfast", version, disable_help_subcommand = true, after_help = examples!(
    "holdfast dev                          a working ledger, without servers",
    "holdfast migrate && holdfast serve    the real thing, on MySQL and Kafka",
    "holdfast config --check               everything that is wrong with the configuration",
))]
pub struct Cli {
    /// For every command.
    #[command(flatten)]
    pub args: ConfigArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where the configuration is.
#[derive(clap::Args, Clone, Debug)]
pub struct ConfigArgs {
    /// The configuration file [default: holdfast.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run everything in one process, with an embedded store and log
    Dev(dev::DevCommand),
    /// Run production roles on MySQL and Kafka
    Serve(serve::ServeCommand),
    /// Create or upgrade every shard and topic
    Migrate(migrate::MigrateCommand),
    /// Create, show, list and import accounts
    Account(account::AccountCommand),
    /// Ask for, show, list, cancel and import transfers
    Transfer(transfer::TransferCommand),
    /// Check that all the money is where it should be
    Reconcile(reconcile::ReconcileCommand),
    /// List, show, replay and discard dead letters
    Dlq(dlq::DlqCommand),
    /// Propose what has to do with money, and approve what others propose
    Proposal(proposal::ProposalCommand),
    /// Make, list, replace and revoke API keys
    Key(key::KeyCommand),
    /// Show, rotate and rewrap the keys of personal fields that are encrypted at rest
    Encryption(encryption::EncryptionCommand),
    /// Show what operators did, and verify that the log of it is whole
    Audit(audit::AuditCommand),
    /// Stop a role, a shard, a partition, a currency, an account or a merchant
    Pause(pause::StopCommand),
    /// Accept nothing new of one of these, and finish what was accepted
    Drain(pause::StopCommand),
    /// Let one of these go on
    Resume(pause::ResumeCommand),
    /// Show the shard map
    Shards(cluster::ShardsCommand),
    /// Show what every role has yet to read
    Lag(lag::LagCommand),
    /// Show every topic, what is in it, and who has yet to read it
    Topics(topics::TopicsCommand),
    /// Show what is under way, in money, and how everything is
    Status(status::StatusCommand),
    /// Drive load on a running Holdfast and show its throughput and latencies
    Bench(Box<bench::BenchCommand>),
    /// Show the effective configuration, secrets masked
    Config(config::ConfigCommand),
}

/// What `holdfast` alone does: its help.
pub fn help() -> Ended {
    use clap::CommandFactory;
    output::write(&Cli::command().render_help().to_string());
    Ok(Outcome::Fine)
}

/// The flags that were given, as a layer of the configuration.
fn flags<const N: usize>(given: [(&'static str, Option<String>); N]) -> Vec<Flag> {
    let flag = |(key, value): (&'static str, Option<String>)| Some(Flag { key, value: value? });
    given.into_iter().filter_map(flag).collect()
}

/// Whose idempotency keys are meant.
#[derive(clap::Args, Debug)]
pub struct PrincipalArgs {
    /// The principal that the idempotency key belongs to; the API's own by default
    #[arg(long, value_name = "NAME", default_value = crate::runtime::ANYBODY)]
    pub client: Client,
}

/// Which part of a list.
#[derive(clap::Args, Debug)]
pub struct PageArgs {
    /// How many at most
    #[arg(long, default_value = "50", value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Where the part before ended
    #[arg(long)]
    cursor: Option<String>,
}

impl PageArgs {
    /// The place where the part before ended.
    fn position<P: Position>(&self) -> Result<Option<P>, Failure> {
        let read = |text: &String| {
            position(text).ok_or_else(|| {
                Failure::Usage(format!(
                    "--cursor: '{text}' is not a cursor of this list; take it from the part before"
                ))
            })
        };
        self.cursor.as_ref().map(read).transpose()
    }
}
