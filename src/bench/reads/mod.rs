//! Reads over HTTP: an account's history, balances, transfers by id. Each kind is asked for at a
//! rate of its own, whatever the answers do, beside whatever load there is.

mod history;
mod report;

pub use report::ReadsReport;

use super::cost::Measured;
use super::latency::Latency;
use super::metrics::{Finals, Scraper};
use super::wire::{Answer, Target, Wire};
use anyhow::bail;
use history::{History, PAGE};
use http::StatusCode;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// After this long a read has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Newest,
    FurtherBack,
    Balance,
    Transfer,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Newest, Self::FurtherBack, Self::Balance, Self::Transfer];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Newest => "newest entries",
            Self::FurtherBack => "entries further back",
            Self::Balance => "balance",
            Self::Transfer => "transfer by id",
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Newest => "the newest 100 entries of the account",
            Self::FurtherBack => "100 entries from anywhere in the account's history",
            Self::Balance => "the projected balance of any account",
            Self::Transfer => "any transfer of the account's history, by its id",
        }
    }
}

/// What to read, and how often.
#[derive(Clone, Debug)]
pub struct Reads {
    /// Where Holdfast listens.
    pub target: Target,
    /// Reads a second of each kind.
    pub rate: f64,
    /// For how long before it counts.
    pub warmup: Duration,
    /// For how long it counts.
    pub duration: Duration,
    /// Connections of each kind, each with one request at a time.
    pub connections: usize,
    /// Whose history.
    pub account: String,
    /// Whose balances: so many accounts.
    pub accounts: u32,
    /// Begins their names.
    pub prefix: String,
}

/// What a kind of read came to.
#[derive(Clone, Default)]
struct Outcome {
    latency: Latency,
    late: Latency,
    asked: u64,
    failed: BTreeMap<String, u64>,
}

/// What was seen beside the reads when it began to count, and at the end.
struct Beside {
    at: Instant,
    finals: Option<Finals>,
    busy: super::cost::Spent,
}

/// Walks the account's whole history, then reads. A `stop` ends the reading early.
pub async fn reads(
    reads: &Reads,
    scraper: &Scraper,
    measured: &Measured,
    stop: &CancellationToken,
    told: &dyn Fn(&str),
) -> anyhow::Result<ReadsReport> {
    told("walking the account's history");
    let history = tokio::select! {
        biased;
        () = stop.cancelled() => bail!("interrupted before anything was measured"),
        history = History::walk(&reads.target, &reads.account) => history?,
    };
    let entries = history.entries;
    let counts = Instant::now() + reads.warmup;
    let reader = {
        let (reads, stop) = (reads.clone(), stop.clone());
        tokio::task::spawn_blocking(move || read(reads, history, counts, &stop))
    };
    told("warming up");
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = sleep_until(counts) => {}
    }
    let began = beside(scraper, measured).await;
    told("reading");
    let outcomes = reader.await??;
    let ended = beside(scraper, measured).await;
    Ok(ReadsReport::new(reads, entries, &outcomes, &began, &ended))
}

async fn beside(scraper: &Scraper, measured: &Measured) -> Beside {
    let finals = scraper.finals().await.ok();
    Beside { at: Instant::now(), finals, busy: measured.glance() }
}

/// Blocks the thread until it is over.
fn read(
    reads: Reads,
    history: History,
    counts: Instant,
    stop: &CancellationToken,
) -> anyhow::Result<Vec<(Kind, Outcome)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let (reads, history) = (Rc::new(reads), Rc::new(history));
    Ok(local.block_on(&runtime, async {
        let reader = |kind: Kind| {
            Rc::new(Reader {
                kind,
                reads: Rc::clone(&reads),
                history: Rc::clone(&history),
                counts,
                stop: stop.clone(),
                next: Cell::new(0),
                rng: RefCell::new(SmallRng::seed_from_u64(crate::random::bits())),
                outcome: RefCell::default(),
            })
        };
        let readers: Vec<_> = Kind::ALL.map(reader).into();
        let of_one = |reader: &Rc<Reader>| {
            let callers = (0..reads.connections).map(|_| Rc::clone(reader).caller());
            callers.map(tokio::task::spawn_local).collect::<Vec<_>>()
        };
        for caller in readers.iter().flat_map(of_one).collect::<Vec<_>>() {
            let _ = caller.await;
        }
        readers.iter().map(|reader| (reader.kind, reader.outcome.take())).collect()
    }))
}

/// Reads of one kind. Each of its callers takes the next one that is due and waits for its time;
/// where all are busy then, it is late, and that counts.
struct Reader {
    kind: Kind,
    reads: Rc<Reads>,
    history: Rc<History>,
    counts: Instant,
    stop: CancellationToken,
    next: Cell<u64>,
    rng: RefCell<SmallRng>,
    outcome: RefCell<Outcome>,
}

impl Reader {
    async fn caller(self: Rc<Self>) {
        let mut wire = Wire::new(&self.reads.target);
        while let Some(due) = self.due() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = sleep_until(due) => {}
            }
            let late = due.elapsed();
            let path = self.path();
            let answer = timeout(PATIENCE, wire.get(&path)).await;
            let answer = answer.unwrap_or_else(|elapsed| Err(elapsed.into()));
            let failure =
                answer.map_or_else(|_| Some("no_answer".to_owned()), |it| self.fault(&it));
            if due < self.counts {
                continue;
            }
            let mut outcome = self.outcome.borrow_mut();
            outcome.asked += 1;
            outcome.late.record(late);
            match failure {
                None => outcome.latency.record(due.elapsed()),
                Some(code) => *outcome.failed.entry(code).or_default() += 1,
            }
        }
    }

    /// When the next read is due; none when it is over. The kinds take turns.
    fn due(&self) -> Option<Instant> {
        let number = self.next.replace(self.next.get() + 1);
        let turn = self.kind as u8 as f64 / Kind::ALL.len() as f64;
        let since = Duration::from_secs_f64((number as f64 + turn) / self.reads.rate);
        let due = self.counts - self.reads.warmup + since;
        (due < self.counts + self.reads.duration).then_some(due)
    }

    fn path(&self) -> String {
        let mut rng = self.rng.borrow_mut();
        let Reads { account, prefix, accounts, .. } = &*self.reads;
        match self.kind {
            Kind::Newest => history::page(account, PAGE, None),
            Kind::FurtherBack => {
                let cursors = &self.history.cursors;
                let at = (!cursors.is_empty()).then(|| rng.random_range(0..cursors.len()));
                history::page(account, PAGE, at.map(|at| cursors[at].as_str()))
            }
            Kind::Balance => {
                format!("/v1/accounts/{prefix}-{:07}/balance", rng.random_range(0..*accounts))
            }
            Kind::Transfer => {
                let ids = &self.history.transfers;
                format!("/v1/transfers/{}", ids[rng.random_range(0..ids.len())])
            }
        }
    }

    /// What is wrong with an answer. A history that is shorter than asked for was not read.
    fn fault(&self, answer: &Answer<'_>) -> Option<String> {
        if answer.status != StatusCode::OK {
            return Some(answer.status.as_u16().to_string());
        }
        let all = self.history.entries.min(PAGE) as usize;
        let is_history = matches!(self.kind, Kind::Newest | Kind::FurtherBack);
        (is_history && history::entries_in(answer.body) < all).then(|| "short".to_owned())
    }
}
