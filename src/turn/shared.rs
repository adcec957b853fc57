//! The transaction that several decisions share.

use super::{Decision, Reads, Stored};
use crate::domain::{AccountId, AccountRow, Outcome, Plan, StageWrite, Stamp};
use crate::meters::Tally;
use crate::quarantine::quarantine;
use crate::store::{Identity, StoreError, Tx, Work};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::Arc;

/// Decisions about different transfers, made one after the other.
pub(super) struct Shared<'a> {
    pub decisions: &'a [Arc<dyn Decision>],
    pub identity: &'a Identity,
}

#[async_trait]
impl Work for Shared<'_> {
    /// For each decision one outcome for each of its events, and what is to be counted.
    type Output = (Vec<Vec<Outcome>>, Tally);

    async fn run(&self, tx: &mut dyn Tx, attempt: u32) -> Result<Self::Output, StoreError> {
        let ids: BTreeSet<AccountId> =
            self.decisions.iter().flat_map(|decision| decision.accounts()).collect();
        let rows = tx.lock_accounts(&ids).await?;
        let stored = if attempt == 0 { None } else { Some(self.read(tx).await?) };
        let stamp = self.identity.stamp(tx.now());
        let (plan, outcomes) = decide_all(self.decisions, &rows, stored.as_ref(), &stamp);
        if stored.is_none() && !plan.may_be_written_unread() {
            let detail = "an invariant seems violated; the transfers are read first".to_owned();
            return Err(StoreError::Retry { shard: tx.shard(), detail });
        }
        debug_assert!(plan.transfers.iter().all(StageWrite::is_allowed));
        if !plan.quarantine.is_empty() {
            quarantine(tx, &plan.quarantine).await?;
        }
        tx.write(&plan).await?;
        Ok((outcomes, Tally::moved(plan.transfers.iter())))
    }
}

impl Shared<'_> {
    async fn read(&self, tx: &mut dyn Tx) -> Result<Stored, StoreError> {
        let mut all = Reads::default();
        for reads in self.decisions.iter().map(|decision| decision.reads()) {
            all.transfers.extend(reads.transfers);
            all.pivots.extend(reads.pivots);
        }
        let transfers = tx.transfers(&all.transfers).await?;
        let pivots = tx.pivots(&all.pivots).await?;
        Ok(Stored { transfers, pivots })
    }
}

/// Each decides on what the one before it left; all that is written, and for each its outcomes.
fn decide_all(
    decisions: &[Arc<dyn Decision>],
    locked: &BTreeMap<AccountId, AccountRow>,
    stored: Option<&Stored>,
    stamp: &Stamp,
) -> (Plan, Vec<Vec<Outcome>>) {
    let (mut rows, mut whole) = (locked.clone(), Plan::default());
    let mut outcomes = Vec::with_capacity(decisions.len());
    for decision in decisions {
        let mut plan = decision.decide(&mut rows, stored, stamp);
        outcomes.push(take(&mut plan.outcomes));
        whole.add(plan);
    }
    whole.accounts = Plan::account_changes(locked, &rows);
    whole.usage = Plan::usage_changes(locked, &rows);
    (whole, outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::{Commits, Settled};
    use crate::credit::Credits;
    use crate::domain::testing::{HOLD_TIMEOUT, account, holding, input, rows, stamp, terms};
    use crate::domain::{EventType, PivotDecision, Reason, State, Suspicion};
    use crate::hold::Holds;

    fn hold(number: u32, from: &str, to: &str, minor: i64) -> Arc<dyn Decision> {
        let batch = vec![input(EventType::Requested, &terms(number, from, to, minor))];
        Arc::new(Holds { batch: Arc::new(batch), timeout: HOLD_TIMEOUT, map: None })
    }

    fn credit(number: u32, from: &str, to: &str, minor: i64) -> Arc<dyn Decision> {
        let batch = vec![input(EventType::Held, &terms(number, from, to, minor))];
        Arc::new(Credits { batch: Arc::new(batch) })
    }

    fn commit(number: u32, from: &str, to: &str, minor: i64) -> Arc<dyn Decision> {
        let input = input(EventType::Credited, &terms(number, from, to, minor));
        let batch = vec![Settled { input, decision: PivotDecision::Credited }];
        Arc::new(Commits { batch })
    }

    /// Money that comes in with a transaction can be spent in it; the row is written once, from the
    /// version that was locked, and every entry has a version of its own.
    #[test]
    fn each_decision_goes_by_what_the_one_before_it_left() {
        let locked = rows([holding("a", 50, 30), account("b", 0)]);
        let decisions = [credit(1, "x", "a", 40), commit(2, "a", "y", 30), hold(3, "a", "b", 60)];
        let (plan, outcomes) = decide_all(&decisions, &locked, None, &stamp());
        assert_eq!(outcomes.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
        let [written] = &plan.accounts[..] else { panic!("{:?}", plan.accounts) };
        assert_eq!((written.posted, written.held), (60, 60));
        assert_eq!((written.version_before, written.version), (7, 10));
        let of_entries = plan.entries.iter().map(|entry| {
            let entry = entry.outcome.unwrap();
            (entry.version, entry.balance_after)
        });
        assert_eq!(of_entries.collect::<Vec<_>>(), [(8, 90), (9, 60)]);
        let states: Vec<State> = plan.transfers.iter().map(|write| write.to).collect();
        assert_eq!(states, [State::Committed, State::Held]);
    }

    /// What is spent by one decision is gone for the next.
    #[test]
    fn two_decisions_do_not_spend_the_same_money() {
        let locked = rows([account("a", 50)]);
        let decisions = [hold(1, "a", "b", 40), hold(2, "a", "b", 40)];
        let (plan, outcomes) = decide_all(&decisions, &locked, None, &stamp());
        let kinds = outcomes.iter().flatten().map(|outcome| match outcome {
            Outcome::Emit(event) => (event.kind, event.reason),
            other => panic!("{other:?}"),
        });
        let refused = (EventType::Rejected, Some(Reason::InsufficientFunds));
        assert_eq!(kinds.collect::<Vec<_>>(), [(EventType::Held, None), refused]);
        assert_eq!(plan.accounts[0].held, 40);
    }

    /// A row that breaks an invariant is quarantined, whoever finds it, and not written.
    #[test]
    fn what_one_decision_finds_wrong_is_part_of_the_whole() {
        let locked = rows([account("a", 50), account("b", 50)]);
        let decisions = [commit(1, "a", "y", 30), hold(2, "b", "a", 10)];
        let (plan, _) = decide_all(&decisions, &locked, None, &stamp());
        assert!(!plan.may_be_written_unread());
        let suspects: Vec<(&str, &Suspicion)> =
            plan.quarantine.iter().map(|(id, why)| (id.as_str(), why)).collect();
        assert_eq!(suspects.len(), 1);
        assert_eq!(suspects[0].0, "a");
        assert_eq!(plan.accounts.len(), 1);
        assert_eq!(plan.accounts[0].id.as_str(), "b");
    }
}
