//! What a stretch of a run cost: processor time, memory, what the databases counted.

use super::mysql::{Counters, Server, ServerFacts};
use super::process::{CpuTime, Machine, Processes, used};
use serde::Serialize;
use std::collections::BTreeMap;

/// What this process is called in reports, where it only drives the load.
pub const GENERATOR: &str = "bench";
/// What the process under load is called.
pub const HOLDFAST: &str = "holdfast";
/// What the machine was busy with besides is called.
pub const OTHER: &str = "other";
/// What the databases are called.
pub const MYSQL: &str = "mysql";

/// What is measured beside a run.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Whose processor time.
    pub processes: Processes,
    /// Databases, each server once.
    pub servers: Vec<Server>,
}

impl Measured {
    /// This process under the name `own`, and the servers as far as they run on this machine.
    pub fn new(own: &str, servers: &[Server]) -> Self {
        let by_address: BTreeMap<String, &Server> =
            servers.iter().map(|server| (server.address(), server)).collect();
        let mut processes = Processes::with_own(own);
        for address in by_address.keys() {
            processes.add_listener(MYSQL, address);
        }
        Self { processes, servers: by_address.into_values().cloned().collect() }
    }

    /// What was used and counted up to now.
    pub async fn look(&self) -> anyhow::Result<Spent> {
        let mut counters = Counters::default();
        for server in &self.servers {
            counters.add(&server.counters().await?);
        }
        Ok(Spent { counters, ..self.glance() })
    }

    /// What was used up to now, without asking anybody what was counted.
    pub fn glance(&self) -> Spent {
        let counters = Counters::default();
        Spent { cpu: self.processes.cpu(), machine: Machine::now(), counters }
    }

    /// What the servers are.
    pub async fn facts(&self) -> anyhow::Result<Vec<ServerFacts>> {
        let mut facts = Vec::new();
        for server in &self.servers {
            facts.push(server.facts().await?);
        }
        Ok(facts)
    }
}

/// What was used and counted up to a moment.
#[derive(Clone, Debug)]
pub struct Spent {
    cpu: BTreeMap<String, CpuTime>,
    machine: Option<Machine>,
    counters: Counters,
}

/// What a number of transfers cost.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Microseconds of processor time a transfer, by process; those that could be found. `other` is
    /// what the machine was busy with besides.
    pub cpu_us_per_transfer: BTreeMap<String, CpuShare>,
    /// The share of the machine's processor time that was used, by anybody; from 0 to 1.
    pub machine_busy: Option<f64>,
    /// What the databases counted, a transfer.
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
    fn of(time: CpuTime, transfers: f64) -> Self {
        Self {
            user: time.user_us as f64 / transfers,
            system: time.system_us as f64 / transfers,
            total: time.total_us() as f64 / transfers,
        }
    }
}

impl Cost {
    /// Of so many transfers between two looks.
    pub fn between(before: &Spent, after: &Spent, transfers: u64) -> Self {
        let transfers = transfers.max(1) as f64;
        let mut cpu = used(&before.cpu, &after.cpu);
        let machine = before.machine.zip(after.machine);
        let machine = machine.map(|(before, after)| after.since(before));
        if let Some(machine) = &machine {
            let named = cpu.values().copied().fold(CpuTime::default(), CpuTime::and);
            cpu.insert(OTHER.to_owned(), machine.busy.since(named));
        }
        let each = |(name, count): (String, u64)| (name, count as f64 / transfers);
        Self {
            cpu_us_per_transfer: cpu
                .into_iter()
                .map(|(name, time)| (name, CpuShare::of(time, transfers)))
                .collect(),
            machine_busy: machine.map(|machine| machine.share()),
            mysql_per_transfer: after
                .counters
                .since(&before.counters)
                .0
                .into_iter()
                .map(each)
                .collect(),
        }
    }

    /// Rows written a transfer, of all kinds.
    pub fn rows_written(&self) -> f64 {
        let written = ["Innodb_rows_inserted", "Innodb_rows_updated", "Innodb_rows_deleted"];
        written.iter().filter_map(|name| self.mysql_per_transfer.get(*name)).sum()
    }
}
