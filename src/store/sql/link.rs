//! A connection on loan, which goes back only when it is known to be clean. Every
//! statement passes here, and so every one passes the shard's breaker: while that is open no
//! connection is lent. One that is on loan goes on, so that a COMMIT keeps its meaning.

use super::connections::{Connections, Lent};
use super::driver::{Arg, Driver, Fault, Value, fault_of, store_error, unavailable, words};
use super::row::Row;
use crate::domain::Shard;
use crate::store::StoreError;
use sqlx::{Connection, Database};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// How long a ROLLBACK of an abandoned transaction may take before its connection is closed.
const ROLLBACK_BOUND: Duration = Duration::from_secs(5);

/// What is known about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is open on it.
    Idle,
    /// A transaction is open.
    Open,
    /// A statement of the transaction failed: after a deadlock what follows would commit by
    /// itself, so nothing may follow but a ROLLBACK.
    Failed,
    /// A statement is on its way, or was when its future was dropped: nothing can be said of the
    /// connection, it can only be closed.
    Busy,
}

/// A connection of one shard. Dropped in the middle of a transaction it rolls back; dropped in the
/// middle of a statement it is closed, and the server rolls back.
pub(super) struct Link<D: Driver> {
    driver: Arc<D>,
    shard: Shard,
    bound: Duration,
    state: State,
    conn: Option<Lent<D::Database>>,
}

impl<D: Driver> Link<D> {
    /// Of those for writers.
    pub async fn writer(driver: &Arc<D>, shard: Shard) -> Result<Self, StoreError> {
        Self::take(driver, shard, driver.writers(shard)).await
    }

    /// Of those for readers.
    pub async fn reader(driver: &Arc<D>, shard: Shard) -> Result<Self, StoreError> {
        Self::take(driver, shard, driver.readers(shard)).await
    }

    async fn take(
        driver: &Arc<D>,
        shard: Shard,
        connections: &Arc<Connections<D::Database>>,
    ) -> Result<Self, StoreError> {
        let breaker = driver.breaker(shard);
        let began =
            breaker.enter().map_err(|outage| unavailable(&**driver, shard, outage.to_string()))?;
        let conn = connections.acquire().await.map_err(|error| {
            match fault_of::<D>(&error) {
                Fault::Unavailable => breaker.failed(began, &error),
                _ => breaker.answered(),
            }
            store_error(&**driver, shard, &error)
        })?;
        Ok(Self {
            driver: Arc::clone(driver),
            shard,
            bound: driver.bounds().statement,
            state: State::Idle,
            conn: Some(conn),
        })
    }

    /// Lets every statement take as long as an audit's may.
    pub fn be_patient(&mut self) {
        self.bound = self.driver.bounds().audit;
    }

    /// The shard.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Begins a transaction with a text that begins one, and returns what the text reads.
    pub async fn begin(&mut self, sql: &'static str) -> Result<Vec<Row>, StoreError> {
        let rows = self.run(State::Open, |conn| D::script(conn, sql)).await?;
        Ok(self.rows(rows))
    }

    /// The rows of one statement.
    pub async fn fetch(&mut self, sql: &'static str, args: &[Arg]) -> Result<Vec<Row>, StoreError> {
        let rows = self.run(self.state, |conn| D::fetch(conn, sql, args)).await?;
        Ok(self.rows(rows))
    }

    /// How many rows one statement matched.
    pub async fn execute(&mut self, sql: &'static str, args: &[Arg]) -> Result<u64, StoreError> {
        self.run(self.state, |conn| D::execute(conn, sql, args)).await
    }

    /// Runs statements that were put into one text.
    pub async fn together(&mut self, sql: String) -> Result<(), StoreError> {
        let mut answered = 0;
        self.run(self.state, |conn| D::together(conn, sql, &mut answered)).await
    }

    /// Runs so many statements that were put into one text, and commits, all in one round trip.
    pub async fn commit_with(
        mut self,
        mut sql: String,
        statements: usize,
    ) -> Result<(), StoreError> {
        if self.state != State::Open {
            return Err(self.gone());
        }
        sql.push_str("COMMIT");
        let mut answered = 0;
        let sent = self.attempt(State::Idle, |conn| D::together(conn, sql, &mut answered)).await;
        match sent {
            Err(Some(error)) if error.as_database_error().is_some() && answered < statements => {
                Err(store_error(&*self.driver, self.shard, &error))
            }
            sent => self.committed(sent),
        }
    }

