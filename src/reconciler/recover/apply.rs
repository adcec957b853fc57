//! Writing what was decided: one transaction a transfer and side, each of which looks again first,
//! so that a recovery can be interrupted anywhere and run again.
//!
//! Recovery alone adds to `posted` and `held` outside of hold, credit and commit, and only what
//! these steps had added before and was lost.

use super::decide::SourceRepair;
use super::survey::{Case, nobodys_claim};
use crate::broker::envelope;
use crate::context::Context;
use crate::domain::{
    AccountChange, AccountKind, AccountRow, Cause, Entry, EntryRow, Event, EventType, NewTransfer,
    PivotDecision, Reason, StageWrite, State, Terms, Timestamp, UsageChange,
};
use crate::sealing::seal;
use crate::store::{AccountSettings, StoreError, Tx, Work, expect_rows};
use async_trait::async_trait;
use std::collections::BTreeMap;

/// What came of one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It was written.
    Done,
    /// The source had less than it has to hold: its limit is this much higher now, minor units.
    LimitRaised(i64),
    /// It had been written before.
    AlreadyThere,
    /// Its key has been used for another transfer since: this one was not made again, or without
    /// its claim.
    KeyUsed {
        /// Whether the transfer was made again.
        restored: bool,
    },
    /// The account does not exist, and no event carried its row.
    NoAccount,
    /// It would break an invariant.
    Impossible(String),
}

/// Writes a lost pivot again, with the money if it reads CREDITED.
pub(super) struct WritePivot<'a> {
    pub terms: &'a Terms,
    pub decision: PivotDecision,
}

#[async_trait]
impl Work for WritePivot<'_> {
    type Output = Written;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Written, StoreError> {
        let terms = self.terms;
        let mut rows = tx.lock_accounts(&[terms.destination.clone()].into()).await?;
        if !tx.pivots(&[terms.id]).await?.is_empty() {
            return Ok(Written::AlreadyThere);
        }
        let outcome = match self.decision {
            PivotDecision::Refused(reason) => Err(reason),
            PivotDecision::Credited => {
                let Some(row) = rows.remove(&terms.destination) else {
                    return Ok(Written::NoAccount);
                };
                let change = match credited(&row, terms) {
                    Ok(change) => change,
                    Err(fault) => return Ok(Written::Impossible(fault)),
                };
                let (balance_after, version) = (change.posted, change.version);
                let written = tx.write_accounts(&[change]).await?;
                expect_rows(tx.shard(), "accounts", 1, written)?;
                Ok(Entry { amount: terms.amount, balance_after, version })
            }
        };
        let entry = EntryRow::pivot_row(terms, outcome, tx.now(), Cause::default());
        tx.insert_entries(&[entry]).await?;
        Ok(Written::Done)
    }
}

/// Brings the source's side to where the pivot says it is.
pub(super) struct WriteSource<'a> {
    pub context: &'a Context,
    pub case: &'a Case,
    pub repair: SourceRepair,
}

#[async_trait]
impl Work for WriteSource<'_> {
    type Output = Written;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Written, StoreError> {
        let terms = &self.case.terms;
        let rows = tx.lock_accounts(&[terms.source.clone()].into()).await?;
        let stored = tx.transfers(&[terms.id]).await?;
        let mut restored = Written::Done;
        match (stored.get(&terms.id), &self.case.lost) {
            (Some(row), _) if row.terms != *terms => {
                return Ok(Written::Impossible("the stored transfer has other terms".to_owned()));
            }
            (Some(row), _) if row.state != State::Requested => return Ok(Written::AlreadyThere),
            (Some(_), _) if self.repair == SourceRepair::Request => {
                return Ok(Written::AlreadyThere);
            }
            (Some(_), _) => {}
            (None, Some(lost)) => {
                let request = self.repair == SourceRepair::Request;
                restored = restore(tx, lost, request).await?;
                if restored == (Written::KeyUsed { restored: false }) {
                    return Ok(restored);
                }
            }
            (None, None) => {
                return Ok(Written::Impossible("the transfer has no row any more".to_owned()));
            }
        }
        let written = match self.repair {
            SourceRepair::Request => Written::Done,
            SourceRepair::Hold => self.hold(tx, &rows).await?,
            SourceRepair::End(reason) => self.end(tx, reason).await?,
        };
        Ok(if written == Written::Done { restored } else { written })
    }
}

