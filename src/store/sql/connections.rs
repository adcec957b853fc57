//! The connections to one database. sqlx's own pool asks every connection that comes back whether it
//! is still there, which costs a round trip a transaction; this one asks those that were idle for
//! long, when they are lent again, and lends the one that came back last.

use futures::future::BoxFuture;
use sqlx::{ConnectOptions, Connection, Database};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// A connection that was idle for longer is asked whether it is still there before it is lent.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
/// One that is older is closed when it comes back.
const LONGEST_LIFE: Duration = Duration::from_secs(30 * 60);
/// One that nobody needed for so long is closed when another comes back.
const LONGEST_IDLE: Duration = Duration::from_secs(10 * 60);

/// What is done with every new connection.
pub type Session<DB> =
    for<'c> fn(&'c mut <DB as Database>::Connection) -> BoxFuture<'c, Result<(), sqlx::Error>>;

type Options<DB> = <<DB as Database>::Connection as Connection>::Options;

/// Up to so many connections, made when they are needed.
pub struct Connections<DB: Database> {
    options: Options<DB>,
    session: Option<Session<DB>>,
    acquire_timeout: Duration,
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Idle<DB>>>,
}

struct Idle<DB: Database> {
    conn: DB::Connection,
    born: Instant,
    since: Instant,
}

/// A connection on loan. It goes back with [`Lent::give_back`]; dropped it is closed.
pub(super) struct Lent<DB: Database> {
    pub conn: DB::Connection,
    born: Instant,
    of: Arc<Connections<DB>>,
    slot: OwnedSemaphorePermit,
}

impl<DB: Database> Connections<DB> {
    /// At most so many at once; a call waits so long for one of them.
    pub fn new(
        options: Options<DB>,
        session: Option<Session<DB>>,
        most: u32,
        acquire_timeout: Duration,
    ) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(most as usize));
        Arc::new(Self { options, session, acquire_timeout, slots, idle: Mutex::default() })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle<DB>>> {
        self.idle.lock().expect("nothing panics while it holds this")
    }

    /// Closes those that are not lent.
    pub(super) fn give_up_idle(&self) {
        self.idle().clear();
    }

    /// One that answers, as far as is known.
    pub(super) async fn acquire(self: &Arc<Self>) -> Result<Lent<DB>, sqlx::Error> {
        let lent = async {
            let slot = Arc::clone(&self.slots).acquire_owned().await;
            let slot = slot.map_err(|_| sqlx::Error::PoolClosed)?;
            let (conn, born) = match self.rested().await {
                Some(rested) => rested,
                None => (self.connect().await?, Instant::now()),
            };
            Ok(Lent { conn, born, of: Arc::clone(self), slot })
        };
        timeout(self.acquire_timeout, lent).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    async fn rested(&self) -> Option<(DB::Connection, Instant)> {
        loop {
            let Idle { mut conn, born, since } = self.idle().pop()?;
            if since.elapsed() < TRUSTED_IDLE || conn.ping().await.is_ok() {
                return Some((conn, born));
            }
        }
    }

    /// A new one, beside those that are counted.
    pub(super) async fn connect(&self) -> Result<DB::Connection, sqlx::Error> {
        let mut conn = self.options.connect().await?;
        if let Some(session) = self.session {
            session(&mut conn).await?;
        }
        Ok(conn)
    }
}

impl<DB: Database> Lent<DB> {
    /// Nothing is open on it.
    pub fn give_back(self) {
        let Self { mut conn, born, of, slot } = self;
        // A batch of a thousand rows leaves a buffer of its size, on every connection in turn.
        conn.shrink_buffers();
        if born.elapsed() < LONGEST_LIFE {
            let mut idle = of.idle();
            idle.push(Idle { conn, born, since: Instant::now() });
            if idle[0].since.elapsed() > LONGEST_IDLE {
                idle.remove(0);
            }
        }
        // Whoever waits for it finds the connection.
        drop(slot);
    }

    /// Gives its place to others at once.
    pub fn detach(self) -> DB::Connection {
        self.conn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::Sqlite;
    use sqlx::sqlite::SqliteConnectOptions;

    fn connections(most: u32) -> Arc<Connections<Sqlite>> {
        let options = SqliteConnectOptions::new().in_memory(true);
        Connections::new(options, None, most, Duration::from_millis(50))
    }

    async fn say(lent: &mut Lent<Sqlite>, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(&mut lent.conn).await.map(drop)
    }

    #[tokio::test]
    async fn one_that_came_back_is_lent_again_and_one_that_was_dropped_is_not() {
        let connections = connections(2);
        let mut lent = connections.acquire().await.unwrap();
        say(&mut lent, "CREATE TABLE mine (id)").await.unwrap();
        lent.give_back();
        let mut same = connections.acquire().await.unwrap();
        say(&mut same, "SELECT id FROM mine").await.unwrap();
        drop(same);
        let mut other = connections.acquire().await.unwrap();
        say(&mut other, "SELECT id FROM mine").await.unwrap_err();
        say(&mut other, "CREATE TABLE mine (id)").await.unwrap();
        other.give_back();
        connections.give_up_idle();
        let mut new = connections.acquire().await.unwrap();
        say(&mut new, "SELECT id FROM mine").await.unwrap_err();
    }

    #[tokio::test]
    async fn there_are_never_more_than_the_most_and_who_waits_gets_what_comes_back() {
        let connections = connections(2);
        let (one, two) = (connections.acquire().await.unwrap(), connections.acquire().await);
        let none = connections.acquire().await.err().unwrap();
        assert!(matches!(none, sqlx::Error::PoolTimedOut), "{none}");
        let asking = Arc::clone(&connections);
        let waiting = tokio::spawn(async move { asking.acquire().await.is_ok() });
        tokio::task::yield_now().await;
        one.give_back();
        assert!(waiting.await.unwrap());
        drop(two.unwrap().detach());
        let (_one, _two) = (connections.acquire().await.unwrap(), connections.acquire().await);
        assert!(connections.acquire().await.is_err());
    }

    #[tokio::test]
    async fn one_that_was_idle_for_long_is_lent_only_if_it_answers() {
        let connections = connections(1);
        let mut lent = connections.acquire().await.unwrap();
        say(&mut lent, "CREATE TABLE mine (id)").await.unwrap();
        lent.give_back();
        let long_ago = |idle: &mut Idle<Sqlite>| idle.since -= 2 * TRUSTED_IDLE;
        connections.idle().iter_mut().for_each(long_ago);
        let mut same = connections.acquire().await.unwrap();
        say(&mut same, "SELECT id FROM mine").await.unwrap();
    }
}
