//! What is compared with what, and what is wrong where they differ: shared by the full audit, the
//! continuous drift check and those who end a quarantine.

use crate::domain::{
    AccountId, AccountRow, PivotDecision, Shard, State, Suspicion, TransferId, format_minor,
};
use crate::store::{AccountSums, CreditFact, EntryFault, SourceFact, Store, StoreError};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Which rule is broken.
    pub what: &'static str,
    /// Shard, account, transfer.
    pub place: String,
    /// How much money, or by how much.
    pub amount: String,
    /// What repairs it.
    pub repair: &'static str,
}

impl Finding {
    /// Where, with the account masked: for the log.
    pub fn masked_place(&self) -> String {
        const BEFORE: &str = "account ";
        let Some(at) = self.place.find(BEFORE) else { return self.place.clone() };
        let (before, rest) = self.place.split_at(at + BEFORE.len());
        let (id, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
        let id = id.parse::<AccountId>().map_or_else(|_| String::new(), |id| id.masked());
        format!("{before}{id}{after}")
    }
}

/// A finding, and the account whose books it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What an operator is told.
    pub finding: Finding,
    /// The account that is to make no new holds; none where it is about a copy of the books.
    pub suspect: Option<Suspect>,
}

/// An account whose books are wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The account.
    pub account: AccountId,
    /// By how many minor units, as far as that is known.
    pub amount: i64,
    /// The transfer that it is about, if it is about one.
    pub transfer: Option<TransferId>,
}

impl Fault {
    /// Why the account is quarantined.
    pub fn suspicion(&self) -> Option<(&AccountId, Suspicion)> {
        let suspect = self.suspect.as_ref()?;
        let reason = format!("{}: {}", self.finding.what, self.finding.amount);
        let Suspect { amount, transfer, .. } = *suspect;
        Some((&suspect.account, Suspicion { reason, amount, transfer }))
    }
}

/// What the books of an account say against each other. Behind is lag, and left out.
pub fn account(shard: Shard, sums: &AccountSums) -> Vec<Fault> {
    let row = &sums.row;
    let place = || format!("shard {shard}, account {}, version {}", row.id, row.version);
    let money = |minor: i128| format_minor(minor, row.currency);
    let suspect = |off: i128| {
        let amount = i64::try_from(off).unwrap_or(if off < 0 { i64::MIN } else { i64::MAX });
        Some(Suspect { account: row.id.clone(), amount, transfer: None })
    };
    let by_hand = |what, amount, suspect| {
        let repair = "nothing automatic: the account is quarantined; call an engineer";
        Fault { finding: Finding { what, place: place(), amount, repair }, suspect }
    };
    let mut faults = Vec::new();
    let off = i128::from(row.posted) - sums.entries;
    if off != 0 {
        let amount =
            format!("posted {}, entries {}", money(row.posted.into()), money(sums.entries));
        faults.push(by_hand("posted is not the sum of the entries", amount, suspect(off)));
    }
    let off = i128::from(row.held) - sums.held;
    if off != 0 {
        let amount = format!("held {}, transfers {}", money(row.held.into()), money(sums.held));
        faults.push(by_hand("held is not the sum of the held transfers", amount, suspect(off)));
    }
    if let Err(fault) = row.check() {
        faults.push(by_hand("the account's row breaks an invariant", fault, suspect(0)));
    }
    if let Some((posted, held, version)) = sums.projected
        && version == row.version
        && (posted, held) != (row.posted, row.held)
    {
        faults.push(projection("balances", shard, row, posted, held));
    }
    faults
}

/// A projection that is wrong at the version that its account has.
pub fn projection(which: &str, shard: Shard, row: &AccountRow, posted: i64, held: i64) -> Fault {
    let money = |minor: i64| format_minor(minor, row.currency);
    let finding = Finding {
        what: "the projection differs at the same version",
        place: format!("{which}, shard {shard}, account {}, version {}", row.id, row.version),
        amount: format!(
            "projected {} and {}, stored {} and {}",
            money(posted),
            money(held),
            money(row.posted),
            money(row.held)
        ),
        repair: "reconcile repair",
    };
    Fault { finding, suspect: None }
}

