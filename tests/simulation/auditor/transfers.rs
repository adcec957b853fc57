//! What may become of a transfer and of its pivot, and in which order.

use super::end::is_final;
use super::{Auditor, Moves, PivotSeen, TransferSeen};
use crate::store::Changes;
use holdfast::domain::{EntryRow, Reason, Shard, Side, State, TransferId};
use holdfast::store::TransferRecord;

/// The end that a reason leads to, as the contract lists them.
fn end_of(reason: Reason) -> State {
    match reason {
        Reason::HoldTimeout
        | Reason::CancelledByClient
        | Reason::CancelledByOperator
        | Reason::Undeliverable => State::Cancelled,
        _ => State::Rejected,
    }
}

impl Auditor {
    pub(super) fn accepted(
        &mut self,
        shard: Shard,
        changes: &Changes,
        after: &TransferRecord,
    ) -> Result<(), String> {
        let (row, terms) = (&after.row, &after.row.terms);
        if row.state != State::Requested {
            return Err(format!("transfer {} begins {:?}", terms.id, row.state));
        }
        if !changes.claims.iter().any(|(_, claim)| claim.transfer == terms.id) {
            return Err(format!("invariant 5: transfer {} is accepted without a claim", terms.id));
        }
        let text = format!("\"{}\"", terms.id);
        let place = changes.outbox.iter().find_map(|outbox| {
            let records = outbox.records.as_ref().ok()?;
            let holds = |value: &[u8]| value.windows(text.len()).any(|at| at == text.as_bytes());
            let index = records.iter().position(|record| holds(&record.value))?;
            Some((outbox.id, index))
        });
        let Some(asked) = place else {
            return Err(format!("invariant 6: transfer {} has no outbox record", terms.id));
        };
        if let Some(original) = terms.reverses {
            let committed = self.transfers.get(&original);
            if committed.is_none_or(|original| original.state != State::Committed) {
                return Err(format!("{} reverses {original}, which is not committed", terms.id));
            }
            *self.reversed.entry(original).or_default() += terms.amount.minor();
        }
        self.of_source.entry(terms.source.clone()).or_default().push(terms.id);
        let seen = TransferSeen {
            source: terms.source.clone(),
            destination: terms.destination.clone(),
            currency: terms.amount.currency(),
            amount: terms.amount.minor(),
            reverses: terms.reverses,
            shard,
            state: State::Requested,
            reason: None,
            was_held: false,
            debited: false,
            accepted: changes.number,
            asked,
            published: false,
            driven: false,
            announced: false,
            promised: None,
        };
        self.transfers.insert(terms.id, seen);
        Ok(())
    }

    /// A transfer whose whole way is one commit was held in it: it is seen to be, before its pivot is.
    pub(super) fn held(
        &mut self,
        shard: Shard,
        before: &TransferRecord,
        after: &TransferRecord,
        moves: &mut Moves,
    ) -> Result<(), String> {
        let passes = before.row.state == State::Requested
            && is_final(after.row.state)
            && after.row.held_at.is_some();
        if !passes {
            return Ok(());
        }
        let mut held = after.clone();
        (held.row.state, held.row.reason) = (State::Held, None);
        self.moved(shard, before, &held, moves)
    }

    pub(super) fn moved(
        &mut self,
        shard: Shard,
        before: &TransferRecord,
        after: &TransferRecord,
        moves: &mut Moves,
    ) -> Result<(), String> {
        let (id, to, reason) = (after.row.terms.id, after.row.state, after.row.reason);
        if before.row.terms != after.row.terms {
            return Err(format!("the terms of {id} changed"));
        }
        let pivot = self.pivots.get(&id).map(|(pivot, _)| *pivot);
        let seen = self.transfer(id, "a state was written for")?;
        let from = seen.state;
        let held = from == State::Held && before.row.state == State::Requested;
        if before.row.state != from && !held || seen.shard != shard {
            return Err(format!("{id} was {from:?} on shard {}", seen.shard));
        }
        if from == to {
            return Ok(());
        }
        let source = seen.source.clone();
        let allowed = match (from, to) {
            (State::Requested, State::Held) => pivot.is_none(),
            (State::Requested, State::Rejected | State::Cancelled) => {
                reason.is_some_and(|reason| end_of(reason) == to)
                    && pivot != Some(PivotSeen::Credited)
            }
            (State::Held, State::Committed) => pivot == Some(PivotSeen::Credited),
            (State::Held, State::Rejected | State::Cancelled) => reason.is_some_and(|reason| {
                end_of(reason) == to && pivot == Some(PivotSeen::Refused(reason))
            }),
            _ => false,
        };
        if !allowed {
            let invariant = if from == State::Requested || from == State::Held { 3 } else { 7 };
            return Err(format!(
                "invariant {invariant}: {id} went from {from:?} to {to:?} ({reason:?}) with pivot \
                 {pivot:?}"
            ));
        }
        if is_final(to) && seen.promised.is_some_and(|promised| promised != (to, reason)) {
            let promised = seen.promised;
            return Err(format!("{id} ends {to:?} and was announced as {promised:?}"));
        }
        (seen.state, seen.reason) = (to, reason);
        let (amount, currency) = (seen.amount, seen.currency);
        if let Some(original) = seen.reverses
            && matches!(to, State::Rejected | State::Cancelled)
        {
            *self.reversed.entry(original).or_default() -= amount;
        }
        let held = match (from, to) {
            (_, State::Held) => {
                self.transfer(id, "held")?.was_held = true;
                *moves.holds.entry(source.clone()).or_default() += 1;
                i128::from(amount)
            }
            (State::Held, _) => {
                *moves.settled.entry(source.clone()).or_default() += 1;
                if pivot == Some(PivotSeen::Credited) {
                    *self.in_flight.entry(currency).or_default() -= i128::from(amount);
                }
                -i128::from(amount)
            }
            _ => 0,
        };
        if held != 0 {
            moves.touched.insert(source.clone());
            let Some(account) = self.accounts.get_mut(&source) else {
                return Err(format!("{id} was held on {source}, which does not exist"));
            };
            account.held += held;
        }
        Ok(())
    }

