//! Which transfers do not agree, and what is to be done about each. Only reads.
//!
//! The cluster has stopped, so what is read stays as it is. Looked at are the transfers into lost
//! shards, the pivots of transfers out of them, and whatever events say of either; and of every
//! shard the transfers that are final, for whether anybody was told.

use super::decide::{Facts, Repair, SourceRow, decide};
use super::ends::Ends;
use super::evidence::{Evidence, Told};
use super::report::Finding;
use super::{RecoverError, Scope};
use crate::context::Context;
use crate::domain::{
    AccountSnapshot, ClaimKey, Money, NewTransfer, PivotDecision, Shard, State, Terms, TransferId,
};
use crate::store::{CreditFact, SourceFact, TransferRecord};
use std::collections::{BTreeMap, HashMap};

const PAGE: u32 = 1000;
/// After every transfer.
const LAST: [u8; 16] = [0xFF; 16];
/// Whose claim a transfer gets where nothing tells whose it was.
const NOBODY: &str = "holdfast:recovery";
const CALL_AN_ENGINEER: &str = "nothing automatic: call an engineer";

/// One transfer to be repaired.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub terms: Terms,
    pub repair: Repair,
    /// To be inserted first, where the source's shard has no row.
    pub lost: Option<NewTransfer>,
}

/// What was seen, and what is to be done.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub cases: Vec<Case>,
    pub findings: Vec<Finding>,
    /// The newest rows that events carried of accounts of the lost shards.
    pub accounts: Vec<AccountSnapshot>,
    /// Transfers of each shard that are final, and nobody was told.
    pub unannounced: BTreeMap<Shard, Vec<TransferId>>,
    pub transfers: u64,
    pub pivots: u64,
    pub events: u64,
}

/// Looks at everything.
pub(super) async fn survey(context: &Context, scope: &Scope) -> Result<Survey, RecoverError> {
    let (evidence, suspects, survey) = Default::default();
    let mut surveyor = Surveyor { context, scope, evidence, suspects, survey };
    for shard in context.store.map().all_shards() {
        let ends = surveyor.evidence.read(context, scope, shard).await?;
        surveyor.transfers(shard, &ends).await?;
        surveyor.pivots(shard).await?;
    }
    surveyor.decide().await?;
    let Surveyor { mut survey, evidence, .. } = surveyor;
    survey.events = evidence.events;
    survey.accounts = evidence.accounts.into_values().collect();
    Ok(survey)
}

struct Surveyor<'a> {
    context: &'a Context,
    scope: &'a Scope,
    evidence: Evidence,
    /// Transfers that may not agree, with the pivot where one was found first.
    suspects: BTreeMap<TransferId, Option<CreditFact>>,
    survey: Survey,
}

