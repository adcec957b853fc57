//! A fresh cluster of two shards behind the API, and short words for asking it.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use futures::FutureExt;
use holdfast::access::{Authenticator, Gate};
use holdfast::backlog::Backlog;
use holdfast::broker::embedded::{EmbeddedBroker, EmbeddedSettings};
use holdfast::cache::BalanceCache;
use holdfast::context::{Context, Policy};
use holdfast::domain::{AccountChange, AccountId, Shard, TransferId};
use holdfast::ingress::Ingress;
use holdfast::ingress::http::{DependencyStatus, Health, HttpExtras, router};
use holdfast::limits::{Limiter, Rules};
use holdfast::store::sqlite::{self, SqliteSettings, SqliteStore};
use holdfast::store::{AccountFilter, Opening, Store};
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tower::ServiceExt;

/// An answer, read to its end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error}: {} {}", self.status, String::from_utf8_lossy(&self.body))
        })
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body, the status being this one.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The problem's body, the status and code being these.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        let problem = self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json", "{problem}");
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["request_id"], self.header("x-request-id"), "{problem}");
        for member in ["type", "title", "detail", "request_id"] {
            let text = problem[member].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{member} of {problem}");
        }
        problem
    }
}

/// Two shards, the API in front of them, and what `/readyz` is told.
pub struct World {
    pub app: Router,
    pub store: Arc<dyn Store>,
    pub context: Arc<Context>,
    pub dependencies: Arc<Mutex<Vec<DependencyStatus>>>,
    dir: TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with(None, |_| open()).await
    }

    /// With a Redis at this address.
    pub async fn with_redis(url: &str) -> Self {
        Self::with(Some(BalanceCache::new(url, "tests:").unwrap()), |_| open()).await
    }

    /// Behind a gate that knows the callers by what is stored, or otherwise.
    pub async fn guarded(gate: impl FnOnce(Arc<dyn Store>) -> Gate) -> Self {
        Self::with(None, gate).await
    }

    async fn with(cache: Option<BalanceCache>, gate: impl FnOnce(Arc<dyn Store>) -> Gate) -> Self {
        let dir = TempDir::new().unwrap();
        let settings = SqliteSettings::new(dir.path());
        sqlite::migrate(&settings, 2, 4).await.unwrap();
        let store = SqliteStore::open(&settings, Opening::AllShards).await.unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let gate = gate(Arc::clone(&store));
        Self::over(store, cache, gate, None, dir)
    }

    /// Behind a gate that takes keys, with rates whose buckets are in this Redis.
    pub async fn limited(url: &str, prefix: &str, rules: &[&str], open: bool) -> Self {
        let dir = TempDir::new().unwrap();
        let settings = SqliteSettings::new(dir.path());
        sqlite::migrate(&settings, 2, 4).await.unwrap();
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(&settings, Opening::AllShards).await.unwrap());
        Self::limited_over(store, dir, url, prefix, rules, open)
    }

    /// Another process in front of the same shards.
    pub fn beside(&self, url: &str, prefix: &str, rules: &[&str], open: bool) -> Self {
        let dir = TempDir::new().unwrap();
        Self::limited_over(Arc::clone(&self.store), dir, url, prefix, rules, open)
    }

    fn limited_over(
        store: Arc<dyn Store>,
        dir: TempDir,
        url: &str,
        prefix: &str,
        rules: &[&str],
        open: bool,
    ) -> Self {
        let rules = Rules(rules.iter().map(|rule| rule.parse().unwrap()).collect());
        let redis = Arc::new(BalanceCache::new(url, prefix).unwrap());
        let limiter = Limiter::start(rules, redis, open);
        let keys = Authenticator::new(Some(Arc::clone(&store)), None);
        Self::over(store, None, Gate::Guarded(Arc::new(keys)), Some(limiter), dir)
    }

    /// On shards of a server.
    pub fn on(store: impl Store) -> Self {
        Self::over(Arc::new(store), None, open(), None, TempDir::new().unwrap())
    }

    fn over(
        store: Arc<dyn Store>,
        cache: Option<BalanceCache>,
        gate: Gate,
        limiter: Option<Limiter>,
        dir: TempDir,
    ) -> Self {
        let log = EmbeddedBroker::open(EmbeddedSettings::new(dir.path().join("log"))).unwrap();
        let context = Arc::new(Context::new(
            store.clone(),
            Arc::new(log),
            cache,
            Policy::default(),
            Backlog::default(),
        ));
        let dependencies = Arc::new(Mutex::new(vec![dependency("shard.0", Health::Up)]));
        let told = dependencies.clone();
        let extras = HttpExtras {
            readiness: Arc::new(move || {
                let now = told.lock().unwrap().clone();
                assert!(!now.is_empty(), "a test that wants a panic empties the list");
                async move { now }.boxed()
            }),
            metrics: Arc::new(|| "holdfast_build_info 1\n".to_owned()),
        };
        let app = router(Ingress::new(Arc::clone(&context)), extras, gate, limiter);
        Self { app, store, context, dependencies, dir }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(json("POST", path, &[], body)).await
    }

    pub async fn patch(&self, path: &str, body: &str) -> Answer {
        self.send(json("PATCH", path, &[], body)).await
    }

    pub async fn put(&self, path: &str, body: &str) -> Answer {
        self.send(json("PUT", path, &[], body)).await
    }

    /// A transfer under a key; status 202 or 200.
    pub async fn transfer(&self, key: &str, body: &str) -> Answer {
        self.send(json("POST", "/v1/transfers", &[("idempotency-key", key)], body)).await
    }

    /// An account of this currency.
    pub async fn account(&self, id: &str, currency: &str) {
        let body = format!(r#"{{"id":"{id}","currency":"{currency}"}}"#);
        self.post("/v1/accounts", &body).await.expect(201);
    }

    pub fn shard_of(&self, account: &str) -> Shard {
        self.store.map().shard_of(&account.parse().unwrap())
    }

    /// Writes posted and held as the workers would, without any entry.
    pub async fn set_balance(&self, account: &str, posted: i64, held: i64) {
        let id: AccountId = account.parse().unwrap();
        let mut tx = self.store.begin(self.shard_of(account)).await.unwrap();
        let row = tx.lock_accounts(&BTreeSet::from([id.clone()])).await.unwrap()[&id].clone();
        let change = AccountChange {
            id,
            posted,
            held,
            version_before: row.version,
            version: row.version + 1,
        };
        assert_eq!(tx.write_accounts(&[change]).await.unwrap(), 1);
        tx.commit().await.unwrap();
    }

    /// Changes the file of an account's shard behind the store's back.
    pub async fn alter(&self, account: &str, sql: &'static str) {
        let file = self.dir.path().join(format!("shard-{}.db", self.shard_of(account)));
        let options =
            SqliteConnectOptions::new().filename(file).busy_timeout(crate::wait::DEADLINE);
        let mut connection = options.connect().await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// All that any request could have written.
    pub async fn everything(&self) -> String {
        let (first, last) = (TransferId::from_bytes([0; 16]), TransferId::from_bytes([0xff; 16]));
        let mut all = String::new();
        for shard in self.store.map().all_shards() {
            let accounts =
                self.store.accounts(shard, &AccountFilter::default(), None, 500).await.unwrap();
            let transfers = self.store.source_facts(shard, first, last, 500).await.unwrap();
            let pivots = self.store.credit_facts(shard, first, last, 500).await.unwrap();
            let outbox = self.store.outbox_depth(shard).await.unwrap();
            all += &format!("{accounts:?} {transfers:?} {pivots:?} {outbox:?}\n");
        }
        all
    }
}

/// Everybody may do everything.
fn open() -> Gate {
    Gate::open("tests".parse().unwrap())
}

/// A request with a JSON body.
pub fn json(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    request = request.header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

pub fn dependency(name: &str, health: Health) -> DependencyStatus {
    DependencyStatus {
        name: name.to_owned(),
        health,
        latency: Duration::from_micros(1500),
        required: true,
        detail: None,
    }
}

/// A transfer of 25.00 USD from alice to bob.
pub const TRANSFER: &str =
    r#"{"source":"alice","destination":"bob","amount":"25.00","currency":"USD"}"#;
