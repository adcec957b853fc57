//! The transaction that several decisions share.

use super::{Decision, GoesBy, Stored};
use crate::domain::{AccountChange, AccountId, AccountRow, Outcome, Plan, Stamp, TransferId};
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
    /// For each decision one outcome for each of its events.
    type Output = Vec<Vec<Outcome>>;

    async fn run(&self, tx: &mut dyn Tx, attempt: u32) -> Result<Self::Output, StoreError> {
        let ids: BTreeSet<AccountId> =
            self.decisions.iter().flat_map(|decision| decision.accounts()).collect();
        let rows = tx.lock_accounts(&ids).await?;
        let stored = if attempt == 0 { None } else { Some(self.read(tx).await?) };
        let stamp = self.identity.stamp(tx.now());
        let (plan, outcomes) = decide_all(self.decisions, rows, stored.as_ref(), &stamp);
        if stored.is_none() && !plan.may_be_written_unread() {
            let detail = "an invariant seems violated; the transfers are read first".to_owned();
            return Err(StoreError::Retry { shard: tx.shard(), detail });
        }
        debug_assert!(plan.transfers.iter().all(|write| write.from.may_become(write.to)));
        if !plan.quarantine.is_empty() {
            quarantine(tx, &plan.quarantine).await?;
        }
        tx.write(&plan).await?;
        Ok(outcomes)
    }
}

impl Shared<'_> {
    async fn read(&self, tx: &mut dyn Tx) -> Result<Stored, StoreError> {
        let ids = |by: GoesBy| -> Vec<TransferId> {
            let decisions = self.decisions.iter().filter(|decision| decision.goes_by() == by);
            decisions.flat_map(|decision| decision.transfers()).collect()
        };
        let transfers = tx.transfers(&ids(GoesBy::Transfers)).await?;
        let pivots = tx.pivots(&ids(GoesBy::Pivots)).await?;
        Ok(Stored { transfers, pivots })
    }
}

/// Each decides on what the one before it left; all that is written, and for each its outcomes.
fn decide_all(
    decisions: &[Arc<dyn Decision>],
    mut rows: BTreeMap<AccountId, AccountRow>,
    stored: Option<&Stored>,
    stamp: &Stamp,
) -> (Plan, Vec<Vec<Outcome>>) {
    let (mut whole, mut outcomes) = (Whole::default(), Vec::with_capacity(decisions.len()));
    for decision in decisions {
        let mut plan = decision.decide(&rows, stored, stamp);
        outcomes.push(take(&mut plan.outcomes));
        for change in &plan.accounts {
            let row = rows.get_mut(&change.id).expect("a decision changes rows that it was given");
            (row.posted, row.held, row.version) = (change.posted, change.held, change.version);
        }
        whole.add(plan);
    }
    (whole.plan(), outcomes)
}

/// All plans as one.
#[derive(Default)]
struct Whole {
    plan: Plan,
    /// From the version that was locked to the last one that was decided.
    accounts: BTreeMap<AccountId, AccountChange>,
}

impl Whole {
    fn add(&mut self, plan: Plan) {
        let Plan { accounts, transfers, entries, reversed, quarantine, outcomes: _ } = plan;
        for change in accounts {
            match self.accounts.get_mut(&change.id) {
                Some(known) => {
                    assert_eq!(change.version_before, known.version, "each goes by the row before");
                    *known = AccountChange { version_before: known.version_before, ..change };
                }
                None => drop(self.accounts.insert(change.id.clone(), change)),
            }
        }
        self.plan.transfers.extend(transfers);
        self.plan.entries.extend(entries);
        for (original, change) in reversed {
            *self.plan.reversed.entry(original).or_default() += change;
        }
        for (account, suspicion) in quarantine {
            self.plan.quarantine.entry(account).or_insert(suspicion);
        }
    }

    fn plan(self) -> Plan {
        Plan { accounts: self.accounts.into_values().collect(), ..self.plan }
    }
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
        Arc::new(Holds { batch: Arc::new(batch), timeout: HOLD_TIMEOUT })
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
        let (plan, outcomes) = decide_all(&decisions, locked, None, &stamp());
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
        let (plan, outcomes) = decide_all(&decisions, locked, None, &stamp());
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
        let (plan, _) = decide_all(&decisions, locked, None, &stamp());
        assert!(!plan.may_be_written_unread());
        let suspects: Vec<(&str, &Suspicion)> =
            plan.quarantine.iter().map(|(id, why)| (id.as_str(), why)).collect();
        assert_eq!(suspects.len(), 1);
        assert_eq!(suspects[0].0, "a");
        assert_eq!(plan.accounts.len(), 1);
        assert_eq!(plan.accounts[0].id.as_str(), "b");
    }
}