impl Surveyor<'_> {
    fn first(&self) -> TransferId {
        self.scope.since.map_or(TransferId::from_bytes([0; 16]), TransferId::first_at)
    }

    fn lost(&self, shard: Shard) -> bool {
        self.scope.lost.contains(&shard)
    }

    /// Transfers of one shard whose pivots may be lost, or whose ends were not announced.
    async fn transfers(&mut self, shard: Shard, ends: &Ends) -> Result<(), RecoverError> {
        let (store, mut after) = (&self.context.store, self.first());
        loop {
            let facts =
                store.source_facts(shard, after, TransferId::from_bytes(LAST), PAGE).await?;
            let Some(last) = facts.last() else { return Ok(()) };
            after = last.terms.id;
            let unannounced = facts.iter().filter(|fact| ends.unannounced(store.map(), fact));
            let ids = unannounced.map(|fact| fact.terms.id);
            self.survey.unannounced.entry(shard).or_default().extend(ids);
            let into_lost =
                |fact: &&SourceFact| self.lost(store.map().shard_of(&fact.terms.destination));
            let facts: Vec<&SourceFact> = facts.iter().filter(into_lost).collect();
            self.survey.transfers += facts.len() as u64;
            let terms = facts.iter().map(|fact| &fact.terms);
            let pivots = pivots(self.context, terms).await?;
            let mut ended = Vec::new();
            for fact in facts {
                let (id, pivot) = (fact.terms.id, pivots.get(&fact.terms.id));
                match (fact.state, pivot.map(|pivot| pivot.decision)) {
                    (State::Rejected | State::Cancelled, None) => ended.push(id),
                    (state, decision) if !agree(state, decision) => {
                        self.suspects.insert(id, pivot.cloned());
                    }
                    _ => {}
                }
            }
            // Only those that were held had a pivot.
            let ended = store.transfer_records(shard, &ended).await?;
            let held = ended.iter().filter(|record| record.row.held_at.is_some());
            self.suspects.extend(held.map(|record| (record.row.terms.id, None)));
        }
    }

    /// Pivots of one shard whose transfers may be lost.
    async fn pivots(&mut self, shard: Shard) -> Result<(), RecoverError> {
        let (store, mut after) = (&self.context.store, self.first());
        loop {
            let facts =
                store.credit_facts(shard, after, TransferId::from_bytes(LAST), PAGE).await?;
            let Some(last) = facts.last() else { return Ok(()) };
            after = last.transfer;
            let mut by_source: BTreeMap<Shard, BTreeMap<TransferId, &CreditFact>> = BTreeMap::new();
            for fact in &facts {
                let source = store.map().shard_of_transfer(fact.transfer);
                if self.lost(source) {
                    by_source.entry(source).or_default().insert(fact.transfer, fact);
                }
            }
            for (source, facts) in by_source {
                self.survey.pivots += facts.len() as u64;
                let ids: Vec<TransferId> = facts.keys().copied().collect();
                let stored = store.source_facts_of(source, &ids).await?;
                let states: HashMap<TransferId, State> =
                    stored.iter().map(|fact| (fact.terms.id, fact.state)).collect();
                let suspect = |(id, fact): &(TransferId, &CreditFact)| {
                    states.get(id).is_none_or(|state| !agree(*state, Some(fact.decision)))
                };
                let suspects = facts.into_iter().filter(suspect);
                self.suspects.extend(suspects.map(|(id, fact)| (id, Some(fact.clone()))));
            }
        }
    }

    /// Decides about every suspect, by what is stored of it and what was said of it.
    async fn decide(&mut self) -> Result<(), RecoverError> {
        for id in self.evidence.transfers.keys() {
            self.suspects.entry(*id).or_default();
        }
        let suspects: Vec<_> = std::mem::take(&mut self.suspects).into_iter().collect();
        for page in suspects.chunks(PAGE as usize) {
            let records = records(self.context, page.iter().map(|(id, _)| *id)).await?;
            let terms: BTreeMap<TransferId, Terms> = page
                .iter()
                .filter_map(|(id, pivot)| {
                    let known = records.get(id).map(|record| record.row.terms.clone());
                    let told = || self.evidence.transfers.get(id).map(|told| told.terms.clone());
                    let terms = known.or_else(told).or_else(|| credited(pivot.as_ref()?))?;
                    Some((*id, terms))
                })
                .collect();
            let pivots = pivots(self.context, terms.values()).await?;
            for (id, found) in page {
                match terms.get(id) {
                    Some(terms) => self.judge(terms, records.get(id), pivots.get(id)),
                    None => self.unknown(*id, found.as_ref()),
                }
            }
        }
        Ok(())
    }

    fn judge(
        &mut self,
        terms: &Terms,
        record: Option<&TransferRecord>,
        pivot: Option<&CreditFact>,
    ) {
        let map = self.context.store.map();
        let told = self.evidence.transfers.get(&terms.id);
        let facts = Facts {
            source: record.map(source_row),
            pivot: pivot.map(|pivot| pivot.decision),
            source_lost: self.lost(map.shard_of(&terms.source)),
            destination_lost: self.lost(map.shard_of(&terms.destination)),
            announced: told.map(|told| told.announced).unwrap_or_default(),
        };
        let decided = match pivot {
            Some(pivot) if !fits(pivot, terms) => Err("a transfer and its pivot have other terms"),
            _ => decide(&facts),
        };
        match decided {
            Ok(repair) if repair == Repair::default() => {}
            Ok(repair) => {
                let lost = record.is_none().then(|| self.lost_transfer(terms));
                self.survey.cases.push(Case { terms: terms.clone(), repair, lost });
            }
            Err(what) => self.survey.findings.push(Finding {
                what,
                place: format!("transfer {}, {} to {}", terms.id, terms.source, terms.destination),
                amount: format!("{} {}", terms.amount, terms.amount.currency()),
                repair: CALL_AN_ENGINEER,
            }),
        }
    }

    /// What is inserted for a transfer without a row.
    fn lost_transfer(&mut self, terms: &Terms) -> NewTransfer {
        let told = self.evidence.transfers.get(&terms.id);
        if let Some(new) = told.and_then(as_requested) {
            return new;
        }
        self.survey.findings.push(Finding {
            what: "no event tells the request of a lost transfer: its claim is not restored",
            place: format!("transfer {}, {} to {}", terms.id, terms.source, terms.destination),
            amount: format!("{} {}", terms.amount, terms.amount.currency()),
            repair: "see that its client does not ask for it again",
        });
        NewTransfer {
            terms: terms.clone(),
            claim: nobodys_claim(terms),
            fingerprint: [0; 32],
            fingerprint_version: 0,
            description: None,
            reference: None,
            metadata: None,
            sealed: None,
            at: terms.id.minted_at(),
        }
    }

    /// A REFUSED mark has no amount, and nothing else is left of its transfer.
    fn unknown(&mut self, id: TransferId, pivot: Option<&CreditFact>) {
        let accounts = pivot.map(|pivot| format!(", {} to {}", pivot.source, pivot.destination));
        self.survey.findings.push(Finding {
            what: "a refusal belongs to no transfer, and no event tells its terms",
            place: format!("transfer {id}{}", accounts.unwrap_or_default()),
            amount: String::new(),
            repair: "none needed: it moved no money and never will",
        });
    }
}

