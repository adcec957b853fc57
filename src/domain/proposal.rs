//! What one principal proposes and another decides on.

use super::{
    AccountId, Client, Currency, IdempotencyKey, InvalidId, LetterId, Limit, Money, Period, Shard,
    Slot, Timestamp, TransferId, format_minor,
};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A proposal's id: a version 7 UUID as a transfer's is, whose 12 `rand_a` bits are the shard that
/// keeps it. Ids order by time, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId(TransferId);

impl ProposalId {
    /// The id for a proposal of this database time that is kept on `shard`.
    pub fn mint(at: Timestamp, shard: Shard, random: u64) -> Self {
        let shard = Slot::new(shard.0).expect("every shard has a slot, so there are no more");
        let sequence = u32::try_from(random >> 40).expect("24 bits are left");
        Self(TransferId::mint(at, shard, sequence, random))
    }

    /// The shard that keeps it.
    pub fn shard(self) -> Shard {
        Shard(self.0.slot().number())
    }

    /// The 16 bytes in network order, which sort as the ids do.
    pub fn bytes(self) -> [u8; 16] {
        self.0.bytes()
    }

    /// From 16 bytes in network order, as a store keeps them.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(TransferId::from_bytes(bytes))
    }
}

impl FromStr for ProposalId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        const RULE: InvalidId = InvalidId(
            "a proposal id is a version 7 UUID such as 018bcfe5-687f-7000-9def-0123456789ab",
        );
        text.parse().map(Self).map_err(|_| RULE)
    }
}

impl fmt::Display for ProposalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ProposalId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// What can be proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Ending a transfer that is not credited.
    CancelTransfer,
    /// Letting a quarantined account make holds again.
    ReleaseQuarantine,
    /// Marking a dead letter as dealt with.
    DiscardLetter,
    /// Another overdraft limit.
    ChangeLimit,
    /// Other velocity limits.
    ChangeVelocity,
    /// A transfer from an external account.
    Adjust,
}

impl OperationKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CancelTransfer,
        Self::ReleaseQuarantine,
        Self::DiscardLetter,
        Self::ChangeLimit,
        Self::ChangeVelocity,
        Self::Adjust,
    ];

    /// The name in requests, answers and stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CancelTransfer => "cancel_transfer",
            Self::ReleaseQuarantine => "release_quarantine",
            Self::DiscardLetter => "discard_letter",
            Self::ChangeLimit => "change_limit",
            Self::ChangeVelocity => "change_velocity",
            Self::Adjust => "adjust",
        }
    }
}

impl FromStr for OperationKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| format!("one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// A manual operation that has to do with money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Ends a transfer that is not credited.
    CancelTransfer(TransferId),
    /// Lets a quarantined account make holds again.
    ReleaseQuarantine {
        /// The account.
        account: AccountId,
        /// Also while its books do not agree.
        force: bool,
    },
    /// Marks a dead letter as dealt with.
    DiscardLetter(LetterId),
    /// Gives an account another overdraft limit.
    ChangeLimit {
        /// The account.
        account: AccountId,
        /// The limit, in its currency.
        limit: Money,
    },
    /// Gives an account these velocity limits and no others.
    ChangeVelocity {
        /// The account.
        account: AccountId,
        /// Its currency, which the limits' amounts are in.
        currency: Currency,
        /// At most one a period.
        limits: BTreeMap<Period, Limit>,
    },
    /// Makes a transfer from an external account.
    Adjust {
        /// The external account.
        source: AccountId,
        /// Who is paid.
        destination: AccountId,
        /// How much; over zero.
        amount: Money,
        /// Up to 255 characters.
        description: Option<String>,
    },
}

impl Operation {
    /// Which it is.
    pub const fn kind(&self) -> OperationKind {
        match self {
            Self::CancelTransfer(_) => OperationKind::CancelTransfer,
            Self::ReleaseQuarantine { .. } => OperationKind::ReleaseQuarantine,
            Self::DiscardLetter(_) => OperationKind::DiscardLetter,
            Self::ChangeLimit { .. } => OperationKind::ChangeLimit,
            Self::ChangeVelocity { .. } => OperationKind::ChangeVelocity,
            Self::Adjust { .. } => OperationKind::Adjust,
        }
    }

