//! Each stage of the pipeline alone: transfers are accepted while nothing else runs, then one role
//! after the other deals with what the one before it left. What a stage costs is measured from its
//! first transfer to its last, so that joining a consumer group and leaving it is not in it.

use super::cost::{Cost, Measured, Spent};
use super::host::Host;
use super::metrics::dealt_with;
use super::mysql::ServerFacts;
use super::text::Lines;
use crate::backlog;
use crate::broker::Group;
use crate::context::Context;
use crate::domain::{AccountId, Currency, Money, Shard};
use crate::ingress::{AccountRequest, Ingress, Refusal, TransferRequest};
use crate::random;
use crate::roles::Role;
use crate::runtime::ANYBODY;
use crate::runtime::supervisor::Supervisor;
use anyhow::{Context as _, bail};
use futures::stream::{self, StreamExt};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The roles that are measured, in the order of the pipeline.
const ROLES: [Role; 5] = [Role::Relay, Role::Hold, Role::Credit, Role::Commit, Role::Projector];
/// Requests to ingress that are under way at once, and transfers in each.
const REQUESTS: usize = 4;
const A_REQUEST: usize = 500;
/// Minor units that every account may owe, as many as those of `bench` may.
const OVERDRAFT: i64 = 10_000_000_000_000;
/// How often a stage is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A stage that deals with nothing for so long has something wrong with it.
const STUCK: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);

/// What to do.
pub struct Stages {
    /// Shards and log, with nothing under way.
    pub context: Arc<Context>,
    /// What this process's counters show.
    pub shown: Arc<dyn Fn() -> String + Send + Sync>,
    /// For what it costs.
    pub measured: Measured,
    /// How many transfers.
    pub transfers: u32,
    /// Between how many accounts.
    pub accounts: u32,
}

/// One stage.
#[derive(Debug, Serialize)]
pub struct StageReport {
    /// Which.
    pub stage: &'static str,
    /// Transfers it dealt with while it was measured.
    pub transfers: u64,
    /// In how long.
    pub seconds: f64,
    /// A second.
    pub transfers_per_second: f64,
    /// For each.
    #[serde(flatten)]
    pub cost: Cost,
}

/// All of them.
#[derive(Debug, Serialize)]
pub struct StagesReport {
    /// What kind of report it is.
    pub kind: &'static str,
    /// The machine and the command.
    pub host: Host,
    /// The databases, each once.
    pub servers: Vec<ServerFacts>,
    /// Shards.
    pub shards: u16,
    /// Between how many accounts.
    pub accounts: u32,
    /// Most transfers of one transaction of a worker.
    pub batch: usize,
    /// In the order of the pipeline.
    pub stages: Vec<StageReport>,
}

/// Measures every stage. A `stop` ends it: what was accepted goes on when roles run again.
pub async fn stages(
    stages: &Stages,
    stop: &CancellationToken,
    told: &dyn Fn(&str),
) -> anyhow::Result<StagesReport> {
    tokio::select! {
        biased;
        () = stop.cancelled() => {
            bail!("interrupted; what was accepted is finished as soon as roles run")
        }
        report = stages.run(told) => report,
    }
}

/// A moment of a stage.
struct Look {
    at: Instant,
    count: u64,
    spent: Spent,
}

impl Stages {
    async fn run(&self, told: &dyn Fn(&str)) -> anyhow::Result<StagesReport> {
        self.refuse_company().await?;
        told("making accounts");
        let ingress = Ingress::new(Arc::clone(&self.context));
        let accounts = self.make_accounts(&ingress).await?;
        told("ingress");
        let mut stages = vec![self.accept(&ingress, &accounts).await?];
        drop(ingress);
        for role in ROLES {
            told(role.as_str());
            stages.push(self.alone(role).await?);
        }
        Ok(StagesReport {
            kind: "stages",
            host: Host::of_this(),
            servers: self.measured.facts().await?,
            shards: self.context.store.map().shards(),
            accounts: self.accounts,
            batch: self.context.policy.batch,
            stages,
        })
    }

    fn shards(&self) -> Vec<Shard> {
        self.context.store.map().all_shards().collect()
    }

