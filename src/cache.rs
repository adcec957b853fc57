//! Balances in Redis: written by the projector, read by ingress, never trusted for a decision.
//!
//! A script compares versions, so that a newer or equal version wins; entries expire, so that a
//! write that was missed is read for a minute at most.

mod buckets;

pub use buckets::{Taken, Wanted};

use crate::breaker::{Breaker, Outage};
use crate::domain::{
    AccountId, AccountKind, AccountRow, AccountStatus, Currency, Timestamp, Velocity,
};
use crate::store::BalanceRow;
use futures::{FutureExt, TryFutureExt};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands, Client, RedisError, Script, TlsCertificates};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// Seconds after which an entry is read from the shard again.
const EXPIRY_SECONDS: u64 = 60;
/// How long a command may take before the caller goes on without Redis.
const TIMEOUT: Duration = Duration::from_millis(500);

/// For each key: version and value are set unless a newer version is there.
const SET_NEWER: &str = r"
for i = 1, #KEYS do
  local stored = redis.call('HGET', KEYS[i], 'version')
  local version = ARGV[2 * i]
  if not stored or #stored < #version or (#stored == #version and stored <= version) then
    redis.call('HSET', KEYS[i], 'version', version, 'balance', ARGV[2 * i + 1])
    redis.call('EXPIRE', KEYS[i], ARGV[1])
  end
end
return #KEYS";

/// A client of one Redis; connects when it is first used and again when the connection breaks.
/// Where Redis is silent, callers go on without it: the first ones after half a second, and while
/// the breaker is open at once.
pub struct BalanceCache {
    client: Client,
    prefix: String,
    address: String,
    connection: OnceCell<ConnectionManager>,
    breaker: Arc<Breaker>,
}

/// Why Redis was of no use.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It was not asked.
    #[error("{0}")]
    Open(Outage),
    /// It did not answer.
    #[error("no answer within {TIMEOUT:?}")]
    Silent,
    /// It, or its client, said no.
    #[error(transparent)]
    Redis(#[from] RedisError),
}