/// The version of a projection that is not the account's.
pub fn behind(sums: &AccountSums) -> Option<i64> {
    let version = sums.projected.map_or(0, |(_, _, version)| version);
    (version != sums.row.version).then_some(version)
}

/// Whether a projection says what the row does.
pub fn same_balance(row: &AccountRow, projected: &AccountRow) -> bool {
    (row.posted, row.held, row.version) == (projected.posted, projected.held, projected.version)
}

/// An entry that does not follow from the one before it.
pub fn entry(shard: Shard, fault: &EntryFault) -> Fault {
    let off = i128::from(fault.balance_after) - fault.expected;
    let finding = Finding {
        what: "an entry does not follow from the one before it",
        place: format!(
            "shard {shard}, account {}, version {}, transfer {}",
            fault.account, fault.version, fault.transfer
        ),
        amount: format!("{} instead of {} minor units", fault.balance_after, fault.expected),
        repair: "nothing automatic: the account is quarantined; call an engineer",
    };
    let suspect = Suspect {
        account: fault.account.clone(),
        amount: i64::try_from(off).unwrap_or(i64::MAX),
        transfer: Some(fault.transfer),
    };
    Fault { finding, suspect: Some(suspect) }
}

/// A debit entry whose transfer does not exist.
pub fn lone_debit(shard: Shard, id: TransferId) -> Fault {
    let finding = Finding {
        what: "a debit belongs to no transfer",
        place: format!("shard {shard}, transfer {id}"),
        amount: String::new(),
        repair: "call an engineer",
    };
    Fault { finding, suspect: None }
}

/// What a comparison of transfers with their pivots came to.
#[derive(Debug, Default)]
pub struct Looked {
    /// Those that agree.
    pub sound: Vec<(SourceFact, Option<CreditFact>)>,
    /// Those that a second look found wrong too.
    pub faults: Vec<Fault>,
    /// Those whose destination's shard did not answer.
    pub unanswered: Vec<(TransferId, StoreError)>,
}

/// Transfers of a source's shard, as they were just read, against their pivots; those that differ
/// are looked at again, source first, for they may have moved on in between.
pub async fn transfers(
    store: &dyn Store,
    shard: Shard,
    facts: &[SourceFact],
) -> Result<Looked, StoreError> {
    let mut looked = Looked::default();
    let mut again = Vec::new();
    let (pivots, silent) = pivots_of(store, facts).await;
    for fact in facts {
        let pivot = pivots.get(&fact.terms.id);
        match silent.get(&store.map().shard_of(&fact.terms.destination)) {
            Some(error) => looked.unanswered.push((fact.terms.id, error.clone())),
            None if disagreement(fact, pivot).is_some() => again.push(fact.terms.id),
            None => looked.sound.push((fact.clone(), pivot.cloned())),
        }
    }
    if again.is_empty() {
        return Ok(looked);
    }
    let facts = store.source_facts_of(shard, &again).await?;
    let (pivots, silent) = pivots_of(store, &facts).await;
    for fact in facts {
        let pivot = pivots.get(&fact.terms.id);
        if let Some(error) = silent.get(&store.map().shard_of(&fact.terms.destination)) {
            looked.unanswered.push((fact.terms.id, error.clone()));
        } else if let Some(fault) = transfer(shard, &fact, pivot) {
            looked.faults.push(fault);
        } else {
            looked.sound.push((fact, pivot.cloned()));
        }
    }
    Ok(looked)
}

type Pivots = HashMap<TransferId, CreditFact>;