    /// Whoever else works on these shards would take transfers away from the stage that is measured.
    async fn refuse_company(&self) -> anyhow::Result<()> {
        for shard in self.shards() {
            let (unsent, _) = self.context.store.outbox_depth(shard).await?;
            if unsent > 0 {
                bail!(
                    "shard {shard} has {unsent} transfers under way: let roles finish them, then stop every role and run this again"
                );
            }
            for role in ROLES.into_iter().filter(|role| *role != Role::Relay) {
                let unread = self.unread(role, shard).await?;
                if unread > 0 {
                    bail!(
                        "{role} of shard {shard} has {unread} events to read: let it finish, then stop every role and run this again"
                    );
                }
            }
        }
        Ok(())
    }

    /// What a role has yet to deal with, of all shards.
    async fn left(&self, role: Role) -> anyhow::Result<u64> {
        let mut left = 0;
        for shard in self.shards() {
            left += match role {
                Role::Relay => self.context.store.outbox_depth(shard).await?.0,
                _ => self.unread(role, shard).await?.unsigned_abs(),
            };
        }
        Ok(left)
    }

    async fn unread(&self, role: Role, shard: Shard) -> anyhow::Result<i64> {
        let topics = backlog::topics(role, shard);
        let group = Group { role: role.as_str(), shard };
        let lags = self.context.broker.lag(&group, &topics).await?;
        Ok(lags.iter().map(crate::broker::PartitionLag::records).sum())
    }

    async fn make_accounts(&self, ingress: &Ingress) -> anyhow::Result<Vec<AccountId>> {
        let name = |number| format!("bench-{number:07}").parse::<AccountId>();
        let ids: Vec<AccountId> = (0..self.accounts).map(name).collect::<Result<_, _>>()?;
        for ids in ids.chunks(1000) {
            let request = |id: &AccountId| AccountRequest {
                id: id.clone(),
                currency: currency(),
                kind: crate::domain::AccountKind::Customer,
                overdraft_limit: OVERDRAFT,
                metadata: std::collections::BTreeMap::new(),
                owner: None,
            };
            for created in ingress.create_accounts(ids.iter().map(request).collect()).await {
                match created {
                    // One of `bench` itself, with another limit, is as good.
                    Ok(_) | Err(Refusal::AccountExists { .. }) => {}
                    Err(refusal) => return Err(refusal).context("an account cannot be made"),
                }
            }
        }
        Ok(ids)
    }

    /// Ingress alone: nothing takes the outbox away meanwhile.
    async fn accept(
        &self,
        ingress: &Ingress,
        accounts: &[AccountId],
    ) -> anyhow::Result<StageReport> {
        let run = random::bits();
        let mut rng = SmallRng::seed_from_u64(run);
        let mut requests: Vec<TransferRequest> = (0..self.transfers)
            .map(|number| request(accounts, &format!("bench-{run:016x}-{number}"), &mut rng))
            .collect();
        let mut chunks = Vec::new();
        while !requests.is_empty() {
            chunks.push(requests.split_off(requests.len().saturating_sub(A_REQUEST)));
        }
        let before = self.look(0).await?;
        let mut answers = stream::iter(chunks)
            .map(|chunk| ingress.submit_patiently(chunk))
            .buffer_unordered(REQUESTS);
        while let Some(answers) = answers.next().await {
            for answer in answers {
                answer.context("a transfer was not accepted")?;
            }
        }
        let after = self.look(self.transfers.into()).await?;
        self.refuse_a_relay().await?;
        Ok(StageReport::between(Role::Ingress, &before, &after, (1, 1)))
    }

    /// What was accepted must still be there.
    async fn refuse_a_relay(&self) -> anyhow::Result<()> {
        if self.left(Role::Relay).await? < u64::from(self.transfers) {
            bail!("somebody else publishes the outbox of these shards: stop every role first");
        }
        Ok(())
    }

    /// Runs one role for every shard until it has dealt with everything.
    async fn alone(&self, role: Role) -> anyhow::Result<StageReport> {
        let all = self.left(role).await?;
        let transfers = match role {
            Role::Projector => self.transfers.into(),
            _ => all,
        };
        let start = self.count(role);
        let mut supervisor = Supervisor::new();
        supervisor.start(&self.context, &[role], &self.shards());
        let measured = tokio::select! {
            biased;
            failure = supervisor.failure() => Err(failure),
            measured = self.until_done(role, start, all) => measured,
        };
        supervisor.stop(STOP).await?;
        // The next run finds nothing of this one to be read.
        let left = tokio::time::timeout(STOP, self.context.broker.left()).await;
        left.context("the consumers did not leave their groups in time")?;
        let (first, last) = measured?;
        Ok(StageReport::between(role, &first, &last, (transfers, all)))
    }

