//! What the yardsticks say.

use super::{Ceiling, Look, MYSQL};
use crate::bench::host::Host;
use crate::bench::mysql::{Counters, ServerFacts};
use crate::bench::process::CpuTime;
use crate::bench::text::Lines;
use serde::Serialize;
use std::collections::BTreeMap;

/// One yardstick.
#[derive(Clone, Debug, Serialize)]
pub struct Yardstick {
    /// Transfers committed while it was measured.
    pub transfers: u64,
    /// For how long it was.
    pub seconds: f64,
    /// Transfers a second.
    pub transfers_per_second: f64,
    /// Microseconds of processor time a transfer, by process; those that could be found.
    pub cpu_us_per_transfer: BTreeMap<String, CpuShare>,
    /// What the servers counted a transfer.
    pub mysql_per_transfer: BTreeMap<String, f64>,
}

/// Microseconds of processor time a transfer.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CpuShare {
    /// In the process's own code.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
    /// Both.
    pub total: f64,
}

impl CpuShare {
    /// Of this many transfers.
    pub fn of(time: CpuTime, transfers: u64) -> Self {
        let share = |micros: u64| micros as f64 / transfers.max(1) as f64;
        Self {
            user: share(time.user_us),
            system: share(time.system_us),
            total: share(time.total_us()),
        }
    }
}

/// Counters a transfer.
pub fn each(counters: &Counters, transfers: u64) -> BTreeMap<String, f64> {
    let share =
        |(name, count): (&String, &u64)| (name.clone(), *count as f64 / transfers.max(1) as f64);
    counters.0.iter().map(share).collect()
}

impl Yardstick {
    pub(super) fn between(before: Look, after: Look) -> Self {
        let transfers = after.committed - before.committed;
        let seconds = after.at.duration_since(before.at).as_secs_f64();
        let cpu = after.cpu_since(&before).into_iter();
        Self {
            transfers,
            seconds,
            transfers_per_second: transfers as f64 / seconds.max(f64::EPSILON),
            cpu_us_per_transfer: cpu
                .map(|(name, time)| (name, CpuShare::of(time, transfers)))
                .collect(),
            mysql_per_transfer: each(&after.counters.since(&before.counters), transfers),
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
        for server in &self.servers {
            lines.field(
                "mysql",
                format!(
                    "{} at {}, innodb_flush_log_at_trx_commit={}, sync_binlog={}{}",
                    server.version,
                    server.address,
                    server.innodb_flush_log_at_trx_commit,
                    server.sync_binlog,
                    if server.log_bin { "" } else { ", no binary log" },
                ),
            );
        }
        lines.field(
            "durable",
            if self.durable {
                "yes"
            } else {
                "NO: these figures are not those of a database that keeps what it answered (it needs 1 and 1)"
            },
        );
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
            let cpu = yardstick.cpu_us_per_transfer.get(MYSQL);
            let cpu = cpu.map_or("not seen".to_owned(), |share| format!("{:.1}", share.total));
            let counted = |name: &str| yardstick.mysql_per_transfer.get(name).copied();
            let written = ["Innodb_rows_inserted", "Innodb_rows_updated", "Innodb_rows_deleted"];
            let rows: f64 = written.iter().filter_map(|name| counted(name)).sum();
            lines.line(format!(
                "{name:<8} {:>12.0} {cpu:>22} {rows:>14.2} {:>16.0}",
                yardstick.transfers_per_second,
                counted("Innodb_os_log_written").unwrap_or_default(),
            ));
        }
        lines.text()
    }
}
