//! What a command works on: the configured shards, or the embedded store.

use super::exit::Failure;
use super::{ConfigArgs, flags};
use crate::config::{self, Config, Sources};
use crate::context::Context;
use crate::ingress::{Ingress, Refusal};
use crate::runtime::Services;
use crate::runtime::backend::{self, Opening};
use crate::telemetry;
use anyhow::anyhow;
use clap::Args;
use std::sync::{Arc, OnceLock};

/// `--data`, on every command that works on a store.
#[derive(Args, Clone, Debug)]
pub struct TargetArgs {
    /// Work on the embedded store in this directory, whatever is configured
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
}

impl TargetArgs {
    /// The configuration; without databases where the embedded store is asked for.
    pub fn configure(&self, args: &ConfigArgs) -> Result<Config, Failure> {
        let flags = flags([("data", self.data.clone())]);
        let loaded = config::load(&Sources::of_process(args.config.clone(), flags));
        let mut config = loaded.config.map_err(Failure::Configuration)?;
        if self.data.is_some() {
            config.mysql = None;
        }
        // A command says what is wrong once, in its own words; RUST_LOG brings the log back.
        telemetry::start_log(config.log, "off");
        Ok(config)
    }

    /// Opens what the command works on.
    pub async fn open(&self, args: &ConfigArgs, opening: Opening) -> Result<Target, Failure> {
        let config = self.configure(args)?;
        let backend = backend::open_for_command(&config, opening).await?;
        let services = backend.services;
        let wraps = config.encryption.as_ref().map(|keys| keys.first().to_owned());
        let context = Arc::new(backend.into_context(config.policy));
        Ok(Target { context, services, wraps, ingress: OnceLock::new() })
    }
}

/// An opened store.
pub struct Target {
    /// Its ports.
    pub context: Arc<Context>,
    /// What they are called.
    pub services: Services,
    /// The name of the configured key that wraps data keys, where fields are encrypted at rest.
    pub wraps: Option<String>,
    ingress: OnceLock<Ingress>,
}

impl Target {
    /// The application that the API uses too.
    pub fn ingress(&self) -> &Ingress {
        self.ingress.get_or_init(|| Ingress::new(Arc::clone(&self.context)))
    }

    /// What the application answered, or its refusal in one sentence.
    pub async fn accepted<T>(&self, answer: Result<T, Refusal>) -> Result<T, Failure> {
        match answer {
            Ok(value) => Ok(value),
            Err(refusal) => Err(Failure::Running(self.explain(refusal).await)),
        }
    }

    /// A refusal for want of a shard names the shard.
    async fn explain(&self, refusal: Refusal) -> anyhow::Error {
        if matches!(refusal, Refusal::ShardUnavailable) {
            let store = &self.context.store;
            for shard in store.map().all_shards() {
                if let Err(error) = store.ping(shard).await {
                    return anyhow!("nothing was changed, repeat this later: {error}");
                }
            }
        }
        refusal.into()
    }
}
