//! The `holdfast` command.

use clap::Parser;
use holdfast::cli::{
    Cli, Command, Ended, account, audit, bench, cluster, config, dev, dlq, encryption, help, key,
    lag, migrate, pause, proposal, reconcile, report, serve, status, topics, transfer,
};
use holdfast::pauses::PauseMode;
use std::process::ExitCode;
use std::time::Duration;

/// Half of what a transfer costs this process is memory for texts of a few bytes. Version 2, by its
/// feature: it gives back what is not used after 10 ms, where 3 keeps that for a second.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let _crash_points = holdfast::crash::points();
    let runtime = tokio::runtime::Runtime::new().expect("the system gives the process threads");
    let ended = runtime.block_on(run(cli));
    runtime.shutdown_timeout(Duration::from_secs(1));
    report(ended)
}

async fn run(Cli { args, command }: Cli) -> Ended {
    match command {
        None => help(),
        Some(Command::Dev(command)) => dev::run(command, &args).await,
        Some(Command::Serve(command)) => serve::run(command, &args).await,
        Some(Command::Migrate(command)) => migrate::run(command, &args).await,
        Some(Command::Account(command)) => account::run(command, &args).await,
        Some(Command::Transfer(command)) => transfer::run(command, &args).await,
        Some(Command::Reconcile(command)) => reconcile::run(command, &args).await,
        Some(Command::Dlq(command)) => dlq::run(command, &args).await,
        Some(Command::Proposal(command)) => proposal::run(command, &args).await,
        Some(Command::Key(command)) => key::run(command, &args).await,
        Some(Command::Encryption(command)) => encryption::run(command, &args).await,
        Some(Command::Audit(command)) => audit::run(command, &args).await,
        Some(Command::Pause(command)) => pause::stop(command, PauseMode::Pause, &args).await,
        Some(Command::Drain(command)) => pause::stop(command, PauseMode::Drain, &args).await,
        Some(Command::Resume(command)) => pause::resume(command, &args).await,
        Some(Command::Shards(command)) => cluster::shards(command, &args).await,
        Some(Command::Lag(command)) => lag::run(command, &args).await,
        Some(Command::Topics(command)) => topics::run(command, &args).await,
        Some(Command::Status(command)) => status::run(command, &args).await,
        Some(Command::Bench(command)) => bench::run(*command, &args).await,
        Some(Command::Config(command)) => config::run(&command, &args),
    }
}
