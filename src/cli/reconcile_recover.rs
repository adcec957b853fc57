//! `reconcile recover`: both sides of every transfer agree again after a promotion.

use super::exit::{Ended, Failure, Outcome};
use super::operator::OperatorArgs;
use super::output::{OutputArgs, Table, print, value};
use super::target::TargetArgs;
use super::{ConfigArgs, examples};
use crate::config::Config;
use crate::context::Context;
use crate::domain::{Shard, Timestamp};
use crate::reconciler::recover::{self, Report, Scope};
use crate::runtime::backend::{self, Opening};
use crate::store::Store;
use clap::Args;

/// `reconcile recover`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast reconcile recover --shard 1 --dry-run",
    "holdfast reconcile recover --shard 1",
    "holdfast reconcile recover --shard 1 --since 2026-01-31T00:00:00Z --format json",
))]
pub struct Recover {
    #[command(flatten)]
    target: TargetArgs,
    /// A shard that was promoted and may have lost commits; name all of them, once each
    #[arg(long = "shard", value_name = "N", required = true)]
    shards: Vec<u16>,
    /// Look only at transfers accepted and events published since then; default is everything
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Say what would be done and change nothing; exit with 3 if there is anything
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    operator: OperatorArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs it.
pub async fn run(command: Recover, args: &ConfigArgs) -> Ended {
    let config = command.target.configure(args)?;
    let scope =
        Scope { lost: command.shards.iter().copied().map(Shard).collect(), since: command.since };
    let context = open(&config, Opening::AnyGeneration).await?;
    refuse_unknown(&*context.store, &scope)?;
    let report = if command.dry_run {
        recover::ensure_stopped(&*context.store).await?;
        recover::look(&context, &scope).await?
    } else {
        recover::raise(&*context.store).await?;
        drop(context);
        let context = open(&config, Opening::AllShards).await?;
        let report = recover::recover(&context, &scope).await?;
        recover::log(&context, &report, &command.operator.actor()).await?;
        report
    };
    print(command.output.format, || table(&report), || value(&report));
    let nothing_left =
        report.finished || report.dry_run && report.repaired.is_empty() && report.ends == 0;
    if nothing_left { Ok(Outcome::Fine) } else { Ok(Outcome::Found) }
}

async fn open(config: &Config, opening: Opening) -> Result<Context, Failure> {
    let backend = backend::open_for_command(config, opening).await?;
    Ok(backend.into_context(config.policy.clone()))
}

fn refuse_unknown(store: &dyn Store, scope: &Scope) -> Result<(), Failure> {
    let shards = store.map().shards();
    match scope.lost.iter().find(|shard| shard.0 >= shards) {
        Some(shard) => Err(Failure::Usage(format!(
            "--shard: there is no shard {shard}, only 0 to {}",
            shards - 1
        ))),
        None => Ok(()),
    }
}

fn table(report: &Report) -> String {
    let shards: Vec<String> = report.shards.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "shard {}, generation {}: {} transfers, {} pivots and {} events looked at\n",
        shards.join(", "),
        report.generation.0,
        report.transfers,
        report.pivots,
        report.events
    );
    if !report.dry_run {
        text += &format!(
            "{} accounts restored or raised, {} projections written again\n",
            report.accounts, report.projections
        );
    }
    if report.ends > 0 {
        let announced = if report.dry_run { "to be announced" } else { "announced" };
        text += &format!("{} ends {announced} that nobody had been told of\n", report.ends);
    }
    if report.repairs.is_empty() {
        text += "Both sides of every transfer agree.\n";
    } else {
        let title = if report.dry_run { "to be done" } else { "done" };
        let mut repairs = Table::new(&[title, "currency", ">transfers", ">amount"]);
        for one in &report.repairs {
            let transfers = one.transfers.to_string();
            repairs.row([one.what, one.currency.as_str(), &transfers, &one.amount]);
        }
        text += &format!("\n{}", repairs.render());
    }
    if !report.findings.is_empty() {
        let mut findings = Table::new(&["what", "where", "how much", "to do"]);
        for one in &report.findings {
            findings.row([one.what, &one.place, &one.amount, one.repair]);
        }
        text += &format!("\n{}", findings.render());
    }
    text + ending(report)
}

fn ending(report: &Report) -> &'static str {
    if report.dry_run {
        "\nNothing was changed.\n"
    } else if report.finished {
        "\nThe roles may start.\n"
    } else {
        "\nNot finished: see to what is listed and run this again. The roles do not start before.\n"
    }
}
