//! A transaction whose COMMIT may go unconfirmed.

use super::store::{ShardFaults, Unconfirmed};
use async_trait::async_trait;
use holdfast::broker::Record;
use holdfast::domain::{
    AccountChange, AccountId, AccountRow, Client, EntryRow, IdempotencyKey, Pivot, Plan, Proposal,
    ProposalId, Shard, StageWrite, Suspicion, Timestamp, TransferId, TransferRow, UsageChange,
    Velocity,
};
use holdfast::sealing::Sealer;
use holdfast::store::{
    AccountRecord, AccountSettings, Act, ApiKeyRow, Claim, ClaimKey, CredentialsTx, LetterMark,
    NewTransfer, OperationsTx, PauseRow, PausesTx, ProposalsTx, StoreError, Tx,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A transaction behind [`ShardFaults`].
pub struct FaultyTx {
    pub inner: Box<dyn Tx>,
    pub faults: Arc<ShardFaults>,
}

macro_rules! delegate {
    ($port:ident { $($other:tt)* } $($name:ident($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        #[async_trait]
        impl $port for FaultyTx {
            $($other)*
            $(async fn $name(&mut self, $($arg: $kind),*) -> Result<$out, StoreError> {
                self.faults.reach(self.inner.shard()).await?;
                self.inner.$name($($arg),*).await
            })*
        }
    };
}

delegate! {
    PausesTx {}
    put_pause(row: &PauseRow) -> bool;
}

delegate! {
    CredentialsTx {}
    put_api_key(row: &ApiKeyRow) -> bool;
}

delegate! {
    Tx {
        fn shard(&self) -> Shard {
            self.inner.shard()
        }

        fn now(&self) -> Timestamp {
            self.inner.now()
        }

        fn sealer(&self) -> Result<Option<Sealer>, StoreError> {
            self.inner.sealer()
        }

        async fn set_velocity(
            &mut self,
            account: &AccountId,
            velocity: &Velocity,
        ) -> Result<(), StoreError> {
            self.faults.reach(self.inner.shard()).await?;
            self.inner.set_velocity(account, velocity).await
        }

        async fn commit(self: Box<Self>) -> Result<(), StoreError> {
            let shard = self.inner.shard();
            self.faults.reach(shard).await?;
            let detail = "the test keeps the answer to itself".to_owned();
            match self.faults.next_commit() {
                None => self.inner.commit().await,
                Some(Unconfirmed::Written) => {
                    self.inner.commit().await?;
                    Err(StoreError::CommitUnknown { shard, detail })
                }
                Some(Unconfirmed::Lost) => {
                    drop(self.inner);
                    Err(StoreError::CommitUnknown { shard, detail })
                }
            }
        }
    }
    lock_accounts(ids: &BTreeSet<AccountId>) -> BTreeMap<AccountId, AccountRow>;
    write_accounts(changes: &[AccountChange]) -> u64;
    transfers(ids: &[TransferId]) -> HashMap<TransferId, TransferRow>;
    advance_transfers(writes: &[StageWrite]) -> u64;
    pivots(ids: &[TransferId]) -> HashMap<TransferId, Pivot>;
    insert_entries(entries: &[EntryRow]) -> ();
    write(plan: &Plan) -> ();
    claims(keys: &[ClaimKey]) -> HashMap<ClaimKey, Claim>;
    insert_transfers(transfers: &[NewTransfer]) -> ();
    insert_outbox(records: &[Record]) -> ();
    lock_reversed(originals: &BTreeSet<TransferId>) -> BTreeMap<TransferId, i64>;
    add_reversed(changes: &BTreeMap<TransferId, i64>) -> u64;
    quarantine(accounts: &BTreeMap<AccountId, Suspicion>) -> ();
    insert_accounts(accounts: &[AccountRecord]) -> u64;
    account_records(ids: &BTreeSet<AccountId>) -> BTreeMap<AccountId, AccountRecord>;
    write_settings(settings: &AccountSettings) -> u64;
    write_usage(changes: &[UsageChange]) -> u64;
}

delegate! {
    OperationsTx {}
    record_acts(acts: &[Act]) -> ();
    forget_quarantines(ids: &BTreeSet<AccountId>) -> u64;
    mark_letters(marks: &[LetterMark]) -> ();
    rebuild_projections(ids: &BTreeSet<AccountId>) -> u64;
}

delegate! {
    ProposalsTx {}
    lock_proposal(id: ProposalId) -> Option<Proposal>;
    proposal_of(by: &Client, target: &str, key: &IdempotencyKey) -> Option<Proposal>;
    insert_proposal(proposal: &Proposal) -> ();
    write_proposal(proposal: &Proposal) -> u64;
}