/// The pivots of transfers, and the shards that did not answer.
async fn pivots_of(
    store: &dyn Store,
    facts: &[SourceFact],
) -> (Pivots, HashMap<Shard, StoreError>) {
    let mut by_shard: BTreeMap<Shard, Vec<TransferId>> = BTreeMap::new();
    for fact in facts {
        let shard = store.map().shard_of(&fact.terms.destination);
        by_shard.entry(shard).or_default().push(fact.terms.id);
    }
    let (mut pivots, mut silent) = (HashMap::new(), HashMap::new());
    for (shard, ids) in by_shard {
        match store.credit_facts_of(shard, &ids).await {
            Ok(found) => pivots.extend(found.into_iter().map(|pivot| (pivot.transfer, pivot))),
            Err(error) => drop(silent.insert(shard, error)),
        }
    }
    (pivots, silent)
}

fn transfer(shard: Shard, fact: &SourceFact, pivot: Option<&CreditFact>) -> Option<Fault> {
    let (what, repair) = disagreement(fact, pivot)?;
    let terms = &fact.terms;
    let credited = pivot.is_some_and(|pivot| pivot.decision == PivotDecision::Credited);
    // Where money was made, it is with the destination; else the source's books are in doubt.
    let made = credited && fact.debit != Some(terms.amount.minor());
    let account = if made { &terms.destination } else { &terms.source };
    let finding = Finding {
        what,
        place: format!("shard {shard}, transfer {}, {}", terms.id, fact.state.as_str()),
        amount: format!("{} {}", terms.amount, terms.amount.currency()),
        repair,
    };
    let suspect = Suspect {
        account: account.clone(),
        amount: terms.amount.minor(),
        transfer: Some(terms.id),
    };
    Some(Fault { finding, suspect: Some(suspect) })
}

/// Pivots of a shard against the transfers that they name: money must come from somewhere.
pub async fn pivots(
    store: &dyn Store,
    shard: Shard,
    facts: &[CreditFact],
) -> Result<Vec<Fault>, StoreError> {
    let mut by_shard: BTreeMap<Shard, Vec<TransferId>> = BTreeMap::new();
    for fact in facts {
        let source = store.map().shard_of_transfer(fact.transfer);
        by_shard.entry(source).or_default().push(fact.transfer);
    }
    let mut known = HashMap::new();
    for (source, ids) in by_shard {
        for fact in store.source_facts_of(source, &ids).await? {
            known.insert(fact.terms.id, fact);
        }
    }
    let belongs = |fact: &CreditFact| {
        known.get(&fact.transfer).is_some_and(|transfer| {
            transfer.terms.destination == fact.destination && transfer.terms.source == fact.source
        })
    };
    let strangers = facts.iter().filter(|fact| !belongs(fact));
    Ok(strangers.map(|fact| stranger(shard, fact)).collect())
}

fn stranger(shard: Shard, fact: &CreditFact) -> Fault {
    let amount = |minor| format!("{} {}", format_minor(minor, fact.currency), fact.currency);
    let finding = Finding {
        what: "a pivot belongs to no transfer",
        place: format!("shard {shard}, account {}, transfer {}", fact.destination, fact.transfer),
        amount: amount(fact.amount),
        repair: "reconcile recover, if a shard was promoted; else call an engineer",
    };
    let suspect = (fact.decision == PivotDecision::Credited).then(|| Suspect {
        account: fact.destination.clone(),
        amount: fact.amount,
        transfer: Some(fact.transfer),
    });
    Fault { finding, suspect }
}