    /// What it is done to: a transfer, an account or a dead letter.
    pub fn target(&self) -> String {
        match self {
            Self::CancelTransfer(transfer) => transfer.to_string(),
            Self::DiscardLetter(letter) => letter.to_string(),
            Self::ReleaseQuarantine { account, .. }
            | Self::ChangeLimit { account, .. }
            | Self::ChangeVelocity { account, .. } => account.to_string(),
            Self::Adjust { source, .. } => source.to_string(),
        }
    }

    /// The rest of what it says.
    pub fn parameters(&self) -> Value {
        match self {
            Self::CancelTransfer(_) | Self::DiscardLetter(_) => json!({}),
            Self::ReleaseQuarantine { force, .. } => json!({ "force": force }),
            Self::ChangeLimit { limit, .. } => {
                json!({ "overdraft_limit": limit.to_string(), "currency": limit.currency() })
            }
            Self::ChangeVelocity { currency, limits, .. } => {
                json!({ "limits": told_limits(limits, *currency), "currency": currency })
            }
            Self::Adjust { destination, amount, description, .. } => json!({
                "destination": destination,
                "amount": amount.to_string(),
                "currency": amount.currency(),
                "description": description,
            }),
        }
    }

    /// From what [`Operation::target`] and [`Operation::parameters`] said of it.
    pub fn read(kind: OperationKind, target: &str, parameters: &Value) -> Option<Self> {
        let text = |name: &str| parameters[name].as_str();
        let money = |name: &str| {
            let currency: Currency = text("currency")?.parse().ok()?;
            Money::parse(text(name)?, currency).ok()
        };
        Some(match kind {
            OperationKind::CancelTransfer => Self::CancelTransfer(target.parse().ok()?),
            OperationKind::DiscardLetter => Self::DiscardLetter(target.parse().ok()?),
            OperationKind::ReleaseQuarantine => Self::ReleaseQuarantine {
                account: target.parse().ok()?,
                force: parameters["force"].as_bool()?,
            },
            OperationKind::ChangeLimit => Self::ChangeLimit {
                account: target.parse().ok()?,
                limit: money("overdraft_limit")?,
            },
            OperationKind::ChangeVelocity => {
                let currency: Currency = text("currency")?.parse().ok()?;
                let limits = parameters["limits"].as_array()?;
                let read = |told: &Value| read_limit(told, currency);
                Self::ChangeVelocity {
                    account: target.parse().ok()?,
                    currency,
                    limits: limits.iter().map(read).collect::<Option<_>>()?,
                }
            }
            OperationKind::Adjust => Self::Adjust {
                source: target.parse().ok()?,
                destination: text("destination")?.parse().ok()?,
                amount: money("amount")?,
                description: text("description").map(str::to_owned),
            },
        })
    }
}

/// Velocity limits as people and stores have them, the shortest period first.
pub fn told_limits(limits: &BTreeMap<Period, Limit>, currency: Currency) -> Value {
    let told = |(period, limit): (&Period, &Limit)| {
        json!({
            "period": period,
            "max_count": limit.max_count(),
            "max_amount": limit.max_amount().map(|minor| format_minor(minor, currency)),
        })
    };
    limits.iter().map(told).collect()
}

fn read_limit(told: &Value, currency: Currency) -> Option<(Period, Limit)> {
    let amount = match told["max_amount"].as_str() {
        Some(text) => Some(Money::parse(text, currency).ok()?.minor()),
        None => None,
    };
    let limit = Limit::new(told["max_count"].as_i64(), amount)?;
    Some((told["period"].as_str()?.parse().ok()?, limit))
}

