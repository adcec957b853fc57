//! The decision at ingress: pure, from requests and the claims that exist to new transfers.

use super::fingerprint::{KEYED, VERSION};
use super::request::TransferRequest;
use crate::domain::{Claim, ClaimKey, NewTransfer, Terms, Timestamp, TransferId};
use crate::routing::slot_of;
use std::collections::{BTreeMap, HashMap};

/// A request of a group commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The request.
    pub request: TransferRequest,
    /// Its fingerprint.
    pub fingerprint: [u8; 32],
}

impl Asked {
    /// The claim that it needs.
    pub fn claim(&self) -> ClaimKey {
        ClaimKey {
            source: self.request.source.clone(),
            client: self.request.client.clone(),
            key: self.request.key.clone(),
        }
    }
}

/// What becomes of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A new transfer: the one at this index of [`Decided::transfers`].
    New(usize),
    /// The transfer that an earlier request made.
    Replay(TransferId),
    /// Repeats the request at this index of the batch.
    RepeatOf(usize),
    /// The key stands for another request.
    KeyReused,
    /// So much, in minor units, is left of the original.
    Exceeds(i64),
    /// It would be new, and nothing new is accepted there.
    Paused,
    /// Its fields or its claim need a key that is not there.
    NoKey,
}

/// The fingerprint of a request under the key of its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyed {
    /// It has none: nothing in it is personal, or nothing is encrypted.
    Plain,
    /// It has.
    Under([u8; 32]),
    /// It should have, and the key is not there.
    NoKey,
}

/// Whether a claim was made by the same request; none where that cannot be said without a key.
pub fn same(claim: &Claim, asked: &Asked, keyed: Keyed) -> Option<bool> {
    match (claim.fingerprint_version, keyed) {
        // It was made by a request with personal fields.
        (KEYED, _) if !asked.request.is_personal() => Some(false),
        (KEYED, Keyed::Under(print)) => Some(claim.fingerprint == print),
        (KEYED, Keyed::Plain | Keyed::NoKey) => None,
        _ => Some(claim.fingerprint == asked.fingerprint),
    }
}

/// What a group commit writes and answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// To be inserted, in the order in which they were asked for.
    pub transfers: Vec<NewTransfer>,
    /// How much more of each original is reversed.
    pub reversed: BTreeMap<TransferId, i64>,
    /// One for each request, in order.
    pub verdicts: Vec<Verdict>,
}

/// Decides a batch in order. `claims` are those that exist, `reversed` says how much of each
/// original is reversed already, `paused` which requests are not accepted where they are new, `keyed`
/// gives fingerprints under the shard's key, `random` makes ids unique.
pub fn decide(
    batch: &[Asked],
    claims: &HashMap<ClaimKey, Claim>,
    reversed: &BTreeMap<TransferId, i64>,
    paused: impl Fn(usize) -> bool,
    now: Timestamp,
    keyed: &(dyn Fn(&Asked) -> Keyed + Sync),
    mut random: impl FnMut() -> u64,
) -> Decided {
    let mut decided = Decided::default();
    let mut first: HashMap<ClaimKey, usize> = HashMap::new();
    for (index, asked) in batch.iter().enumerate() {
        let key = asked.claim();
        let verdict = if let Some(claim) = claims.get(&key) {
            match same(claim, asked, keyed(asked)) {
                Some(same) => replay(same, Verdict::Replay(claim.transfer)),
                None => Verdict::NoKey,
            }
        } else if let Some(earlier) = first.get(&key) {
            let same = batch[*earlier].fingerprint == asked.fingerprint;
            replay(same, Verdict::RepeatOf(*earlier))
        } else {
            match print(asked, keyed(asked)) {
                _ if paused(index) => {
                    first.insert(key, index);
                    Verdict::Paused
                }
                Some(print) => {
                    first.insert(key.clone(), index);
                    accept(asked, print, key, reversed, now, &mut random, &mut decided)
                }
                None => Verdict::NoKey,
            }
        };
        decided.verdicts.push(verdict);
    }
    decided
}

fn replay(same: bool, verdict: Verdict) -> Verdict {
    if same { verdict } else { Verdict::KeyReused }
}

