//! What is announced must be true when it is, and must stay so.

use super::{Auditor, PivotSeen};
use holdfast::broker::{Family, Topic};
use holdfast::domain::{EventType, State, TransferId};
use serde::Deserialize;

#[derive(Deserialize)]
struct Transfer<'a> {
    id: &'a str,
    amount: &'a str,
    currency: &'a str,
    source: &'a str,
    destination: &'a str,
}

#[derive(Deserialize)]
struct Account<'a> {
    id: &'a str,
    posted: &'a str,
    held: &'a str,
    status: &'a str,
    version: i64,
}

#[derive(Deserialize)]
struct Said<'a> {
    attempt: u32,
    #[serde(borrow)]
    transfer: Transfer<'a>,
    reason: Option<&'a str>,
    #[serde(borrow)]
    account: Option<Account<'a>>,
    #[serde(borrow)]
    destination_account: Option<Account<'a>>,
}

/// Decimal places of the currencies that histories use.
pub(super) fn scale(currency: &str) -> u32 {
    match currency {
        "JPY" => 0,
        "BHD" => 3,
        _ => 2,
    }
}

/// Minor units as a decimal text.
pub(super) fn decimal(minor: i64, scale: u32) -> String {
    if scale == 0 {
        return minor.to_string();
    }
    let unit = 10_u64.pow(scale);
    let sign = if minor < 0 { "-" } else { "" };
    let minor = minor.unsigned_abs();
    let width = scale as usize;
    format!("{sign}{}.{:0width$}", minor / unit, minor % unit)
}

impl Auditor {
    /// At every record that is written.
    pub fn announced(&mut self, topic: Topic, value: &[u8]) -> Result<(), String> {
        if self.silent {
            return Ok(());
        }
        let Family::Event(kind) = topic.family else {
            if self.dead_letters_expected {
                return Ok(());
            }
            let text = String::from_utf8_lossy(value);
            return Err(format!("a dead letter, and nothing that is dead was written: {text}"));
        };
        let said: Said<'_> = serde_json::from_slice(value)
            .map_err(|error| format!("an event that cannot be read: {error}"))?;
        let id: TransferId =
            said.transfer.id.parse().map_err(|_| "an event without an id".to_owned())?;
        let pivot = self.pivots.get(&id).map(|(pivot, _)| *pivot);
        let clocks_jumped = self.clocks_jumped;
        let seen = self.transfer(id, "an event announces")?;
        let terms = (seen.source.as_str(), seen.destination.as_str(), seen.currency.as_str());
        let said_terms = (said.transfer.source, said.transfer.destination, said.transfer.currency);
        let amount = decimal(seen.amount, scale(seen.currency.as_str()));
        if terms != said_terms || said.transfer.amount != amount || topic.shard != seen.shard {
            return Err(format!("an event of {id} says other terms"));
        }
        let state = seen.state;
        let reason = seen.reason.map(|reason| reason.as_str());
        let is_true = match kind {
            EventType::Requested => true,
            EventType::Held => seen.was_held,
            EventType::Credited => pivot == Some(PivotSeen::Credited),
            EventType::Refused => matches!(pivot, Some(PivotSeen::Refused(_))),
            EventType::Committed => state == State::Committed,
            EventType::Rejected => state == State::Rejected && said.reason == reason,
            EventType::Cancelled => state == State::Cancelled && said.reason == reason,
        };
        if !is_true {
            return Err(format!(
                "{} is announced of {id}, which is {state:?} ({reason:?}) with pivot {pivot:?}",
                kind.as_str()
            ));
        }
        let overtakes = kind == EventType::Requested && said.attempt > 1 && !clocks_jumped;
        if kind == EventType::Requested {
            seen.published = true;
            seen.driven |= said.attempt > 1;
        }
        seen.announced |=
            matches!(kind, EventType::Committed | EventType::Rejected | EventType::Cancelled);
        if overtakes && let Some(earlier) = self.before(id).find(|id| !self.transfers[id].published)
        {
            return Err(format!("{id} is driven on before {earlier} was ever published"));
        }
        let mut accounts = said.account.iter().chain(&said.destination_account);
        accounts.try_for_each(|account| self.said_of_account(account))
    }

    /// A row that an event carries is the row of that version, in every event that carries it.
    fn said_of_account(&mut self, said: &Account<'_>) -> Result<(), String> {
        let id = said.id.parse().map_err(|_| "an event with a strange account".to_owned())?;
        let Some(seen) = self.accounts.get(&id) else {
            return Err(format!("an event carries account {id}, which does not exist"));
        };
        if said.version > seen.row.version {
            return Err(format!("an event carries version {} of account {id}", said.version));
        }
        let text = (said.posted.to_owned(), said.held.to_owned(), said.status.to_owned());
        let known = self.snapshots.entry((id, said.version)).or_insert_with(|| text.clone());
        if *known != text {
            return Err(format!(
                "version {} of account {} is said to be {text:?} and {known:?}",
                said.version, said.id
            ));
        }
        Ok(())
    }
}
