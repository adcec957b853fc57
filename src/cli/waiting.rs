//! What a transfer that has not ended waits for, and why.

use super::status;
use super::verdict::Finding;
use crate::context::Context;
use crate::domain::{Shard, State};
use crate::pauses::{Candidate, PauseMode, Paused};
use crate::roles::Role;
use crate::routing::{ShardMap, slot_of};
use crate::runtime::Services;
use crate::store::TransferRecord;
use serde::Serialize;

/// Where a transfer stands, and what keeps it there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Which role does the next step.
    pub stage: &'static str,
    /// On which shard.
    pub shard: Shard,
    /// What is known to keep it, the causes first.
    pub because: Vec<String>,
}

/// Nothing of a transfer that has ended. `credited`: its destination has been paid.
pub async fn look(
    context: &Context,
    services: Services,
    transfer: &TransferRecord,
    credited: bool,
) -> Option<Waiting> {
    if transfer.row.state.is_final() {
        return None;
    }
    let status = status::look(context, services).await;
    Some(waiting(transfer, credited, context.store.map(), &status.findings, &status.paused))
}

/// The same of what is known: pure.
fn waiting(
    transfer: &TransferRecord,
    credited: bool,
    map: &ShardMap,
    findings: &[Finding],
    paused: &Paused,
) -> Waiting {
    let terms = &transfer.row.terms;
    let (own, other) = (map.shard_of(&terms.source), map.shard_of(&terms.destination));
    let (stage, shard, ways): (Role, Shard, &[Role]) = match (transfer.row.state, credited) {
        (State::Held, false) => (Role::Credit, other, &[Role::Credit]),
        (State::Held, true) => (Role::Commit, own, &[Role::Commit]),
        _ => (Role::Hold, own, &[Role::Relay, Role::Hold]),
    };
    let candidate = Candidate {
        source: &terms.source,
        currency: terms.amount.currency(),
        client: Some(&transfer.claim.client),
    };
    let partition = map.partition_of_slot(slot_of(&terms.source));
    let stops = |alone: &Paused| {
        ways.iter().any(|role| alone.stops_partition(*role, own, partition))
            || (stage == Role::Hold && alone.holds_back(&candidate))
    };
    let mut because = Vec::new();
    for (scope, standing) in paused.all() {
        let row = &standing.row;
        if standing.mode == PauseMode::Pause && stops(&Paused::of([row.clone()])) {
            let reason = row.reason.as_deref().unwrap_or("no reason was given");
            because.push(format!(
                "{} has paused {scope} at {}: {reason} (holdfast resume {scope})",
                row.operator, row.since
            ));
        }
    }
    let concerns = |finding: &&Finding| {
        finding.shard.is_none_or(|at| at == own || at == shard)
            && finding.stage.is_none_or(|at| ways.iter().any(|role| role.as_str() == at))
    };
    because.extend(
        findings
            .iter()
            .filter(concerns)
            .map(|finding| format!("{} ({})", finding.what, finding.hint)),
    );
    Waiting { stage: stage.as_str(), shard, because }
}

impl Waiting {
    /// Lines below the transfer.
    pub fn text(&self) -> String {
        let mut text = format!("It waits for {} on shard {}", self.stage, self.shard);
        if self.because.is_empty() {
            text.push_str(
                "; nothing is known to be wrong. What stands still is driven on within a minute or \
                 two: look again then.\n",
            );
            return text;
        }
        text.push_str(", and this is not as it should be:\n");
        for one in &self.because {
            text.push_str(&format!("  - {one}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::terms;
    use crate::domain::{Cause, Timestamp, TransferRow};
    use crate::store::PauseRow;

    fn transfer(state: State) -> TransferRecord {
        TransferRecord {
            row: TransferRow {
                terms: terms(1, "alice", "bob", 500),
                state,
                reason: None,
                requested_at: Timestamp::from_micros(0),
                held_at: None,
                hold_deadline: None,
                completed_at: None,
            },
            claim: crate::store::ClaimKey {
                source: "alice".parse().unwrap(),
                client: "shop".parse().unwrap(),
                key: "k".parse().unwrap(),
            },
            description: None,
            reference: None,
            metadata: None,
            sealed: None,
            hold_cause: Cause::default(),
            final_cause: Cause::default(),
        }
    }

    fn paused(scope: &str) -> Paused {
        Paused::of([PauseRow {
            scope: scope.to_owned(),
            mode: "pause".to_owned(),
            revision: 1,
            since: Timestamp::from_micros(0),
            operator: "zoe".to_owned(),
            reason: Some("a test".to_owned()),
        }])
    }

    fn finding(shard: u16, stage: Option<&'static str>) -> Finding {
        Finding { shard: Some(Shard(shard)), stage, what: "it is late".to_owned(), hint: "look" }
    }

    #[test]
    fn what_keeps_a_transfer_is_named_and_nothing_else() {
        let map = ShardMap::lay_out(1, 4);
        let nothing = Paused::default();
        let requested = transfer(State::Requested);
        let why = |transfer: &TransferRecord, credited, findings: &[Finding], paused: &Paused| {
            let waiting = waiting(transfer, credited, &map, findings, paused);
            (waiting.stage, waiting.because.len())
        };
        assert_eq!(why(&requested, false, &[], &nothing), ("hold", 0));
        assert_eq!(why(&requested, false, &[finding(0, Some("hold"))], &nothing), ("hold", 1));
        assert_eq!(why(&requested, false, &[finding(0, Some("commit"))], &nothing), ("hold", 0));
        assert_eq!(why(&requested, false, &[finding(7, None)], &nothing), ("hold", 0));
        for scope in ["role=relay", "role=hold,shard=0", "shard=0", "source=alice", "merchant=shop"]
        {
            assert_eq!(why(&requested, false, &[], &paused(scope)), ("hold", 1), "{scope}");
        }
        let held = transfer(State::Held);
        assert_eq!(why(&held, false, &[], &paused("source=alice")), ("credit", 0));
        assert_eq!(why(&held, false, &[], &paused("role=credit")), ("credit", 1));
        assert_eq!(why(&held, true, &[], &paused("role=commit,shard=0")), ("commit", 1));
        assert!(waiting(&held, false, &map, &[], &paused("shard=0")).text().contains("zoe"));
    }
}