/// The fingerprint that is stored, and how it was computed.
fn print(asked: &Asked, keyed: Keyed) -> Option<([u8; 32], u8)> {
    match keyed {
        Keyed::Plain => Some((asked.fingerprint, VERSION)),
        Keyed::Under(print) => Some((print, KEYED)),
        Keyed::NoKey => None,
    }
}

fn accept(
    asked: &Asked,
    (fingerprint, fingerprint_version): ([u8; 32], u8),
    claim: ClaimKey,
    reversed: &BTreeMap<TransferId, i64>,
    now: Timestamp,
    random: &mut impl FnMut() -> u64,
    decided: &mut Decided,
) -> Verdict {
    let request = &asked.request;
    if let Some(original) = &request.reverses {
        let before = reversed.get(&original.id).copied().unwrap_or(0);
        let more = decided.reversed.entry(original.id).or_default();
        let left = original.amount.minor() - before - *more;
        if request.amount.minor() > left {
            return Verdict::Exceeds(left);
        }
        *more += request.amount.minor();
    }
    let index = decided.transfers.len();
    let sequence = u32::try_from(index).unwrap_or(u32::MAX);
    decided.transfers.push(NewTransfer {
        terms: Terms {
            id: TransferId::mint(now, slot_of(&request.source), sequence, random()),
            source: request.source.clone(),
            destination: request.destination.clone(),
            amount: request.amount,
            reverses: request.reverses.map(|original| original.id),
        },
        claim,
        fingerprint,
        fingerprint_version,
        description: request.description.clone(),
        reference: request.reference.clone(),
        metadata: request
            .metadata
            .as_ref()
            .map(|metadata| serde_json::to_string(metadata).expect("a map of strings")),
        sealed: None,
        at: now,
    });
    Verdict::New(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Money;
    use crate::ingress::fingerprint::fingerprint;
    use crate::ingress::request::{Original, tests::request};

    fn asked(key: &str, amount: &str) -> Asked {
        let mut request = request(key);
        request.amount = Money::parse(amount, "USD".parse().unwrap()).unwrap();
        Asked { fingerprint: fingerprint(&request), request }
    }

    fn decide_now(batch: &[Asked], claims: &HashMap<ClaimKey, Claim>) -> Decided {
        let mut next = 0;
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        decide(
            batch,
            claims,
            &BTreeMap::new(),
            |_| false,
            now,
            &|_| Keyed::Plain,
            || {
                next += 1;
                next
            },
        )
    }

    /// What was accepted before a pause is answered as always; what is new is not accepted, nor is
    /// its repeat.
    #[test]
    fn what_is_paused_is_refused_only_where_it_is_new() {
        let (old, new) = (asked("old", "1.00"), asked("new", "1.00"));
        let made = decide_now(std::slice::from_ref(&old), &HashMap::new());
        let transfer = made.transfers[0].terms.id;
        let claim = Claim { transfer, fingerprint: old.fingerprint, fingerprint_version: VERSION };
        let claims = HashMap::from([(old.claim(), claim)]);
        let batch = [old, new.clone(), new, asked("other", "1.00")];
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let paused = |index| index < 3;
        let decided =
            decide(&batch, &claims, &BTreeMap::new(), paused, now, &|_| Keyed::Plain, || 1);
        let verdicts =
            [Verdict::Replay(transfer), Verdict::Paused, Verdict::RepeatOf(1), Verdict::New(0)];
        assert_eq!(decided.verdicts, verdicts);
        assert_eq!(decided.transfers.len(), 1);
    }

    /// Hazard 30, the first half: what one group commit inserts has each claim once.
    #[test]
    fn two_items_with_one_key_make_one_transfer() {
        let batch =
            [asked("a", "1.00"), asked("a", "1.00"), asked("a", "2.00"), asked("b", "1.00")];
        let decided = decide_now(&batch, &HashMap::new());
        assert_eq!(
            decided.verdicts,
            [Verdict::New(0), Verdict::RepeatOf(0), Verdict::KeyReused, Verdict::New(1)]
        );
        assert!(decided.transfers[0].terms.id < decided.transfers[1].terms.id);
    }

    #[test]
    fn a_claim_is_answered_with_its_transfer_or_refused_for_another_request() {
        let first = asked("a", "1.00");
        let made = decide_now(std::slice::from_ref(&first), &HashMap::new());
        let transfer = made.transfers[0].terms.id;
        let claim =
            Claim { transfer, fingerprint: first.fingerprint, fingerprint_version: VERSION };
        let claims = HashMap::from([(first.claim(), claim)]);
        let decided = decide_now(&[first, asked("a", "1.01")], &claims);
        assert_eq!(decided.verdicts, [Verdict::Replay(transfer), Verdict::KeyReused]);
        assert!(decided.transfers.is_empty());
    }

    /// A committed transfer of 10.00, to be reversed.
    fn original() -> Original {
        let made = decide_now(&[asked("a", "10.00")], &HashMap::new());
        let terms = &made.transfers[0].terms;
        Original { id: terms.id, amount: terms.amount }
    }

    fn reversal_of(original: Original, key: &str, amount: &str) -> Asked {
        let mut request = asked(key, amount).request;
        request.reverses = Some(original);
        Asked { fingerprint: fingerprint(&request), request }
    }

    /// Hazard 38: a reversal whose answer was lost is asked for again when it has left nothing of
    /// its original; it is found by its claim before anybody looks at what is left.
    #[test]
    fn a_reversal_asked_for_again_is_found_although_nothing_is_left() {
        let original = original();
        let whole = reversal_of(original, "r", "10.00");
        let made = decide_now(std::slice::from_ref(&whole), &HashMap::new());
        let transfer = made.transfers[0].terms.id;
        let claim =
            Claim { transfer, fingerprint: whole.fingerprint, fingerprint_version: VERSION };
        let claims = HashMap::from([(whole.claim(), claim)]);
        let nothing_left = BTreeMap::from([(original.id, 1000)]);
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let batch = [whole, reversal_of(original, "other", "0.01")];
        let again = decide(&batch, &claims, &nothing_left, |_| false, now, &|_| Keyed::Plain, || 1);
        assert_eq!(again.verdicts, [Verdict::Replay(transfer), Verdict::Exceeds(0)]);
        assert!(again.transfers.is_empty());
    }

    /// Hazard 38: two partial reversals of one group commit do not both see the whole left.
    #[test]
    fn reversals_of_one_group_share_what_is_left() {
        let original = original();
        let reversal = |key, amount| reversal_of(original, key, amount);
        let batch = [reversal("r1", "6.00"), reversal("r2", "5.00"), reversal("r3", "4.00")];
        let decided = decide_now(&batch, &HashMap::new());
        assert_eq!(decided.verdicts, [Verdict::New(0), Verdict::Exceeds(400), Verdict::New(1)]);
        assert_eq!(decided.reversed, BTreeMap::from([(original.id, 1000)]));
    }

    #[test]
    fn a_claim_is_compared_as_it_was_made_or_not_at_all() {
        let mut personal = asked("a", "1.00");
        personal.request.description = Some("Rent".to_owned());
        let plain = asked("a", "1.00");
        let transfer = TransferId::from_bytes([7; 16]);
        let claim =
            |fingerprint, fingerprint_version| Claim { transfer, fingerprint, fingerprint_version };
        let (old, keyed) = (claim(personal.fingerprint, VERSION), claim([9; 32], KEYED));
        for now in [Keyed::Plain, Keyed::Under([9; 32]), Keyed::NoKey] {
            assert_eq!(same(&old, &personal, now), Some(true), "from before there were keys");
            assert_eq!(same(&keyed, &plain, now), Some(false), "it has nothing personal");
        }
        assert_eq!(same(&keyed, &personal, Keyed::Under([9; 32])), Some(true));
        assert_eq!(same(&keyed, &personal, Keyed::Under([8; 32])), Some(false));
        for missing in [Keyed::Plain, Keyed::NoKey] {
            assert_eq!(same(&keyed, &personal, missing), None);
        }
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let none = BTreeMap::new();
        let new = |keyed: Keyed| {
            let batch = [personal.clone()];
            decide(&batch, &HashMap::new(), &none, |_| false, now, &move |_| keyed, || 1)
        };
        let made = new(Keyed::Under([9; 32])).transfers.remove(0);
        assert_eq!((made.fingerprint, made.fingerprint_version), ([9; 32], KEYED));
        let refused = new(Keyed::NoKey);
        assert_eq!((refused.verdicts, refused.transfers.len()), (vec![Verdict::NoKey], 0));
    }
}