    pub(super) fn entered(
        &mut self,
        shard: Shard,
        side: Side,
        changes: &Changes,
        moves: &mut Moves,
    ) -> Result<(), String> {
        let mut of_side = changes.entries.iter().filter(|entry| entry.side == side);
        of_side.try_for_each(|entry| self.entry(shard, entry, moves))
    }

    fn entry(&mut self, shard: Shard, entry: &EntryRow, moves: &mut Moves) -> Result<(), String> {
        let id = entry.transfer;
        let seen = self.transfer(id, "an entry was written for")?.clone();
        let fits = match entry.outcome {
            Ok(money) => money.amount.minor() == seen.amount && entry.currency == seen.currency,
            Err(_) => true,
        };
        let places = match entry.side {
            Side::Debit => (&seen.source, &seen.destination),
            Side::Credit => (&seen.destination, &seen.source),
        };
        if !fits || (&entry.account, &entry.counterparty) != places {
            return Err(format!("invariant 3: an entry of {id} has other terms: {entry:?}"));
        }
        let amount = i128::from(seen.amount);
        match (entry.side, entry.outcome) {
            (Side::Debit, Ok(_)) if seen.state == State::Committed && !seen.debited => {
                self.transfer(id, "debited")?.debited = true;
            }
            (Side::Debit, _) => {
                return Err(format!("invariant 3: a debit of {id}, which is {:?}", seen.state));
            }
            (Side::Credit, outcome) => {
                let pivot = match outcome {
                    Ok(_) => PivotSeen::Credited,
                    Err(reason) => PivotSeen::Refused(reason),
                };
                if let Some((before, _)) = self.pivots.insert(id, (pivot, shard)) {
                    return Err(format!("invariant 7: the pivot of {id} was {before:?}"));
                }
                if pivot == PivotSeen::Credited {
                    if seen.state != State::Held {
                        let state = seen.state;
                        return Err(format!("invariant 3: {id} is credited and {state:?}"));
                    }
                    *self.in_flight.entry(seen.currency).or_default() += amount;
                    *moves.credits.entry(entry.account.clone()).or_default() += 1;
                }
            }
        }
        if entry.outcome.is_ok() {
            moves.touched.insert(entry.account.clone());
            let Some(account) = self.accounts.get_mut(&entry.account) else {
                return Err(format!("an entry of {id} on {}, which does not exist", entry.account));
            };
            account.entries += if entry.side == Side::Debit { -amount } else { amount };
        }
        Ok(())
    }

    /// Invariant 8: what hold decided by the relay's event comes after everything that its source
    /// had accepted before.
    pub(super) fn decided_in_order(&self, changes: &Changes) -> Result<(), String> {
        for (before, after) in &changes.transfers {
            let decided =
                before.as_ref().is_some_and(|before| before.row.state == State::Requested)
                    && (after.row.held_at.is_some() || after.row.state == State::Rejected)
                    && after.hold_cause.attempt == 1;
            if !decided {
                continue;
            }
            let id = after.row.terms.id;
            for earlier in self.before(id) {
                let open = &self.transfers[&earlier];
                if open.state == State::Requested && !open.driven {
                    return Err(format!(
                        "invariant 8: {id} was decided before {earlier}, which its source had \
                         accepted earlier"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Transfers of the same source that were accepted before this one was asked for.
    pub(super) fn before(&self, id: TransferId) -> impl Iterator<Item = TransferId> + '_ {
        let this = &self.transfers[&id];
        let all = self.of_source.get(&this.source).into_iter().flatten().copied();
        all.filter(move |other| {
            let that = &self.transfers[other];
            let one_row = that.asked.0 == this.asked.0;
            if one_row { that.asked.1 < this.asked.1 } else { that.accepted < this.asked.0 }
        })
    }
}