impl WriteSource<'_> {
    /// Whatever the account has: the money was given away. A limit that would be exceeded is
    /// raised first, so that the row keeps its invariant at every version.
    async fn hold(
        &self,
        tx: &mut dyn Tx,
        rows: &BTreeMap<crate::domain::AccountId, AccountRow>,
    ) -> Result<Written, StoreError> {
        let terms = &self.case.terms;
        let Some(row) = rows.get(&terms.source) else { return Ok(Written::NoAccount) };
        let (raised, change) = match held_again(row, terms.amount.minor()) {
            Ok(held) => held,
            Err(fault) => return Ok(Written::Impossible(fault)),
        };
        let mut written = Written::Done;
        if let Some(settings) = raised {
            expect_rows(tx.shard(), "accounts", 1, tx.write_settings(&settings).await?)?;
            written = Written::LimitRaised(settings.row.overdraft_limit - row.overdraft_limit);
        }
        expect_rows(tx.shard(), "accounts", 1, tx.write_accounts(&[change]).await?)?;
        let usage = counted(row, terms.amount.minor(), tx.now());
        if !usage.is_empty() {
            let written = tx.write_usage(&usage).await?;
            expect_rows(tx.shard(), "velocity limits", usage.len(), written)?;
        }
        let deadline = tx.now().plus(self.context.policy.hold_timeout);
        let write =
            StageWrite { hold_deadline: Some(deadline), ..stage(terms, State::Held, None, tx) };
        expect_rows(tx.shard(), "transfers", 1, tx.advance_transfers(&[write]).await?)?;
        Ok(written)
    }

    /// As cancel ends a REQUESTED transfer: in its row, with the event in the same transaction.
    async fn end(&self, tx: &mut dyn Tx, reason: Reason) -> Result<Written, StoreError> {
        let terms = &self.case.terms;
        let state = reason.final_state();
        let write = stage(terms, state, Some(reason), tx);
        expect_rows(tx.shard(), "transfers", 1, tx.advance_transfers(&[write]).await?)?;
        if let Some(original) = terms.reverses {
            let back = [(original, -terms.amount.minor())].into();
            expect_rows(tx.shard(), "reversals", 1, tx.add_reversed(&back).await?)?;
        }
        let stamp = self.context.store.identity().stamp(tx.now());
        let event =
            Event { reason: Some(reason), ..stamp.event(EventType::announcing(state), terms) };
        tx.insert_outbox(&[envelope::record(&event, self.context.store.map())]).await?;
        Ok(Written::Done)
    }
}

fn stage(terms: &Terms, to: State, reason: Option<Reason>, tx: &dyn Tx) -> StageWrite {
    StageWrite {
        terms: terms.clone(),
        from: State::Requested,
        to,
        reason,
        hold_deadline: None,
        at: tx.now(),
        cause: Cause::default(),
    }
}

/// Inserts the transfer and its claim as ingress did, and counts a reversal again. Where the key
/// was used since for another transfer, one that moved no money stays away: its client has been
/// answered with the other.
async fn restore(
    tx: &mut dyn Tx,
    lost: &NewTransfer,
    request: bool,
) -> Result<Written, StoreError> {
    let used = !tx.claims(std::slice::from_ref(&lost.claim)).await?.is_empty();
    if used && request {
        return Ok(Written::KeyUsed { restored: false });
    }
    if let Some(original) = lost.terms.reverses {
        tx.lock_reversed(&[original].into()).await?;
        let taken = [(original, lost.terms.amount.minor())].into();
        expect_rows(tx.shard(), "reversals", 1, tx.add_reversed(&taken).await?)?;
    }
    let claim = if used { nobodys_claim(&lost.terms) } else { lost.claim.clone() };
    let mut again = NewTransfer { claim, ..lost.clone() };
    // What was published sealed is stored as it was. What is from before that is sealed now.
    if again.is_personal()
        && let Some(sealer) = tx.sealer()?
    {
        seal(&sealer, &mut again);
    }
    tx.insert_transfers(&[again]).await?;
    Ok(if used { Written::KeyUsed { restored: true } } else { Written::Done })
}

