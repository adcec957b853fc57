//! Whether all is well, and if not, which shard, which stage, how much money: pure.

use crate::domain::{Currency, Shard, State, Timestamp, format_minor};
use crate::ingress::http::{DependencyStatus, Health};
use crate::roles::Role;
use crate::store::{Quarantined, Standing};
use serde::Serialize;
use std::time::Duration;

/// From which age on what waits is no everyday matter.
const LATE: Duration = Duration::from_secs(10);
/// Money that is under way for so long stands still.
const STUCK: Duration = Duration::from_secs(60);

/// One thing that is not well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where, if it is one shard.
    pub shard: Option<Shard>,
    /// Which role has to do with it.
    pub stage: Option<&'static str>,
    /// What, for people.
    pub what: String,
    /// What to look at, or to do.
    pub hint: &'static str,
}

/// What a shard has under way, and how old it is by its own clock.
#[derive(Clone, Debug)]
pub struct UnderWay {
    /// The shard.
    pub shard: Shard,
    /// Its sums.
    pub standing: Vec<Standing>,
    /// Its database time.
    pub now: Timestamp,
    /// Unsent records of its outbox, and the age of the oldest.
    pub outbox: (u64, Duration),
}

/// How far one role is behind on one shard.
#[derive(Clone, Copy, Debug)]
pub struct Behind {
    /// The role.
    pub role: Role,
    /// The shard.
    pub shard: Shard,
    /// Records that it has yet to read.
    pub records: i64,
    /// The age of the oldest.
    pub age: Duration,
}

/// All that is not well, the causes first.
pub fn findings(
    dependencies: &[DependencyStatus],
    under_way: &[UnderWay],
    behind: &[Behind],
    quarantined: &[Quarantined],
) -> Vec<Finding> {
    let mut found: Vec<Finding> = dependencies.iter().filter_map(down).collect();
    found.extend(under_way.iter().filter_map(unsent));
    found.extend(behind.iter().filter(|one| one.age > LATE).map(late));
    found.extend(under_way.iter().flat_map(stuck));
    found.extend(quarantined.iter().map(|one| Finding {
        shard: None,
        stage: None,
        what: format!(
            "account {} is in quarantine, off by {} {}",
            one.account.as_str(),
            format_minor(one.suspicion.amount, one.currency),
            one.currency
        ),
        hint: "holdfast account show ID; docs/RUNBOOK.md",
    }));
    found
}

fn down(one: &DependencyStatus) -> Option<Finding> {
    let shard = one.name.rsplit_once('.').and_then(|(_, shard)| shard.parse().ok()).map(Shard);
    let detail = one.detail.as_deref().unwrap_or_default();
    (one.health == Health::Down).then(|| Finding {
        shard,
        stage: None,
        what: format!("{} does not answer: {detail}", one.name),
        hint: "bring it back; nothing else is to be done",
    })
}

fn unsent(of: &UnderWay) -> Option<Finding> {
    let (records, age) = of.outbox;
    (age > LATE).then(|| Finding {
        shard: Some(of.shard),
        stage: Some(Role::Relay.as_str()),
        what: format!("{records} outbox records are not sent, the oldest for {}", span(age)),
        hint: "is a relay running for the shard, does Kafka take records?",
    })
}

fn late(one: &Behind) -> Finding {
    Finding {
        shard: Some(one.shard),
        stage: Some(one.role.as_str()),
        what: format!("{} is {} behind, by {} records", one.role, span(one.age), one.records),
        hint: "is the role running for the shard, or paused? holdfast lag",
    }
}

fn stuck(of: &UnderWay) -> Vec<Finding> {
    let old = |one: &&Standing| of.now.since(one.oldest) > STUCK;
    let finding = |one: &Standing| {
        let (stage, hint) = match one.state {
            State::Held => (Role::Credit, "is its destination's shard up? holdfast transfer list"),
            _ => (Role::Hold, "is hold running for the shard? holdfast lag"),
        };
        Finding {
            shard: Some(of.shard),
            stage: Some(stage.as_str()),
            what: format!(
                "{} {} {} {}, the oldest for {}",
                amount(one.amount, one.currency),
                if one.transfers == 1 { "stands" } else { "stand" },
                one.state.as_str(),
                transfers(one.transfers),
                span(of.now.since(one.oldest))
            ),
            hint,
        }
    };
    of.standing.iter().filter(old).map(finding).collect()
}

fn amount(minor: i128, currency: Currency) -> String {
    format!("{} {currency}", format_minor(minor, currency))
}

fn transfers(count: u64) -> String {
    if count == 1 { "in 1 transfer".to_owned() } else { format!("in {count} transfers") }
}

fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// As it is printed, first of all.
pub fn text(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "All is well.\n".to_owned();
    }
    let line = |one: &Finding| {
        let shard = one.shard.map(|shard| format!("shard {shard}")).unwrap_or_default();
        let place: Vec<&str> = [shard.as_str(), one.stage.unwrap_or_default()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        let place =
            if place.is_empty() { String::new() } else { format!("{}: ", place.join(", ")) };
        format!("! {place}{}\n    {}\n", one.what, one.hint)
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    fn under_way(state: State, age: u64, unsent: u64) -> UnderWay {
        let standing = Standing {
            currency: "EUR".parse().unwrap(),
            state,
            transfers: 3,
            amount: 12_000,
            oldest: NOW.minus(Duration::from_secs(age)),
        };
        let outbox = (7, Duration::from_secs(unsent));
        UnderWay { shard: Shard(1), standing: vec![standing], now: NOW, outbox }
    }

    fn dependency(name: &str, health: Health) -> DependencyStatus {
        DependencyStatus {
            name: name.to_owned(),
            health,
            latency: Duration::ZERO,
            required: true,
            detail: Some("refused".to_owned()),
        }
    }

    #[test]
    fn what_is_everyday_is_no_finding() {
        let fine = [dependency("mysql.0", Health::Up)];
        let way = [under_way(State::Held, 5, 1)];
        let age = Duration::from_secs(2);
        let behind = [Behind { role: Role::Hold, shard: Shard(0), records: 9, age }];
        let found = findings(&fine, &way, &behind, &[]);
        assert_eq!(found, []);
        assert_eq!(text(&found), "All is well.\n");
    }

    #[test]
    fn each_finding_names_its_shard_its_stage_and_the_money() {
        let broken = [dependency("mysql.1", Health::Down), dependency("kafka", Health::Down)];
        let age = Duration::from_secs(42);
        let behind = [Behind { role: Role::Credit, shard: Shard(1), records: 9, age }];
        let found = findings(&broken, &[under_way(State::Held, 90, 30)], &behind, &[]);
        let seen: Vec<_> =
            found.iter().map(|one| (one.shard, one.stage, one.what.as_str())).collect();
        assert_eq!(
            seen,
            [
                (Some(Shard(1)), None, "mysql.1 does not answer: refused"),
                (None, None, "kafka does not answer: refused"),
                (
                    Some(Shard(1)),
                    Some("relay"),
                    "7 outbox records are not sent, the oldest for 30 s"
                ),
                (Some(Shard(1)), Some("credit"), "credit is 42 s behind, by 9 records"),
                (
                    Some(Shard(1)),
                    Some("credit"),
                    "120.00 EUR stand held in 3 transfers, the oldest for 90 s"
                ),
            ]
        );
        assert!(text(&found).contains("! shard 1, credit: 120.00 EUR stand held"));
    }
}