    /// Commits.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        if self.state != State::Open {
            return Err(self.gone());
        }
        let sent = self.attempt(State::Idle, |conn| D::script(conn, "COMMIT")).await;
        self.committed(sent.map(drop))
    }

    /// What the server answers to COMMIT is known; anything else is not.
    fn committed(&self, sent: Result<(), Option<sqlx::Error>>) -> Result<(), StoreError> {
        let shard = self.shard;
        let Err(error) = sent else { return Ok(()) };
        let detail = match error {
            None => format!("no answer within {:?}", self.bound),
            Some(error) if error.as_database_error().is_some_and(D::rolled_back) => {
                return Err(store_error(&*self.driver, shard, &error));
            }
            Some(error) => words::<D>(&error),
        };
        Err(StoreError::CommitUnknown { shard, detail })
    }

    async fn run<'a, T, F, W>(&'a mut self, then: State, work: W) -> Result<T, StoreError>
    where
        W: FnOnce(&'a mut <D::Database as Database>::Connection) -> F,
        F: Future<Output = Result<T, sqlx::Error>> + Send + 'a,
    {
        if matches!(self.state, State::Failed | State::Busy) {
            return Err(self.gone());
        }
        let (driver, shard, bound) = (Arc::clone(&self.driver), self.shard, self.bound);
        self.attempt(then, work).await.map_err(|error| match error {
            Some(error) => store_error(&*driver, shard, &error),
            None => unavailable(&*driver, shard, format!("no answer within {bound:?}")),
        })
    }

    /// Runs one thing on the connection; no error means that it did not answer in time. The breaker
    /// hears of it either way.
    async fn attempt<'a, T, F, W>(
        &'a mut self,
        then: State,
        work: W,
    ) -> Result<T, Option<sqlx::Error>>
    where
        W: FnOnce(&'a mut <D::Database as Database>::Connection) -> F,
        F: Future<Output = Result<T, sqlx::Error>> + Send + 'a,
    {
        let Self { bound, state, conn, driver, shard } = self;
        let (breaker, began) = (driver.breaker(*shard), Instant::now());
        let conn = conn.as_mut().expect("a link has its connection until it is dropped");
        *state = State::Busy;
        let answer = tokio::time::timeout(*bound, work(&mut conn.conn)).await;
        match answer {
            Ok(Ok(answer)) => {
                breaker.answered();
                *state = then;
                Ok(answer)
            }
            Ok(Err(error)) => {
                match fault_of::<D>(&error) {
                    Fault::Unavailable if error.as_database_error().is_none() => {
                        breaker.failed(began, &error);
                    }
                    _ => breaker.answered(),
                }
                if error.as_database_error().is_some() {
                    *state = State::Failed;
                }
                Err(Some(error))
            }
            Err(_) => {
                breaker.failed(began, &format!("no answer within {bound:?}"));
                Err(None)
            }
        }
    }

    fn rows(&self, rows: Vec<Vec<Value>>) -> Vec<Row> {
        rows.into_iter().map(|values| Row::new(self.shard, values)).collect()
    }

    /// For a caller that goes on with a transaction after an error.
    fn gone(&self) -> StoreError {
        StoreError::Retry {
            shard: self.shard,
            detail: "a statement of this transaction failed before".to_owned(),
        }
    }
}

impl<D: Driver> Drop for Link<D> {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        let Ok(runtime) = Handle::try_current() else {
            drop(conn.detach());
            return;
        };
        match self.state {
            State::Idle => conn.give_back(),
            State::Open | State::Failed => drop(runtime.spawn(roll_back::<D>(conn))),
            State::Busy => drop(runtime.spawn(close::<D>(conn))),
        }
    }
}

async fn roll_back<D: Driver>(mut conn: Lent<D::Database>) {
    let answer = tokio::time::timeout(ROLLBACK_BOUND, D::script(&mut conn.conn, "ROLLBACK")).await;
    match answer {
        Ok(Ok(_)) => conn.give_back(),
        Ok(Err(_)) | Err(_) => close::<D>(conn).await,
    }
}

/// Gives its place to others at once and closes the connection without a word: the server
/// rolls back when it finds it closed.
async fn close<D: Driver>(conn: Lent<D::Database>) {
    let _ = tokio::time::timeout(ROLLBACK_BOUND, conn.detach().close_hard()).await;
}
