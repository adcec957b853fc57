//! What MySQL alone can do on this machine, now: two yardsticks, so that a figure of Holdfast is a
//! ratio, which means the same on a fast machine, a slow one and a noisy one.

mod report;
pub mod rows;

pub use report::{CeilingReport, Yardstick};

use super::cost::{GENERATOR, Measured, Spent};
use super::mysql::{Server, naive};
use crate::random;
use anyhow::bail;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Ceiling {
    /// Where: one server a shard; the same may be named several times. *Naive* runs on the first.
    pub servers: Vec<Server>,
    /// How long each yardstick is measured.
    pub duration: Duration,
    /// How long each runs before that.
    pub warmup: Duration,
    /// Between how many accounts.
    pub accounts: u32,
    /// Callers of the stored procedure.
    pub connections: u32,
    /// Transfers of one transaction of *rows*.
    pub batch: usize,
}

/// Measures both, in databases of its own that are dropped however it ends. A `stop` ends it early,
/// without a figure for what is under way.
pub async fn ceiling(
    ceiling: &Ceiling,
    stop: &CancellationToken,
    told: &dyn Fn(&str),
) -> anyhow::Result<CeilingReport> {
    let yard = Yard::new(ceiling);
    let servers = yard.measured.facts().await?;
    let measured = tokio::select! {
        biased;
        () = stop.cancelled() => Err(anyhow::anyhow!("interrupted; nothing was measured to the end")),
        measured = yard.measure(told) => measured,
    };
    told("dropping what was made");
    yard.clear().await?;
    let (naive, rows) = measured?;
    Ok(CeilingReport::new(ceiling, servers, naive, rows))
}

struct Yard<'a> {
    ceiling: &'a Ceiling,
    measured: Measured,
    naive: String,
    shards: Vec<String>,
}

impl<'a> Yard<'a> {
    fn new(ceiling: &'a Ceiling) -> Self {
        let name = format!("holdfast_bench_{:08x}", random::bits() >> 32);
        let measured = Measured::new(GENERATOR, &ceiling.servers);
        let shards = (0..ceiling.servers.len()).map(|shard| format!("{name}_{shard}")).collect();
        Self { ceiling, measured, naive: format!("{name}_naive"), shards }
    }

    async fn measure(&self, told: &dyn Fn(&str)) -> anyhow::Result<(Yardstick, Yardstick)> {
        let (server, accounts) = (&self.ceiling.servers[0], self.ceiling.accounts);
        told("naive: making accounts");
        server.create(&self.naive).await?;
        naive::prepare(server, &self.naive, accounts).await?;
        told("naive: one stored procedure a transfer");
        let committed = Arc::new(AtomicU64::new(0));
        let connections = self.ceiling.connections;
        let callers =
            naive::callers(server, &self.naive, accounts, connections, &committed).await?;
        let naive = self.run(callers, &committed).await?;
        told("rows: making accounts");
        let urls = self.ceiling.servers.iter().zip(&self.shards);
        let urls = urls.map(|(server, name)| server.url_of(name)).collect();
        let rows = rows::Rows::prepare(urls, accounts, self.ceiling.batch).await?;
        told("rows: what the pipeline writes for a transfer, in batches");
        let committed = rows.committed();
        let rows = self.run(rows.start(), &committed).await?;
        Ok((naive, rows))
    }

    /// Lets workers that never end by themselves warm up, measures, and ends them.
    async fn run(
        &self,
        mut workers: JoinSet<anyhow::Error>,
        committed: &AtomicU64,
    ) -> anyhow::Result<Yardstick> {
        let watch = async {
            tokio::time::sleep(self.ceiling.warmup).await;
            let before = self.look(committed).await?;
            tokio::time::sleep(self.ceiling.duration).await;
            let after = self.look(committed).await?;
            Ok(Yardstick::between(&before, &after))
        };
        let measured = tokio::select! {
            biased;
            Some(ended) = workers.join_next() => match ended {
                Ok(error) => Err(error),
                Err(died) => Err(died.into()),
            },
            measured = watch => measured,
        };
        workers.shutdown().await;
        measured
    }

    async fn look(&self, committed: &AtomicU64) -> anyhow::Result<Look> {
        let committed = committed.load(Ordering::Relaxed);
        let at = Instant::now();
        Ok(Look { at, committed, spent: self.measured.look().await? })
    }

    /// Drops every database, also those that were not made yet.
    async fn clear(&self) -> anyhow::Result<()> {
        let mut failed = Vec::new();
        let first = [(&self.ceiling.servers[0], &self.naive)];
        for (server, name) in self.ceiling.servers.iter().zip(&self.shards).chain(first) {
            if let Err(error) = server.drop(name).await {
                failed.push(format!("{name} at {} ({error:#})", server.address()));
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        bail!("drop these databases yourself: {}", failed.join(", "))
    }
}

/// What there was up to a moment.
struct Look {
    at: Instant,
    committed: u64,
    spent: Spent,
}