/// How far a proposal has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposalState {
    /// Nobody has decided.
    Pending,
    /// Somebody else has said yes; what was proposed is being done.
    Approved,
    /// It is done.
    Executed,
    /// It was approved and could not be done.
    Failed,
    /// Somebody else has said no.
    Rejected,
    /// Nobody has decided in time. Never stored: a pending one is so once its time is over.
    Expired,
}

impl ProposalState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Approved,
        Self::Executed,
        Self::Failed,
        Self::Rejected,
        Self::Expired,
    ];

    /// The number that stores keep.
    pub const fn code(self) -> i64 {
        match self {
            Self::Pending => 1,
            Self::Approved => 2,
            Self::Executed => 3,
            Self::Failed => 4,
            Self::Rejected => 5,
            Self::Expired => 6,
        }
    }

    /// From the number that stores keep.
    pub fn from_code(code: i64) -> Option<Self> {
        let stored = |state: &Self| state.code() == code && *state != Self::Expired;
        Self::ALL.into_iter().find(stored)
    }

    /// The name in requests and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Executed => "executed",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }
}

impl FromStr for ProposalState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == text);
        known.ok_or_else(|| format!("one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// Who said yes or no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The principal.
    pub by: Client,
    /// When, by database time.
    pub at: Timestamp,
    /// Why, where they said so; up to 1,024 characters.
    pub reason: Option<String>,
}

/// What became of an approved proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When, by database time.
    pub at: Timestamp,
    /// What was done or why it could not be, as JSON.
    pub outcome: String,
}

/// A proposal, as its shard keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Names its shard, too.
    pub id: ProposalId,
    /// What is proposed.
    pub operation: Operation,
    /// How things stood when it was proposed, as JSON.
    pub before: String,
    /// By whom.
    pub proposed_by: Client,
    /// Why; up to 1,024 characters.
    pub reason: String,
    /// The proposer's name of the request, one for each target.
    pub key: IdempotencyKey,
    /// Database time.
    pub created_at: Timestamp,
    /// From then on nobody can approve it.
    pub expires_at: Timestamp,
    /// As it is stored.
    pub state: ProposalState,
    /// Who decided.
    pub decision: Option<Decision>,
    /// What became of it, where it was approved.
    pub ended: Option<Ended>,
}

impl Proposal {
    /// How far it has come at this time.
    pub fn state_at(&self, now: Timestamp) -> ProposalState {
        let over = self.state == ProposalState::Pending && now >= self.expires_at;
        if over { ProposalState::Expired } else { self.state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_shard_and_reads_back() {
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        for shard in [0, 1, 4095].map(Shard) {
            let id = ProposalId::mint(at, shard, u64::MAX);
            assert_eq!((id.shard(), id.to_string().parse()), (shard, Ok(id)));
            assert_eq!(ProposalId::from_bytes(id.bytes()), id);
        }
        assert!("x".parse::<ProposalId>().unwrap_err().to_string().contains("proposal"));
    }

    #[test]
    fn every_operation_reads_back() {
        let usd = "USD".parse().unwrap();
        let account: AccountId = "alice".parse().unwrap();
        let money = Money::parse("5.00", usd).unwrap();
        for operation in [
            Operation::CancelTransfer("018bcfe5-687f-7abc-9def-0123456789ab".parse().unwrap()),
            Operation::ReleaseQuarantine { account: account.clone(), force: true },
            Operation::DiscardLetter("0.3.17".parse().unwrap()),
            Operation::ChangeLimit { account: account.clone(), limit: money },
            Operation::Adjust {
                source: "bank".parse().unwrap(),
                destination: account,
                amount: money,
                description: None,
            },
        ] {
            let (kind, target) = (operation.kind(), operation.target());
            let text = operation.parameters().to_string();
            let read = Operation::read(kind, &target, &text.parse().unwrap());
            assert_eq!(read, Some(operation));
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
    }

    #[test]
    fn an_expired_one_is_never_stored() {
        for state in ProposalState::ALL {
            let stored = (state != ProposalState::Expired).then_some(state);
            assert_eq!(ProposalState::from_code(state.code()), stored);
            assert_eq!(state.as_str().parse(), Ok(state));
        }
    }
}