impl CacheError {
    fn is_silence(&self) -> bool {
        match self {
            Self::Open(_) => false,
            Self::Silent => true,
            Self::Redis(error) => {
                error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Cached {
    currency: Currency,
    kind: AccountKind,
    status: AccountStatus,
    overdraft_limit: i64,
    posted: i64,
    held: i64,
    version: i64,
    as_of: i64,
}

impl BalanceCache {
    /// A client for `url`; keys begin with `prefix`. Fails only where the URL is not one.
    pub fn new(url: &str, prefix: &str) -> Result<Self, RedisError> {
        Self::with_ca(url, prefix, None)
    }

    /// The same, for a Redis whose certificate comes from the authorities in this PEM text.
    pub fn with_ca(url: &str, prefix: &str, ca: Option<Vec<u8>>) -> Result<Self, RedisError> {
        let client = client(url, ca)?;
        let address = client.get_connection_info().addr().to_string();
        let (prefix, connection) = (prefix.to_owned(), OnceCell::new());
        let breaker = breaker(client.clone());
        Ok(Self { client, prefix, address, connection, breaker })
    }

    /// Host and port, for messages.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), CacheError> {
        self.asked(async {
            let mut connection = self.connection().await?;
            redis::cmd("PING").query_async(&mut connection).await
        })
        .await
    }

    /// Writes balances whose version is newer than or equal to what is there.
    pub async fn set_newer(&self, rows: &[BalanceRow]) -> Result<(), CacheError> {
        if rows.is_empty() {
            return Ok(());
        }
        let script = Script::new(SET_NEWER);
        let mut call = script.prepare_invoke();
        call.arg(EXPIRY_SECONDS);
        for BalanceRow { row, as_of } in rows {
            let cached = Cached {
                currency: row.currency,
                kind: row.kind,
                status: row.status,
                overdraft_limit: row.overdraft_limit,
                posted: row.posted,
                held: row.held,
                version: row.version,
                as_of: as_of.micros(),
            };
            let text = serde_json::to_string(&cached).expect("strings and integers only");
            call.key(self.key(&row.id)).arg(row.version).arg(text);
        }
        self.asked(async {
            let mut connection = self.connection().await?;
            call.invoke_async::<()>(&mut connection).await
        })
        .await
    }

    /// Writes balances over whatever is there for these accounts.
    pub async fn replace(&self, ids: &[AccountId], rows: &[BalanceRow]) -> Result<(), CacheError> {
        if ids.is_empty() {
            return Ok(());
        }
        let keys: Vec<String> = ids.iter().map(|id| self.key(id)).collect();
        let forgotten = self.asked(async {
            let mut connection = self.connection().await?;
            connection.del(keys).await
        });
        let _: i64 = forgotten.await?;
        self.set_newer(rows).await
    }

    /// The balance, if it is there and can be read.
    pub async fn get(&self, id: &AccountId) -> Result<Option<BalanceRow>, CacheError> {
        let asked = self.asked(async {
            let mut connection = self.connection().await?;
            connection.hget(self.key(id), "balance").await
        });
        let text: Option<String> = asked.await?;
        Ok(text.and_then(|text| parse(id, &text)))
    }

    /// The balances that are there, in the order of `ids`.
    pub async fn get_many(&self, ids: &[AccountId]) -> Result<Vec<Option<BalanceRow>>, CacheError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for id in ids {
            pipeline.hget(self.key(id), "balance");
        }
        let asked = self.asked(async {
            let mut connection = self.connection().await?;
            pipeline.query_async(&mut connection).await
        });
        let texts: Vec<Option<String>> = asked.await?;
        Ok(ids.iter().zip(texts).map(|(id, text)| text.and_then(|text| parse(id, &text))).collect())
    }

    /// Asks, if the breaker lets it, for half a second at most, connecting included.
    async fn asked<T>(
        &self,
        question: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, CacheError> {
        let began = self.breaker.enter().map_err(CacheError::Open)?;
        let answer = match tokio::time::timeout(TIMEOUT, question).await {
            Ok(answer) => answer.map_err(CacheError::Redis),
            Err(_) => Err(CacheError::Silent),
        };
        match &answer {
            Err(error) if error.is_silence() => self.breaker.failed(began, error),
            Ok(_) | Err(_) => self.breaker.answered(),
        }
        answer
    }

    fn key(&self, id: &AccountId) -> String {
        format!("{}balance:{id}", self.prefix)
    }

    async fn connection(&self) -> Result<ConnectionManager, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT))
            .set_number_of_retries(1);
        let connect = || ConnectionManager::new_with_config(self.client.clone(), config);
        self.connection.get_or_try_init(connect).await.cloned()
    }
}

/// A client of the Redis at `url`. With `rediss://` it is TLS: the server's certificate must be from
/// one of `ca`, a text in PEM, or, without it, from an authority that browsers trust.
pub fn client(url: &str, ca: Option<Vec<u8>>) -> Result<Client, RedisError> {
    crate::tls::provide();
    match ca {
        None => Client::open(url),
        root_cert => Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert }),
    }
}

fn breaker(client: Client) -> Arc<Breaker> {
    Breaker::new("redis", move || {
        let client = client.clone();
        Box::pin(async move {
            let mut connection = client.get_multiplexed_async_connection().await?;
            redis::cmd("PING").query_async::<()>(&mut connection).await
        })
        .map_err(|error: RedisError| error.to_string())
        .boxed()
    })
}

fn parse(id: &AccountId, text: &str) -> Option<BalanceRow> {
    let cached: Cached = serde_json::from_str(text).ok()?;
    Some(BalanceRow {
        row: AccountRow {
            id: id.clone(),
            currency: cached.currency,
            kind: cached.kind,
            status: cached.status,
            quarantined: false,
            overdraft_limit: cached.overdraft_limit,
            posted: cached.posted,
            held: cached.held,
            version: cached.version,
            velocity: Velocity::NONE,
        },
        as_of: Timestamp::from_micros(cached.as_of),
    })
}
