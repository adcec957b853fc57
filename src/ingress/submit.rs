//! Transfers, alone or many.

use super::Ingress;
use super::fingerprint::fingerprint;
use super::request::{Refusal, Submitted, TransferRequest};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

impl Ingress {
    /// Accepts one transfer, or finds the one that its key stands for.
    pub async fn submit(&self, request: TransferRequest) -> Result<Submitted, Refusal> {
        let shard = self.context.store.map().shard_of(&request.source);
        let answer = self.lanes[usize::from(shard.0)].enter(request)?;
        // A lane that ended without an answer was stopped in the middle: nobody knows.
        answer.await.unwrap_or(Err(Refusal::OutcomeUnknown))
    }

    /// Accepts many, each on its own; answers in the order of the requests. Of several with one
    /// source, client and key the first counts, later ones are repeats of it.
    pub async fn submit_many(
        &self,
        requests: Vec<TransferRequest>,
    ) -> Vec<Result<Submitted, Refusal>> {
        let mut first = HashMap::new();
        let mut places = Vec::with_capacity(requests.len());
        for (index, request) in requests.into_iter().enumerate() {
            let key = (request.source.clone(), request.client.clone(), request.key.clone());
            let print = fingerprint(&request);
            places.push(match first.entry(key) {
                Entry::Occupied(earlier) => {
                    let (place, of_first) = *earlier.get();
                    Place::Repeat { first: place, same: of_first == print }
                }
                Entry::Vacant(vacant) => {
                    vacant.insert((index, print));
                    let shard = self.context.store.map().shard_of(&request.source);
                    Place::Own(self.lanes[usize::from(shard.0)].enter(request))
                }
            });
        }
        let mut answers: Vec<Result<Submitted, Refusal>> = Vec::with_capacity(places.len());
        for place in places {
            answers.push(match place {
                Place::Own(Ok(answer)) => answer.await.unwrap_or(Err(Refusal::OutcomeUnknown)),
                Place::Own(Err(refusal)) => Err(refusal),
                Place::Repeat { first, same } => repeat(&answers[first], same),
            });
        }
        answers
    }
}

enum Place {
    Own(Result<tokio::sync::oneshot::Receiver<Result<Submitted, Refusal>>, Refusal>),
    Repeat { first: usize, same: bool },
}

/// A repeat of a request that was not decided is not decided either; of one that was, it is the
/// same transfer, or a key that was used for another request.
fn repeat(first: &Result<Submitted, Refusal>, same: bool) -> Result<Submitted, Refusal> {
    match first {
        Ok(submitted) if same => Ok(Submitted { replayed: true, ..submitted.clone() }),
        Ok(_) => Err(Refusal::KeyReused),
        Err(refusal) => Err(refusal.clone()),
    }
}
