//! What callers were told, and whether it was kept.

use crate::auditor::Auditor;
use holdfast::domain::{AccountId, Shard, State, TransferId};
use holdfast::ingress::{Refusal, Submitted};
use holdfast::routing::ShardMap;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of one key.
#[derive(Default)]
struct Asked {
    accepted: Option<TransferId>,
    /// Some attempt was not answered, or with "unknown".
    maybe: bool,
}

#[derive(Default)]
pub struct Book {
    keys: BTreeMap<(AccountId, String), Asked>,
    /// Everything accepted, in the order of the answers.
    pub accepted: Vec<TransferId>,
    ends: BTreeMap<TransferId, BTreeSet<&'static str>>,
}

impl Book {
    /// An answer to a request. No answer is none.
    pub fn answered(
        &mut self,
        source: &AccountId,
        key: &str,
        answer: Option<&Result<Submitted, Refusal>>,
        auditor: &Auditor,
    ) -> Result<(), String> {
        let asked = self.keys.entry((source.clone(), key.to_owned())).or_default();
        match answer {
            None | Some(Err(Refusal::OutcomeUnknown | Refusal::Internal)) => asked.maybe = true,
            Some(Ok(submitted)) => {
                let id = submitted.transfer.row.terms.id;
                if !auditor.transfers.contains_key(&id) {
                    return Err(format!("{id} was answered before it was committed"));
                }
                if asked.accepted.is_some_and(|before| before != id) {
                    return Err(format!(
                        "invariant 5: key {key} stands for {:?} and for {id}",
                        asked.accepted
                    ));
                }
                if asked.accepted.is_none() {
                    self.accepted.push(id);
                }
                asked.accepted = Some(id);
            }
            Some(Err(Refusal::KeyReused)) => {
                return Err(format!("invariant 5: the repeat of {key} was taken for another"));
            }
            Some(Err(refusal)) if asked.accepted.is_some() && is_of_state(refusal) => {
                return Err(format!("invariant 5: the repeat of {key} was refused: {refusal}"));
            }
            Some(Err(_)) => {}
        }
        Ok(())
    }

    /// An answer to a request with a key that was used for another one.
    pub fn reused(&self, key: &str, answer: &Result<Submitted, Refusal>) -> Result<(), String> {
        match answer {
            Ok(submitted) => Err(format!(
                "invariant 5: key {key} was used for another request and answered with {}",
                submitted.transfer.row.terms.id
            )),
            Err(_) => Ok(()),
        }
    }

    /// A caller was promised that the transfer ends like this.
    pub fn promise(&mut self, id: TransferId, end: &'static str) {
        self.ends.entry(id).or_default().insert(end);
    }

    /// What a promotion has lost is no promise any more: that of a transfer which is not there, and
    /// what was said of transfers that touch the lost shard.
    pub fn forget(&mut self, auditor: &Auditor, lost: Shard, map: &ShardMap) {
        for asked in self.keys.values_mut() {
            asked.maybe = true;
            asked.accepted = asked.accepted.filter(|id| auditor.transfers.contains_key(id));
        }
        self.accepted.retain(|id| auditor.transfers.contains_key(id));
        self.ends.retain(|id, _| {
            auditor.transfers.get(id).is_some_and(|seen| {
                ![&seen.source, &seen.destination].iter().any(|id| map.shard_of(id) == lost)
            })
        });
    }

    /// At the end: every promise is kept.
    pub fn kept(&self, auditor: &Auditor) -> Result<(), String> {
        for ((source, key), asked) in &self.keys {
            let found = auditor.claimed(source, key);
            let kept = match asked.accepted {
                Some(id) => found == Some(id),
                None => asked.maybe || found.is_none(),
            };
            if !kept {
                return Err(format!(
                    "key {key} of {source} was answered with {:?} and stands for {found:?}",
                    asked.accepted
                ));
            }
        }
        for (id, ends) in &self.ends {
            let state = auditor.transfers.get(id).map(|seen| seen.state);
            for end in ends {
                let kept = match *end {
                    "cancelled" => state == Some(State::Cancelled),
                    "committed" => state == Some(State::Committed),
                    "not cancelled" => state != Some(State::Cancelled),
                    _ => false,
                };
                if !kept {
                    return Err(format!("a caller was told that {id} ends {end}: {state:?}"));
                }
            }
        }
        Ok(())
    }
}

/// Whether a refusal depends on a state that may have changed since the first answer.
fn is_of_state(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::ReversalExceedsOriginal { .. } | Refusal::TransferNotCommitted(_))
}

impl Auditor {
    /// The transfer that a claim names.
    pub fn claimed(&self, source: &AccountId, key: &str) -> Option<TransferId> {
        let claims = self.claims();
        let own = claims.iter().find(|(at, _)| at.source == *source && at.key.as_str() == key);
        own.map(|(_, id)| *id)
    }
}
