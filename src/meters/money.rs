//! Money as this process sees it move: counted where it is decided, once its COMMIT is confirmed, a
//! batch at a time.

use super::table::{
    ACCEPTED, ACCEPTED_AMOUNT, ENDED, ENDED_AMOUNT, HELD, HELD_AMOUNT, TRANSFER_SECONDS,
};
use super::values::{MOST_CURRENCIES, OTHER};
use crate::domain::{Currency, Reason, Shard, StageWrite, State, Terms};
use metrics::{Counter, Histogram};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

const UNBROKEN: &str = "nothing panics while it is held";

/// What happened to a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// It was accepted.
    Accepted,
    /// Its amount was held at the source.
    Held,
    /// It ended, and the money has moved.
    Committed,
    /// It ended, and no money has moved; REJECTED or CANCELLED by the reason.
    Refused(Reason),
}

/// How many, and how much in minor units.
type Sum = (u64, u64);

/// What one transaction does to transfers, to be counted once it is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    sums: HashMap<(Currency, Step), Sum>,
    took: Vec<Duration>,
}

impl Tally {
    /// Of transfers that are accepted.
    pub fn accepted<'a>(accepted: impl Iterator<Item = &'a Terms>) -> Self {
        let mut tally = Self::default();
        accepted.for_each(|terms| tally.add(terms, Step::Accepted));
        tally
    }

    /// Of transfers that move on.
    pub fn moved<'a>(writes: impl Iterator<Item = &'a StageWrite>) -> Self {
        let mut tally = Self::default();
        for write in writes {
            if write.to == State::Held || write.passes_hold() {
                tally.add(&write.terms, Step::Held);
            }
            let end = match write.to {
                State::Requested | State::Held => continue,
                State::Committed => Some(Step::Committed),
                State::Rejected | State::Cancelled => write.reason.map(Step::Refused),
            };
            if let Some(end) = end {
                tally.add(&write.terms, end);
            }
            tally.took.push(write.at.since(write.terms.id.minted_at()));
        }
        tally
    }

    fn add(&mut self, terms: &Terms, step: Step) {
        let (transfers, amount) =
            self.sums.entry((terms.amount.currency(), step)).or_insert((0, 0));
        *transfers += 1;
        *amount = amount.saturating_add(terms.amount.minor().unsigned_abs());
    }
}

/// The counters of a process.
pub struct Money {
    shards: Vec<OfShard>,
    /// Those that have a label of their own.
    currencies: Mutex<Vec<Currency>>,
}

struct OfShard {
    shard: String,
    took: Histogram,
    currencies: RwLock<HashMap<Currency, Arc<OfCurrency>>>,
}

/// Transfers and their money.
struct Pair(Counter, Counter);

impl Pair {
    fn count(&self, (transfers, amount): Sum) {
        self.0.increment(transfers);
        self.1.increment(amount);
    }
}

/// All are there from the first transfer of a currency on: what is counted for the first time is an
/// increase then, and no beginning.
struct OfCurrency {
    accepted: Pair,
    held: Pair,
    committed: Pair,
    refused: HashMap<Reason, Pair>,
}

impl OfCurrency {
    fn new(shard: &str, currency: &str) -> Self {
        let of = [shard, currency];
        let ended = |outcome: State, reason: &str| {
            let labels = [shard, currency, outcome.as_str(), reason];
            Pair(ENDED.counter(&labels), ENDED_AMOUNT.counter(&labels))
        };
        let refused = |reason: Reason| (reason, ended(reason.final_state(), reason.as_str()));
        Self {
            accepted: Pair(ACCEPTED.counter(&of), ACCEPTED_AMOUNT.counter(&of)),
            held: Pair(HELD.counter(&of), HELD_AMOUNT.counter(&of)),
            committed: ended(State::Committed, "none"),
            refused: Reason::all().map(refused).collect(),
        }
    }

    fn count(&self, step: Step, sum: Sum) {
        let pair = match step {
            Step::Accepted => &self.accepted,
            Step::Held => &self.held,
            Step::Committed => &self.committed,
            Step::Refused(reason) => &self.refused[&reason],
        };
        pair.count(sum);
    }
}

