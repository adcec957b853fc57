//! Reports as text for a person.

use super::cost::Cost;
use super::mysql::ServerFacts;
use std::fmt::Write as _;

/// Lines, of which some are a name and a value.
#[derive(Debug, Default)]
pub struct Lines(String);

impl Lines {
    /// Adds a line.
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.0.push_str(line.as_ref().trim_end());
        self.0.push('\n');
    }

    /// Adds a name and its value.
    pub fn field(&mut self, name: &str, value: impl AsRef<str>) {
        let _ = writeln!(self.0, "{name:<12} {}", value.as_ref().trim_end());
    }

    /// Adds an empty line.
    pub fn empty(&mut self) {
        self.0.push('\n');
    }

    /// What the databases are, and whether they keep what they answered.
    pub fn servers(&mut self, servers: &[ServerFacts]) {
        for server in servers {
            let log = if server.log_bin { "" } else { ", no binary log" };
            let words = format!(
                "{} at {}, innodb_flush_log_at_trx_commit={}, sync_binlog={}{log}",
                server.version,
                server.address,
                server.innodb_flush_log_at_trx_commit,
                server.sync_binlog,
            );
            self.field("mysql", words);
        }
        let durable = servers.iter().all(ServerFacts::durable);
        let words = if durable {
            "yes"
        } else {
            "NO: these are not figures of a database that keeps what it answered (1 and 1)"
        };
        self.field("durable", words);
    }

    /// Processor time by process, and what the databases counted.
    pub fn cost(&mut self, cost: &Cost) {
        self.line(format!("{:<16} {:>9} {:>9} {:>9}", "us a transfer", "user", "system", "total"));
        for (name, share) in &cost.cpu_us_per_transfer {
            let (user, system, total) = (share.user, share.system, share.total);
            self.line(format!("{name:<16} {user:>9.1} {system:>9.1} {total:>9.1}"));
        }
        if let Some(busy) = cost.machine_busy {
            self.line(format!("the machine was busy for {:.0} % of the time", busy * 100.0));
        }
        if cost.cpu_us_per_transfer.is_empty() {
            self.line("processor time is not known here: it is read from /proc, on Linux");
        }
        if !cost.mysql_per_transfer.is_empty() {
            self.empty();
            self.line(format!("{:<24} {:>12}", "mysql, a transfer", "count"));
            for (name, count) in &cost.mysql_per_transfer {
                self.line(format!("{name:<24} {count:>12.2}"));
            }
        }
    }

    /// All of them.
    pub fn text(self) -> String {
        self.0
    }
}
