//! Transfers of a caller that has time: what was refused for the moment is asked for again.

use super::Ingress;
use super::request::{Refusal, Submitted, TransferRequest};
use std::time::Duration;

/// How often something is asked for, and the first and the longest pause.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Ingress {
    /// [`Self::submit_many`], and again for those that were refused for the moment, which is safe
    /// with their keys.
    pub async fn submit_patiently(
        &self,
        requests: Vec<TransferRequest>,
    ) -> Vec<Result<Submitted, Refusal>> {
        let mut answers = self.submit_many(requests.clone()).await;
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            let open: Vec<usize> = (0..answers.len())
                .filter(|index| answers[*index].as_ref().is_err_and(Refusal::is_momentary))
                .collect();
            if open.is_empty() {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let again = open.iter().map(|index| requests[*index].clone()).collect();
            for (index, answer) in open.into_iter().zip(self.submit_many(again).await) {
                answers[index] = answer;
            }
        }
        answers
    }
}

impl Refusal {
    /// Whether the same request may be accepted a moment later.
    pub fn is_momentary(&self) -> bool {
        matches!(self, Self::ShardUnavailable | Self::Overloaded | Self::OutcomeUnknown)
    }
}
