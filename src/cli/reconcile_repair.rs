//! `reconcile repair`: what stands still is driven on now, projections are made anew.

use super::exit::{Ended, Outcome};
use super::operator::ActingArgs;
use super::output::{Table, print};
use super::{ConfigArgs, examples};
use crate::operator::{Repairs, repair};
use crate::runtime::backend::Opening;
use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};

/// `reconcile repair`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast reconcile repair --dry-run",
    "holdfast reconcile repair --reason 'credit was down over night'",
))]
pub struct Repair {
    /// Say why everything stands and what would be done, and change nothing; exit with 3 if
    /// anything would be
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    acting: ActingArgs,
}

/// Runs it.
pub async fn run(command: Repair, args: &ConfigArgs) -> Ended {
    let target = command.acting.target.open(args, Opening::AnyShard).await?;
    let actor = command.acting.operator.actor();
    let repairs = repair(&target.context, (!command.dry_run).then_some(&actor)).await;
    print(command.acting.output.format, || table(&repairs, command.dry_run), || json(&repairs));
    for fault in &repairs.faults {
        eprintln!("holdfast: {fault}");
    }
    if !repairs.faults.is_empty() {
        return Err(anyhow!("not everything could be looked at; repeat this later").into());
    }
    if command.dry_run && repairs.acts() { Ok(Outcome::Found) } else { Ok(Outcome::Fine) }
}

fn json(repairs: &Repairs) -> Value {
    json!({ "data": repairs.repairs, "faults": repairs.faults })
}

fn table(repairs: &Repairs, dry_run: bool) -> String {
    if repairs.repairs.is_empty() {
        return "Nothing stands still, and every projection is what it should be.\n".to_owned();
    }
    let verb = if dry_run { "would be done" } else { "done" };
    let mut table =
        Table::new(&["WHAT", "ID", "STATE", ">AMOUNT", "SINCE", ">ATTEMPTS", "WHY", "ACTION"]);
    for one in &repairs.repairs {
        let since = one.since.map(|since| since.to_string()).unwrap_or_default();
        let action = one.action.as_deref().unwrap_or("left alone");
        table.row([
            one.kind,
            &one.target,
            &one.state,
            &one.amount,
            &since,
            &one.attempts.to_string(),
            &one.why.join("; "),
            action,
        ]);
    }
    let acted = repairs.repairs.iter().filter(|one| one.action.is_some()).count();
    format!("{}\n{acted} of {}: {verb}\n", table.render(), repairs.repairs.len())
}
