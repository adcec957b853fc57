//! `serve`: the production roles.

use super::exit::{Ended, Failure, Outcome};
use super::{ConfigArgs, examples, flags};
use crate::config::{self, Config, Fault, Faults, Sources};
use crate::{runtime, telemetry};
use clap::Args;

/// `serve`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast serve",
    "holdfast serve --roles ingress --listen 0.0.0.0:8080",
    "holdfast serve --roles hold,credit,commit --shards 0,2",
))]
pub struct ServeCommand {
    /// all, or any of ingress, relay, hold, credit, commit, projector, reconciler
    #[arg(long, value_name = "ROLES")]
    roles: Option<String>,
    /// Shards of the roles other than ingress, which serves them all: all, or numbers from 0
    #[arg(long, value_name = "SHARDS")]
    shards: Option<String>,
    /// Where HTTP is served; without ingress only /healthz, /readyz and /metrics are
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Let everybody do everything, without any credential; only on a loopback address
    #[arg(long)]
    insecure_no_auth: bool,
}

/// Runs until SIGINT or SIGTERM.
pub async fn run(command: ServeCommand, args: &ConfigArgs) -> Ended {
    let open = command.insecure_no_auth.then(|| "true".to_owned());
    let flags = flags([
        ("roles", command.roles),
        ("shards", command.shards),
        ("listen", command.listen),
        ("insecure_no_auth", open),
    ]);
    let loaded = config::load_to_serve(&Sources::of_process(args.config.clone(), flags));
    let config = loaded.config.map_err(Failure::Configuration)?;
    require_mysql(&config)?;
    telemetry::start_log(config.log, "info");
    runtime::serve(&config).await?;
    Ok(Outcome::Fine)
}

fn require_mysql(config: &Config) -> Result<(), Failure> {
    if config.mysql.is_some() {
        return Ok(());
    }
    let problem = "is not set: `serve` needs the URL of every shard; for one process without servers run `holdfast dev`";
    Err(Failure::Configuration(Faults(vec![Fault {
        name: "HOLDFAST_MYSQL_SHARDS".to_owned(),
        value: None,
        problem: problem.to_owned(),
    }])))
}
