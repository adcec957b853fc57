//! `migrate`: creates or upgrades every shard and topic.

use super::exit::{Ended, Outcome};
use super::output::{OutputArgs, Table, print};
use super::target::TargetArgs;
use super::{ConfigArgs, examples};
use crate::runtime::migration::{self, Step};
use clap::Args;
use serde_json::{Value, json};

/// `migrate`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast migrate",
    "holdfast migrate --check || echo 'something is pending'",
))]
pub struct MigrateCommand {
    /// Change nothing; exit with 3 if something is pending
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Migrates, or says what is pending.
pub async fn run(command: MigrateCommand, args: &ConfigArgs) -> Ended {
    let config = command.target.configure(args)?;
    let steps = if command.check {
        migration::pending(&config).await?
    } else {
        migration::migrate(&config).await?
    };
    let json = || json!({ "data": steps.iter().map(line).collect::<Vec<_>>() });
    print(command.output.format, || table(command.check, &steps), json);
    if command.check && !steps.is_empty() { Ok(Outcome::Found) } else { Ok(Outcome::Fine) }
}

fn line(step: &Step) -> Value {
    json!({ "where": step.place, "what": step.what })
}

fn table(check: bool, steps: &[Step]) -> String {
    if steps.is_empty() {
        return "Every shard and topic is up to date.\n".to_owned();
    }
    let mut table = Table::new(&["WHERE", if check { "PENDING" } else { "DONE" }]);
    for step in steps {
        table.row([&step.place, &step.what]);
    }
    table.render()
}