/// What is wrong between a transfer and its pivot, the transfer having been read first.
fn disagreement(
    fact: &SourceFact,
    pivot: Option<&CreditFact>,
) -> Option<(&'static str, &'static str)> {
    const RECOVER: &str = "reconcile recover, if a shard was promoted; else call an engineer";
    let amount = fact.terms.amount.minor();
    let debit_fits = match fact.state {
        State::Committed => fact.debit == Some(amount),
        State::Requested | State::Held | State::Rejected | State::Cancelled => fact.debit.is_none(),
    };
    if !debit_fits {
        return Some(("a transfer's debit entry does not fit its state", RECOVER));
    }
    let decision = pivot.map(|pivot| pivot.decision);
    if decision == Some(PivotDecision::Credited)
        && pivot.is_some_and(|pivot| {
            pivot.amount != amount || pivot.currency != fact.terms.amount.currency()
        })
    {
        return Some(("a transfer's two entries differ", RECOVER));
    }
    match (fact.state, decision) {
        (State::Committed, Some(PivotDecision::Credited)) => None,
        (State::Committed, _) => Some(("committed at the source, not credited", RECOVER)),
        (State::Rejected | State::Cancelled, Some(PivotDecision::Credited)) => {
            Some(("credited, but not paid for", RECOVER))
        }
        (State::Requested, Some(PivotDecision::Credited)) => {
            Some(("credited, but never held", RECOVER))
        }
        (State::Requested | State::Held | State::Rejected | State::Cancelled, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Money, Reason, Slot, Terms, Timestamp};

    fn fact(state: State, debit: Option<i64>) -> SourceFact {
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        let terms = Terms {
            id: TransferId::mint(at, Slot::new(1).unwrap(), 0, 0),
            source: "a".parse().unwrap(),
            destination: "b".parse().unwrap(),
            amount: Money::from_minor(50, "USD".parse().unwrap()).unwrap(),
            reverses: None,
        };
        SourceFact { terms, state, debit, completed_at: None }
    }

    fn pivot(of: &SourceFact, decision: PivotDecision) -> CreditFact {
        CreditFact {
            transfer: of.terms.id,
            source: of.terms.source.clone(),
            destination: of.terms.destination.clone(),
            currency: of.terms.amount.currency(),
            amount: if decision == PivotDecision::Credited { 50 } else { 0 },
            decision,
        }
    }

    #[test]
    fn the_log_is_not_told_which_account_it_is() {
        let id: AccountId = "planted-account".parse().unwrap();
        let transfer = fact(State::Held, None).terms.id;
        let chain =
            EntryFault { account: id.clone(), version: 3, transfer, balance_after: 1, expected: 2 };
        let mut paid = pivot(&fact(State::Held, None), PivotDecision::Credited);
        paid.destination = id;
        let sums = AccountSums {
            row: crate::domain::testing::account("planted-account", 5),
            entries: 4,
            held: 0,
            projected: Some((4, 0, 7)),
        };
        let mut faults = account(Shard(0), &sums);
        faults.extend([entry(Shard(0), &chain), stranger(Shard(0), &paid)]);
        assert!(faults.len() > 3, "{faults:?}");
        for fault in faults {
            let masked = fault.finding.masked_place();
            assert!(masked.contains("account pl****nt, "), "{masked}");
            assert!(!masked.contains("planted") && fault.finding.place.contains("planted"));
        }
        let elsewhere = lone_debit(Shard(0), transfer).finding;
        assert_eq!(elsewhere.masked_place(), elsewhere.place);
    }

    #[test]
    fn what_a_transfer_and_its_pivot_may_say_together() {
        let refused = PivotDecision::Refused(Reason::HoldTimeout);
        let credited = PivotDecision::Credited;
        let agrees = |state, debit, decision: Option<PivotDecision>| {
            let fact = fact(state, debit);
            let pivot = decision.map(|decision| pivot(&fact, decision));
            disagreement(&fact, pivot.as_ref()).is_none()
        };
        assert!(agrees(State::Held, None, Some(credited)), "money in flight");
        assert!(agrees(State::Held, None, Some(refused)));
        assert!(agrees(State::Committed, Some(50), Some(credited)));
        assert!(agrees(State::Cancelled, None, Some(refused)));
        assert!(agrees(State::Rejected, None, None));
        assert!(!agrees(State::Committed, Some(50), None), "paid for, never credited");
        assert!(!agrees(State::Committed, None, Some(credited)), "no debit");
        assert!(!agrees(State::Cancelled, None, Some(credited)), "money made");
        assert!(!agrees(State::Requested, None, Some(credited)), "credited without a hold");
        assert!(!agrees(State::Held, Some(50), None), "debited before its end");
    }
}
