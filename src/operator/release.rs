//! Ending a quarantine, once the books agree again.

use super::OperatorError;
use crate::context::Context;
use crate::domain::{AccountId, Shard};
use crate::reconciler::compare::{self, Fault, Finding};
use crate::store::{
    AccountSettings, Action, Actor, Quarantined, StoreError, Tx, Work, expect_rows, transact,
};
use async_trait::async_trait;
use serde_json::{Value, json};

/// What is known of an account in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Why it was quarantined, if that was kept.
    pub quarantine: Option<Quarantined>,
    /// What its books still say against each other, everything added up anew.
    pub findings: Vec<Finding>,
}

/// Looks at an account's books once more; none where it is not in quarantine.
pub async fn examine(context: &Context, id: &AccountId) -> Result<Option<Examined>, OperatorError> {
    let store = &context.store;
    let shard = store.map().shard_of(id);
    let found = store.account(shard, id).await?;
    let account = found.ok_or_else(|| OperatorError::NoAccount(id.clone()))?;
    if !account.row.quarantined {
        return Ok(None);
    }
    let quarantine = store.quarantine_of(shard, id).await?;
    let ids = std::slice::from_ref(id);
    let sums = store.account_sums_of(shard, ids).await?;
    let mut faults: Vec<Fault> =
        sums.iter().flat_map(|sums| compare::account(shard, sums)).collect();
    let chain = store.chain_faults_of(shard, ids).await?;
    faults.extend(chain.iter().map(|fault| compare::entry(shard, fault)));
    if let Some(transfer) = quarantine.as_ref().and_then(|known| known.suspicion.transfer) {
        let home = store.map().shard_of_transfer(transfer);
        let facts = store.source_facts_of(home, &[transfer]).await?;
        let looked = compare::transfers(&**store, home, &facts).await?;
        if let Some((_, error)) = looked.unanswered.into_iter().next() {
            return Err(error.into());
        }
        faults.extend(looked.faults);
        let pivots = store.credit_facts_of(shard, &[transfer]).await?;
        faults.extend(compare::pivots(&**store, shard, &pivots).await?);
    }
    // A copy of the books that is wrong is no reason to refuse holds.
    faults.retain(|fault| fault.suspect.is_some());
    let findings = faults.into_iter().map(|fault| fault.finding).collect();
    Ok(Some(Examined { quarantine, findings }))
}

/// Ends a quarantine; false where it has ended meanwhile. What was found still to be wrong goes
/// into the audit log with it.
pub async fn release(
    context: &Context,
    id: &AccountId,
    examined: &Examined,
    actor: &Actor,
) -> Result<bool, OperatorError> {
    let shard: Shard = context.store.map().shard_of(id);
    Ok(transact(&*context.store, shard, &Release { id, examined, actor }).await?)
}

struct Release<'a> {
    id: &'a AccountId,
    examined: &'a Examined,
    actor: &'a Actor,
}

#[async_trait]
impl Work for Release<'_> {
    type Output = bool;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<bool, StoreError> {
        release_within(tx, self.id, self.examined, self.actor).await
    }
}

/// [`release`], within a transaction of the account's shard.
pub async fn release_within(
    tx: &mut dyn Tx,
    id: &AccountId,
    examined: &Examined,
    actor: &Actor,
) -> Result<bool, StoreError> {
    let ids = [id.clone()].into();
    let Some(mut row) = tx.lock_accounts(&ids).await?.remove(id) else { return Ok(false) };
    if !row.quarantined {
        return Ok(false);
    }
    let version_before = row.version;
    row.quarantined = false;
    row.version += 1;
    let settings = AccountSettings { row, version_before, metadata: None, owner: None };
    expect_rows(tx.shard(), "account settings", 1, tx.write_settings(&settings).await?)?;
    tx.forget_quarantines(&ids).await?;
    let findings: Vec<&str> = examined.findings.iter().map(|finding| finding.what).collect();
    let after = json!({ "quarantined": false, "still_wrong": findings });
    let before = quarantined(examined.quarantine.as_ref());
    let act = actor.act(Action::ReleaseQuarantine, id, &before, &after);
    tx.record_acts(&[act]).await?;
    Ok(true)
}

/// A quarantine as it is shown.
pub fn quarantined(known: Option<&Quarantined>) -> Value {
    json!({
        "quarantined": true,
        "since": known.map(|known| known.since),
        "reason": known.map(|known| &known.suspicion.reason),
        "minor_units": known.map(|known| known.suspicion.amount),
        "transfer": known.and_then(|known| known.suspicion.transfer),
    })
}
