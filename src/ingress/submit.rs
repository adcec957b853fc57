//! Transfers, alone or many.

use super::Ingress;
use super::fingerprint::fingerprint;
use super::request::{Refusal, Submitted, TransferRequest};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use tokio::sync::oneshot;

impl Ingress {
    /// Accepts one transfer, or finds the one that its key stands for.
    pub async fn submit(&self, request: TransferRequest) -> Result<Submitted, Refusal> {
        let shard = self.context.store.map().shard_of(&request.source);
        decided(self.lanes[usize::from(shard.0)].enter(request)).await
    }

    /// Accepts many, each on its own; answers in the order of the requests. Of several with one
    /// source, client and key the first valid one counts, later ones are repeats of it.
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
                    let (first, of_first) = *earlier.get();
                    let other = (of_first != print).then_some(request);
                    Place::Repeat { first, other }
                }
                Entry::Vacant(vacant) => {
                    vacant.insert((index, print));
                    let shard = self.context.store.map().shard_of(&request.source);
                    Place::Own(self.lanes[usize::from(shard.0)].enter(request))
                }
            });
        }
        let mut answers: Vec<Answer> = Vec::with_capacity(places.len());
        let mut again = Vec::new();
        for (index, place) in places.into_iter().enumerate() {
            answers.push(match place {
                Place::Own(entered) => decided(entered).await,
                Place::Repeat { first, other } => {
                    let answer = repeat(&answers[first], other.is_none());
                    if let (Err(Refusal::KeyReused), Some(request)) = (&answers[first], other) {
                        again.push((index, request));
                    }
                    answer
                }
            });
        }
        self.decide_again(again, &mut answers).await;
        answers
    }

    /// Those whose first was refused because an earlier request has its key: they may be repeats of
    /// that one. Their claim exists, so that it does not matter who is asked first.
    async fn decide_again(&self, requests: Vec<(usize, TransferRequest)>, answers: &mut [Answer]) {
        let mut entered = Vec::with_capacity(requests.len());
        for (index, request) in requests {
            let shard = self.context.store.map().shard_of(&request.source);
            entered.push((index, self.lanes[usize::from(shard.0)].enter(request)));
        }
        for (index, entered) in entered {
            answers[index] = decided(entered).await;
        }
    }
}

type Answer = Result<Submitted, Refusal>;
type Entered = Result<oneshot::Receiver<Answer>, Refusal>;

enum Place {
    Own(Entered),
    /// Of the request at this place; with the request itself where it says something else.
    Repeat {
        first: usize,
        other: Option<TransferRequest>,
    },
}

/// A lane that ended without an answer was stopped in the middle: nobody knows.
async fn decided(entered: Entered) -> Answer {
    entered?.await.unwrap_or(Err(Refusal::OutcomeUnknown))
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