/// The destination's row with the money that it had.
fn credited(row: &AccountRow, terms: &Terms) -> Result<AccountChange, String> {
    if row.currency != terms.amount.currency() {
        return Err(format!("{} holds {}", row.id, row.currency));
    }
    row.check()?;
    let mut after = row.clone();
    after.posted += terms.amount.minor();
    after.version += 1;
    after.check()?;
    Ok(change(row.version, &after))
}

/// The source's row with the hold that it had, and before it the limit that this takes, if the one
/// it has is not enough.
fn held_again(
    row: &AccountRow,
    amount: i64,
) -> Result<(Option<AccountSettings>, AccountChange), String> {
    row.check()?;
    let mut after = row.clone();
    let short = match row.kind {
        AccountKind::Customer => amount - row.available().unwrap_or(0).min(amount),
        AccountKind::External => 0,
    };
    let mut raised = None;
    if short > 0 {
        after.overdraft_limit += short;
        after.version += 1;
        after.check()?;
        let version_before = row.version;
        raised = Some(AccountSettings {
            row: after.clone(),
            version_before,
            metadata: None,
            owner: None,
        });
    }
    let version_before = after.version;
    after.held += amount;
    after.version += 1;
    after.check()?;
    Ok((raised, change(version_before, &after)))
}

/// A hold that was lost counts again, however much the limits say: it was within them once.
fn counted(row: &AccountRow, amount: i64, at: Timestamp) -> Vec<UsageChange> {
    let mut after = row.clone();
    after.velocity.count(amount, at);
    UsageChange::between(row, &after)
}

fn change(version_before: i64, after: &AccountRow) -> AccountChange {
    AccountChange {
        id: after.id.clone(),
        posted: after.posted,
        held: after.held,
        version_before,
        version: after.version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::{NOW, account, holding, terms};
    use crate::domain::{Limit, Period, Velocity};

    #[test]
    fn a_hold_that_fits_leaves_the_limit() {
        let (raised, change) = held_again(&holding("a", 100, 30), 70).unwrap();
        assert_eq!(raised, None);
        assert_eq!((change.posted, change.held, change.version), (100, 100, 8));
    }

    #[test]
    fn a_hold_beyond_the_limit_raises_it_by_what_is_missing() {
        let (raised, change) = held_again(&holding("a", 100, 30), 90).unwrap();
        let raised = raised.unwrap();
        assert_eq!((raised.row.overdraft_limit, raised.row.version), (20, 8));
        assert_eq!((raised.row.posted, raised.row.held), (100, 30));
        assert_eq!((change.version_before, change.version, change.held), (8, 9, 120));
    }

    #[test]
    fn an_external_account_holds_without_a_limit() {
        let external = AccountRow { kind: AccountKind::External, ..account("e", -500) };
        let (raised, change) = held_again(&external, 90).unwrap();
        assert_eq!((raised, change.held, change.version), (None, 90, 8));
    }

    #[test]
    fn a_hold_that_is_made_again_counts_whatever_the_limit_says() {
        let limit = Limit::new(Some(0), None).unwrap();
        let velocity = Velocity::NONE.limited_to(&[(Period::Hour, limit)].into());
        let limited = AccountRow { velocity, ..holding("a", 100, 30) };
        let [change] = &counted(&limited, 70, NOW)[..] else { panic!("one limit") };
        assert_eq!((change.used.count, change.used.amount), (1, 70));
        assert_eq!(counted(&holding("a", 100, 30), 70, NOW), []);
    }

    #[test]
    fn a_credit_in_another_currency_is_impossible() {
        let terms = terms(1, "a", "b", 10);
        assert!(credited(&account("b", 5), &terms).is_ok());
        let euros = AccountRow { currency: "EUR".parse().unwrap(), ..account("b", 5) };
        assert!(credited(&euros, &terms).is_err());
    }
}
