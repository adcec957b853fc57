//! `reconcile`: whether all the money is where it should be, and putting it there after a promotion.

use super::exit::{Ended, Outcome};
use super::output::{OutputArgs, Table, print, value};
use super::target::TargetArgs;
use super::{ConfigArgs, examples, reconcile_recover, reconcile_repair};
use crate::reconciler::audit::{self, Report};
use crate::runtime::backend::Opening;
use clap::{Args, Subcommand};
use serde_json::Value;

/// `reconcile`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast reconcile check",
    "holdfast reconcile check --format json || page-somebody",
))]
pub struct ReconcileCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Audit the whole ledger, also while it runs; exit with 3 if anything is wrong
    Check(Check),
    /// Make both sides of every transfer agree again after a promotion that may have lost commits
    Recover(reconcile_recover::Recover),
    /// Drive on now what stands still, say why it does, and make wrong projections anew
    Repair(reconcile_repair::Repair),
}

#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast reconcile check",
    "holdfast reconcile check --data ./holdfast-data --format json",
))]
struct Check {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs one of them.
pub async fn run(command: ReconcileCommand, args: &ConfigArgs) -> Ended {
    match command.what {
        What::Check(command) => check(command, args).await,
        What::Repair(command) => reconcile_repair::run(command, args).await,
        What::Recover(command) => reconcile_recover::run(command, args).await,
    }
}

async fn check(command: Check, args: &ConfigArgs) -> Ended {
    let target = command.target.open(args, Opening::AllShards).await?;
    let report = audit::check(&target.context).await?;
    print(command.output.format, || table(&report), || json(&report));
    if report.findings.is_empty() { Ok(Outcome::Fine) } else { Ok(Outcome::Found) }
}

fn json(report: &Report) -> Value {
    value(report)
}

fn table(report: &Report) -> String {
    let mut money = Table::new(&["currency", ">debited", ">credited", ">in flight"]);
    for (currency, one) in &report.money {
        money.row([currency, &one.debited, &one.credited, &one.in_flight]);
    }
    let seen = format!(
        "{} accounts, {} entries, {} transfers and {} pivots compared\n",
        report.accounts, report.entries, report.transfers, report.pivots
    );
    if report.findings.is_empty() {
        return format!("{}\n{seen}Everything is as it must be.\n", money.render());
    }
    let mut findings = Table::new(&["what", "where", "how much", "repaired by"]);
    for one in &report.findings {
        findings.row([one.what, &one.place, &one.amount, one.repair]);
    }
    format!("{}\n{seen}\n{}", money.render(), findings.render())
}
