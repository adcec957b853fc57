//! `dev`: everything in one process, without servers.

use super::exit::{Ended, Failure, Outcome};
use super::output::write;
use super::{ConfigArgs, examples, flags};
use crate::config::{self, Config, Sources};
use crate::{runtime, telemetry};
use clap::Args;
use std::net::SocketAddr;
use std::path::Path;

/// `dev`.
#[derive(Args, Debug)]
#[command(after_help = examples!(
    "holdfast dev",
    "holdfast dev --data /tmp/try --listen 127.0.0.1:9000 --shards 4",
))]
pub struct DevCommand {
    /// Where the embedded store and log are [default: ./holdfast-data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Where HTTP is served [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// How many shards new data gets [default: 2]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: Option<u16>,
}

/// Runs until SIGINT or SIGTERM.
pub async fn run(command: DevCommand, args: &ConfigArgs) -> Ended {
    let flags = flags([("data", command.data), ("listen", command.listen)]);
    let loaded = config::load_to_serve(&Sources::of_process(args.config.clone(), flags));
    let config = loaded.config.and_then(Config::for_dev).map_err(Failure::Configuration)?;
    telemetry::start_log(config.log, "warn");
    let greet = |scheme: &str, address| write(&greeting(scheme, address, &config.data));
    runtime::dev(&config, command.shards, greet).await?;
    Ok(Outcome::Fine)
}

/// Where it is, and an example that works as it stands.
fn greeting(scheme: &str, address: SocketAddr, data: &Path) -> String {
    let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let data = data.display();
    format!(
        r#"Holdfast listens on {scheme}://{address} and keeps its data in {data}.
Try it: an account for the world outside, one for a customer, and money from the one to the other.

  curl -s {scheme}://{address}/v1/accounts/batch -H 'Content-Type: application/json' \
    -d '{{"accounts": [{{"id": "bank", "currency": "USD", "kind": "external"}}, {{"id": "alice", "currency": "USD"}}]}}'

  curl -s {scheme}://{address}/v1/transfers -H 'Content-Type: application/json' \
    -H 'Idempotency-Key: first-deposit' -H 'Prefer: wait=5' \
    -d '{{"source": "bank", "destination": "alice", "amount": "100.00", "currency": "USD"}}'

The API is described at {scheme}://{address}/docs; Ctrl-C stops.
"#
    )
}
