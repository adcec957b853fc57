//! The independent auditor: a model of its own of every account, transfer and pivot, kept from what
//! was committed and announced, and the invariants of the protocol checked against it each time. It
//! uses plain rows of the product and none of its code.

mod accounts;
mod end;
mod events;
mod learn;
mod transfers;
mod velocity;

use crate::store::Changes;
use holdfast::domain::{
    AccountId, AccountRow, ClaimKey, Currency, Reason, Shard, Side, State, TransferId,
};
use std::collections::{BTreeMap, BTreeSet};

/// What the destination's shard says of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PivotSeen {
    Credited,
    Refused(Reason),
}

/// A transfer, as it was committed.
#[derive(Clone, Debug)]
pub struct TransferSeen {
    pub source: AccountId,
    pub destination: AccountId,
    pub currency: Currency,
    pub amount: i64,
    pub reverses: Option<TransferId>,
    pub shard: Shard,
    pub state: State,
    pub reason: Option<Reason>,
    pub was_held: bool,
    pub debited: bool,
    /// When its acceptance was committed.
    pub accepted: u64,
    /// When its outbox row was written, and its place in it.
    pub asked: (u64, usize),
    /// Whether its `requested` event was ever published, and whether again by the reconciler.
    pub published: bool,
    pub driven: bool,
    /// Whether its final event was published.
    pub announced: bool,
    /// The end that was announced of it before a recovery.
    pub promised: Option<(State, Option<Reason>)>,
}

/// An account, as it was committed.
#[derive(Clone, Debug)]
pub struct AccountSeen {
    pub shard: Shard,
    pub row: AccountRow,
    pub entries: i128,
    pub held: i128,
}

/// Posted, held, status: what a version of a row says.
type Snapshot = (String, String, String);

#[derive(Default)]
pub struct Auditor {
    pub transfers: BTreeMap<TransferId, TransferSeen>,
    pub pivots: BTreeMap<TransferId, (PivotSeen, Shard)>,
    accounts: BTreeMap<AccountId, AccountSeen>,
    claims: BTreeMap<ClaimKey, TransferId>,
    /// Per original: what its reversals that did not fail take back.
    reversed: BTreeMap<TransferId, i64>,
    posted: BTreeMap<Currency, i128>,
    in_flight: BTreeMap<Currency, i128>,
    snapshots: BTreeMap<(AccountId, i64), Snapshot>,
    /// What accounts that have velocity limits have used of them.
    velocity: BTreeMap<AccountId, velocity::Limits>,
    /// Accepted transfers of each source, in order.
    of_source: BTreeMap<AccountId, Vec<TransferId>>,
    /// What is published now is a copy of what was: it says nothing.
    pub silent: bool,
    /// Whether there was a recovery.
    pub recovered: bool,
    /// While a recovery runs, rows are not as they should be.
    pub suspended: bool,
    /// Clocks jumped: which of two transfers is older is not the databases' to say.
    pub clocks_jumped: bool,
    /// A script puts a dead letter where the product would not.
    pub dead_letters_expected: bool,
}

/// What a commit did to accounts: transfers applied, by account.
#[derive(Default)]
struct Moves {
    holds: BTreeMap<AccountId, u32>,
    credits: BTreeMap<AccountId, u32>,
    settled: BTreeMap<AccountId, u32>,
    touched: BTreeSet<AccountId>,
    /// Those whose velocity limits were changed.
    limited: BTreeSet<AccountId>,
}

impl Auditor {
    /// After every commit.
    pub fn committed(&mut self, shard: Shard, changes: &Changes) -> Result<(), String> {
        if self.suspended {
            return Ok(());
        }
        let mut moves = Moves::default();
        for (key, claim) in &changes.claims {
            if self.claims.insert(key.clone(), claim.transfer).is_some() {
                return Err(format!("invariant 5: a claim of {} was written twice", key.source));
            }
        }
        for (before, after) in &changes.transfers {
            match before {
                None => self.accepted(shard, changes, after)?,
                Some(before) => self.held(shard, before, after, &mut moves)?,
            }
        }
        self.entered(shard, Side::Credit, changes, &mut moves)?;
        for (before, after) in &changes.transfers {
            if let Some(before) = before {
                self.moved(shard, before, after, &mut moves)?;
            }
        }
        self.entered(shard, Side::Debit, changes, &mut moves)?;
        self.decided_in_order(changes)?;
        self.spent(changes, &mut moves)?;
        for (before, after) in &changes.accounts {
            moves.touched.insert(after.id.clone());
            self.account(shard, before.as_ref(), after, changes, &moves)?;
        }
        for id in &moves.touched {
            self.sums(id)?;
        }
        for (original, reversed) in &changes.reversals {
            self.reversal(*original, *reversed)?;
        }
        self.conserved()
    }

    /// Every claim that was written.
    pub fn claims(&self) -> &BTreeMap<ClaimKey, TransferId> {
        &self.claims
    }

    /// Invariant 1.
    fn conserved(&self) -> Result<(), String> {
        for (currency, posted) in &self.posted {
            let in_flight = self.in_flight.get(currency).copied().unwrap_or(0);
            if posted - in_flight != 0 {
                return Err(format!(
                    "invariant 1: {posted} {currency} are posted and {in_flight} in flight"
                ));
            }
        }
        Ok(())
    }

    fn transfer(&mut self, id: TransferId, why: &str) -> Result<&mut TransferSeen, String> {
        self.transfers.get_mut(&id).ok_or_else(|| format!("{why} {id}, which no source accepted"))
    }

    /// All reversals of an original together never exceed it, and the table says how much it is.
    fn reversal(&self, original: TransferId, stored: i64) -> Result<(), String> {
        let live = self.reversed.get(&original).copied().unwrap_or(0);
        let amount = self.transfers.get(&original).map_or(0, |transfer| transfer.amount);
        if stored != live || live > amount {
            return Err(format!(
                "reversals of {original} over {amount}: {live} are live and {stored} are stored"
            ));
        }
        Ok(())
    }
}
