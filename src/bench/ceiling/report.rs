//! What the yardsticks say.

use super::{Ceiling, Look};
use crate::bench::cost::{Cost, MYSQL};
use crate::bench::host::Host;
use crate::bench::mysql::ServerFacts;
use crate::bench::text::Lines;
use serde::Serialize;

/// One yardstick.
#[derive(Clone, Debug, Serialize)]
pub struct Yardstick {
    /// Transfers committed while it was measured.
    pub transfers: u64,
    /// For how long it was.
    pub seconds: f64,
    /// Transfers a second.
    pub transfers_per_second: f64,
    /// What they cost.
    #[serde(flatten)]
    pub cost: Cost,
}

impl Yardstick {
    pub(super) fn between(before: &Look, after: &Look) -> Self {
        let transfers = after.committed - before.committed;
        let seconds = after.at.duration_since(before.at).as_secs_f64();
        Self {
            transfers,
            seconds,
            transfers_per_second: transfers as f64 / seconds.max(f64::EPSILON),
            cost: Cost::between(&before.spent, &after.spent, transfers),
        }
    }
}

/// Both yardsticks, and on what they were measured.
#[derive(Clone, Debug, Serialize)]
pub struct CeilingReport {
    /// What kind of report it is.
    pub kind: &'static str,
    /// The machine and the command.
    pub host: Host,
    /// The servers, each once.
    pub servers: Vec<ServerFacts>,
    /// Whether what was committed is on disk, on every server.
    pub durable: bool,
    /// Between how many accounts.
    pub accounts: u32,
    /// Callers of the stored procedure.
    pub connections: u32,
    /// Transfers of one transaction of `rows`.
    pub batch: usize,
    /// Shards of `rows`.
    pub shards: usize,
    /// One stored procedure a transfer.
    pub naive: Yardstick,
    /// What the pipeline writes for a transfer, in batches, and nothing else.
    pub rows: Yardstick,
}

impl CeilingReport {
    pub(super) fn new(
        ceiling: &Ceiling,
        servers: Vec<ServerFacts>,
        naive: Yardstick,
        rows: Yardstick,
    ) -> Self {
        Self {
            kind: "ceiling",
            host: Host::of_this(),
            durable: servers.iter().all(ServerFacts::durable),
            servers,
            accounts: ceiling.accounts,
            connections: ceiling.connections,
            batch: ceiling.batch,
            shards: ceiling.servers.len(),
            naive,
            rows,
        }
    }

    /// For a person.
    pub fn table(&self) -> String {
        let mut lines = Lines::default();
        lines.servers(&self.servers);
        lines.field(
            "load",
            format!(
                "{} accounts; naive over {} connections; rows on {} shards in batches of {}",
                self.accounts, self.connections, self.shards, self.batch
            ),
        );
        lines.empty();
        lines.line(format!(
            "{:<8} {:>12} {:>22} {:>14} {:>16}",
            "", "transfers/s", "mysqld us/transfer", "rows/transfer", "log B/transfer"
        ));
        for (name, yardstick) in [("naive", &self.naive), ("rows", &self.rows)] {
            let cost = &yardstick.cost;
            let cpu = cost.cpu_us_per_transfer.get(MYSQL);
            let cpu = cpu.map_or("not seen".to_owned(), |share| format!("{:.1}", share.total));
            let log = cost.mysql_per_transfer.get("Innodb_os_log_written").copied();
            lines.line(format!(
                "{name:<8} {:>12.0} {cpu:>22} {:>14.2} {:>16.0}",
                yardstick.transfers_per_second,
                cost.rows_written(),
                log.unwrap_or_default(),
            ));
        }
        lines.text()
    }
}
