//! `config`: what is in effect, and everything that is wrong with it.

use super::exit::{Ended, Failure, Outcome};
use super::output::{OutputArgs, Table, print, write};
use super::{ConfigArgs, examples};
use crate::config::{self, Effective, Sources};
use clap::Args;
use serde_json::{Value, json};

/// `config`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast config",
    "holdfast config --check",
    "HOLDFAST_ROLES=hold,credit holdfast config --config /etc/holdfast.toml --format json",
))]
pub struct ConfigCommand {
    /// Print nothing but what is wrong; exit with 64 if anything is
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints the effective configuration, secrets masked.
pub fn run(command: &ConfigCommand, args: &ConfigArgs) -> Ended {
    let loaded = config::load_to_serve(&Sources::of_process(args.config.clone(), Vec::new()));
    if !command.check {
        print(command.output.format, || table(&loaded.effective), || json(&loaded.effective));
    }
    loaded.config.map_err(Failure::Configuration)?;
    if command.check {
        write("the configuration is fine\n");
    }
    Ok(Outcome::Fine)
}

fn table(effective: &[Effective]) -> String {
    let mut table = Table::new(&["NAME", "VALUE", "FROM"]);
    for line in effective {
        let value = line.value.as_deref().unwrap_or("(unset)");
        table.row([line.setting.env().as_str(), value, &line.origin]);
    }
    table.render()
}

fn json(effective: &[Effective]) -> Value {
    let line = |line: &Effective| {
        json!({
            "name": line.setting.env(),
            "key": line.setting.key,
            "value": line.value,
            "from": line.origin,
            "purpose": line.setting.purpose,
            "allowed": line.setting.allowed,
        })
    };
    json!({ "data": effective.iter().map(line).collect::<Vec<_>>() })
}
