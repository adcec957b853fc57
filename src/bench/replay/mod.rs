//! Transfers from a file through the batch call, as fast as they are taken.

mod report;

pub use report::ReplayReport;

use super::client::{Api, ApiError, Sent};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long to wait before asking again for what is not final.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A line of the file.
#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    /// The account that pays.
    pub source: String,
    /// The account that is paid.
    pub destination: String,
    /// Decimal text.
    pub amount: String,
    /// Currency code.
    pub currency: String,
    /// Key of the request.
    pub idempotency_key: String,
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "idempotency_key": self.idempotency_key,
            "source": self.source,
            "destination": self.destination,
            "amount": self.amount,
            "currency": self.currency,
        })
    }
}

/// Sends the rows in batches, `concurrency` at once, then repeats those not final until they are.
pub async fn replay(
    api: &Api,
    rows: &[Row],
    batch: usize,
    concurrency: usize,
) -> Result<ReplayReport, ApiError> {
    let transfers: Vec<Value> = rows.iter().map(Row::json).collect();
    let mut report = ReplayReport::default();
    let began = Instant::now();
    let mut sending = JoinSet::new();
    let mut answers = Vec::new();
    for chunk in transfers.chunks(batch) {
        if sending.len() >= concurrency {
            answers.extend(sending.join_next().await);
        }
        let (api, chunk) = (api.clone(), chunk.to_vec());
        sending.spawn(async move {
            let sent = Instant::now();
            api.send_batch(&chunk).await.map(|answers| (answers, sent.elapsed()))
        });
    }
    answers.extend(sending.join_all().await.into_iter().map(Ok));
    for answer in answers {
        let (items, latency) = answer.expect("sending does not panic")?;
        report.accept.record(latency);
        for item in items {
            report.sent += 1;
            match item {
                Sent::Accepted(_) => report.accepted += 1,
                Sent::Refused(code) => report.refuse(&code),
            }
        }
    }
    report.accepting = began.elapsed();
    for status in ends(api, &transfers, batch).await? {
        report.end(&status);
    }
    report.finishing = began.elapsed();
    Ok(report)
}

/// Repeats transfers until each is final; their final statuses. Refused ones are left out.
async fn ends(api: &Api, transfers: &[Value], batch: usize) -> Result<Vec<String>, ApiError> {
    let mut ended = Vec::with_capacity(transfers.len());
    for chunk in transfers.chunks(batch) {
        let mut open = chunk.to_vec();
        loop {
            let answers = api.send_batch(&open).await?;
            let mut still = Vec::new();
            for (transfer, answer) in open.into_iter().zip(answers) {
                match answer {
                    Sent::Accepted(status) if is_final(&status) => ended.push(status),
                    Sent::Accepted(_) => still.push(transfer),
                    Sent::Refused(code)
                        if matches!(
                            &*code,
                            "overloaded" | "paused" | "shard_unavailable" | "outcome_unknown"
                        ) =>
                    {
                        still.push(transfer);
                    }
                    Sent::Refused(_) => {}
                }
            }
            if still.is_empty() {
                break;
            }
            open = still;
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
    Ok(ended)
}

fn is_final(status: &str) -> bool {
    matches!(status, "committed" | "rejected" | "cancelled")
}