impl Money {
    /// Nothing is counted yet.
    pub fn new(shards: u16) -> Self {
        let of_shard = |shard: u16| {
            let shard = shard.to_string();
            let took = TRANSFER_SECONDS.histogram(&[&shard]);
            OfShard { shard, took, currencies: RwLock::default() }
        };
        Self { shards: (0..shards).map(of_shard).collect(), currencies: Mutex::default() }
    }

    /// Counts what a committed transaction on a shard did.
    pub fn count(&self, shard: Shard, tally: &Tally) {
        let of_shard = &self.shards[usize::from(shard.0)];
        for ((currency, step), sum) in &tally.sums {
            self.of_currency(of_shard, *currency).count(*step, *sum);
        }
        tally.took.iter().for_each(|took| of_shard.took.record(*took));
    }

    /// The label of a currency.
    pub fn label(&self, currency: Currency) -> String {
        let mut known = self.currencies.lock().expect(UNBROKEN);
        if known.contains(&currency) {
            return currency.to_string();
        }
        if known.len() >= MOST_CURRENCIES {
            return OTHER.to_owned();
        }
        known.push(currency);
        currency.to_string()
    }

    fn of_currency(&self, of_shard: &OfShard, currency: Currency) -> Arc<OfCurrency> {
        if let Some(known) = of_shard.currencies.read().expect(UNBROKEN).get(&currency) {
            return Arc::clone(known);
        }
        let new = Arc::new(OfCurrency::new(&of_shard.shard, &self.label(currency)));
        let mut currencies = of_shard.currencies.write().expect(UNBROKEN);
        Arc::clone(currencies.entry(currency).or_insert(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::{NOW, terms};
    use crate::domain::{Cause, TransferId};

    fn write(number: u32, from: State, to: State, reason: Option<Reason>) -> StageWrite {
        let terms = terms(number, "a", "b", 10);
        let at = NOW.plus(Duration::from_millis(250));
        StageWrite { terms, from, to, reason, hold_deadline: None, at, cause: Cause::default() }
    }

    #[test]
    fn a_transfer_is_counted_once_for_each_step_that_it_takes() {
        let why = Some(Reason::InsufficientFunds);
        let through = StageWrite {
            hold_deadline: Some(NOW),
            ..write(1, State::Requested, State::Committed, None)
        };
        let writes = [
            through,
            write(2, State::Requested, State::Held, None),
            write(3, State::Held, State::Committed, None),
            write(4, State::Requested, State::Rejected, why),
        ];
        let tally = Tally::moved(writes.iter());
        let usd = terms(1, "a", "b", 10).amount.currency();
        let of = |step| tally.sums.get(&(usd, step)).copied();
        assert_eq!(of(Step::Held), Some((2, 20)));
        assert_eq!(of(Step::Committed), Some((2, 20)));
        assert_eq!(of(Step::Refused(Reason::InsufficientFunds)), Some((1, 10)));
        assert_eq!(of(Step::Accepted), None);
        assert_eq!(tally.took.len(), 3, "a hold is no end");
    }

    #[test]
    fn the_time_to_the_end_is_from_the_id_to_the_transaction() {
        let mut ended = write(1, State::Held, State::Committed, None);
        ended.terms.id = TransferId::mint(NOW, ended.terms.id.slot(), 0, 0);
        let tally = Tally::moved([ended].iter());
        assert_eq!(tally.took, [Duration::from_millis(250)]);
    }

    /// However many there are, the labels stay few.
    #[test]
    fn currencies_beyond_so_many_are_one() {
        let money = Money::new(1);
        let currencies: Vec<Currency> =
            Currency::codes().map(|code| code.parse().unwrap()).collect();
        assert!(currencies.len() > MOST_CURRENCIES);
        let mut labels: Vec<String> =
            currencies.iter().map(|currency| money.label(*currency)).collect();
        let again = currencies.iter().map(|currency| money.label(*currency));
        assert!(again.eq(labels.iter().cloned()), "a currency keeps its label");
        labels.sort();
        labels.dedup();
        assert_eq!(labels.len(), MOST_CURRENCIES + 1);
        assert!(labels.iter().any(|label| label == OTHER));
    }
}
