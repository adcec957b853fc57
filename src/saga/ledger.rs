//! The toy ledger: rows, pivots and events of a cluster in memory, written by plans with exact
//! counts, and asserted after everything that happens.

use super::StepKind;
use crate::commit::{self, Settled};
use crate::credit;
use crate::domain::testing::{HOLD_TIMEOUT, NOW, Rows, Stored, ended, held, requested, stamp};
use crate::domain::{
    AccountId, AccountRow, AccountSnapshot, AccountStatus, Cause, EntryRow, Event, EventType,
    Input, Outcome, Pivot, PivotDecision, Plan, Reason, Side, StageWrite, State, Terms, TransferId,
    TransferRow,
};
use crate::hold;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

#[derive(Clone, Debug)]
pub struct Ledger {
    beginning: Rows,
    accounts: Rows,
    transfers: Stored,
    entries: BTreeMap<(TransferId, Side), EntryRow>,
    reversed: BTreeMap<TransferId, i64>,
    /// All that was ever published, in order.
    events: Vec<Event>,
    /// Every row that an event carried, by account and version.
    seen: HashMap<(AccountId, i64), AccountSnapshot>,
    /// The version at which an account was closed.
    closed: HashMap<AccountId, i64>,
    quarantine_expected: bool,
    outcomes: Vec<Outcome>,
}

impl Ledger {
    /// Accounts as they are, and transfers that were just accepted.
    pub fn new(accounts: Rows, transfers: &[Terms]) -> Self {
        let mut reversed = BTreeMap::new();
        for terms in transfers {
            if let Some(original) = terms.reverses {
                *reversed.entry(original).or_default() += terms.amount.minor();
            }
        }
        Self {
            beginning: accounts.clone(),
            accounts,
            transfers: transfers.iter().map(|terms| (terms.id, requested(terms))).collect(),
            entries: BTreeMap::new(),
            reversed,
            events: transfers
                .iter()
                .map(|terms| stamp().event(EventType::Requested, terms))
                .collect(),
            seen: HashMap::new(),
            closed: HashMap::new(),
            quarantine_expected: false,
            outcomes: Vec::new(),
        }
    }

    /// Rows that are broken on purpose may be quarantined.
    pub fn expect_quarantine(&mut self) {
        self.quarantine_expected = true;
    }

