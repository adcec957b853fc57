//! Running a piece of work in one transaction, again and again where the database says so.

use super::{Store, StoreError, Tx};
use crate::crash::{self, Place};
use crate::domain::Shard;
use crate::meters::table::TRANSACTION_RETRIES;
use crate::random;
use async_trait::async_trait;
use std::time::Duration;

/// How often a transaction is run before its caller hears of it.
const ATTEMPTS: u32 = 12;

/// What is done inside one transaction. It is run anew, from the beginning, after a deadlock, a
/// lock timeout or a short count; it must not keep anything from a run that failed.
#[async_trait]
pub trait Work: Sync {
    /// What it yields once committed.
    type Output: Send;

    /// Reads, decides, writes. `attempt` counts from 0: a work that first assumes that nothing
    /// was done yet reads the rows from the second attempt on.
    async fn run(&self, tx: &mut dyn Tx, attempt: u32) -> Result<Self::Output, StoreError>;
}

/// Runs `work` in a transaction on `shard` and commits it.
///
/// Retries [`StoreError::Retry`] and lost races for a claim, transfer or entry with exponential
/// backoff and jitter; every other error is the caller's.
pub async fn transact<W: Work>(
    store: &dyn Store,
    shard: Shard,
    work: &W,
) -> Result<W::Output, StoreError> {
    again(|attempt| run_once(store, shard, work, attempt)).await
}

/// The same for work that changes nothing where it was done before: a COMMIT that was not confirmed is
/// found out by doing it again.
pub async fn transact_repeatable<W: Work>(
    store: &dyn Store,
    shard: Shard,
    work: &W,
) -> Result<W::Output, StoreError> {
    match transact(store, shard, work).await {
        Err(StoreError::CommitUnknown { .. }) => transact(store, shard, work).await,
        outcome => outcome,
    }
}

/// Runs a transaction until it is committed or its error is the caller's.
pub(super) async fn again<T, F, Run>(mut run: Run) -> Result<T, StoreError>
where
    Run: FnMut(u32) -> F,
    F: Future<Output = Result<T, StoreError>>,
{
    let mut attempt = 0;
    loop {
        let error = match run(attempt).await {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        attempt += 1;
        if attempt >= ATTEMPTS || !may_run_again(&error) {
            return Err(error);
        }
        TRANSACTION_RETRIES.counter(&[&error.shard().to_string(), error.kind()]).increment(1);
        tracing::debug!(%error, attempt, "transaction is run again");
        tokio::time::sleep(backoff(attempt)).await;
    }
}

async fn run_once<W: Work>(
    store: &dyn Store,
    shard: Shard,
    work: &W,
    attempt: u32,
) -> Result<W::Output, StoreError> {
    let mut tx = store.begin(shard).await?;
    crash::in_transaction(Place::Begun);
    let output = work.run(tx.as_mut(), attempt).await?;
    crash::in_transaction(Place::Written);
    tx.commit().await?;
    crash::in_transaction(Place::Committed);
    Ok(output)
}

fn may_run_again(error: &StoreError) -> bool {
    use super::Constraint;
    match error {
        StoreError::Retry { .. } => true,
        StoreError::Duplicate { constraint, .. } => matches!(
            constraint,
            Constraint::Claim | Constraint::Transfer | Constraint::Entry | Constraint::Account
        ),
        StoreError::Unavailable { .. }
        | StoreError::CommitUnknown { .. }
        | StoreError::Identity { .. }
        | StoreError::Corrupt { .. }
        | StoreError::Failed { .. } => false,
    }
}

/// Nothing before the second run (a short count is cured by reading), then 1 ms doubling to
/// 128 ms, half of it random.
fn backoff(attempt: u32) -> Duration {
    if attempt <= 1 {
        return Duration::ZERO;
    }
    let half = Duration::from_micros(500 << (attempt - 2).min(7));
    half + random::up_to(half)
}