    /// From the first event that it deals with to the last.
    async fn until_done(&self, role: Role, start: u64, all: u64) -> anyhow::Result<(Look, Look)> {
        let mut first = None;
        let mut last: Option<Look> = None;
        let mut moved = (Instant::now(), 0);
        loop {
            let count = self.count(role) - start;
            if first.is_none() && (count > 0 || all == 0) {
                first = Some(self.look(count).await?);
            }
            // Of events that came twice, others may still be left.
            if count >= all {
                let done = match last.take_if(|last| last.count == count) {
                    Some(done) => done,
                    None => self.look(count).await?,
                };
                if self.left(role).await? == 0 {
                    // What came twice is no transfer more.
                    let upto = |look: Look| Look { count: look.count.min(all), ..look };
                    let first = first.context("there was something to do")?;
                    return Ok((upto(first), upto(done)));
                }
                last = Some(done);
            }
            if count > moved.1 {
                moved = (Instant::now(), count);
            }
            if moved.0.elapsed() > STUCK {
                bail!(
                    "{role} stands still after {count} of {all} events: is another process running it?"
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn count(&self, role: Role) -> u64 {
        dealt_with(role, &(self.shown)())
    }

    async fn look(&self, count: u64) -> anyhow::Result<Look> {
        let at = Instant::now();
        Ok(Look { at, count, spent: self.measured.look().await? })
    }
}

fn currency() -> Currency {
    "USD".parse().expect("USD is a currency")
}

fn request(accounts: &[AccountId], key: &str, rng: &mut SmallRng) -> TransferRequest {
    let source = rng.random_range(0..accounts.len());
    let destination = (source + rng.random_range(1..accounts.len())) % accounts.len();
    TransferRequest {
        client: ANYBODY.parse().expect("a valid client name"),
        key: key.parse().expect("a valid key"),
        source: accounts[source].clone(),
        destination: accounts[destination].clone(),
        amount: Money::from_minor(rng.random_range(1..=900), currency()).expect("a small amount"),
        currency_given: true,
        description: None,
        reference: None,
        metadata: None,
        reverses: None,
        traceparent: None,
    }
}

impl StageReport {
    /// So many transfers have so many events.
    fn between(role: Role, first: &Look, last: &Look, (all, events): (u64, u64)) -> Self {
        let transfers = (last.count - first.count) * all / events.max(1);
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        Self {
            stage: role.as_str(),
            transfers,
            seconds,
            transfers_per_second: transfers as f64 / seconds.max(f64::EPSILON),
            cost: Cost::between(&first.spent, &last.spent, transfers),
        }
    }
}

impl StagesReport {
    /// For a person.
    pub fn table(&self) -> String {
        let mut lines = Lines::default();
        lines.servers(&self.servers);
        lines.field(
            "load",
            format!(
                "{} shards, {} accounts, up to {} transfers of a worker's transaction",
                self.shards, self.accounts, self.batch
            ),
        );
        lines.empty();
        let mut names: Vec<&String> = Vec::new();
        for name in self.stages.iter().flat_map(|stage| stage.cost.cpu_us_per_transfer.keys()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut heading = format!("{:<12} {:>10} {:>12}", "stage", "transfers", "transfers/s");
        for name in &names {
            heading.push_str(&format!(" {:>12}", format!("{name} us")));
        }
        lines.line(heading);
        for stage in &self.stages {
            let mut line = format!(
                "{:<12} {:>10} {:>12.0}",
                stage.stage, stage.transfers, stage.transfers_per_second
            );
            for name in &names {
                let share = stage.cost.cpu_us_per_transfer.get(*name);
                let text = share.map_or("-".to_owned(), |share| format!("{:.1}", share.total));
                line.push_str(&format!(" {text:>12}"));
            }
            lines.line(line);
        }
        lines.text()
    }
}
