//! The rest of the way of a transfer whose destination is on its source's shard: what credit and
//! commit decide about it is decided behind its hold, in the same transaction, and its end is the
//! only thing that is said.
//!
//! It is the way of every transfer, with nothing left out but the log between its steps: the row is
//! written once, from REQUESTED to its end, with the hold that it went through; the entries, the
//! mark of a refusal and what is true of the rows are the same.

use crate::commit::{self, Settled};
use crate::credit;
use crate::domain::{
    AccountId, AccountRow, AccountSnapshot, Event, EventType, Input, Outcome, PivotDecision, Plan,
    StageWrite, Stamp, Terms, TransferId,
};
use crate::turn::Stored;
use std::collections::{BTreeMap, HashMap};

#[cfg(test)]
mod tests;

/// Goes on with the transfers of a batch that are held and that `stays` says are paid to this shard.
/// `plan` is what was decided about their holds; the rows are changed further. An end that was
/// written before is announced again, for its event may not have been published.
pub fn decide(
    mut plan: Plan,
    batch: &[Input],
    stays: impl Fn(&Terms) -> bool,
    rows: &mut BTreeMap<AccountId, AccountRow>,
    stored: Option<&Stored>,
    stamp: &Stamp,
) -> Plan {
    let mut held = Vec::new();
    let mut places = Vec::new();
    for (place, (input, outcome)) in batch.iter().zip(&mut plan.outcomes).enumerate() {
        if !stays(&input.event.terms) {
            continue;
        }
        match outcome {
            Outcome::Emit(event) if event.kind == EventType::Held => {
                let attempt = input.event.attempt;
                held.push(Input { event: Event { attempt, ..event.clone() }, ..*input });
                places.push(place);
            }
            Outcome::Done => {
                if let Some(end) = end(input, rows, stored, stamp) {
                    *outcome = Outcome::Emit(end);
                }
            }
            Outcome::Emit(_) | Outcome::LetGo(_) | Outcome::Dead { .. } => {}
        }
    }
    let outcomes = pay(held, &mut plan, rows, stored, stamp);
    for (place, outcome) in places.into_iter().zip(outcomes) {
        plan.outcomes[place] = outcome;
    }
    plan
}

/// An end behind a hold, as it is stored.
fn end(
    input: &Input,
    rows: &BTreeMap<AccountId, AccountRow>,
    stored: Option<&Stored>,
    stamp: &Stamp,
) -> Option<Event> {
    let terms = &input.event.terms;
    let row = stored?.transfers.get(&terms.id)?;
    row.held_at?;
    let kind = EventType::announcing(row.state);
    let event = stamp.following(input, kind, row.reason, rows.get(&terms.source));
    Some(paying(event, rows))
}

/// Credits and commits; what is said in the end, for each.
fn pay(
    held: Vec<Input>,
    plan: &mut Plan,
    rows: &mut BTreeMap<AccountId, AccountRow>,
    stored: Option<&Stored>,
    stamp: &Stamp,
) -> Vec<Outcome> {
    let none = HashMap::new();
    let pivots = stored.map_or(&none, |stored| &stored.pivots);
    let mut credited = credit::decide(&held, rows, pivots, stamp);
    let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(held.len());
    let mut settled: Vec<Settled> = Vec::with_capacity(held.len());
    let mut paid = Vec::with_capacity(held.len());
    for (input, outcome) in held.into_iter().zip(std::mem::take(&mut credited.outcomes)) {
        let decision = match &outcome {
            Outcome::Emit(event) => match event.reason {
                None => PivotDecision::Credited,
                Some(reason) => PivotDecision::Refused(reason),
            },
            Outcome::Done | Outcome::LetGo(_) | Outcome::Dead { .. } => {
                outcomes.push(Some(outcome));
                continue;
            }
        };
        let Outcome::Emit(event) = outcome else { unreachable!("it was matched above") };
        paid.push(event.account);
        settled.push(Settled { input, decision });
        outcomes.push(None);
    }
    // Each is HELD now, whether it was before or is by this plan.
    let mut committed = commit::decide(&settled, rows, None, stamp);
    let ends = std::mem::take(&mut committed.outcomes);
    let transfers = std::mem::take(&mut committed.transfers);
    plan.add(credited);
    plan.add(committed);
    end_holds(plan, transfers);
    let mut ends = ends.into_iter().zip(paid).map(|(mut end, paid)| {
        if let Outcome::Emit(event) = &mut end {
            event.destination_account = paid;
        }
        end
    });
    let outcomes = outcomes.into_iter();
    outcomes.map(|outcome| outcome.or_else(|| ends.next()).expect("one for each")).collect()
}

/// A hold that this plan makes and ends is written once.
fn end_holds(plan: &mut Plan, ends: Vec<StageWrite>) {
    let mut ends: BTreeMap<TransferId, StageWrite> =
        ends.into_iter().map(|end| (end.terms.id, end)).collect();
    for hold in &mut plan.transfers {
        if let Some(end) = ends.remove(&hold.terms.id) {
            hold.and_ends(&end);
        }
    }
    plan.transfers.extend(ends.into_values());
}

/// With the row of the destination, as it is.
fn paying(event: Event, rows: &BTreeMap<AccountId, AccountRow>) -> Event {
    let destination = rows.get(&event.terms.destination);
    let paid = destination.filter(|_| event.kind == EventType::Committed);
    Event { destination_account: paid.map(AccountSnapshot::from), ..event }
}
