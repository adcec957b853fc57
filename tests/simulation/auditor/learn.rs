//! After a recovery: what is true now is what the rows say, as far as they may say it. Whatever was
//! announced before stays true.

use super::end::is_final;
use super::{AccountSeen, Auditor, PivotSeen, TransferSeen};
use crate::store::Tables;
use holdfast::domain::{Shard, Side, State, TransferId};
use std::collections::BTreeMap;

impl Auditor {
    /// Takes the rows of all shards over, and compares them with what is remembered.
    pub fn learn(&mut self, tables: &[&Tables], lost: Shard) -> Result<(), String> {
        let before = std::mem::take(self);
        self.clocks_jumped = before.clocks_jumped;
        self.recovered = true;
        for (shard, tables) in (0..).map(Shard).zip(tables) {
            self.learn_shard(shard, tables, &before.transfers);
            self.learn_velocity(tables);
        }
        for (id, (pivot, _)) in &self.pivots {
            if let Some(seen) = self.transfers.get(id)
                && *pivot == PivotSeen::Credited
                && seen.state == State::Held
            {
                *self.in_flight.entry(seen.currency).or_default() += i128::from(seen.amount);
            }
        }
        let accounts: Vec<_> = self.accounts.keys().cloned().collect();
        accounts.iter().try_for_each(|id| self.sums(id))?;
        self.conserved()?;
        self.transfers.iter().try_for_each(|(id, seen)| self.agrees(*id, seen))?;
        for tables in tables {
            tables.reversals.iter().try_for_each(|(id, stored)| self.reversal(*id, *stored))?;
        }
        self.remembers(&before, lost)
    }

    fn learn_shard(
        &mut self,
        shard: Shard,
        tables: &Tables,
        known: &BTreeMap<TransferId, TransferSeen>,
    ) {
        for (id, stored) in &tables.transfers {
            let (row, terms) = (&stored.row, &stored.row.terms);
            let before = known.get(id);
            let seen = TransferSeen {
                source: terms.source.clone(),
                destination: terms.destination.clone(),
                currency: terms.amount.currency(),
                amount: terms.amount.minor(),
                reverses: terms.reverses,
                shard,
                state: row.state,
                reason: row.reason,
                was_held: row.held_at.is_some(),
                debited: tables.entries.contains_key(&(*id, Side::Debit)),
                // One whose COMMIT came after everything had stopped was the last.
                accepted: before.map_or(u64::MAX, |before| before.accepted),
                asked: before.map_or((0, 0), |before| before.asked),
                published: before.is_some_and(|before| before.published),
                // Recovery drives on what was lost: order is no longer what acceptance made it.
                driven: true,
                announced: before.is_some_and(|before| {
                    let end = (before.state, before.reason);
                    before.announced && end == (row.state, row.reason)
                }),
                promised: before.and_then(|before| {
                    let end = before.announced.then_some((before.state, before.reason));
                    before.promised.or(end)
                }),
            };
            let lives = !matches!(row.state, State::Rejected | State::Cancelled);
            if let Some(original) = terms.reverses
                && lives
            {
                *self.reversed.entry(original).or_default() += terms.amount.minor();
            }
            self.of_source.entry(terms.source.clone()).or_default().push(*id);
            self.transfers.insert(*id, seen);
        }
        for ((id, side), entry) in &tables.entries {
            let pivot = match entry.outcome {
                Ok(_) => PivotSeen::Credited,
                Err(reason) => PivotSeen::Refused(reason),
            };
            if *side == Side::Credit {
                self.pivots.insert(*id, (pivot, shard));
            }
        }
        for (key, claim) in &tables.claims {
            self.claims.insert(key.clone(), claim.transfer);
        }
        for (id, stored) in &tables.accounts {
            let own = tables.entries.values().filter(|entry| entry.account == *id);
            let signed = own.filter_map(|entry| {
                let amount = i128::from(entry.outcome.ok()?.amount.minor());
                Some(if entry.side == Side::Debit { -amount } else { amount })
            });
            let held = tables.transfers.values().filter(|transfer| {
                transfer.row.state == State::Held && transfer.row.terms.source == *id
            });
            let seen = AccountSeen {
                shard,
                row: stored.row.clone(),
                entries: signed.sum(),
                held: held.map(|transfer| i128::from(transfer.row.terms.amount.minor())).sum(),
            };
            *self.posted.entry(stored.row.currency).or_default() += i128::from(stored.row.posted);
            self.accounts.insert(id.clone(), seen);
        }
    }

    /// Source and destination say the same of a transfer, or may still come to.
    fn agrees(&self, id: TransferId, seen: &TransferSeen) -> Result<(), String> {
        let pivot = self.pivots.get(&id).map(|(pivot, _)| *pivot);
        let may = match seen.state {
            State::Requested => pivot.is_none(),
            State::Held => true,
            State::Committed => pivot == Some(PivotSeen::Credited) && seen.debited,
            State::Rejected | State::Cancelled => pivot != Some(PivotSeen::Credited),
        };
        let refusal_kept = match pivot {
            Some(PivotSeen::Refused(reason)) if is_final(seen.state) => {
                !seen.was_held || seen.reason == Some(reason)
            }
            _ => true,
        };
        if may && refusal_kept && (seen.state == State::Committed || !seen.debited) {
            return Ok(());
        }
        Err(format!("after recovery {id} is {:?} with pivot {pivot:?}", seen.state))
    }

    /// What a shard that lost nothing had, and what anybody was told, is still there.
    fn remembers(&self, before: &Auditor, lost: Shard) -> Result<(), String> {
        for (id, seen) in &before.transfers {
            let now = self.transfers.get(id);
            let ended = now.filter(|now| is_final(now.state)).map(|now| (now.state, now.reason));
            if seen.announced && ended.is_some_and(|end| end != (seen.state, seen.reason)) {
                return Err(format!("{id} was announced as {:?} and is {ended:?}", seen.state));
            }
            if now.is_none() && (seen.published || seen.shard != lost) {
                return Err(format!("{id} was published, and recovery did not make it again"));
            }
        }
        for (id, (pivot, shard)) in &before.pivots {
            let now = self.pivots.get(id).map(|(pivot, _)| *pivot);
            if *shard != lost && now != Some(*pivot) {
                return Err(format!("invariant 7: the pivot of {id} was {pivot:?} and is {now:?}"));
            }
        }
        for (key, id) in &before.claims {
            let survives = self.transfers.contains_key(id);
            if survives && self.claims.get(key) != Some(id) {
                return Err(format!("invariant 5: {id} survived and its claim did not"));
            }
        }
        Ok(())
    }
}
