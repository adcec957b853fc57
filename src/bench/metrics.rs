//! How far transfers have come, by the counters that Holdfast's processes show at `/metrics`.

use super::credential::Credential;
use crate::meters::Metric;
use crate::meters::table::{EVENTS, OUTBOX_RECORDS};
use crate::roles::Role;
use std::collections::BTreeMap;

const ENDS: [&str; 3] = ["transfer.committed", "transfer.rejected", "transfer.cancelled"];

/// Transfers that ended, by how; counted since the processes began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finals(pub BTreeMap<&'static str, u64>);

impl Finals {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Those of one kind: `committed`, `rejected` or `cancelled`.
    pub fn of(&self, status: &str) -> u64 {
        self.0.get(status).copied().unwrap_or(0)
    }

    /// Since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let since = |(status, count): (&&'static str, &u64)| {
            (*status, count.saturating_sub(earlier.of(status)))
        };
        Self(self.0.iter().map(since).collect())
    }

    /// Adds what a process shows, in Prometheus' text.
    fn add(&mut self, text: &str) {
        for (labels, count) in series(text, &EVENTS) {
            // Only hold and commit end transfers; whoever else reads of an end announces nothing.
            let outcome = label(labels, "outcome=\"");
            let Some(end) = ENDS.into_iter().find(|end| Some(*end) == outcome) else { continue };
            *self.0.entry(end.trim_start_matches("transfer.")).or_default() += count;
        }
    }
}

/// Labels and values of a counter.
fn series<'a>(text: &'a str, counter: &'a Metric) -> impl Iterator<Item = (&'a str, u64)> {
    let labels =
        |line: &'a str| line.strip_prefix(counter.name)?.strip_prefix('{')?.split_once("} ");
    let lines = text.lines().filter_map(labels);
    lines.map(|(labels, value)| (labels, value.trim().parse::<f64>().unwrap_or(0.0) as u64))
}

/// The value of a label, whose beginning is its name, `=` and `"`.
fn label<'a>(labels: &'a str, beginning: &str) -> Option<&'a str> {
    let found = labels.split(',').find_map(|label| label.strip_prefix(beginning));
    found.map(|value| value.trim_end_matches('"'))
}

/// Events that a role has dealt with, by what a process shows; of the relay, those it published.
pub fn dealt_with(role: Role, text: &str) -> u64 {
    if role == Role::Relay {
        return series(text, &OUTBOX_RECORDS).map(|(_, count)| count).sum();
    }
    let of_role = |labels: &str| label(labels, "role=\"") == Some(role.as_str());
    series(text, &EVENTS).filter(|(labels, _)| of_role(labels)).map(|(_, count)| count).sum()
}

/// Where processes show their counters.
#[derive(Clone)]
pub struct Scraper {
    client: reqwest::Client,
    urls: Vec<String>,
}

impl Scraper {
    /// Of addresses such as `http://127.0.0.1:8080`, with or without `/metrics`.
    pub fn new(urls: &[String], credential: &Credential) -> Result<Self, reqwest::Error> {
        let client = credential.client().build()?;
        let whole = |url: &String| {
            let base = url.trim_end_matches('/').trim_end_matches("/metrics");
            format!("{base}/metrics")
        };
        Ok(Self { client, urls: urls.iter().map(whole).collect() })
    }

    /// What all of them have counted.
    pub async fn finals(&self) -> Result<Finals, reqwest::Error> {
        let mut finals = Finals::default();
        for url in &self.urls {
            let answer = self.client.get(url).send().await?.error_for_status()?;
            finals.add(&answer.text().await?);
        }
        Ok(finals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "# TYPE holdfast_events_total counter\n\
        holdfast_events_total{role=\"commit\",shard=\"0\",outcome=\"transfer.committed\"} 40\n\
        holdfast_events_total{role=\"commit\",shard=\"1\",outcome=\"transfer.committed\"} 2\n\
        holdfast_events_total{role=\"hold\",shard=\"0\",outcome=\"transfer.rejected\"} 5\n\
        holdfast_events_total{role=\"hold\",shard=\"0\",outcome=\"transfer.held\"} 47\n\
        holdfast_events_total{role=\"projector\",shard=\"0\",outcome=\"done\"} 99\n\
        holdfast_outbox_records_total{shard=\"0\"} 30\n\
        holdfast_outbox_records_total{shard=\"1\"} 22\n\
        holdfast_worker_restarts_total{role=\"hold\",shard=\"0\"} 1\n";

    #[test]
    fn ends_are_added_up_over_shards_roles_and_processes() {
        let mut finals = Finals::default();
        finals.add(SHOWN);
        assert_eq!((finals.of("committed"), finals.of("rejected"), finals.total()), (42, 5, 47));
        let before = finals.clone();
        finals.add(SHOWN);
        assert_eq!(finals.since(&before), before);
    }

    #[test]
    fn what_a_role_has_dealt_with_is_added_up_over_shards_and_outcomes() {
        let all = [Role::Relay, Role::Hold, Role::Commit, Role::Projector, Role::Credit];
        assert_eq!(all.map(|role| dealt_with(role, SHOWN)), [52, 52, 42, 99, 0]);
    }
}
