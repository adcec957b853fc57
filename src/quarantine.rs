//! Putting accounts into quarantine: new holds are refused until an operator has looked. Used by
//! the workers, who meet a row that breaks an invariant, and by the drift check.

use crate::domain::{AccountId, Suspicion};
use crate::store::{Action, Actor, StoreError, Tx};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Quarantines those accounts that are not yet, with a row each in the audit log.
pub async fn quarantine(
    tx: &mut dyn Tx,
    suspects: &BTreeMap<AccountId, Suspicion>,
) -> Result<(), StoreError> {
    let ids: BTreeSet<AccountId> = suspects.keys().cloned().collect();
    let rows = tx.lock_accounts(&ids).await?;
    let free = |id: &AccountId| rows.get(id).is_some_and(|row| !row.quarantined);
    let fresh: BTreeMap<AccountId, Suspicion> = suspects
        .iter()
        .filter(|(id, _)| free(id))
        .map(|(id, suspicion)| (id.clone(), suspicion.clone()))
        .collect();
    if fresh.is_empty() {
        return Ok(());
    }
    tx.quarantine(&fresh).await?;
    let before = json!({ "quarantined": false });
    let act = |(id, why): (&AccountId, &Suspicion)| {
        let after = json!({
            "quarantined": true, "minor_units": why.amount, "transfer": why.transfer
        });
        let actor = Actor { reason: Some(why.reason.clone()), ..Actor::itself() };
        actor.act(Action::Quarantine, id, &before, &after)
    };
    let acts: Vec<_> = fresh.iter().map(act).collect();
    tx.record_acts(&acts).await
}
