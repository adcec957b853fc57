//! The few calls of the API that are made beside a load.

use super::credential::Credential;
use serde_json::{Value, json};
use std::time::Duration;

/// How often accounts are asked for, and how long in between.
const ATTEMPTS: u32 = 50;
const AGAIN: Duration = Duration::from_millis(200);

/// A running Holdfast.
#[derive(Clone)]
pub struct Api {
    client: reqwest::Client,
    base: String,
}

/// What went wrong with a call.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No answer, or none that could be read.
    #[error("{0} (is Holdfast running there?)")]
    Http(#[from] reqwest::Error),
    /// A refusal.
    #[error("{call} was answered with {status} {code}")]
    Refused {
        /// Which call.
        call: String,
        /// HTTP status.
        status: u16,
        /// The problem's code.
        code: String,
    },
}

impl ApiError {
    /// Whether the same call may be taken later.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Refused { status: 429 | 503, .. })
    }
}

/// What became of a transfer that was sent.
#[derive(Clone, Debug)]
pub enum Sent {
    /// Its status.
    Accepted(String),
    /// The problem's code.
    Refused(String),
}

impl Sent {
    fn of(status: u16, transfer: &Value, error: &Value) -> Self {
        if status < 300 {
            Self::Accepted(transfer["status"].as_str().unwrap_or("unknown").to_owned())
        } else {
            Self::Refused(error["code"].as_str().map_or_else(|| status.to_string(), str::to_owned))
        }
    }
}

impl Api {
    /// For `http://host:port`, as somebody.
    pub fn new(base: &str, credential: &Credential) -> Result<Self, ApiError> {
        let client = credential.client().pool_max_idle_per_host(1024).build()?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned() })
    }

    /// Creates as many accounts as one request may have; those that exist with the same attributes
    /// are fine. What is told to come later comes later, for a while.
    pub async fn create_accounts(&self, accounts: &[Value]) -> Result<(), ApiError> {
        let mut attempt = 0;
        while let Err(error) = self.try_to_create(accounts).await {
            attempt += 1;
            if attempt >= ATTEMPTS || !error.may_pass() {
                return Err(error);
            }
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    }

    async fn try_to_create(&self, accounts: &[Value]) -> Result<(), ApiError> {
        let answer = self.post("/v1/accounts/batch", &json!({ "accounts": accounts })).await?;
        for result in answer["results"].as_array().into_iter().flatten() {
            let status = result["status"].as_u64().unwrap_or(0) as u16;
            if status >= 300 {
                let code = result["error"]["code"].as_str().unwrap_or("unknown").to_owned();
                let call = "creating an account".to_owned();
                return Err(ApiError::Refused { call, status, code });
            }
        }
        Ok(())
    }

    /// Sends transfers through the batch call; one answer each, in order.
    pub async fn send_batch(&self, transfers: &[Value]) -> Result<Vec<Sent>, ApiError> {
        let answer = self.post("/v1/transfers/batch", &json!({ "transfers": transfers })).await?;
        let results = answer["results"].as_array().cloned().unwrap_or_default();
        Ok(results
            .iter()
            .map(|result| {
                let status = result["status"].as_u64().unwrap_or(0) as u16;
                Sent::of(status, &result["transfer"], &result["error"])
            })
            .collect())
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        let answer = self.client.post(format!("{}{path}", self.base)).json(body).send().await?;
        let status = answer.status().as_u16();
        if status >= 300 {
            // A proxy's refusals are no documents of ours.
            let body: Value = answer.json().await.unwrap_or_default();
            let code = body["code"].as_str().unwrap_or("unknown").to_owned();
            return Err(ApiError::Refused { call: format!("POST {path}"), status, code });
        }
        Ok(answer.json().await?)
    }
}