/// The claim of a transfer whose client is not known, or whose own claim names another transfer.
pub(super) fn nobodys_claim(terms: &Terms) -> ClaimKey {
    ClaimKey {
        source: terms.source.clone(),
        client: NOBODY.parse().expect("a valid client name"),
        key: terms.id.to_string().parse().expect("an id is a valid key"),
    }
}

/// The transfer that ingress inserted, from the event that it published.
fn as_requested(told: &Told) -> Option<NewTransfer> {
    let (request, at) = told.request.as_ref()?;
    Some(NewTransfer {
        terms: told.terms.clone(),
        claim: ClaimKey {
            source: told.terms.source.clone(),
            client: request.client.clone(),
            key: request.idempotency_key.clone(),
        },
        fingerprint: request.fingerprint_bytes()?,
        fingerprint_version: request.fingerprint_version,
        description: request.description.clone(),
        reference: request.reference.clone(),
        metadata: request.metadata.clone(),
        sealed: request.sealed.clone(),
        at: *at,
    })
}

/// Whether a state and a pivot may stand beside each other for good or for now.
fn agree(state: State, pivot: Option<PivotDecision>) -> bool {
    match (state, pivot) {
        (State::Committed, pivot) => pivot == Some(PivotDecision::Credited),
        (State::Requested, pivot) => pivot.is_none(),
        (State::Rejected | State::Cancelled, pivot) => pivot != Some(PivotDecision::Credited),
        (State::Held, _) => true,
    }
}

fn source_row(record: &TransferRecord) -> SourceRow {
    SourceRow {
        state: record.row.state,
        reason: record.row.reason,
        was_held: record.row.held_at.is_some(),
    }
}

/// The terms that a credit tells; that of a reversal does not tell of what.
fn credited(pivot: &CreditFact) -> Option<Terms> {
    Some(Terms {
        id: pivot.transfer,
        source: pivot.source.clone(),
        destination: pivot.destination.clone(),
        amount: Money::from_minor(pivot.amount, pivot.currency).filter(|m| m.minor() > 0)?,
        reverses: None,
    })
}

fn fits(pivot: &CreditFact, terms: &Terms) -> bool {
    let amount = match pivot.decision {
        PivotDecision::Credited => terms.amount.minor(),
        PivotDecision::Refused(_) => 0,
    };
    let credited = pivot.decision == PivotDecision::Credited;
    pivot.source == terms.source
        && pivot.destination == terms.destination
        && pivot.amount == amount
        && (!credited || pivot.currency == terms.amount.currency())
}

async fn records(
    context: &Context,
    ids: impl Iterator<Item = TransferId>,
) -> Result<HashMap<TransferId, TransferRecord>, RecoverError> {
    let mut by_shard: BTreeMap<Shard, Vec<TransferId>> = BTreeMap::new();
    for id in ids {
        by_shard.entry(context.store.map().shard_of_transfer(id)).or_default().push(id);
    }
    let mut records = HashMap::new();
    for (shard, ids) in by_shard {
        let found = context.store.transfer_records(shard, &ids).await?;
        records.extend(found.into_iter().map(|record| (record.row.terms.id, record)));
    }
    Ok(records)
}

async fn pivots<'t>(
    context: &Context,
    terms: impl Iterator<Item = &'t Terms> + Send,
) -> Result<HashMap<TransferId, CreditFact>, RecoverError> {
    let mut by_shard: BTreeMap<Shard, Vec<TransferId>> = BTreeMap::new();
    for terms in terms {
        let shard = context.store.map().shard_of(&terms.destination);
        by_shard.entry(shard).or_default().push(terms.id);
    }
    let mut pivots = HashMap::new();
    for (shard, ids) in by_shard {
        let found = context.store.credit_facts_of(shard, &ids).await?;
        pivots.extend(found.into_iter().map(|pivot| (pivot.transfer, pivot)));
    }
    Ok(pivots)
}
