//! Writing what was decided, with exact counts.

use crate::domain::Plan;
use crate::quarantine::quarantine;
use crate::store::{StoreError, Tx, expect_rows};

/// Writes a plan. A count that is not exact discards the transaction; transfers come first, because
/// it is their count that is short when an event is delivered again.
pub async fn write_plan(tx: &mut dyn Tx, plan: &Plan) -> Result<(), StoreError> {
    let shard = tx.shard();
    debug_assert!(plan.transfers.iter().all(|write| write.from.may_become(write.to)));
    if !plan.transfers.is_empty() {
        let changed = tx.advance_transfers(&plan.transfers).await?;
        expect_rows(shard, "transfers", plan.transfers.len(), changed)?;
    }
    if !plan.accounts.is_empty() {
        let changed = tx.write_accounts(&plan.accounts).await?;
        expect_rows(shard, "accounts", plan.accounts.len(), changed)?;
    }
    if !plan.entries.is_empty() {
        let changed = tx.insert_entries(&plan.entries).await?;
        expect_rows(shard, "entries", plan.entries.len(), changed)?;
    }
    if !plan.reversed.is_empty() {
        let changed = tx.add_reversed(&plan.reversed).await?;
        expect_rows(shard, "reversals", plan.reversed.len(), changed)?;
    }
    if !plan.quarantine.is_empty() {
        quarantine(tx, &plan.quarantine).await?;
    }
    Ok(())
}

/// Writes a plan that was made without reading the transfers. Where it cannot be told from the
/// counts whether that was right, the transaction is run again, with the rows.
pub async fn write_unread_plan(tx: &mut dyn Tx, plan: &Plan) -> Result<(), StoreError> {
    if !plan.may_be_written_unread() {
        let detail = "an invariant seems violated; the transfers are read first".to_owned();
        return Err(StoreError::Retry { shard: tx.shard(), detail });
    }
    write_plan(tx, plan).await
}