    /// All transfers, in the order in which they were accepted.
    pub fn ids(&self) -> Vec<TransferId> {
        self.transfers.keys().copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// A transfer as it is stored.
    pub fn transfer(&self, id: TransferId) -> &TransferRow {
        &self.transfers[&id]
    }

    /// An account as it is stored.
    pub fn account(&self, id: &str) -> &AccountRow {
        &self.accounts[&id.parse().unwrap()]
    }

    /// What the last step made of the events that it read.
    pub fn last_outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// A step reads some of the events that it subscribes to.
    pub fn step(&mut self, kind: StepKind, picked: &[Index], announced: bool) {
        let readable = self.readable(kind);
        if !readable.is_empty() {
            let batch = picked.iter().map(|index| index.get(&readable).clone()).collect();
            self.read(kind, batch, announced);
        }
    }

    /// Each step in turn reads all the events that it subscribes to, one by one.
    pub fn read_everything(&mut self) {
        for kind in StepKind::ALL {
            for input in self.readable(kind) {
                self.read(kind, vec![input], true);
            }
        }
    }

    fn readable(&self, kind: StepKind) -> Vec<Input> {
        let inputs = self.events.iter().zip(0..);
        inputs
            .filter(|(event, _)| kind.reads(event.kind))
            .map(|(event, offset)| Input { event: event.clone(), offset })
            .collect()
    }

    fn read(&mut self, kind: StepKind, batch: Vec<Input>, announced: bool) {
        let mut once = HashSet::new();
        let batch: Vec<Input> =
            batch.into_iter().filter(|input| once.insert(input.event.terms.id)).collect();
        let plan = match kind {
            StepKind::Hold => self.decided(|ledger, stored| ledger.plan_hold(&batch, stored)),
            StepKind::Commit => self.decided(|ledger, stored| ledger.plan_commit(&batch, stored)),
            StepKind::Credit => {
                let plan = self.plan_credit(&batch);
                assert!(self.write(&plan), "credit reads the pivots before it decides");
                plan
            }
        };
        self.outcomes = plan.outcomes.clone();
        for outcome in plan.outcomes {
            match outcome {
                Outcome::Emit(event) if announced => self.publish(event),
                Outcome::Emit(_) | Outcome::Done => {}
                Outcome::Dead { .. } if self.quarantine_expected => {}
                Outcome::Dead { .. } | Outcome::LetGo(_) => panic!("{outcome:?}"),
            }
        }
    }

    /// Without the transfers' rows first, and with them where that plan cannot be written.
    fn decided(&mut self, plan: impl Fn(&Self, Option<&Stored>) -> Plan) -> Plan {
        let blind = plan(self, None);
        if blind.may_be_written_unread() && self.write(&blind) {
            return blind;
        }
        let informed = plan(self, Some(&self.transfers));
        assert!(self.write(&informed), "nobody else is at work");
        informed
    }

    pub fn plan_hold(&self, batch: &[Input], stored: Option<&Stored>) -> Plan {
        hold::decide(batch, &self.accounts, stored, &stamp(), HOLD_TIMEOUT)
    }

    fn plan_credit(&self, batch: &[Input]) -> Plan {
        let ids = batch.iter().map(|input| input.event.terms.id);
        let pivots = ids.filter_map(|id| Some((id, self.pivot(id)?))).collect();
        credit::decide(batch, &self.accounts, &pivots, &stamp())
    }

    fn plan_commit(&self, batch: &[Input], stored: Option<&Stored>) -> Plan {
        let settled = |input: &Input| {
            let decision = match input.event.kind {
                EventType::Credited => PivotDecision::Credited,
                _ => self.pivot(input.event.terms.id).unwrap().decision,
            };
            Settled { input: input.clone(), decision }
        };
        let batch: Vec<Settled> = batch.iter().map(settled).collect();
        commit::decide(&batch, &self.accounts, stored, &stamp())
    }

    fn pivot(&self, id: TransferId) -> Option<Pivot> {
        self.entries.get(&(id, Side::Credit)).and_then(EntryRow::pivot)
    }

    /// Writes all of a plan, or nothing where a count would be short.
    pub fn write(&mut self, plan: &Plan) -> bool {
        let mut after = self.clone();
        let exact = plan.transfers.iter().all(|write| after.advance(write))
            && plan.entries.iter().all(|row| after.insert(row));
        if !exact {
            return false;
        }
        for change in &plan.accounts {
            let row = after.accounts.get_mut(&change.id).unwrap();
            assert_eq!(row.version, change.version_before);
            (row.posted, row.held, row.version) = (change.posted, change.held, change.version);
            assert_eq!(row.check(), Ok(()));
        }
        for (original, change) in &plan.reversed {
            let sum = after.reversed.get_mut(original).unwrap();
            *sum += change;
            assert!(*sum >= 0, "more was given back than taken");
        }
        assert!(plan.quarantine.is_empty() || self.quarantine_expected, "{plan:?}");
        *self = after;
        true
    }

    fn advance(&mut self, write: &StageWrite) -> bool {
        assert!(write.from.may_become(write.to));
        let Some(row) = self.transfers.get_mut(&write.terms.id) else { return false };
        if row.state != write.from || row.terms != write.terms {
            return false;
        }
        *row = match write.to {
            State::Held => held(&write.terms),
            to => ended(row.clone(), to, write.reason),
        };
        true
    }

    fn insert(&mut self, row: &EntryRow) -> bool {
        let version = row.outcome.as_ref().ok().map(|entry| entry.version);
        let taken = self.entries.values().any(|other| {
            let its = other.outcome.as_ref().ok().map(|entry| entry.version);
            other.account == row.account && version.is_some() && its == version
        });
        assert!(!taken, "account and version are unique among entries: {row:?}");
        self.entries.insert((row.transfer, row.side), row.clone()).is_none()
    }

    fn publish(&mut self, event: Event) {
        let (row, pivot) = (self.transfer(event.terms.id), self.pivot(event.terms.id));
        let decision = pivot.map(|pivot| pivot.decision);
        match event.kind {
            EventType::Requested => {}
            EventType::Held => assert_eq!(row.state, State::Held),
            EventType::Credited => assert_eq!(decision, Some(PivotDecision::Credited)),
            EventType::Refused => {
                assert_eq!(decision, event.reason.map(PivotDecision::Refused));
            }
            EventType::Committed | EventType::Rejected | EventType::Cancelled => {
                assert_eq!(EventType::announcing(row.state), event.kind, "announced before true");
                assert_eq!(row.reason, event.reason);
            }
        }
        if let Some(account) = &event.account {
            let key = (account.id.clone(), account.version);
            let known = self.seen.entry(key).or_insert_with(|| account.clone());
            assert_eq!(known, account, "one version of an account is one row");
        }
        self.events.push(event);
    }

    /// As callers and the reconciler do it: a REQUESTED transfer in its row, one that was held by
    /// its pivot, where none is there yet.
    pub fn give_up(&mut self, id: TransferId, reason: Reason) {
        let row = self.transfers[&id].clone();
        let terms = &row.terms;
        if row.state == State::Requested {
            let cancelled = Plan {
                transfers: vec![StageWrite {
                    terms: terms.clone(),
                    from: State::Requested,
                    to: State::Cancelled,
                    reason: Some(reason),
                    hold_deadline: None,
                    at: NOW,
                    cause: Cause::default(),
                }],
                reversed: terms
                    .reverses
                    .map(|it| (it, -terms.amount.minor()))
                    .into_iter()
                    .collect(),
                ..Plan::default()
            };
            assert!(self.write(&cancelled));
            let event = stamp().event(EventType::Cancelled, terms);
            return self.publish(Event { reason: Some(reason), ..event });
        }
        if row.held_at.is_some() {
            if self.pivot(id).is_none() {
                let mark = EntryRow::pivot_row(terms, Err(reason), NOW, Cause::default());
                assert!(self.insert(&mark));
            }
            self.announce_pivot(terms);
        }
    }

    fn announce_pivot(&mut self, terms: &Terms) {
        let event = match self.pivot(terms.id).unwrap().decision {
            PivotDecision::Credited => stamp().event(EventType::Credited, terms),
            PivotDecision::Refused(reason) => {
                Event { reason: Some(reason), ..stamp().event(EventType::Refused, terms) }
            }
        };
        self.publish(event);
    }

    /// Emits the event of the stage that a transfer stands in.
    pub fn redrive(&mut self, id: TransferId) {
        let row = self.transfers[&id].clone();
        match (row.state, self.pivot(id)) {
            (State::Requested, _) => self.publish(stamp().event(EventType::Requested, &row.terms)),
            (State::Held, None) => self.publish(stamp().event(EventType::Held, &row.terms)),
            (State::Held, Some(_)) => self.announce_pivot(&row.terms),
            (State::Committed | State::Rejected | State::Cancelled, _) => {}
        }
    }

    /// As an operator does it, under the row's lock.
    pub fn set_status(&mut self, id: &str, status: AccountStatus) {
        let row = self.accounts.get_mut(&id.parse().unwrap()).unwrap();
        let empty = row.posted == 0 && row.held == 0;
        let refused = status == AccountStatus::Closed && !empty;
        if row.status == AccountStatus::Closed || row.status == status || refused {
            return;
        }
        row.status = status;
        row.version += 1;
        if status == AccountStatus::Closed {
            self.closed.insert(row.id.clone(), row.version);
        }
    }

    /// What must hold after everything that happens.
    pub fn assert_invariants(&self) {
        let sum = |rows: &Rows| rows.values().map(|row| i128::from(row.posted)).sum::<i128>();
        let in_flight: i128 = self
            .transfers
            .values()
            .filter(|row| row.state == State::Held)
            .filter(|row| self.pivot(row.terms.id).as_ref().is_some_and(credited))
            .map(|row| i128::from(row.terms.amount.minor()))
            .sum();
        assert_eq!(sum(&self.accounts) - in_flight, sum(&self.beginning), "money is conserved");
        for row in self.accounts.values() {
            let held: i64 = self
                .transfers
                .values()
                .filter(|transfer| transfer.state == State::Held)
                .filter(|transfer| transfer.terms.source == row.id)
                .map(|transfer| transfer.terms.amount.minor())
                .sum();
            assert_eq!(row.held, held, "held is the sum of what is HELD");
            assert_eq!(row.posted, self.replayed(row), "posted is the sum of the entries");
            if let Some(version) = self.closed.get(&row.id) {
                assert_eq!((row.posted, row.held, row.version), (0, 0, *version), "closed");
            }
        }
    }

    /// The balance that the entries of an account lead to, each checked against the one before.
    fn replayed(&self, row: &AccountRow) -> i64 {
        let of_account = self.entries.values().filter(|entry| entry.account == row.id);
        let by_version: BTreeMap<i64, _> = of_account
            .filter_map(|entry| Some((entry.outcome.as_ref().ok()?, entry.side)))
            .map(|(entry, side)| (entry.version, (entry, side)))
            .collect();
        let mut balance = self.beginning[&row.id].posted;
        for (entry, side) in by_version.values() {
            balance += match side {
                Side::Credit => entry.amount.minor(),
                Side::Debit => -entry.amount.minor(),
            };
            assert_eq!(entry.balance_after, balance, "entries are a chain");
        }
        balance
    }

    /// What must hold when nothing is left to be done.
    pub fn assert_finished(&self) {
        let mut reversed: BTreeMap<TransferId, i64> =
            self.reversed.keys().map(|original| (*original, 0)).collect();
        for row in self.transfers.values() {
            let debit = self.entries.get(&(row.terms.id, Side::Debit));
            let decision = self.pivot(row.terms.id).map(|pivot| pivot.decision);
            match row.state {
                State::Requested | State::Held => panic!("not final: {row:?}"),
                State::Committed => {
                    assert_eq!(decision, Some(PivotDecision::Credited));
                    assert!(debit.is_some());
                    if let Some(original) = row.terms.reverses {
                        *reversed.get_mut(&original).unwrap() += row.terms.amount.minor();
                    }
                }
                State::Rejected | State::Cancelled => {
                    assert!(debit.is_none());
                    assert_eq!(row.reason.map(Reason::final_state), Some(row.state));
                    let of_hold = row.held_at.map(|_| row.reason.map(PivotDecision::Refused));
                    assert_eq!(decision, of_hold.flatten(), "{row:?}");
                }
            }
        }
        assert_eq!(self.reversed, reversed, "what is reversed is what was moved back");
        self.assert_one_end_each();
    }

    fn assert_one_end_each(&self) {
        let mut ends = HashMap::new();
        for event in &self.events {
            if matches!(
                event.kind,
                EventType::Committed | EventType::Rejected | EventType::Cancelled
            ) {
                let end = (event.kind, event.reason);
                let first = ends.entry(event.terms.id).or_insert(end);
                assert_eq!(*first, end, "two ends of one transfer were announced");
            }
        }
    }
}

fn credited(pivot: &Pivot) -> bool {
    pivot.decision == PivotDecision::Credited
}
